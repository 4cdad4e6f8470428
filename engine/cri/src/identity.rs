//! Finding a sandbox or container by its id or the beginning of it, and who a process is.

use crate::error::{Answer, invalid};
use crate::generated::v1::LinuxContainerUser;
use crate::service::Service;
use strata_engine::{ContainerId, ContainerStatus, SandboxId, SandboxStatus};
use strata_http::GrpcStatus;

impl Service {
    /// The sandbox with that id or an id that begins so. Errors: `NOT_FOUND`, or several begin so.
    pub(crate) fn find_sandbox(&self, text: &str) -> Answer<SandboxStatus> {
        if let Ok(found) = self.engine.sandbox(&SandboxId::from(text))
            && self.is_made(&found)
        {
            return Ok(found);
        }
        let mut all = self.engine.list_sandboxes();
        all.retain(|sandbox| self.is_made(sandbox));
        only(text, "sandbox", all, |sandbox| sandbox.id.as_str())
    }

    /// The container with that id or an id that begins so.
    pub(crate) fn find_container(&self, text: &str) -> Answer<ContainerStatus> {
        if let Ok(found) = self.engine.container(&ContainerId::from(text)) {
            return Ok(found);
        }
        let all = self.engine.list_containers();
        only(text, "container", all, |container| container.id.as_str())
    }
}

fn only<T>(text: &str, what: &str, all: Vec<T>, id: impl Fn(&T) -> &str) -> Answer<T> {
    if text.is_empty() {
        return Err(invalid(format!("the id of a {what} is empty")));
    }
    let mut found = all.into_iter().filter(|item| id(item).starts_with(text));
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (Some(_), Some(_)) => Err(invalid(format!("several {what}s have ids that begin with {text:?}"))),
        (None, _) => Err(GrpcStatus::new(
            GrpcStatus::NOT_FOUND,
            format!("{what} {text:?}: not found"),
        )),
    }
}

/// What is gone is what was wanted.
pub(crate) fn unless_gone<T>(found: Answer<T>) -> Answer<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(status) if status.code == GrpcStatus::NOT_FOUND => Ok(None),
        Err(status) => Err(status),
    }
}

/// Who a process is, in its own user namespace whose ids begin at `first` on this machine; nothing once it ended.
pub(crate) fn user_of(pid: i32, first: u32) -> Option<LinuxContainerUser> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    parse_user(&status, first)
}

/// proc_pid_status(5): real, effective, saved, file system.
fn parse_user(status: &str, first: u32) -> Option<LinuxContainerUser> {
    let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let inside = |id: &str| id.parse::<i64>().ok().map(|id| id - i64::from(first));
    let effective = |name: &str| inside(line(name)?.split_ascii_whitespace().nth(1)?);
    let (uid, gid) = (effective("Uid:")?, effective("Gid:")?);
    let mut groups: Vec<i64> = line("Groups:")?.split_ascii_whitespace().filter_map(inside).collect();
    groups.sort_unstable();
    groups.dedup();
    Some(LinuxContainerUser {
        uid,
        gid,
        supplemental_groups: groups,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_a_process_is_is_read_from_its_status() {
        let status = "Name:\tsh\nUid:\t1000\t1001\t1\t1\nGid:\t5\t6\t5\t5\nGroups:\t1000 6 6 \n";
        let user = parse_user(status, 0).expect("readable");
        assert_eq!((user.uid, user.gid, user.supplemental_groups), (1001, 6, vec![6, 1000]));
        assert_eq!(parse_user(status, 5).expect("readable").uid, 996);
        assert!(parse_user("Name:\tsh\n", 0).is_none());
    }
}
