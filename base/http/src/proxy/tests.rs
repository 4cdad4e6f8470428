use super::*;
use crate::{
    Limits,
    testing::{TestServer, soon},
    websocket::{self, Message},
};
use futures::{SinkExt, StreamExt};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Answers with what it got; echoes after an upgrade to `echo`, until the client closes, then says `bye`.
async fn backend() -> TestServer {
    TestServer::start(Limits::default(), |mut request: Request<Incoming>, _| {
        if upgrade_of(request.headers()).is_some_and(|protocol| protocol == "echo") {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut io = TokioIo::new(upgrade.await.expect("upgraded"));
                let mut text = Vec::new();
                io.read_to_end(&mut text).await.expect("read");
                io.write_all(&[&text, b" bye".as_slice()].concat())
                    .await
                    .expect("written");
                io.shutdown().await.expect("closed");
            });
            return Box::pin(async { crate::websocket::switching("echo") });
        }
        if websocket::is_upgrade(request.headers()) {
            let accepted = websocket::accept(&mut request, &[""]).expect("accepted");
            tokio::spawn(async move {
                let mut socket = accepted.socket.await.expect("socket");
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_binary() {
                        socket.send(message).await.expect("sent");
                    }
                }
            });
            return Box::pin(async move { accepted.response });
        }
        let mut lines: Vec<String> = request
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}={}", value.to_str().expect("text")))
            .collect();
        lines.sort();
        let head = format!("{} {} {}\n", request.method(), request.uri(), lines.join(" "));
        Box::pin(async move {
            let body = request.into_body().collect().await.expect("body").to_bytes();
            let mut response = Response::new(Body::full([head.as_bytes(), &body].concat()));
            response
                .headers_mut()
                .insert("keep-alive", HeaderValue::from_static("timeout=5"));
            response
                .headers_mut()
                .insert("x-mine", HeaderValue::from_static("kept"));
            response
        })
    })
    .await
}

async fn front(backend: Arc<TestServer>) -> TestServer {
    TestServer::start(Limits::default(), move |mut request: Request<Incoming>, _| {
        let backend = backend.clone();
        Box::pin(async move {
            *request.uri_mut() = format!("/rewritten{}", request.uri().path()).parse().expect("path");
            request.headers_mut().remove(HOST);
            match forward(request, backend.connect().await, CancellationToken::new()).await {
                Ok(response) => response,
                Err(error) => panic!("{error}"),
            }
        })
    })
    .await
}

#[tokio::test]
async fn requests_pass_without_what_belongs_to_one_hop() {
    let front = front(Arc::new(backend().await)).await;
    let mut connection = Connection::http1(front.connect().await).await.expect("connected");
    let request = Request::post("/a")
        .header("host", "front")
        .header("authorization", "Bearer secret")
        .header("impersonate-user", "root")
        .header("connection", "x-drop")
        .header("x-drop", "1")
        .header("x-keep", "2")
        .body(Body::full("body"))
        .expect("request");
    let response = soon(connection.send(request)).await.expect("answered");
    assert_eq!(response.headers()["x-mine"], "kept");
    assert!(!response.headers().contains_key("keep-alive"));
    let text = response.into_body().collect().await.expect("body").to_bytes();
    assert_eq!(text, "POST /rewritten/a content-length=4 host=localhost x-keep=2\nbody");
}

#[tokio::test]
async fn upgraded_connections_close_half_by_half() {
    let front = front(Arc::new(backend().await)).await;
    let mut connection = Connection::http1(front.connect().await).await.expect("connected");
    let request = Request::get("/")
        .header("host", "x")
        .header("connection", "Upgrade")
        .header("upgrade", "echo");
    let response = soon(connection.send(request.body(Body::empty()).expect("request")))
        .await
        .expect("answered");
    assert_eq!(response.status(), 101);
    let mut io = TokioIo::new(hyper::upgrade::on(response).await.expect("upgraded"));
    io.write_all(b"hello").await.expect("written");
    io.shutdown().await.expect("half closed");
    let mut text = String::new();
    soon(io.read_to_string(&mut text)).await.expect("read");
    assert_eq!(text, "hello bye");
}

#[tokio::test]
async fn websockets_pass_through() {
    let front = front(Arc::new(backend().await)).await;
    let (mut socket, _) = websocket::connect(front.connect().await, "x", "/", &[], HeaderMap::new())
        .await
        .expect("upgraded");
    for size in [0, 10, 200_000] {
        let message = Message::binary(vec![7u8; size]);
        socket.send(message.clone()).await.expect("sent");
        assert_eq!(soon(socket.next()).await.expect("a message").expect("valid"), message);
    }
}
