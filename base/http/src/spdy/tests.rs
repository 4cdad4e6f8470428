use super::{
    frame::{Control, Frame, Head, MAX_CONTROL},
    headers::{HeaderDecoder, HeaderEncoder},
    *,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)))
        .collect()
}

fn pair() -> (Session, Session) {
    let (a, b) = tokio::io::duplex(4096);
    (Session::client(a).expect("client"), Session::server(b).expect("server"))
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future)
        .await
        .expect("in time")
}

/// A server session and the raw bytes to and from it.
fn raw() -> (DuplexStream, Session) {
    let (a, b) = tokio::io::duplex(1 << 20);
    (a, Session::server(b).expect("server"))
}

fn encode(encoder: &mut HeaderEncoder, frame: &Frame) -> Vec<u8> {
    let mut out = Vec::new();
    frame.encode(encoder, &mut out).expect("encodes");
    out
}

#[test]
fn frames_are_laid_out_as_the_draft_draws_them() {
    let mut encoder = HeaderEncoder::new().expect("encoder");
    let mut bytes = |frame| encode(&mut encoder, &frame);
    assert_eq!(bytes(Frame::Ping { id: 1 }), [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1]);
    assert_eq!(
        bytes(Frame::RstStream { stream: 5, status: 3 }),
        [0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 5, 0, 0, 0, 3]
    );
    assert_eq!(
        bytes(Frame::Data {
            stream: 3,
            bytes: "hi".into(),
            fin: true
        }),
        [0, 0, 0, 3, 1, 0, 0, 2, b'h', b'i']
    );
    let syn = bytes(Frame::SynStream {
        stream: 1,
        headers: headers(&[("port", "80")]),
    });
    let Head::Control { kind, flags, length } = Head::parse(syn[..8].try_into().expect("8")).expect("head") else {
        panic!("not a control frame")
    };
    assert_eq!((kind, flags, length), (1, 0, syn.len() - 8));
    let Control::SynStream { stream: 1, block, .. } = Control::parse(kind, flags, &syn[8..]).expect("control") else {
        panic!("not a SYN_STREAM")
    };
    assert_eq!(
        HeaderDecoder::new().decode(block).expect("block"),
        headers(&[("port", "80")])
    );
}

#[test]
fn bad_heads_and_lengths_are_refused() {
    let heads: [[u8; 8]; 4] = [
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0x80, 2, 0, 1, 0, 0, 0, 0],
        [0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff],
        [0x80, 3, 0, 1, 0, 1, 0, 1],
    ];
    for head in heads {
        assert!(Head::parse(head).is_err(), "{head:?}");
    }
    assert!(
        Head::parse([0x80, 3, 0, 1, 0, 1, 0, 0]).is_ok(),
        "{MAX_CONTROL} bytes are allowed"
    );
    let payloads: [(u16, &[u8]); 9] = [
        (1, &[0; 10]),
        (1, &[0, 0, 0, 1, 0, 0, 0, 0]),
        (2, &[0, 0]),
        (3, &[0, 0, 0, 1]),
        (4, &[0, 0, 0, 9, 1, 2]),
        (4, &[0xff, 0xff, 0xff, 0xff]),
        (6, &[0; 5]),
        (7, &[]),
        (9, &[0, 0, 0, 1, 0, 0, 0, 0]),
    ];
    for (kind, payload) in payloads {
        assert!(Control::parse(kind, 0, payload).is_err(), "{kind} {payload:?}");
    }
}

#[tokio::test]
async fn bytes_flow_both_ways_and_halves_close_apart() {
    let (client, mut server) = pair();
    let serve = async {
        let mut stream = server.accept().await.expect("a stream");
        assert_eq!(stream.header("streamtype"), "data");
        stream.reply().await.expect("replied");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("read to the end");
        stream.write_all(text.to_uppercase().as_bytes()).await.expect("written");
        stream.shutdown().await.expect("closed");
    };
    let ask = async {
        let mut stream = client.open(headers(&[("streamtype", "data")])).await.expect("opened");
        stream.write_all(b"hello").await.expect("written");
        stream.shutdown().await.expect("closed");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("read to the end");
        assert_eq!(text, "HELLO");
    };
    soon(async { tokio::join!(serve, ask) }).await;
}

#[tokio::test]
async fn much_data_passes_through_small_buffers() {
    const SIZE: usize = 3 << 20;
    let (client, mut server) = pair();
    let echo = tokio::spawn(async move {
        let stream = server.accept().await.expect("a stream");
        stream.reply().await.expect("replied");
        let (mut read, mut write) = tokio::io::split(stream);
        tokio::io::copy(&mut read, &mut write).await.expect("copied");
        write.shutdown().await.expect("closed");
        server.closed().await;
    });
    let stream = client.open(HeaderMap::new()).await.expect("opened");
    let (mut read, mut write) = tokio::io::split(stream);
    let data: Vec<u8> = (0..SIZE).map(|i| (i * 7 % 251) as u8).collect();
    let sent = data.clone();
    let send = tokio::spawn(async move {
        write.write_all(&sent).await.expect("written");
        write.shutdown().await.expect("closed");
    });
    let mut back = Vec::new();
    soon(read.read_to_end(&mut back)).await.expect("read");
    assert!(back == data);
    soon(send).await.expect("sent");
    drop((read, client));
    soon(echo).await.expect("echo ends with the connection");
}

#[tokio::test]
async fn a_refused_stream_is_an_error_to_its_opener() {
    let (client, mut server) = pair();
    let refuse = async { server.accept().await.expect("a stream").reset().await.expect("reset") };
    let (opened, ()) = soon(async { tokio::join!(client.open(HeaderMap::new()), refuse) }).await;
    assert!(opened.is_err());
}

#[tokio::test]
async fn pings_are_answered_and_foreign_frames_ignored() {
    let (mut io, _server) = raw();
    let mut encoder = HeaderEncoder::new().expect("encoder");
    // An unknown control frame, settings, then a ping.
    io.write_all(&[0x80, 3, 0, 99, 0, 0, 0, 2, 1, 2])
        .await
        .expect("written");
    io.write_all(&[0x80, 3, 0, 4, 0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 7, 0, 1, 0, 0])
        .await
        .expect("written");
    let ping = encode(&mut encoder, &Frame::Ping { id: 7 });
    io.write_all(&ping).await.expect("written");
    let mut answer = vec![0; ping.len()];
    soon(io.read_exact(&mut answer)).await.expect("answer");
    assert_eq!(answer, ping);
}

#[tokio::test]
async fn data_for_a_stream_that_never_was_resets_it_alone() {
    let (mut io, mut server) = raw();
    let mut encoder = HeaderEncoder::new().expect("encoder");
    io.write_all(&[0, 0, 0, 9, 0, 0, 0, 2, 1, 2]).await.expect("written");
    let mut answer = [0; 16];
    soon(io.read_exact(&mut answer)).await.expect("answer");
    assert_eq!(answer, [0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 9, 0, 0, 0, 2]);
    let syn = encode(
        &mut encoder,
        &Frame::SynStream {
            stream: 11,
            headers: headers(&[("a", "b")]),
        },
    );
    io.write_all(&syn).await.expect("written");
    assert_eq!(soon(server.accept()).await.expect("the connection lives").id(), 11);
}

#[tokio::test]
async fn misuse_of_stream_ids_ends_the_connection() {
    for ids in [[3, 3], [3, 1], [1, 2]] {
        let (mut io, mut server) = raw();
        let mut encoder = HeaderEncoder::new().expect("encoder");
        for id in ids {
            let syn = encode(
                &mut encoder,
                &Frame::SynStream {
                    stream: id,
                    headers: HeaderMap::new(),
                },
            );
            io.write_all(&syn).await.expect("written");
        }
        assert!(soon(server.accept()).await.is_some());
        assert!(soon(server.accept()).await.is_none(), "{ids:?}");
    }
}

#[tokio::test]
async fn a_connection_cut_in_a_stream_is_not_an_orderly_end() {
    let (mut io, mut server) = raw();
    let mut encoder = HeaderEncoder::new().expect("encoder");
    io.write_all(&encode(
        &mut encoder,
        &Frame::SynStream {
            stream: 1,
            headers: HeaderMap::new(),
        },
    ))
    .await
    .expect("ok");
    io.write_all(&[0, 0, 0, 1, 0, 0, 0, 9, b'x']).await.expect("written");
    drop(io);
    let mut stream = soon(server.accept()).await.expect("a stream");
    let mut text = Vec::new();
    assert!(soon(stream.read_to_end(&mut text)).await.is_err());
    assert_eq!(text, b"x");
}

#[tokio::test]
async fn too_many_streams_are_refused_one_by_one() {
    let (mut io, server) = raw();
    let mut encoder = HeaderEncoder::new().expect("encoder");
    for n in 0..70u32 {
        let syn = encode(
            &mut encoder,
            &Frame::SynStream {
                stream: 2 * n + 1,
                headers: HeaderMap::new(),
            },
        );
        io.write_all(&syn).await.expect("written");
    }
    let mut answer = [0; 16];
    soon(io.read_exact(&mut answer)).await.expect("answer");
    assert_eq!(answer[..8], [0x80, 3, 0, 3, 0, 0, 0, 8]);
    assert_eq!(answer[12..], [0, 0, 0, 3], "REFUSED_STREAM");
    drop(server);
}

#[tokio::test]
async fn data_before_the_reply_refuses_the_stream_and_holds_up_nothing() {
    let (mut peer, io) = tokio::io::duplex(1 << 20);
    let session = Session::client(io).expect("client");
    let mut encoder = HeaderEncoder::new().expect("encoder");
    let data = Frame::Data {
        stream: 1,
        bytes: "early".into(),
        fin: false,
    };
    // More than a stream's queue holds.
    let early = encode(&mut encoder, &data).repeat(100);
    let server = async {
        let mut head = [0; 8];
        peer.read_exact(&mut head).await.expect("the opening frame");
        peer.write_all(&early).await.expect("written");
        peer.shutdown().await.expect("closed");
        peer
    };
    let (opened, _peer) = soon(async { tokio::join!(session.open(HeaderMap::new()), server) }).await;
    opened.expect_err("no stream without a reply");
    soon(session.closed()).await;
}
