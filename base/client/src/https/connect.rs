//! Opens TLS connections for hyper.

use futures::future::BoxFuture;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use rustls::{ClientConfig, pki_types::ServerName};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// For TCP and TLS together.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(super) struct Connector {
    tls: Arc<ClientConfig>,
}

impl Connector {
    pub(super) fn new(tls: Arc<ClientConfig>) -> Self {
        Self { tls }
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = TlsConnection;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<TlsConnection>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, server: Uri) -> Self::Future {
        let tls = TlsConnector::from(self.tls.clone());
        Box::pin(async move {
            match tokio::time::timeout(CONNECT_DEADLINE, connect(tls, server)).await {
                Ok(result) => result,
                Err(_) => Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no connection in {CONNECT_DEADLINE:?}"),
                )),
            }
        })
    }
}

async fn connect(tls: TlsConnector, server: Uri) -> io::Result<TlsConnection> {
    let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("{server}: {why}"));
    let host = server
        .host()
        .ok_or_else(|| invalid("no host"))?
        .trim_start_matches('[')
        .trim_end_matches(']');
    let port = server.port_u16().unwrap_or(443);
    let name = ServerName::try_from(host.to_owned()).map_err(|_| invalid("no valid host name"))?;
    let stream = TcpStream::connect(&resolve(host, port).await?[..]).await?;
    stream.set_nodelay(true)?;
    Ok(TlsConnection(TokioIo::new(tls.connect(name, stream).await?)))
}

/// The C library's resolver is not used: linked statically it would load the host's
/// modules. Names other than the machine's own come from /etc/hosts.
async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let hosts = tokio::fs::read_to_string("/etc/hosts")
        .await
        .or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(String::new()),
            _ => Err(error),
        })?;
    let mut addresses = addresses_of(&hosts, host);
    if addresses.is_empty() && host.eq_ignore_ascii_case("localhost") {
        addresses.push(IpAddr::from([127, 0, 0, 1]));
    }
    if addresses.is_empty() {
        let why = format!("{host} is not in /etc/hosts; give the server's IP address instead");
        return Err(io::Error::new(io::ErrorKind::NotFound, why));
    }
    Ok(addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
}

/// hosts(5).
fn addresses_of(hosts: &str, name: &str) -> Vec<IpAddr> {
    let lines = hosts.lines().map(|line| line.split('#').next().unwrap_or(""));
    lines
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let ip = words.next()?.parse().ok()?;
            words.any(|word| word.eq_ignore_ascii_case(name)).then_some(ip)
        })
        .collect()
}

/// A TLS connection as hyper sees it.
pub(super) struct TlsConnection(TokioIo<TlsStream<TcpStream>>);

impl Connection for TlsConnection {
    fn connected(&self) -> Connected {
        let (_, session) = self.0.inner().get_ref();
        match session.alpn_protocol() {
            Some(b"h2") => Connected::new().negotiated_h2(),
            _ => Connected::new(),
        }
    }
}

impl Read for TlsConnection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl Write for TlsConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_files_are_read_with_comments_and_aliases() {
        let hosts = "127.0.0.1 localhost\n10.0.0.7\tserver server.example # 10.0.0.8 other\n::1 localhost\nnonsense\n";
        assert_eq!(
            addresses_of(hosts, "Server.Example"),
            ["10.0.0.7".parse::<IpAddr>().unwrap()]
        );
        assert_eq!(addresses_of(hosts, "localhost").len(), 2);
        assert!(addresses_of(hosts, "other").is_empty());
    }
}
