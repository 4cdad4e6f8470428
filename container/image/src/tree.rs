//! Trees of files as archives, for people who copy files out of containers and into them.
//!
//! Whoever runs in the container may change everything meanwhile. As everywhere here, folders are opened
//! one in the other, links are never followed, and the last component is made in its open folder.

use crate::folder::replacing;
use crate::pack::{pack_named, pack_open};
use crate::tar_stream::{Entry, TarError, TarStream};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod, fsetxattr,
    fstat, linkat, makedev, mkdirat, mknodat, openat, statat, symlinkat, utimensat,
};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use tar_core::EntryType;

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Writes the file or folder `name` of an open folder as an archive in which it is called `called`; with an
/// empty `called` what is in the folder. Blocking.
///
/// Errors: the kernel's, and what changed while it was read.
pub fn pack_tree<W: Write>(folder: BorrowedFd<'_>, name: &[u8], called: &[u8], out: W) -> io::Result<W> {
    if called.is_empty() {
        return pack_open(openat(folder, name, FOLDER, Mode::empty())?, None, out);
    }
    pack_named(folder.try_clone_to_owned()?, name, called, out)
}

/// Writes all files of a root as an archive, leaving out what is mounted on its folders. Blocking.
///
/// Errors: as [`pack_tree`].
pub fn pack_mount<W: Write>(root: BorrowedFd<'_>, out: W) -> io::Result<W> {
    let device = fstat(root)?.st_dev;
    pack_open(root.try_clone_to_owned()?, Some(device), out)
}

/// Unpacks an archive into an open folder, over what is there. Blocking.
///
/// With `keep_kinds` a folder does not replace anything else, nor anything else a folder.
/// Errors: a name that leads out of the folder, a broken archive, the kernel's.
pub fn unpack_tree(source: impl Read, folder: BorrowedFd<'_>, keep_kinds: bool) -> io::Result<()> {
    let mut stream = TarStream::new(source);
    while let Some(entry) = stream.next_entry().map_err(broken)? {
        let parts = parts(&entry.path)?;
        let Some((name, parents)) = parts.split_last() else {
            continue;
        };
        let parent = enter(folder, parents)?;
        put(folder, parent.as_fd(), name, &entry, keep_kinds, &mut stream)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", shown(&entry.path))))?;
    }
    Ok(())
}

fn broken(error: TarError) -> io::Error {
    match error {
        TarError::Read(error) => error,
        other => io::Error::new(io::ErrorKind::InvalidData, other.to_string()),
    }
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(&path[..path.len().min(200)]).into_owned()
}

/// The components of a name of an archive, which must not lead out of it.
fn parts(path: &[u8]) -> io::Result<Vec<&[u8]>> {
    let parts = path
        .split(|byte| *byte == b'/')
        .filter(|part| !matches!(*part, b"" | b"."));
    let parts: Vec<&[u8]> = parts.collect();
    match parts.contains(&&b".."[..]) {
        true => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} leads out of the folder", shown(path)),
        )),
        false => Ok(parts),
    }
}

/// Opens a folder below, making what is missing.
fn enter(folder: BorrowedFd<'_>, parts: &[&[u8]]) -> io::Result<OwnedFd> {
    let mut current = folder.try_clone_to_owned()?;
    for part in parts {
        current = match openat(&current, *part, FOLDER, Mode::empty()) {
            Err(Errno::NOENT) => {
                match mkdirat(&current, *part, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno.into()),
                }
                openat(&current, *part, FOLDER, Mode::empty())?
            }
            other => other?,
        };
    }
    Ok(current)
}

fn kind_of(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<FileType>> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(Stat { st_mode, .. }) => Ok(Some(FileType::from_raw_mode(st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Makes one entry.
fn put<R: Read>(
    root: BorrowedFd<'_>,
    parent: BorrowedFd<'_>,
    name: &[u8],
    entry: &Entry,
    keep_kinds: bool,
    stream: &mut TarStream<R>,
) -> io::Result<()> {
    let there = kind_of(parent, name)?;
    let is_folder = entry.kind == EntryType::dir();
    if keep_kinds {
        match there {
            Some(FileType::Directory) if !is_folder => {
                return Err(io::Error::other("cannot overwrite directory with non-directory"));
            }
            Some(kind) if is_folder && kind != FileType::Directory => {
                return Err(io::Error::other("cannot overwrite non-directory with directory"));
            }
            _ => {}
        }
    }
    let (major, minor) = entry.device;
    match () {
        () if is_folder => {
            if there != Some(FileType::Directory) {
                replacing(parent, name, || mkdirat(parent, name, Mode::RWXU))?;
            }
        }
        () if entry.kind.is_symlink() => {
            replacing(parent, name, || symlinkat(entry.link.as_slice(), parent, name))?;
            return own(parent, name, entry);
        }
        () if entry.kind.is_hard_link() => {
            let parts = parts(&entry.link)?;
            let (target, parents) = parts.split_last().ok_or(io::ErrorKind::InvalidData)?;
            let from = enter(root, parents)?;
            replacing(parent, name, || linkat(&from, *target, parent, name, AtFlags::empty()))?;
            return Ok(());
        }
        () if entry.kind.is_fifo() => {
            replacing(parent, name, || mknodat(parent, name, FileType::Fifo, Mode::RWXU, 0))?;
        }
        () if entry.kind.is_character_special() || entry.kind.is_block_special() => {
            let kind = match entry.kind.is_block_special() {
                true => FileType::BlockDevice,
                false => FileType::CharacterDevice,
            };
            let device = makedev(major, minor);
            replacing(parent, name, || mknodat(parent, name, kind, Mode::RWXU, device))?;
        }
        () if entry.kind.is_file() => return put_file(parent, name, entry, stream),
        // Nothing that a file system has.
        () => return Ok(()),
    }
    own(parent, name, entry)?;
    rustix::fs::chmodat(parent, name, mode_of(entry), AtFlags::empty())?;
    times(parent, name, entry)
}

/// A regular file, with its content from the stream.
fn put_file<R: Read>(parent: BorrowedFd<'_>, name: &[u8], entry: &Entry, stream: &mut TarStream<R>) -> io::Result<()> {
    if entry.sparse.is_some() {
        return Err(io::Error::other(
            "a file with holes cannot be copied; pack it without them",
        ));
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = replacing(parent, name, || openat(parent, name, flags, Mode::RUSR | Mode::WUSR))?;
    let mut file = File::from(made);
    stream.copy_content(|bytes| file.write_all(bytes)).map_err(broken)?;
    own(parent, name, entry)?;
    for (key, value) in &entry.xattrs {
        match fsetxattr(&file, OsStr::from_bytes(key), value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    fchmod(&file, mode_of(entry))?;
    times(parent, name, entry)
}

fn mode_of(entry: &Entry) -> Mode {
    Mode::from_raw_mode(entry.mode & 0o7777)
}

fn own(parent: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> io::Result<()> {
    let id = |id: u64| u32::try_from(id).map_err(|_| io::Error::other("an owner's number is too large"));
    let (uid, gid) = (Uid::from_raw(id(entry.uid)?), Gid::from_raw(id(entry.gid)?));
    Ok(chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn times(parent: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> io::Result<()> {
    let moment = Timespec {
        tv_sec: i64::try_from(entry.mtime).unwrap_or(0),
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: moment,
        last_modification: moment,
    };
    Ok(utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn open(path: &std::path::Path) -> OwnedFd {
        openat(rustix::fs::CWD, path, FOLDER, Mode::empty()).expect("folder")
    }

    #[test]
    fn a_tree_comes_back_as_it_was_and_over_what_is_there() {
        let (from, to) = (
            tempfile::tempdir().expect("folder"),
            tempfile::tempdir().expect("folder"),
        );
        std::fs::create_dir_all(from.path().join("tree/sub")).expect("folder");
        std::fs::write(from.path().join("tree/sub/file"), b"new").expect("file");
        symlink("/etc", from.path().join("tree/link")).expect("link");
        let archive = pack_tree(open(from.path()).as_fd(), b"tree", b"tree", Vec::new()).expect("packed");
        std::fs::create_dir_all(to.path().join("tree/sub")).expect("folder");
        std::fs::write(to.path().join("tree/sub/file"), b"old").expect("file");
        std::fs::write(to.path().join("tree/kept"), b"kept").expect("file");
        unpack_tree(&archive[..], open(to.path()).as_fd(), true).expect("unpacked");
        let read = |name: &str| std::fs::read(to.path().join(name)).expect("file");
        assert_eq!(
            (read("tree/sub/file"), read("tree/kept")),
            (b"new".to_vec(), b"kept".to_vec())
        );
        assert_eq!(
            std::fs::read_link(to.path().join("tree/link")).expect("link"),
            std::path::Path::new("/etc")
        );
    }

    #[test]
    fn nothing_is_written_through_a_link_or_out_of_the_folder() {
        let (from, to) = (
            tempfile::tempdir().expect("folder"),
            tempfile::tempdir().expect("folder"),
        );
        let outside = tempfile::tempdir().expect("folder");
        std::fs::create_dir(from.path().join("tree")).expect("folder");
        std::fs::write(from.path().join("tree/file"), b"x").expect("file");
        std::fs::rename(from.path().join("tree"), from.path().join("other")).expect("renamed");
        let archive = pack_tree(open(from.path()).as_fd(), b"other", b"tree", Vec::new()).expect("packed");
        symlink(outside.path(), to.path().join("tree")).expect("link");
        let target = open(to.path());
        assert!(unpack_tree(&archive[..], target.as_fd(), true).is_err());
        unpack_tree(&archive[..], target.as_fd(), false).expect("the link gives way");
        assert!(!outside.path().join("file").exists() && to.path().join("tree/file").exists());
        assert!(parts(b"a/../b").is_err());
    }
}
