//! One stream of a session.

use super::{
    frame::{Frame, status},
    session::Shared,
};
use bytes::{Buf, Bytes};
use http::HeaderMap;
use std::{
    fmt, io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::mpsc,
};
use tokio_util::sync::PollSender;

/// Most bytes of a data frame sent; keeps streams fair to each other.
const MAX_DATA: usize = 16 << 10;
/// Consumed bytes after which the peer is told.
const WINDOW_STEP: u32 = 32 << 10;

/// What the session's reader tells a stream beside its bytes.
#[derive(Debug, Default)]
pub(super) struct Ending {
    /// The peer sends no more, as it said.
    pub(super) finished: AtomicBool,
    /// The peer gave the stream up.
    pub(super) reset: AtomicBool,
}

/// A stream: bytes both ways. Reading ends when the peer closes its half; `shutdown` (or dropping) closes ours.
pub struct Stream {
    id: u32,
    headers: HeaderMap,
    inbound: mpsc::Receiver<Bytes>,
    chunk: Bytes,
    consumed: u32,
    outbound: PollSender<Frame>,
    ending: Arc<Ending>,
    shared: Arc<Shared>,
    closed: bool,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("id", &self.id)
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}

impl Stream {
    pub(super) fn new(
        id: u32,
        headers: HeaderMap,
        inbound: mpsc::Receiver<Bytes>,
        ending: Arc<Ending>,
        shared: Arc<Shared>,
    ) -> Self {
        let outbound = PollSender::new(shared.frames.clone());
        Self {
            id,
            headers,
            inbound,
            chunk: Bytes::new(),
            consumed: 0,
            outbound,
            ending,
            shared,
            closed: false,
        }
    }

    /// The stream's number: odd if the client opened it.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The headers it was opened with.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The text of a header; `""` if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// Accepts a stream that the peer opened (SYN_REPLY).
    pub async fn reply(&self) -> io::Result<()> {
        self.shared
            .send(Frame::SynReply {
                stream: self.id,
                headers: HeaderMap::new(),
            })
            .await
    }

    /// Gives the stream up, both ways.
    pub async fn reset(mut self) -> io::Result<()> {
        self.closed = true;
        self.shared.forget(self.id);
        self.shared
            .send(Frame::RstStream {
                stream: self.id,
                status: status::CANCEL,
            })
            .await
    }

    fn consume(&mut self, count: usize) {
        self.consumed = self.consumed.saturating_add(count as u32);
        if self.consumed >= WINDOW_STEP {
            // Only peers that count need this; if the queue is full now, the next step tells them.
            let update = Frame::WindowUpdate {
                stream: self.id,
                delta: self.consumed,
            };
            if self.shared.frames.try_send(update).is_ok() {
                self.consumed = 0;
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.chunk.is_empty() {
            match ready!(self.inbound.poll_recv(cx)) {
                Some(chunk) => self.chunk = chunk,
                None if self.ending.finished.load(Ordering::Acquire) => return Poll::Ready(Ok(())),
                None => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            }
        }
        let count = self.chunk.len().min(buf.remaining());
        buf.put_slice(&self.chunk[..count]);
        self.chunk.advance(count);
        self.consume(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.closed || self.ending.reset.load(Ordering::Acquire) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if ready!(self.outbound.poll_reserve(cx)).is_err() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let bytes = Bytes::copy_from_slice(&buf[..buf.len().min(MAX_DATA)]);
        let count = bytes.len();
        let frame = Frame::Data {
            stream: self.id,
            bytes,
            fin: false,
        };
        self.outbound
            .send_item(frame)
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The session's writer flushes whenever its queue is empty.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closed || self.ending.reset.load(Ordering::Acquire) {
            return Poll::Ready(Ok(()));
        }
        if ready!(self.outbound.poll_reserve(cx)).is_ok() {
            let frame = Frame::Data {
                stream: self.id,
                bytes: Bytes::new(),
                fin: true,
            };
            // The session has ended, and the half with it.
            let _ = self.outbound.send_item(frame);
        }
        self.closed = true;
        self.shared.close_local(self.id);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.closed || self.ending.reset.load(Ordering::Acquire) {
            return;
        }
        self.shared.close_local(self.id);
        let frame = Frame::Data {
            stream: self.id,
            bytes: Bytes::new(),
            fin: true,
        };
        if let Err(mpsc::error::TrySendError::Full(frame)) = self.shared.frames.try_send(frame)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            // At most one such task per stream, and streams are bounded.
            let frames = self.shared.frames.clone();
            runtime.spawn(async move { drop(frames.send(frame).await) });
        }
    }
}
