//! One client of the shim.

use crate::frame;
use crate::protocol::Reply;
use alloc::string::String;
use rustix::event::PollFlags;
use rustix::fd::{BorrowedFd, OwnedFd};

pub(super) struct Client {
    pub(super) number: u64,
    pub(super) socket: OwnedFd,
    /// The process whose end it waits for: container, and one of its further processes.
    pub(super) waiting: Option<(String, Option<String>)>,
    pub(super) subscribed: bool,
    pub(super) closed: bool,
}

impl Client {
    pub(super) fn new(number: u64, socket: OwnedFd) -> Self {
        Client {
            number,
            socket,
            waiting: None,
            subscribed: false,
            closed: false,
        }
    }

    /// Whether it may not ask now.
    pub(super) fn is_busy(&self) -> bool {
        self.waiting.is_some() || self.subscribed
    }

    pub(super) fn interest(&self) -> PollFlags {
        PollFlags::IN | PollFlags::RDHUP
    }

    /// Sends a reply. The socket does not block: a client whose buffer is full is cut off.
    pub(super) fn reply(&mut self, reply: &Reply, descriptors: &[BorrowedFd<'_>]) {
        if frame::send(&self.socket, reply, descriptors).is_err() {
            self.closed = true;
        }
    }
}
