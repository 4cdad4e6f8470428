//! Pseudo terminals.

use crate::{Result, arch::syscall};
use alloc::format;
use rustix::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags};

/// A new terminal of the devpts file system that `/dev/ptmx` belongs to: master and slave.
pub fn open() -> Result<(OwnedFd, OwnedFd)> {
    // Looked up inside the container, where /dev/ptmx may be anything: the ioctls below fail on what is no terminal.
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = rustix::fs::open("/dev/ptmx", flags, Mode::empty())?;
    let unlocked: i32 = 0;
    ioctl(&master, libc::TIOCSPTLCK as usize, &raw const unlocked as usize)?;
    // TIOCGPTPEER opens the other end without a path.
    let slave = ioctl(&master, libc::TIOCGPTPEER as usize, (flags.bits() as i32) as usize)?;
    // SAFETY: the kernel has just opened it for us.
    Ok((master, unsafe { OwnedFd::from_raw_fd(slave as i32) }))
}

/// Number of the terminal in its devpts.
pub fn number(master: impl AsFd) -> Result<u32> {
    let mut number: u32 = 0;
    ioctl(master, libc::TIOCGPTN as usize, &raw mut number as usize)?;
    Ok(number)
}

/// Path of the terminal in its devpts, as seen where that is mounted on /dev/pts.
pub fn path(master: impl AsFd) -> Result<alloc::string::String> {
    Ok(format!("/dev/pts/{}", number(master)?))
}

/// Makes a terminal the controlling one of the calling session leader.
pub fn take_control(slave: impl AsFd) -> Result<()> {
    ioctl(slave, libc::TIOCSCTTY as usize, 0).map(drop)
}

/// Sets the size in characters.
pub fn resize(terminal: impl AsFd, rows: u16, columns: u16) -> Result<()> {
    let size = [rows, columns, 0, 0];
    ioctl(terminal, libc::TIOCSWINSZ as usize, size.as_ptr() as usize).map(drop)
}

/// The size in characters: rows and columns.
pub fn size(terminal: impl AsFd) -> Result<(u16, u16)> {
    let mut size = [0u16; 4];
    ioctl(terminal, libc::TIOCGWINSZ as usize, size.as_mut_ptr() as usize)?;
    Ok((size[0], size[1]))
}

fn ioctl(file: impl AsFd, request: usize, argument: usize) -> Result<usize> {
    // SAFETY: private; each caller passes what its request reads or writes.
    unsafe {
        syscall(
            libc::SYS_ioctl,
            [file.as_fd().as_raw_fd() as usize, request, argument, 0, 0, 0],
        )
    }
}
