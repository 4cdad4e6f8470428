//! The server with real sockets on loopback, and other resolvers beside it.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use strata_client::{Client, Error, ListRequest, ObjectList, Transport, WatchRequest};
use strata_dns::{DnsOptions, DnsServer};
use strata_meta::{GroupVersionKind, Object, Revision, WatchEvent};
use strata_net::dns::{Edns, Message, Question, Record, RecordData, class, kind, rcode};
use strata_task::CancellationToken;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

const DEADLINE: Duration = Duration::from_secs(10);

/// An API of one headless service with many endpoints, and one external name, that never change.
struct Api;

impl Api {
    fn objects(plural: &str) -> Vec<String> {
        let endpoints: Vec<String> = (0..200)
            .map(|n| format!(r#"{{"addresses": ["10.244.0.{n}"]}}"#))
            .collect();
        let meta = |name: &str, more: &str| {
            format!(r#""metadata": {{"namespace": "shop", "name": "{name}", "uid": "{name}"{more}}}"#)
        };
        match plural {
            "services" => vec![
                format!(
                    r#"{{"apiVersion": "v1", "kind": "Service", {}, "spec": {{"clusterIP": "None"}}}}"#,
                    meta("many", "")
                ),
                format!(
                    r#"{{"apiVersion": "v1", "kind": "Service", {}, "spec": {{"type": "ExternalName", "externalName": "example.org"}}}}"#,
                    meta("away", "")
                ),
            ],
            _ => vec![format!(
                r#"{{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", {}, "endpoints": [{}], "ports": null}}"#,
                meta("many-x", r#", "labels": {"kubernetes.io/service-name": "many"}"#),
                endpoints.join(",")
            )],
        }
    }
}

impl Transport for Api {
    fn send(&self, _: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Bytes>, Error>> {
        async { Err(Error::Transport("only lists and watches".into())) }.boxed()
    }

    fn list(&self, request: ListRequest) -> BoxFuture<'_, Result<ObjectList, Error>> {
        let kind = Arc::new(GroupVersionKind {
            group: String::new(),
            version: "v1".into(),
            kind: "Any".into(),
        });
        let object = |json: String| {
            Arc::new(Object::from_value(kind.clone(), Revision(1), &serde_json::from_str(&json).unwrap()).unwrap())
        };
        let items = Self::objects(request.resource.plural).into_iter().map(object).collect();
        async move {
            Ok(ObjectList {
                items,
                revision: Revision(1),
                continue_token: String::new(),
            })
        }
        .boxed()
    }

    fn watch(&self, _: WatchRequest) -> BoxFuture<'_, Result<BoxStream<'static, Result<WatchEvent, Error>>, Error>> {
        async { Ok(futures::stream::pending().boxed()) }.boxed()
    }
}

async fn start(upstream: Vec<SocketAddr>) -> (DnsServer, SocketAddr) {
    let options = DnsOptions {
        client: Client::new(Arc::new(Api)),
        domain: "cluster.local".into(),
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        upstream,
    };
    let server = DnsServer::start(options, CancellationToken::new()).await.unwrap();
    tokio::time::timeout(DEADLINE, server.synced()).await.unwrap();
    let address = server.addresses()[0];
    (server, address)
}

/// A resolver that knows one address for every name, and how often it was asked (without probes).
async fn resolver(code: u8) -> (SocketAddr, Arc<AtomicUsize>) {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let udp = UdpSocket::bind(tcp.local_addr().unwrap()).await.unwrap();
    let (address, asked) = (tcp.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let count = asked.clone();
    let answer = move |bytes: &[u8], records: usize| {
        let query = Message::parse(bytes).unwrap();
        count.fetch_add(usize::from(query.questions[0].kind != kind::TXT), Ordering::SeqCst);
        let mut reply = query.reply(code);
        let record = |n: usize| Record {
            name: query.questions[0].name.clone(),
            ttl: 60,
            data: RecordData::A([192, 0, 2, n as u8].into()),
        };
        reply.answers.extend((1..=records).map(record));
        reply
    };
    let over_tcp = answer.clone();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        loop {
            let (length, client) = udp.recv_from(&mut buffer).await.unwrap();
            let reply = answer(&buffer[..length], 1);
            // A forged answer first: wrong id, wrong address.
            let mut forged = reply.clone();
            forged.id ^= 1;
            forged
                .answers
                .iter_mut()
                .for_each(|record| record.data = RecordData::A([203, 0, 113, 1].into()));
            udp.send_to(&forged.encode(512), client).await.unwrap();
            udp.send_to(&reply.encode(512), client).await.unwrap();
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let query = read_framed(&mut stream).await;
            write_framed(&mut stream, &over_tcp(&query, 100).encode(65_535)).await;
        }
    });
    (address, asked)
}

async fn read_framed(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = vec![0; stream.read_u16().await.unwrap().into()];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

async fn write_framed(stream: &mut TcpStream, bytes: &[u8]) {
    stream
        .write_all(&[&(bytes.len() as u16).to_be_bytes()[..], bytes].concat())
        .await
        .unwrap();
}

fn query(name: &str) -> Message {
    Message::query(
        4711,
        Question {
            name: name.parse().unwrap(),
            kind: kind::A,
            class: class::IN,
        },
    )
}

async fn raw(server: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(bytes, server).await.unwrap();
    let mut buffer = vec![0; 65_535];
    let length = tokio::time::timeout(DEADLINE, socket.recv(&mut buffer))
        .await
        .unwrap()
        .unwrap();
    buffer.truncate(length);
    buffer
}

async fn ask(server: SocketAddr, query: &Message) -> Message {
    let reply = Message::parse(&raw(server, &query.encode(512)).await).unwrap();
    assert_eq!((reply.id, reply.response), (query.id, true));
    reply
}

async fn ask_tcp(server: SocketAddr, queries: &[Message]) -> Vec<Message> {
    let mut stream = TcpStream::connect(server).await.unwrap();
    let mut replies = Vec::new();
    for query in queries {
        write_framed(&mut stream, &query.encode(65_535)).await;
        let reply = tokio::time::timeout(DEADLINE, read_framed(&mut stream)).await.unwrap();
        replies.push(Message::parse(&reply).unwrap());
    }
    replies
}

#[tokio::test]
async fn large_answers_are_cut_for_udp_and_whole_over_tcp() {
    let (server, address) = start(Vec::new()).await;
    let mut many = query("many.shop.svc.cluster.local");
    let reply = ask(address, &many).await;
    assert!(reply.truncated && reply.answers.len() < 40, "{}", reply.answers.len());
    many.edns = Some(Edns {
        udp_size: 65_000,
        version: 0,
        dnssec_ok: false,
    });
    let bytes = raw(address, &many.encode(512)).await;
    assert!(bytes.len() > 512 && bytes.len() <= 1232);
    let whole = ask_tcp(address, &[many.clone(), query("nobody.shop.svc.cluster.local")]).await;
    assert_eq!(whole[0].answers.len(), 200);
    assert!(!whole[0].truncated && whole[0].edns.is_some());
    assert_eq!(whole[1].rcode, rcode::NXDOMAIN);
    server.stop().await;
}

#[tokio::test]
async fn other_names_are_forwarded_cached_and_taken_from_the_next_resolver_when_one_fails() {
    let (broken, _) = resolver(rcode::SERVFAIL).await;
    let (good, asked) = resolver(rcode::NOERROR).await;
    let (_server, address) = start(vec![broken, good]).await;
    for _ in 0..3 {
        let reply = ask(address, &query("example.org")).await;
        assert_eq!(
            reply.answers[0].data,
            RecordData::A([192, 0, 2, 1].into()),
            "the forged answer is not believed"
        );
        assert!(!reply.authoritative);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1, "answers are cached");
    let reply = &ask_tcp(address, &[query("large.example.org")]).await[0];
    assert_eq!(reply.answers.len(), 100, "TCP is forwarded by TCP");
    let reply = ask(address, &query("away.shop.svc.cluster.local")).await;
    let data: Vec<_> = reply.answers.iter().map(|record| record.data.kind()).collect();
    assert_eq!(data, [kind::CNAME, kind::A], "an external name brings its address");
}

#[tokio::test]
async fn without_a_usable_resolver_the_answer_is_a_failure() {
    let (_server, address) = start(Vec::new()).await;
    assert_eq!(ask(address, &query("example.org")).await.rcode, rcode::SERVFAIL);
}

#[tokio::test]
async fn a_resolver_that_forwards_to_us_is_noticed_and_left_out() {
    // Forwards everything to the server, whose address it is told later.
    let relay = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let relay_address = relay.local_addr().unwrap();
    let (_server, address) = start(vec![relay_address]).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        loop {
            let (length, client) = relay.recv_from(&mut buffer).await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            let answer = raw(address, &buffer[..length]).await;
            relay.send_to(&answer, client).await.unwrap();
        }
    });
    // The probe is on its way; until it has come back a query may go round once more.
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        let before = asked.load(Ordering::SeqCst);
        assert_eq!(ask(address, &query("example.org")).await.rcode, rcode::SERVFAIL);
        if before > 0 && asked.load(Ordering::SeqCst) == before {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "the loop goes on");
    }
}

#[tokio::test]
async fn bad_queries_are_refused_and_answers_ignored() {
    let (_server, address) = start(Vec::new()).await;
    type Spoil = fn(&mut Message);
    let cases: [(Spoil, u8); 5] = [
        (|query| query.opcode = 2, rcode::NOTIMP),
        (|query| query.questions.clear(), rcode::FORMERR),
        (|query| query.questions[0].class = 3, rcode::REFUSED),
        (|query| query.questions[0].kind = kind::AXFR, rcode::REFUSED),
        (
            |query| {
                query.edns = Some(Edns {
                    udp_size: 512,
                    version: 1,
                    dnssec_ok: false,
                })
            },
            rcode::BADVERS,
        ),
    ];
    for (spoil, code) in cases {
        let mut bad = query("many.shop.svc.cluster.local");
        spoil(&mut bad);
        assert_eq!(ask(address, &bad).await.rcode, code);
    }
    let mut cut = query("many.shop.svc.cluster.local").encode(512);
    cut.truncate(20);
    assert_eq!(Message::parse(&raw(address, &cut).await).unwrap().rcode, rcode::FORMERR);

    // An answer, and less than a header: nothing comes back, and the server goes on.
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut answer = query("many.shop.svc.cluster.local");
    answer.response = true;
    answer.id = 1;
    socket.send_to(&answer.encode(512), address).await.unwrap();
    socket.send_to(&[0, 1, 2], address).await.unwrap();
    socket
        .send_to(&query("many.shop.svc.cluster.local").encode(512), address)
        .await
        .unwrap();
    let mut buffer = [0; 2048];
    let length = tokio::time::timeout(DEADLINE, socket.recv(&mut buffer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(Message::parse(&buffer[..length]).unwrap().id, 4711);
}
