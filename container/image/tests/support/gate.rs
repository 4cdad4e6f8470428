//! A relay before a registry: asks for tokens, breaks connections, or is an HTTP proxy.

use base64::Engine as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// What a relay does with requests.
#[derive(Clone)]
pub enum Manner {
    /// Wants a bearer token, which its own `/token` gives to user ada with password secret.
    Token,
    /// An HTTP proxy for which every name is this registry; tunnels lead to the second address.
    Proxy { secure: String },
    /// Breaks the first so many answers with a layer after some bytes.
    Breaking { times: u32, after: usize },
}

/// A running relay, ended with this value.
pub struct Gate {
    pub address: String,
    stopped: Arc<AtomicBool>,
    /// Answers broken so far.
    pub broken: Arc<AtomicU32>,
    /// First lines of the requests so far.
    pub seen: Arc<Mutex<Vec<String>>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Gate {
    pub fn start(registry: &str, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("port");
        let address = listener.local_addr().expect("port").to_string();
        let (stopped, broken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (flag, count, own, registry) = (stopped.clone(), broken.clone(), address.clone(), registry.to_owned());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if flag.load(Ordering::SeqCst) {
                    return;
                }
                let (manner, own, registry, count) = (manner.clone(), own.clone(), registry.clone(), count.clone());
                let log = log.clone();
                // Errors are connections that a client gave up.
                std::thread::spawn(move || {
                    let (mut reader, head) = read_head(&stream.ok()?).ok()?;
                    log.lock().ok()?.extend(head.lines().next().map(str::to_owned));
                    serve(&mut reader, &head, &own, &registry, &manner, &count).ok()
                });
            }
        });
        Self {
            address,
            stopped,
            broken,
            seen,
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

fn read_head(stream: &TcpStream) -> std::io::Result<(BufReader<TcpStream>, String)> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line == "\r\n" {
            return Ok((reader, head));
        }
        head.push_str(&line);
    }
}

/// Whether the realm is asked as the specification says: by password, or by a form with an identity token.
fn may_have_token(reader: &mut impl Read, head: &str, path: &str) -> std::io::Result<bool> {
    if head.starts_with("POST ") {
        let length = head
            .lines()
            .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let mut form = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut form)?;
        let form = String::from_utf8_lossy(&form).into_owned();
        let wanted = [
            "grant_type=refresh_token",
            "service=gate",
            "refresh_token=identity",
            "scope=repository%3Aapp%3Apull",
        ];
        return Ok(wanted.iter().all(|part| form.split('&').any(|given| given == *part)));
    }
    let pair = base64::engine::general_purpose::STANDARD.encode("ada:secret");
    let scoped = path.contains("scope=repository%3Aapp%3Apull") && path.contains("service=gate");
    Ok(scoped && head.contains(&format!("Basic {pair}")))
}

fn serve(
    reader: &mut BufReader<TcpStream>,
    head: &str,
    own: &str,
    registry: &str,
    manner: &Manner,
    broken: &AtomicU32,
) -> std::io::Result<()> {
    let mut stream = reader.get_ref().try_clone()?;
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let lower = head.to_lowercase();
    match manner {
        Manner::Token if path.starts_with("/token") => {
            let (status, body) = match may_have_token(reader, head, &path)? {
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
        Manner::Proxy { secure } if head.starts_with("CONNECT ") => {
            let upstream = TcpStream::connect(secure)?;
            stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
            let (mut from, mut to) = (upstream.try_clone()?, stream.try_clone()?);
            let back = std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            let mut upstream = upstream;
            std::io::copy(reader, &mut upstream)?;
            upstream.shutdown(std::net::Shutdown::Write)?;
            drop(back.join());
            return Ok(());
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
