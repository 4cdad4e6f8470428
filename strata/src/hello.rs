//! The program of the built-in image: a small HTTP page, so that a first deployment needs no registry.

use crate::failure::{During, Outcome};
use std::{net::Ipv4Addr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
};

/// Bytes of a request that are read; its content does not matter.
const REQUEST: usize = 8 << 10;
/// How long a client may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Serves until told to stop.
pub async fn serve(port: u16) -> Outcome {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
        .await
        .during(format!("listening on port {port}"))?;
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    println!("hello from {name}, listening on port {port}");
    let mut stop = signal(SignalKind::terminate()).during("waiting for signals")?;
    loop {
        tokio::select! {
            _ = stop.recv() => return Ok(()),
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    let name = name.clone();
                    tokio::spawn(async move { tokio::time::timeout(TIMEOUT, answer(stream, &name)).await });
                }
            }
        }
    }
}

async fn answer(mut stream: TcpStream, name: &str) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut chunk = [0; 1024];
    while request.len() < REQUEST && !request.windows(4).any(|w| w == b"\r\n\r\n") {
        let n = stream.read(&mut chunk).await?;
        if n == 0 {
            break;
        }
        request.extend_from_slice(&chunk[..n]);
    }
    let body = format!("hello from {name}\n");
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    stream.shutdown().await
}
