//! The daemon: what it is made of, what it knows, and finding it all again after a restart.

use crate::activity::Activity;
use crate::error::{Answer, ApiError, blocking};
use crate::events::Events;
use crate::exec::Execs;
use crate::networks::Networks;
use crate::record::{Container, Record, Status, make_folder, read, remove_folder};
use crate::volumes::Volumes;
use crate::{exit, launch};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use strata_engine::Engine;
use strata_image::ImageStore;
use tokio_util::sync::CancellationToken;

/// Where the daemon keeps its own and what it works with.
pub struct DaemonOptions {
    /// Container records, volumes, networks.
    pub root: PathBuf,
    /// Runs the containers.
    pub engine: Engine,
    /// Images containers are made from; the engine's store.
    pub images: ImageStore,
    /// Marks links, tables and cgroups on this machine.
    pub instance: String,
    /// cgroup of all containers, absolute within every hierarchy.
    pub cgroup_root: String,
    /// A program that becomes pid 1 under `--init`: its path on this machine and its arguments.
    pub init: Option<(PathBuf, Vec<String>)>,
    /// What `version` says.
    pub version: String,
}

/// Containers for people. Cheap to clone.
#[derive(Clone)]
pub struct Daemon {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub options: DaemonOptions,
    pub engine: Engine,
    pub images: ImageStore,
    containers: RwLock<HashMap<String, Arc<Container>>>,
    pub networks: Networks,
    pub volumes: Volumes,
    pub execs: Execs,
    pub events: Events,
    pub activity: Arc<Activity>,
    pub stop: CancellationToken,
}

impl Daemon {
    /// Opens the daemon's state and takes up the containers that an earlier process left running.
    ///
    /// Errors: what could not be read or prepared, as a sentence.
    pub async fn open(options: DaemonOptions, stop: CancellationToken) -> Result<Self, String> {
        let said = |error: ApiError| error.message;
        let (root, instance) = (options.root.clone(), options.instance.clone());
        let (records, networks, volumes) = blocking(move || {
            make_folder(&root)?;
            let records = load(&root.join("containers"))?;
            let networks = Networks::open(root.join("networks"), &instance)?;
            Ok((records, networks, Volumes::open(root.join("volumes"))?))
        })
        .await
        .map_err(said)?;
        let inner = Arc::new(Inner {
            engine: options.engine.clone(),
            images: options.images.clone(),
            containers: RwLock::new(HashMap::new()),
            networks,
            volumes,
            execs: Execs::default(),
            events: Events::default(),
            activity: Arc::default(),
            stop,
            options,
        });
        for (folder, record) in records {
            inner.add(Container::new(record, folder));
        }
        exit::follow(&inner);
        launch::recover(&inner).await.map_err(said)?;
        Ok(Self { inner })
    }

    /// Resolves when there was nothing to do for so long: no request, nothing running.
    pub async fn idle(&self, patience: std::time::Duration) {
        let inner = Arc::clone(&self.inner);
        let busy = move || {
            let needed = |status| status != Status::Created && status != Status::Exited && status != Status::Dead;
            inner.all().iter().any(|container| needed(container.status()))
        };
        self.inner.activity.idle(patience, busy).await;
    }
}

impl Inner {
    pub fn add(&self, container: Arc<Container>) {
        let mut containers = self.containers.write().unwrap_or_else(PoisonError::into_inner);
        containers.insert(container.id.clone(), container);
    }

    /// Enters a container unless another has its name.
    pub fn add_named(&self, container: Arc<Container>) -> Answer<()> {
        let mut containers = self.containers.write().unwrap_or_else(PoisonError::into_inner);
        let name = container.lock().name.clone();
        name_is_free(&containers, &name)?;
        containers.insert(container.id.clone(), container);
        Ok(())
    }

    /// Gives a container another name; the old one.
    pub fn rename(&self, container: &Container, name: &str) -> Answer<String> {
        let containers = self.containers.write().unwrap_or_else(PoisonError::into_inner);
        name_is_free(&containers, name)?;
        container.change(|record| std::mem::replace(&mut record.name, name.to_owned()))
    }

    pub fn forget(&self, id: &str) {
        self.containers
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id);
    }

    /// All containers, the youngest first.
    pub fn all(&self) -> Vec<Arc<Container>> {
        let containers = self.containers.read().unwrap_or_else(PoisonError::into_inner);
        let mut dated: Vec<(String, Arc<Container>)> = containers
            .values()
            .map(|container| (container.lock().created.clone(), Arc::clone(container)))
            .collect();
        drop(containers);
        dated.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| b.1.id.cmp(&a.1.id)));
        dated.into_iter().map(|(_, container)| container).collect()
    }

    /// A container by name, identity or the beginning of it.
    pub fn find(&self, name: &str) -> Answer<Arc<Container>> {
        let containers = self.containers.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = containers.get(name) {
            return Ok(Arc::clone(found));
        }
        let bare = name.strip_prefix('/').unwrap_or(name);
        if let Some(found) = containers.values().find(|container| container.lock().name == bare) {
            return Ok(Arc::clone(found));
        }
        if name.is_empty() {
            return Err(ApiError::no_container(name));
        }
        let mut found = containers.values().filter(|container| container.id.starts_with(name));
        match (found.next(), found.next()) {
            (Some(one), None) => Ok(Arc::clone(one)),
            (Some(_), Some(_)) => Err(ApiError::invalid(format!(
                "Multiple IDs found with provided prefix: {name}"
            ))),
            _ => Err(ApiError::no_container(name)),
        }
    }

    /// The container that runs as that one of the engine.
    pub fn by_run(&self, engine_container: &str) -> Option<Arc<Container>> {
        let containers = self.containers.read().unwrap_or_else(PoisonError::into_inner);
        let runs = |container: &&Arc<Container>| {
            let record = container.lock();
            record.run.as_ref().is_some_and(|run| run.container == engine_container)
        };
        containers.values().find(runs).cloned()
    }

    pub fn container_folder(&self, id: &str) -> PathBuf {
        self.options.root.join("containers").join(id)
    }
}

fn name_is_free(containers: &HashMap<String, Arc<Container>>, name: &str) -> Answer<()> {
    match containers.values().find(|container| container.lock().name == name) {
        Some(holder) => Err(ApiError::conflict(format!(
            "Conflict. The container name \"/{name}\" is already in use by container \"{}\". You have to remove (or rename) that container to be able to reuse that name.",
            holder.id
        ))),
        None => Ok(()),
    }
}

/// All records; folders without one are what an interrupted creation or removal left.
fn load(folder: &std::path::Path) -> Answer<Vec<(PathBuf, Record)>> {
    make_folder(folder)?;
    let mut records = Vec::new();
    for item in std::fs::read_dir(folder).map_err(ApiError::io("read", folder))? {
        let path = item.map_err(ApiError::io("read", folder))?.path();
        match read::<Record>(&path.join("container.json")) {
            Ok(Some(record)) => records.push((path, record)),
            other => {
                tracing::warn!(folder = %path.display(), error = ?other.err(), "removing a container without a usable record");
                remove_folder(&path)?;
            }
        }
    }
    Ok(records)
}
