//! More clients than anybody needs, and bodies larger than anybody may send. Run by `make overload`.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use rustix::process::{Resource, getrlimit, setrlimit};
use std::{
    fs,
    net::SocketAddr,
    time::{Duration, Instant},
};
use strata_e2e::Server;
use strata_http::{Body, BoxError, BoxedIo, ClientTls, Connection};
use tokio::net::TcpStream;

const SILENT: usize = 9000;
const TALKING: usize = 1000;
const LARGE_BODIES: usize = 64;
const BODY: usize = 4 << 20;
/// How long one answer may take while all that goes on, on two busy cores and without optimisation.
const PATIENCE: Duration = Duration::from_secs(30);
/// Memory beyond what the idle server has: some 40 KiB a connection, and the bodies at a time.
const MOST_MIB: u64 = 400;

struct Target {
    address: SocketAddr,
    tls: ClientTls,
    pid: u32,
}

impl Target {
    fn of(server: &Server) -> Self {
        let text = fs::read_to_string(server.data_dir().join("admin.kubeconfig")).expect("a kubeconfig");
        let field = |name: &str| {
            let behind = text.split_once(&format!("{name}:")).expect("complete").1;
            let mut words = behind.split_whitespace();
            let value = words.find(|word| !word.starts_with('>')).expect("complete");
            STANDARD.decode(value.trim_matches('"')).expect("base64")
        };
        let ca = field("certificate-authority-data");
        let (certificate, key) = (field("client-certificate-data"), field("client-key-data"));
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], server.port())),
            tls: ClientTls::new(&ca, Some((&certificate, &key)))
                .expect("TLS")
                .http1_only(),
            pid: server.pid().expect("it runs"),
        }
    }

    async fn connect(&self) -> Connection {
        let tcp = TcpStream::connect(self.address).await.expect("connected");
        let io: BoxedIo = Box::new(self.tls.connect(tcp, "localhost").await.expect("TLS"));
        Connection::http1(io).await.expect("HTTP")
    }

    /// Resident memory in MiB.
    fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("it runs");
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).expect("a size");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1024
    }

    fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid)).expect("it runs").count()
    }

    /// How long a client of its own waits for an answer.
    async fn answer(&self) -> Duration {
        let began = Instant::now();
        let asked = async {
            let mut connection = self.connect().await;
            get(&mut connection).await
        };
        let code = tokio::time::timeout(PATIENCE, asked).await.expect("an answer in time");
        assert_eq!(code, StatusCode::OK);
        began.elapsed()
    }
}

async fn get(connection: &mut Connection) -> StatusCode {
    let request = Request::get("/api/v1/namespaces/default").header("host", "localhost");
    let response = connection.send(request.body(Body::empty()).expect("a request")).await;
    let response: Response<_> = response.expect("answered");
    let code = response.status();
    response.into_body().collect().await.expect("whole");
    code
}

/// A body in pieces, without a length.
fn large() -> Body {
    let piece = Bytes::from(vec![b' '; 64 << 10]);
    Body::stream(stream::iter(
        (0..BODY >> 16).map(move |_| Ok::<_, BoxError>(piece.clone())),
    ))
}

async fn post(target: &Target, body: Body, encoding: Option<&str>) -> Option<StatusCode> {
    let mut connection = target.connect().await;
    let mut request = Request::post("/api/v1/namespaces/default/configmaps")
        .header("host", "localhost")
        .header("content-type", "application/json");
    if let Some(encoding) = encoding {
        request = request.header("content-encoding", encoding);
    }
    // A server that has refused a body need not read the rest of it.
    let response = connection.send(request.body(body).expect("a request")).await.ok()?;
    Some(response.status())
}

async fn overload(target: &Target) {
    let idle = target.memory();
    println!("idle: {idle} MiB, an answer in {:?}", target.answer().await);
    let talking: Vec<Connection> = stream::iter(0..TALKING)
        .map(|_| async {
            let mut connection = target.connect().await;
            assert_eq!(get(&mut connection).await, StatusCode::OK);
            connection
        })
        .buffer_unordered(64)
        .collect()
        .await;
    println!("{TALKING} clients with TLS: {} MiB", target.memory());
    let silent: Vec<TcpStream> = stream::iter(0..SILENT)
        .map(|_| async { TcpStream::connect(target.address).await.expect("connected") })
        .buffer_unordered(256)
        .collect()
        .await;
    let answered = target.answer().await;
    let (held, memory) = (target.descriptors(), target.memory());
    println!("and {SILENT} that say nothing: {held} descriptors, {memory} MiB, an answer in {answered:?}");
    assert!(held >= SILENT, "{held}: all are taken");
    let mut most = memory;
    let codes: Vec<Option<StatusCode>> = stream::iter(0..LARGE_BODIES)
        .map(|_| post(target, large(), None))
        .buffer_unordered(LARGE_BODIES)
        .inspect(|_| most = most.max(target.memory()))
        .collect()
        .await;
    let refused = codes
        .iter()
        .filter(|c| **c == Some(StatusCode::PAYLOAD_TOO_LARGE))
        .count();
    let served = codes.iter().flatten().filter(|code| code.is_success()).count();
    println!(
        "{LARGE_BODIES} bodies of {} MiB at a time: {refused} answered 413, {most} MiB",
        BODY >> 20
    );
    assert!(refused > LARGE_BODIES / 2 && served == 0, "{codes:?}");
    // What says that it is compressed is read as it is: nothing is unpacked.
    let packed = Bytes::from_static(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03");
    assert_eq!(
        post(target, Body::full(packed), Some("gzip")).await,
        Some(StatusCode::BAD_REQUEST)
    );
    drop(silent);
    drop(talking);
    println!(
        "afterwards: {} MiB, an answer in {:?}",
        target.memory(),
        target.answer().await
    );
    assert!(most < idle + MOST_MIB, "{most} MiB");
}

#[test]
#[ignore = "opens 10,000 connections: make overload"]
fn ten_thousand_connections_and_oversized_bodies_leave_a_server_that_answers() {
    strata_http::install_crypto();
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files).expect("enough descriptors");
    let server = Server::start(&["--no-node"]);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(overload(&Target::of(&server)));
}
