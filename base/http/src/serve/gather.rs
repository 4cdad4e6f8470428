//! What a connection's task writes in one turn leaves together.
//!
//! HTTP/2 flushes behind every DATA frame. A hundred watches of one connection that are told one event would cost a
//! hundred TLS records and as many system calls, which is most of what telling them costs. So writes are gathered
//! here, a flush is put off, and [`turn`] sends what there is when the connection has nothing more to say.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes gathered before they are sent within a turn; what rustls takes at once.
const MOST: usize = 64 << 10;
/// A buffer up to this size is kept for the next turn; an idle connection holds no more.
const KEPT: usize = 4 << 10;

struct Held<S> {
    stream: S,
    gathered: Vec<u8>,
    sent: usize,
}

/// A stream that gathers writes. Its other half sends them.
pub(super) struct Gathered<S>(Arc<Mutex<Held<S>>>);

/// Sends what was gathered.
pub(super) struct Outlet<S>(Arc<Mutex<Held<S>>>);

/// The two halves of a stream.
pub(super) fn gather<S>(stream: S) -> (Gathered<S>, Outlet<S>) {
    let held = Arc::new(Mutex::new(Held {
        stream,
        gathered: Vec::new(),
        sent: 0,
    }));
    (Gathered(held.clone()), Outlet(held))
}

/// Drives a connection over the [`Gathered`] half, given as its poll, to its end.
///
/// Streams of one connection that are told the same event are tasks that run one after another, and the first
/// wakes the connection before the others have spoken. While there are `many` streams, what is gathered therefore
/// waits until the tasks that were ready before have had their turn, and once more for as long as that brings more.
///
/// Errors: the connection's, or that what it wrote could not be sent.
pub(super) async fn turn<S, E>(
    outlet: Outlet<S>,
    many: impl Fn() -> bool,
    mut connection: impl FnMut(&mut Context<'_>) -> Poll<Result<(), E>>,
) -> io::Result<()>
where
    S: AsyncWrite + Unpin,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut waited_with = 0;
    poll_fn(|cx| {
        let ended = connection(cx);
        let unsent = locked(&outlet.0).unsent();
        if ended.is_pending() && unsent > waited_with && many() {
            waited_with = unsent;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        waited_with = 0;
        let sent = locked(&outlet.0).send(cx);
        match (ended, sent) {
            (Poll::Ready(result), _) => Poll::Ready(result.map_err(io::Error::other)),
            (Poll::Pending, Poll::Ready(Err(error))) => Poll::Ready(Err(error)),
            (Poll::Pending, _) => Poll::Pending,
        }
    })
    .await
}

/// The two halves live in one task: the lock is never waited for, and a panic under it ends the connection anyway.
fn locked<S>(held: &Mutex<Held<S>>) -> MutexGuard<'_, Held<S>> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: AsyncWrite + Unpin> Held<S> {
    /// Hands everything to the stream and flushes it.
    fn send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.gathered.len() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.gathered[self.sent..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written;
        }
        self.sent = 0;
        self.gathered.clear();
        if self.gathered.capacity() > KEPT {
            self.gathered = Vec::new();
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn unsent(&self) -> usize {
        self.gathered.len() - self.sent
    }

    /// Waits until there is room to gather more.
    fn room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.gathered.len() < MOST {
            true => Poll::Ready(Ok(())),
            false => self.send(cx),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut locked(&self.0).stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut held = locked(&self.0);
        ready!(held.room(cx))?;
        held.gathered.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut held = locked(&self.0);
        ready!(held.room(cx))?;
        parts.iter().for_each(|part| held.gathered.extend_from_slice(part));
        Poll::Ready(Ok(parts.iter().map(|part| part.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Put off to the end of the turn.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut held = locked(&self.0);
        ready!(held.send(cx))?;
        Pin::new(&mut held.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::task::noop_waker;
    use tokio::io::AsyncReadExt;

    fn write(gathered: &mut Gathered<tokio::io::DuplexStream>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let waker = noop_waker();
        Pin::new(gathered).poll_write(&mut Context::from_waker(&waker), bytes)
    }

    #[tokio::test]
    async fn writes_of_a_turn_leave_when_it_ends_and_a_flush_does_not_send_them() {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let (mut gathered, outlet) = gather(near);
        let waker = noop_waker();
        let mut cx = Context::from_waker(&waker);
        for part in [b"one ", b"two "] {
            assert!(matches!(write(&mut gathered, part), Poll::Ready(Ok(4))));
            assert!(Pin::new(&mut gathered).poll_flush(&mut cx).is_ready());
        }
        let mut buffer = [0; 8];
        let mut reading = Box::pin(far.read_exact(&mut buffer));
        assert!(reading.as_mut().poll(&mut cx).is_pending());
        let mut turns = 0;
        turn(
            outlet,
            || false,
            |_| {
                turns += 1;
                Poll::Ready(Ok::<_, io::Error>(()))
            },
        )
        .await
        .unwrap();
        reading.await.unwrap();
        assert_eq!((&buffer, turns), (b"one two ", 1));
    }

    #[tokio::test]
    async fn what_many_streams_say_at_once_leaves_at_once() {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let (mut gathered, outlet) = gather(near);
        // Each turn of the connection finds that one more stream has spoken, as when a task for each runs in between.
        let parts: [&[u8]; 3] = [b"one ", b"two ", b"three"];
        let mut turns = 0;
        let connection = tokio::spawn(turn(
            outlet,
            || true,
            move |_| {
                if let Some(part) = parts.get(turns) {
                    assert!(write(&mut gathered, part).is_ready());
                }
                turns += 1;
                Poll::<io::Result<()>>::Pending
            },
        ));
        let mut buffer = [0; 64];
        assert_eq!(far.read(&mut buffer).await.unwrap(), 13);
        connection.abort();
    }

    #[tokio::test]
    async fn a_reader_that_does_not_read_holds_the_writer_back() {
        let (near, mut far) = tokio::io::duplex(1024);
        let (mut gathered, _outlet) = gather(near);
        let part = [7; 8 << 10];
        let mut taken = 0;
        while let Poll::Ready(Ok(n)) = write(&mut gathered, &part) {
            taken += n;
        }
        // What was gathered, and not more than one write beyond the bound.
        assert!((MOST..=MOST + part.len()).contains(&taken), "{taken}");
        let reader = tokio::spawn(async move {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.map(|_| all)
        });
        poll_fn(|cx| Pin::new(&mut gathered).poll_shutdown(cx)).await.unwrap();
        assert_eq!(reader.await.unwrap().unwrap(), vec![7; taken]);
    }

    #[tokio::test]
    async fn a_stream_that_is_gone_ends_the_turns() {
        let (near, far) = tokio::io::duplex(16);
        let (mut gathered, outlet) = gather(near);
        drop(far);
        assert!(write(&mut gathered, b"lost").is_ready());
        let ended = turn(outlet, || false, |_| Poll::<io::Result<()>>::Pending).await;
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
