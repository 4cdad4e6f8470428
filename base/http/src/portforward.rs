//! The server's side of `kubectl port-forward`: SPDY, plain or inside a WebSocket, and the
//! older WebSocket channels with the ports in the query.

use crate::{
    Body, BoxedIo, Error,
    channels::{BUFFER, Channels, Codec, Target},
    remotecommand::Writer,
    spdy::{self, Stream},
    upgrade::{accept_spdy, is_spdy},
    websocket::{self, ByteStream, WebSocket},
};
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use std::{
    collections::HashMap,
    fmt,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const WEBSOCKET_PROTOCOLS: [&str; 4] = [TUNNEL, "v4.channel.k8s.io", "v4.base64.channel.k8s.io", ""];
const SPDY_PROTOCOLS: [&str; 1] = ["portforward.k8s.io"];
/// How long one stream of a pair waits for the other (upstream has the same).
const PAIR_TIMEOUT: Duration = Duration::from_secs(30);
/// Pairs of which one half is there.
const MAX_HALVES: usize = 128;
/// Ports of one request over WebSocket channels, which are numbered by a byte.
const MAX_PORTS: usize = 127;

/// One connection to a port of the pod.
pub struct Forward {
    /// The pod's port.
    pub port: u16,
    /// The client's bytes.
    pub data: BoxedIo,
    /// A sentence for the user, if something goes wrong; drop it if nothing does.
    pub error: Writer,
}

impl fmt::Debug for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forward")
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// The connections that a client asks for.
pub struct PortForward(Kind);

enum Kind {
    Spdy {
        session: spdy::Session,
        halves: HashMap<String, Half>,
    },
    Channels {
        ready: Vec<Forward>,
        ended: CancellationToken,
    },
}

struct Half {
    port: u16,
    data: Option<Stream>,
    error: Option<Stream>,
    since: Instant,
}

impl fmt::Debug for PortForward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PortForward")
    }
}

/// An upgrade that was accepted: send the response, then await the rest.
pub struct Accepted {
    /// 101 Switching Protocols.
    pub response: Response<Body>,
    /// What follows, once the response is sent.
    pub session: BoxFuture<'static, Result<PortForward, Error>>,
}

impl fmt::Debug for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Accepted")
    }
}

/// Accepts an upgrade to WebSocket or SPDY; otherwise the response to refuse with.
pub fn accept<B>(request: &mut Request<B>) -> Result<Accepted, Box<Response<Body>>> {
    if is_spdy(request.headers()) {
        let (response, _, session) = accept_spdy(request, &SPDY_PROTOCOLS)?;
        let session = Box::pin(async move { Ok(PortForward::over_spdy(session.await?)) });
        return Ok(Accepted { response, session });
    }
    let ports = ports_of(request.uri().query().unwrap_or_default());
    let accepted = websocket::accept(request, &WEBSOCKET_PROTOCOLS)?;
    let socket = accepted.socket;
    let session: BoxFuture<'static, _> = if accepted.protocol == TUNNEL {
        Box::pin(async move {
            Ok(PortForward::over_spdy(spdy::Session::server(ByteStream::new(
                socket.await?,
            ))?))
        })
    } else {
        let Some(ports) = ports.filter(|ports| !ports.is_empty()) else {
            return Err(websocket::refuse(
                StatusCode::BAD_REQUEST,
                "query parameter \"ports\" is missing or bad",
            ));
        };
        let codec = Codec::of(&accepted.protocol);
        Box::pin(async move { PortForward::over_channels(socket.await?, codec, &ports).await })
    };
    Ok(Accepted {
        response: accepted.response,
        session,
    })
}

fn ports_of(query: &str) -> Option<Vec<u16>> {
    let values = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        // The API's name and the agent's.
        .filter(|(name, _)| matches!(*name, "ports" | "port"));
    let texts = values.flat_map(|(_, value)| value.split(','));
    let ports: Option<Vec<u16>> = texts.map(|text| text.parse().ok().filter(|port| *port != 0)).collect();
    ports.filter(|ports| ports.len() <= MAX_PORTS)
}

impl PortForward {
    fn over_spdy(session: spdy::Session) -> Self {
        Self(Kind::Spdy {
            session,
            halves: HashMap::new(),
        })
    }

    async fn over_channels(socket: WebSocket, codec: Codec, ports: &[u16]) -> Result<Self, Error> {
        let (mut targets, mut readers) = (HashMap::new(), Vec::new());
        for number in (0..ports.len() as u8).map(|index| index * 2) {
            let (ours, theirs) = tokio::io::duplex(BUFFER);
            targets.insert(number, Target::Bytes(ours));
            readers.push((number, theirs));
        }
        let channels = Channels::start(socket, codec, false, targets);
        let mut ready = Vec::new();
        for (port, (number, reader)) in ports.iter().zip(readers) {
            // Both channels begin with the port in two bytes, little end first.
            channels.send(number, port.to_le_bytes().to_vec()).await?;
            channels.send(number + 1, port.to_le_bytes().to_vec()).await?;
            ready.push(Forward {
                port: *port,
                data: Box::new(tokio::io::join(reader, channels.writer(number))),
                error: Box::new(channels.writer(number + 1)),
            });
        }
        ready.reverse();
        // With the last writer the socket closes.
        let ended = channels.ended().clone();
        Ok(Self(Kind::Channels { ready, ended }))
    }

    /// Cancelled when the client has gone.
    pub fn ended(&self) -> CancellationToken {
        match &self.0 {
            Kind::Spdy { session, .. } => session.ended(),
            Kind::Channels { ended, .. } => ended.clone(),
        }
    }

    /// The next connection the client asks for; `None` when the client has gone.
    pub async fn next(&mut self) -> Option<Forward> {
        match &mut self.0 {
            Kind::Channels { ready, ended } => match ready.pop() {
                Some(forward) => Some(forward),
                None => {
                    ended.cancelled().await;
                    None
                }
            },
            Kind::Spdy { session, halves } => loop {
                let stream = session.accept().await?;
                match pair(halves, stream).await {
                    Ok(Some(forward)) => return Some(forward),
                    Ok(None) => {}
                    Err(error) => tracing::debug!(%error, "refusing a stream"),
                }
            },
        }
    }
}

/// Puts a stream beside the other of its request; both together are a connection.
async fn pair(halves: &mut HashMap<String, Half>, stream: Stream) -> Result<Option<Forward>, Error> {
    halves.retain(|_, half| half.since.elapsed() < PAIR_TIMEOUT);
    let is_data = match stream.header("streamtype") {
        "data" => true,
        "error" => false,
        _ => return refuse(stream, "stream type").await,
    };
    let Some(port) = stream.header("port").parse::<u16>().ok().filter(|port| *port != 0) else {
        return refuse(stream, "port").await;
    };
    let request = match stream.header("requestid") {
        // Clients before 1.3 send none and open the error stream just before the data stream.
        "" => (if is_data {
            stream.id().saturating_sub(2)
        } else {
            stream.id()
        })
        .to_string(),
        id => id.to_owned(),
    };
    if halves.len() >= MAX_HALVES && !halves.contains_key(&request) {
        return refuse(stream, "number of waiting streams").await;
    }
    let half = halves.entry(request.clone()).or_insert_with(|| Half {
        port,
        data: None,
        error: None,
        since: Instant::now(),
    });
    let place = if is_data { &mut half.data } else { &mut half.error };
    if place.is_some() || half.port != port {
        return refuse(stream, "second stream of one kind").await;
    }
    stream.reply().await?;
    *place = Some(stream);
    if half.data.is_none() || half.error.is_none() {
        return Ok(None);
    }
    let Some(Half {
        port,
        data: Some(data),
        error: Some(error),
        ..
    }) = halves.remove(&request)
    else {
        return Ok(None);
    };
    Ok(Some(Forward {
        port,
        data: Box::new(data),
        error: Box::new(error),
    }))
}

async fn refuse(stream: Stream, what: &str) -> Result<Option<Forward>, Error> {
    stream.reset().await?;
    Err(Error::spdy(format!("bad {what}")))
}

#[cfg(test)]
mod tests;
