//! A netlink socket: requests with their acknowledgements, dumps, event subscriptions.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send};
use rustix::net::{socket_with, sockopt};

use super::message::{Message, MessageWriter, Messages, native32};
use crate::Error;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// The kernel makes dump datagrams of at most 32 KiB.
const RECEIVE: usize = 64 << 10;
/// A transaction must fit one datagram, hence one send buffer; larger ones are split by callers.
const SEND: usize = 16 << 20;

/// A socket of one netlink family, in the network namespace where it was opened.
///
/// The kernel handles a request inside `send`, so every answer is already queued when it
/// returns: nothing here waits, and an absent answer is an error instead of a hang.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// `protocol` is `None` for rtnetlink; `groups` is the bit mask of event groups to follow.
    pub(crate) fn open(protocol: Option<Protocol>, groups: u32) -> Result<Self, Error> {
        let opened = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol);
        let fd = opened.map_err(|source| Error::kernel("open a netlink socket", source))?;
        bind(&fd, &SocketAddrNetlink::new(0, groups))
            .map_err(|source| Error::kernel("bind a netlink socket", source))?;
        Ok(Self {
            fd,
            sequence: 0,
            buffer: vec![0; RECEIVE],
        })
    }

    /// Raises the buffers for transactions of many messages.
    pub(crate) fn enlarge(&self) -> Result<(), Error> {
        let failed = |source| Error::kernel("enlarge a netlink buffer", source);
        sockopt::set_socket_send_buffer_size_force(&self.fd, SEND).map_err(failed)?;
        sockopt::set_socket_recv_buffer_size_force(&self.fd, SEND).map_err(failed)
    }

    pub(crate) fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        self.sequence
    }

    /// Sends messages of which each asks for an acknowledgement; `what` names each for errors.
    pub(crate) fn acknowledged(&mut self, writer: &MessageWriter, first: u32, what: &[String]) -> Result<(), Error> {
        self.send(writer.finish()?)?;
        let mut failure = None;
        let mut left = what.len();
        while left > 0 {
            self.receive(|message| {
                let index = message.sequence.wrapping_sub(first) as usize;
                if message.kind == NLMSG_ERROR && index < what.len() {
                    left -= 1;
                    if let Some(error) = error_of(message.body)? {
                        failure.get_or_insert_with(|| Error::kernel(what[index].clone(), error));
                    }
                }
                Ok(())
            })?;
        }
        failure.map_or(Ok(()), Err)
    }

    /// Sends a transaction whose last message asks for an acknowledgement. The kernel reports the
    /// error of each message that failed, and the acknowledgement only when it came so far.
    pub(crate) fn transact(&mut self, bytes: &[u8], mut what: impl FnMut(u32) -> String) -> Result<(), Error> {
        self.send(bytes)?;
        let mut failure = None;
        let mut answered = false;
        loop {
            let received = self.receive(|message| {
                answered = true;
                if message.kind == NLMSG_ERROR
                    && let Some(error) = error_of(message.body)?
                {
                    failure.get_or_insert_with(|| Error::kernel(what(message.sequence), error));
                }
                Ok(())
            });
            match received {
                Err(Error::Kernel { source, .. }) if source.kind() == io::ErrorKind::WouldBlock => break,
                other => other?,
            }
        }
        match failure {
            Some(failure) => Err(failure),
            None if answered => Ok(()),
            None => Err(Error::Malformed("no acknowledgement of a transaction")),
        }
    }

    /// Sends one dump request and hands every answered message to `each`.
    pub(crate) fn dump(
        &mut self,
        writer: &MessageWriter,
        what: &str,
        mut each: impl FnMut(u16, &[u8]),
    ) -> Result<(), Error> {
        self.send(writer.finish()?)?;
        let mut done = false;
        while !done {
            self.receive(|message| {
                match message.kind {
                    NLMSG_DONE => done = true,
                    NLMSG_ERROR => {
                        done = true;
                        if let Some(error) = error_of(message.body)? {
                            return Err(Error::kernel(what, error));
                        }
                    }
                    kind => each(kind, message.body),
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Reads and forgets queued events; true when there were any (or some were lost).
    pub(crate) fn drain_events(&mut self) -> Result<bool, Error> {
        let mut any = false;
        loop {
            match self.receive(|_| Ok(())) {
                Ok(()) => any = true,
                Err(Error::Kernel { source, .. }) if source.kind() == io::ErrorKind::WouldBlock => return Ok(any),
                Err(Error::Kernel { source, .. }) if source.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => {
                    any = true;
                }
                Err(other) => return Err(other),
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match send(&self.fd, bytes, SendFlags::empty()) {
            Ok(sent) if sent == bytes.len() => Ok(()),
            Ok(_) => Err(Error::Malformed("a netlink datagram was sent in part")),
            Err(source) => Err(Error::kernel("send a netlink request", source)),
        }
    }

    fn receive(&mut self, mut each: impl FnMut(Message<'_>) -> Result<(), Error>) -> Result<(), Error> {
        let received = recv(
            &self.fd,
            self.buffer.as_mut_slice(),
            RecvFlags::DONTWAIT | RecvFlags::TRUNC,
        );
        let (_, length) = received.map_err(|source| Error::kernel("receive a netlink answer", source))?;
        let data = self
            .buffer
            .get(..length)
            .ok_or(Error::Malformed("an answer longer than the buffer"))?;
        Messages(data).try_for_each(|message| each(message?))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The error inside an error message; `None` for an acknowledgement.
fn error_of(body: &[u8]) -> Result<Option<io::Error>, Error> {
    let code = native32(body).ok_or(Error::Malformed("error message"))? as i32;
    Ok((code != 0).then(|| io::Error::from_raw_os_error(code.wrapping_neg())))
}
