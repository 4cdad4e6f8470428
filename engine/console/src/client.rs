//! Requests to the daemon over its socket, which is started when nobody listens.

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use strata_http::Body;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

/// The API's version that requests name.
const VERSION: &str = "v1.44";

/// Starts the daemon; resolves when it answers.
pub type Start = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The daemon said no.
    #[error("Error response from daemon: {message}")]
    Refused {
        /// Its status.
        status: StatusCode,
        /// Its sentence.
        message: String,
    },
    /// There is no daemon.
    #[error("Cannot connect to the engine at unix://{socket}: {why}")]
    Unreachable {
        /// Its socket.
        socket: String,
        /// What failed.
        why: String,
    },
    /// The conversation broke.
    #[error("error during connect: {0}")]
    Broken(String),
}

impl ClientError {
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == StatusCode::NOT_FOUND)
    }

    fn broken(error: impl std::fmt::Display) -> Self {
        Self::Broken(error.to_string())
    }
}

/// Talks to a daemon.
#[derive(Clone)]
pub struct Client {
    socket: PathBuf,
    start: Option<Start>,
}

/// A request to be sent.
pub(crate) struct Ask<'a> {
    method: Method,
    path: String,
    query: Vec<(&'a str, String)>,
    body: Option<Value>,
    stream: Option<mpsc::Receiver<Result<Bytes, std::io::Error>>>,
    upgrade: bool,
}

impl<'a> Ask<'a> {
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            query: Vec::new(),
            body: None,
            stream: None,
            upgrade: false,
        }
    }

    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    pub fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path)
    }

    pub fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path)
    }

    pub fn query(mut self, key: &'a str, value: impl ToString) -> Self {
        self.query.push((key, value.to_string()));
        self
    }

    /// A switch that is only sent when it is on.
    pub fn flag(self, key: &'a str, on: bool) -> Self {
        if on { self.query(key, 1) } else { self }
    }

    pub fn body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    /// A body that comes in pieces.
    pub fn stream(mut self, pieces: mpsc::Receiver<Result<Bytes, std::io::Error>>) -> Self {
        self.stream = Some(pieces);
        self
    }

    /// Asks to take the connection over.
    pub fn upgrade(mut self) -> Self {
        self.upgrade = true;
        self
    }

    fn request(self) -> Result<Request<Body>, ClientError> {
        let mut path = format!("/{VERSION}{}", self.path);
        for (number, (key, value)) in self.query.iter().enumerate() {
            path.push(if number == 0 { '?' } else { '&' });
            path += &format!("{key}={}", encode(value));
        }
        let mut request = Request::builder()
            .method(self.method)
            .uri(path)
            .header("host", "engine")
            .header("user-agent", "strata");
        if self.upgrade {
            request = request.header("connection", "Upgrade").header("upgrade", "tcp");
        }
        let body = match (self.body, self.stream) {
            (Some(value), _) => {
                request = request.header("content-type", "application/json");
                Body::full(value.to_string())
            }
            (None, Some(pieces)) => {
                request = request.header("content-type", "application/x-tar");
                Body::stream(futures::stream::unfold(pieces, |mut pieces| async move {
                    let piece = pieces.recv().await?;
                    Some((piece.map_err(Into::into), pieces))
                }))
            }
            (None, None) => Body::empty(),
        };
        request.body(body).map_err(ClientError::broken)
    }
}

/// Escapes what means something in a URL.
pub(crate) fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~/:@,".contains(&byte);
    text.bytes()
        .map(|byte| {
            if plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

impl Client {
    /// A client of the daemon that listens there; `start` is called when nobody does.
    pub fn new(socket: impl Into<PathBuf>, start: Option<Start>) -> Self {
        Self {
            socket: socket.into(),
            start,
        }
    }

    async fn connect(&self) -> Result<UnixStream, ClientError> {
        let unreachable = |why: String| ClientError::Unreachable {
            socket: self.socket.display().to_string(),
            why,
        };
        let first = UnixStream::connect(&self.socket).await;
        let absent = |error: &std::io::Error| {
            matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused
            )
        };
        match (first, &self.start) {
            (Ok(stream), _) => Ok(stream),
            (Err(error), Some(start)) if absent(&error) => {
                start().await.map_err(unreachable)?;
                UnixStream::connect(&self.socket)
                    .await
                    .map_err(|error| unreachable(error.to_string()))
            }
            (Err(error), _) => Err(unreachable(error.to_string())),
        }
    }

    /// Sends a request; the answer if the daemon did not say no.
    pub(crate) async fn send(&self, ask: Ask<'_>) -> Result<http::Response<Incoming>, ClientError> {
        let request = ask.request()?;
        let stream = self.connect().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(ClientError::broken)?;
        tokio::spawn(async move {
            // Its end shows in the answer.
            let _ = connection.with_upgrades().await;
        });
        let response = sender.send_request(request).await.map_err(ClientError::broken)?;
        let status = response.status();
        if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS || status == StatusCode::NOT_MODIFIED {
            return Ok(response);
        }
        let bytes = response
            .into_body()
            .collect()
            .await
            .map_err(ClientError::broken)?
            .to_bytes();
        let said = serde_json::from_slice::<Value>(&bytes).ok();
        let message = said.and_then(|value| value["message"].as_str().map(str::to_owned));
        Err(ClientError::Refused {
            status,
            message: message.unwrap_or_else(|| String::from_utf8_lossy(&bytes).trim().to_owned()),
        })
    }

    /// Sends a request and reads the answer as JSON; null if it is empty.
    pub(crate) async fn ask(&self, ask: Ask<'_>) -> Result<Value, ClientError> {
        let response = self.send(ask).await?;
        let bytes = response
            .into_body()
            .collect()
            .await
            .map_err(ClientError::broken)?
            .to_bytes();
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes).map_err(ClientError::broken)
    }

    /// Sends a request and takes the connection over.
    pub(crate) async fn hijack(&self, ask: Ask<'_>) -> Result<TokioIo<hyper::upgrade::Upgraded>, ClientError> {
        let response = self.send(ask.upgrade()).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(ClientError::broken("the daemon did not hand the connection over"));
        }
        let upgraded = hyper::upgrade::on(response).await.map_err(ClientError::broken)?;
        Ok(TokioIo::new(upgraded))
    }
}

/// Lines of an answer that goes on.
pub(crate) struct Lines {
    body: Incoming,
    rest: Vec<u8>,
}

/// Longest line that is waited for.
const MAX_LINE: usize = 16 << 20;

impl Lines {
    pub fn new(response: http::Response<Incoming>) -> Self {
        Self {
            body: response.into_body(),
            rest: Vec::new(),
        }
    }

    /// The next JSON value; nothing at the end.
    pub async fn next(&mut self) -> Result<Option<Value>, ClientError> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return serde_json::from_slice(&line).map(Some).map_err(ClientError::broken);
            }
            if self.rest.len() > MAX_LINE {
                return Err(ClientError::broken("a line is too long"));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        self.rest.extend_from_slice(&bytes);
                    }
                }
                Some(Err(error)) => return Err(ClientError::broken(error)),
                None => return Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_escaped() {
        let ask = Ask::get("/x")
            .query("filters", r#"{"a":["b c"]}"#)
            .flag("all", true)
            .flag("no", false);
        let request = ask.request().expect("valid");
        assert_eq!(
            request.uri().to_string(),
            "/v1.44/x?filters=%7B%22a%22:%5B%22b%20c%22%5D%7D&all=1"
        );
    }
}
