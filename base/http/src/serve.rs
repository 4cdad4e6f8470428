//! Accepting connections and giving their requests to a handler.

mod gather;
mod plain;

pub use plain::serve_plain;

use crate::{Body, ServerTls, activity::Activity, survive_accept};
use futures::{FutureExt, future::BoxFuture};
use gather::{gather, turn};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::CertificateDer;
use std::{
    any::Any,
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Notify, Semaphore},
};
use tokio_rustls::server::TlsStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    /// One request; the future may outlive nothing of the server.
    fn call(&self, request: http::Request<Incoming>, peer: Peer) -> BoxFuture<'static, http::Response<Body>>;

    /// A connection ended before TLS was agreed on.
    fn handshake_failed(&self) {}
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where the connection comes from.
    pub address: SocketAddr,
    /// The client's certificate chain, leaf first, if it leads to the client CA.
    pub certificates: Option<Arc<Vec<CertificateDer<'static>>>>,
    /// Why a certificate that was presented is not believed; such a caller is not anonymous but refused.
    pub certificate_error: Option<Arc<str>>,
    /// The client's certificate chain, leaf first, if it leads to the authority of front proxies.
    pub proxy: Option<Arc<Vec<CertificateDer<'static>>>>,
    /// Whatever the handler wants to remember for the life of the connection, such as the parsed identity.
    pub memo: Arc<OnceLock<Box<dyn Any + Send + Sync>>>,
}

/// The bounds of a server.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections; more wait in the kernel's queue.
    pub connections: usize,
    /// Bytes of a request's header.
    pub header_bytes: usize,
    /// Requests at a time on an HTTP/2 connection (upstream: 100 unless set; 250 in kube-apiserver).
    pub streams_per_connection: u32,
    /// From accepting to the end of the TLS handshake.
    pub handshake_timeout: Duration,
    /// From the first wait for a request to the end of its header; closes idle HTTP/1.1 connections too.
    pub header_timeout: Duration,
    /// How long an HTTP/2 connection may be without a request.
    pub idle_timeout: Duration,
    /// Of how many HTTP/2 requests one is told to connect anew, so that clients spread over servers; 0: none.
    pub goaway_chance: f64,
    /// How long requests may finish after cancellation.
    pub shutdown_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            header_bytes: 64 << 10,
            streams_per_connection: 250,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(30),
            // As clients of Go keep theirs.
            idle_timeout: Duration::from_secs(90),
            goaway_chance: 0.0,
            shutdown_grace: Duration::from_secs(10),
        }
    }
}

/// How often an HTTP/2 peer is asked whether it lives, and how long it may take to say so.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Streams a client took back before they were looked at (rapid reset), and that broke rules, before it is cut off.
const RESET_STREAMS: usize = 50;
const REFUSED_STREAMS: usize = 200;
/// Bytes of requests taken before they are read, by stream and by connection (upstream: 256 KiB a stream).
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Bytes of an answer held for a stream that is not read.
const SEND_BUFFER: usize = 256 << 10;
/// HPACK's table (RFC 7541 section 4.2: 4,096 bytes unless agreed otherwise).
const HEADER_TABLE: u32 = 4096;
/// Streams from which on a connection waits for the others of them before it sends.
const MANY_STREAMS: usize = 8;
/// Unacknowledged data for this long ends a connection: the peer has gone without a word.
const USER_TIMEOUT_MILLIS: u32 = 60_000;

/// What a client that speaks plain HTTP reads, in the words of Go servers.
const PLAIN_HTTP_ANSWER: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

/// Serves until cancelled, then lets requests finish within the grace and returns.
///
/// Errors: when the listener itself fails.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<ServerTls>,
    limits: Limits,
    cancel: CancellationToken,
    handler: Arc<dyn Handler>,
) -> io::Result<()> {
    let slots = Arc::new(Semaphore::new(limits.connections));
    let limits = Arc::new(limits);
    let connections = TaskTracker::new();
    let abort = CancellationToken::new();
    let _abort_on_drop = abort.clone().drop_guard();
    loop {
        let accepted = tokio::select! {
            () = cancel.cancelled() => break,
            accepted = accept(&listener, &slots) => accepted?,
        };
        let Some((stream, address, slot)) = accepted else {
            continue;
        };
        let connection = serve_connection(
            stream,
            address,
            tls.clone(),
            limits.clone(),
            cancel.clone(),
            handler.clone(),
        );
        let abort = abort.clone();
        connections.spawn(async move {
            let _slot = slot;
            tokio::select! {
                () = abort.cancelled() => {}
                () = connection => {}
            }
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(limits.shutdown_grace, connections.wait())
        .await
        .is_err()
    {
        tracing::debug!(
            connections = connections.len(),
            "cutting connections off after the grace period"
        );
        abort.cancel();
        connections.wait().await;
    }
    Ok(())
}

type Accepted = (TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit);

async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> io::Result<Option<Accepted>> {
    let slot = slots.clone().acquire_owned().await.map_err(io::Error::other)?;
    match listener.accept().await {
        Ok((stream, address)) => {
            tune(&stream);
            Ok(Some((stream, address, slot)))
        }
        Err(error) => survive_accept(error).await.map(|()| None),
    }
}

/// Sends at once and notices dead peers. A socket that refuses an option still works.
pub(crate) fn tune(stream: &TcpStream) {
    use rustix::net::sockopt;
    let results = [
        sockopt::set_tcp_nodelay(stream, true),
        sockopt::set_socket_keepalive(stream, true),
        sockopt::set_tcp_keepidle(stream, PING_INTERVAL),
        sockopt::set_tcp_keepintvl(stream, Duration::from_secs(10)),
        sockopt::set_tcp_user_timeout(stream, USER_TIMEOUT_MILLIS),
    ];
    if let Some(error) = results.into_iter().find_map(Result::err) {
        tracing::debug!(%error, "setting socket options");
    }
}

async fn serve_connection(
    stream: TcpStream,
    address: SocketAddr,
    tls: Arc<ServerTls>,
    limits: Arc<Limits>,
    cancel: CancellationToken,
    handler: Arc<dyn Handler>,
) {
    let stream = tokio::select! {
        () = cancel.cancelled() => return,
        result = tokio::time::timeout(limits.handshake_timeout, handshake(stream, &tls)) => match result {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                handler.handshake_failed();
                return tracing::debug!(%address, %error, "TLS handshake failed");
            }
            Err(_) => {
                handler.handshake_failed();
                return tracing::debug!(%address, "TLS handshake timed out");
            }
        },
    };
    let peer = peer_of(&stream, address, &tls);
    let result = if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        serve_http2(stream, (handler, peer), &limits, &cancel).await
    } else {
        let service = service_fn(move |request| {
            let response = handler.call(request, peer.clone());
            async move { Ok::<_, Infallible>(response.await) }
        });
        let ended = serve_http1(stream, service, &limits, &cancel).await;
        ended.map_err(io::Error::other)
    };
    if let Err(error) = result {
        tracing::debug!(%address, %error, "connection ended");
    }
}

async fn handshake(mut stream: TcpStream, tls: &ServerTls) -> io::Result<TlsStream<TcpStream>> {
    let mut first = [0];
    stream.peek(&mut first).await?;
    // RFC 8446 section 5.1: a handshake record begins with 22. People forget the s of https; tell them.
    if first[0].is_ascii_uppercase() {
        stream.write_all(PLAIN_HTTP_ANSWER).await?;
        stream.shutdown().await?;
        return Err(io::Error::other("plain HTTP"));
    }
    tls.acceptor().accept(stream).await
}

fn peer_of(stream: &TlsStream<TcpStream>, address: SocketAddr, tls: &ServerTls) -> Peer {
    let mut peer = Peer {
        address,
        certificates: None,
        certificate_error: None,
        proxy: None,
        memo: Arc::default(),
    };
    if let Some(chain) = stream.get_ref().1.peer_certificates() {
        let kept = || Some(Arc::new(chain.iter().map(|c| c.clone().into_owned()).collect()));
        if tls.verify_proxy(chain) {
            peer.proxy = kept();
        }
        match tls.verify_client(chain) {
            Ok(()) => peer.certificates = kept(),
            Err(error) => peer.certificate_error = Some(error.to_string().into()),
        }
    }
    peer
}

async fn serve_http2(
    stream: TlsStream<TcpStream>,
    (handler, peer): (Arc<dyn Handler>, Peer),
    limits: &Limits,
    cancel: &CancellationToken,
) -> io::Result<()> {
    let activity = Activity::new();
    let elsewhere = Arc::new(Notify::new());
    let (seen, told, chance) = (activity.clone(), elsewhere.clone(), limits.goaway_chance);
    let service = service_fn(move |request| {
        let in_use = seen.begin();
        if chance > 0.0 && random() < chance {
            told.notify_one();
        }
        let response = handler.call(request, peer.clone());
        async move {
            let mut response = response.await;
            response.body_mut().hold(in_use);
            Ok::<_, Infallible>(response)
        }
    });
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_per_connection)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(RESET_STREAMS)
        .max_local_error_reset_streams(REFUSED_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .header_table_size(HEADER_TABLE)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    let (stream, outlet) = gather(stream);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let end = async {
        tokio::select! {
            () = cancel.cancelled() => {}
            () = elsewhere.notified() => {}
            () = activity.idle(limits.idle_timeout) => {}
        }
    };
    let mut end = pin!(end.fuse());
    let many = || activity.open() >= MANY_STREAMS;
    turn(outlet, many, |cx| {
        if end.as_mut().poll(cx).is_ready() {
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(cx)
    })
    .await
}

/// A number from 0 to 1 that nobody has to guess.
fn random() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0_u8) as f64 / u64::MAX as f64
}

async fn serve_http1<S>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: S,
    limits: &Limits,
    cancel: &CancellationToken,
) -> hyper::Result<()>
where
    S: hyper::service::HttpService<Incoming, ResBody = Body, Error = Infallible>,
    S::Future: Send + 'static,
{
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_header_size(limits.header_bytes)
        .max_buf_size(limits.header_bytes.max(8192) * 2)
        .half_close(false);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
    tokio::select! {
        result = connection.as_mut() => return result,
        () = cancel.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

#[cfg(test)]
mod tests;
