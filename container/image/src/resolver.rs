//! Host names for registries, without glibc: a static program must not load host modules.
//!
//! /etc/hosts first, then the servers of /etc/resolv.conf (RFC 1035; search lists as in
//! resolv.conf(5)).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// resolv.conf(5): five seconds, two rounds.
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);
const ROUNDS: usize = 2;
const MAX_SERVERS: usize = 3;
const MAX_SEARCH: usize = 6;
const MAX_FILE: usize = 1 << 20;
const MAX_ANSWER: usize = 64 << 10;
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const CLASS_IN: u16 = 1;

/// Resolves names as the machine's files say; reads them afresh for each name.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Resolver;

impl reqwest::dns::Resolve for Resolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let name = name.as_str().to_owned();
        Box::pin(async move {
            let found = lookup(&name).await?;
            let addresses: reqwest::dns::Addrs = Box::new(found.into_iter().map(|ip| SocketAddr::new(ip, 0)));
            Ok(addresses)
        })
    }
}

/// The addresses of a host; the error text is what Go's resolver says.
pub(crate) async fn lookup(name: &str) -> io::Result<Vec<IpAddr>> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(vec![address]);
    }
    let found = in_hosts(&read_text("/etc/hosts").await?, name);
    if !found.is_empty() {
        return Ok(found);
    }
    // RFC 6761 section 6.3.
    if name == "localhost" || name.ends_with(".localhost") {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    let config = Config::parse(&read_text("/etc/resolv.conf").await?);
    let mut last = None;
    for candidate in config.candidates(name) {
        match query_both(&config, &candidate).await {
            Ok(found) if !found.is_empty() => return Ok(found),
            Ok(_) => {}
            Err(error) => last = Some(error),
        }
    }
    let server = config.servers.first().map(ToString::to_string).unwrap_or_default();
    Err(match last {
        Some(error) => io::Error::new(error.kind(), format!("lookup {name} on {server}: {error}")),
        None => io::Error::new(
            io::ErrorKind::NotFound,
            format!("lookup {name} on {server}: no such host"),
        ),
    })
}

async fn read_text(path: &str) -> io::Result<String> {
    match tokio::fs::read(path).await {
        Ok(mut content) => {
            content.truncate(MAX_FILE);
            Ok(String::from_utf8_lossy(&content).into_owned())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error),
    }
}

fn in_hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    lines
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let address = words.next()?.parse().ok()?;
            words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
        })
        .collect()
}

struct Config {
    servers: Vec<SocketAddr>,
    search: Vec<String>,
    ndots: usize,
}

impl Config {
    fn parse(text: &str) -> Self {
        let mut config = Self {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
        };
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let address = words
                        .next()
                        .and_then(|word| word.split('%').next()?.parse::<IpAddr>().ok());
                    config.servers.extend(address.map(|ip| SocketAddr::new(ip, 53)));
                }
                Some("search" | "domain") => {
                    config.search = words
                        .take(MAX_SEARCH)
                        .map(|word| word.trim_matches('.').to_owned())
                        .collect();
                }
                Some("options") => {
                    let ndots = words
                        .filter_map(|word| word.strip_prefix("ndots:")?.parse().ok())
                        .next_back();
                    config.ndots = ndots.unwrap_or(config.ndots).min(15);
                }
                _ => {}
            }
        }
        config.servers.truncate(MAX_SERVERS);
        if config.servers.is_empty() {
            config.servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 53));
        }
        config
    }

    fn candidates(&self, name: &str) -> Vec<String> {
        let bare = name.trim_end_matches('.').to_owned();
        if name.ends_with('.') {
            return vec![bare];
        }
        let searched = self
            .search
            .iter()
            .filter(|domain| !domain.is_empty())
            .map(|domain| format!("{bare}.{domain}"));
        if bare.bytes().filter(|b| *b == b'.').count() >= self.ndots {
            std::iter::once(bare.clone()).chain(searched).collect()
        } else {
            searched.chain(std::iter::once(bare.clone())).collect()
        }
    }
}

/// IPv4 first: every registry has it, and a machine without IPv6 routes loses no time.
async fn query_both(config: &Config, name: &str) -> io::Result<Vec<IpAddr>> {
    let (four, six) = tokio::join!(query(config, name, TYPE_A), query(config, name, TYPE_AAAA));
    match (four, six) {
        (Ok(mut four), Ok(six)) => {
            four.extend(six);
            Ok(four)
        }
        (Ok(found), Err(_)) | (Err(_), Ok(found)) if !found.is_empty() => Ok(found),
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

async fn query(config: &Config, name: &str, kind: u16) -> io::Result<Vec<IpAddr>> {
    let mut id = [0u8; 2];
    rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty())?;
    let question = encode(u16::from_be_bytes(id), name, kind)?;
    let mut last = io::Error::new(io::ErrorKind::TimedOut, "i/o timeout");
    for server in config.servers.iter().cycle().take(config.servers.len() * ROUNDS) {
        let answered = match timeout(QUERY_TIMEOUT, ask_udp(*server, &question)).await {
            Ok(Ok(answer)) if answer.get(2).is_some_and(|flags| flags & 0x02 != 0) => {
                timeout(QUERY_TIMEOUT, ask_tcp(*server, &question)).await
            }
            other => other,
        };
        match answered {
            Ok(Ok(answer)) => match decode(&answer, kind) {
                Ok(found) => return Ok(found),
                Err(error) => last = error,
            },
            Ok(Err(error)) => last = error,
            Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, "i/o timeout"),
        }
    }
    Err(last)
}

async fn ask_udp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let local: IpAddr = if server.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((local, 0)).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let count = socket.recv(&mut buffer).await?;
        // Somebody else's answer: a forged or late one.
        if count >= 12 && buffer[..2] == question[..2] && buffer[12..count].starts_with(&question[12..]) {
            buffer.truncate(count);
            return Ok(buffer);
        }
    }
}

async fn ask_tcp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let mut framed = (question.len() as u16).to_be_bytes().to_vec();
    framed.extend_from_slice(question);
    stream.write_all(&framed).await?;
    let length = usize::from(stream.read_u16().await?);
    let mut answer = vec![0; length.min(MAX_ANSWER)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

fn encode(id: u16, name: &str, kind: u16) -> io::Result<Vec<u8>> {
    let mut message = Vec::with_capacity(name.len() + 18);
    message.extend_from_slice(&id.to_be_bytes());
    // Recursion desired; one question.
    message.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        match u8::try_from(label.len()) {
            Ok(length @ 1..=63) => message.push(length),
            _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "no such host")),
        }
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&CLASS_IN.to_be_bytes());
    if message.len() > 12 + 255 + 4 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no such host"));
    }
    Ok(message)
}

/// The addresses in an answer; an empty list if the name does not exist.
fn decode(message: &[u8], kind: u16) -> io::Result<Vec<IpAddr>> {
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "server misbehaving");
    let short = |at: usize| -> io::Result<u16> {
        let bytes = message.get(at..at + 2).ok_or_else(broken)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    };
    match short(2)? & 0x0f {
        0 => {}
        3 => return Ok(Vec::new()),
        _ => return Err(broken()),
    }
    let (questions, answers) = (short(4)?, short(6)?);
    let mut at = 12;
    for _ in 0..questions {
        at = skip_name(message, at).ok_or_else(broken)? + 4;
    }
    let mut found = Vec::new();
    for _ in 0..answers {
        at = skip_name(message, at).ok_or_else(broken)?;
        let (record, length) = (short(at)?, usize::from(short(at + 8)?));
        let data = message.get(at + 10..at + 10 + length).ok_or_else(broken)?;
        if record == kind {
            if let Ok(bytes) = <[u8; 4]>::try_from(data) {
                found.push(IpAddr::from(bytes));
            } else if let Ok(bytes) = <[u8; 16]>::try_from(data) {
                found.push(IpAddr::from(bytes));
            }
        }
        at += 10 + length;
    }
    Ok(found)
}

/// The position after a name; names are compared by the server, so pointers need not be followed.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match message.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + usize::from(*length),
            192.. => return Some(at + 2),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_file_answers_for_every_name_of_a_line() {
        let text = "127.0.0.1 localhost # loopback\n10.0.0.1\tregistry.local  Registry\n::1 localhost\nbad line\n";
        assert_eq!(in_hosts(text, "registry"), [IpAddr::from([10, 0, 0, 1])]);
        assert_eq!(in_hosts(text, "localhost").len(), 2);
        assert!(in_hosts(text, "loopback").is_empty());
    }

    #[test]
    fn search_lists_are_used_before_or_after_by_ndots() {
        let config = Config::parse("nameserver 10.0.0.10\nsearch a.local b.local\noptions ndots:2\n");
        assert_eq!(config.candidates("x"), ["x.a.local", "x.b.local", "x"]);
        assert_eq!(config.candidates("x.y.z"), ["x.y.z", "x.y.z.a.local", "x.y.z.b.local"]);
        assert_eq!(config.candidates("x."), ["x"]);
        assert_eq!(Config::parse("").servers, ["127.0.0.1:53".parse().expect("address")]);
    }

    #[test]
    fn answers_are_read_and_broken_ones_refused() {
        let mut message = encode(7, "a.example", TYPE_A).expect("name");
        message[7] = 2;
        message.extend_from_slice(&[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 1, 0, 2, 0xc0, 12]);
        message.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 192, 0, 2, 1]);
        assert_eq!(
            decode(&message, TYPE_A).expect("answer"),
            [IpAddr::from([192, 0, 2, 1])]
        );
        for length in 0..message.len() {
            assert!(decode(&message[..length], TYPE_A).is_err(), "{length}");
        }
        assert!(encode(1, "a..b", TYPE_A).is_err());
    }
}
