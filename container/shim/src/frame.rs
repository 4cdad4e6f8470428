//! One JSON message per datagram; long ones in a sealed memfd.

use crate::protocol::MESSAGE_LIMIT;
use alloc::{vec, vec::Vec};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use serde::{Serialize, de::DeserializeOwned};
use strata_sys::{Errno, message};

/// Longest datagram: what is longer goes into a memfd.
const INLINE_LIMIT: usize = 32 << 10;

/// The datagram that says "the text is in the first descriptor".
const IN_MEMFD: &[u8] = b"M";

/// Sends `value` and `descriptors`. Errors: `EMSGSIZE` if it is longer than the limit.
pub(crate) fn send<T: Serialize>(socket: impl AsFd, value: &T, descriptors: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let text = serde_json::to_vec(value).map_err(|_| Errno::INVAL)?;
    if text.len() <= INLINE_LIMIT {
        return message::send(socket, &text, descriptors);
    }
    if text.len() > MESSAGE_LIMIT {
        return Err(Errno::MSGSIZE);
    }
    let file = strata_sys::file::sealed("strata-message", &text)?;
    let mut all = vec![file.as_fd()];
    all.extend_from_slice(descriptors);
    message::send(socket, IN_MEMFD, &all)
}

/// A received message: its value, or why its text makes no sense, and its descriptors.
pub(crate) type Received<T> = (Result<T, serde_json::Error>, Vec<OwnedFd>);

/// Receives one message; `None` when the other side closed.
pub(crate) fn receive<T: DeserializeOwned>(socket: impl AsFd) -> Result<Option<Received<T>>, Errno> {
    let mut buffer = vec![0; INLINE_LIMIT];
    let (length, mut descriptors) = message::receive(socket, &mut buffer)?;
    if length == 0 {
        return Ok(None);
    }
    buffer.truncate(length);
    if buffer == IN_MEMFD {
        if descriptors.is_empty() {
            return Err(Errno::PROTO);
        }
        // Sealed, so that reading it cannot block and it cannot change meanwhile.
        buffer = strata_sys::file::read_sealed(descriptors.remove(0), MESSAGE_LIMIT)?;
    }
    Ok(Some((serde_json::from_slice(&buffer), descriptors)))
}
