//! Datagrams with descriptors attached, over Unix sockets of type SEQPACKET.

use crate::{Errno, Result};
use alloc::{format, vec::Vec};
use core::mem::MaybeUninit;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::{IoSlice, IoSliceMut};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

/// Most descriptors one datagram carries.
pub const DESCRIPTORS: usize = 16;

/// Longest path that fits a Unix socket address.
const ADDRESS_LIMIT: usize = 107;

/// Two connected sockets, closed on exec.
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

/// Listens at `path`, which must not exist, with mode 0600.
pub fn listen(path: &str, backlog: i32) -> Result<OwnedFd> {
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    // The mode of the socket file is that of the socket at bind: no moment at which others could connect.
    rustix::fs::fchmod(&socket, rustix::fs::Mode::from_raw_mode(0o600))?;
    with_address(path, |address| rustix::net::bind(&socket, address))?;
    rustix::net::listen(&socket, backlog)?;
    Ok(socket)
}

/// Connects to the socket at `path`; blocking.
pub fn connect(path: &str) -> Result<OwnedFd> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    with_address(path, |address| rustix::net::connect(&socket, address))?;
    Ok(socket)
}

/// Calls `f` with an address for `path`; one that is too long goes through its directory's descriptor.
fn with_address(path: &str, f: impl FnOnce(&SocketAddrUnix) -> rustix::io::Result<()>) -> Result<()> {
    if path.len() <= ADDRESS_LIMIT {
        return f(&SocketAddrUnix::new(path)?);
    }
    let (parent, name) = path.rsplit_once('/').ok_or(Errno::NAMETOOLONG)?;
    let directory = crate::file::open_directory(parent)?;
    f(&SocketAddrUnix::new(&*format!(
        "/proc/self/fd/{}/{name}",
        directory.as_raw_fd()
    ))?)
}

/// Sends one datagram.
pub fn send(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::INVAL);
    }
    loop {
        match rustix::net::sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
            Ok(_) => return Ok(()),
        }
    }
}

/// Receives one datagram into `buffer`: its length and its descriptors, closed on exec. Length 0 is the end.
///
/// Errors: `EMSGSIZE` if it did not fit.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match rustix::net::recvmsg(
            &socket,
            &mut [IoSliceMut::new(buffer)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
            Ok(received) => break received,
        }
    };
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(list) = message {
            descriptors.extend(list);
        }
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(Errno::MSGSIZE);
    }
    Ok((received.bytes, descriptors))
}

/// Process, user and group at the other end of a connected socket.
pub fn peer(socket: impl AsFd) -> Result<rustix::net::UCred> {
    rustix::net::sockopt::socket_peercred(&socket)
}
