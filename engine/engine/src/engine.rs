//! The engine: what it is made of, and its questions that need no shim.

use crate::entry::{ContainerEntry, Registry, SandboxEntry};
use crate::link::blocking;
use crate::record::{ContainerFile, Folders, new_id};
use crate::{ContainerId, ContainerStatus, EngineEvent, Error, SandboxId, SandboxStatus};
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use strata_image::ImageStore;
use strata_net::PodNetwork;
use strata_runtime::cgroup::{Cgroup, Layout};
use strata_shim::Helper;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

/// Events that a receiver may be behind before it must list again.
const EVENT_QUEUE: usize = 4096;

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
    /// Bytes of a container's log file at which it is rotated; 0 never.
    pub log_max_size: u64,
    /// Log files kept for a container, the current one included.
    pub log_max_files: u32,
}

/// The container engine. Cheap to clone; all methods may be called from many tasks at once.
///
/// Its background tasks end with the last clone; sandboxes and containers go on.
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub folders: Folders,
    pub cgroups: Layout,
    /// The shims' own cgroup.
    pub shim_cgroup: String,
    /// Held while cgroups are made: a new one is not ready for children the moment others see it.
    pub making_cgroup: Mutex<()>,
    pub helper: Helper,
    pub images: ImageStore,
    pub network: Option<Arc<PodNetwork>>,
    pub log_max_size: u64,
    pub log_max_files: u32,
    pub known: Registry,
    pub events: broadcast::Sender<EngineEvent>,
    /// Tells execs from those of an earlier process, which a shim may still know.
    pub exec_prefix: String,
    pub exec_count: AtomicU64,
    /// Ends the background tasks.
    pub stop: CancellationToken,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Engine {
    /// Opens the engine and finds the sandboxes again that an earlier process left running.
    ///
    /// What ended meanwhile is in the lists as it ended.
    pub async fn open(options: EngineOptions) -> Result<Self, Error> {
        let inner = blocking(move || {
            let folders = Folders::open(options.root, options.run)?;
            let failed = |why: strata_runtime::Error| Error::InvalidConfig(why.to_string());
            let cgroups = Layout::detect().map_err(failed)?;
            let shim_cgroup = format!("{}/shims", options.cgroup_root.trim_end_matches('/'));
            Cgroup::create(&cgroups, &shim_cgroup).map_err(failed)?;
            Ok(Inner {
                folders,
                cgroups,
                shim_cgroup,
                making_cgroup: Mutex::new(()),
                helper: options.helper,
                images: options.images,
                network: options.network,
                log_max_size: options.log_max_size,
                log_max_files: options.log_max_files.max(1),
                known: Registry::default(),
                events: broadcast::channel(EVENT_QUEUE).0,
                exec_prefix: new_id()?,
                exec_count: AtomicU64::new(0),
                stop: CancellationToken::new(),
            })
        })
        .await?;
        let engine = Self { inner: Arc::new(inner) };
        engine.recover().await?;
        Ok(engine)
    }

    /// All sandboxes.
    pub fn list_sandboxes(&self) -> Vec<SandboxStatus> {
        self.inner
            .known
            .sandboxes()
            .iter()
            .map(|entry| entry.status())
            .collect()
    }

    /// One sandbox.
    pub fn sandbox(&self, id: &SandboxId) -> Result<SandboxStatus, Error> {
        Ok(self.inner.known.sandbox(id)?.status())
    }

    /// All containers.
    pub fn list_containers(&self) -> Vec<ContainerStatus> {
        self.inner
            .known
            .containers()
            .iter()
            .map(|entry| entry.status())
            .collect()
    }

    /// One container.
    pub fn container(&self, id: &ContainerId) -> Result<ContainerStatus, Error> {
        Ok(self.inner.known.container(id)?.status())
    }

    /// What the maker of a sandbox wanted to be remembered.
    pub fn sandbox_memo(&self, id: &SandboxId) -> Result<String, Error> {
        Ok(self.inner.known.sandbox(id)?.lock_record().memo.clone())
    }

    /// What the maker of a container wanted to be remembered.
    pub fn container_memo(&self, id: &ContainerId) -> Result<String, Error> {
        Ok(self.inner.known.container(id)?.file().record.memo)
    }

    /// Changes what is to be remembered of a container, one change at a time. `change` must not block.
    ///
    /// Errors: what `change` says; then nothing is changed.
    pub async fn change_container_memo(
        &self,
        id: &ContainerId,
        change: impl FnOnce(&str) -> Result<String, Error>,
    ) -> Result<(), Error> {
        let container = self.inner.known.container(id)?;
        {
            let mut memo = container.memo.lock().unwrap_or_else(PoisonError::into_inner);
            *memo = change(&memo)?;
        }
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.save(&container)).await
    }

    /// Changes as they happen. A receiver that lags gets `Lagged` and lists again.
    pub fn events(&self) -> broadcast::Receiver<EngineEvent> {
        self.inner.events.subscribe()
    }

    /// The image store containers are made from.
    pub fn images(&self) -> &ImageStore {
        &self.inner.images
    }
}

impl Inner {
    /// Tells everybody who listens.
    pub fn tell(&self, event: EngineEvent) {
        // Nobody listening is fine.
        let _ = self.events.send(event);
    }

    /// A container with the sandbox it is in.
    pub fn pair(&self, id: &ContainerId) -> Result<(Arc<ContainerEntry>, Arc<SandboxEntry>), Error> {
        let container = self.known.container(id)?;
        let sandbox = self.known.sandbox(&container.record.sandbox_id)?;
        Ok((container, sandbox))
    }

    pub fn cgroup(&self, path: &str) -> Result<Cgroup, Error> {
        Cgroup::open(&self.cgroups, path).map_err(|error| Error::InvalidConfig(error.to_string()))
    }

    /// Writes a container's record as it is now. Blocking.
    pub fn save(&self, container: &ContainerEntry) -> Result<(), Error> {
        let _writing = container.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let file: ContainerFile = container.file();
        // A removed container must not come back as a file.
        if self.known.container(&file.record.id).is_err() {
            return Ok(());
        }
        self.folders.write_container(&file)
    }

    /// [`Inner::save`] without making anybody wait; a failure is logged.
    pub fn save_later(self: &Arc<Self>, container: Arc<ContainerEntry>) {
        let inner = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = inner.save(&container) {
                tracing::warn!(container = %container.record.id, %error, "could not record a container's state");
            }
        });
    }
}
