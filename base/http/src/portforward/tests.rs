use super::*;
use crate::{
    Limits, Peer,
    testing::{TestServer, soon},
};
use futures::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderName, HeaderValue};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use websocket::Message;

/// Port 1 refuses; any other echoes behind its number.
async fn forward_all(mut forwards: PortForward) {
    while let Some(mut forward) = forwards.next().await {
        tokio::spawn(async move {
            if forward.port == 1 {
                forward.error.write_all(b"connection refused").await.expect("written");
                return;
            }
            drop(forward.error);
            forward
                .data
                .write_all(format!("{}:", forward.port).as_bytes())
                .await
                .expect("written");
            let (mut read, mut write) = tokio::io::split(forward.data);
            // A client that resets the stream ends this with an error.
            if tokio::io::copy(&mut read, &mut write).await.is_ok() {
                write.shutdown().await.expect("closed");
            }
        });
    }
}

async fn server() -> TestServer {
    TestServer::start(Limits::default(), |mut request: Request<Incoming>, _: Peer| {
        let response = match accept(&mut request) {
            Ok(accepted) => {
                tokio::spawn(async move { forward_all(accepted.session.await.expect("session")).await });
                accepted.response
            }
            Err(response) => *response,
        };
        Box::pin(async move { response })
    })
    .await
}

async fn tunnel(server: &TestServer) -> spdy::Session {
    let io = server.connect().await;
    let (socket, protocol) = websocket::connect(io, "localhost", "/", &[TUNNEL], HeaderMap::new())
        .await
        .expect("upgraded");
    assert_eq!(protocol, TUNNEL);
    spdy::Session::client(ByteStream::new(socket)).expect("session")
}

fn headers(kind: &str, port: &str, request: &str) -> HeaderMap {
    [("streamtype", kind), ("port", port), ("requestid", request)]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_str(value).expect("value"),
            )
        })
        .collect()
}

async fn request(session: &spdy::Session, port: &str, id: &str) -> (Stream, Stream) {
    let mut error = soon(session.open(headers("error", port, id)))
        .await
        .expect("error stream");
    error.shutdown().await.expect("closed");
    let data = soon(session.open(headers("data", port, id)))
        .await
        .expect("data stream");
    (error, data)
}

async fn text(stream: &mut Stream) -> String {
    let mut text = String::new();
    soon(stream.read_to_string(&mut text)).await.expect("read to the end");
    text
}

async fn check(session: &spdy::Session) {
    // The last two are from clients that send no request id.
    for (port, id) in [("80", "0"), ("8080", "1"), ("5000", ""), ("5001", "")] {
        let (mut error, mut data) = request(session, port, id).await;
        data.write_all(b"hello").await.expect("written");
        data.shutdown().await.expect("closed");
        assert_eq!(text(&mut data).await, format!("{port}:hello"));
        assert_eq!(text(&mut error).await, "");
    }
    let (mut error, mut data) = request(session, "1", "7").await;
    assert_eq!(text(&mut error).await, "connection refused");
    assert_eq!(text(&mut data).await, "");
}

#[tokio::test]
async fn spdy_inside_a_websocket_as_kubectl_speaks_it() {
    check(&tunnel(&server().await).await).await;
}

#[tokio::test]
async fn plain_spdy_as_older_clients_speak_it() {
    let server = server().await;
    let request = Request::post("/")
        .header("host", "localhost")
        .header("connection", "Upgrade")
        .header("upgrade", "SPDY/3.1")
        .header("x-stream-protocol-version", "portforward.k8s.io")
        .body(Body::empty())
        .expect("request");
    let mut connection = crate::Connection::http1(server.connect().await)
        .await
        .expect("connected");
    let response = connection.send(request).await.expect("answered");
    assert_eq!(response.status(), 101);
    let io = hyper::upgrade::on(response).await.expect("upgraded");
    check(&spdy::Session::client(TokioIo::new(io)).expect("session")).await;
}

#[tokio::test]
async fn streams_that_make_no_sense_are_reset() {
    let server = server().await;
    let session = tunnel(&server).await;
    for (kind, port, id) in [
        ("video", "80", "1"),
        ("data", "0", "2"),
        ("data", "http", "3"),
        ("error", "65536", "4"),
    ] {
        assert!(
            soon(session.open(headers(kind, port, id))).await.is_err(),
            "{kind} {port}"
        );
    }
    soon(session.open(headers("error", "80", "5")))
        .await
        .expect("first half");
    assert!(
        soon(session.open(headers("error", "80", "5"))).await.is_err(),
        "the same half twice"
    );
    assert!(
        soon(session.open(headers("data", "81", "5"))).await.is_err(),
        "another port"
    );
    check(&session).await;
}

#[tokio::test]
async fn channels_with_ports_in_the_query() {
    let server = server().await;
    let io = server.connect().await;
    let path = "/?ports=80,1";
    let (mut socket, _) = websocket::connect(io, "localhost", path, &["v4.channel.k8s.io"], HeaderMap::new())
        .await
        .expect("upgraded");
    socket.send(Message::binary(b"\x00hello".to_vec())).await.expect("sent");
    let mut channels: HashMap<u8, Vec<u8>> = HashMap::new();
    let whole = |channels: &HashMap<u8, Vec<u8>>| {
        channels.get(&0).is_some_and(|data| data.len() == 10) && channels.get(&3).is_some_and(|data| data.len() > 2)
    };
    while !whole(&channels) {
        let message = soon(socket.next())
            .await
            .expect("a message")
            .expect("valid")
            .into_data();
        channels.entry(message[0]).or_default().extend_from_slice(&message[1..]);
    }
    assert_eq!(channels[&0], b"\x50\x0080:hello");
    assert_eq!(channels[&1], b"\x50\x00");
    assert_eq!(channels[&2], b"\x01\x00");
    assert_eq!(channels[&3], b"\x01\x00connection refused");
    for path in ["/", "/?ports=0", "/?ports=x"] {
        let io = server.connect().await;
        let refused = websocket::connect(io, "localhost", path, &["v4.channel.k8s.io"], HeaderMap::new()).await;
        assert!(refused.is_err(), "{path}");
    }
}
