//! The server's side of gRPC over a Unix socket: one message in, one message or a stream of them out.
//!
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>

use crate::{Body, BoxError, GrpcStatus, survive_accept};
use bytes::{BufMut, Bytes, BytesMut};
use futures::{StreamExt, future::BoxFuture, stream};
use http::{HeaderMap, HeaderValue, Request, Response, header::CONTENT_TYPE};
use http_body::Frame;
use http_body_util::{BodyExt, Limited, StreamBody};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::{convert::Infallible, io, pin::pin, sync::Arc, time::Duration};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Largest request (what clients of the container runtime interface allow).
const MAX_REQUEST: usize = 16 << 20;
/// Flag and length in front of a message.
const FRAME: usize = 5;
/// Connections at a time; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 1024;
/// Requests at a time on a connection.
const MAX_STREAMS: u32 = 1024;
/// How long requests may finish after cancellation.
const GRACE: Duration = Duration::from_secs(10);

/// What a call leads to.
pub enum GrpcAnswer {
    /// One message.
    One(Bytes),
    /// Messages until the sender is dropped, or an error that ends them.
    Many(mpsc::Receiver<Result<Bytes, GrpcStatus>>),
}

/// Answers calls.
pub trait GrpcService: Send + Sync + 'static {
    /// One call of `/service/method`. The future is run to its end even if the client goes.
    fn call(self: Arc<Self>, method: String, message: Bytes) -> BoxFuture<'static, Result<GrpcAnswer, GrpcStatus>>;
}

/// Serves until cancelled, then lets calls finish within a grace and returns.
///
/// Errors: when the listener itself fails.
pub async fn serve_grpc(
    listener: UnixListener,
    cancel: CancellationToken,
    service: Arc<dyn GrpcService>,
) -> io::Result<()> {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let (connections, calls) = (TaskTracker::new(), TaskTracker::new());
    let ending = cancel.child_token();
    let accept = async {
        loop {
            let slot = slots.clone().acquire_owned().await.map_err(io::Error::other)?;
            match listener.accept().await {
                Ok((stream, _)) => {
                    let connection = serve_connection(stream, ending.clone(), calls.clone(), service.clone());
                    connections.spawn(async move {
                        let _slot = slot;
                        connection.await;
                    });
                }
                Err(error) => survive_accept(error).await?,
            }
        }
    };
    let outcome = tokio::select! {
        () = cancel.cancelled() => Ok(()),
        failed = accept => failed,
    };
    ending.cancel();
    connections.close();
    calls.close();
    let all = async { tokio::join!(connections.wait(), calls.wait()) };
    if tokio::time::timeout(GRACE, all).await.is_err() {
        tracing::warn!("calls are still running after the grace period");
    }
    outcome
}

async fn serve_connection(
    stream: UnixStream,
    cancel: CancellationToken,
    calls: TaskTracker,
    service: Arc<dyn GrpcService>,
) {
    let answer = service_fn(move |request| {
        let (service, calls) = (service.clone(), calls.clone());
        async move { Ok::<_, Infallible>(respond(request, &calls, service).await) }
    });
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new()).max_concurrent_streams(MAX_STREAMS);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), answer));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = cancel.cancelled() => {
            connection.as_mut().graceful_shutdown();
            // Streams of events never end by themselves.
            match tokio::time::timeout(GRACE, connection).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "gRPC connection ended");
    }
}

async fn respond(request: Request<Incoming>, calls: &TaskTracker, service: Arc<dyn GrpcService>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let method = head.uri.path().to_owned();
    let answer = match message(&head.headers, body).await {
        // A call that changes something must not stop half-way because the client went.
        Ok(message) => calls
            .spawn(service.call(method, message))
            .await
            .unwrap_or_else(|_| Err(GrpcStatus::new(GrpcStatus::INTERNAL, "the call broke down"))),
        Err(status) => Err(status),
    };
    let mut response = match answer {
        Ok(GrpcAnswer::One(message)) => {
            let frames = [Frame::data(framed(&message)), Frame::trailers(trailers(None))];
            let frames = stream::iter(frames.map(Ok::<_, BoxError>));
            Response::new(Body::wrap(StreamBody::new(frames)))
        }
        Ok(GrpcAnswer::Many(receiver)) => Response::new(Body::wrap(StreamBody::new(frames(receiver)))),
        Err(status) => {
            let mut response = Response::new(Body::empty());
            response.headers_mut().extend(trailers(Some(&status)));
            response
        }
    };
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// The messages of a stream, then its status.
fn frames(
    receiver: mpsc::Receiver<Result<Bytes, GrpcStatus>>,
) -> impl futures::Stream<Item = Result<Frame<Bytes>, BoxError>> + Send + 'static {
    stream::unfold(Some(receiver), |state| async move {
        let mut receiver = state?;
        Some(match receiver.recv().await {
            Some(Ok(message)) => (Frame::data(framed(&message)), Some(receiver)),
            Some(Err(status)) => (Frame::trailers(trailers(Some(&status))), None),
            None => (Frame::trailers(trailers(None)), None),
        })
    })
    .map(Ok)
}

/// The one message of a request. Errors: another number of messages, a compressed or too large one.
async fn message(headers: &HeaderMap, body: Incoming) -> Result<Bytes, GrpcStatus> {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !kind.is_some_and(|kind| kind.starts_with("application/grpc")) {
        return Err(GrpcStatus::new(GrpcStatus::INTERNAL, "the content is not gRPC"));
    }
    let collected = Limited::new(body, MAX_REQUEST + FRAME).collect().await;
    let body = collected
        .map_err(|error| GrpcStatus::new(GrpcStatus::RESOURCE_EXHAUSTED, error))?
        .to_bytes();
    let wrong = |why: &str| GrpcStatus::new(GrpcStatus::INTERNAL, why);
    let Some((&[compressed, ref length @ ..], message)) = body.split_first_chunk::<FRAME>() else {
        return Err(wrong("the request holds no message"));
    };
    if compressed != 0 {
        return Err(GrpcStatus::new(
            GrpcStatus::UNIMPLEMENTED,
            "compressed messages are not supported",
        ));
    }
    if u32::from_be_bytes(*length) as usize != message.len() {
        return Err(wrong("the request does not hold one message"));
    }
    Ok(body.slice(FRAME..))
}

fn framed(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(FRAME + message.len());
    framed.put_u8(0);
    // Answers are made here and far smaller than 4 GiB; what is not would be refused by any client.
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(message);
    framed.freeze()
}

fn trailers(status: Option<&GrpcStatus>) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    let code = status.map_or(0, |status| status.code);
    trailers.insert("grpc-status", HeaderValue::from(code));
    if let Some(status) = status
        && let Ok(text) = HeaderValue::from_str(&percent_encoded(&status.message))
    {
        trailers.insert("grpc-message", text);
    }
    trailers
}

/// What is not printable ASCII, and `%`, as `%XX`.
fn percent_encoded(text: &str) -> String {
    use std::fmt::Write;
    // A header has bounds; the sentence's beginning says most.
    const LONGEST: usize = 8 << 10;
    let mut out = String::new();
    for byte in text.bytes().take(LONGEST) {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            // Writing to a string does not fail.
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GrpcClient;

    struct Echo;

    impl GrpcService for Echo {
        fn call(self: Arc<Self>, method: String, message: Bytes) -> BoxFuture<'static, Result<GrpcAnswer, GrpcStatus>> {
            Box::pin(async move {
                match method.as_str() {
                    "/test.Echo/Say" => Ok(GrpcAnswer::One(message)),
                    _ => Err(GrpcStatus::new(GrpcStatus::UNIMPLEMENTED, format!("no {method} ä%"))),
                }
            })
        }
    }

    #[tokio::test]
    async fn the_client_of_this_crate_is_answered_and_refused() {
        let name = format!("@strata-grpc-test-{}", std::process::id());
        use std::os::{linux::net::SocketAddrExt, unix::net::SocketAddr};
        let address = SocketAddr::from_abstract_name(&name[1..]).unwrap();
        let listener = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let cancel = CancellationToken::new();
        let listener = UnixListener::from_std(listener).unwrap();
        let server = tokio::spawn(serve_grpc(listener, cancel.clone(), Arc::new(Echo)));
        let client = GrpcClient::new(name);
        let limit = Duration::from_secs(10);
        assert_eq!(client.call("/test.Echo/Say", b"hello", limit).await.unwrap(), "hello");
        let refused = client.call("/test.Echo/Shout", b"hello", limit).await.unwrap_err();
        assert_eq!(refused.code, GrpcStatus::UNIMPLEMENTED);
        assert_eq!(refused.message, "no /test.Echo/Shout ä%");
        drop(client);
        cancel.cancel();
        server.await.unwrap().unwrap();
    }
}
