//! Mounts of the host that pods need: scratch space in memory, and taking down whatever was
//! mounted below a folder.
//!
//! Not for: anything inside a container (the runtime mounts there), nor file systems of images.
//!
//! Start at [`mount_tmpfs`] and [`unmount_below`]; [`mount_points`] reads what is mounted, [`folder_usage`]
//! what lies in a folder.

mod image;
mod mountinfo;
mod usage;

pub use image::{grow_image, mount_image};
pub use mountinfo::{mount_points, parse_mount_points};
pub use usage::{FolderUsage, folder_usage};

use rustix::mount::{MountFlags, UnmountFlags, mount};
use std::{
    ffi::CString,
    io,
    path::{Path, PathBuf},
};

/// Mounts an empty tmpfs on a folder, at most `size` bytes large if given.
///
/// Errors: the kernel's.
pub fn mount_tmpfs(path: &Path, size: Option<u64>) -> io::Result<()> {
    mount_tmpfs_with(path, size, 0o755)
}

/// [`mount_tmpfs`] with other permission bits for its root.
///
/// Errors: the kernel's.
pub fn mount_tmpfs_with(path: &Path, size: Option<u64>, mode: u32) -> io::Result<()> {
    let options = match size {
        Some(bytes) => format!("mode={mode:o},size={bytes}"),
        None => format!("mode={mode:o}"),
    };
    let options = CString::new(options).expect("digits hold no NUL");
    mount(
        "tmpfs",
        path,
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV,
        options.as_c_str(),
    )?;
    Ok(())
}

/// Takes down what is mounted exactly there, if anything is. What is busy goes with its last user.
///
/// Errors: the kernel's; `NotFound` if there is no such folder.
pub fn unmount(path: &Path) -> io::Result<()> {
    match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(rustix::io::Errno::INVAL) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether something is mounted exactly there.
pub fn is_mount_point(path: &Path) -> io::Result<bool> {
    let path = path.canonicalize()?;
    Ok(mount_points()?.contains(&path))
}

/// Unmounts everything at and below a folder, the newest first. What is busy is detached, so
/// that it goes when its last user does.
///
/// Errors: the first mount that could not be taken down, after all were tried.
pub fn unmount_below(folder: &Path) -> io::Result<()> {
    let folder = folder.canonicalize()?;
    let below: Vec<PathBuf> = mount_points()?
        .into_iter()
        .filter(|point| point.starts_with(&folder))
        .collect();
    let mut failed = None;
    // Mounts are listed in the order they were made.
    for point in below.into_iter().rev() {
        if let Err(error) = unmount(&point) {
            failed.get_or_insert(error);
        }
    }
    failed.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tmpfs_comes_and_goes_with_what_is_mounted_on_it() {
        let dir = tempfile::tempdir().unwrap();
        let outer = dir.path().join("outer");
        std::fs::create_dir(&outer).unwrap();
        mount_tmpfs(&outer, Some(1 << 20)).unwrap();
        let inner = outer.join("in ner");
        std::fs::create_dir(&inner).unwrap();
        mount_tmpfs(&inner, None).unwrap();
        assert!(is_mount_point(&inner).unwrap());
        unmount_below(dir.path()).unwrap();
        assert!(!is_mount_point(&outer).unwrap());
        assert!(!inner.exists());
    }
}
