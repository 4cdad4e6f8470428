//! A relay before a registry: asks for tokens, or breaks connections.

use base64::Engine as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// What a relay does with requests.
#[derive(Clone)]
pub enum Manner {
    /// Wants a bearer token, which its own `/token` gives to user ada with password secret.
    Token,
    /// Breaks the first so many answers with a layer after some bytes.
    Breaking { times: u32, after: usize },
}

/// A running relay, ended with this value.
pub struct Gate {
    pub address: String,
    stopped: Arc<AtomicBool>,
    /// Answers broken so far.
    pub broken: Arc<AtomicU32>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Gate {
    pub fn start(registry: &str, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("port");
        let address = listener.local_addr().expect("port").to_string();
        let (stopped, broken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (flag, count, own, registry) = (stopped.clone(), broken.clone(), address.clone(), registry.to_owned());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if flag.load(Ordering::SeqCst) {
                    return;
                }
                let (manner, own, registry, count) = (manner.clone(), own.clone(), registry.clone(), count.clone());
                // Errors are connections that a client gave up.
                std::thread::spawn(move || serve(stream.ok()?, &own, &registry, &manner, &count).ok());
            }
        });
        Self {
            address,
            stopped,
            broken,
            thread: Some(thread),
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(&self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(stream: TcpStream, own: &str, registry: &str, manner: &Manner, broken: &AtomicU32) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
        head.push_str(&line);
    }
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let lower = head.to_lowercase();
    match manner {
        Manner::Token if path.starts_with("/token") => {
            let pair = base64::engine::general_purpose::STANDARD.encode("ada:secret");
            let known = head.contains(&format!("Basic {pair}"));
            let scoped = path.contains("scope=repository%3Aapp%3Apull") && path.contains("service=gate");
            let (status, body) = match known && scoped {
                true => ("200 OK", r#"{"access_token":"good"}"#),
                false => ("401 Unauthorized", "{}"),
            };
            let length = body.len();
            return write!(
                stream,
                "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
            );
        }
        Manner::Token if !lower.contains("authorization: bearer good") => {
            let challenge =
                format!("Bearer realm=\"http://{own}/token\",service=\"gate\",scope=\"repository:app:pull\"");
            return write!(
                stream,
                "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: {challenge}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            );
        }
        _ => {}
    }
    let mut upstream = TcpStream::connect(registry)?;
    let kept = head
        .lines()
        .filter(|line| !line.to_lowercase().starts_with("connection:"));
    let mut request: Vec<&str> = kept.collect();
    request.push("Connection: close");
    upstream.write_all(format!("{}\r\n\r\n", request.join("\r\n")).as_bytes())?;
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer)?;
    if let Manner::Breaking { times, after } = manner
        && path.contains("/blobs/")
        && answer.len() > *after
        && broken.load(Ordering::SeqCst) < *times
    {
        broken.fetch_add(1, Ordering::SeqCst);
        answer.truncate(*after);
    }
    stream.write_all(&answer)
}
