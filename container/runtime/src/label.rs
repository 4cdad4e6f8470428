//! Labels of the kernel's security modules. Where the kernel has none they say nothing, as the specification's other
//! runtimes have it.

use crate::error::{Context, Error, Result};
use crate::spec::{Linux, Process};
use alloc::format;
use rustix::fs::{Mode, OFlags};
use strata_sys::file;

/// Where the kernel says whether AppArmor is in force.
const APPARMOR: &str = "/sys/module/apparmor/parameters/enabled";

/// There where the kernel has SELinux.
const SELINUX: &str = "/sys/fs/selinux/enforce";

/// Whether the kernel has AppArmor; to be asked outside of a container.
pub fn has_apparmor() -> bool {
    file::read(APPARMOR, 16).is_ok_and(|text| text.starts_with(b"Y"))
}

/// Errors: a label that the kernel could enforce and this program does not apply: who asks for it relies on it.
pub(crate) fn check(process: &Process, linux: Option<&Linux>) -> Result<()> {
    let labelled = !process.selinux_label.is_empty() || linux.is_some_and(|linux| !linux.mount_label.is_empty());
    if labelled && file::exists(SELINUX) {
        return Err(Error::Invalid("selinux labels are not supported".into()));
    }
    Ok(())
}

/// The profile to confine a process by; empty where there is nothing that could.
pub(crate) fn profile(process: &Process) -> &str {
    if process.apparmor_profile.is_empty() || !has_apparmor() {
        ""
    } else {
        &process.apparmor_profile
    }
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
