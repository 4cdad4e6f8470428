//! A byte stream of any kind.

use tokio::io::{AsyncRead, AsyncWrite};

/// Any bidirectional byte stream: TCP, TLS, an upgraded connection, a tunnel.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A byte stream whose type does not matter any more.
pub type BoxedIo = Box<dyn Io>;
