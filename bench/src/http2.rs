//! One HTTP/2 connection to an API server, as a client with a certificate.

use crate::failure::{Outcome, fail};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use clap::ValueEnum;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http2::SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use std::{fs, path::Path};
use strata_http::ClientTls;
use tokio::net::TcpStream;

/// Where a server is and who we are.
#[derive(Clone, Debug)]
pub struct Target {
    /// On the loopback.
    pub port: u16,
    /// Certificate authority, PEM.
    pub ca: String,
    /// Our certificate, PEM.
    pub certificate: String,
    /// Its key, PEM.
    pub key: String,
}

impl Target {
    /// From a kubeconfig with one context.
    pub fn from_kubeconfig(path: &Path, port: u16) -> Outcome<Self> {
        let text = fs::read_to_string(path)?;
        let field = |name: &str| -> Outcome<String> {
            // The value stands behind the name or, folded, on the next line.
            let behind = text.split_once(&format!("{name}:")).map(|(_, rest)| rest);
            let value = behind.and_then(|rest| rest.split_whitespace().find(|word| !word.starts_with('>')));
            match value.map(|v| STANDARD.decode(v.trim_matches(['"', '\'']))) {
                Some(Ok(bytes)) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
                _ => fail(format!("{} has no {name}", path.display())),
            }
        };
        Ok(Self {
            port,
            ca: field("certificate-authority-data")?,
            certificate: field("client-certificate-data")?,
            key: field("client-key-data")?,
        })
    }

    /// From a folder with ca.crt, admin.crt and admin.key.
    pub fn from_folder(folder: &Path, port: u16) -> Outcome<Self> {
        let read = |name| fs::read_to_string(folder.join(name));
        Ok(Self {
            port,
            ca: read("ca.crt")?,
            certificate: read("admin.crt")?,
            key: read("admin.key")?,
        })
    }

    /// Writes such a folder.
    pub fn write_to(&self, folder: &Path) -> Outcome {
        for (name, text) in [
            ("ca.crt", &self.ca),
            ("admin.crt", &self.certificate),
            ("admin.key", &self.key),
        ] {
            strata_auth::write_private(&folder.join(name), text.as_bytes())?;
        }
        Ok(())
    }
}

/// The encoding of what is sent and asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Encoding {
    /// `application/json`
    #[default]
    Json,
    /// `application/vnd.kubernetes.protobuf`, which client-go's typed clients ask for by default.
    Protobuf,
}

impl Encoding {
    /// Its media type.
    fn media(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }
}

/// A connection.
#[derive(Clone)]
pub struct Http2 {
    sender: SendRequest<Full<Bytes>>,
    origin: String,
    encoding: Encoding,
}

impl Http2 {
    /// Connects: TCP, TLS, HTTP/2.
    pub async fn connect(target: &Target) -> Outcome<Self> {
        let identity = (target.certificate.as_bytes(), target.key.as_bytes());
        let tls = ClientTls::new(target.ca.as_bytes(), Some(identity))?;
        let tcp = TcpStream::connect(("127.0.0.1", target.port)).await?;
        tcp.set_nodelay(true)?;
        let stream = tls.connect(tcp, "127.0.0.1").await?;
        let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(16 << 20)
            .handshake(TokioIo::new(stream))
            .await?;
        // Its end shows in the next request.
        tokio::spawn(connection);
        Ok(Self {
            sender,
            origin: format!("https://127.0.0.1:{}", target.port),
            encoding: Encoding::Json,
        })
    }

    /// The same connection, speaking an encoding.
    pub fn speaking(mut self, encoding: Encoding) -> Self {
        self.encoding = encoding;
        self
    }

    /// Sends a request; the answer's body is still to be read.
    pub async fn open(&mut self, method: Method, path: &str, body: Bytes) -> Outcome<Response<Incoming>> {
        let content = match method {
            Method::PATCH => "application/apply-patch+yaml",
            _ => self.encoding.media(),
        };
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.origin))
            .header("accept", self.encoding.media())
            .header("content-type", content)
            .body(Full::new(body));
        let Ok(request) = request else {
            return fail(format!("{path} is no path"));
        };
        self.sender.ready().await?;
        Ok(self.sender.send_request(request).await?)
    }

    /// Sends a request; status and whole answer.
    pub async fn send(&mut self, method: Method, path: &str, body: Bytes) -> Outcome<(StatusCode, Bytes)> {
        let answer = self.open(method, path, body).await?;
        let status = answer.status();
        Ok((status, answer.into_body().collect().await?.to_bytes()))
    }

    /// Gets a JSON document; none if the status is not 200.
    pub async fn get(&mut self, path: &str) -> Outcome<Option<Value>> {
        let (status, body) = self.send(Method::GET, path, Bytes::new()).await?;
        if status != StatusCode::OK {
            return Ok(None);
        }
        Ok(Some(serde_json::from_slice(&body)?))
    }

    /// Creates an object; must succeed.
    pub async fn create(&mut self, path: &str, object: impl Into<Bytes>) -> Outcome {
        let (status, body) = self.send(Method::POST, path, object.into()).await?;
        if status != StatusCode::CREATED {
            return fail(format!("POST {path}: {status}: {}", String::from_utf8_lossy(&body)));
        }
        Ok(())
    }
}
