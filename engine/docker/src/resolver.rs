//! Names in named networks: a resolver inside each container's network namespace that knows the other
//! containers of its networks and asks the machine's servers about everything else.

use crate::daemon::Inner;
use crate::error::{Answer, ApiError, blocking};
use crate::netfiles::{RESOLVER, Resolv};
use crate::record::{Container, Record};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket as Blocking};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::time::Duration;
use strata_engine::SandboxId;
use strata_net::NetworkNamespace;
use strata_net::dns::{Message, Record as DnsRecord, RecordData, class, kind, rcode};
use strata_net::nft::{
    Batch, ChainHook, ChainKind, Expression, Family, Hook, MetaKey, NatKind, NftSocket, Operator, PayloadBase, Register,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Seconds an answer may be kept (as docker).
const TTL: u32 = 600;
/// How long a server may take before the next is asked.
const PATIENCE: Duration = Duration::from_secs(4);
/// Questions of one container that are worked on at a time.
const PARALLEL: usize = 100;
const MAX_MESSAGE: usize = 65_535;
const TABLE: &str = "strata-dns";

/// Where a container's questions arrive.
pub(crate) struct Sockets {
    udp: UdpSocket,
    tcp: TcpListener,
}

/// Answers a container's questions until its run is over.
pub(crate) fn serve(inner: &Arc<Inner>, container: &Arc<Container>, sockets: Sockets, run: CancellationToken) {
    let (weak, container, stop) = (Arc::downgrade(inner), Arc::clone(container), inner.stop.clone());
    tokio::spawn(async move {
        let slots = Arc::new(Semaphore::new(PARALLEL));
        let udp = Arc::new(sockets.udp);
        let work = async {
            tokio::join!(
                datagrams(&weak, &container, &udp, &slots),
                connections(&weak, &container, &sockets.tcp, &slots)
            )
        };
        tokio::select! {
            () = run.cancelled() => {}
            () = stop.cancelled() => {}
            _ = work => {}
        }
    });
}

/// Opens the sockets in a sandbox; before its process starts, so that its first question is answered.
pub(crate) async fn open(inner: &Inner, sandbox: &SandboxId) -> Answer<Sockets> {
    let netns = inner.engine.network_namespace(sandbox).await?;
    let (udp, tcp) = blocking(move || sockets(netns)).await?;
    let failed = |error: std::io::Error| ApiError::internal(format!("listen for questions: {error}"));
    Ok(Sockets {
        udp: UdpSocket::from_std(udp).map_err(failed)?,
        tcp: TcpListener::from_std(tcp).map_err(failed)?,
    })
}

/// Sockets inside, on ports of their own, so that the container may use port 53 itself; packets to the
/// resolver's address are led there.
fn sockets(netns: OwnedFd) -> Answer<(Blocking, std::net::TcpListener)> {
    let inside = || -> Result<(Blocking, std::net::TcpListener), String> {
        let say = |error: std::io::Error| error.to_string();
        let udp = Blocking::bind((RESOLVER, 0)).map_err(say)?;
        let tcp = std::net::TcpListener::bind((RESOLVER, 0)).map_err(say)?;
        udp.set_nonblocking(true).and(tcp.set_nonblocking(true)).map_err(say)?;
        let port = |address: std::io::Result<SocketAddr>| address.map(|address| address.port()).map_err(say);
        lead(port(udp.local_addr())?, port(tcp.local_addr())?).map_err(|error| error.to_string())?;
        Ok((udp, tcp))
    };
    let made = NetworkNamespace::from(netns).run(inside)?;
    made.map_err(|error| ApiError::internal(format!("listen for questions: {error}")))
}

/// Leads the container's packets to the resolver's port 53 to where it listens.
fn lead(udp: u16, tcp: u16) -> Result<(), strata_net::Error> {
    let mut batch = Batch::new(Family::Ipv4, TABLE);
    let place = ChainHook {
        kind: ChainKind::Nat,
        hook: Hook::Output,
        priority: -100,
        drops: false,
    };
    batch
        .add_table()
        .delete_table()
        .add_table()
        .add_chain("output", Some(place));
    for (protocol, port) in [(17u8, udp), (6, tcp)] {
        batch.add_rule("output", &to_port(protocol, port));
    }
    NftSocket::open()?.apply(batch)
}

fn to_port(protocol: u8, port: u16) -> Vec<Expression> {
    let (scratch, target, target_port) = (Register(0), Register(1), Register(2));
    let compare = |with: &[u8]| Expression::Compare {
        from: scratch,
        operator: Operator::Equal,
        with: with.to_vec(),
    };
    vec![
        Expression::Payload {
            base: PayloadBase::Network,
            offset: 16,
            length: 4,
            to: scratch,
        },
        compare(&RESOLVER.octets()),
        Expression::Meta {
            key: MetaKey::Layer4Protocol,
            to: scratch,
        },
        compare(&[protocol]),
        Expression::Payload {
            base: PayloadBase::Transport,
            offset: 2,
            length: 2,
            to: scratch,
        },
        compare(&53u16.to_be_bytes()),
        Expression::Immediate {
            to: target,
            value: RESOLVER.octets().to_vec(),
        },
        Expression::Immediate {
            to: target_port,
            value: port.to_be_bytes().to_vec(),
        },
        Expression::Nat {
            kind: NatKind::Destination,
            address: target,
            port: Some(target_port),
        },
    ]
}

async fn datagrams(weak: &Weak<Inner>, container: &Arc<Container>, socket: &Arc<UdpSocket>, slots: &Arc<Semaphore>) {
    let mut buffer = vec![0; MAX_MESSAGE];
    loop {
        let Ok((count, from)) = socket.recv_from(&mut buffer).await else {
            return;
        };
        // Too many at once: the asker asks again.
        let Ok(slot) = Arc::clone(slots).try_acquire_owned() else {
            continue;
        };
        let (weak, container, socket) = (weak.clone(), Arc::clone(container), Arc::clone(socket));
        let question = buffer[..count].to_vec();
        tokio::spawn(async move {
            let _slot = slot;
            if let Some(answer) = answer(&weak, &container, &question, false).await {
                // Whoever asked may have gone.
                let _ = socket.send_to(&answer, from).await;
            }
        });
    }
}

async fn connections(weak: &Weak<Inner>, container: &Arc<Container>, listener: &TcpListener, slots: &Arc<Semaphore>) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            return;
        };
        let Ok(slot) = Arc::clone(slots).try_acquire_owned() else {
            continue;
        };
        let (weak, container) = (weak.clone(), Arc::clone(container));
        tokio::spawn(async move {
            let _slot = slot;
            // An end of the connection is the end of the questions.
            let _ = tokio::time::timeout(PATIENCE * 4, async {
                while let Ok(length) = stream.read_u16().await {
                    let mut question = vec![0; usize::from(length)];
                    stream.read_exact(&mut question).await?;
                    let Some(answer) = answer(&weak, &container, &question, true).await else {
                        break;
                    };
                    stream.write_all(&framed(&answer)).await?;
                }
                std::io::Result::Ok(())
            })
            .await;
        });
    }
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes()[..], message].concat()
}

/// The answer to a message; nothing if it is none.
async fn answer(weak: &Weak<Inner>, container: &Container, question: &[u8], stream: bool) -> Option<Vec<u8>> {
    let message = Message::parse(question).ok().filter(|message| !message.response)?;
    let inner = weak.upgrade()?;
    let own = container.record();
    if let Some(reply) = local(&inner, &own, &message) {
        let limit = if stream { MAX_MESSAGE } else { message.udp_limit() };
        return Some(reply.encode(limit));
    }
    let servers = own
        .typed_host()
        .map(|host| Resolv::of(&host).servers)
        .unwrap_or_default();
    drop(inner);
    for server in servers {
        let asked = tokio::time::timeout(PATIENCE, ask(server, question, stream)).await;
        if let Ok(Ok(answer)) = asked {
            return Some(answer);
        }
    }
    Some(message.reply(rcode::SERVFAIL).encode(512))
}

async fn ask(server: IpAddr, question: &[u8], stream: bool) -> std::io::Result<Vec<u8>> {
    if stream {
        let mut connection = TcpStream::connect((server, 53)).await?;
        connection.write_all(&framed(question)).await?;
        let mut answer = vec![0; usize::from(connection.read_u16().await?)];
        connection.read_exact(&mut answer).await?;
        return Ok(answer);
    }
    let any: SocketAddr = match server {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        IpAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect((server, 53)).await?;
    socket.send(question).await?;
    let mut answer = vec![0; MAX_MESSAGE];
    loop {
        let count = socket.recv(&mut answer).await?;
        // Anything else is not the answer to this.
        if answer.get(..2) == question.get(..2) {
            answer.truncate(count);
            return Ok(answer);
        }
    }
}

/// What the networks know of a name or an address; nothing if it is none of theirs.
fn local(inner: &Inner, own: &Record, message: &Message) -> Option<Message> {
    let question = message
        .questions
        .first()
        .filter(|question| question.class == class::IN)?;
    let labels: Vec<&[u8]> = question.name.labels().collect();
    let name = String::from_utf8(labels.join(&b'.')).ok()?.to_ascii_lowercase();
    let record = |data| DnsRecord {
        name: question.name.clone(),
        ttl: TTL,
        data,
    };
    let mut reply = message.reply(rcode::NOERROR);
    if question.kind == kind::PTR {
        let ip = reverse(&name)?;
        let (network, name) = by_address(inner, own, ip)?;
        let text = format!("{name}.{network}");
        let target = strata_net::dns::Name::from_labels(text.split('.').map(str::as_bytes)).ok()?;
        reply.answers.push(record(RecordData::Ptr(target)));
        return Some(reply);
    }
    let addresses = by_name(inner, own, &name);
    if addresses.is_empty() {
        return None;
    }
    if question.kind == kind::A || question.kind == kind::ANY {
        reply.answers = addresses.into_iter().map(|ip| record(RecordData::A(ip))).collect();
    }
    // Other types of a name that is known: there are none.
    Some(reply)
}

/// Addresses of the containers that go by a name in the networks of that one.
fn by_name(inner: &Inner, own: &Record, name: &str) -> Vec<Ipv4Addr> {
    let mut all = Vec::new();
    for other in inner.all() {
        let other = other.lock();
        for (network, place) in &other.networks {
            if network == crate::networks::DEFAULT || !own.networks.contains_key(network) {
                continue;
            }
            let goes_by = |wanted: &str| {
                other.name.eq_ignore_ascii_case(wanted)
                    || other.short_id() == wanted
                    || place
                        .config
                        .aliases
                        .iter()
                        .any(|alias| alias.eq_ignore_ascii_case(wanted))
            };
            let qualified = name.strip_suffix(&format!(".{}", network.to_ascii_lowercase()));
            if (goes_by(name) || qualified.is_some_and(goes_by))
                && let Some(ip) = place.ip
            {
                all.push(ip);
            }
        }
    }
    all
}

/// The network in which a container has an address, and the container's name.
fn by_address(inner: &Inner, own: &Record, ip: Ipv4Addr) -> Option<(String, String)> {
    inner.all().iter().find_map(|other| {
        let other = other.lock();
        let shared = |network: &String| network != crate::networks::DEFAULT && own.networks.contains_key(network);
        let (network, _) = other
            .networks
            .iter()
            .find(|(network, place)| place.ip == Some(ip) && shared(network))?;
        Some((network.clone(), other.name.clone()))
    })
}

/// The address that `4.3.2.1.in-addr.arpa` asks about.
fn reverse(name: &str) -> Option<Ipv4Addr> {
    let parts: Vec<&str> = name.strip_suffix(".in-addr.arpa")?.rsplit('.').collect();
    parts.join(".").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::reverse;
    use std::net::Ipv4Addr;

    #[test]
    fn reverse_names_are_addresses() {
        assert_eq!(reverse("4.3.2.1.in-addr.arpa"), Some(Ipv4Addr::new(1, 2, 3, 4)));
        assert_eq!(reverse("x.in-addr.arpa"), None);
        assert_eq!(reverse("example.com"), None);
    }
}
