//! Paths within a volume, without a way out of it.
//!
//! What a pod writes into its volume may be a link that leads elsewhere, and may be exchanged
//! while it is looked at. So the path is resolved by the kernel within the volume
//! (openat2, RESOLVE_BENEATH), and what it found is pinned by a bind mount of the open
//! descriptor; the container gets the pin.

use rustix::{
    fd::OwnedFd,
    fs::{CWD, Mode, OFlags, ResolveFlags, mkdirat, openat2},
    io::Errno,
    mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree},
};
use std::{
    fs,
    path::{Component, Path, PathBuf},
};

/// Why a subPath cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SubPathError {
    /// Absolute, or climbing.
    #[error("subPath {0:?} must be a relative path without '..'")]
    NotRelative(String),
    /// It leads out of the volume.
    #[error("subPath {0:?} leads out of the volume")]
    Escapes(String),
    /// The kernel refused.
    #[error("{0}: {1}")]
    Io(&'static str, std::io::Error),
}

fn io(what: &'static str) -> impl Fn(Errno) -> SubPathError {
    move |e| SubPathError::Io(what, e.into())
}

/// Makes `pin` show `sub_path` of `volume`; directories that are missing are made.
pub fn pin(volume: &Path, sub_path: &str, pin: &Path, read_only: bool) -> Result<PathBuf, SubPathError> {
    let fits = Path::new(sub_path)
        .components()
        .all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if !fits {
        return Err(SubPathError::NotRelative(sub_path.to_owned()));
    }
    let target = open_beneath(volume, sub_path, !read_only)?;
    let is_dir = rustix::fs::fstat(&target)
        .map(|s| rustix::fs::FileType::from_raw_mode(s.st_mode).is_dir())
        .map_err(io("reading what subPath is"))?;
    let std_io = |what| move |e: std::io::Error| SubPathError::Io(what, e);
    if let Some(parent) = pin.parent() {
        fs::create_dir_all(parent).map_err(std_io("creating the pin's directory"))?;
    }
    if is_dir {
        fs::create_dir_all(pin).map_err(std_io("creating the pin"))?;
    } else if fs::symlink_metadata(pin).is_err() {
        fs::write(pin, b"").map_err(std_io("creating the pin"))?;
    }
    // An earlier pin (of the container's last instance) is covered, and goes with the pod.
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(&target, "", flags).map_err(io("taking hold of subPath"))?;
    move_mount(tree, "", CWD, pin, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).map_err(io("pinning subPath"))?;
    Ok(pin.to_owned())
}

fn open_beneath(volume: &Path, sub_path: &str, make: bool) -> Result<OwnedFd, SubPathError> {
    let root =
        rustix::fs::open(volume, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(io("opening the volume"))?;
    let open = |path: &str| {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        openat2(&root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
    };
    let explain = |e: Errno| match e {
        Errno::XDEV | Errno::LOOP => SubPathError::Escapes(sub_path.to_owned()),
        e => SubPathError::Io("opening subPath", e.into()),
    };
    match open(sub_path) {
        Err(Errno::NOENT) if make => {}
        found => return found.map_err(explain),
    }
    let mut parent = open(".").map_err(explain)?;
    let mut so_far = PathBuf::new();
    for part in Path::new(sub_path).components() {
        so_far.push(part);
        match mkdirat(&parent, Path::new(part.as_os_str()), Mode::from_raw_mode(0o750)) {
            Ok(()) => {
                // As upstream: a directory made for a subPath looks like the volume it is in.
                let mode = rustix::fs::fstat(&root).map(|s| s.st_mode & 0o7777).unwrap_or(0o755);
                let made = rustix::fs::openat(
                    &parent,
                    part.as_os_str(),
                    OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                    Mode::empty(),
                );
                if let Ok(made) = made {
                    rustix::fs::fchmod(&made, Mode::from_raw_mode(mode)).map_err(io("setting mode of subPath"))?;
                }
            }
            Err(Errno::EXIST) => {}
            Err(e) => return Err(SubPathError::Io("creating subPath", e.into())),
        }
        parent = open(&so_far.to_string_lossy()).map_err(explain)?;
    }
    Ok(parent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_within_the_volume_are_followed_and_links_out_of_it_are_not() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("real")).unwrap();
        symlink("real", dir.path().join("inside")).unwrap();
        symlink("/etc", dir.path().join("absolute")).unwrap();
        symlink("../../etc", dir.path().join("climbing")).unwrap();
        assert!(open_beneath(dir.path(), "inside", false).is_ok());
        for bad in ["absolute", "climbing", "absolute/passwd"] {
            assert!(
                matches!(open_beneath(dir.path(), bad, true), Err(SubPathError::Escapes(_))),
                "{bad}"
            );
        }
        assert!(open_beneath(dir.path(), "real/made/deep", true).is_ok());
        assert!(dir.path().join("real/made/deep").is_dir());
        assert!(matches!(
            pin(dir.path(), "../x", dir.path(), false),
            Err(SubPathError::NotRelative(_))
        ));
    }
}
