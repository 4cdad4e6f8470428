//! gRPC without streams: one message there, one back, over a Unix socket or TCP.
//!
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>

use crate::Body;
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::{
    fmt, io,
    os::linux::net::SocketAddrExt,
    os::unix::net::{SocketAddr, UnixStream as StdStream},
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::net::{TcpStream, UnixStream};

/// The largest answer (grpc-go's default).
pub(crate) const MAX_ANSWER: usize = 4 << 20;
/// What the address of a server that is not at a Unix socket begins with.
const TCP: &str = "tcp:";
/// Flag and length in front of a message.
pub(crate) const FRAME: usize = 5;
/// Pauses between attempts to connect.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Why a call did not succeed: gRPC's status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcStatus {
    /// The status code; 0 is success and never seen here.
    pub code: u32,
    /// What the server or this client says.
    pub message: String,
}

impl GrpcStatus {
    /// The call was given up.
    pub const CANCELLED: u32 = 1;
    /// Anything else.
    pub const UNKNOWN: u32 = 2;
    /// The request makes no sense.
    pub const INVALID_ARGUMENT: u32 = 3;
    /// There is no such thing.
    pub const NOT_FOUND: u32 = 5;
    /// There is such a thing already.
    pub const ALREADY_EXISTS: u32 = 6;
    /// A limit was hit.
    pub const RESOURCE_EXHAUSTED: u32 = 8;
    /// Not possible in the present state.
    pub const FAILED_PRECONDITION: u32 = 9;
    /// There is no such method here.
    pub const UNIMPLEMENTED: u32 = 12;
    /// It was cut short.
    pub const ABORTED: u32 = 10;
    /// The deadline passed.
    pub const DEADLINE_EXCEEDED: u32 = 4;
    /// Something was broken in the protocol.
    pub const INTERNAL: u32 = 13;
    /// Nobody is there.
    pub const UNAVAILABLE: u32 = 14;

    /// A status of this client's own.
    pub fn new(code: u32, message: impl fmt::Display) -> Self {
        Self {
            code,
            message: message.to_string(),
        }
    }

    /// The code's name as grpc-go prints it.
    pub fn name(&self) -> &'static str {
        const NAMES: [&str; 17] = [
            "OK",
            "Canceled",
            "Unknown",
            "InvalidArgument",
            "DeadlineExceeded",
            "NotFound",
            "AlreadyExists",
            "PermissionDenied",
            "ResourceExhausted",
            "FailedPrecondition",
            "Aborted",
            "OutOfRange",
            "Unimplemented",
            "Internal",
            "Unavailable",
            "DataLoss",
            "Unauthenticated",
        ];
        let known = usize::try_from(self.code).ok().and_then(|code| NAMES.get(code));
        known.copied().unwrap_or("Unknown")
    }
}

impl fmt::Display for GrpcStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rpc error: code = {} desc = {}", self.name(), self.message)
    }
}

/// A client of one server, most often at a Unix socket. It connects when it must and waits for a server that is not there yet,
/// as long as the call may take.
pub struct GrpcClient {
    /// A path, `@` and a name in the abstract namespace, or `tcp:` and an address with a port.
    address: String,
    connection: Mutex<Option<SendRequest<Body>>>,
}

impl fmt::Debug for GrpcClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcClient")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Sends a call: the headers of its answer, and what follows. Errors: the server says no at once.
pub(crate) async fn begin(
    sender: &mut SendRequest<Body>,
    request: Request<Body>,
) -> Result<(HeaderMap, Incoming), GrpcStatus> {
    let response = sender.send_request(request).await;
    let response = response.map_err(|e| GrpcStatus::new(GrpcStatus::UNAVAILABLE, e))?;
    let (head, body) = response.into_parts();
    if head.status != 200 {
        let why = format!("unexpected HTTP status code received from server: {}", head.status);
        return Err(GrpcStatus::new(GrpcStatus::UNAVAILABLE, why));
    }
    // A server that has nothing but a status to say sends no trailers.
    if head.headers.contains_key("grpc-status") {
        status(&head.headers)?;
    }
    Ok((head.headers, body))
}

impl GrpcClient {
    /// Of a path, or of `@` and a name in the abstract namespace.
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            connection: Mutex::default(),
        }
    }

    /// Of `host:port` without TLS. It is connected when this returns.
    ///
    /// Errors: nobody answers there, or not in HTTP/2.
    pub async fn dial(address: &str) -> io::Result<Self> {
        let client = Self::new(format!("{TCP}{address}"));
        client.ready().await?;
        Ok(client)
    }

    /// Calls `/service/method` with an encoded message; the encoded answer, within `limit`.
    pub async fn call(&self, method: &str, message: &[u8], limit: Duration) -> Result<Bytes, GrpcStatus> {
        let seen = Mutex::new(None);
        let called = tokio::time::timeout(limit, self.exchange(method, message, limit, &seen)).await;
        called.unwrap_or_else(|_| {
            let mut why = "context deadline exceeded".to_owned();
            if let Some(last) = seen.into_inner().unwrap_or_else(PoisonError::into_inner) {
                why = format!(
                    "{why} while waiting for connections to become ready: connection error: desc = \"transport: Error while dialing: dial unix {}: connect: {last}\"",
                    self.address
                );
            }
            Err(GrpcStatus::new(GrpcStatus::DEADLINE_EXCEEDED, why))
        })
    }

    async fn exchange(
        &self,
        method: &str,
        message: &[u8],
        limit: Duration,
        seen: &Mutex<Option<io::Error>>,
    ) -> Result<Bytes, GrpcStatus> {
        let mut pause = FIRST_PAUSE;
        let mut sender = loop {
            match self.ready().await {
                Ok(sender) => break sender,
                Err(error) => *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(error),
            }
            tokio::time::sleep(pause).await;
            pause = LONGEST_PAUSE.min(pause * 2);
        };
        let (headers, body) = begin(&mut sender, request(method, message, Some(limit))?).await?;
        let collected = Limited::new(body, MAX_ANSWER + FRAME).collect().await;
        let collected = collected.map_err(|e| GrpcStatus::new(GrpcStatus::UNAVAILABLE, e))?;
        status(collected.trailers().unwrap_or(&headers))?;
        unframed(collected.to_bytes())
    }

    /// The connection, made anew if it has ended.
    pub(crate) async fn ready(&self) -> io::Result<SendRequest<Body>> {
        let kept = self.connection.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(mut sender) = kept
            && sender.ready().await.is_ok()
        {
            return Ok(sender);
        }
        let sender = match self.address.strip_prefix(TCP) {
            Some(address) => handshake(TcpStream::connect(address).await?).await?,
            None => handshake(self.connect().await?).await?,
        };
        *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender.clone());
        Ok(sender)
    }

    async fn connect(&self) -> io::Result<UnixStream> {
        let Some(name) = self.address.strip_prefix('@') else {
            return UnixStream::connect(&self.address).await;
        };
        let stream = StdStream::connect_addr(&SocketAddr::from_abstract_name(name)?)?;
        stream.set_nonblocking(true)?;
        UnixStream::from_std(stream)
    }
}

async fn handshake<T: crate::Io + 'static>(stream: T) -> io::Result<SendRequest<Body>> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new());
    let (sender, connection) = builder
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "gRPC connection ended");
        }
    });
    Ok(sender)
}

/// Without a limit the server is told of none.
pub(crate) fn request(method: &str, message: &[u8], limit: Option<Duration>) -> Result<Request<Body>, GrpcStatus> {
    let length = u32::try_from(message.len())
        .map_err(|_| GrpcStatus::new(GrpcStatus::INTERNAL, "the message is too large to be sent"))?;
    let mut framed = BytesMut::with_capacity(FRAME + message.len());
    framed.put_u8(0);
    framed.put_u32(length);
    framed.put_slice(message);
    let mut request = Request::post(format!("http://localhost{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "strata");
    if let Some(limit) = limit {
        request = request.header("grpc-timeout", format!("{}m", limit.as_millis().min(99_999_999)));
    }
    request
        .body(Body::full(framed.freeze()))
        .map_err(|e| GrpcStatus::new(GrpcStatus::INTERNAL, e))
}

/// Errors: any status but success.
pub(crate) fn status(headers: &HeaderMap) -> Result<(), GrpcStatus> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    match text("grpc-status").and_then(|code| code.parse().ok()) {
        Some(0) => Ok(()),
        Some(code) => Err(GrpcStatus::new(
            code,
            percent_decoded(text("grpc-message").unwrap_or("")),
        )),
        None => Err(GrpcStatus::new(
            GrpcStatus::INTERNAL,
            "server closed the stream without sending trailers",
        )),
    }
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16));
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high << 4 | low) as u8);
                at += 3;
            }
            _ => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The one message of an answer. Errors: another number of messages, or a compressed one.
fn unframed(body: Bytes) -> Result<Bytes, GrpcStatus> {
    let wrong = |why: &str| GrpcStatus::new(GrpcStatus::INTERNAL, why);
    let Some((&[compressed, ref length @ ..], message)) = body.split_first_chunk::<FRAME>() else {
        return Err(wrong("the answer holds no message"));
    };
    if compressed != 0 {
        return Err(wrong("the answer is compressed, which was not asked for"));
    }
    if u32::from_be_bytes(*length) as usize != message.len() {
        return Err(wrong("the answer does not hold one message"));
    }
    Ok(body.slice(FRAME..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_one_message() {
        assert_eq!(unframed(Bytes::from_static(b"\0\0\0\0\x02ab")).unwrap(), "ab");
        assert_eq!(unframed(Bytes::from_static(b"\0\0\0\0\0")).unwrap(), "");
        for bad in [
            &b""[..],
            b"\0\0\0",
            b"\x01\0\0\0\x01a",
            b"\0\0\0\0\x02a",
            b"\0\xff\xff\xff\xffa",
        ] {
            assert!(unframed(Bytes::copy_from_slice(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_status_is_told_as_grpc_go_does() {
        let mut headers = HeaderMap::new();
        assert_eq!(status(&headers).unwrap_err().code, GrpcStatus::INTERNAL);
        headers.insert("grpc-status", "14".parse().unwrap());
        headers.insert("grpc-message", "no%20key%21 %zz %".parse().unwrap());
        let told = status(&headers).unwrap_err().to_string();
        assert_eq!(told, "rpc error: code = Unavailable desc = no key! %zz %");
        headers.insert("grpc-status", "0".parse().unwrap());
        assert_eq!(status(&headers), Ok(()));
    }

    #[tokio::test]
    async fn a_call_to_nobody_ends_in_time_and_says_why() {
        let client = GrpcClient::new("/nonexistent/socket");
        let error = client.call("/a.B/C", b"", Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(error.code, GrpcStatus::DEADLINE_EXCEEDED);
        assert!(error.message.contains("dial unix /nonexistent/socket"), "{error}");
    }
}
