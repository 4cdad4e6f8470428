//! A client's connection that was taken over from HTTP.

use bytes::{Buf, Bytes};
use hyper::upgrade::{OnUpgrade, Parts};
use hyper_util::rt::TokioIo;
use rustix::ioctl::{Getter, ioctl};
use std::ffi::c_int;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

/// Bytes that the other side of a socket has not read (unix(7)).
const SIOCOUTQ: u32 = 0x5411;
/// How long a client may take to read the head of an answer before output follows it all the same.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between two looks; the kernel has no event for that.
const LOOK_AGAIN: Duration = Duration::from_micros(500);

/// The connection, with what the client sent behind its request.
pub(crate) struct Connection {
    sent: Bytes,
    stream: UnixStream,
}

impl Connection {
    /// Takes a connection over once the answer's head was sent, and read: some clients read the head through a
    /// buffer and the rest without, and would lose what comes in one piece with it.
    pub async fn take(upgrade: OnUpgrade) -> io::Result<Self> {
        let upgraded = upgrade.await.map_err(io::Error::other)?;
        let parts: Parts<TokioIo<UnixStream>> = upgraded
            .downcast()
            .map_err(|_| io::Error::other("the connection is of another kind"))?;
        let connection = Self {
            sent: parts.read_buf,
            stream: parts.io.into_inner(),
        };
        let deadline = Instant::now() + PATIENCE;
        while connection.unread()? > 0 && Instant::now() < deadline {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(connection)
    }

    fn unread(&self) -> io::Result<c_int> {
        // SAFETY: SIOCOUTQ writes one int to the place it is given, and nothing else.
        let unread = unsafe { ioctl(&self.stream, Getter::<SIOCOUTQ, c_int>::new()) };
        Ok(unread?)
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.sent.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let count = self.sent.len().min(buffer.remaining());
        buffer.put_slice(&self.sent[..count]);
        self.sent.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
