//! The server: its socket, its streaming address, what it finds again at the start.

use crate::container::container_name;
use crate::events::follow;
use crate::generated::v1::ContainerMetadata;
use crate::memo::Memos;
use crate::names::Names;
use crate::sandbox::{metadata, sandbox_name};
use crate::service::{EVENTS, Service};
use crate::space::Space;
use crate::stats::Rates;
use crate::streaming::Streaming;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use strata_engine::{Engine, SandboxState};
use strata_http::{Limits, serve_grpc, serve_plain};
use strata_net::{HostPorts, PodNetwork};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

/// What a server works with.
pub struct CriOptions {
    /// Makes sandboxes and containers.
    pub engine: Engine,
    /// Gives sandboxes their address.
    pub network: Arc<PodNetwork>,
    /// Marks tables on this machine; the network's.
    pub instance: String,
    /// cgroup for pods that name none.
    pub cgroup_root: String,
    /// Where images and containers are kept.
    pub data_dir: PathBuf,
    /// Path of the socket; a socket that nobody answers is replaced.
    pub socket: PathBuf,
    /// Address of the streaming server; only this machine's should reach it.
    pub streaming: SocketAddr,
    /// Told by `Version`.
    pub version: String,
}

/// Why a server does not start or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CriError {
    /// Somebody answers at the socket.
    #[error("somebody serves on {0} already")]
    InUse(PathBuf),
    /// The socket or address cannot be listened on.
    #[error("listening on {0}: {1}")]
    Listen(String, io::Error),
    /// The table of ports cannot be made.
    #[error("making the table of host ports: {0}")]
    Ports(#[from] strata_net::Error),
    /// Serving ended by itself.
    #[error("serving: {0}")]
    Serve(#[from] io::Error),
}

/// The server of the container runtime interface.
pub struct Server {
    service: Arc<Service>,
    socket: PathBuf,
    listener: UnixListener,
    streaming: TcpListener,
}

impl Server {
    /// Listens and finds again what an earlier process left; nothing is answered before [`Server::run`].
    pub async fn open(options: CriOptions) -> Result<Self, CriError> {
        let streaming = TcpListener::bind(options.streaming)
            .await
            .map_err(|e| CriError::Listen(options.streaming.to_string(), e))?;
        let address = streaming.local_addr()?;
        let instance = options.instance.clone();
        let ports = tokio::task::spawn_blocking(move || HostPorts::open(&instance)).await;
        let ports = ports.map_err(io::Error::other)??;
        let listener = listen(&options.socket).await?;
        let service = Arc::new(Service {
            streaming: Arc::new(Streaming::new(options.engine.clone(), address)),
            engine: options.engine,
            network: options.network,
            ports: Arc::new(ports),
            cgroup_root: options.cgroup_root,
            data_dir: options.data_dir,
            version: options.version,
            memos: Memos::default(),
            names: Names::default(),
            rates: Rates::default(),
            space: Space::default(),
            events: broadcast::channel(EVENTS).0,
        });
        service.find_again().await;
        Ok(Self {
            service,
            socket: options.socket,
            listener,
            streaming,
        })
    }

    /// Serves until cancelled.
    pub async fn run(self, cancel: CancellationToken) -> Result<(), CriError> {
        let events = self.service.engine.events();
        let following = tokio::spawn(follow(Arc::downgrade(&self.service), events));
        let streams = serve_plain(
            self.streaming,
            Limits::default(),
            cancel.clone(),
            self.service.streaming.clone(),
        );
        let calls = serve_grpc(self.listener, cancel, self.service);
        let (calls, streams) = tokio::join!(calls, streams);
        following.abort();
        // The next one may have it already, if this one was slow.
        if let Err(error) = std::fs::remove_file(&self.socket) {
            tracing::debug!(%error, "the socket has gone");
        }
        calls?;
        Ok(streams?)
    }
}

impl Service {
    /// Names and ports of what went on running.
    async fn find_again(&self) {
        for sandbox in self.engine.list_sandboxes() {
            self.names.enter(sandbox_name(&metadata(&sandbox)), sandbox.id.as_str());
            if sandbox.state != SandboxState::Ready {
                continue;
            }
            let published = match self.memos.sandbox_config(&self.engine, &sandbox.id) {
                Ok(config) => self.publish(&sandbox.id, sandbox.ip, &config).await,
                Err(status) => Err(status),
            };
            if let Err(status) = published {
                tracing::warn!(sandbox = %sandbox.id, %status, "the ports of a sandbox do not lead to it any more");
            }
        }
        for container in self.engine.list_containers() {
            let metadata = ContainerMetadata {
                name: container.name.clone(),
                attempt: container.attempt,
            };
            let name = container_name(&metadata, &container.sandbox_id);
            self.names.enter(name, container.id.as_str());
        }
    }
}

/// A socket for root alone, in place of one that nobody answers any more.
async fn listen(path: &Path) -> Result<UnixListener, CriError> {
    let failed = |e| CriError::Listen(path.display().to_string(), e);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    if tokio::net::UnixStream::connect(path).await.is_ok() {
        return Err(CriError::InUse(path.to_owned()));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
    Ok(listener)
}
