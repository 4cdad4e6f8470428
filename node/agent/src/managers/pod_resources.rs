//! The pod resources API (v1): monitoring asks which containers have which devices and processors.

use super::{CpuSet, Managers, ledger::Grant};
use crate::{
    devices::{
        self,
        messages::{
            AllocatableResources, ContainerDevices, ContainerResources, GetPodResourcesRequest,
            GetPodResourcesResponse, NumaNode, PodResources, PodResourcesList, TopologyInfo,
        },
    },
    pod::Pod,
};
use bytes::Bytes;
use futures::future::BoxFuture;
use prost::Message;
use std::{io, path::Path, sync::Arc};
use strata_http::{GrpcAnswer, GrpcService, GrpcStatus};
use strata_meta::ObjectKey;
use strata_task::CancellationToken;

/// Serves at that socket until cancelled.
pub async fn serve(managers: Arc<Managers>, socket: &Path, cancel: CancellationToken) -> io::Result<()> {
    let listener = devices::listen(socket)?;
    strata_http::serve_grpc(listener, cancel, Arc::new(PodResourcesLister { managers })).await
}

struct PodResourcesLister {
    managers: Arc<Managers>,
}

impl GrpcService for PodResourcesLister {
    fn call(self: Arc<Self>, method: String, message: Bytes) -> BoxFuture<'static, Result<GrpcAnswer, GrpcStatus>> {
        Box::pin(async move {
            let answer = match method.strip_prefix("/v1.PodResourcesLister/") {
                Some("List") => self.list().encode_to_vec(),
                Some("Get") => self.get(message)?.encode_to_vec(),
                Some("GetAllocatableResources") => self.allocatable().encode_to_vec(),
                _ => {
                    return Err(GrpcStatus::new(
                        GrpcStatus::UNIMPLEMENTED,
                        format!("unknown method {method}"),
                    ));
                }
            };
            Ok(GrpcAnswer::One(answer.into()))
        })
    }
}

impl PodResourcesLister {
    fn list(&self) -> PodResourcesList {
        let pods = self.managers.pods.list();
        let active = pods.iter().filter(|(_, pod)| !pod.is_finished());
        PodResourcesList {
            pod_resources: active.map(|(_, pod)| self.of_pod(pod)).collect(),
        }
    }

    fn get(&self, message: Bytes) -> Result<GetPodResourcesResponse, GrpcStatus> {
        let asked = GetPodResourcesRequest::decode(message)
            .map_err(|error| GrpcStatus::new(GrpcStatus::INVALID_ARGUMENT, error))?;
        let (namespace, name) = (asked.pod_namespace, asked.pod_name);
        let pod = self.managers.pods.get(&ObjectKey::new(&namespace, &name));
        let pod = pod.filter(|pod| !pod.is_finished()).ok_or_else(|| {
            let why = format!("pod {name} in namespace {namespace} not found");
            GrpcStatus::new(GrpcStatus::UNKNOWN, why)
        })?;
        Ok(GetPodResourcesResponse {
            pod_resources: Some(self.of_pod(&pod)),
        })
    }

    fn of_pod(&self, pod: &Pod) -> PodResources {
        let sidecars = pod.spec.init_containers.iter().filter(|c| c.is_sidecar());
        let of = |name: &str| {
            let grant = self.managers.ledger().grant(pod.metadata.uid.as_str(), name).cloned();
            self.of_container(name, &grant.unwrap_or_default())
        };
        PodResources {
            name: pod.metadata.name.clone(),
            namespace: pod.metadata.namespace.clone(),
            containers: sidecars.chain(&pod.spec.containers).map(|c| of(&c.name)).collect(),
        }
    }

    fn of_container(&self, name: &str, grant: &Grant) -> ContainerResources {
        ContainerResources {
            name: name.to_owned(),
            devices: grant
                .devices
                .iter()
                .map(|(resource, ids)| self.devices(resource, ids.clone()))
                .collect(),
            cpu_ids: numbers(&CpuSet::parse(&grant.cpus).unwrap_or_default()),
        }
    }

    fn devices(&self, resource: &str, ids: Vec<String>) -> ContainerDevices {
        let nodes = self.managers.devices.nodes(resource, &ids);
        let nodes: Vec<NumaNode> = nodes.into_iter().map(|id| NumaNode { id }).collect();
        ContainerDevices {
            resource_name: resource.to_owned(),
            device_ids: ids,
            topology: (!nodes.is_empty()).then_some(TopologyInfo { nodes }),
        }
    }

    fn allocatable(&self) -> AllocatableResources {
        let devices = &self.managers.devices;
        let each = |resource: &String| self.devices(resource, devices.healthy(resource).into_iter().collect());
        AllocatableResources {
            devices: devices.resources().iter().map(each).collect(),
            cpu_ids: self
                .managers
                .cpus
                .as_ref()
                .map(|policy| numbers(&policy.allocatable()))
                .unwrap_or_default(),
        }
    }
}

fn numbers(set: &CpuSet) -> Vec<i64> {
    set.iter().map(i64::from).collect()
}
