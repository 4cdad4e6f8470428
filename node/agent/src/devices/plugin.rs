//! Speaks with one device plugin.

use super::{
    Devices,
    messages::{
        AllocateRequest, AllocateResponse, ContainerAllocation, DeviceIds, ListAndWatchResponse, PluginOptions,
        Preference, PreferredAllocationRequest, PreferredAllocationResponse,
    },
};
use prost::Message;
use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};
use strata_http::{GrpcClient, GrpcStatus};
use strata_task::CancellationToken;

/// How long a plugin may take to give devices; it holds up the pod that asked alone.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it may take to prepare a device (upstream: KubeletPreStartContainerRPCTimeoutInSecs).
const PREPARATION: Duration = Duration::from_secs(30);

/// A device plugin.
pub struct Plugin {
    /// What it offers.
    pub resource: String,
    options: PluginOptions,
    client: GrpcClient,
}

impl Plugin {
    /// The plugin that listens there.
    pub fn new(resource: String, socket: &Path, options: PluginOptions) -> Self {
        Self {
            resource,
            options,
            client: GrpcClient::new(socket.to_string_lossy()),
        }
    }

    /// Follows what it offers until it ends, another takes its place, or the node stops.
    pub async fn follow(self: Arc<Self>, devices: Arc<Devices>, cancel: CancellationToken) {
        let listed = cancel.run_until_cancelled(self.list(&devices)).await;
        if let Some(Err(status)) = listed {
            tracing::warn!(resource = self.resource, %status, "a device plugin has ended");
        }
        devices.end(&self);
    }

    async fn list(self: &Arc<Self>, devices: &Devices) -> Result<(), GrpcStatus> {
        let mut answers = self.client.stream("/v1beta1.DevicePlugin/ListAndWatch", &[]).await?;
        while let Some(answer) = answers.next().await {
            let listed = ListAndWatchResponse::decode(answer?).map_err(unreadable)?;
            devices.replace(self, listed.devices);
        }
        Ok(())
    }

    /// Which devices the plugin would rather give, if it minds; what it must not give is left out.
    pub async fn preferred(&self, from: &BTreeSet<String>, with: &BTreeSet<String>, count: usize) -> Vec<String> {
        if !self.options.get_preferred_allocation_available {
            return Vec::new();
        }
        let ask = PreferredAllocationRequest {
            container_requests: vec![Preference {
                available: from.iter().cloned().collect(),
                must_include: with.iter().cloned().collect(),
                allocation_size: i32::try_from(count).unwrap_or(i32::MAX),
            }],
        };
        let asked: Result<PreferredAllocationResponse, _> = self.ask("GetPreferredAllocation", &ask, PATIENCE).await;
        match asked {
            Ok(answer) => {
                let first = answer.container_responses.into_iter().next().unwrap_or_default();
                first.ids.into_iter().filter(|id| from.contains(id)).collect()
            }
            Err(status) => {
                tracing::warn!(resource = self.resource, %status, "a device plugin does not say what it prefers");
                Vec::new()
            }
        }
    }

    /// Gives devices to a container: what it needs to use them.
    pub async fn allocate(&self, ids: Vec<String>) -> Result<ContainerAllocation, GrpcStatus> {
        let ask = AllocateRequest {
            container_requests: vec![DeviceIds { ids }],
        };
        let answer: AllocateResponse = self.ask("Allocate", &ask, PATIENCE).await?;
        let one = answer.container_responses.into_iter().next();
        one.ok_or_else(|| GrpcStatus::new(GrpcStatus::INTERNAL, "the plugin answers for no container"))
    }

    /// Lets the plugin prepare devices right before a container starts, if it wants to.
    pub async fn prepare(&self, ids: Vec<String>) -> Result<(), GrpcStatus> {
        if !self.options.pre_start_required {
            return Ok(());
        }
        let _: DeviceIds = self.ask("PreStartContainer", &DeviceIds { ids }, PREPARATION).await?;
        Ok(())
    }

    async fn ask<A: Message + Default>(
        &self,
        method: &str,
        ask: &impl Message,
        limit: Duration,
    ) -> Result<A, GrpcStatus> {
        let path = format!("/v1beta1.DevicePlugin/{method}");
        let answer = self.client.call(&path, &ask.encode_to_vec(), limit).await?;
        A::decode(answer).map_err(unreadable)
    }
}

fn unreadable(error: prost::DecodeError) -> GrpcStatus {
    GrpcStatus::new(GrpcStatus::INTERNAL, error)
}
