//! The engine: every operation on sandboxes and containers.

use crate::{
    AttachOptions, ContainerConfig, ContainerId, ContainerStatus, EngineEvent, Error, ExecOptions, ExecResult,
    ExecSession, Resources, Sandbox, SandboxConfig, SandboxId, SandboxStatus, Stats,
};
use std::{path::PathBuf, sync::Arc, time::Duration};
use strata_image::ImageStore;
use strata_net::PodNetwork;
use strata_shim::Helper;
use tokio::{net::TcpStream, sync::broadcast};

/// Where the engine keeps its state and what it works with.
pub struct EngineOptions {
    /// Durable state: sandboxes, containers, their writable layers.
    pub root: PathBuf,
    /// Sockets of the shims; lost with a reboot.
    pub run: PathBuf,
    /// cgroup that shims are put into, absolute within every hierarchy.
    pub cgroup_root: String,
    /// Starts shims.
    pub helper: Helper,
    /// Images containers are made from.
    pub images: ImageStore,
    /// The pod network that recovered sandboxes belong to.
    pub network: Option<Arc<PodNetwork>>,
    /// Bytes of a container's log file at which it is rotated.
    pub log_max_size: u64,
    /// Log files kept for a container, the current one included.
    pub log_max_files: u32,
}

/// The container engine. Cheap to clone; all methods may be called from many tasks at once.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    options: EngineOptions,
    events: broadcast::Sender<EngineEvent>,
}

impl Engine {
    /// Opens the engine and finds the sandboxes again that an earlier process left running.
    pub async fn open(options: EngineOptions) -> Result<Self, Error> {
        Ok(Self {
            inner: Arc::new(Inner {
                options,
                events: broadcast::channel(1024).0,
            }),
        })
    }

    /// Makes a sandbox: namespaces, cgroup, network address. Nothing is left behind on failure.
    pub async fn run_sandbox(&self, config: SandboxConfig) -> Result<Sandbox, Error> {
        Err(Error::InvalidConfig(format!("{config:?}")))
    }

    /// Stops all containers of a sandbox at once and takes its network away. No error if it is stopped already.
    pub async fn stop_sandbox(&self, id: &SandboxId) -> Result<(), Error> {
        Err(Error::SandboxNotFound(id.clone()))
    }

    /// Stops and forgets a sandbox with its containers. No error if it does not exist.
    pub async fn remove_sandbox(&self, id: &SandboxId) -> Result<(), Error> {
        Err(Error::SandboxNotFound(id.clone()))
    }

    /// All sandboxes.
    pub fn list_sandboxes(&self) -> Vec<SandboxStatus> {
        Vec::new()
    }

    /// One sandbox.
    pub fn sandbox(&self, id: &SandboxId) -> Result<SandboxStatus, Error> {
        Err(Error::SandboxNotFound(id.clone()))
    }

    /// Makes a container in a sandbox; its process waits for [`Engine::start_container`].
    pub async fn create_container(&self, sandbox: &SandboxId, config: ContainerConfig) -> Result<ContainerId, Error> {
        Err(Error::InvalidConfig(format!("{sandbox} {config:?}")))
    }

    /// Starts the process of a created container.
    pub async fn start_container(&self, id: &ContainerId) -> Result<(), Error> {
        Err(Error::ContainerNotFound(id.clone()))
    }

    /// Sends the stop signal, then SIGKILL to everything in it after `grace`; returns when it has ended.
    pub async fn stop_container(&self, id: &ContainerId, grace: Duration) -> Result<(), Error> {
        Err(Error::ContainerNotFound(id.clone())).or_else(|error| if grace.is_zero() { Ok(()) } else { Err(error) })
    }

    /// Sends a signal to the container's process.
    pub async fn kill(&self, id: &ContainerId, signal: i32) -> Result<(), Error> {
        let _ = signal;
        Err(Error::ContainerNotFound(id.clone()))
    }

    /// Kills and forgets a container, its writable layer and its logs' rotation. No error if it does not exist.
    pub async fn remove_container(&self, id: &ContainerId) -> Result<(), Error> {
        Err(Error::ContainerNotFound(id.clone()))
    }

    /// All containers.
    pub fn list_containers(&self) -> Vec<ContainerStatus> {
        let _ = &self.inner.options;
        Vec::new()
    }

    /// One container.
    pub fn container(&self, id: &ContainerId) -> Result<ContainerStatus, Error> {
        Err(Error::ContainerNotFound(id.clone()))
    }

    /// Changes the limits of a running container.
    pub async fn update_resources(&self, id: &ContainerId, resources: Resources) -> Result<(), Error> {
        let _ = resources;
        Err(Error::ContainerNotFound(id.clone()))
    }

    /// Runs a command in a container and gives its output; kills it after `timeout`.
    pub async fn exec_sync(
        &self,
        id: &ContainerId,
        command: Vec<String>,
        timeout: Duration,
    ) -> Result<ExecResult, Error> {
        let _ = (command, timeout);
        Err(Error::ContainerNotFound(id.clone()))
    }

    /// Runs a command in a container with streams.
    pub async fn exec(&self, id: &ContainerId, options: ExecOptions) -> Result<ExecSession, Error> {
        let _ = options;
        Err(Error::ContainerNotFound(id.clone()))
    }

    /// Follows the streams of a container's own process.
    pub async fn attach(&self, id: &ContainerId, options: AttachOptions) -> Result<ExecSession, Error> {
        let _ = options;
        Err(Error::ContainerNotFound(id.clone()))
    }

    /// Connects to a port on the loopback of a sandbox's network namespace.
    pub async fn dial_port(&self, id: &SandboxId, port: u16) -> Result<TcpStream, Error> {
        let _ = port;
        Err(Error::SandboxNotFound(id.clone()))
    }

    /// What a container uses at this moment.
    pub async fn stats(&self, id: &ContainerId) -> Result<Stats, Error> {
        Err(Error::ContainerNotFound(id.clone()))
    }

    /// Makes a container's log writer open its file again, after somebody moved it.
    pub async fn reopen_log(&self, id: &ContainerId) -> Result<(), Error> {
        Err(Error::ContainerNotFound(id.clone()))
    }

    /// Changes as they happen. A receiver that lags gets `Lagged` and lists again.
    pub fn events(&self) -> broadcast::Receiver<EngineEvent> {
        self.inner.events.subscribe()
    }

    /// The image store containers are made from.
    pub fn images(&self) -> &ImageStore {
        &self.inner.options.images
    }
}
