//! What happens to sandboxes and containers, as the interface tells it.

use crate::generated::v1::{ContainerEventResponse, ContainerEventType};
use crate::sandbox::nanos;
use crate::service::Service;
use std::sync::{Arc, Weak};
use std::time::SystemTime;
use strata_engine::{EngineEvent, SandboxId};
use tokio::sync::broadcast;

impl Service {
    /// An event about a container or the sandbox itself, with both as they are now.
    pub(crate) fn event(&self, id: &str, sandbox: &SandboxId, kind: ContainerEventType) -> ContainerEventResponse {
        let status = self.engine.sandbox(sandbox).ok();
        ContainerEventResponse {
            container_id: id.to_owned(),
            container_event_type: kind.into(),
            created_at: nanos(SystemTime::now()),
            pod_sandbox_status: status.and_then(|status| self.describe_sandbox(&status).ok()),
            containers_statuses: self.describe_containers_of(sandbox),
        }
    }

    /// Tells everybody who listens.
    pub(crate) fn send(&self, event: ContainerEventResponse) {
        // Nobody listening is fine.
        let _ = self.events.send(event);
    }

    pub(crate) fn tell(&self, id: &str, sandbox: &SandboxId, kind: ContainerEventType) {
        if self.events.receiver_count() > 0 {
            self.send(self.event(id, sandbox, kind));
        }
    }

    fn pass_on(&self, event: EngineEvent) {
        match event {
            EngineEvent::ContainerStarted { id, sandbox_id } => {
                self.tell(id.as_str(), &sandbox_id, ContainerEventType::ContainerStartedEvent);
            }
            EngineEvent::ContainerExited { id, sandbox_id, .. } => {
                self.tell(id.as_str(), &sandbox_id, ContainerEventType::ContainerStoppedEvent);
            }
            EngineEvent::SandboxExited { sandbox_id } => {
                self.tell(
                    sandbox_id.as_str(),
                    &sandbox_id,
                    ContainerEventType::ContainerStoppedEvent,
                );
            }
            EngineEvent::OomKilled { .. } => {}
        }
    }
}

/// Passes the engine's events on until the service has gone.
pub(crate) async fn follow(service: Weak<Service>, mut events: broadcast::Receiver<EngineEvent>) {
    loop {
        let event = match events.recv().await {
            Ok(event) => event,
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "events were lost; clients list again by themselves");
                continue;
            }
            Err(broadcast::error::RecvError::Closed) => return,
        };
        let Some(service) = service.upgrade() else { return };
        let service: Arc<Service> = service;
        service.pass_on(event);
    }
}
