//! The server: sockets, and the way of a query.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use strata_client::{Client, Informer, Scope, resources};
use strata_net::dns::{Message, Question, class, kind, opcode, rcode};
use strata_task::{CancellationToken, TaskTracker};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::forward::Forwarder;
use crate::objects::{DnsService, DnsSlice};
use crate::{Answer, Error, Index, Zone};

/// Queries larger than this are none.
const RECEIVE: usize = 4_096;
/// UDP answers larger than this would be fragmented (DNS flag day 2020).
const UDP_LARGEST: usize = 1_232;
const TCP_CONNECTIONS: usize = 128;
/// RFC 7766 section 6.2.3: an idle connection may be closed after some seconds.
const TCP_IDLE: Duration = Duration::from_secs(10);
/// UDP queries being forwarded for clients; the forwarder has its own, lower limit.
const PENDING: usize = 1_024;

/// How cluster DNS is served.
#[derive(Clone)]
pub struct DnsOptions {
    /// Where Services and EndpointSlices come from.
    pub client: Client,
    /// The cluster's domain, usually `cluster.local`.
    pub domain: String,
    /// Where to listen, each with UDP and TCP.
    pub listen: Vec<SocketAddr>,
    /// Who is asked about other names ([`crate::upstream_resolvers`]).
    pub upstream: Vec<SocketAddr>,
}

/// The running server; dropping it stops the work.
#[derive(Debug)]
pub struct DnsServer {
    state: Arc<State>,
    addresses: Vec<SocketAddr>,
    tasks: TaskTracker,
    cancel: CancellationToken,
}

struct State {
    zone: Zone,
    index: RwLock<Index>,
    forwarder: Forwarder,
    services: Informer<DnsService>,
    slices: Informer<DnsSlice>,
    pending: Semaphore,
    connections: Semaphore,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("zone", &self.zone)
            .field("forwarder", &self.forwarder)
            .finish_non_exhaustive()
    }
}

impl DnsServer {
    /// Listens and starts following objects; queries are answered at once, those of the zone after
    /// the first list. Errors: an address that cannot be listened on, a domain that is none.
    pub async fn start(options: DnsOptions, cancel: CancellationToken) -> Result<Self, Error> {
        let zone = Zone::new(&options.domain).map_err(|error| Error::Domain(options.domain.clone(), error))?;
        let cancel = cancel.child_token();
        let mut sockets = Vec::new();
        for address in &options.listen {
            sockets.push(listen(*address).await.map_err(|source| Error::Listen {
                address: *address,
                source,
            })?);
        }
        let addresses: Vec<SocketAddr> = sockets.iter().map(|(_, _, address)| *address).collect();
        let services = Informer::start(&options.client, resources::SERVICES, Scope::default(), cancel.clone());
        let slices = Informer::start(
            &options.client,
            resources::ENDPOINT_SLICES,
            Scope::default(),
            cancel.clone(),
        );
        let state = Arc::new(State {
            zone,
            index: RwLock::default(),
            forwarder: Forwarder::new(&options.upstream, &addresses),
            services,
            slices,
            pending: Semaphore::new(PENDING),
            connections: Semaphore::new(TCP_CONNECTIONS),
        });
        state.follow();
        let server = Self {
            state,
            addresses,
            tasks: TaskTracker::new(),
            cancel,
        };
        for (udp, tcp, _) in sockets {
            server.spawn(serve_udp(
                server.state.clone(),
                Arc::new(udp),
                server.tasks.clone(),
                server.cancel.clone(),
            ));
            server.spawn(serve_tcp(
                server.state.clone(),
                tcp,
                server.tasks.clone(),
                server.cancel.clone(),
            ));
        }
        let state = server.state.clone();
        server.spawn(async move { state.forwarder.probe().await });
        server.tasks.close();
        Ok(server)
    }

    /// Where it listens: the addresses asked for, with the ports that were chosen for port 0.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Waits until every service and endpoint known at the start has its names.
    pub async fn synced(&self) {
        self.state.synced().await;
    }

    /// Stops, and waits for queries under way.
    pub async fn stop(self) {
        self.cancel.cancel();
        self.tasks.wait().await;
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let cancel = self.cancel.clone();
        self.tasks.spawn(async move {
            cancel.run_until_cancelled(work).await;
        });
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl State {
    fn follow(self: &Arc<Self>) {
        // Weak: the informers belong to the state.
        let state = Arc::downgrade(self);
        self.services.on_change(move |change| {
            if let Some(state) = state.upgrade() {
                let mut index = state.index.write().unwrap_or_else(PoisonError::into_inner);
                index.set_service(&change.key, change.new.clone());
            }
        });
        let state = Arc::downgrade(self);
        self.slices.on_change(move |change| {
            if let Some(state) = state.upgrade() {
                let mut index = state.index.write().unwrap_or_else(PoisonError::into_inner);
                index.set_slice(&change.key, change.old.as_ref(), change.new.as_ref());
            }
        });
    }

    async fn synced(&self) {
        self.services.synced().await;
        self.slices.synced().await;
    }

    /// The answer to what came in; `None` to what deserves none.
    async fn answer(&self, bytes: &[u8], tcp: bool) -> Option<Vec<u8>> {
        let query = match Message::parse(bytes) {
            Ok(message) if message.response => return None,
            Ok(message) => message,
            Err(_) => return malformed(bytes),
        };
        let limit = if tcp {
            65_535
        } else {
            query.udp_limit().min(UDP_LARGEST)
        };
        match self.decide(&query) {
            Decision::Reply(reply) => Some(reply.encode(limit)),
            Decision::Alias(mut reply, target) => {
                let rest = Question {
                    name: target,
                    ..query.questions.first()?.clone()
                };
                let rest = self.forwarder.resolve(&Message::query(0, rest), tcp).await;
                match Message::parse(&rest) {
                    Ok(rest) if rest.is_success() => reply.answers.extend(rest.answers),
                    // The alias alone is true as well.
                    _ => {}
                }
                Some(reply.encode(limit))
            }
            Decision::Forward => {
                let answer = self.forwarder.resolve(&query, tcp).await;
                if answer.len() <= limit {
                    return Some(answer);
                }
                let mut reply = query.reply(rcode::NOERROR);
                reply.truncated = true;
                Some(reply.encode(limit))
            }
        }
    }

    fn decide(&self, query: &Message) -> Decision {
        let reply = |code| Decision::Reply(query.reply(code));
        if query.opcode != opcode::QUERY {
            return reply(rcode::NOTIMP);
        }
        if query.edns.is_some_and(|edns| edns.version > 0) {
            return reply(rcode::BADVERS);
        }
        let [question] = &query.questions[..] else {
            return reply(rcode::FORMERR);
        };
        if question.kind == kind::AXFR || question.class != class::IN {
            return reply(rcode::REFUSED);
        }
        if self.forwarder.notice_probe(&question.name) {
            return reply(rcode::REFUSED);
        }
        let answer = {
            let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
            self.zone.answer(&index, question)
        };
        if answer != Answer::Forward && !(self.services.is_synced() && self.slices.is_synced()) {
            // Better asked again than told that a name does not exist.
            return reply(rcode::SERVFAIL);
        }
        match &answer {
            Answer::Forward => Decision::Forward,
            Answer::Elsewhere { target, .. } => Decision::Alias(self.zone.reply(query, &answer), target.clone()),
            _ => Decision::Reply(self.zone.reply(query, &answer)),
        }
    }
}

enum Decision {
    Reply(Message),
    /// The alias, and the name whose records are to be added.
    Alias(Message, strata_net::dns::Name),
    Forward,
}

/// Says "format error" if there is at least a header of a query to answer.
fn malformed(bytes: &[u8]) -> Option<Vec<u8>> {
    let id = u16::from_be_bytes(*bytes.first_chunk()?);
    let is_query = bytes.len() >= 12 && bytes[2] & 0x80 == 0;
    let query = Message {
        id,
        ..Message::default()
    };
    is_query.then(|| query.reply(rcode::FORMERR).encode(512))
}

/// UDP and TCP on the same port.
async fn listen(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener, SocketAddr)> {
    let tcp = TcpListener::bind(address).await?;
    let address = tcp.local_addr()?;
    Ok((UdpSocket::bind(address).await?, tcp, address))
}

async fn serve_udp(state: Arc<State>, socket: Arc<UdpSocket>, tasks: TaskTracker, cancel: CancellationToken) {
    let mut buffer = vec![0; RECEIVE];
    loop {
        let (length, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // ICMP errors of earlier answers come back here.
            Err(error) => {
                tracing::debug!(%error, "receiving a DNS query");
                continue;
            }
        };
        let Some(bytes) = buffer.get(..length) else { continue };
        // Answers of the zone need no task: they are there at the first poll.
        let mut answer = Box::pin({
            let (state, bytes) = (state.clone(), bytes.to_vec());
            async move { state.answer(&bytes, false).await }
        });
        match futures_poll_once(&mut answer).await {
            Some(answer) => send(&socket, answer, client).await,
            None => {
                let (state, socket, cancel) = (state.clone(), socket.clone(), cancel.clone());
                let Ok(permit) = state.pending.try_acquire() else {
                    continue;
                };
                permit.forget();
                tasks.spawn(async move {
                    if let Some(answer) = cancel.run_until_cancelled(answer).await {
                        send(&socket, answer, client).await;
                    }
                    state.pending.add_permits(1);
                });
            }
        }
    }
}

async fn send(socket: &UdpSocket, answer: Option<Vec<u8>>, client: SocketAddr) {
    if let Some(answer) = answer
        && let Err(error) = socket.send_to(&answer, client).await
    {
        tracing::debug!(%error, %client, "sending a DNS answer");
    }
}

/// What the future gives when polled once.
async fn futures_poll_once<T>(future: &mut (impl Future<Output = T> + Unpin)) -> Option<T> {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(match std::pin::Pin::new(&mut *future).poll(context) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

async fn serve_tcp(state: Arc<State>, listener: TcpListener, tasks: TaskTracker, cancel: CancellationToken) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accepting a DNS connection");
                // Out of descriptors: give others time to close some.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(permit) = state.connections.try_acquire() else {
            continue;
        };
        permit.forget();
        let (state, cancel) = (state.clone(), cancel.clone());
        tasks.spawn(async move {
            if let Some(Err(error)) = cancel.run_until_cancelled(converse(&state, stream)).await {
                tracing::debug!(%error, "a DNS connection ended");
            }
            state.connections.add_permits(1);
        });
    }
}

/// Queries of one connection, one after another.
async fn converse(state: &State, mut stream: TcpStream) -> io::Result<()> {
    loop {
        let read = timeout(TCP_IDLE, async {
            let length = stream.read_u16().await?;
            let mut bytes = vec![0; length.into()];
            stream.read_exact(&mut bytes).await?;
            Ok::<_, io::Error>(bytes)
        });
        let bytes = match read.await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Ok(()),
        };
        let Some(answer) = state.answer(&bytes, true).await else {
            return Ok(());
        };
        let mut framed = (answer.len() as u16).to_be_bytes().to_vec();
        framed.extend_from_slice(&answer);
        timeout(TCP_IDLE, stream.write_all(&framed))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    }
}
