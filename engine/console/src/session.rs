//! A connection that is a container's streams: ours on this side, frames or a terminal on the other.

use crate::client::{Ask, Client};
use crate::terminal::{self, Keys, Raw};
use http::Method;
use std::io::{Read, Write};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

const CHUNK: usize = 32 << 10;
/// Longest frame that is taken.
const MAX_FRAME: usize = 64 << 20;
/// Pieces of input on their way.
const QUEUE: usize = 16;
/// Signals that are not passed on: those of our own children, pipes and terminal, and what cannot be caught.
const KEPT: [i32; 6] = [9, 13, 17, 19, 23, 28];

/// How a session is carried.
pub(crate) struct Session<'a> {
    /// Our input goes in.
    pub stdin: bool,
    /// There is a terminal, so there are no frames.
    pub tty: bool,
    /// Keys that end the session.
    pub detach_keys: &'a str,
}

/// How a session ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The other side has nothing more to say.
    Over,
    /// The keys were pressed.
    Detached,
}

impl Session<'_> {
    /// Carries until the other side ends or the keys are pressed.
    pub async fn carry<C>(&self, connection: C) -> Result<End, String>
    where
        C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let keys = Keys::parse(self.detach_keys)?;
        let _raw = if self.tty && self.stdin { Raw::enter() } else { None };
        let (reader, writer) = tokio::io::split(connection);
        let input = if self.stdin {
            let keys = self.tty.then_some(keys);
            tokio::spawn(feed(typed(), writer, keys))
        } else {
            // Kept open: closing it would end the input of others.
            tokio::spawn(async move {
                let _writer = writer;
                std::future::pending::<End>().await
            })
        };
        let abort = input.abort_handle();
        let output = async {
            match self.tty {
                true => plain(reader).await,
                false => frames(reader).await,
            }
        };
        let end = tokio::select! {
            result = output => result.map(|()| End::Over),
            end = input => Ok(end.unwrap_or(End::Over)),
        };
        abort.abort();
        end
    }
}

/// What comes by standard input. Read by a thread of its own, which nobody waits for at the end.
fn typed() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    std::thread::spawn(move || {
        let mut buffer = vec![0; CHUNK];
        loop {
            match std::io::stdin().read(&mut buffer) {
                Ok(count) if count > 0 => {
                    if sender.blocking_send(buffer[..count].to_vec()).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                _ => return,
            }
        }
    });
    receiver
}

async fn feed(mut typed: mpsc::Receiver<Vec<u8>>, mut writer: impl AsyncWrite + Unpin, mut keys: Option<Keys>) -> End {
    while let Some(bytes) = typed.recv().await {
        let pressed = keys.as_mut().is_some_and(|keys| keys.pressed(&bytes));
        if writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err() {
            break;
        }
        if pressed {
            return End::Detached;
        }
    }
    // The end of our input is the end of theirs; output goes on.
    let _ = writer.shutdown().await;
    std::future::pending().await
}

/// What comes, to standard output as it is.
pub(crate) async fn plain(mut reader: impl AsyncRead + Unpin) -> Result<(), String> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match reader.read(&mut buffer).await {
            Ok(0) | Err(_) => return Ok(()),
            Ok(count) => put(1, &buffer[..count])?,
        }
    }
}

/// Writes to standard output, or standard error for stream 2. May wait for who reads it.
fn put(stream: u8, bytes: &[u8]) -> Result<(), String> {
    let write = |mut target: Box<dyn Write>| target.write_all(bytes).and_then(|()| target.flush());
    let written = tokio::task::block_in_place(|| match stream {
        2 => write(Box::new(std::io::stderr())),
        _ => write(Box::new(std::io::stdout())),
    });
    written.map_err(|error| format!("write: {error}"))
}

/// Frames to standard output and error.
pub(crate) async fn frames(mut reader: impl AsyncRead + Unpin) -> Result<(), String> {
    let mut header = [0; 8];
    loop {
        if reader.read_exact(&mut header).await.is_err() {
            return Ok(());
        }
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        if length > MAX_FRAME {
            return Err("the daemon sent a frame that is too long".into());
        }
        let mut rest = length;
        let mut buffer = vec![0; length.min(CHUNK)];
        while rest > 0 {
            let part = rest.min(buffer.len());
            let Ok(count) = reader.read(&mut buffer[..part]).await else {
                return Ok(());
            };
            if count == 0 {
                return Ok(());
            }
            put(header[0], &buffer[..count])?;
            rest -= count;
        }
    }
}

/// Tells the daemon our terminal's size, now and whenever it changes. Ends with the handle.
pub(crate) fn follow_size(client: &Client, path: String) -> Background {
    let client = client.clone();
    let task = tokio::spawn(async move {
        let Ok(mut changes) = signal(SignalKind::window_change()) else {
            return;
        };
        loop {
            if let Some((rows, columns)) = terminal::size() {
                let ask = Ask::new(Method::POST, path.clone())
                    .query("h", rows)
                    .query("w", columns);
                // It may have ended in this moment.
                let _ = client.ask(ask).await;
            }
            if changes.recv().await.is_none() {
                return;
            }
        }
    });
    Background(task)
}

/// Passes signals on to a container. Ends with the handle.
pub(crate) fn pass_signals(client: &Client, container: &str) -> Background {
    let (client, container) = (client.clone(), container.to_owned());
    let (sender, mut caught) = mpsc::channel::<i32>(QUEUE);
    let task = tokio::spawn(async move {
        let mut listeners = tokio::task::JoinSet::new();
        for number in (1..=31).filter(|number| !KEPT.contains(number)) {
            // Some cannot be caught.
            let Ok(mut signals) = signal(SignalKind::from_raw(number)) else {
                continue;
            };
            let sender = sender.clone();
            listeners.spawn(async move {
                while signals.recv().await.is_some() {
                    if sender.send(number).await.is_err() {
                        return;
                    }
                }
            });
        }
        while let Some(number) = caught.recv().await {
            let ask = Ask::post(format!("/containers/{container}/kill")).query("signal", number);
            // It may have ended in this moment.
            let _ = client.ask(ask).await;
        }
    });
    Background(task)
}

/// Something that goes on beside a session and ends with it.
pub(crate) struct Background(tokio::task::JoinHandle<()>);

impl Drop for Background {
    fn drop(&mut self) {
        self.0.abort();
    }
}
