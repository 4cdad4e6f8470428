//! What the engine knows in memory.

use crate::link::ShimLink;
use crate::record::{ContainerFile, ContainerRecord, Life, NetworkKind, SandboxRecord};
use crate::{ContainerId, ContainerState, ContainerStatus, EngineEvent, Error, SandboxId, SandboxState, SandboxStatus};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use strata_net::PodNetwork;
use strata_shim::protocol::ExitStatus;
use tokio::sync::{oneshot, watch};

/// All sandboxes and containers.
#[derive(Default)]
pub(crate) struct Registry {
    sandboxes: RwLock<HashMap<SandboxId, Arc<SandboxEntry>>>,
    containers: RwLock<HashMap<ContainerId, Arc<ContainerEntry>>>,
}

/// A sandbox.
pub(crate) struct SandboxEntry {
    pub id: SandboxId,
    record: Mutex<SandboxRecord>,
    /// The shim while the sandbox is ready.
    link: Mutex<Option<Arc<ShimLink>>>,
    /// Held by what must not happen twice at a time: stopping and removing.
    pub ending: tokio::sync::Mutex<()>,
    /// The network it is attached to.
    pub network: Option<Arc<PodNetwork>>,
    /// Who waits for the end of an exec: (container, exec).
    pub execs: Mutex<HashMap<(String, String), oneshot::Sender<ExitStatus>>>,
}

/// A container.
pub(crate) struct ContainerEntry {
    pub record: ContainerRecord,
    /// Takes the place of the record's, which is as it was at first.
    pub memo: Mutex<String>,
    pub life: watch::Sender<Life>,
    /// Held while the record is written, so that the newest is the last.
    pub writing: Mutex<()>,
}

impl Registry {
    pub fn sandbox(&self, id: &SandboxId) -> Result<Arc<SandboxEntry>, Error> {
        let found = self
            .sandboxes
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)
            .cloned();
        found.ok_or_else(|| Error::SandboxNotFound(id.clone()))
    }

    pub fn container(&self, id: &ContainerId) -> Result<Arc<ContainerEntry>, Error> {
        let found = self
            .containers
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)
            .cloned();
        found.ok_or_else(|| Error::ContainerNotFound(id.clone()))
    }

    pub fn add_sandbox(&self, entry: Arc<SandboxEntry>) {
        self.sandboxes
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(entry.id.clone(), entry);
    }

    pub fn add_container(&self, entry: Arc<ContainerEntry>) {
        let id = entry.record.id.clone();
        self.containers
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, entry);
    }

    pub fn forget_sandbox(&self, id: &SandboxId) {
        self.sandboxes
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id);
    }

    pub fn forget_container(&self, id: &ContainerId) {
        self.containers
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id);
    }

    pub fn sandboxes(&self) -> Vec<Arc<SandboxEntry>> {
        self.sandboxes
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }

    pub fn containers(&self) -> Vec<Arc<ContainerEntry>> {
        self.containers
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }

    pub fn containers_of(&self, sandbox: &SandboxId) -> Vec<Arc<ContainerEntry>> {
        let containers = self.containers.read().unwrap_or_else(PoisonError::into_inner);
        containers
            .values()
            .filter(|container| container.record.sandbox_id == *sandbox)
            .cloned()
            .collect()
    }
}

impl SandboxEntry {
    pub fn new(record: SandboxRecord, link: Option<Arc<ShimLink>>, network: Option<Arc<PodNetwork>>) -> Self {
        Self {
            network: network.filter(|_| record.network == NetworkKind::Pod),
            id: record.id.clone(),
            record: Mutex::new(record),
            link: Mutex::new(link),
            ending: tokio::sync::Mutex::new(()),
            execs: Mutex::new(HashMap::new()),
        }
    }

    pub fn record(&self) -> SandboxRecord {
        self.lock_record().clone()
    }

    pub fn lock_record(&self) -> MutexGuard<'_, SandboxRecord> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The shim; an error once the sandbox is stopped or lost.
    pub fn link(&self) -> Result<Arc<ShimLink>, Error> {
        self.lock_link()
            .clone()
            .ok_or_else(|| Error::SandboxNotReady(self.id.clone()))
    }

    /// Ends the use of the shim; what it was, the first time.
    pub fn unlink(&self) -> Option<Arc<ShimLink>> {
        // Waiters for execs learn of the end by their senders' drop.
        self.execs.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.lock_link().take()
    }

    fn lock_link(&self) -> MutexGuard<'_, Option<Arc<ShimLink>>> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn status(&self) -> SandboxStatus {
        let ready = self.lock_link().is_some();
        // Without the memo, which is large and of no use here.
        let record = self.lock_record();
        SandboxStatus {
            id: record.id.clone(),
            host_network: record.host_network(),
            namespace: record.namespace.clone(),
            name: record.name.clone(),
            uid: record.uid.clone(),
            attempt: record.attempt,
            state: if ready {
                SandboxState::Ready
            } else {
                SandboxState::NotReady
            },
            ip: record.ip,
            created_at: record.created_at,
            log_dir: record.log_dir.clone(),
            pid: record.shim.pid,
            labels: record.labels.clone(),
            annotations: record.annotations.clone(),
        }
    }
}

impl ContainerEntry {
    pub fn new(record: ContainerRecord, life: Life) -> Self {
        Self {
            memo: Mutex::new(record.memo.clone()),
            record,
            life: watch::Sender::new(life),
            writing: Mutex::new(()),
        }
    }

    pub fn state(&self) -> ContainerState {
        self.life.borrow().state
    }

    pub fn file(&self) -> ContainerFile {
        let memo = self.memo.lock().unwrap_or_else(PoisonError::into_inner).clone();
        ContainerFile {
            record: ContainerRecord {
                memo,
                ..self.record.clone()
            },
            life: self.life.borrow().clone(),
        }
    }

    pub fn status(&self) -> ContainerStatus {
        // Without the memo, which is large and of no use here.
        let (record, life) = (&self.record, self.life.borrow().clone());
        ContainerStatus {
            id: record.id.clone(),
            sandbox_id: record.sandbox_id.clone(),
            name: record.name.clone(),
            attempt: record.attempt,
            state: life.state,
            created_at: record.created_at,
            started_at: life.started_at,
            finished_at: life.finished_at,
            exit_code: life.exit_code,
            signal: life.signal,
            reason: life.reason,
            message: life.message,
            image: record.image.clone(),
            image_id: record.image_id.clone(),
            pid: life.pid,
            labels: record.labels.clone(),
            annotations: record.annotations.clone(),
            log_path: record.log_path.clone(),
        }
    }

    /// Takes note of a start; false if the end was known before.
    pub fn started(&self, at: SystemTime) -> bool {
        self.life.send_if_modified(|life| {
            life.started_at = Some(at);
            let fresh = life.state == ContainerState::Created;
            if fresh {
                life.state = ContainerState::Running;
            }
            fresh
        })
    }

    /// Takes note of the end; the event to tell, the first time.
    pub fn exited(&self, status: &ExitStatus) -> Option<EngineEvent> {
        let finished_at = moment(status.finished_at);
        let first = self.life.send_if_modified(|life| {
            if life.state == ContainerState::Exited {
                return false;
            }
            life.state = ContainerState::Exited;
            life.pid = None;
            life.finished_at = Some(finished_at);
            life.exit_code = Some(status.code);
            life.signal = Some(status.signal).filter(|signal| *signal != 0);
            life.reason = match status {
                ExitStatus {
                    oom_killed: true, code, ..
                } if *code != 0 => "OOMKilled",
                ExitStatus { code: 0, .. } => "Completed",
                _ => "Error",
            }
            .to_owned();
            true
        });
        first.then(|| EngineEvent::ContainerExited {
            id: self.record.id.clone(),
            sandbox_id: self.record.sandbox_id.clone(),
            exit_code: status.code,
            oom_killed: status.oom_killed,
            finished_at,
        })
    }

    /// Takes note that the container ended without anybody seeing how.
    pub fn lost(&self, message: &str) -> Option<EngineEvent> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| time.as_nanos() as u64);
        let status = ExitStatus {
            code: 137,
            signal: 9,
            oom_killed: false,
            finished_at: now,
        };
        let event = self.exited(&status);
        if event.is_some() {
            self.life.send_modify(|life| message.clone_into(&mut life.message));
        }
        event
    }

    /// Takes note that the process could not be started.
    pub fn failed_to_start(&self, message: &str) {
        self.life.send_modify(|life| {
            let now = SystemTime::now();
            life.state = ContainerState::Exited;
            life.pid = None;
            life.started_at = Some(now);
            life.finished_at = Some(now);
            // What a shell says when it cannot run a program, and containerd here.
            life.exit_code = Some(128);
            life.reason = "ContainerCannotRun".to_owned();
            message.clone_into(&mut life.message);
        });
    }

    /// Waits for the end.
    pub async fn ended(&self) -> Life {
        let mut receiver = self.life.subscribe();
        match receiver.wait_for(|life| life.state == ContainerState::Exited).await {
            Ok(life) => life.clone(),
            // The sender is part of this entry, which is borrowed.
            Err(_) => self.life.borrow().clone(),
        }
    }
}

/// A moment of the shim's protocol.
pub(crate) fn moment(nanos: u64) -> SystemTime {
    if nanos == 0 {
        SystemTime::now()
    } else {
        UNIX_EPOCH + Duration::from_nanos(nanos)
    }
}
