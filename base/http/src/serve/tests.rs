use super::*;
use crate::{
    Connection, HttpsClient,
    testing::{TestServer, certificates, soon},
};
use http::{Request, Response, StatusCode, Version};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn answer(text: impl Into<bytes::Bytes>) -> BoxFuture<'static, Response<Body>> {
    let response = Response::new(Body::full(text));
    Box::pin(async move { response })
}

async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.expect("body").to_bytes().to_vec()).expect("text")
}

fn get(url: String) -> Request<Body> {
    Request::get(url).body(Body::empty()).expect("request")
}

#[tokio::test]
async fn clients_are_known_by_certificates_of_the_authority_alone() {
    let server = TestServer::start(Limits::default(), |request, peer| {
        answer(format!(
            "{:?} {} {}",
            request.version(),
            peer.certificates.is_some(),
            peer.certificate_error.is_some()
        ))
    })
    .await;
    for (identified, wanted) in [(true, "HTTP/2.0 true false"), (false, "HTTP/2.0 false false")] {
        let client = HttpsClient::new(server.client_tls(identified));
        let response = soon(client.send(get(server.url("/")))).await.expect("answered");
        assert_eq!(response.version(), Version::HTTP_2);
        assert_eq!(text(response).await, wanted);
    }
    let stranger = certificates().client;
    let identity = Some((stranger.0.as_bytes(), stranger.1.as_bytes()));
    let tls = crate::ClientTls::new(server.certificates.ca.as_bytes(), identity).expect("TLS");
    let response = soon(HttpsClient::new(tls).send(get(server.url("/"))))
        .await
        .expect("not a broken connection");
    assert_eq!(text(response).await, "HTTP/2.0 false true");
}

#[tokio::test]
async fn a_client_refuses_a_server_of_another_authority() {
    let server = TestServer::start(Limits::default(), |_, _| answer("")).await;
    let tls = crate::ClientTls::new(certificates().ca.as_bytes(), None).expect("TLS");
    let error = soon(HttpsClient::new(tls).send(get(server.url("/"))))
        .await
        .expect_err("refused");
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test]
async fn a_replaced_certificate_serves_new_connections() {
    let server = TestServer::start(Limits::default(), |_, _| answer("ok")).await;
    let next = certificates();
    let (certificate, key) = &next.server;
    server
        .tls
        .replace_certificate(certificate.as_bytes(), key.as_bytes())
        .expect("replaced");
    assert!(
        server
            .tls
            .replace_certificate(certificate.as_bytes(), next.client.1.as_bytes())
            .is_err(),
        "other key"
    );
    let tls = crate::ClientTls::new(next.ca.as_bytes(), None).expect("TLS");
    soon(HttpsClient::new(tls).send(get(server.url("/"))))
        .await
        .expect("the new certificate");
    assert!(
        soon(HttpsClient::new(server.client_tls(false)).send(get(server.url("/"))))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn each_chunk_of_a_stream_arrives_before_the_next_is_made() {
    let (sender, body) = Body::channel(1);
    let body = std::sync::Mutex::new(Some(body));
    let server = TestServer::start(Limits::default(), move |_, _| {
        let body = body.lock().expect("lock").take().expect("one request");
        Box::pin(async move { Response::new(body) })
    })
    .await;
    let client = HttpsClient::new(server.client_tls(false));
    let mut response = soon(client.send(get(server.url("/"))))
        .await
        .expect("answered")
        .into_body();
    for chunk in ["one", "two"] {
        sender.send(chunk).await.expect("sent");
        let frame = soon(response.frame()).await.expect("a frame").expect("valid");
        assert_eq!(frame.into_data().expect("data"), chunk);
    }
    drop(response);
    soon(sender.closed()).await;
    assert!(sender.send("three").await.is_err());
}

#[tokio::test]
async fn large_headers_are_refused() {
    let server = TestServer::start(Limits::default(), |_, _| answer("ok")).await;
    let mut connection = Connection::http1(server.connect().await).await.expect("connected");
    let request = Request::get("/")
        .header("host", "localhost")
        .header("x", "y".repeat(70 << 10));
    let response = soon(connection.send(request.body(Body::empty()).expect("request")))
        .await
        .expect("answered");
    assert_eq!(response.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
}

#[tokio::test]
async fn slow_clients_are_cut_off() {
    let short = Duration::from_millis(50);
    let limits = Limits {
        header_timeout: short,
        handshake_timeout: short,
        ..Limits::default()
    };
    let server = TestServer::start(limits, |_, _| answer("ok")).await;
    let mut silent = TcpStream::connect(server.address).await.expect("connected");
    assert_eq!(soon(silent.read(&mut [0; 8])).await.expect("closed"), 0, "no handshake");
    let mut slow = server.connect().await;
    slow.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n").await.expect("written");
    let mut rest = Vec::new();
    // The end may be abrupt.
    let _ = soon(slow.read_to_end(&mut rest)).await;
    assert!(!rest.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn requests_finish_after_cancellation_and_stragglers_are_cut_off() {
    let (started, mut starts) = tokio::sync::mpsc::channel(2);
    let (release, released) = tokio::sync::watch::channel(false);
    let limits = Limits {
        shutdown_grace: Duration::from_millis(300),
        ..Limits::default()
    };
    let server = TestServer::start(limits, move |request: Request<Incoming>, _| {
        let (started, mut released) = (started.clone(), released.clone());
        Box::pin(async move {
            started.send(()).await.expect("heard");
            if request.uri().path() == "/straggler" {
                std::future::pending::<()>().await;
            }
            released.wait_for(|released| *released).await.expect("released");
            Response::new(Body::full("done"))
        })
    })
    .await;
    let send = |path: &str| {
        let (client, request) = (HttpsClient::new(server.client_tls(false)), get(server.url(path)));
        tokio::spawn(async move { client.send(request).await })
    };
    let (good, straggler) = (send("/"), send("/straggler"));
    soon(starts.recv()).await;
    soon(starts.recv()).await;
    server.cancel.cancel();
    release.send(true).expect("somebody waits");
    assert_eq!(text(soon(good).await.expect("task").expect("answered")).await, "done");
    assert!(soon(straggler).await.expect("task").is_err());
    soon(server.task).await.expect("task").expect("no error");
    assert!(
        TcpStream::connect(server.address).await.is_err(),
        "the listener is closed"
    );
}

/// An HTTP/2 connection that frames are written to as they are.
async fn raw_http2(server: &TestServer) -> impl AsyncReadExt + AsyncWriteExt + Unpin {
    let tcp = TcpStream::connect(server.address).await.expect("connected");
    let mut tls = soon(server.client_tls(false).connect(tcp, "localhost"))
        .await
        .expect("TLS");
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .expect("written");
    tls.write_all(&http2_frame(4, 0, 0, &[])).await.expect("written");
    tls
}

/// RFC 9113 section 4.1.
fn http2_frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The error code of the GOAWAY that ends a connection, if one came.
async fn goodbye(connection: &mut (impl AsyncReadExt + Unpin)) -> Option<u32> {
    loop {
        let mut head = [0; 9];
        connection.read_exact(&mut head).await.ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        connection.read_exact(&mut payload).await.ok()?;
        if head[3] == 7 {
            return Some(u32::from_be_bytes(payload[4..8].try_into().expect("four bytes")));
        }
    }
}

#[tokio::test]
async fn a_client_that_takes_back_request_after_request_is_cut_off() {
    let server = TestServer::start(Limits::default(), |_, _| Box::pin(std::future::pending())).await;
    let mut connection = raw_http2(&server).await;
    // :method GET, :scheme https, :path /, :authority x (RFC 7541), then taken back: CANCEL.
    let headers = [0x82, 0x87, 0x84, 0x41, 0x01, b'x'];
    let pair = |at: u32| {
        let stream = at * 2 + 1;
        [
            http2_frame(1, 5, stream, &headers),
            http2_frame(3, 0, stream, &8_u32.to_be_bytes()),
        ]
        .concat()
    };
    let flood: Vec<u8> = (0..20_000).flat_map(pair).collect();
    // The connection may end before everything is written.
    let _ = connection.write_all(&flood).await;
    // ENHANCE_YOUR_CALM, unless the end came faster.
    assert!(matches!(soon(goodbye(&mut connection)).await, Some(11) | None));
}

#[tokio::test]
async fn settings_without_end_are_answered_no_faster_than_they_are_read() {
    let server = TestServer::start(Limits::default(), |_, _| answer("ok")).await;
    let mut flooding = raw_http2(&server).await;
    let flood = http2_frame(4, 0, 0, &[]).repeat(10_000);
    let writing = async {
        // Nothing is read, so at some point nothing more is taken.
        while flooding.write_all(&flood).await.is_ok() {}
    };
    let client = HttpsClient::new(server.client_tls(false));
    let asked = client.send(get(server.url("/")));
    tokio::select! {
        () = writing => {}
        answered = soon(asked) => assert_eq!(text(answered.expect("answered")).await, "ok"),
    }
}

#[tokio::test]
async fn idle_connections_are_told_to_go_and_busy_ones_are_not() {
    let (sender, body) = Body::channel(1);
    let body = std::sync::Mutex::new(Some(body));
    let limits = Limits {
        idle_timeout: Duration::from_millis(100),
        ..Limits::default()
    };
    let server = TestServer::start(limits, move |_, _| {
        let body = body.lock().expect("lock").take().expect("one request");
        Box::pin(async move { Response::new(body) })
    })
    .await;
    let client = HttpsClient::new(server.client_tls(false));
    let mut stream = soon(client.send(get(server.url("/"))))
        .await
        .expect("answered")
        .into_body();
    // Another connection comes and goes while this one is busy.
    let mut idle = raw_http2(&server).await;
    assert_eq!(soon(goodbye(&mut idle)).await, Some(0), "NO_ERROR");
    sender.send("still here").await.expect("sent");
    let frame = soon(stream.frame()).await.expect("a frame").expect("valid");
    assert_eq!(frame.into_data().expect("data"), "still here");
}

#[tokio::test]
async fn by_chance_a_client_is_told_to_connect_anew() {
    let limits = Limits {
        goaway_chance: 1.0,
        ..Limits::default()
    };
    let server = TestServer::start(limits, |_, _| answer("ok")).await;
    let mut connection = raw_http2(&server).await;
    let headers = [0x82, 0x87, 0x84, 0x41, 0x01, b'x'];
    connection
        .write_all(&http2_frame(1, 5, 1, &headers))
        .await
        .expect("written");
    assert_eq!(soon(goodbye(&mut connection)).await, Some(0));
}

#[tokio::test]
async fn plain_http_is_told_what_is_wrong() {
    let server = TestServer::start(Limits::default(), |_, _| answer("ok")).await;
    let mut plain = TcpStream::connect(server.address).await.expect("connected");
    plain
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .expect("written");
    let mut text = Vec::new();
    let _ = soon(plain.read_to_end(&mut text)).await;
    assert!(String::from_utf8_lossy(&text).contains("HTTP request to an HTTPS server"));
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_place() {
    let server = TestServer::start(
        Limits {
            connections: 1,
            ..Limits::default()
        },
        |_, _| answer("ok"),
    )
    .await;
    let first = server.connect().await;
    let mut second = Box::pin(server.connect());
    assert!(
        tokio::time::timeout(Duration::from_millis(100), &mut second)
            .await
            .is_err(),
        "no place yet"
    );
    drop(first);
    soon(second).await;
}
