//! Frames: ten bytes of header and a body.
//!
//! ttrpc PROTOCOL.md: length, stream (both big endian), kind, flags. Streams that a client begins have odd numbers,
//! each higher than the one before.

use alloc::vec::Vec;
use core::mem;

/// Bytes before the body.
const HEADER: usize = 10;

/// Longest body; longer ones are skipped and told of.
pub const BODY_LIMIT: usize = 4 << 20;

/// A call.
pub const REQUEST: u8 = 1;
/// The answer to a call.
pub const RESPONSE: u8 = 2;
/// More of a stream.
pub const DATA: u8 = 3;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Number of the stream.
    pub stream: u32,
    /// [`REQUEST`], [`RESPONSE`], [`DATA`] or what nobody knows yet.
    pub kind: u8,
    /// Bits that depend on the kind.
    pub flags: u8,
    /// Its content; `None` when it was longer than [`BODY_LIMIT`].
    pub body: Option<Vec<u8>>,
}

/// The bytes of a frame. The body is not longer than [`BODY_LIMIT`].
pub fn encode(stream: u32, kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend_from_slice(&(body.len() as u32).to_be_bytes());
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(&[kind, 0]);
    bytes.extend_from_slice(body);
    bytes
}

/// Takes frames out of bytes that arrive in pieces. Holds at most one frame and what came with it.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// Bytes of a body that is too long.
    skip: usize,
}

impl Decoder {
    /// Takes what has arrived; then [`Decoder::next_frame`] until there is none.
    pub fn push(&mut self, bytes: &[u8]) {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        self.buffer.extend_from_slice(&bytes[skipped..]);
    }

    /// The next frame that is whole.
    pub fn next_frame(&mut self) -> Option<Frame> {
        let header = self.buffer.get(..HEADER)?;
        let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (length, stream) = (number(0) as usize, number(4));
        let (kind, flags) = (header[8], header[9]);
        let mut frame = Frame {
            stream,
            kind,
            flags,
            body: None,
        };
        if length > BODY_LIMIT {
            let here = length.min(self.buffer.len() - HEADER);
            self.buffer.drain(..HEADER + here);
            self.skip = length - here;
            return Some(frame);
        }
        let end = HEADER + length;
        if self.buffer.len() < end {
            return None;
        }
        let rest = if self.buffer.len() == end {
            Vec::new()
        } else {
            self.buffer[end..].to_vec()
        };
        // What is left is small, and an idle connection keeps nothing.
        let mut whole = mem::replace(&mut self.buffer, rest);
        whole.truncate(end);
        frame.body = Some(whole.split_off(HEADER));
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    #[test]
    fn frames_come_out_however_the_bytes_are_cut() {
        let mut bytes = encode(1, REQUEST, b"first");
        bytes.extend(encode(3, DATA, b""));
        bytes.extend(encode(5, RESPONSE, &[7; 300]));
        for cut in 1..bytes.len() {
            let mut decoder = Decoder::default();
            let mut frames = Vec::new();
            for piece in bytes.chunks(cut) {
                decoder.push(piece);
                frames.extend(core::iter::from_fn(|| decoder.next_frame()));
            }
            let seen: Vec<_> = frames
                .iter()
                .map(|frame| (frame.stream, frame.kind, frame.body.as_ref().map(Vec::len)))
                .collect();
            assert_eq!(
                seen,
                [(1, 1, Some(5)), (3, 3, Some(0)), (5, 2, Some(300))],
                "cut at {cut}"
            );
            assert!(decoder.buffer.is_empty());
        }
    }

    #[test]
    fn a_body_that_is_too_long_is_told_of_and_skipped() {
        let mut decoder = Decoder::default();
        let length = BODY_LIMIT + 1;
        decoder.push(&(length as u32).to_be_bytes());
        decoder.push(&[0, 0, 0, 9, REQUEST, 0]);
        let frame = decoder.next_frame().unwrap();
        assert_eq!((frame.stream, frame.body), (9, None));
        let mut sent = 0;
        while sent < length {
            let piece = (length - sent).min(64 << 10);
            decoder.push(&vec![0; piece]);
            assert!(decoder.next_frame().is_none() && decoder.buffer.is_empty());
            sent += piece;
        }
        decoder.push(&encode(11, REQUEST, b"x"));
        assert_eq!(decoder.next_frame().unwrap().stream, 11);
    }
}
