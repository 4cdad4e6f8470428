//! A registry that answers whatever a test wants, however wrong.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Writes the answer to a request, whose first line and headers it gets.
pub type Answer = dyn Fn(&str, &mut TcpStream) -> std::io::Result<()> + Send + Sync;

/// The server, ended with this value.
pub struct Rogue {
    pub address: String,
    /// What was asked so far.
    #[allow(dead_code)]
    pub heads: Arc<Mutex<Vec<String>>>,
    stopped: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Rogue {
    pub fn start(answer: impl Fn(&str, &mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("port");
        let address = listener.local_addr().expect("port").to_string();
        let (heads, stopped) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (log, flag, answer): (_, _, Arc<Answer>) = (Arc::clone(&heads), Arc::clone(&stopped), Arc::new(answer));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if flag.load(Ordering::SeqCst) {
                    return;
                }
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                // Errors are connections that the client gave up.
                std::thread::spawn(move || {
                    let mut stream = stream.ok()?;
                    let head = read_head(&stream).ok()?;
                    log.lock().ok()?.push(head.clone());
                    answer(&head, &mut stream).ok()
                });
            }
        });
        Self {
            address,
            heads,
            stopped,
            thread: Some(thread),
        }
    }
}

impl Drop for Rogue {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(&self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read_head(stream: &TcpStream) -> std::io::Result<String> {
    // A TLS greeting is no request; it has no line end for long.
    let mut reader = BufReader::new(stream.try_clone()?.take(64 << 10));
    let mut head = String::new();
    loop {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line)? == 0 || line == b"\r\n" {
            return Ok(head);
        }
        let line = String::from_utf8(line).map_err(|_| std::io::ErrorKind::InvalidData)?;
        head.push_str(&line);
    }
}

/// The path that a head asks for.
pub fn path(head: &str) -> &str {
    head.split(' ').nth(1).unwrap_or_default()
}

/// A whole answer with a length.
pub fn send(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) -> std::io::Result<()> {
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n"
    )?;
    stream.write_all(body)
}
