//! Creating and removing in an open folder, never through a path.

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, XattrFlags, fsetxattr, mkdirat, openat, statat, unlinkat};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Runs a creation; if the name is taken, removes what is there and runs it again.
pub(crate) fn replacing<T>(
    folder: BorrowedFd<'_>,
    name: &[u8],
    mut create: impl FnMut() -> Result<T, Errno>,
) -> Result<T, Errno> {
    match create() {
        Err(Errno::EXIST) => {
            remove(folder, name)?;
            create()
        }
        other => other,
    }
}

/// Removes a file, or a folder with all in it.
fn remove(folder: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        other => return other,
    }
    // Iterative: the depth of the tree is the stranger's choice.
    loop {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut parent = openat(folder, name, flags, Mode::empty())?;
        let mut deepest: Option<(OwnedFd, Vec<u8>)> = None;
        loop {
            match empty_except_directories(parent.as_fd())? {
                None => break,
                Some(child) => {
                    let next = openat(&parent, child.as_slice(), flags, Mode::empty())?;
                    deepest = Some((std::mem::replace(&mut parent, next), child));
                }
            }
        }
        match deepest {
            None => return unlinkat(folder, name, AtFlags::REMOVEDIR),
            Some((above, child)) => unlinkat(&above, child.as_slice(), AtFlags::REMOVEDIR)?,
        }
    }
}

/// Unlinks the files of a folder and names one of its folders, if there is one.
fn empty_except_directories(folder: BorrowedFd<'_>) -> Result<Option<Vec<u8>>, Errno> {
    let mut child = None;
    for item in rustix::fs::Dir::read_from(folder)? {
        let item = item?;
        let name = item.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        match unlinkat(folder, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => child = Some(name.to_vec()),
            other => other?,
        }
    }
    Ok(child)
}

/// Makes a folder unless there is one; anything else of that name gives way.
pub(crate) fn make_directory(folder: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(0o755);
    match mkdirat(folder, name, mode) {
        Err(Errno::EXIST) => {}
        other => return other,
    }
    let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Ok(()),
        kind => {
            unlinkat(folder, name, AtFlags::empty())?;
            mkdirat(folder, name, mode)?;
            // A whiteout before the folder means that nothing of lower layers shines through.
            if kind == FileType::CharacterDevice {
                set_opaque_at(folder, name)
            } else {
                Ok(())
            }
        }
    }
}

pub(crate) fn set_opaque(folder: BorrowedFd<'_>) -> Result<(), Errno> {
    set_opaque_at(folder, b".")
}

pub(crate) fn set_opaque_at(folder: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(folder, name, flags, Mode::empty())?;
    fsetxattr(&fd, "trusted.overlay.opaque", b"y", XattrFlags::empty())
}

/// Opens a folder of our own store.
pub(crate) fn open_root(path: &Path) -> Result<OwnedFd, Errno> {
    openat(
        CWD,
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}
