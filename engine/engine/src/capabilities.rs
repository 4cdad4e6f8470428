//! Capability sets of containers.

use crate::{Error, Security};
use std::sync::OnceLock;
use strata_runtime::spec::Capabilities;

/// What docker and containerd give every container.
const USUAL: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// All capabilities by number.
const NAMES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// The capabilities a container gets, in the kernel's order.
///
/// Those that this machine withholds even from us are left out: asking for them would fail the container.
pub(crate) fn granted(security: &Security) -> Result<Vec<String>, Error> {
    let (mut wanted, add): (Vec<&str>, &[String]) = if security.privileged {
        (NAMES.to_vec(), &[])
    } else {
        (USUAL.to_vec(), &security.add_capabilities)
    };
    let drop: &[String] = if security.privileged {
        &[]
    } else {
        &security.drop_capabilities
    };
    let ambient = security
        .add_ambient_capabilities
        .iter()
        .filter(|_| !security.privileged);
    // Dropping ALL comes before single additions, adding ALL before single drops (as upstream).
    if drop.iter().any(|name| is_all(name)) {
        wanted.clear();
    }
    if add.iter().any(|name| is_all(name)) {
        wanted = NAMES.to_vec();
    }
    for name in add.iter().chain(ambient).filter(|name| !is_all(name)) {
        let name = known(name)?;
        if !wanted.contains(&name) {
            wanted.push(name);
        }
    }
    for name in drop.iter().filter(|name| !is_all(name)) {
        let name = known(name)?;
        wanted.retain(|other| *other != name);
    }
    let bounding = bounding();
    let held = |number: usize| bounding & (1 << number) != 0;
    let names = NAMES
        .iter()
        .enumerate()
        .filter(|(number, name)| held(*number) && wanted.contains(name));
    Ok(names.map(|(_, name)| (*name).to_owned()).collect())
}

/// Whatever this process could ever give.
pub(crate) fn all() -> Vec<String> {
    let bounding = bounding();
    let held = NAMES
        .iter()
        .enumerate()
        .filter(|(number, _)| bounding & (1 << number) != 0);
    held.map(|(_, name)| (*name).to_owned()).collect()
}

/// The same set as bounding, effective and permitted; none is inheritable or ambient.
pub(crate) fn sets(granted: Vec<String>) -> Capabilities {
    Capabilities {
        bounding: granted.clone(),
        effective: granted.clone(),
        permitted: granted,
        ..Capabilities::default()
    }
}

/// The capabilities to keep over an exec as another user than root; they must be among those granted.
pub(crate) fn ambient(security: &Security, granted: &[String]) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for name in &security.add_ambient_capabilities {
        if is_all(name) {
            return Ok(granted.to_vec());
        }
        let name = known(name)?;
        if granted.iter().any(|other| other == name) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

fn is_all(name: &str) -> bool {
    name.eq_ignore_ascii_case("ALL")
}

fn known(name: &str) -> Result<&'static str, Error> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NAMES
        .iter()
        .copied()
        .find(|known| &known[4..] == bare)
        .ok_or_else(|| Error::InvalidConfig(format!("unknown capability {name:?}")))
}

/// What this process could ever give.
fn bounding() -> u64 {
    static BOUNDING: OnceLock<u64> = OnceLock::new();
    *BOUNDING.get_or_init(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot read the capability bounding set");
            String::new()
        });
        status
            .lines()
            .find_map(|line| u64::from_str_radix(line.strip_prefix("CapBnd:")?.trim(), 16).ok())
            .unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(privileged: bool, add: &[&str], drop: &[&str]) -> Vec<String> {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
        let security = Security {
            privileged,
            add_capabilities: names(add),
            drop_capabilities: names(drop),
            ..Security::default()
        };
        granted(&security).expect("known names")
    }

    #[test]
    fn additions_and_drops_combine_as_upstream() {
        assert_eq!(of(false, &[], &[]).len(), USUAL.len());
        assert_eq!(of(false, &["NET_ADMIN"], &["ALL"]), ["CAP_NET_ADMIN"]);
        assert!(of(false, &[], &["ALL"]).is_empty());
        assert!(!of(false, &["all"], &["cap_net_raw"]).contains(&"CAP_NET_RAW".to_owned()));
        assert!(of(true, &[], &["ALL"]).contains(&"CAP_SYS_ADMIN".to_owned()));
        let unknown = Security {
            add_capabilities: vec!["NO_SUCH".into()],
            ..Security::default()
        };
        assert!(granted(&unknown).is_err());
    }
}
