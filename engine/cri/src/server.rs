//! The server: its socket, its streaming address, what it finds again at the start.

use crate::container::container_name;
use crate::events::follow;
use crate::generated::v1::ContainerMetadata;
use crate::memo::Memos;
use crate::names::Names;
use crate::networking::{Networking, PodNetworks, PodRanges};
use crate::sandbox::{metadata, sandbox_name};
use crate::sandbox_config::CgroupDriver;
use crate::service::{EVENTS, Service};
use crate::space::Space;
use crate::stats::Rates;
use crate::streaming::Streaming;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use strata_engine::{Engine, SandboxState, SandboxStatus};
use strata_http::{GrpcStatus, Limits, serve_grpc, serve_plain};
use strata_net::HostPorts;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

/// What a server works with.
pub struct CriOptions {
    /// Makes sandboxes and containers.
    pub engine: Engine,
    /// Gives sandboxes their address.
    pub networks: PodNetworks,
    /// Marks tables on this machine; the network's.
    pub instance: String,
    /// cgroup for pods that name none.
    pub cgroup_root: String,
    /// Who makes cgroups.
    pub cgroup_driver: CgroupDriver,
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
        let ranges = pod_ranges(&options.data_dir);
        let networks = options.networks;
        let networking = tokio::task::spawn_blocking(move || match networks {
            PodNetworks::Own(network) => {
                let ports = Arc::new(HostPorts::open(&instance)?);
                Ok::<_, CriError>(Networking::Own { network, ports })
            }
            PodNetworks::Plugins(cni) => Ok(Networking::Plugins(cni)),
        });
        let networking = networking.await.map_err(io::Error::other)??;
        let listener = listen(&options.socket).await?;
        let service = Arc::new(Service {
            streaming: Arc::new(Streaming::new(options.engine.clone(), address)),
            engine: options.engine,
            networking,
            ranges: Arc::new(PodRanges::open(ranges)),
            cgroup_root: options.cgroup_root,
            cgroup_driver: options.cgroup_driver,
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
        let looking = tokio::spawn(self.service.clone().look_after_networks());
        let streams = serve_plain(
            self.streaming,
            Limits::default(),
            cancel.clone(),
            self.service.streaming.clone(),
        );
        let calls = serve_grpc(self.listener, cancel, self.service);
        let (calls, streams) = tokio::join!(calls, streams);
        following.abort();
        looking.abort();
        // The next one may have it already, if this one was slow.
        if let Err(error) = std::fs::remove_file(&self.socket) {
            tracing::debug!(%error, "the socket has gone");
        }
        calls?;
        Ok(streams?)
    }
}

impl Service {
    /// Ends a sandbox whose making was cut short; the client finds it stopped, and removes it.
    async fn give_up(&self, sandbox: &SandboxStatus) {
        if let Err(status) = self.disconnect(&sandbox.id).await {
            tracing::warn!(sandbox = %sandbox.id, %status, "its network is taken back when it is stopped again");
        }
        if let Err(error) = self.engine.stop_sandbox(&sandbox.id).await {
            tracing::warn!(sandbox = %sandbox.id, %error, "could not stop a sandbox without a network");
        }
    }

    /// Names and ports of what went on running.
    async fn find_again(&self) {
        for sandbox in self.engine.list_sandboxes() {
            self.names.enter(sandbox_name(&metadata(&sandbox)), sandbox.id.as_str());
            if sandbox.state != SandboxState::Ready {
                continue;
            }
            if let Err(status) = self.reconnect(&sandbox).await {
                tracing::warn!(sandbox = %sandbox.id, %status, "a sandbox is not on its network as it should be");
                if status.code == GrpcStatus::ABORTED {
                    self.give_up(&sandbox).await;
                }
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

/// Where the ranges of pods are kept, of a server with that folder.
pub(crate) fn pod_ranges(data_dir: &Path) -> PathBuf {
    data_dir.join("pod-ranges")
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
