//! Carrying a process's streams over a connection that was taken over.

use crate::error::{Answer, ApiError};
use strata_engine::SessionParts;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::oneshot;

/// Bytes carried at a time.
const CHUNK: usize = 32 << 10;
/// What docker detaches by unless told otherwise: ctrl-p ctrl-q.
const DEFAULT_KEYS: [u8; 2] = [16, 17];
const STDOUT: u8 = 1;
const STDERR: u8 = 2;

/// A sequence of keys that ends a session and leaves the process alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keys {
    sequence: Vec<u8>,
    matched: usize,
}

impl Keys {
    /// `ctrl-p,ctrl-q`, `a,b`; an empty text is the default.
    pub fn parse(text: &str) -> Answer<Option<Self>> {
        if text.is_empty() {
            return Ok(Some(Self::of(DEFAULT_KEYS.to_vec())));
        }
        let sequence: Option<Vec<u8>> = text.split(',').map(key).collect();
        match sequence {
            Some(sequence) => Ok(Some(Self::of(sequence))),
            None => Err(ApiError::invalid(format!("Invalid detach keys ({text}) provided"))),
        }
    }

    fn of(sequence: Vec<u8>) -> Self {
        Self { sequence, matched: 0 }
    }

    /// What of the input is to be passed on, and whether the sequence is complete. The beginning of a
    /// sequence is held back until it is clear that it is none.
    pub fn filter(&mut self, input: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(input.len());
        for byte in input {
            if *byte != self.sequence[self.matched] {
                passed.extend_from_slice(&self.sequence[..self.matched]);
                self.matched = 0;
            }
            if *byte != self.sequence[self.matched] {
                passed.push(*byte);
                continue;
            }
            self.matched += 1;
            if self.matched == self.sequence.len() {
                self.matched = 0;
                return (passed, true);
            }
        }
        (passed, false)
    }
}

fn key(text: &str) -> Option<u8> {
    if let [single] = text.as_bytes() {
        return Some(*single);
    }
    match text.strip_prefix("ctrl-")?.as_bytes() {
        [letter @ b'a'..=b'z'] => Some(letter - b'a' + 1),
        [b'@'] => Some(0),
        [b'['] => Some(27),
        [b'\\'] => Some(28),
        [b']'] => Some(29),
        [b'^'] => Some(30),
        [b'_'] => Some(31),
        _ => None,
    }
}

/// A process's streams on their way to and from a client.
pub(crate) struct Pump {
    pub session: SessionParts,
    /// Whether output is cut into frames that say which stream it is of.
    pub framed: bool,
    /// Ends the session.
    pub keys: Option<Keys>,
}

/// How a session ended.
pub(crate) struct Over {
    /// By its keys.
    pub detached: bool,
}

impl Pump {
    /// Carries until output ends, the client goes or detaches.
    pub async fn run<R, W>(self, from_client: R, mut to_client: W) -> Over
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin,
    {
        let SessionParts {
            stdin, stdout, stderr, ..
        } = self.session;
        let (gone, mut input_over) = oneshot::channel();
        let has_output = stdout.is_some() || stderr.is_some();
        let input = tokio::spawn(feed(from_client, stdin, self.keys, gone));
        let detached = if has_output {
            tokio::select! {
                () = carry(stdout, stderr, self.framed, &mut to_client) => false,
                over = &mut input_over => over.is_ok(),
            }
        } else {
            input_over.await.is_ok()
        };
        input.abort();
        finish(to_client).await;
        Over { detached }
    }
}

/// Ends the server's half, so that the client sees the end.
pub(crate) async fn finish(mut to_client: impl AsyncWrite + Unpin) {
    // The client may have gone.
    let _ = to_client.shutdown().await;
}

/// Passes input on; tells when the keys were pressed, and holds the telling back otherwise.
async fn feed(
    mut from_client: impl AsyncRead + Unpin,
    mut stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    mut keys: Option<Keys>,
    detached: oneshot::Sender<()>,
) {
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = match from_client.read(&mut buffer).await {
            Ok(count) if count > 0 => count,
            _ => break,
        };
        let (bytes, over) = match &mut keys {
            Some(keys) => keys.filter(&buffer[..count]),
            None => (buffer[..count].to_vec(), false),
        };
        if let Some(open) = &mut stdin
            && (open.write_all(&bytes).await.is_err() || open.flush().await.is_err())
        {
            stdin = None;
        }
        if over {
            // The session is over, whoever listens.
            let _ = detached.send(());
            return;
        }
    }
    // The process sees the end of its input; the client may still read.
    if let Some(mut open) = stdin.take() {
        // What it did not take is lost either way.
        let _ = open.shutdown().await;
    }
    drop(stdin);
    // Not told: output goes on.
    std::future::pending::<()>().await;
}

/// Both outputs to the client, until both have ended or it has gone.
async fn carry(
    mut stdout: Option<Box<dyn AsyncRead + Send + Unpin>>,
    mut stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    framed: bool,
    to_client: &mut (impl AsyncWrite + Unpin),
) {
    let (mut out, mut err) = (vec![0; CHUNK], vec![0; CHUNK]);
    while stdout.is_some() || stderr.is_some() {
        let written = tokio::select! {
            count = read(&mut stdout, &mut out), if stdout.is_some() => match count {
                Some(count) => write(to_client, STDOUT, &out[..count], framed).await,
                None => Ok(()),
            },
            count = read(&mut stderr, &mut err), if stderr.is_some() => match count {
                Some(count) => write(to_client, STDERR, &err[..count], framed).await,
                None => Ok(()),
            },
        };
        if written.is_err() {
            return;
        }
    }
}

async fn read(stream: &mut Option<Box<dyn AsyncRead + Send + Unpin>>, buffer: &mut [u8]) -> Option<usize> {
    let open = stream.as_mut()?;
    match open.read(buffer).await {
        Ok(count) if count > 0 => Some(count),
        _ => {
            *stream = None;
            None
        }
    }
}

/// One piece of output, as a frame or as it is.
pub(crate) async fn write(
    to_client: &mut (impl AsyncWrite + Unpin),
    stream: u8,
    bytes: &[u8],
    framed: bool,
) -> std::io::Result<()> {
    if framed {
        to_client.write_all(&frame(stream, bytes)).await?;
    } else {
        to_client.write_all(bytes).await?;
    }
    to_client.flush().await
}

/// A frame: the stream's number, three zeros, the length, the bytes.
pub(crate) fn frame(stream: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let mut all = Vec::with_capacity(8 + bytes.len());
    all.extend_from_slice(&[stream, 0, 0, 0]);
    all.extend_from_slice(&length.to_be_bytes());
    all.extend_from_slice(bytes);
    all
}

/// The streams once they are granted; nothing if the container does not start. What a client types before
/// that stays unread, and is carried afterwards.
pub(crate) async fn granted(
    receiver: oneshot::Receiver<SessionParts>,
    from_client: &mut (impl AsyncRead + Unpin),
    may_type: bool,
) -> Option<SessionParts> {
    if may_type {
        return receiver.await.ok();
    }
    let mut nothing = [0; 1];
    let mut receiver = std::pin::pin!(receiver);
    tokio::select! {
        session = &mut receiver => session.ok(),
        read = from_client.read(&mut nothing) => match read {
            // Half closed: it listens still.
            Ok(0) => receiver.await.ok(),
            Ok(_) => receiver.await.ok(),
            Err(_) => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys_are_read_and_found_in_any_cut() {
        assert_eq!(Keys::parse("ctrl-a,x").expect("valid"), Some(Keys::of(vec![1, b'x'])));
        assert!(Keys::parse("ctrl-1").is_err() && Keys::parse("ab").is_err());
        let mut keys = Keys::of(vec![16, 17]);
        assert_eq!(keys.filter(b"ab"), (b"ab".to_vec(), false));
        assert_eq!(keys.filter(&[16]), (vec![], false));
        assert_eq!(keys.filter(&[b'x', 16, 16]), (vec![16, b'x', 16], false));
        assert_eq!(keys.filter(&[17, b'z']), (vec![], true));
    }

    #[test]
    fn a_frame_names_its_stream_and_length() {
        assert_eq!(frame(2, b"abc"), [2, 0, 0, 0, 0, 0, 0, 3, b'a', b'b', b'c']);
    }

    #[tokio::test]
    async fn output_is_carried_in_frames_until_it_ends() {
        let session = SessionParts {
            stdin: None,
            stdout: Some(Box::new(&b"out"[..])),
            stderr: Some(Box::new(&b""[..])),
            resize: std::sync::Arc::new(|_, _| Box::pin(std::future::ready(Ok(())))),
            exit: Box::pin(std::future::ready(Ok(0))),
        };
        let pump = Pump {
            session,
            framed: true,
            keys: None,
        };
        let (client, server) = tokio::io::duplex(1024);
        let (from_client, to_client) = tokio::io::split(server);
        assert!(!pump.run(from_client, to_client).await.detached);
        let (mut reader, _writer) = tokio::io::split(client);
        let mut all = Vec::new();
        reader.read_to_end(&mut all).await.expect("readable");
        assert_eq!(all, frame(STDOUT, b"out"));
    }
}
