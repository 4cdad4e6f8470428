//! Making, starting and ending containers.

use crate::engine::Inner;
use crate::entry::{ContainerEntry, SandboxEntry, moment};
use crate::link::{ShimLink, blocking};
use crate::record::{new_id, remove};
use crate::rootfs;
use crate::spec::limits;
use crate::steps::done;
use crate::{ContainerConfig, ContainerId, ContainerState, Engine, EngineEvent, Error, Resources, SandboxId};
use std::sync::Arc;
use std::time::Duration;
use strata_shim::Error as ShimError;
use strata_shim::protocol::FailureKind;

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

pub(crate) fn expect(container: &ContainerEntry, wanted: ContainerState) -> Result<(), Error> {
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
    /// A kubelet limits every size of huge pages, also where nobody counts them: then there is nothing to limit.
    pub(crate) fn without_huge_pages(&self, resources: &mut Resources) {
        if self.cgroups.hierarchy("hugetlb").is_none() {
            resources.hugepages.clear();
        }
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
