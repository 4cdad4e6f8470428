//! Connections to webhooks, kept for the next call.

use super::{
    CallError, ClientConfig, Endpoint,
    call::{Exchange, exchange},
    room::{Received, Room},
    service::{Place, dial, dial_host, places},
};
use crate::core::Core;
use bytes::Bytes;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use strata_http::{BoxedIo, ClientTls, Connection};
use strata_meta::Uid;
use tokio::sync::Semaphore;

/// Servers whose connections are kept (upstream: 200 clients).
const SERVERS: usize = 200;
/// Idle connections kept to one server.
const IDLE_EACH: usize = 8;
/// Calls to one server at a time. One that calls back into this server, which asks it again, and so on, comes to an
/// end here; others have servers of their own.
const CALLS_EACH: usize = 256;
/// Go servers close idle connections after 90 s and more.
const IDLE_TIME: Duration = Duration::from_secs(60);
/// Connections found closed before one is made anew.
const STALE: usize = IDLE_EACH + 1;
/// Where Linux distributions keep the authorities that the machine believes.
const SYSTEM_ROOTS: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// The server's connections to webhooks.
#[derive(Default)]
pub(crate) struct WebhookClients {
    servers: Mutex<HashMap<ServerKey, Server>>,
    room: Room,
}

/// What connections may be shared by: who is there, who is believed, who we are.
type ServerKey = (Endpoint, Vec<u8>, Option<(String, String)>);

struct Server {
    tls: ClientTls,
    /// Calls that may be going on.
    calls: Arc<Semaphore>,
    idle: Vec<Idle>,
    used: Instant,
}

struct Idle {
    connection: Connection,
    place: Option<Place>,
    since: Instant,
}

impl WebhookClients {
    /// Posts a JSON body and returns the body of a 2xx answer, within `timeout`. Errors: a sentence as client-go has it.
    pub(crate) async fn post(
        &self,
        core: &Core,
        config: &ClientConfig,
        query: &str,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Received, CallError> {
        let called = tokio::time::timeout(timeout, self.post_once(core, config, query, body)).await;
        let outcome = called.unwrap_or_else(|_| Err(CallError::new("context deadline exceeded")));
        outcome.map_err(|error| match error.code {
            Some(_) => error,
            None => {
                let join = if config.path.contains('?') { '&' } else { '?' };
                let question = if query.is_empty() {
                    String::new()
                } else {
                    format!("{join}{query}")
                };
                CallError::new(format_args!(
                    "Post \"https://{}{}{question}\": {}",
                    config.endpoint, config.path, error.why
                ))
            }
        })
    }

    async fn post_once(
        &self,
        core: &Core,
        config: &ClientConfig,
        query: &str,
        body: Bytes,
    ) -> Result<Received, CallError> {
        let key = (
            config.endpoint.clone(),
            config.ca_bundle.clone(),
            config.identity.clone(),
        );
        let choices = match &config.endpoint {
            Endpoint::Host { .. } => Vec::new(),
            Endpoint::Service { namespace, name, port } => {
                places(core, namespace, name, *port).map_err(CallError::new)?
            }
        };
        let (tls, calls) = self.server(config, &key).await?;
        let _turn = calls.acquire_owned().await.map_err(CallError::new)?;
        let mut last = String::new();
        for _ in 0..=STALE {
            let kept = self.take(&key, &choices);
            let fresh = kept.is_none();
            let (mut connection, place) = match kept {
                Some(idle) => (idle.connection, idle.place),
                None => self.connect(core, config, &tls, &choices).await?,
            };
            match exchange(&mut connection, config, (query, body.clone()), &self.room).await {
                Exchange::Answered(bytes) => {
                    self.give_back(&key, connection, place);
                    return Ok(bytes);
                }
                Exchange::Failed(error) => return Err(error),
                Exchange::NotSent(why) if fresh => return Err(CallError::new(why)),
                Exchange::NotSent(why) => last = why,
            }
        }
        Err(CallError::new(last))
    }

    /// A kept connection that still leads to one of the places.
    fn take(&self, key: &ServerKey, choices: &[Place]) -> Option<Idle> {
        let mut servers = self.servers.lock().expect("no panic under this lock");
        let server = servers.get_mut(key)?;
        server.used = Instant::now();
        server.idle.retain(|idle| {
            let present = idle.place.as_ref().is_none_or(|place| choices.contains(place));
            present && idle.since.elapsed() < IDLE_TIME
        });
        server.idle.pop()
    }

    fn give_back(&self, key: &ServerKey, connection: Connection, place: Option<Place>) {
        let mut servers = self.servers.lock().expect("no panic under this lock");
        if let Some(server) = servers.get_mut(key)
            && server.idle.len() < IDLE_EACH
        {
            server.idle.push(Idle {
                connection,
                place,
                since: Instant::now(),
            });
        }
    }

    async fn connect(
        &self,
        core: &Core,
        config: &ClientConfig,
        tls: &ClientTls,
        choices: &[Place],
    ) -> Result<(Connection, Option<Place>), CallError> {
        let (io, place): (BoxedIo, _) = match &config.endpoint {
            Endpoint::Host { host, port } => (dial_host(host, *port).await.map_err(CallError::new)?, None),
            Endpoint::Service { .. } => {
                let random = usize::from_str_radix(&Uid::random().as_str()[..8], 16).unwrap_or(0);
                let place = &choices[random % choices.len()];
                (dial(core, place).await.map_err(CallError::new)?, Some(place.clone()))
            }
        };
        let secured = tls.connect(io, &config.endpoint.server_name()).await;
        let stream = secured.map_err(|e| CallError::new(format_args!("tls: failed to verify certificate: {e}")))?;
        let connection = Connection::http1(Box::new(stream)).await.map_err(CallError::new)?;
        Ok((connection, place))
    }

    /// How a server is spoken to, and the turns of doing so.
    async fn server(&self, config: &ClientConfig, key: &ServerKey) -> Result<(ClientTls, Arc<Semaphore>), CallError> {
        if let Some(server) = self.servers.lock().expect("no panic under this lock").get(key) {
            return Ok((server.tls.clone(), server.calls.clone()));
        }
        let roots = match config.ca_bundle.as_slice() {
            [] => system_roots().await.map_err(CallError::new)?,
            bundle => bundle.to_vec(),
        };
        let identity = config.identity.as_ref().map(|(c, k)| (c.as_bytes(), k.as_bytes()));
        let tls = ClientTls::new(&roots, identity)
            .map_err(|e| CallError::new(format_args!("unable to load root certificates: {e}")))?
            .http1_only();
        let mut servers = self.servers.lock().expect("no panic under this lock");
        if servers.len() >= SERVERS
            && let Some(oldest) = servers.iter().min_by_key(|(_, s)| s.used).map(|(k, _)| k.clone())
        {
            servers.remove(&oldest);
        }
        // Another may have been faster.
        let server = servers.entry(key.clone()).or_insert_with(|| Server {
            tls,
            calls: Arc::new(Semaphore::new(CALLS_EACH)),
            idle: Vec::new(),
            used: Instant::now(),
        });
        Ok((server.tls.clone(), server.calls.clone()))
    }
}

/// The authorities that the machine believes, PEM. Errors: there are none.
pub(crate) async fn system_roots() -> Result<Vec<u8>, String> {
    for path in SYSTEM_ROOTS {
        match tokio::fs::read(path).await {
            Ok(bytes) => return Ok(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("{path}: {error}")),
        }
    }
    Err("x509: certificate signed by unknown authority (no caBundle, and the machine has no authorities)".into())
}
