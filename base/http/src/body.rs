//! The one body type of requests and responses made here.

use bytes::Bytes;
use futures::Stream;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::sync::mpsc;

/// Any error a body may end with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body: nothing, bytes in hand, or a stream of them.
#[derive(Default)]
pub struct Body(Kind, Option<Box<dyn Send>>);

#[derive(Default)]
enum Kind {
    #[default]
    Empty,
    Full(Bytes),
    Channel(mpsc::Receiver<Result<Bytes, BoxError>>),
    Other(Pin<Box<dyn http_body::Body<Data = Bytes, Error = BoxError> + Send>>),
}

impl Body {
    /// No bytes.
    pub fn empty() -> Self {
        Self(Kind::Empty, None)
    }

    /// Bytes in hand; their length becomes the content length.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let kind = if bytes.is_empty() {
            Kind::Empty
        } else {
            Kind::Full(bytes)
        };
        Self(kind, None)
    }

    /// Keeps something until the body is done with, such as what counts it.
    pub fn hold(&mut self, something: impl Send + 'static) {
        self.1 = Some(match self.1.take() {
            None => Box::new(something),
            Some(before) => Box::new((before, something)),
        });
    }

    /// Chunks as they come; each is sent at once.
    pub fn stream<S>(chunks: S) -> Self
    where
        S: Stream<Item = Result<Bytes, BoxError>> + Send + 'static,
    {
        use futures::TryStreamExt;
        Self::wrap(http_body_util::StreamBody::new(chunks.map_ok(Frame::data)))
    }

    /// A body fed from elsewhere, holding at most `capacity` chunks.
    pub fn channel(capacity: usize) -> (BodySender, Self) {
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        (BodySender(sender), Self(Kind::Channel(receiver), None))
    }

    /// Any other body, for instance one that is passed on.
    pub fn wrap<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self(Kind::Other(Box::pin(body.map_err(Into::into))), None)
    }
}

/// Feeds a [`Body::channel`]. Dropping it ends the body.
#[derive(Clone)]
pub struct BodySender(mpsc::Sender<Result<Bytes, BoxError>>);

impl BodySender {
    /// Hands over a chunk, waiting for room. Errors: `BrokenPipe` when the reader has gone.
    pub async fn send(&self, chunk: impl Into<Bytes>) -> io::Result<()> {
        self.0
            .send(Ok(chunk.into()))
            .await
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Hands over a chunk if there is room. Errors: `WouldBlock` when full, `BrokenPipe` when the reader has gone.
    pub fn try_send(&self, chunk: impl Into<Bytes>) -> io::Result<()> {
        self.0.try_send(Ok(chunk.into())).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => io::ErrorKind::WouldBlock.into(),
            mpsc::error::TrySendError::Closed(_) => io::ErrorKind::BrokenPipe.into(),
        })
    }

    /// Ends the body with an error: the connection (HTTP/1.1) or stream (HTTP/2) is reset.
    pub async fn abort(self, error: impl Into<BoxError>) {
        // A reader that has gone needs no telling.
        let _ = self.0.send(Err(error.into())).await;
    }

    /// Resolves when the reader has gone.
    pub async fn closed(&self) {
        self.0.closed().await;
    }

    /// Whether the reader has gone.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Kind::Empty => Poll::Ready(None),
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Kind::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Kind::Channel(receiver) => receiver
                .poll_recv(cx)
                .map(|item| item.map(|chunk| chunk.map(Frame::data))),
            Kind::Other(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Full(_) | Kind::Channel(_) => false,
            Kind::Other(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Channel(_) => SizeHint::default(),
            Kind::Other(body) => body.size_hint(),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::full(bytes)
    }
}

impl From<hyper::body::Incoming> for Body {
    fn from(body: hyper::body::Incoming) -> Self {
        Self::wrap(body)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Kind::Empty => "Body::empty",
            Kind::Full(_) => "Body::full",
            Kind::Channel(_) => "Body::channel",
            Kind::Other(_) => "Body::wrap",
        })
    }
}
