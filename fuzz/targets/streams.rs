//! What a client may send after an upgrade: exec and port-forward over WebSocket.
//!
//! Input: a byte that chooses the stream, then the bytes that follow the request.
#![no_main]

use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use libfuzzer_sys::fuzz_target;
use std::{convert::Infallible, time::Duration};
use strata_http::{portforward, remotecommand};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PROTOCOLS: [(&str, &str); 4] = [
    ("exec", "v5.channel.k8s.io"),
    ("exec", "v4.channel.k8s.io"),
    ("forward", "v4.channel.k8s.io"),
    ("forward", "SPDY/3.1+portforward.k8s.io"),
];

async fn answer(mut request: http::Request<Incoming>) -> http::Response<strata_http::Body> {
    if request.uri().path() == "/exec" {
        let options = remotecommand::Options { stdin: true, stdout: true, stderr: true, tty: false };
        return match remotecommand::accept(&mut request, options) {
            Err(response) => *response,
            Ok(accepted) => {
                tokio::spawn(async move {
                    let Ok(mut session) = accepted.session.await else { return };
                    if let Some(stdin) = &mut session.stdin {
                        let _ = stdin.read_to_end(&mut Vec::new()).await;
                    }
                    session.control.finish(&remotecommand::Outcome::Exit(0)).await;
                });
                accepted.response
            }
        };
    }
    match portforward::accept(&mut request) {
        Err(response) => *response,
        Ok(accepted) => {
            tokio::spawn(async move {
                let Ok(mut forwards) = accepted.session.await else { return };
                while let Some(mut forward) = forwards.next().await {
                    let _ = forward.data.read_to_end(&mut Vec::new()).await;
                }
            });
            accepted.response
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((which, rest)) = data.split_first() else { return };
    let (path, protocol) = PROTOCOLS[usize::from(*which) % PROTOCOLS.len()];
    let head = format!(
        "GET /{path}?ports=80 HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n"
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let service = service_fn(|request| async { Ok::<_, Infallible>(answer(request).await) });
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(ours), service);
        let served = tokio::spawn(connection.with_upgrades());
        let (mut answers, mut questions) = tokio::io::split(theirs);
        let send = async {
            let _ = questions.write_all(head.as_bytes()).await;
            let _ = questions.write_all(rest).await;
            let _ = questions.shutdown().await;
        };
        let read = async { answers.read_to_end(&mut Vec::new()).await };
        let both = async { tokio::join!(send, read) };
        let _ = tokio::time::timeout(Duration::from_secs(20), both).await.expect("a connection that was closed ends");
        let _ = served.await;
    });
});
