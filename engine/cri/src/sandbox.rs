//! Sandboxes: run, stop, remove, status, list.

use crate::error::{Answer, OrStatus, required};
use crate::generated::v1 as api;
use crate::identity::unless_gone;
use crate::info::HANDLERS;
use crate::memo::{SandboxMemo, encoded};
use crate::sandbox_config::{engine_config, namespace_options, own_cgroup, pod_resources};
use crate::service::Service;
use std::time::{SystemTime, UNIX_EPOCH};
use strata_engine::{SandboxId, SandboxState, SandboxStatus};
use strata_http::GrpcStatus;

impl Service {
    pub(crate) async fn run_sandbox(&self, request: api::RunPodSandboxRequest) -> Answer<api::RunPodSandboxResponse> {
        let config = required(request.config.clone(), "config")?;
        if !HANDLERS.contains(&request.runtime_handler.as_str()) {
            let why = format!("no runtime for {:?} is configured", request.runtime_handler);
            return Err(GrpcStatus::new(GrpcStatus::INVALID_ARGUMENT, why));
        }
        let metadata = required(config.metadata.clone(), "config.metadata")?;
        let reserved = self.names.reserve(sandbox_name(&metadata))?;
        let cgroup = own_cgroup(&self.cgroup_root, &crate::random_name()?, self.cgroup_driver)?;
        let mut wanted = engine_config(&config, self.networking.of_sandbox(), cgroup, self.cgroup_driver)?;
        wanted.memo = encoded(&request);
        let sandbox = self.engine.run_sandbox(wanted).await.status()?;
        if let Err(status) = self.connect(&sandbox.id, sandbox.ip, &config).await {
            if self.abandon(&sandbox.id).await {
                reserved.keep(sandbox.id.as_str());
            }
            return Err(status);
        }
        reserved.keep(sandbox.id.as_str());
        self.tell(
            sandbox.id.as_str(),
            &sandbox.id,
            api::ContainerEventType::ContainerCreatedEvent,
        );
        self.tell(
            sandbox.id.as_str(),
            &sandbox.id,
            api::ContainerEventType::ContainerStartedEvent,
        );
        Ok(api::RunPodSandboxResponse {
            pod_sandbox_id: sandbox.id.to_string(),
        })
    }

    /// Removes a sandbox that has no network; whether something of it is left, for the client to remove.
    async fn abandon(&self, id: &SandboxId) -> bool {
        let left = match self.disconnect(id).await {
            Ok(()) => self.engine.remove_sandbox(id).await.status(),
            // What plugins hold is taken back when the client stops the sandbox; nothing runs in it.
            Err(status) => self.engine.stop_sandbox(id).await.status().and(Err(status)),
        };
        if let Err(status) = &left {
            tracing::warn!(sandbox = %id, %status, "left a sandbox behind that has no network");
        }
        left.is_err()
    }

    pub(crate) async fn stop_sandbox(
        &self,
        request: api::StopPodSandboxRequest,
    ) -> Answer<api::StopPodSandboxResponse> {
        let Some(sandbox) = unless_gone(self.find_sandbox(&request.pod_sandbox_id))? else {
            return Ok(api::StopPodSandboxResponse {});
        };
        self.end_sandbox(&sandbox.id).await?;
        Ok(api::StopPodSandboxResponse {})
    }

    async fn end_sandbox(&self, id: &SandboxId) -> Answer<()> {
        self.disconnect(id).await?;
        self.engine.stop_sandbox(id).await.status()
    }

    pub(crate) async fn remove_sandbox(
        &self,
        request: api::RemovePodSandboxRequest,
    ) -> Answer<api::RemovePodSandboxResponse> {
        let Some(sandbox) = unless_gone(self.find_sandbox(&request.pod_sandbox_id))? else {
            return Ok(api::RemovePodSandboxResponse {});
        };
        self.end_sandbox(&sandbox.id).await?;
        for container in self.engine.list_containers() {
            if container.sandbox_id == sandbox.id {
                self.erase_container(&container).await?;
            }
        }
        // Described while it is there, if anybody listens.
        let kind = api::ContainerEventType::ContainerDeletedEvent;
        let deleted = (self.events.receiver_count() > 0).then(|| self.event(sandbox.id.as_str(), &sandbox.id, kind));
        self.engine.remove_sandbox(&sandbox.id).await.status()?;
        self.names.release(sandbox.id.as_str());
        self.memos.forget_sandbox(&sandbox.id);
        if let Some(deleted) = deleted {
            self.send(deleted);
        }
        Ok(api::RemovePodSandboxResponse {})
    }

    pub(crate) fn sandbox_status(
        &self,
        request: api::PodSandboxStatusRequest,
    ) -> Answer<api::PodSandboxStatusResponse> {
        let sandbox = self.find_sandbox(&request.pod_sandbox_id)?;
        let mut response = api::PodSandboxStatusResponse {
            status: Some(self.describe_sandbox(&sandbox)?),
            containers_statuses: self.describe_containers_of(&sandbox.id),
            timestamp: nanos(SystemTime::now()),
            ..api::PodSandboxStatusResponse::default()
        };
        if request.verbose {
            let info = serde_json::json!({
                "pid": sandbox.pid,
                "logDirectory": sandbox.log_dir,
                "hostNetwork": sandbox.host_network,
                "network": self.networking.details(&sandbox.id),
            });
            response.info.insert("info".into(), info.to_string());
        }
        Ok(response)
    }

    pub(crate) fn describe_sandbox(&self, sandbox: &SandboxStatus) -> Answer<api::PodSandboxStatus> {
        let memo = self.memos.sandbox(&self.engine, &sandbox.id)?;
        let config = memo.config.clone().unwrap_or_default();
        let mut addresses = self.addresses(sandbox).into_iter().map(|ip| ip.to_string());
        Ok(api::PodSandboxStatus {
            id: sandbox.id.to_string(),
            metadata: config.metadata.clone(),
            state: state(sandbox).into(),
            created_at: nanos(sandbox.created_at),
            network: Some(api::PodSandboxNetworkStatus {
                ip: addresses.next().unwrap_or_default(),
                additional_ips: addresses.map(|ip| api::PodIP { ip }).collect(),
            }),
            linux: Some(api::LinuxPodSandboxStatus {
                namespaces: Some(api::Namespace {
                    options: Some(namespace_options(&config)),
                }),
            }),
            labels: sandbox.labels.clone(),
            annotations: sandbox.annotations.clone(),
            runtime_handler: memo.runtime_handler.clone(),
        })
    }

    pub(crate) fn list_sandboxes(&self, request: api::ListPodSandboxRequest) -> Answer<api::ListPodSandboxResponse> {
        let filter = request.filter.unwrap_or_default();
        let mut list = self.engine.list_sandboxes();
        list.retain(|sandbox| {
            sandbox.id.as_str().starts_with(&filter.id)
                && filter
                    .state
                    .as_ref()
                    .is_none_or(|wanted| wanted.state() == state(sandbox))
                && has_labels(&filter.label_selector, &sandbox.labels)
                && self.is_made(sandbox)
        });
        list.sort_by_key(|sandbox| sandbox.created_at);
        let items = list.iter().filter_map(|sandbox| self.list_item(sandbox)).collect();
        Ok(api::ListPodSandboxResponse { items })
    }

    /// Whether a sandbox is whole: one that is being made is nobody's yet.
    pub(crate) fn is_made(&self, sandbox: &SandboxStatus) -> bool {
        self.names.has(&sandbox_name(&metadata(sandbox)), sandbox.id.as_str())
    }

    /// Nothing if it went meanwhile.
    fn list_item(&self, sandbox: &SandboxStatus) -> Option<api::PodSandbox> {
        let memo = self.memos.sandbox(&self.engine, &sandbox.id).ok()?;
        Some(api::PodSandbox {
            id: sandbox.id.to_string(),
            metadata: Some(metadata(sandbox)),
            state: state(sandbox).into(),
            created_at: nanos(sandbox.created_at),
            labels: sandbox.labels.clone(),
            annotations: sandbox.annotations.clone(),
            runtime_handler: memo.runtime_handler.clone(),
        })
    }

    /// Remembers the new resources; a kubelet sets the limits of its pods' cgroups itself, any other caller has them
    /// set here.
    pub(crate) async fn update_sandbox_resources(
        &self,
        request: api::UpdatePodSandboxResourcesRequest,
    ) -> Answer<api::UpdatePodSandboxResourcesResponse> {
        let sandbox = self.find_sandbox(&request.pod_sandbox_id)?;
        if sandbox.state != SandboxState::Ready {
            let why = format!("sandbox {} is not running", sandbox.id);
            return Err(GrpcStatus::new(GrpcStatus::FAILED_PRECONDITION, why));
        }
        let change = |memo: &mut SandboxMemo| {
            let linux = memo.config.get_or_insert_default().linux.get_or_insert_default();
            if request.overhead.is_some() {
                linux.overhead = request.overhead;
            }
            if request.resources.is_some() {
                linux.resources = request.resources;
            }
            pod_resources(linux)
        };
        self.memos.update_sandbox(&self.engine, &sandbox.id, change).await?;
        Ok(api::UpdatePodSandboxResourcesResponse {})
    }
}

/// The name that one sandbox at a time may have.
pub(crate) fn sandbox_name(metadata: &api::PodSandboxMetadata) -> String {
    format!(
        "{}_{}_{}_{}",
        metadata.name, metadata.namespace, metadata.uid, metadata.attempt
    )
}

pub(crate) fn metadata(sandbox: &SandboxStatus) -> api::PodSandboxMetadata {
    api::PodSandboxMetadata {
        name: sandbox.name.clone(),
        uid: sandbox.uid.clone(),
        namespace: sandbox.namespace.clone(),
        attempt: sandbox.attempt,
    }
}

fn state(sandbox: &SandboxStatus) -> api::PodSandboxState {
    match sandbox.state {
        SandboxState::Ready => api::PodSandboxState::SandboxReady,
        SandboxState::NotReady => api::PodSandboxState::SandboxNotready,
    }
}

/// Whether all labels of a selector are there.
pub(crate) fn has_labels(
    selector: &std::collections::BTreeMap<String, String>,
    labels: &std::collections::BTreeMap<String, String>,
) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Nanoseconds since 1970.
pub(crate) fn nanos(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
