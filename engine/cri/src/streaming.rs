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
    promised: Promised,
}

/// Paths that lead to a session, each once.
#[derive(Default)]
struct Promised(Mutex<HashMap<String, (Instant, Stream)>>);

impl Promised {
    fn admit(&self, path: String, stream: Stream, now: Instant) -> Answer<()> {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.len() >= MAX_PENDING {
            pending.retain(|_, (since, _)| now.duration_since(*since) < GOOD_FOR);
        }
        if pending.len() >= MAX_PENDING {
            let why = "maximum number of in-flight requests exceeded";
            return Err(GrpcStatus::new(GrpcStatus::RESOURCE_EXHAUSTED, why));
        }
        pending.insert(path, (now, stream));
        Ok(())
    }

    fn take(&self, path: &str, now: Instant) -> Option<Stream> {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, stream) = pending.remove(path)?;
        (now.duration_since(since) < GOOD_FOR).then_some(stream)
    }
}

impl Streaming {
    /// For a server at that address.
    pub fn new(engine: Engine, address: std::net::SocketAddr) -> Self {
        Self {
            engine,
            base: format!("http://{address}"),
            promised: Promised::default(),
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
        let url = format!("{}{path}", self.base);
        self.promised.admit(path, stream, Instant::now())?;
        Ok(url)
    }

    fn answer(&self, mut request: Request<Incoming>) -> Response<Body> {
        let Some(stream) = self.promised.take(request.uri().path(), Instant::now()) else {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Stream {
        Stream::PortForward {
            sandbox: SandboxId::from("a"),
        }
    }

    #[test]
    fn a_url_is_good_once_and_not_for_long() {
        let promised = Promised::default();
        let now = Instant::now();
        for path in ["/exec/1", "/exec/2"] {
            promised.admit(path.into(), stream(), now).expect("room");
        }
        assert!(promised.take("/exec/1", now).is_some());
        assert!(promised.take("/exec/1", now).is_none(), "used twice");
        assert!(promised.take("/exec/2", now + GOOD_FOR).is_none(), "too late");
        assert!(promised.take("/exec/2", now).is_none(), "a late caller uses it up");
        assert!(promised.take("/exec/", now).is_none() && promised.take("", now).is_none());
    }

    #[test]
    fn urls_that_nobody_calls_make_room_when_they_are_old() {
        let promised = Promised::default();
        let now = Instant::now();
        for number in 0..MAX_PENDING {
            promised.admit(format!("/exec/{number}"), stream(), now).expect("room");
        }
        let refused = promised.admit("/exec/more".into(), stream(), now).expect_err("full");
        assert_eq!(refused.code, GrpcStatus::RESOURCE_EXHAUSTED);
        promised
            .admit("/exec/more".into(), stream(), now + GOOD_FOR)
            .expect("room again");
    }
}
