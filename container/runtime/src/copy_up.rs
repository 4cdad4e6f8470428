//! What a new file system begins with: a copy of the directory that it covers (`tmpcopyup`).

use crate::error::{Context, Error, Result};
use alloc::{format, vec::Vec};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RawDir, Timespec, Timestamps, Uid};
use strata_sys::{Errno, file};

/// Deepest directory that is copied.
const DEPTH_LIMIT: u32 = 64;

/// Most entries that are copied: an image must not hold a start up for long.
const ENTRY_LIMIT: u32 = 100_000;

/// Bytes copied at a time.
const CHUNK: usize = 64 << 10;

/// Copies what is in the directory `from`, which may be missing, and its mode and owner, to the root of the detached
/// mount `to`. Nothing is followed out of `from`: links are copied as links, mounts below it are left out.
pub(crate) fn fill(to: &OwnedFd, root: BorrowedFd<'_>, path: &str) -> Result<()> {
    let what = || format!("copy {path} up");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let from = match file::open_in_root(root, path, flags) {
        Err(Errno::NOENT) => return Ok(()),
        other => other.context(what)?,
    };
    let target = rustix::fs::openat(to, ".", flags | OFlags::CLOEXEC, Mode::empty()).context(what)?;
    let mut entries = ENTRY_LIMIT;
    let device = rustix::fs::fstat(&from).context(what)?.st_dev;
    copy_directory(&from, &target, device, DEPTH_LIMIT, &mut entries).context(what)?;
    if entries == 0 {
        return Err(Error::Invalid(format!("{}: more than {ENTRY_LIMIT} entries", what())));
    }
    Ok(())
}

fn copy_directory(from: &OwnedFd, to: &OwnedFd, device: u64, depth: u32, entries: &mut u32) -> strata_sys::Result<()> {
    let below = depth.checked_sub(1).ok_or(Errno::LOOP)?;
    let mut buffer = Vec::with_capacity(16 << 10);
    let mut listing = RawDir::new(from, buffer.spare_capacity_mut());
    while let Some(entry) = listing.next() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        *entries = entries.saturating_sub(1);
        if *entries == 0 {
            return Ok(());
        }
        let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if stat.st_dev != device {
            continue;
        }
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let inner = rustix::fs::openat(from, name, flags, Mode::empty())?;
                rustix::fs::mkdirat(to, name, Mode::from_raw_mode(0o700))?;
                let made = rustix::fs::openat(to, name, flags, Mode::empty())?;
                copy_directory(&inner, &made, device, below, entries)?;
            }
            FileType::RegularFile => {
                let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
                let source = rustix::fs::openat(from, name, flags | OFlags::RDONLY, Mode::empty())?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let copy = rustix::fs::openat(to, name, flags, Mode::from_raw_mode(0o600))?;
                copy_content(source.as_fd(), copy.as_fd())?;
                dress(copy.as_fd(), &stat, mode)?;
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(from, name, Vec::new())?;
                rustix::fs::symlinkat(target, to, name)?;
                own(to.as_fd(), name, &stat)?;
            }
            kind => {
                rustix::fs::mknodat(to, name, kind, mode, stat.st_rdev)?;
                own(to.as_fd(), name, &stat)?;
            }
        }
    }
    let stat = rustix::fs::fstat(from)?;
    dress(to.as_fd(), &stat, Mode::from_raw_mode(stat.st_mode & 0o7777))
}

fn copy_content(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> strata_sys::Result<()> {
    let mut buffer = alloc::vec![0; CHUNK];
    loop {
        match rustix::io::read(from, &mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => file::write_all(to, &buffer[..count])?,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Owner before mode, since changing it clears set-id bits; times last.
fn dress(file: BorrowedFd<'_>, stat: &rustix::fs::Stat, mode: Mode) -> strata_sys::Result<()> {
    rustix::fs::fchown(file, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    rustix::fs::fchmod(file, mode)?;
    let time = |seconds: i64, nanoseconds: i64| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec as i64),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec as i64),
    };
    rustix::fs::futimens(file, &times)
}

fn own(directory: BorrowedFd<'_>, name: &core::ffi::CStr, stat: &rustix::fs::Stat) -> strata_sys::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
}
