//! The body of a request as a blocking reader, for archives of any size.

use crate::error::{Answer, ApiError};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::io;
use tokio::sync::mpsc;

/// Pieces of a body on their way.
const QUEUE: usize = 16;

/// A request's body, read from a blocking thread. A client that goes before the end is an error.
pub(crate) struct Upload {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
    complete: bool,
}

/// Does blocking work with a request's body.
pub(crate) async fn with_body<T: Send + 'static>(
    mut body: Incoming,
    work: impl FnOnce(Upload) -> Answer<T> + Send + 'static,
) -> Answer<T> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let upload = Upload {
        receiver,
        current: Bytes::new(),
        complete: false,
    };
    let working = tokio::task::spawn_blocking(move || work(upload));
    loop {
        let piece = match body.frame().await {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(bytes) if !bytes.is_empty() => Ok(bytes),
                _ => continue,
            },
            Some(Err(error)) => Err(io::Error::other(error)),
            // Nothing stands for the end, so that a dropped sender does not.
            None => Ok(Bytes::new()),
        };
        let last = !matches!(&piece, Ok(bytes) if !bytes.is_empty());
        // Whoever reads may have enough before the end.
        if sender.send(piece).await.is_err() || last {
            break;
        }
    }
    drop(sender);
    working
        .await
        .map_err(|_| ApiError::internal("the engine is shutting down"))?
}

impl io::Read for Upload {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.current.is_empty() && !self.complete {
            match self.receiver.blocking_recv() {
                Some(piece) => self.current = piece?,
                None => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the client has gone")),
            }
            self.complete = self.current.is_empty();
        }
        let count = buffer.len().min(self.current.len());
        buffer[..count].copy_from_slice(&self.current.split_to(count));
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn read(pieces: Vec<io::Result<Bytes>>) -> io::Result<String> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        for piece in pieces {
            sender.blocking_send(piece).expect("room");
        }
        drop(sender);
        let mut upload = Upload {
            receiver,
            current: Bytes::new(),
            complete: false,
        };
        let mut text = String::new();
        upload.read_to_string(&mut text).map(|_| text)
    }

    #[test]
    fn a_body_that_is_cut_short_is_no_body() {
        let whole = read(vec![Ok("ab".into()), Ok("c".into()), Ok(Bytes::new())]);
        assert_eq!(whole.expect("whole"), "abc");
        assert!(read(vec![Ok("ab".into())]).is_err());
        assert!(read(vec![Ok("ab".into()), Err(io::Error::other("reset"))]).is_err());
    }
}
