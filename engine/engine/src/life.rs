//! Making, starting and ending containers.

use crate::cdi;
use crate::engine::Inner;
use crate::entry::{ContainerEntry, SandboxEntry, moment};
use crate::link::{ShimLink, blocking};
use crate::record::{ContainerRecord, Life, SandboxRecord, make, new_id, remove};
use crate::rootfs::{self, Layers};
use crate::spec::{build, limits, text};
use crate::steps::done;
use crate::{
    ContainerConfig, ContainerId, ContainerState, Engine, EngineEvent, Error, PidNamespace, Resources, SandboxId,
    signal,
};
use std::os::fd::AsFd;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use strata_runtime::spec::NamespaceKind;
use strata_shim::Error as ShimError;
use strata_shim::protocol::{ContainerSpec, FailureKind, LogSpec};

/// How long a killed process may take to go. Longer means that it hangs in the kernel.
const KILL_DEADLINE: Duration = Duration::from_secs(60);

impl Engine {
    /// Makes a container in a sandbox; its process waits for [`Engine::start_container`].
    ///
    /// Errors: `Runtime` with the runtime's sentence, for example if the command is not in the image.
    pub async fn create_container(&self, sandbox: &SandboxId, config: ContainerConfig) -> Result<ContainerId, Error> {
        let sandbox = self.inner.known.sandbox(sandbox)?;
        let link = sandbox.link()?;
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let id = ContainerId::from(new_id()?.as_str());
            inner
                .make_container(&id, &sandbox.record(), &link, config)
                .inspect_err(|_| inner.undo_container(&id))?;
            Ok(id)
        })
        .await
    }

    /// Starts the process of a created container.
    pub async fn start_container(&self, id: &ContainerId) -> Result<(), Error> {
        let (container, sandbox) = self.inner.pair(id)?;
        expect(&container, ContainerState::Created)?;
        let link = sandbox.link()?;
        let name = id.to_string();
        match link
            .ask("start container", move |connection| connection.start(&name))
            .await
        {
            Ok(at) => {
                done("start a container");
                container.started(moment(at));
                self.inner.tell(EngineEvent::ContainerStarted {
                    id: id.clone(),
                    sandbox_id: sandbox.id.clone(),
                });
                self.inner.save_later(container);
                Ok(())
            }
            Err(error) => {
                if let Error::Runtime { why, .. } = &error {
                    container.failed_to_start(why);
                    self.inner.save_later(container);
                }
                Err(error)
            }
        }
    }

    /// Sends the stop signal, then SIGKILL to everything in it after `grace`; returns when it has ended.
    /// No error if it has ended already.
    pub async fn stop_container(&self, id: &ContainerId, grace: Duration) -> Result<(), Error> {
        let (container, sandbox) = self.inner.pair(id)?;
        self.inner.stop(&container, &sandbox, grace).await
    }

    /// Sends a signal to the container's process.
    pub async fn kill(&self, id: &ContainerId, signal: i32) -> Result<(), Error> {
        let (container, sandbox) = self.inner.pair(id)?;
        expect(&container, ContainerState::Running)?;
        let name = id.to_string();
        sandbox
            .link()?
            .ask("signal container", move |connection| {
                connection.kill(&name, None, signal, false)
            })
            .await
    }

    /// Kills and forgets a container with its writable layer; its log stays. No error if it does not exist.
    pub async fn remove_container(&self, id: &ContainerId) -> Result<(), Error> {
        let Ok((container, sandbox)) = self.inner.pair(id) else {
            return Ok(());
        };
        self.inner.stop(&container, &sandbox, Duration::ZERO).await?;
        let inner = Arc::clone(&self.inner);
        let link = sandbox.link().ok();
        blocking(move || inner.forget(&container, link.as_deref())).await
    }

    /// Changes the limits of a running container.
    pub async fn update_resources(&self, id: &ContainerId, mut resources: Resources) -> Result<(), Error> {
        self.inner.without_huge_pages(&mut resources);
        let (_, sandbox) = self.inner.pair(id)?;
        let (name, limits) = (id.to_string(), limits(&resources));
        sandbox
            .link()?
            .ask("update container", move |connection| connection.update(&name, limits))
            .await
    }

    /// Makes a container's log writer open its file again, after somebody moved it.
    pub async fn reopen_log(&self, id: &ContainerId) -> Result<(), Error> {
        let (_, sandbox) = self.inner.pair(id)?;
        let name = id.to_string();
        sandbox
            .link()?
            .ask("reopen log", move |connection| connection.reopen_logs(&name))
            .await
    }
}

fn expect(container: &ContainerEntry, wanted: ContainerState) -> Result<(), Error> {
    let state = container.state();
    if state == wanted {
        return Ok(());
    }
    let name = |state| match state {
        ContainerState::Created => "created",
        ContainerState::Running => "running",
        ContainerState::Exited => "exited",
        ContainerState::Unknown => "in an unknown state",
    };
    Err(Error::WrongState {
        id: container.record.id.clone(),
        state: name(state),
        wanted: name(wanted),
    })
}

impl Inner {
    fn make_container(
        &self,
        id: &ContainerId,
        sandbox: &SandboxRecord,
        link: &ShimLink,
        mut config: ContainerConfig,
    ) -> Result<(), Error> {
        self.without_huge_pages(&mut config.resources);
        let folder = self.folders.container(id);
        let part = |name: &str| folder.join(name);
        let (cgroup, named) = cgroup_of(sandbox, id);
        let files = self.sandbox_files(sandbox);
        let users = match sandbox.users {
            None => None,
            Some(_) => Some(
                link.call(|connection| connection.namespace(NamespaceKind::User))
                    .map_err(|error| link.explain("open the user namespace", error))?,
            ),
        };
        let volumes = self.mount_volumes(id, &config.image_volumes, users.as_ref().map(AsFd::as_fd))?;
        done("mount volumes");
        config.mounts.extend(volumes);
        let writable = config.writable.clone().unwrap_or_else(|| folder.clone());
        let mut spec = build(
            sandbox,
            &files,
            &config,
            &part("rootfs"),
            named,
            self.cgroups.is_unified(),
            self.pid_namespace(sandbox, &config.pid)?,
        )?;
        cdi::apply(&config.cdi_devices, &mut spec)?;
        if let Some(finish) = &config.finish {
            finish.apply(&mut spec);
        }
        let record = self.container_record(id, sandbox, &config, cgroup)?;
        // An image may have no layers at all; overlayfs wants one.
        let empty = config.image.layers.is_empty().then(|| part("empty"));
        for name in std::iter::once("rootfs").chain(empty.is_some().then_some("empty")) {
            make(&part(name))?;
        }
        let (upper, work) = (writable.join("upper"), writable.join("work"));
        // The upper layer's root is the container's root directory; one that is kept has its own ideas.
        if !upper.exists() {
            make(&upper)?;
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(&upper, mode).map_err(Error::io("change", &upper))?;
        }
        make(&work)?;
        done("make a container's folders");
        self.images.lease(id.as_str(), &config.image)?;
        done("lease an image");
        let rotation = config.log_rotation.unwrap_or(crate::LogRotation {
            max_bytes: self.log_max_size,
            max_files: self.log_max_files,
        });
        let log = (!record.log_path.as_os_str().is_empty()).then(|| LogSpec {
            path: record.log_path.display().to_string(),
            max_bytes: rotation.max_bytes,
            max_files: rotation.max_files,
        });
        if let Some(parent) = log.as_ref().and_then(|log| Path::new(&log.path).parent()) {
            std::fs::create_dir_all(parent).map_err(Error::io("create directory", parent))?;
        }
        let layers = Layers {
            lower: config.image.layers.iter().chain(&empty).cloned().collect(),
            upper,
            work,
            target: part("rootfs"),
            volatile: config.writable.is_none(),
        };
        let rootfs = match (sandbox.users, users) {
            (Some(range), Some(namespace)) => rootfs::mapped(&self.folders, id, range, namespace, &layers)?,
            _ => rootfs::plain(&layers)?,
        };
        done("make a root file system");
        let life = Life {
            state: ContainerState::Created,
            pid: None,
            started_at: None,
            finished_at: None,
            exit_code: None,
            signal: None,
            reason: String::new(),
            message: String::new(),
        };
        let entry = Arc::new(ContainerEntry::new(record, life));
        // Known before the shim makes it: events about it must find it.
        self.known.add_container(Arc::clone(&entry));
        self.save(&entry)?;
        done("write a container's record");
        let request = ContainerSpec {
            id: id.to_string(),
            spec,
            rootfs: Some(rootfs),
            bundle: text(&folder)?,
            log,
            stdin: config.stdin,
            stdin_once: config.stdin_once,
            own_pid: config.pid == PidNamespace::Own,
            systemd: sandbox.systemd,
        };
        let pid = link
            .call(|connection| connection.create(request))
            .map_err(|error| link.explain("create container", error))?;
        done("create a container");
        entry.life.send_modify(|life| {
            if life.state == ContainerState::Created {
                life.pid = Some(pid);
            }
        });
        Ok(())
    }

    /// A kubelet limits every size of huge pages, also where nobody counts them: then there is nothing to limit.
    fn without_huge_pages(&self, resources: &mut Resources) {
        if self.cgroups.hierarchy("hugetlb").is_none() {
            resources.hugepages.clear();
        }
    }

    /// The pid namespace that a container joins, if it is another container's.
    fn pid_namespace(&self, sandbox: &SandboxRecord, pid: &PidNamespace) -> Result<Option<String>, Error> {
        let PidNamespace::Of(id) = pid else {
            return Ok(None);
        };
        let target = self.known.container(id)?;
        if target.record.sandbox_id != sandbox.id {
            return Err(Error::InvalidConfig(format!(
                "container {id} is in another sandbox; its processes cannot be shared"
            )));
        }
        expect(&target, ContainerState::Running)?;
        let pid = target.life.borrow().pid;
        let pid = pid.ok_or_else(|| Error::ContainerNotFound(id.clone()))?;
        Ok(Some(format!("/proc/{pid}/ns/pid")))
    }

    fn container_record(
        &self,
        id: &ContainerId,
        sandbox: &SandboxRecord,
        config: &ContainerConfig,
        cgroup: String,
    ) -> Result<ContainerRecord, Error> {
        let image = &config.image;
        let stop = config.stop_signal.as_deref().filter(|name| !name.is_empty());
        let stop = stop.unwrap_or(&image.config.stop_signal);
        let stop_signal =
            signal::number(stop).ok_or_else(|| Error::InvalidConfig(format!("unknown stop signal {stop:?}")))?;
        Ok(ContainerRecord {
            id: id.clone(),
            sandbox_id: sandbox.id.clone(),
            name: config.name.clone(),
            attempt: config.attempt,
            created_at: SystemTime::now(),
            image: config.image_name.clone(),
            image_id: image
                .repo_digests
                .first()
                .cloned()
                .unwrap_or_else(|| image.id.to_string()),
            stop_signal,
            cgroup,
            log_path: log_path(&sandbox.log_dir, &config.log_path)?,
            tty: config.tty,
            stdin: config.stdin,
            memo: config.memo.clone(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
        })
    }

    /// Takes back what a failed making left.
    fn undo_container(&self, id: &ContainerId) {
        if let Ok((container, sandbox)) = self.pair(id) {
            let link = sandbox.link().ok();
            if let Err(error) = self.forget(&container, link.as_deref()) {
                tracing::warn!(container = %id, %error, "left a container behind that could not be made");
            }
        } else {
            let released = self.images.release(id.as_str()).map_err(Error::from);
            let unmounted = released
                .and_then(|()| self.unmount_volumes(id))
                .and_then(|()| rootfs::unmount(&self.folders, id));
            if let Err(error) = unmounted.and_then(|()| remove(&self.folders.container(id))) {
                tracing::warn!(container = %id, %error, "left a folder behind of a container that could not be made");
            }
        }
    }

    /// Removes an ended container everywhere. Blocking.
    fn forget(&self, container: &ContainerEntry, link: Option<&ShimLink>) -> Result<(), Error> {
        let id = &container.record.id;
        if let Some(link) = link {
            match link.call(|connection| connection.delete(id.as_str(), true)) {
                Ok(()) | Err(ShimError::Gone(_)) => {}
                Err(error) if error.is(FailureKind::NotFound) => {}
                Err(error) => return Err(link.explain("delete container", error)),
            }
        } else {
            self.clear_cgroup(&container.record.cgroup)?;
        }
        {
            let _writing = container
                .writing
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            done("delete a container");
            self.known.forget_container(id);
            self.unmount_volumes(id)?;
            done("unmount volumes");
            rootfs::unmount(&self.folders, id)?;
            done("unmount a root file system");
            // Before the folder, without which nobody would know of the lease.
            self.images.release(id.as_str())?;
            done("release an image");
            remove(&self.folders.container(id))?;
            done("remove a container's folder");
        }
        Ok(())
    }

    /// Kills whatever is in a cgroup and removes it. Blocking.
    pub(crate) fn clear_cgroup(&self, path: &str) -> Result<(), Error> {
        let cgroup = self.cgroup(path)?;
        cgroup
            .signal_all(rustix::process::Signal::KILL.as_raw())
            .and_then(|()| cgroup.remove())
            .map_err(|error| Error::Runtime {
                what: "remove the cgroup of a container",
                why: error.to_string(),
            })
    }

    /// Ends a container's process. Returns when the end is known.
    pub(crate) async fn stop(
        self: &Arc<Self>,
        container: &Arc<ContainerEntry>,
        sandbox: &Arc<SandboxEntry>,
        grace: Duration,
    ) -> Result<(), Error> {
        // Without a shim nothing runs: its end was noted with those of its containers.
        let Ok(link) = sandbox.link() else { return Ok(()) };
        let created = match container.state() {
            ContainerState::Exited => return Ok(()),
            state => state == ContainerState::Created,
        };
        if !grace.is_zero() && !created {
            self.send(container, &link, container.record.stop_signal, false).await?;
            if tokio::time::timeout(grace, container.ended()).await.is_ok() {
                return Ok(());
            }
        }
        self.send(container, &link, rustix::process::Signal::KILL.as_raw(), true)
            .await?;
        match tokio::time::timeout(KILL_DEADLINE, container.ended()).await {
            Ok(_) => Ok(()),
            Err(_) => {
                let why = format!("{} still runs {KILL_DEADLINE:?} after SIGKILL", container.record.id);
                Err(Error::Runtime {
                    what: "kill container",
                    why,
                })
            }
        }
    }

    async fn send(
        &self,
        container: &ContainerEntry,
        link: &Arc<ShimLink>,
        signal: i32,
        all: bool,
    ) -> Result<(), Error> {
        let name = container.record.id.to_string();
        let sender = Arc::clone(link);
        blocking(
            move || match sender.call(|connection| connection.kill(&name, None, signal, all)) {
                // Ended in this moment; the event is on its way.
                Err(error) if error.is(FailureKind::NotFound) || error.is(FailureKind::State) => Ok(()),
                // The event of the shim's end is on its way.
                Err(ShimError::Gone(_)) => Ok(()),
                other => other.map_err(|error| sender.explain("kill container", error)),
            },
        )
        .await
    }
}

/// A container's cgroup: its path in each hierarchy, and as the shim is told it.
fn cgroup_of(sandbox: &SandboxRecord, id: &ContainerId) -> (String, String) {
    let parent = &sandbox.cgroup_parent;
    if sandbox.systemd {
        let slice = parent.rsplit('/').next().unwrap_or(parent);
        return (format!("{parent}/strata-{id}.scope"), format!("{slice}:strata:{id}"));
    }
    let path = format!("{parent}/{id}");
    (path.clone(), path)
}

/// The log's absolute path; it must stay in the sandbox's folder.
fn log_path(folder: &Path, relative: &str) -> Result<PathBuf, Error> {
    if relative.is_empty() {
        return Ok(PathBuf::new());
    }
    let plain = Path::new(relative)
        .components()
        .all(|component| matches!(component, Component::Normal(_)));
    if plain {
        Ok(folder.join(relative))
    } else {
        Err(Error::InvalidConfig(format!(
            "log path {relative:?} leads out of the log folder"
        )))
    }
}
