//! Finding again what an earlier process of the daemon left running.

use crate::engine::Inner;
use crate::entry::{ContainerEntry, SandboxEntry};
use crate::link::{ShimLink, blocking, is_same_process};
use crate::record::{ContainerFile, NetworkKind, SandboxRecord, read, remove};
use crate::{ContainerId, Engine, Error, SandboxId};
use futures::future::join_all;
use std::path::Path;
use std::sync::Arc;

impl Engine {
    /// Reads the records, reconnects to living shims and clears up after the others.
    pub(crate) async fn recover(&self) -> Result<(), Error> {
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.load()).await?;
        let sandboxes = self.inner.known.sandboxes();
        join_all(sandboxes.iter().map(|sandbox| self.inner.reconnect(sandbox))).await;
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.retain_networks()).await
    }
}

impl Inner {
    /// Enters all records into memory; torn ones are removed.
    fn load(&self) -> Result<(), Error> {
        for name in names(&self.folders.sandboxes())? {
            let id = SandboxId::from(name.as_str());
            match read::<SandboxRecord>(&self.folders.sandbox(&id).join("sandbox.json")) {
                Ok(Some(record)) if record.id == id => {
                    let alive = !record.stopped && is_same_process(record.shim.pid, record.shim.start_time);
                    let link = alive.then(|| Arc::new(ShimLink::new(id, record.shim.clone(), None)));
                    let entry = SandboxEntry::new(record, link, self.network.clone());
                    self.known.add_sandbox(Arc::new(entry));
                }
                other => {
                    tracing::warn!(sandbox = name, record = ?other.err(), "removing a sandbox without a usable record");
                    self.unmount_shm(&id)?;
                    remove(&self.folders.run(&id))?;
                    remove(&self.folders.sandbox(&id))?;
                }
            }
        }
        for name in names(&self.folders.containers())? {
            let id = ContainerId::from(name.as_str());
            match read::<ContainerFile>(&self.folders.container(&id).join("container.json")) {
                Ok(Some(file)) if file.record.id == id && self.known.sandbox(&file.record.sandbox_id).is_ok() => {
                    self.known
                        .add_container(Arc::new(ContainerEntry::new(file.record, file.life)));
                }
                other => {
                    tracing::warn!(
                        container = name,
                        "removing a container without a usable record or sandbox"
                    );
                    if let Ok(Some(file)) = other {
                        self.clear_cgroup(&file.record.cgroup)?;
                    }
                    self.images.release(id.as_str())?;
                    self.unmount_volumes(&id)?;
                    crate::rootfs::unmount(&self.folders, &id)?;
                    remove(&self.folders.container(&id))?;
                }
            }
        }
        Ok(())
    }

    async fn reconnect(self: &Arc<Self>, sandbox: &Arc<SandboxEntry>) {
        if let Ok(link) = sandbox.link() {
            match self.follow(sandbox, &link).await {
                Ok(()) => return,
                Err(error) => tracing::warn!(sandbox = %sandbox.id, %error, "could not reconnect to a shim"),
            }
        }
        self.bury(sandbox).await;
    }

    /// Gives back addresses of sandboxes that are gone.
    fn retain_networks(&self) -> Result<(), Error> {
        let Some(network) = &self.network else { return Ok(()) };
        let living: Vec<SandboxId> = self
            .known
            .sandboxes()
            .into_iter()
            .filter(|sandbox| sandbox.link().is_ok() && sandbox.lock_record().network == NetworkKind::Pod)
            .map(|sandbox| sandbox.id.clone())
            .collect();
        let names: Vec<&str> = living.iter().map(SandboxId::as_str).collect();
        network.retain(&names).map_err(|error| Error::Network {
            id: SandboxId::from("none"),
            why: error.to_string(),
        })
    }
}

fn names(folder: &Path) -> Result<Vec<String>, Error> {
    let items = std::fs::read_dir(folder).map_err(Error::io("read directory", folder))?;
    let names = items.filter_map(|item| match item {
        Ok(item) => item.file_name().into_string().ok().map(Ok),
        Err(error) => Some(Err(Error::io("read directory", folder)(error))),
    });
    names.collect()
}
