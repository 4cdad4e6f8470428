//! Asking other resolvers.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use strata_net::dns::{Message, Name, Question, class, kind, rcode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::cache::{Cache, CacheKey};

/// libc waits five seconds for us, so there is time for a second server.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Each server is asked in turn, and the first once more.
const ATTEMPTS: usize = 3;
/// Queries under way; more are refused, so that a flood of names costs no memory.
const IN_FLIGHT: usize = 512;
/// Larger than any UDP answer we ask for.
const RECEIVE: usize = 4_096;
/// Where loop probes go: reserved, so that no resolver asks anybody else (RFC 6761).
const PROBE_DOMAIN: &str = "strata-loop-probe.invalid";

/// Asks the host's resolvers.
#[derive(Debug)]
pub(crate) struct Forwarder {
    upstream: Vec<Upstream>,
    cache: Mutex<Cache>,
    in_flight: Semaphore,
}

#[derive(Debug)]
struct Upstream {
    address: SocketAddr,
    /// A label by which a probe that comes back is recognised.
    probe: String,
    loops: AtomicBool,
}

impl Forwarder {
    /// Resolvers that are ourselves (one of `own`) are left out.
    pub(crate) fn new(upstream: &[SocketAddr], own: &[SocketAddr]) -> Self {
        let is_own = |address: &&SocketAddr| own.contains(address);
        for address in upstream.iter().filter(is_own) {
            tracing::warn!(%address, "not forwarding DNS queries to ourselves");
        }
        let others = upstream.iter().filter(|address| !is_own(address));
        Self {
            upstream: others
                .map(|address| Upstream {
                    address: *address,
                    probe: format!("{:016x}", random()),
                    loops: AtomicBool::new(false),
                })
                .collect(),
            cache: Mutex::default(),
            in_flight: Semaphore::new(IN_FLIGHT),
        }
    }

    /// Sends each resolver a name that nobody else asks for: if it comes back to us, the resolver
    /// forwards to us and is no longer used.
    pub(crate) async fn probe(&self) {
        for upstream in &self.upstream {
            let Ok(name) = format!("{}.{PROBE_DOMAIN}", upstream.probe).parse::<Name>() else {
                continue;
            };
            let query = Message::query(
                random() as u16,
                Question {
                    name,
                    kind: kind::TXT,
                    class: class::IN,
                },
            );
            if let Err(error) = ask(upstream.address, &query, false).await {
                tracing::debug!(address = %upstream.address, %error, "a DNS resolver does not answer");
            }
        }
    }

    /// Whether the name is one of our probes; then its resolver is no longer used.
    pub(crate) fn notice_probe(&self, name: &Name) -> bool {
        let Some(first) = name.labels().next() else {
            return false;
        };
        let found = self
            .upstream
            .iter()
            .find(|upstream| upstream.probe.as_bytes().eq_ignore_ascii_case(first));
        if let Some(upstream) = found
            && !upstream.loops.swap(true, Ordering::Relaxed)
        {
            tracing::error!(address = %upstream.address, "the DNS resolver forwards to this server: not using it");
        }
        found.is_some()
    }

    /// The answer's bytes, with the query's id. Failures are answers, too (SERVFAIL).
    pub(crate) async fn resolve(&self, query: &Message, tcp: bool) -> Vec<u8> {
        let Some(key) = CacheKey::of(query) else {
            return query.reply(rcode::FORMERR).encode(512);
        };
        let cached = lock(&self.cache).get(&key, Instant::now());
        if let Some(bytes) = cached {
            return with_id(bytes, query.id);
        }
        let Ok(_permit) = self.in_flight.try_acquire() else {
            tracing::warn!(limit = IN_FLIGHT, "too many DNS queries under way");
            return query.reply(rcode::SERVFAIL).encode(512);
        };
        match self.ask_all(query, tcp).await {
            Some(bytes) => {
                lock(&self.cache).put(key, &bytes, Instant::now());
                with_id(bytes, query.id)
            }
            None => query.reply(rcode::SERVFAIL).encode(512),
        }
    }

    /// The first usable answer; failing that, the last failure a resolver answered.
    async fn ask_all(&self, query: &Message, tcp: bool) -> Option<Vec<u8>> {
        let usable: Vec<_> = self
            .upstream
            .iter()
            .filter(|upstream| !upstream.loops.load(Ordering::Relaxed))
            .collect();
        let mut failure = None;
        for upstream in usable
            .iter()
            .cycle()
            .take(ATTEMPTS.min(usable.len() + 1) * usize::from(!usable.is_empty()))
        {
            let mut next = Message::query(random() as u16, query.questions.first()?.clone());
            next.recursion_desired = query.recursion_desired;
            next.checking_disabled = query.checking_disabled;
            next.authentic = query.authentic;
            next.edns = query.edns;
            match ask(upstream.address, &next, tcp).await {
                Ok(bytes) if failed(&bytes) => failure = Some(bytes),
                Ok(bytes) => return Some(bytes),
                Err(error) => tracing::debug!(address = %upstream.address, %error, "a DNS resolver did not answer"),
            }
        }
        failure
    }
}

/// One query to one resolver.
async fn ask(server: SocketAddr, query: &Message, tcp: bool) -> io::Result<Vec<u8>> {
    let answer = timeout(ANSWER_TIMEOUT, async {
        if tcp {
            ask_tcp(server, query).await
        } else {
            ask_udp(server, query).await
        }
    });
    answer.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// A socket of its own for each query: a random port besides the random id (RFC 5452).
async fn ask_udp(server: SocketAddr, query: &Message) -> io::Result<Vec<u8>> {
    let any: IpAddr = if server.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(&query.encode(512)).await?;
    let mut buffer = vec![0; RECEIVE];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let Some(bytes) = buffer.get(..length).filter(|bytes| answers(bytes, query)) else {
            continue;
        };
        return Ok(bytes.to_vec());
    }
}

async fn ask_tcp(server: SocketAddr, query: &Message) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let bytes = query.encode(65_535);
    let mut framed = (bytes.len() as u16).to_be_bytes().to_vec();
    framed.extend_from_slice(&bytes);
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await?;
    if answers(&answer, query) {
        Ok(answer)
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

/// Whether the bytes answer the query: forged or late packets do not.
fn answers(bytes: &[u8], query: &Message) -> bool {
    Message::parse(bytes)
        .is_ok_and(|answer| answer.response && answer.id == query.id && answer.questions == query.questions)
}

fn failed(bytes: &[u8]) -> bool {
    bytes
        .get(3)
        .is_none_or(|flags| [rcode::SERVFAIL, rcode::REFUSED, rcode::NOTIMP].contains(&(flags & 15)))
}

fn with_id(mut bytes: Vec<u8>, id: u16) -> Vec<u8> {
    if let Some(place) = bytes.first_chunk_mut() {
        *place = id.to_be_bytes();
    }
    bytes
}

fn random() -> u64 {
    // The kernel's generator fails only before it is seeded at boot.
    getrandom::u64().expect("the kernel gives random numbers")
}

fn lock(cache: &Mutex<Cache>) -> MutexGuard<'_, Cache> {
    cache.lock().unwrap_or_else(PoisonError::into_inner)
}
