//! The server's side of `kubectl exec` and `attach`: over WebSocket (`v5.channel.k8s.io` and
//! older) and over SPDY (`v4.channel.k8s.io` and older).
//!
//! [`accept`] answers the request; the [`Session`] it leads to has the ends of the process's
//! streams. Copy, drop the streams, then tell the result with [`Control::finish`].

use crate::{
    Body, Error,
    channels::{BUFFER, Channels, Codec, Target},
    spdy::{self, Stream},
    upgrade::{accept_spdy, is_spdy},
    websocket::{self, CLOSE_TIMEOUT, WebSocket},
};
use futures::future::BoxFuture;
use http::{Request, Response};
use serde_json::json;
use std::{collections::HashMap, fmt, io, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::watch,
};
use tokio_util::sync::CancellationToken;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const WEBSOCKET_PROTOCOLS: [&str; 6] = [
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
    "",
];
const SPDY_PROTOCOLS: [&str; 4] = [
    "v4.channel.k8s.io",
    "v3.channel.k8s.io",
    "v2.channel.k8s.io",
    "channel.k8s.io",
];
/// How long a client may take to open all its streams (upstream has the same).
const STREAMS_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest resize message, `{"Width":65535,"Height":65535}`, generously.
const MAX_RESIZE: usize = 1024;

/// Which streams the client wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The client sends.
    pub stdin: bool,
    /// The client reads standard output.
    pub stdout: bool,
    /// The client reads standard error.
    pub stderr: bool,
    /// There is a terminal; standard error goes into standard output.
    pub tty: bool,
}

impl Options {
    /// Reads a query: the node agent's names (`input`, `output`, `error`, `tty`) and the API's (`stdin`, …).
    pub fn from_query(query: &str) -> Self {
        let on = |names: [&str; 2]| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs
                .into_iter()
                .any(|(name, value)| names.contains(&name) && matches!(value, "1" | "true" | "True"))
        };
        let tty = on(["tty", "tty"]);
        Self {
            stdin: on(["input", "stdin"]),
            stdout: on(["output", "stdout"]),
            stderr: on(["error", "stderr"]) && !tty,
            tty,
        }
    }
}

/// The size of a terminal in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// How the command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It exited with this code.
    Exit(i32),
    /// It could not be run or waited for; a sentence for the user.
    Failed(String),
}

/// Bytes from the client.
pub type Reader = Box<dyn AsyncRead + Send + Unpin>;
/// Bytes to the client.
pub type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// The client's ends of a command's streams.
pub struct Session {
    /// What the client sends; it ends when the client closes it or goes. Drop it when the process no longer reads.
    pub stdin: Option<Reader>,
    /// What the client reads.
    pub stdout: Option<Writer>,
    /// What the client reads as standard error.
    pub stderr: Option<Writer>,
    /// The latest size of the client's terminal.
    pub resize: watch::Receiver<Option<TerminalSize>>,
    /// The end.
    pub control: Control,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("stdin", &self.stdin.is_some())
            .field("stdout", &self.stdout.is_some())
            .field("stderr", &self.stderr.is_some())
            .finish_non_exhaustive()
    }
}

/// The end of a session.
pub struct Control {
    version: u8,
    transport: Transport,
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control")
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

enum Transport {
    WebSocket(Channels),
    Spdy(Box<(spdy::Session, Stream)>),
}

impl Control {
    /// Cancelled when the client has gone.
    pub fn ended(&self) -> CancellationToken {
        match &self.transport {
            Transport::WebSocket(channels) => channels.ended().clone(),
            Transport::Spdy(spdy) => spdy.0.ended(),
        }
    }

    /// Tells the client how the command ended, behind all output written before, and ends the connection.
    pub async fn finish(self, outcome: &Outcome) {
        let message = status_message(self.version, outcome);
        match self.transport {
            Transport::WebSocket(channels) => {
                if let Some(message) = message {
                    // A client that has gone will not ask.
                    let _ = channels.send(ERROR, message).await;
                }
                channels.finish().await;
            }
            Transport::Spdy(spdy) => {
                let (session, mut error) = *spdy;
                let told = async {
                    if let Some(message) = message {
                        error.write_all(message.as_bytes()).await?;
                    }
                    error.shutdown().await
                };
                if let Err(error) = told.await {
                    tracing::debug!(%error, "the client has gone before the result");
                }
                let _ = tokio::time::timeout(CLOSE_TIMEOUT, session.closed()).await;
            }
        }
    }
}

/// What goes to the error channel: a Status from version 4 on, before it a sentence if something is wrong.
fn status_message(version: u8, outcome: &Outcome) -> Option<String> {
    let status = match outcome {
        Outcome::Exit(0) => json!({"metadata": {}, "status": "Success"}),
        Outcome::Exit(code) => json!({
            "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": format!("command terminated with non-zero exit code: command terminated with exit code {code}"),
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        Outcome::Failed(why) => json!({
            "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
            "message": format!("Internal error occurred: {why}"),
            "details": {"causes": [{"message": why}]},
        }),
    };
    match (version, outcome) {
        (4.., _) => Some(status.to_string()),
        (_, Outcome::Exit(0)) => None,
        _ => status["message"].as_str().map(str::to_owned),
    }
}

/// An upgrade that was accepted: send the response, then await the session.
pub struct Accepted {
    /// 101 Switching Protocols.
    pub response: Response<Body>,
    /// The session, once the response is sent.
    pub session: BoxFuture<'static, Result<Session, Error>>,
}

impl fmt::Debug for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Accepted")
    }
}

/// Accepts an upgrade to WebSocket or SPDY; otherwise the response to refuse with.
pub fn accept<B>(request: &mut Request<B>, options: Options) -> Result<Accepted, Box<Response<Body>>> {
    if is_spdy(request.headers()) {
        let (response, protocol, session) = accept_spdy(request, &SPDY_PROTOCOLS)?;
        let session = Box::pin(async move { over_spdy(session.await?, version_of(&protocol), options).await });
        return Ok(Accepted { response, session });
    }
    let accepted = websocket::accept(request, &WEBSOCKET_PROTOCOLS)?;
    let socket = accepted.socket;
    let protocol = accepted.protocol;
    let session = Box::pin(async move { over_websocket(socket.await?, &protocol, options).await });
    Ok(Accepted {
        response: accepted.response,
        session,
    })
}

/// `v4.channel.k8s.io` → 4; unversioned names are version 1.
fn version_of(protocol: &str) -> u8 {
    let digits = protocol.strip_prefix('v').and_then(|rest| rest.split('.').next());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(1)
}

async fn over_websocket(socket: WebSocket, protocol: &str, options: Options) -> Result<Session, Error> {
    let version = version_of(protocol);
    let (size, resize) = watch::channel(None);
    let mut targets = HashMap::new();
    let stdin = options.stdin.then(|| {
        let (ours, theirs) = tokio::io::duplex(BUFFER);
        targets.insert(STDIN, Target::Bytes(ours));
        Box::new(theirs) as Reader
    });
    if options.tty {
        let call = move |bytes: &[u8]| {
            if let Some(new) = parse_size(bytes) {
                size.send_replace(Some(new));
            }
        };
        targets.insert(RESIZE, Target::Call(Box::new(call)));
    }
    let channels = Channels::start(socket, Codec::of(protocol), version >= 5, targets);
    // An empty message tells the client that the session stands (upstream does the same).
    let first = if options.stdout {
        STDOUT
    } else if options.stderr {
        STDERR
    } else {
        ERROR
    };
    channels.send(first, "").await?;
    let writer = |wanted: bool, channel| wanted.then(|| Box::new(channels.writer(channel)) as Writer);
    let (stdout, stderr) = (writer(options.stdout, STDOUT), writer(options.stderr, STDERR));
    let control = Control {
        version,
        transport: Transport::WebSocket(channels),
    };
    Ok(Session {
        stdin,
        stdout,
        stderr,
        resize,
        control,
    })
}

async fn over_spdy(mut session: spdy::Session, version: u8, options: Options) -> Result<Session, Error> {
    // Resizing came with version 3, the error stream was there from the first.
    let wants_resize = options.tty && version >= 3;
    let wanted = [
        ("error", true),
        ("stdin", options.stdin),
        ("stdout", options.stdout),
        ("stderr", options.stderr),
        ("resize", wants_resize),
    ];
    let count = wanted.iter().filter(|(_, wanted)| *wanted).count();
    let collect = async {
        let mut streams = HashMap::new();
        while streams.len() < count {
            let stream = session
                .accept()
                .await
                .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
            let kind = stream.header("streamtype").to_owned();
            if !wanted.contains(&(kind.as_str(), true)) || streams.contains_key(&kind) {
                stream.reset().await?;
                return Err(Error::spdy(format!("unexpected stream {kind:?}")));
            }
            stream.reply().await?;
            streams.insert(kind, stream);
        }
        Ok(streams)
    };
    let mut streams = tokio::time::timeout(STREAMS_TIMEOUT, collect)
        .await
        .map_err(|_| Error::Timeout("waiting for the client's streams"))??;
    let (size, resize) = watch::channel(None);
    if let Some(stream) = streams.remove("resize") {
        tokio::spawn(read_sizes(stream, size));
    }
    let error = streams.remove("error").ok_or_else(|| Error::spdy("no error stream"))?;
    let stdin = streams.remove("stdin").map(|stream| Box::new(stream) as Reader);
    let mut writer = |name: &str| streams.remove(name).map(|stream| Box::new(stream) as Writer);
    let (stdout, stderr) = (writer("stdout"), writer("stderr"));
    let control = Control {
        version,
        transport: Transport::Spdy(Box::new((session, error))),
    };
    Ok(Session {
        stdin,
        stdout,
        stderr,
        resize,
        control,
    })
}

/// JSON objects one after another, without separators.
async fn read_sizes(mut stream: Stream, size: watch::Sender<Option<TerminalSize>>) {
    let mut pending = Vec::new();
    let mut chunk = [0; 256];
    while let Ok(count @ 1..) = stream.read(&mut chunk).await {
        pending.extend_from_slice(&chunk[..count]);
        while let Some(end) = pending.iter().position(|byte| *byte == b'}') {
            let rest = pending.split_off(end + 1);
            if let Some(new) = parse_size(&pending) {
                size.send_replace(Some(new));
            }
            pending = rest;
        }
        if pending.len() > MAX_RESIZE {
            return;
        }
    }
}

fn parse_size(json: &[u8]) -> Option<TerminalSize> {
    let value: serde_json::Value = serde_json::from_slice(json).ok()?;
    let number = |name: &str| u16::try_from(value.get(name)?.as_u64()?).ok();
    Some(TerminalSize {
        width: number("Width")?,
        height: number("Height")?,
    })
}

#[cfg(test)]
mod tests;
