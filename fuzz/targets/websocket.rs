//! WebSocket frames in both directions: what a client sends to a watch or a tunnel, what a server answers to a client.
//!
//! Input: a byte that chooses the side and the stream, then the bytes that follow the handshake.
#![no_main]

use bytes::Bytes;
use futures::StreamExt;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use libfuzzer_sys::fuzz_target;
use std::{convert::Infallible, time::Duration};
use strata_http::websocket::{self, ByteStream, Encoding};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Longer than the five seconds that a side waits for the other's close.
const DEADLINE: Duration = Duration::from_secs(20);

async fn answer(mut request: http::Request<Incoming>) -> http::Response<strata_http::Body> {
    let path = request.uri().path().to_owned();
    match websocket::accept_any(&mut request) {
        Err(response) => *response,
        Ok(accepted) => {
            tokio::spawn(async move {
                let Ok(socket) = accepted.socket.await else { return };
                let chunks = futures::stream::iter([Ok(Bytes::from_static(b"one")), Ok(Bytes::from_static(b"two"))]);
                match path.as_str() {
                    // Nothing more is to be sent until the client ends.
                    "/watch" => {
                        let chunks = chunks.chain(futures::stream::pending());
                        let _ = websocket::send_all(socket, Encoding::Text, chunks).await;
                    }
                    "/log" => drop(websocket::send_all(socket, Encoding::Base64, chunks).await),
                    _ => {
                        let mut tunnel = ByteStream::new(socket);
                        let _ = tunnel.read_to_end(&mut Vec::new()).await;
                        let _ = tunnel.shutdown().await;
                    }
                }
            });
            accepted.response
        }
    }
}

/// A client that sends the frames to a server of ours.
async fn to_server(path: &str, frames: &[u8]) {
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: h\r\nOrigin: http://h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    );
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let service = service_fn(|request| async { Ok::<_, Infallible>(answer(request).await) });
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(ours), service);
    let served = tokio::spawn(connection.with_upgrades());
    let (mut answers, mut questions) = tokio::io::split(theirs);
    let send = async {
        let _ = questions.write_all(head.as_bytes()).await;
        let _ = questions.write_all(frames).await;
        let _ = questions.shutdown().await;
    };
    let read = async { answers.read_to_end(&mut Vec::new()).await };
    let _ = tokio::join!(send, read);
    let _ = served.await;
}

/// Answers a handshake, then sends the frames.
async fn peer(io: DuplexStream, frames: &[u8]) {
    let (mut questions, mut answers) = tokio::io::split(io);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match questions.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8_lossy(&head);
    let key = head.lines().find_map(|line| line.split_once(": ").filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key")));
    let Some((_, key)) = key else { return };
    let accept = derive_accept_key(key.trim().as_bytes());
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    let _ = answers.write_all(head.as_bytes()).await;
    let _ = answers.write_all(frames).await;
    let _ = answers.shutdown().await;
    let _ = questions.read_to_end(&mut Vec::new()).await;
}

/// A server that sends the frames to a client of ours.
async fn to_client(tunnel: bool, frames: &[u8]) {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let client = async {
        let connected = websocket::connect(Box::new(ours), "h", "/", &[], http::HeaderMap::new()).await;
        let Ok((mut socket, _)) = connected else { return };
        if tunnel {
            let _ = ByteStream::new(socket).read_to_end(&mut Vec::new()).await;
        } else {
            while let Some(Ok(_)) = socket.next().await {}
        }
    };
    tokio::join!(client, peer(theirs, frames));
}

fuzz_target!(|data: &[u8]| {
    let Some((which, frames)) = data.split_first() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let run = async {
            match which % 5 {
                0 => to_server("/watch", frames).await,
                1 => to_server("/log", frames).await,
                2 => to_server("/tunnel", frames).await,
                which => to_client(which == 4, frames).await,
            }
        };
        tokio::time::timeout(DEADLINE, run).await.expect("a connection that was closed ends");
    });
});
