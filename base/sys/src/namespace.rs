//! Joining and leaving namespaces, and acting inside one.

use crate::{Result, arch::syscall};
use alloc::format;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// Opens a namespace by path, such as `/proc/PID/ns/net`.
pub fn open(path: &str) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

/// Opens the calling thread's own namespace: `net`, `mnt`, `pid`, `pid_for_children`, …
pub fn open_own(name: &str) -> Result<OwnedFd> {
    open(&format!("/proc/thread-self/ns/{name}"))
}

/// Moves the calling thread into a namespace, or into those of a process when `namespace` is a
/// pidfd. `kinds` are `CLONE_NEW…` flags; with 0 any kind of namespace is taken.
pub fn join(namespace: impl AsFd, kinds: u64) -> Result<()> {
    // SAFETY: takes no pointers.
    unsafe {
        syscall(
            libc::SYS_setns,
            [namespace.as_fd().as_raw_fd() as usize, kinds as usize, 0, 0, 0, 0],
        )?;
    }
    Ok(())
}

/// Leaves namespaces for new ones: `CLONE_NEW…` flags.
pub fn unshare(kinds: u64) -> Result<()> {
    // SAFETY: only namespace flags are passed on, so memory and descriptors stay shared as they are.
    unsafe { syscall(libc::SYS_unshare, [kinds as usize & NAMESPACES as usize, 0, 0, 0, 0, 0])? };
    Ok(())
}

/// All namespace flags.
pub const NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | TIME) as u64;

/// `CLONE_NEWTIME`.
pub const TIME: i32 = 0x80;

/// Calls `f` with the calling thread moved into a network namespace, and moves it back.
///
/// Sockets that `f` opens stay in that namespace. Errors: of opening, of joining, or `f`'s own.
pub fn within_network<T, E: From<crate::Errno>>(
    namespace: impl AsFd,
    f: impl FnOnce() -> core::result::Result<T, E>,
) -> core::result::Result<T, E> {
    let own = open_own("net")?;
    join(namespace, libc::CLONE_NEWNET as u64)?;
    let result = f();
    // A thread left in a foreign namespace would act on the wrong network ever after.
    join(own, libc::CLONE_NEWNET as u64).expect("a thread can return to the network namespace it came from");
    result
}

/// A netlink socket of this protocol (such as `NETLINK_ROUTE`) inside a network namespace.
pub fn netlink(namespace: impl AsFd, protocol: i32) -> Result<OwnedFd> {
    let protocol = core::num::NonZeroU32::new(protocol as u32).map(rustix::net::Protocol::from_raw);
    within_network(namespace, || {
        rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)
    })
}

/// Sets the loopback link of the calling thread's network namespace up.
pub fn loopback_up() -> Result<()> {
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // struct ifreq of netdevice(7): 16 bytes of name, then the flags in a union of 24 bytes.
    #[repr(C)]
    struct Request {
        name: [u8; 16],
        flags: i16,
        rest: [u8; 22],
    }
    let mut request = Request {
        name: [0; 16],
        flags: (libc::IFF_UP | libc::IFF_RUNNING) as i16,
        rest: [0; 22],
    };
    request.name[..2].copy_from_slice(b"lo");
    let _ = request.rest;
    // SAFETY: SIOCSIFFLAGS reads one ifreq.
    unsafe {
        let number = libc::SIOCSIFFLAGS as usize;
        syscall(
            libc::SYS_ioctl,
            [
                socket.as_raw_fd() as usize,
                number,
                &raw const request as usize,
                0,
                0,
                0,
            ],
        )?;
    }
    Ok(())
}
