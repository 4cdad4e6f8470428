//! Host names to addresses, without the C library's resolver (which would load host
//! modules into a static binary): the hosts file, then the servers of resolv.conf.

mod message;

use crate::Error;
use message::{MAX_MESSAGE, Question, Reply};
use std::{
    collections::HashSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
};

/// resolv.conf(5): servers and search domains beyond these are ignored, as by the C library.
const MAX_SERVERS: usize = 3;
const MAX_SEARCH: usize = 6;
/// resolv.conf(5): seconds per try and number of rounds, unless it says otherwise.
const TIMEOUT: u64 = 5;
const ATTEMPTS: u32 = 2;
/// Largest hosts file and resolv.conf read.
const MAX_FILE: u64 = 1 << 20;

/// The addresses of a host, IPv4 first: a literal, `localhost`, a name of the hosts file, or one that DNS knows.
pub async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
    Resolver::default().resolve(host, port).await
}

/// Where names are looked up.
#[derive(Clone, Debug)]
pub struct Resolver {
    /// The hosts file.
    pub hosts: PathBuf,
    /// The list of servers.
    pub configuration: PathBuf,
    /// The port of the servers.
    pub port: u16,
}

impl Default for Resolver {
    fn default() -> Self {
        Self {
            hosts: "/etc/hosts".into(),
            configuration: "/etc/resolv.conf".into(),
            port: 53,
        }
    }
}

impl Resolver {
    /// The addresses of a host. Errors: `Connect` that says why there are none.
    pub async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
        let host = host.trim_matches(['[', ']']).trim_end_matches('.');
        let failed = |why: String| Error::Connect {
            address: format!("{host}:{port}"),
            why,
        };
        let addresses = if let Ok(address) = host.parse() {
            vec![address]
        } else if is_localhost(host) {
            // RFC 6761 section 6.3: never asked of anybody.
            vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
        } else {
            let mut found = in_hosts(&read(&self.hosts).await.map_err(|why| failed(why.to_string()))?, host);
            if found.is_empty() {
                found = self.ask(host).await.map_err(failed)?;
            }
            found.sort_by_key(IpAddr::is_ipv6);
            found
        };
        Ok(addresses
            .into_iter()
            .map(|address| SocketAddr::new(address, port))
            .collect())
    }

    async fn ask(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        let text = read(&self.configuration)
            .await
            .map_err(|why| format!("reading resolv.conf: {why}"))?;
        let configuration = Configuration::parse(&text);
        let mut last = "no such host".to_owned();
        for name in configuration.candidates(host) {
            match self.ask_servers(&configuration, &name).await {
                Ok(addresses) if !addresses.is_empty() => return Ok(addresses),
                Ok(_) => {}
                Err(why) => last = why,
            }
        }
        Err(last)
    }

    /// Asks one server after another; an answer without addresses is an answer.
    async fn ask_servers(&self, configuration: &Configuration, name: &str) -> Result<Vec<IpAddr>, String> {
        let mut last = "no server to ask".to_owned();
        for _ in 0..configuration.attempts {
            for server in &configuration.servers {
                let server = SocketAddr::new(*server, self.port);
                let both =
                    async { tokio::try_join!(query(server, name, message::A), query(server, name, message::AAAA)) };
                match tokio::time::timeout(configuration.timeout, both).await {
                    Ok(Ok((mut v4, v6))) => {
                        v4.extend(v6);
                        return Ok(v4);
                    }
                    Ok(Err(why)) => last = format!("asking {server}: {why}"),
                    Err(_) => last = format!("asking {server}: no answer"),
                }
            }
        }
        Err(last)
    }
}

fn is_localhost(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

async fn read(path: &PathBuf) -> io::Result<String> {
    let file = match tokio::fs::File::open(path).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn in_hosts(text: &str, host: &str) -> Vec<IpAddr> {
    let lines = text.lines().filter_map(|line| line.split('#').next());
    let matching = lines.filter_map(|line| {
        let mut words = line.split_whitespace();
        let address: IpAddr = words.next()?.parse().ok()?;
        words.any(|name| name.eq_ignore_ascii_case(host)).then_some(address)
    });
    let mut seen = HashSet::new();
    matching.filter(|address| seen.insert(*address)).collect()
}

#[derive(Debug)]
struct Configuration {
    servers: Vec<IpAddr>,
    search: Vec<String>,
    dots: usize,
    timeout: Duration,
    attempts: u32,
}

impl Configuration {
    fn parse(text: &str) -> Self {
        let (mut servers, mut search) = (Vec::new(), Vec::new());
        let (mut dots, mut timeout, mut attempts) = (1, TIMEOUT, ATTEMPTS);
        for line in text.lines().filter(|line| !line.starts_with(['#', ';'])) {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    // A zone after `%` names a link, which asking a server by number does not need.
                    let address: Option<IpAddr> = words.next().and_then(|word| word.split('%').next()?.parse().ok());
                    servers.extend(address);
                }
                Some("search" | "domain") => search = words.take(MAX_SEARCH).map(str::to_owned).collect(),
                Some("options") => {
                    for (name, value) in words.filter_map(|word| word.split_once(':')) {
                        match (name, value.parse::<u32>()) {
                            ("ndots", Ok(number)) => dots = number.min(15) as usize,
                            ("timeout", Ok(number)) => timeout = u64::from(number.clamp(1, 30)),
                            ("attempts", Ok(number)) => attempts = number.clamp(1, 5),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        servers.truncate(MAX_SERVERS);
        if servers.is_empty() {
            servers.push(Ipv4Addr::LOCALHOST.into());
        }
        Self {
            servers,
            search,
            dots,
            timeout: Duration::from_secs(timeout),
            attempts,
        }
    }

    /// The names to ask for, in order.
    fn candidates(&self, host: &str) -> Vec<String> {
        let mut names: Vec<String> = self.search.iter().map(|domain| format!("{host}.{domain}")).collect();
        let at = if host.matches('.').count() >= self.dots {
            0
        } else {
            names.len()
        };
        names.insert(at, host.to_owned());
        names
    }
}

async fn query(server: SocketAddr, name: &str, kind: u16) -> io::Result<Vec<IpAddr>> {
    let question = Question::new(name, kind)?;
    let any: SocketAddr = if server.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(any).await?;
    // Connected: datagrams of others are not seen.
    socket.connect(server).await?;
    socket.send(question.bytes()).await?;
    let mut buffer = vec![0; MAX_MESSAGE];
    loop {
        let count = socket.recv(&mut buffer).await?;
        match question.read(&buffer[..count])? {
            // Not the answer to this question: a late or forged one.
            None => {}
            Some(Reply::Truncated) => return query_stream(server, &question).await,
            Some(Reply::Addresses(addresses)) => return Ok(addresses),
        }
    }
}

/// RFC 7766: over TCP with a length before the message.
async fn query_stream(server: SocketAddr, question: &Question) -> io::Result<Vec<IpAddr>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = (question.bytes().len() as u16).to_be_bytes();
    stream.write_all(&[&length, question.bytes()].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    match question.read(&answer)? {
        Some(Reply::Addresses(addresses)) => Ok(addresses),
        _ => Err(io::Error::other("the answer over TCP is none")),
    }
}

#[cfg(test)]
mod tests;
