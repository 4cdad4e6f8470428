//! Network namespaces under names, where plugins and tools of others look for them.

use crate::Error;
use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

/// Gives a network namespace a name; it lives until [`unpin`]. Blocking.
pub(crate) fn pin(namespace: BorrowedFd<'_>, path: &Path) -> Result<(), Error> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(Error::state(folder))?;
    }
    unpin(path)?;
    fs::File::create_new(path).map_err(Error::state(path))?;
    let source = format!("/proc/self/fd/{}", namespace.as_raw_fd());
    rustix::mount::mount_bind(source, path)
        .map_err(|errno| Error::state(path)(errno.into()))
        .inspect_err(|_| {
            // The error that is told is the first.
            let _ = fs::remove_file(path);
        })
}

/// Takes the name away; no error if there is none. Blocking.
pub(crate) fn unpin(path: &Path) -> Result<(), Error> {
    let gone = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    match strata_mount::unmount(path) {
        Err(error) if gone(&error) => return Ok(()),
        other => other.map_err(Error::state(path))?,
    }
    match fs::remove_file(path) {
        Err(error) if gone(&error) => Ok(()),
        other => other.map_err(Error::state(path)),
    }
}

/// Whether the name leads to a namespace; after a restart of the machine it leads nowhere.
pub(crate) fn is_pinned(path: &Path) -> bool {
    // nsfs, as `statfs` tells it (linux/magic.h).
    const NAMESPACE: i64 = 0x6e73_6673;
    rustix::fs::statfs(path).is_ok_and(|found| found.f_type == NAMESPACE)
}
