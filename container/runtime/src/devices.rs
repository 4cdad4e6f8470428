//! The container's /dev.

use crate::error::{Context, Error, Result};
use crate::spec::Device;
use alloc::format;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, FileType, Gid, Mode, OFlags, Uid, makedev};
use strata_sys::file::Missing;
use strata_sys::{Errno, file, mount};

/// Names below /dev of the character devices that every container has.
pub const STANDARD_DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// They with their major and minor numbers.
const STANDARD: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Links that every container has.
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// Makes the standard nodes and links below `root`, then those of the configuration.
pub(crate) fn make(root: BorrowedFd<'_>, extra: &[Device]) -> Result<()> {
    let directory = file::make_in_root(root, "/dev", Missing::Directory).context(|| "open the container's /dev")?;
    for (name, major, minor) in STANDARD {
        let mode = Mode::from_raw_mode(0o666);
        node(
            directory.as_fd(),
            name,
            FileType::CharacterDevice,
            mode,
            makedev(major, minor),
            &format!("/dev/{name}"),
        )?;
    }
    for (target, name) in LINKS {
        match rustix::fs::symlinkat(target, &directory, name) {
            Ok(()) => {}
            // The image may bring a ptmx node of its own, which would be the host's.
            Err(Errno::EXIST) if name == "ptmx" => {
                rustix::fs::unlinkat(&directory, name, rustix::fs::AtFlags::empty()).context(|| "remove /dev/ptmx")?;
                rustix::fs::symlinkat(target, &directory, name).context(|| "link /dev/ptmx")?;
            }
            Err(Errno::EXIST) => {}
            Err(errno) => {
                return Err(Error::System {
                    what: format!("link /dev/{name}"),
                    errno,
                });
            }
        }
    }
    extra.iter().try_for_each(|device| make_extra(root, device))
}

fn make_extra(root: BorrowedFd<'_>, device: &Device) -> Result<()> {
    let path = &*device.path;
    let bad = || Error::Invalid(format!("bad device {path:?}"));
    let (parent, name) = path
        .rsplit_once('/')
        .filter(|(_, name)| !name.is_empty())
        .ok_or_else(bad)?;
    if name == "." || name == ".." {
        return Err(bad());
    }
    let kind = match &*device.kind {
        "c" | "u" => FileType::CharacterDevice,
        "b" => FileType::BlockDevice,
        "p" => FileType::Fifo,
        _ => return Err(bad()),
    };
    let parent =
        file::make_in_root(root, parent, Missing::Directory).context(|| format!("make the parent of {path}"))?;
    let mode = Mode::from_raw_mode(device.file_mode.unwrap_or(0o666) & 0o7777);
    let number = makedev(device.major as u32, device.minor as u32);
    node(parent.as_fd(), name, kind, mode, number, path)?;
    if device.uid.is_some() || device.gid.is_some() {
        let (uid, gid) = (device.uid.map(Uid::from_raw), device.gid.map(Gid::from_raw));
        rustix::fs::chownat(&parent, name, uid, gid, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
            .context(|| format!("set the owner of {path}"))?;
    }
    Ok(())
}

fn node(directory: BorrowedFd<'_>, name: &str, kind: FileType, mode: Mode, number: u64, host_path: &str) -> Result<()> {
    match rustix::fs::mknodat(directory, name, kind, mode, number) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        // In a user namespace nodes cannot be made, but the host's can be bound.
        Err(Errno::PERM) => bind(directory, name, host_path),
        Err(errno) => Err(Error::System {
            what: format!("make device {host_path}"),
            errno,
        }),
    }
}

fn bind(directory: BorrowedFd<'_>, name: &str, host_path: &str) -> Result<()> {
    let tree = mount::clone_tree(CWD, host_path, false).context(|| format!("bind device {host_path}"))?;
    let target = file::make_in_root(directory, name, Missing::File).context(|| format!("bind device {host_path}"))?;
    mount::attach(&tree, &target).context(|| format!("bind device {host_path}"))
}

/// Takes the container's own /dev/null where a standard stream is the host's: nothing of the host's file systems stays
/// open, and a checkpoint finds the file. To be called inside the new root.
pub(crate) fn reopen_null() {
    let number = makedev(1, 3);
    let is_null = |stat: &rustix::fs::Stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == number
    };
    let standard = [0, 1, 2].map(|stream| {
        // SAFETY: the standard streams stay open.
        let stream = unsafe { BorrowedFd::borrow_raw(stream) };
        rustix::fs::fstat(stream).is_ok_and(|stat| is_null(&stat))
    });
    if standard == [false; 3] {
        return;
    }
    // An image may have no such file, or something else there: then the host's stays.
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let Ok(path) = rustix::fs::open("/dev/null", flags | OFlags::PATH, Mode::empty()) else {
        return;
    };
    if !rustix::fs::fstat(&path).is_ok_and(|stat| is_null(&stat)) {
        return;
    }
    let Ok(null) = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) else {
        return;
    };
    let _ = (
        standard[0].then(|| rustix::stdio::dup2_stdin(&null)),
        standard[1].then(|| rustix::stdio::dup2_stdout(&null)),
    );
    let _ = standard[2].then(|| rustix::stdio::dup2_stderr(&null));
}

/// Puts a terminal's slave at /dev/console; to be called inside the new root.
pub(crate) fn make_console(master: &OwnedFd, slave: &OwnedFd) -> Result<()> {
    let what = || "cannot put the terminal at /dev/console";
    let root = file::open_directory("/").context(what)?;
    let target = file::make_in_root(root.as_fd(), "/dev/console", Missing::File).context(what)?;
    let stat = rustix::fs::fstat(&target).context(what)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Err(Error::Invalid("/dev/console is a directory".into()));
    }
    let path = strata_sys::terminal::path(master).context(what)?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let source = rustix::fs::open(&*path, flags, Mode::empty()).context(what)?;
    // The image could have put anything there.
    let (found, expected) = (
        rustix::fs::fstat(&source).context(what)?,
        rustix::fs::fstat(slave).context(what)?,
    );
    if (found.st_dev, found.st_ino) != (expected.st_dev, expected.st_ino) {
        return Err(Error::Invalid(format!("{path} is not the container's terminal")));
    }
    let tree = mount::clone_tree(&source, "", false).context(what)?;
    mount::attach(&tree, &target).context(what)
}
