use super::*;
use crate::{
    Limits, Peer,
    spdy::Session as SpdySession,
    testing::{TestServer, soon},
    websocket::Message,
};
use futures::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;

/// A command that writes its input in capitals to stdout, says `bye` on stderr and exits with 3.
async fn shout(session: Session) {
    let Session {
        stdin,
        stdout,
        stderr,
        mut resize,
        control,
    } = session;
    let mut stdout = stdout.expect("stdout");
    if let Some(mut stdin) = stdin {
        let mut text = String::new();
        stdin.read_to_string(&mut text).await.expect("stdin");
        stdout.write_all(text.to_uppercase().as_bytes()).await.expect("stdout");
    } else if resize.wait_for(Option::is_some).await.is_ok() {
        let size = (*resize.borrow()).expect("a size");
        stdout
            .write_all(format!("{}x{}", size.width, size.height).as_bytes())
            .await
            .expect("stdout");
    }
    if let Some(mut stderr) = stderr {
        stderr.write_all(b"bye").await.expect("stderr");
    }
    drop(stdout);
    control.finish(&Outcome::Exit(3)).await;
}

async fn exec_server() -> TestServer {
    TestServer::start(Limits::default(), |mut request: Request<Incoming>, _: Peer| {
        let options = Options::from_query(request.uri().query().unwrap_or_default());
        let response = match accept(&mut request, options) {
            Ok(accepted) => {
                tokio::spawn(async move { shout(accepted.session.await.expect("session")).await });
                accepted.response
            }
            Err(response) => *response,
        };
        Box::pin(async move { response })
    })
    .await
}

async fn socket(server: &TestServer, query: &str, protocol: &str) -> WebSocket {
    let offered = if protocol.is_empty() {
        vec![]
    } else {
        vec!["unknown", protocol]
    };
    let path = format!("/exec?{query}");
    let opened = websocket::connect(server.connect().await, "localhost", &path, &offered, HeaderMap::new()).await;
    let (socket, chosen) = opened.expect("upgraded");
    assert_eq!(chosen, protocol);
    socket
}

/// What came on each channel until the close.
async fn collect(mut socket: WebSocket, codec: Codec) -> HashMap<u8, String> {
    let mut channels: HashMap<u8, String> = HashMap::new();
    let mut code = None;
    while let Some(Ok(message)) = soon(socket.next()).await {
        if let Message::Close(frame) = &message {
            code = frame.as_ref().map(|frame| u16::from(frame.code));
        }
        if let Some((channel, bytes)) = codec.decode(&message).expect("message") {
            *channels.entry(channel).or_default() += std::str::from_utf8(&bytes).expect("text");
        }
    }
    assert_eq!(code, Some(1000), "kubectl takes any other end for a failure");
    channels
}

fn assert_exit_3(status: &str) {
    let status: serde_json::Value = serde_json::from_str(status).expect("a Status");
    assert_eq!(status["reason"], "NonZeroExitCode");
    assert_eq!(
        status["details"]["causes"][0],
        json!({"reason": "ExitCode", "message": "3"})
    );
}

#[tokio::test]
async fn version_5_closes_stdin_alone() {
    let server = exec_server().await;
    let mut socket = socket(&server, "input=1&output=1&error=1", "v5.channel.k8s.io").await;
    for message in [b"\x00hel".as_slice(), b"\x00lo", &[255, 0]] {
        socket.send(Message::binary(message.to_vec())).await.expect("sent");
    }
    let channels = collect(socket, Codec::Binary).await;
    assert_eq!((channels[&1].as_str(), channels[&2].as_str()), ("HELLO", "bye"));
    assert_exit_3(&channels[&3]);
}

#[tokio::test]
async fn a_terminal_has_a_size_and_one_output() {
    let server = exec_server().await;
    let mut socket = socket(&server, "stdout=true&stderr=true&tty=true", "v4.channel.k8s.io").await;
    let resize = [b"\x04".as_slice(), br#"{"Width":132,"Height":43}"#].concat();
    socket.send(Message::binary(resize)).await.expect("sent");
    let channels = collect(socket, Codec::Binary).await;
    assert_eq!(channels[&1], "132x43");
    assert!(!channels.contains_key(&2));
    assert_exit_3(&channels[&3]);
}

#[tokio::test]
async fn the_first_protocol_says_the_result_in_words() {
    let server = exec_server().await;
    for (protocol, codec) in [
        ("channel.k8s.io", Codec::Binary),
        ("base64.channel.k8s.io", Codec::Base64),
        ("", Codec::Binary),
    ] {
        let mut socket = socket(&server, "output=1&tty=1", protocol).await;
        let size = codec.encode(4, br#"{"Width":1,"Height":2}"#);
        socket.send(size).await.expect("sent");
        let channels = collect(socket, codec).await;
        assert_eq!(channels[&1], "1x2");
        assert!(channels[&3].contains("exit code 3"), "{channels:?}");
    }
}

#[tokio::test]
async fn strangers_are_refused() {
    let server = exec_server().await;
    let io = server.connect().await;
    let refused = websocket::connect(io, "localhost", "/exec", &["unknown"], HeaderMap::new()).await;
    assert!(refused.map(drop).expect_err("refused").to_string().contains("403"));
    let mut connection = crate::Connection::http1(server.connect().await)
        .await
        .expect("connected");
    let plain = Request::get("/exec")
        .header("host", "localhost")
        .body(Body::empty())
        .expect("request");
    assert_eq!(connection.send(plain).await.expect("answered").status(), 400);
}

async fn spdy_client(server: &TestServer, query: &str) -> SpdySession {
    let request = Request::post(format!("/exec?{query}"))
        .header("host", "localhost")
        .header("connection", "Upgrade")
        .header("upgrade", "SPDY/3.1")
        .header("x-stream-protocol-version", "v9.channel.k8s.io, v4.channel.k8s.io")
        .header("x-stream-protocol-version", "channel.k8s.io")
        .body(Body::empty())
        .expect("request");
    let mut connection = crate::Connection::http1(server.connect().await)
        .await
        .expect("connected");
    let response = connection.send(request).await.expect("answered");
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["x-stream-protocol-version"], "v4.channel.k8s.io");
    SpdySession::client(TokioIo::new(hyper::upgrade::on(response).await.expect("upgraded"))).expect("session")
}

async fn open(session: &SpdySession, kind: &'static str) -> Stream {
    let headers = HeaderMap::from_iter([("streamtype".parse().expect("name"), HeaderValue::from_static(kind))]);
    soon(session.open(headers)).await.expect("opened")
}

async fn text(mut stream: Stream) -> String {
    let mut text = String::new();
    soon(stream.read_to_string(&mut text)).await.expect("read to the end");
    text
}

#[tokio::test]
async fn older_clients_use_spdy() {
    let server = exec_server().await;
    let session = spdy_client(&server, "input=1&output=1&error=1").await;
    let error = open(&session, "error").await;
    let mut stdin = open(&session, "stdin").await;
    let (stdout, stderr) = (open(&session, "stdout").await, open(&session, "stderr").await);
    stdin.write_all(b"hello").await.expect("written");
    stdin.shutdown().await.expect("closed");
    assert_eq!(text(stdout).await, "HELLO");
    assert_eq!(text(stderr).await, "bye");
    assert_exit_3(&text(error).await);
}

#[tokio::test]
async fn spdy_terminals_are_resized() {
    let server = exec_server().await;
    let session = spdy_client(&server, "output=1&tty=1").await;
    let error = open(&session, "error").await;
    let stdout = open(&session, "stdout").await;
    let mut resize = open(&session, "resize").await;
    resize.write_all(br#"{"Width":80,"#).await.expect("written");
    resize.write_all(br#""Height":25}"#).await.expect("written");
    assert_eq!(text(stdout).await, "80x25");
    assert_exit_3(&text(error).await);
}

#[tokio::test]
async fn a_client_that_goes_ends_stdin_and_the_session() {
    let (told, mut ended) = tokio::sync::mpsc::channel(1);
    let server = TestServer::start(Limits::default(), move |mut request: Request<Incoming>, _: Peer| {
        let accepted = accept(
            &mut request,
            Options {
                stdin: true,
                ..Options::default()
            },
        )
        .expect("accepted");
        let told = told.clone();
        tokio::spawn(async move {
            let mut session = accepted.session.await.expect("session");
            let mut text = String::new();
            session
                .stdin
                .take()
                .expect("stdin")
                .read_to_string(&mut text)
                .await
                .expect("stdin ends");
            session.control.ended().cancelled().await;
            told.send(text).await.expect("told");
        });
        Box::pin(async move { accepted.response })
    })
    .await;
    let mut socket = socket(&server, "", "v5.channel.k8s.io").await;
    socket.send(Message::binary(b"\x00half".to_vec())).await.expect("sent");
    drop(socket);
    assert_eq!(soon(ended.recv()).await.as_deref(), Some("half"));
}
