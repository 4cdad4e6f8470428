//! One JSON message per datagram; long ones in a sealed memfd.

use crate::protocol::MESSAGE_LIMIT;
use serde::{Serialize, de::DeserializeOwned};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use strata_sys::message;

/// Longest datagram: what is longer goes into a memfd.
const INLINE_LIMIT: usize = 32 << 10;

/// The datagram that says "the text is in the first descriptor".
const IN_MEMFD: &[u8] = b"M";

/// Sends `value` and `descriptors`.
pub(crate) fn send<T: Serialize>(socket: impl AsFd, value: &T, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let text = serde_json::to_vec(value)?;
    if text.len() <= INLINE_LIMIT {
        return message::send(socket, &text, descriptors);
    }
    if text.len() > MESSAGE_LIMIT {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "message longer than the limit of 4 MiB",
        ));
    }
    let mut file = File::from(rustix::fs::memfd_create(
        "strata-message",
        rustix::fs::MemfdFlags::CLOEXEC | rustix::fs::MemfdFlags::ALLOW_SEALING,
    )?);
    file.write_all(&text)?;
    use rustix::fs::SealFlags;
    rustix::fs::fcntl_add_seals(
        &file,
        SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
    )?;
    let mut all = vec![file.as_fd()];
    all.extend_from_slice(descriptors);
    message::send(socket, IN_MEMFD, &all)
}

/// Receives one message; `None` when the other side closed.
pub(crate) fn receive<T: DeserializeOwned>(socket: impl AsFd) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut buffer = vec![0; INLINE_LIMIT];
    let (length, mut descriptors) = message::receive(socket, &mut buffer)?;
    if length == 0 {
        return Ok(None);
    }
    buffer.truncate(length);
    if buffer == IN_MEMFD {
        if descriptors.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "message without its text"));
        }
        buffer = read_sealed(descriptors.remove(0))?;
    }
    Ok(Some((serde_json::from_slice(&buffer)?, descriptors)))
}

/// The text of a sealed memfd: sealed, so that reading it cannot block and it cannot shrink meanwhile.
fn read_sealed(descriptor: OwnedFd) -> io::Result<Vec<u8>> {
    use rustix::fs::SealFlags;
    let wanted = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    let file = File::from(descriptor);
    if !rustix::fs::fcntl_get_seals(&file)?.contains(wanted) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "message text is not sealed"));
    }
    let length = file.metadata()?.len();
    if length > MESSAGE_LIMIT as u64 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "message longer than the limit of 4 MiB",
        ));
    }
    let mut text = vec![0; length as usize];
    file.read_exact_at(&mut text, 0)?;
    Ok(text)
}
