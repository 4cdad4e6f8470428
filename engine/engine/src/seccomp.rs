//! Which system call filter a container gets.

use crate::{Error, Seccomp};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use strata_runtime::seccomp::default_profile;
use strata_runtime::spec::Seccomp as Filter;

/// Profiles are small; anything else is a mistake or an attack.
const MAX_PROFILE: u64 = 4 << 20;
/// The filter for a container with these capabilities; `None` allows everything.
pub(crate) fn filter(choice: &Seccomp, capabilities: &[String]) -> Result<Option<Filter>, Error> {
    match choice {
        Seccomp::Unconfined => Ok(None),
        Seccomp::RuntimeDefault => Ok(Some(default_profile(capabilities))),
        Seccomp::Localhost(path) => read_profile(path).map(Some),
    }
}

fn read_profile(path: &Path) -> Result<Filter, Error> {
    // A pipe that nobody writes to would hold this up.
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = file.map_err(Error::io("cannot load seccomp profile", path))?;
    let mut text = Vec::new();
    file.take(MAX_PROFILE + 1)
        .read_to_end(&mut text)
        .map_err(Error::io("cannot load seccomp profile", path))?;
    let invalid = |why: String| Error::InvalidConfig(format!("cannot load seccomp profile {}: {why}", path.display()));
    if text.len() as u64 > MAX_PROFILE {
        return Err(invalid(format!("larger than {MAX_PROFILE} bytes")));
    }
    let filter: Filter = serde_json::from_slice(&text).map_err(|error| invalid(error.to_string()))?;
    if filter.default_action.is_empty() {
        return Err(invalid("defaultAction is missing".into()));
    }
    Ok(filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_of_the_user_is_read_or_refused_with_its_path() {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("audit.json");
        std::fs::write(&path, r#"{"defaultAction":"SCMP_ACT_LOG"}"#).expect("file");
        assert_eq!(read_profile(&path).expect("valid").default_action, "SCMP_ACT_LOG");
        std::fs::write(&path, "{}").expect("file");
        assert!(
            read_profile(&path)
                .expect_err("empty")
                .to_string()
                .contains("audit.json")
        );
        assert!(read_profile(&dir.path().join("absent")).is_err());
    }
}
