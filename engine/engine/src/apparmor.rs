//! AppArmor profiles by name, which the administrator has loaded.

use crate::Error;

/// Lines like `name (enforce)`.
const LOADED: &str = "/sys/kernel/security/apparmor/profiles";

/// The profile that the kernel is to confine by. Errors: the kernel has no AppArmor, or not that profile; a container that
/// is to be confined must not run otherwise.
pub(crate) fn profile(wanted: Option<&str>) -> Result<String, Error> {
    let Some(name) = wanted else { return Ok(String::new()) };
    if !strata_runtime::has_apparmor() {
        return Err(Error::InvalidConfig("AppArmor is not enabled on the host".into()));
    }
    match std::fs::read_to_string(LOADED) {
        Ok(text) if !names(&text).any(|loaded| loaded == name) => {
            Err(Error::InvalidConfig(format!("AppArmor profile {name:?} is not loaded")))
        }
        Ok(_) => Ok(name.to_owned()),
        // The kernel says it when the program begins.
        Err(error) => {
            tracing::debug!(%error, "the loaded AppArmor profiles cannot be read");
            Ok(name.to_owned())
        }
    }
}

/// A profile's name may have blanks and brackets itself.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| Some(line.rsplit_once(" (")?.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_their_modes() {
        let text = "/usr/bin/man (enforce)\nlsb_release (complain)\na name (of mine) (enforce)\n";
        assert!(names(text).eq(["/usr/bin/man", "lsb_release", "a name (of mine)"]));
    }

    #[test]
    fn without_apparmor_no_profile_can_be_asked_for() {
        assert_eq!(profile(None).unwrap(), "");
        if !strata_runtime::has_apparmor() {
            let error = profile(Some("mine")).unwrap_err().to_string();
            assert!(error.contains("AppArmor is not enabled on the host"), "{error}");
        }
    }
}
