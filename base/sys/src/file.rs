//! Whole files, and paths that must not leave a root.

use crate::{Errno, Result};
use alloc::{string::String, vec::Vec};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, MemfdFlags, Mode, OFlags, ResolveFlags, SealFlags};
use rustix::path::Arg;

/// Bytes read at a time.
const CHUNK: usize = 16 << 10;

/// The content of a file of at most `limit` bytes. Errors: `EFBIG` if it is longer.
pub fn read<P: Arg>(path: P, limit: usize) -> Result<Vec<u8>> {
    read_at(CWD, path, limit)
}

/// [`read`], relative to a directory.
pub fn read_at<P: Arg>(directory: impl AsFd, path: P, limit: usize) -> Result<Vec<u8>> {
    let file = rustix::fs::openat(directory, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    read_all(&file, limit)
}

/// Reads to the end, at most `limit` bytes.
pub fn read_all(file: impl AsFd, limit: usize) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let start = content.len();
        if start > limit {
            return Err(Errno::FBIG);
        }
        content.resize(start + CHUNK, 0);
        match rustix::io::read(&file, &mut content[start..]) {
            Ok(count) => content.truncate(start + count),
            Err(Errno::INTR) => content.truncate(start),
            Err(error) => return Err(error),
        }
        if content.len() == start {
            return Ok(content);
        }
    }
}

/// The content of a small text file. Errors: `EILSEQ` if it is not UTF-8.
pub fn read_text<P: Arg>(path: P, limit: usize) -> Result<String> {
    String::from_utf8(read(path, limit)?).map_err(|_| Errno::ILSEQ)
}

/// Writes to an existing file, such as one of /proc or a cgroup, in one write.
pub fn write<P: Arg>(path: P, content: &[u8]) -> Result<()> {
    write_at(CWD, path, content)
}

/// [`write`], relative to a directory.
pub fn write_at<P: Arg>(directory: impl AsFd, path: P, content: &[u8]) -> Result<()> {
    let file = rustix::fs::openat(directory, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    write_all(&file, content)
}

/// Writes everything.
pub fn write_all(file: impl AsFd, mut content: &[u8]) -> Result<()> {
    while !content.is_empty() {
        match rustix::io::write(&file, content) {
            Ok(count) => content = &content[count..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Replaces a file as a whole: readers see the old or the new content, never part of it.
pub fn replace(directory: impl AsFd, name: &str, content: &[u8], mode: u32) -> Result<()> {
    let directory = directory.as_fd();
    let temporary = alloc::format!(".{name}.tmp");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::openat(directory, &*temporary, flags, Mode::from_raw_mode(mode))?;
    write_all(&file, content)?;
    rustix::fs::renameat(directory, &*temporary, directory, name)
}

/// Opens a directory as an anchor for relative paths.
pub fn open_directory<P: Arg>(path: P) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Makes a directory and those above it.
pub fn make_directories(path: &str, mode: u32) -> Result<()> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(mode)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(Errno::NOENT) => {
            let Some((parent, _)) = path.trim_end_matches('/').rsplit_once('/') else {
                return Err(Errno::NOENT);
            };
            if parent.is_empty() {
                return Err(Errno::NOENT);
            }
            make_directories(parent, mode)?;
            match rustix::fs::mkdir(path, Mode::from_raw_mode(mode)) {
                Err(Errno::EXIST) => Ok(()),
                other => other,
            }
        }
        Err(error) => Err(error),
    }
}

/// Opens `path` as if `root` were the root directory: no link and no `..` leads out of it.
pub fn open_in_root(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd> {
    resolve(root, path, flags, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

/// Like [`open_in_root`], but any symbolic link is an error (`ELOOP`).
pub fn open_in_root_without_links(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd> {
    resolve(
        root,
        path,
        flags,
        ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    )
}

fn resolve(root: BorrowedFd<'_>, path: &str, flags: OFlags, how: ResolveFlags) -> Result<OwnedFd> {
    let path = if path.is_empty() { "." } else { path };
    let mut attempts = 0;
    loop {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), how) {
            // The kernel gives up when something was renamed meanwhile; the attempts are bounded
            // because a hostile container could go on renaming.
            Err(Errno::AGAIN | Errno::INTR) if attempts < 128 => attempts += 1,
            other => return other,
        }
    }
}

/// What [`make_in_root`] makes when the path is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// A directory.
    Directory,
    /// An empty regular file.
    File,
}

/// Most links followed to places that do not exist yet.
const LINK_LIMIT: u32 = 40;

/// Opens `path` inside `root` (O_PATH), making what is missing; nothing outside `root` is touched. Where a
/// link leads to nothing, what it leads to (inside `root`) is made.
pub fn make_in_root(root: BorrowedFd<'_>, path: &str, missing: Missing) -> Result<OwnedFd> {
    make_following(root, path, missing, LINK_LIMIT)
}

fn make_following(root: BorrowedFd<'_>, path: &str, missing: Missing, links: u32) -> Result<OwnedFd> {
    match open_in_root(root, path, OFlags::PATH) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    let (parent_path, name) = match path.trim_end_matches('/').rsplit_once('/') {
        Some((parent, name)) => (parent, name),
        None => ("", path),
    };
    // `..` as the last component of a path that does not exist cannot be made.
    if name.is_empty() || name == ".." || name == "." {
        return Err(Errno::NOENT);
    }
    let parent = make_following(root, parent_path, Missing::Directory, links)?;
    let made = match missing {
        Missing::Directory => rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)),
        Missing::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o644)).map(drop)
        }
    };
    match made {
        Ok(()) => return open_in_root(root, path, OFlags::PATH),
        Err(Errno::EXIST) => {}
        Err(error) => return Err(error),
    }
    match (open_in_root(root, path, OFlags::PATH), links.checked_sub(1)) {
        (Err(Errno::NOENT), Some(links)) => {
            let target = rustix::fs::readlinkat(&parent, name, Vec::new())?;
            let target = target.to_str().map_err(|_| Errno::ILSEQ)?;
            match target.starts_with('/') {
                true => make_following(root, target, missing, links),
                false => make_following(root, &alloc::format!("{parent_path}/{target}"), missing, links),
            }
        }
        (Err(Errno::NOENT), None) => Err(Errno::LOOP),
        (other, _) => other,
    }
}

/// A memfd with this content that nobody can change any more.
pub fn sealed(name: &str, content: &[u8]) -> Result<OwnedFd> {
    let file = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    write_all(&file, content)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file)
}

/// The content of a memfd from [`sealed`] of at most `limit` bytes. Errors: `EPERM` if it is not sealed.
pub fn read_sealed(file: impl AsFd, limit: usize) -> Result<Vec<u8>> {
    let wanted = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    if !rustix::fs::fcntl_get_seals(&file)?.contains(wanted) {
        return Err(Errno::PERM);
    }
    let length = rustix::fs::fstat(&file)?.st_size as usize;
    if length > limit {
        return Err(Errno::FBIG);
    }
    let mut content = alloc::vec![0; length];
    let mut done = 0;
    while done < length {
        match rustix::io::pread(&file, &mut content[done..], done as u64)? {
            0 => return Err(Errno::IO),
            count => done += count,
        }
    }
    Ok(content)
}

/// Whether something is there.
pub fn exists<P: Arg>(path: P) -> bool {
    rustix::fs::statat(CWD, path, AtFlags::empty()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    #[test]
    fn a_link_that_points_outside_stays_inside_the_root() {
        let base = std::env::temp_dir().join(format!("strata-sys-{}", std::process::id()));
        std::fs::create_dir_all(base.join("root/real")).unwrap();
        std::os::unix::fs::symlink("../../../../..", base.join("root/up")).unwrap();
        let root = open_directory(base.join("root")).unwrap();
        std::os::unix::fs::symlink("/new/place", base.join("root/dangling")).unwrap();
        std::os::unix::fs::symlink("../loop", base.join("root/loop")).unwrap();
        make_in_root(root.as_fd(), "dangling/x", Missing::File).unwrap();
        assert!(base.join("root/new/place/x").is_file());
        assert_eq!(
            make_in_root(root.as_fd(), "loop/x", Missing::File).unwrap_err(),
            Errno::LOOP
        );
        make_in_root(root.as_fd(), "up/made/here", Missing::Directory).unwrap();
        assert!(base.join("root/made/here").is_dir());
        assert_eq!(
            open_in_root_without_links(root.as_fd(), "up/real", OFlags::PATH).unwrap_err(),
            Errno::LOOP
        );
        std::fs::remove_dir_all(base).unwrap();
    }
}
