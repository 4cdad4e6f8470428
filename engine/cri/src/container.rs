//! Containers: create, start, stop, remove, status, list, update.

use crate::container_config::{engine_config, make_sources, signal_of};
use crate::error::{Answer, OrStatus, invalid, required};
use crate::generated::v1 as api;
use crate::identity::{unless_gone, user_of};
use crate::memo::{ContainerMemo, encoded};
use crate::sandbox::{has_labels, nanos};
use crate::sandbox_config::{resources, user_namespace};
use crate::service::Service;
use std::time::Duration;
use strata_engine::{ContainerState, ContainerStatus, SandboxId, SandboxState};
use strata_http::GrpcStatus;

impl Service {
    pub(crate) async fn create_container(
        &self,
        mut request: api::CreateContainerRequest,
    ) -> Answer<api::CreateContainerResponse> {
        let config = required(request.config.clone(), "config")?;
        let metadata = required(config.metadata.clone(), "config.metadata")?;
        let sandbox = self.find_sandbox(&request.pod_sandbox_id)?;
        if sandbox.state != SandboxState::Ready {
            let why = format!("sandbox {} is not running", sandbox.id);
            return Err(GrpcStatus::new(GrpcStatus::FAILED_PRECONDITION, why));
        }
        let name = container_name(&metadata, &sandbox.id);
        let reserved = self.names.reserve(name)?;
        let named = config
            .image
            .as_ref()
            .map(|image| image.image.clone())
            .unwrap_or_default();
        let images = self.engine.images().clone();
        let image = images.resolve(&named).status()?;
        let image =
            image.ok_or_else(|| GrpcStatus::new(GrpcStatus::NOT_FOUND, format!("image {named:?} not found")))?;
        let image_id = image.id.to_string();
        // The sandbox remembers its own configuration.
        request.sandbox_config = None;
        request.pod_sandbox_id = sandbox.id.to_string();
        let made = tokio::task::spawn_blocking(move || {
            let wanted = engine_config(&config, image, &images)?;
            make_sources(&wanted.mounts)?;
            Ok::<_, GrpcStatus>(wanted)
        })
        .await;
        let mut wanted = made.map_err(|e| GrpcStatus::new(GrpcStatus::INTERNAL, e))??;
        wanted.memo = encoded(&ContainerMemo {
            request: Some(request),
            user: None,
            image_id,
        });
        let id = self.engine.create_container(&sandbox.id, wanted).await.status()?;
        reserved.keep(id.as_str());
        self.tell(id.as_str(), &sandbox.id, api::ContainerEventType::ContainerCreatedEvent);
        Ok(api::CreateContainerResponse {
            container_id: id.to_string(),
        })
    }

    pub(crate) async fn start_container(
        &self,
        request: api::StartContainerRequest,
    ) -> Answer<api::StartContainerResponse> {
        let container = self.find_container(&request.container_id)?;
        self.engine.start_container(&container.id).await.status()?;
        // Read at once, because a process may become somebody else.
        let first = self.first_id(&container.sandbox_id)?;
        if let Some(user) = container.pid.and_then(|pid| user_of(pid, first)) {
            let remember = |memo: &mut ContainerMemo| memo.user = Some(user);
            self.memos.update(&self.engine, &container.id, remember).await?;
        }
        Ok(api::StartContainerResponse {})
    }

    /// Where the ids of the pod's user namespace begin on this machine.
    fn first_id(&self, sandbox: &SandboxId) -> Answer<u32> {
        let config = self.memos.sandbox_config(&self.engine, sandbox)?;
        let options = crate::sandbox_config::namespace_options(&config);
        let mapping = user_namespace(options.userns_options.as_ref())?;
        Ok(mapping.map_or(0, |(uids, _)| uids.host_id))
    }

    pub(crate) async fn stop_container(
        &self,
        request: api::StopContainerRequest,
    ) -> Answer<api::StopContainerResponse> {
        if let Some(container) = unless_gone(self.find_container(&request.container_id))? {
            let grace = Duration::from_secs(u64::try_from(request.timeout).unwrap_or(0));
            match self.engine.stop_container(&container.id, grace).await {
                Err(error) if error.is_not_found() => {}
                other => other.status()?,
            }
        }
        Ok(api::StopContainerResponse {})
    }

    pub(crate) async fn remove_container(
        &self,
        request: api::RemoveContainerRequest,
    ) -> Answer<api::RemoveContainerResponse> {
        if let Some(container) = unless_gone(self.find_container(&request.container_id))? {
            self.erase_container(&container).await?;
        }
        Ok(api::RemoveContainerResponse {})
    }

    /// Removes a container with its name and memo.
    pub(crate) async fn erase_container(&self, container: &ContainerStatus) -> Answer<()> {
        let id = &container.id;
        let deleted = api::ContainerEventType::ContainerDeletedEvent;
        self.engine.remove_container(id).await.status()?;
        self.names.release(id.as_str());
        self.memos.forget_container(id);
        self.rates.forget(id);
        self.tell(id.as_str(), &container.sandbox_id, deleted);
        Ok(())
    }

    pub(crate) fn list_containers(&self, request: api::ListContainersRequest) -> Answer<api::ListContainersResponse> {
        let filter = request.filter.unwrap_or_default();
        let mut list = self.engine.list_containers();
        list.retain(|container| {
            container.id.as_str().starts_with(&filter.id)
                && container.sandbox_id.as_str().starts_with(&filter.pod_sandbox_id)
                && filter
                    .state
                    .as_ref()
                    .is_none_or(|wanted| wanted.state() == state(container))
                && has_labels(&filter.label_selector, &container.labels)
        });
        list.sort_by_key(|container| container.created_at);
        let containers = list
            .iter()
            .filter_map(|container| self.container_item(container))
            .collect();
        Ok(api::ListContainersResponse { containers })
    }

    /// Nothing if it went meanwhile.
    fn container_item(&self, container: &ContainerStatus) -> Option<api::Container> {
        let memo = self.memos.container(&self.engine, &container.id).ok()?;
        let request = memo.request.as_ref()?.config.as_ref()?;
        Some(api::Container {
            id: container.id.to_string(),
            pod_sandbox_id: container.sandbox_id.to_string(),
            metadata: request.metadata.clone(),
            image: request.image.clone(),
            image_ref: memo.image_id.clone(),
            state: state(container).into(),
            created_at: nanos(container.created_at),
            labels: container.labels.clone(),
            annotations: container.annotations.clone(),
            image_id: memo.image_id.clone(),
        })
    }

    pub(crate) fn container_status(
        &self,
        request: api::ContainerStatusRequest,
    ) -> Answer<api::ContainerStatusResponse> {
        let container = self.find_container(&request.container_id)?;
        let mut response = api::ContainerStatusResponse {
            status: Some(self.describe_container(&container)?),
            ..api::ContainerStatusResponse::default()
        };
        if request.verbose {
            let info = serde_json::json!({
                "sandboxID": container.sandbox_id.as_str(),
                "pid": container.pid.unwrap_or(0),
                "signal": container.signal,
            });
            response.info.insert("info".into(), info.to_string());
        }
        Ok(response)
    }

    pub(crate) fn describe_containers_of(&self, sandbox: &SandboxId) -> Vec<api::ContainerStatus> {
        let all = self.engine.list_containers();
        let own = all.iter().filter(|container| container.sandbox_id == *sandbox);
        own.filter_map(|container| self.describe_container(container).ok())
            .collect()
    }

    fn describe_container(&self, container: &ContainerStatus) -> Answer<api::ContainerStatus> {
        let memo = self.memos.container(&self.engine, &container.id)?;
        let config = memo.config();
        let image = self.engine.images().resolve(&memo.image_id).status()?;
        let stop_signal = match config.stop_signal() {
            api::Signal::RuntimeDefault => signal_of(image.as_ref().map_or("", |image| &image.config.stop_signal)),
            own => own,
        };
        let mut spec = config.image.clone().unwrap_or_default();
        // Names that users know come before ids.
        let name = image
            .as_ref()
            .and_then(|image| image.repo_tags.first())
            .filter(|_| spec.user_specified_image.is_empty());
        spec.image = match name {
            Some(name) => name.clone(),
            None if spec.user_specified_image.is_empty() => spec.image,
            None => spec.user_specified_image.clone(),
        };
        let time = |moment: Option<std::time::SystemTime>| moment.map_or(0, nanos);
        let linux = config.linux.and_then(|linux| linux.resources);
        Ok(api::ContainerStatus {
            id: container.id.to_string(),
            metadata: config.metadata,
            state: state(container).into(),
            created_at: nanos(container.created_at),
            started_at: time(container.started_at),
            finished_at: time(container.finished_at),
            exit_code: container.exit_code.unwrap_or(0),
            image: Some(spec),
            image_ref: container.image_id.clone(),
            reason: container.reason.clone(),
            message: container.message.clone(),
            labels: container.labels.clone(),
            annotations: container.annotations.clone(),
            mounts: config.mounts,
            log_path: container.log_path.display().to_string(),
            resources: linux.map(|linux| api::ContainerResources { linux: Some(linux) }),
            image_id: memo.image_id.clone(),
            user: memo.user.clone().map(|linux| api::ContainerUser { linux: Some(linux) }),
            stop_signal: stop_signal.into(),
        })
    }

    pub(crate) async fn update_container_resources(
        &self,
        request: api::UpdateContainerResourcesRequest,
    ) -> Answer<api::UpdateContainerResourcesResponse> {
        let container = self.find_container(&request.container_id)?;
        let limits = required(request.linux, "linux")?;
        if container.state == ContainerState::Exited {
            let why = format!("container {} has ended", container.id);
            return Err(GrpcStatus::new(GrpcStatus::FAILED_PRECONDITION, why));
        }
        let wanted = resources(&limits);
        self.engine.update_resources(&container.id, wanted).await.status()?;
        let remember = |memo: &mut ContainerMemo| merge(memo, limits);
        self.memos.update(&self.engine, &container.id, remember).await?;
        Ok(api::UpdateContainerResourcesResponse {})
    }

    pub(crate) async fn reopen_container_log(
        &self,
        request: api::ReopenContainerLogRequest,
    ) -> Answer<api::ReopenContainerLogResponse> {
        let container = self.find_container(&request.container_id)?;
        if container.state != ContainerState::Running {
            let why = format!("container {} is not running", container.id);
            return Err(GrpcStatus::new(GrpcStatus::FAILED_PRECONDITION, why));
        }
        self.engine.reopen_log(&container.id).await.status()?;
        Ok(api::ReopenContainerLogResponse {})
    }

    pub(crate) fn checkpoint_container(
        &self,
        request: api::CheckpointContainerRequest,
    ) -> Answer<api::CheckpointContainerResponse> {
        let container = self.find_container(&request.container_id)?;
        if container.state != ContainerState::Running {
            return Err(invalid(format!("container {} is not running", container.id)));
        }
        let why = "checkpoints through the container runtime interface are not supported";
        Err(GrpcStatus::new(GrpcStatus::UNIMPLEMENTED, why))
    }
}

/// What was said anew takes the place of what was said before.
pub(crate) fn merge(memo: &mut ContainerMemo, new: api::LinuxContainerResources) {
    let request = memo.request.get_or_insert_default();
    let linux = request.config.get_or_insert_default().linux.get_or_insert_default();
    let old = linux.resources.get_or_insert_default();
    let number = |old: &mut i64, new: i64| {
        if new != 0 {
            *old = new;
        }
    };
    number(&mut old.cpu_period, new.cpu_period);
    number(&mut old.cpu_quota, new.cpu_quota);
    number(&mut old.cpu_shares, new.cpu_shares);
    number(&mut old.memory_limit_in_bytes, new.memory_limit_in_bytes);
    number(&mut old.memory_swap_limit_in_bytes, new.memory_swap_limit_in_bytes);
    number(&mut old.oom_score_adj, new.oom_score_adj);
    for (old, new) in [
        (&mut old.cpuset_cpus, new.cpuset_cpus),
        (&mut old.cpuset_mems, new.cpuset_mems),
    ] {
        if !new.is_empty() {
            *old = new;
        }
    }
    if !new.hugepage_limits.is_empty() {
        old.hugepage_limits = new.hugepage_limits;
    }
    old.unified.extend(new.unified);
}

/// The name that one container of a sandbox at a time may have.
pub(crate) fn container_name(metadata: &api::ContainerMetadata, sandbox: &SandboxId) -> String {
    format!("{}_{}_{sandbox}", metadata.name, metadata.attempt)
}

pub(crate) fn state(container: &ContainerStatus) -> api::ContainerState {
    match container.state {
        ContainerState::Created => api::ContainerState::ContainerCreated,
        ContainerState::Running => api::ContainerState::ContainerRunning,
        ContainerState::Exited => api::ContainerState::ContainerExited,
        ContainerState::Unknown => api::ContainerState::ContainerUnknown,
    }
}
