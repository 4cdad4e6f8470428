//! WebSocket (RFC 6455): accepting and asking for an upgrade, and a socket as a byte stream.

use crate::{Body, BoxError, BoxedIo, Connection, Error};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{Buf, Bytes};
use futures::{Sink, SinkExt, Stream, StreamExt, future::BoxFuture};
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode,
    header::{
        CONNECTION, HOST, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
        SEC_WEBSOCKET_VERSION, UPGRADE,
    },
};
use hyper_util::rt::TokioIo;
use std::{
    fmt, io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

pub use tokio_tungstenite::tungstenite::Message;

/// An open socket: a `Stream` and `Sink` of [`Message`]. Pings are answered while it is read.
pub type WebSocket = WebSocketStream<BoxedIo>;

/// Largest message taken. kubectl sends at most 32 KiB at a time.
const MAX_MESSAGE: usize = 4 << 20;
/// Largest message made of a byte stream.
const MAX_CHUNK: usize = 64 << 10;
/// How long the other side may take to answer a close.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// An upgrade that was accepted: send the response, then await the socket.
pub struct Accepted {
    /// 101 Switching Protocols.
    pub response: Response<Body>,
    /// The subprotocol chosen; `""` if the client offered none.
    pub protocol: String,
    /// The socket, once the response is sent.
    pub socket: BoxFuture<'static, Result<WebSocket, Error>>,
}

impl fmt::Debug for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accepted")
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}

/// Whether a request asks for a WebSocket.
pub fn is_upgrade(headers: &HeaderMap) -> bool {
    asks_for(headers, "websocket")
}

pub(crate) fn asks_for(headers: &HeaderMap, protocol: &str) -> bool {
    list(headers, CONNECTION.as_str()).any(|token| token.eq_ignore_ascii_case("upgrade"))
        && list(headers, UPGRADE.as_str()).any(|token| token.eq_ignore_ascii_case(protocol))
}

/// The members of a header that is a list.
pub(crate) fn list<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

/// Accepts whatever single subprotocol the client names, or none: for streams whose form does not depend on it. Such a
/// client must be a page of somewhere, as upstream has it for watches. Otherwise the response to refuse with.
pub fn accept_any<B>(request: &mut Request<B>) -> Result<Accepted, Box<Response<Body>>> {
    let bare = |status: StatusCode| {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        Box::new(response)
    };
    let offered: Vec<String> = list(request.headers(), SEC_WEBSOCKET_PROTOCOL.as_str())
        .map(str::to_owned)
        .collect();
    let origin = request.headers().get(ORIGIN).is_some_and(|origin| !origin.is_empty());
    match offered.as_slice() {
        _ if is_upgrade(request.headers()) && !origin => Err(bare(StatusCode::FORBIDDEN)),
        [] => accept(request, &[""]),
        [one] => accept(request, &[one]),
        _ => Err(bare(StatusCode::BAD_REQUEST)),
    }
}

/// Accepts the first of the client's subprotocols that is among `protocols`; `""` in it accepts a client that offers
/// none. Otherwise the response to refuse with.
pub fn accept<B>(request: &mut Request<B>, protocols: &[&str]) -> Result<Accepted, Box<Response<Body>>> {
    let headers = request.headers();
    if !is_upgrade(headers) {
        return Err(refuse(StatusCode::BAD_REQUEST, "not a WebSocket upgrade request"));
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        let mut response = refuse(StatusCode::UPGRADE_REQUIRED, "WebSocket version 13 is required");
        response
            .headers_mut()
            .insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return Err(response);
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes);
    let key = key.filter(|key| STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16));
    let Some(key) = key else {
        return Err(refuse(StatusCode::BAD_REQUEST, "bad Sec-WebSocket-Key"));
    };
    let offered: Vec<&str> = list(headers, SEC_WEBSOCKET_PROTOCOL.as_str()).collect();
    let chosen = if offered.is_empty() {
        protocols.contains(&"").then_some("")
    } else {
        offered.iter().copied().find(|offer| protocols.contains(offer))
    };
    let Some(protocol) = chosen.map(str::to_owned) else {
        return Err(refuse(StatusCode::FORBIDDEN, "no subprotocol in common"));
    };
    let mut response = switching("websocket");
    let answer = HeaderValue::from_str(&derive_accept_key(key));
    response
        .headers_mut()
        .insert(SEC_WEBSOCKET_ACCEPT, answer.expect("base64 is valid in a header"));
    if let (false, Ok(value)) = (protocol.is_empty(), HeaderValue::from_str(&protocol)) {
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, value);
    }
    let upgrade = hyper::upgrade::on(request);
    let socket = Box::pin(async move {
        let io: BoxedIo = Box::new(TokioIo::new(upgrade.await?));
        Ok(WebSocketStream::from_raw_socket(io, Role::Server, Some(config())).await)
    });
    Ok(Accepted {
        response,
        protocol,
        socket,
    })
}

fn config() -> WebSocketConfig {
    // Writers flush when they have nothing more to say; until then small messages gather.
    WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
        .write_buffer_size(MAX_CHUNK)
        .max_write_buffer_size(2 * MAX_MESSAGE)
}

pub(crate) fn switching(protocol: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response
        .headers_mut()
        .insert(UPGRADE, HeaderValue::from_static(protocol));
    response
}

pub(crate) fn refuse(status: StatusCode, why: &str) -> Box<Response<Body>> {
    let mut response = Response::new(Body::full(format!("unable to upgrade: {why}\n")));
    *response.status_mut() = status;
    Box::new(response)
}

/// Asks for a WebSocket over a connection: the socket and the subprotocol the server chose.
pub async fn connect(
    io: BoxedIo,
    host: &str,
    path_and_query: &str,
    protocols: &[&str],
    headers: HeaderMap,
) -> Result<(WebSocket, String), Error> {
    let mut nonce = [0u8; 16];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut nonce)
        .map_err(|_| Error::websocket("no random numbers"))?;
    let key = STANDARD.encode(nonce);
    let mut request = Request::get(path_and_query)
        .header(HOST, host)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, &key);
    if !protocols.is_empty() {
        request = request.header(SEC_WEBSOCKET_PROTOCOL, protocols.join(", "));
    }
    let mut request = request
        .body(Body::empty())
        .map_err(|why| Error::Request(why.to_string()))?;
    request.headers_mut().extend(headers);
    let response = Connection::http1(io).await?.send(request).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(Error::websocket(format!("the server answered {}", response.status())));
    }
    if response
        .headers()
        .get(SEC_WEBSOCKET_ACCEPT)
        .is_none_or(|it| it != derive_accept_key(key.as_bytes()).as_str())
    {
        return Err(Error::websocket("the server's answer does not fit the key"));
    }
    let protocol = response
        .headers()
        .get(SEC_WEBSOCKET_PROTOCOL)
        .and_then(|value| value.to_str().ok());
    let protocol = protocol.unwrap_or_default().to_owned();
    let io: BoxedIo = Box::new(TokioIo::new(hyper::upgrade::on(response).await?));
    Ok((
        WebSocketStream::from_raw_socket(io, Role::Client, Some(config())).await,
        protocol,
    ))
}

/// Code 1000: clients take a close without a code for a failure.
pub(crate) fn normal_close() -> Message {
    Message::Close(Some(CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    }))
}

/// How a chunk of bytes becomes a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// A binary message (`binary.k8s.io`).
    Binary,
    /// A text message: chunks must be UTF-8 (watch events).
    Text,
    /// A text message in base64 (`base64.binary.k8s.io`).
    Base64,
}

impl Encoding {
    fn message(self, chunk: Bytes) -> Result<Message, Error> {
        Ok(match self {
            Self::Binary => Message::Binary(chunk),
            Self::Base64 => Message::text(STANDARD.encode(chunk)),
            Self::Text => Message::Text(
                chunk
                    .try_into()
                    .map_err(|_| Error::websocket("a text message is not UTF-8"))?,
            ),
        })
    }
}

/// Sends each chunk as a message until they or the client end, then closes. For logs and watches over WebSocket.
pub async fn send_all<S>(socket: WebSocket, encoding: Encoding, chunks: S) -> Result<(), Error>
where
    S: Stream<Item = Result<Bytes, BoxError>> + Send,
{
    let (mut sink, mut source) = socket.split();
    let mut chunks = pin!(chunks);
    loop {
        tokio::select! {
            // Nothing is expected from the client but its end; reading also answers pings.
            message = source.next() => match message {
                Some(Ok(Message::Close(_))) | None => return Ok(()),
                Some(Ok(_)) => {}
                Some(Err(why)) => return Err(Error::websocket(why.to_string())),
            },
            chunk = chunks.next() => match chunk {
                Some(Ok(chunk)) => {
                    let message = encoding.message(chunk)?;
                    sink.send(message).await.map_err(|why| Error::websocket(why.to_string()))?;
                }
                Some(Err(why)) => {
                    tracing::debug!(error = %why, "a stream over WebSocket ends early");
                    break;
                }
                None => break,
            },
        }
    }
    // A client that has gone need not be told.
    let _ = sink.send(normal_close()).await;
    let rest = async { while let Some(Ok(_)) = source.next().await {} };
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, rest).await;
    Ok(())
}

/// A socket as a byte stream: binary messages one after another (tunnels).
pub struct ByteStream {
    socket: WebSocket,
    chunk: Bytes,
    closing: bool,
}

impl ByteStream {
    /// Over an open socket.
    pub fn new(socket: WebSocket) -> Self {
        Self {
            socket,
            chunk: Bytes::new(),
            closing: false,
        }
    }
}

impl fmt::Debug for ByteStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByteStream")
    }
}

impl AsyncRead for ByteStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.chunk.is_empty() {
            match ready!(self.socket.poll_next_unpin(cx)) {
                Some(Ok(Message::Binary(chunk))) => self.chunk = chunk,
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(_)) => return Poll::Ready(Err(io::Error::other("text in a binary tunnel"))),
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
            }
        }
        let count = self.chunk.len().min(buf.remaining());
        buf.put_slice(&self.chunk[..count]);
        self.chunk.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut socket = Pin::new(&mut self.socket);
        ready!(socket.as_mut().poll_ready(cx)).map_err(io::Error::other)?;
        let count = buf.len().min(MAX_CHUNK);
        let message = Message::Binary(Bytes::copy_from_slice(&buf[..count]));
        socket.start_send(message).map_err(io::Error::other)?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(io::Error::other)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closing {
            let mut socket = Pin::new(&mut self.socket);
            ready!(socket.as_mut().poll_ready(cx)).map_err(io::Error::other)?;
            socket.start_send(normal_close()).map_err(io::Error::other)?;
            self.closing = true;
        }
        Pin::new(&mut self.socket).poll_flush(cx).map_err(io::Error::other)
    }
}
