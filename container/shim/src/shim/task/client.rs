//! A connection that carries ttrpc, to containerd or from it. It does not block.

use alloc::vec::Vec;
use rustix::event::PollFlags;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::{RecvFlags, SendFlags};
use strata_sys::Errno;
use strata_ttrpc::frame::{self, Decoder, Frame};

/// Bytes read at a time.
const CHUNK: usize = 4096;

/// Pieces read before others have their turn.
const TURN: usize = 64;

/// Bytes that a peer may leave unread before it is cut off.
const OUTPUT_LIMIT: usize = 16 << 20;

pub(super) struct Wire {
    socket: OwnedFd,
    decoder: Decoder,
    output: Vec<u8>,
    pub(super) closed: bool,
}

impl Wire {
    /// Over a connected socket that does not block.
    pub(super) fn new(socket: OwnedFd) -> Self {
        Wire {
            socket,
            decoder: Decoder::default(),
            output: Vec::new(),
            closed: false,
        }
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn interest(&self) -> PollFlags {
        if self.output.is_empty() {
            PollFlags::IN
        } else {
            PollFlags::IN | PollFlags::OUT
        }
    }

    /// Whether everything said has been handed over.
    pub(super) fn is_flushed(&self) -> bool {
        self.closed || self.output.is_empty()
    }

    /// Sends what waits, and takes the frames that have arrived.
    pub(super) fn ready(&mut self) -> Vec<Frame> {
        self.flush();
        let mut frames = Vec::new();
        let mut buffer = [0; CHUNK];
        for _ in 0..TURN {
            match rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::empty()) {
                Ok((0, _)) => {
                    self.closed = true;
                    break;
                }
                Ok((count, _)) => {
                    self.decoder.push(&buffer[..count]);
                    while let Some(frame) = self.decoder.next_frame() {
                        frames.push(frame);
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => {
                    self.closed = true;
                    break;
                }
            }
        }
        frames
    }

    /// Says a frame, now or when the peer reads.
    pub(super) fn send(&mut self, stream: u32, kind: u8, body: &[u8]) {
        if self.closed {
            return;
        }
        let bytes = frame::encode(stream, kind, body);
        if self.output.is_empty() {
            self.output = bytes;
        } else {
            self.output.extend_from_slice(&bytes);
        }
        self.flush();
        if self.output.len() > OUTPUT_LIMIT {
            self.closed = true;
        }
    }

    fn flush(&mut self) {
        let mut done = 0;
        while done < self.output.len() && !self.closed {
            match rustix::net::send(&self.socket, &self.output[done..], SendFlags::NOSIGNAL) {
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => self.closed = true,
            }
        }
        if done == self.output.len() {
            self.output = Vec::new();
        } else {
            self.output.drain(..done);
        }
    }
}

/// containerd, asking.
pub(super) struct Client {
    pub(super) number: u64,
    pub(super) wire: Wire,
    /// Streams have rising numbers.
    pub(super) last_stream: u32,
}

/// Whom an answer is for.
#[derive(Clone, Copy)]
pub(super) struct Caller {
    pub(super) client: u64,
    pub(super) stream: u32,
}
