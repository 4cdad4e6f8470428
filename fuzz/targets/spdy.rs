//! What a client may send on a SPDY connection; after a `c`, what a server may.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::time::Duration;
use strata_http::spdy::Session;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fuzz_target!(|data: &[u8]| {
    let (client, data) = match data.strip_prefix(b"c") {
        Some(frames) => (true, frames),
        None => (false, data),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _entered = runtime.enter();
    runtime.block_on(async {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let session = match client {
            true => Session::client(ours),
            false => Session::server(ours),
        };
        let Ok(mut session) = session else { return };
        let (mut answers, mut questions) = tokio::io::split(theirs);
        let read = tokio::spawn(async move { answers.read_to_end(&mut Vec::new()).await });
        let serve = async {
            if client && let Ok(mut stream) = session.open(http::HeaderMap::new()).await {
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
            // Side by side, as those who serve read them: one that nobody reads holds up the connection.
            let mut streams = tokio::task::JoinSet::new();
            while let Some(mut stream) = session.accept().await {
                streams.spawn(async move {
                    // A stream that the client broke off ends with an error, which is its affair.
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                    let _ = stream.shutdown().await;
                });
            }
            while streams.join_next().await.is_some() {}
        };
        let send = async {
            let _ = questions.write_all(data).await;
            let _ = questions.shutdown().await;
        };
        tokio::time::timeout(Duration::from_secs(10), async { tokio::join!(serve, send) })
            .await
            .expect("a connection that was closed ends");
        drop(session);
        let _ = tokio::time::timeout(Duration::from_secs(10), read).await.expect("the writer ends");
    });
});
