//! Sandboxes: run, stop, remove, status, list.

use crate::error::{Answer, OrStatus, required};
use crate::generated::v1 as api;
use crate::identity::unless_gone;
use crate::info::HANDLERS;
use crate::memo::encoded;
use crate::sandbox_config::{engine_config, host_ports, namespace_options};
use crate::service::Service;
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};
use strata_engine::{Network, SandboxId, SandboxState, SandboxStatus};
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
        let cgroup = format!("{}/pod{}", self.cgroup_root, crate::random_name()?);
        let mut wanted = engine_config(&config, Network::Pod(self.network.clone()), cgroup)?;
        wanted.memo = encoded(&request);
        let sandbox = self.engine.run_sandbox(wanted).await.status()?;
        if let Err(status) = self.publish(&sandbox.id, sandbox.ip, &config).await {
            if let Err(left) = self.engine.remove_sandbox(&sandbox.id).await {
                tracing::warn!(sandbox = %sandbox.id, error = %left, "left a sandbox behind whose ports are not to be had");
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

    /// Leads the host's ports to the sandbox.
    pub(crate) async fn publish(
        &self,
        id: &SandboxId,
        ip: Option<IpAddr>,
        config: &api::PodSandboxConfig,
    ) -> Answer<()> {
        // With the host's network its ports are the host's already.
        let Some(IpAddr::V4(ip)) = ip else { return Ok(()) };
        let ports = host_ports(config, ip)?;
        let Some(place) = self.network.address(id.as_str()) else {
            return Ok(());
        };
        let (all, id) = (self.ports.clone(), id.clone());
        let published = tokio::task::spawn_blocking(move || all.publish(id.as_str(), &place.host_link, &ports)).await;
        let published = published.map_err(|e| GrpcStatus::new(GrpcStatus::INTERNAL, e))?;
        published.map_err(|e| GrpcStatus::new(GrpcStatus::UNKNOWN, e))
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
        self.withdraw(id).await?;
        self.engine.stop_sandbox(id).await.status()
    }

    async fn withdraw(&self, id: &SandboxId) -> Answer<()> {
        let (ports, id) = (self.ports.clone(), id.clone());
        let withdrawn = tokio::task::spawn_blocking(move || ports.withdraw(id.as_str())).await;
        let withdrawn = withdrawn.map_err(|e| GrpcStatus::new(GrpcStatus::INTERNAL, e))?;
        withdrawn.map_err(|e| GrpcStatus::new(GrpcStatus::UNKNOWN, e))
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
        let deleted = self.event(
            sandbox.id.as_str(),
            &sandbox.id,
            api::ContainerEventType::ContainerDeletedEvent,
        );
        self.engine.remove_sandbox(&sandbox.id).await.status()?;
        self.names.release(sandbox.id.as_str());
        self.memos.forget_sandbox(&sandbox.id);
        self.send(deleted);
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
                "hostLink": self.network.address(sandbox.id.as_str()).map(|place| place.host_link),
            });
            response.info.insert("info".into(), info.to_string());
        }
        Ok(response)
    }

    pub(crate) fn describe_sandbox(&self, sandbox: &SandboxStatus) -> Answer<api::PodSandboxStatus> {
        let memo = self.memos.sandbox(&self.engine, &sandbox.id)?;
        let config = memo.config.clone().unwrap_or_default();
        Ok(api::PodSandboxStatus {
            id: sandbox.id.to_string(),
            metadata: config.metadata.clone(),
            state: state(sandbox).into(),
            created_at: nanos(sandbox.created_at),
            network: Some(api::PodSandboxNetworkStatus {
                ip: address(sandbox),
                ..api::PodSandboxNetworkStatus::default()
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
        });
        list.sort_by_key(|sandbox| sandbox.created_at);
        let items = list.iter().filter_map(|sandbox| self.list_item(sandbox)).collect();
        Ok(api::ListPodSandboxResponse { items })
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

    /// The pod's cgroup is the caller's, which changes its limits before or after it says so here.
    pub(crate) fn update_sandbox_resources(
        &self,
        request: api::UpdatePodSandboxResourcesRequest,
    ) -> Answer<api::UpdatePodSandboxResourcesResponse> {
        self.find_sandbox(&request.pod_sandbox_id)?;
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

fn address(sandbox: &SandboxStatus) -> String {
    match sandbox.state {
        SandboxState::Ready => sandbox.ip.map(|ip| ip.to_string()).unwrap_or_default(),
        SandboxState::NotReady => String::new(),
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
