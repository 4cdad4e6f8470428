//! The streaming server: a URL leads to one session, once and soon.

use crate::error::Answer;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use strata_engine::{ContainerId, Engine, ExecOptions, SandboxId, streaming};
use strata_http::remotecommand::Options;
use strata_http::{Body, GrpcStatus, Handler, Peer};

/// How long a URL is good (upstream's streaming library has the same).
const GOOD_FOR: Duration = Duration::from_secs(60);
/// URLs that nobody has called yet.
const MAX_PENDING: usize = 1000;

/// What a URL leads to.
pub(crate) enum Stream {
    Exec {
        container: ContainerId,
        command: Vec<String>,
        wanted: Options,
    },
    Attach {
        container: ContainerId,
        wanted: Options,
    },
    PortForward {
        sandbox: SandboxId,
    },
}

/// The sessions that were promised.
pub(crate) struct Streaming {
    engine: Engine,
    base: String,
    pending: Mutex<HashMap<String, (Instant, Stream)>>,
}

impl Streaming {
    /// For a server at that address.
    pub fn new(engine: Engine, address: std::net::SocketAddr) -> Self {
        Self {
            engine,
            base: format!("http://{address}"),
            pending: Mutex::default(),
        }
    }

    /// Where the server is.
    pub fn base_url(&self) -> &str {
        &self.base
    }

    /// A URL for a session.
    pub fn admit(&self, stream: Stream) -> Answer<String> {
        let kind = match &stream {
            Stream::Exec { .. } => "exec",
            Stream::Attach { .. } => "attach",
            Stream::PortForward { .. } => "portforward",
        };
        let path = format!("/{kind}/{}", crate::random_name()?);
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.len() >= MAX_PENDING {
            pending.retain(|_, (since, _)| since.elapsed() < GOOD_FOR);
        }
        if pending.len() >= MAX_PENDING {
            let why = "maximum number of in-flight requests exceeded";
            return Err(GrpcStatus::new(GrpcStatus::RESOURCE_EXHAUSTED, why));
        }
        let url = format!("{}{path}", self.base);
        pending.insert(path, (Instant::now(), stream));
        Ok(url)
    }

    fn take(&self, path: &str) -> Option<Stream> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, stream) = pending.remove(path)?;
        (since.elapsed() < GOOD_FOR).then_some(stream)
    }

    fn answer(&self, mut request: Request<Incoming>) -> Response<Body> {
        let Some(stream) = self.take(request.uri().path()) else {
            let mut response = Response::new(Body::full("404 page not found\n"));
            *response.status_mut() = StatusCode::NOT_FOUND;
            return response;
        };
        let engine = self.engine.clone();
        match stream {
            Stream::Exec {
                container,
                command,
                wanted,
            } => {
                let options = ExecOptions {
                    command,
                    tty: wanted.tty,
                    stdin: wanted.stdin,
                    stdout: wanted.stdout,
                    stderr: wanted.stderr,
                    ..ExecOptions::default()
                };
                streaming::exec(engine, &mut request, container, wanted, options)
            }
            Stream::Attach { container, wanted } => streaming::attach(engine, &mut request, container, wanted),
            Stream::PortForward { sandbox } => streaming::port_forward(engine, &mut request, sandbox),
        }
    }
}

impl Handler for Streaming {
    fn call(&self, request: Request<Incoming>, _: Peer) -> BoxFuture<'static, Response<Body>> {
        Box::pin(std::future::ready(self.answer(request)))
    }
}
