//! Labels of the kernel's security modules. One that would not be enforced is refused: who asks for it relies on it.

use crate::error::{Context, Error, Result};
use crate::spec::{Linux, Process};
use alloc::format;
use rustix::fs::{Mode, OFlags};
use strata_sys::file;

/// Where the kernel says whether AppArmor is in force.
const APPARMOR: &str = "/sys/module/apparmor/parameters/enabled";

/// Errors: the configuration names a label that this machine, or this program, does not enforce.
pub(crate) fn check(process: &Process, linux: Option<&Linux>) -> Result<()> {
    if !process.selinux_label.is_empty() || linux.is_some_and(|linux| !linux.mount_label.is_empty()) {
        return Err(Error::Invalid(
            "selinux label is specified in config, but selinux is disabled or not supported".into(),
        ));
    }
    if process.apparmor_profile.is_empty() || file::read(APPARMOR, 16).is_ok_and(|text| text.starts_with(b"Y")) {
        return Ok(());
    }
    Err(Error::Invalid(
        "apparmor profile is specified in config, but apparmor is disabled or not supported".into(),
    ))
}

/// Has the kernel confine the program from exec on; to be called by the process that is to become it, inside its root.
pub(crate) fn confine(profile: &str) -> Result<()> {
    if profile.is_empty() {
        return Ok(());
    }
    let what = || format!("apparmor failed to apply profile {profile:?}");
    let pid = rustix::process::getpid().as_raw_nonzero();
    let mut opened = None;
    for name in ["apparmor/exec", "exec"] {
        let path = format!("/proc/{pid}/attr/{name}");
        if let Ok(found) = rustix::fs::open(
            &*path,
            OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            Mode::empty(),
        ) {
            opened = Some(found);
            break;
        }
    }
    let attribute = opened.ok_or_else(|| Error::Command(format!("{}: /proc is not there", what())))?;
    // The image may have put anything at /proc.
    if rustix::fs::fstatfs(&attribute).context(what)?.f_type != rustix::fs::PROC_SUPER_MAGIC {
        return Err(Error::Command(format!("{}: /proc is not the kernel's", what())));
    }
    file::write_all(&attribute, format!("exec {profile}").as_bytes())
        .map_err(|errno| Error::Command(format!("{}: {}", what(), strata_sys::describe(errno))))
}
