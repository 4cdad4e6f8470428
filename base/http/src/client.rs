//! Sending requests: over a pool of own connections, or over one that someone else made.

use crate::{Body, BoxedIo, ClientTls, Error, Io, resolve::resolve, serve::tune};
use futures::future::BoxFuture;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connected, Connection as PoolConnection},
    },
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// From the first SYN to the end of the TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Idle connections are closed after this, before Go servers close them (90 s and more).
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// An HTTP client with pooled TLS connections; cheap to clone.
#[derive(Clone)]
pub struct HttpsClient {
    pooled: Client<Connector, Body>,
    upgrading: Client<Connector, Body>,
}

impl HttpsClient {
    /// A client that believes and identifies itself as `tls` says.
    pub fn new(tls: ClientTls) -> Self {
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(32)
            .http2_keep_alive_interval(Duration::from_secs(30))
            .http2_keep_alive_timeout(Duration::from_secs(15));
        let upgrading = builder.build(Connector { tls: tls.http1_only() });
        Self {
            pooled: builder.build(Connector { tls }),
            upgrading,
        }
    }

    /// Sends a request with an absolute `https` URI. A request that asks for an upgrade goes over HTTP/1.1; take
    /// the connection with `hyper::upgrade::on(response)`.
    pub async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, Error> {
        let upgrade = request.headers().contains_key(http::header::UPGRADE);
        let client = if upgrade { &self.upgrading } else { &self.pooled };
        let address = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        client.request(request).await.map_err(|error| Error::Connect {
            address,
            why: sentence(&error),
        })
    }
}

/// The message of an error with those of its causes.
fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

/// Opens a TCP connection to the first of the addresses that answers.
pub async fn connect_tcp(addresses: &[SocketAddr]) -> Result<TcpStream, Error> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    let mut address_text = String::new();
    for address in addresses {
        match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                tune(&stream);
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
        address_text = address.to_string();
    }
    Err(Error::Connect {
        address: address_text,
        why: last.to_string(),
    })
}

/// One HTTP/1.1 connection over a stream made elsewhere, for a dialer. Upgrades work.
pub struct Connection {
    sender: hyper::client::conn::http1::SendRequest<Body>,
}

impl Connection {
    /// Starts HTTP/1.1 on a byte stream; the connection's task ends with it.
    pub async fn http1(io: BoxedIo) -> Result<Self, Error> {
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "client connection ended");
            }
        });
        Ok(Self { sender })
    }

    /// Sends one request with a path-and-query URI and a `Host` header.
    pub async fn send(&mut self, request: Request<Body>) -> Result<Response<Incoming>, Error> {
        self.sender.ready().await?;
        Ok(self.sender.send_request(request).await?)
    }
}

#[derive(Clone)]
struct Connector {
    tls: ClientTls,
}

impl Connector {
    async fn connect(self, uri: Uri) -> Result<TokioIo<Pooled>, Error> {
        let host = uri
            .host()
            .ok_or_else(|| Error::Request(format!("{uri} names no host")))?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(Error::Request(format!("{uri} is neither https nor http"))),
        };
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let tcp = connect_tcp(&resolve(host, port).await?).await?;
        if !secure {
            return Ok(TokioIo::new(Pooled {
                io: Box::new(tcp),
                http2: false,
            }));
        }
        let tls = self.tls.connect(tcp, host).await?;
        let http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(TokioIo::new(Pooled {
            io: Box::new(tls),
            http2,
        }))
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Pooled>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Self::Response, Error>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            tokio::time::timeout(CONNECT_TIMEOUT, connector.connect(uri))
                .await
                .unwrap_or(Err(Error::Timeout("connecting")))
        })
    }
}

struct Pooled {
    io: Box<dyn Io + 'static>,
    http2: bool,
}

impl PoolConnection for Pooled {
    fn connected(&self) -> Connected {
        let connected = Connected::new();
        if self.http2 {
            connected.negotiated_h2()
        } else {
            connected
        }
    }
}

impl AsyncRead for Pooled {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Pooled {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}
