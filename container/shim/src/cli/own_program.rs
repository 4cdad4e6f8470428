//! Keeps containers away from the file this program was started from.
//!
//! A container's first process is a child of this program until it execs, and a hostile image can make it
//! exec `/proc/self/exe`: the host's file must not be writable through that link afterwards. So commands
//! that make processes start themselves again from a read-only mount of the file, or a sealed copy.

use alloc::{ffi::CString, string::String, vec::Vec};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, SealFlags};
use strata_runtime::{Context, Error, Result};
use strata_sys::mount::{self, attribute};
use strata_sys::{file, process};

/// Largest program that is copied.
const PROGRAM_LIMIT: usize = 64 << 20;

/// Returns when the program is out of reach; otherwise starts it again.
pub(crate) fn protect(arguments: &[String], environment: &[String]) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let own = rustix::fs::open("/proc/self/exe", flags, Mode::empty()).context(|| "open /proc/self/exe")?;
    if is_protected(&own) {
        return Ok(());
    }
    let strings = |list: &[String]| -> Result<Vec<CString>> {
        list.iter()
            .map(|text| CString::new(&**text).map_err(|_| Error::Invalid("an argument holds a NUL byte".into())))
            .collect()
    };
    let (arguments, environment) = (strings(arguments)?, strings(environment)?);
    let errno = match read_only_mount(&own) {
        Ok(program) => process::execute_descriptor(&program, &arguments, &environment),
        Err(errno) => errno,
    };
    // Without the right to mount, or on a kernel without detached mounts: a copy.
    let content = file::read_all(&own, PROGRAM_LIMIT).context(|| "read the own program")?;
    let copy = file::sealed("strata-runtime", &content).context(|| "copy the own program")?;
    drop(content);
    process::execute_descriptor(copy.as_fd(), &arguments, &environment);
    Err(Error::System {
        what: "start the protected program".into(),
        errno,
    })
}

fn is_protected(own: &OwnedFd) -> bool {
    if rustix::fs::fcntl_get_seals(own).is_ok_and(|seals| seals.contains(SealFlags::WRITE)) {
        return true;
    }
    rustix::fs::fstatvfs(own).is_ok_and(|status| status.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

fn read_only_mount(own: &OwnedFd) -> strata_sys::Result<OwnedFd> {
    let tree = mount::clone_tree(own, "", false)?;
    mount::set_attributes(&tree, attribute::READ_ONLY | attribute::NO_SUID, 0, false)?;
    Ok(tree)
}
