//! The calls of the interface and what answers each.

use crate::error::Answer;
use crate::generated::v1 as api;
use crate::memo::Memos;
use crate::names::Names;
use crate::networking::{Networking, PodRanges};
use crate::sandbox_config::CgroupDriver;
use crate::space::Space;
use crate::stats::Rates;
use crate::streaming::Streaming;
use bytes::Bytes;
use futures::future::BoxFuture;
use prost::Message;
use std::path::PathBuf;
use std::sync::Arc;
use strata_engine::Engine;
use strata_http::{GrpcAnswer, GrpcService, GrpcStatus};
use tokio::sync::{broadcast, mpsc};

/// Items in one message of a streamed list.
const CHUNK: usize = 256;
/// Events that a slow client may be behind before its stream is ended.
pub(crate) const EVENTS: usize = 4096;

/// The answers to all calls of RuntimeService and ImageService.
pub(crate) struct Service {
    pub engine: Engine,
    pub networking: Networking,
    pub ranges: Arc<PodRanges>,
    /// cgroup for pods that name none.
    pub cgroup_root: String,
    pub cgroup_driver: CgroupDriver,
    /// Where images and containers are kept.
    pub data_dir: PathBuf,
    pub version: String,
    pub memos: Memos,
    pub names: Names,
    pub rates: Rates,
    pub space: Space,
    pub streaming: Arc<Streaming>,
    pub events: broadcast::Sender<api::ContainerEventResponse>,
}

impl GrpcService for Service {
    fn call(self: Arc<Self>, method: String, message: Bytes) -> BoxFuture<'static, Answer<GrpcAnswer>> {
        Box::pin(async move {
            let answer = match method.split_once("/runtime.v1.") {
                Some(("", rest)) => match rest.split_once('/') {
                    Some(("RuntimeService", name)) => self.runtime(name, message).await,
                    Some(("ImageService", name)) => self.image(name, message).await,
                    _ => None,
                },
                _ => None,
            };
            let answer = answer.unwrap_or_else(|| {
                let why = format!("unknown method {method}");
                Err(GrpcStatus::new(GrpcStatus::UNIMPLEMENTED, why))
            });
            if let Err(status) = &answer {
                tracing::debug!(method, %status, "call failed");
            }
            answer
        })
    }
}

impl Service {
    async fn runtime(self: &Arc<Self>, name: &str, m: Bytes) -> Option<Answer<GrpcAnswer>> {
        let s = &**self;
        Some(match name {
            "Version" => unary(m, async |q| s.version(q)).await,
            "Status" => unary(m, async |q| s.runtime_status(q).await).await,
            "RuntimeConfig" => unary(m, async |q| s.runtime_config(q)).await,
            "UpdateRuntimeConfig" => unary(m, async |q| s.update_runtime_config(q).await).await,
            "RunPodSandbox" => unary(m, async |q| s.run_sandbox(q).await).await,
            "StopPodSandbox" => unary(m, async |q| s.stop_sandbox(q).await).await,
            "RemovePodSandbox" => unary(m, async |q| s.remove_sandbox(q).await).await,
            "PodSandboxStatus" => unary(m, async |q| s.sandbox_status(q)).await,
            "ListPodSandbox" => unary(m, async |q| s.list_sandboxes(q)).await,
            "UpdatePodSandboxResources" => unary(m, async |q| s.update_sandbox_resources(q).await).await,
            "CreateContainer" => unary(m, async |q| s.create_container(q).await).await,
            "StartContainer" => unary(m, async |q| s.start_container(q).await).await,
            "StopContainer" => unary(m, async |q| s.stop_container(q).await).await,
            "RemoveContainer" => unary(m, async |q| s.remove_container(q).await).await,
            "ListContainers" => unary(m, async |q| s.list_containers(q)).await,
            "ContainerStatus" => unary(m, async |q| s.container_status(q)).await,
            "UpdateContainerResources" => unary(m, async |q| s.update_container_resources(q).await).await,
            "ReopenContainerLog" => unary(m, async |q| s.reopen_container_log(q).await).await,
            "CheckpointContainer" => unary(m, async |q| s.checkpoint_container(q)).await,
            "ExecSync" => unary(m, async |q| s.exec_sync(q).await).await,
            "Exec" => unary(m, async |q| s.exec(q)).await,
            "Attach" => unary(m, async |q| s.attach(q)).await,
            "PortForward" => unary(m, async |q| s.port_forward(q)).await,
            "ContainerStats" => unary(m, async |q| s.container_stats(q).await).await,
            "ListContainerStats" => unary(m, async |q| s.list_container_stats(q).await).await,
            "PodSandboxStats" => unary(m, async |q| s.sandbox_stats(q).await).await,
            "ListPodSandboxStats" => unary(m, async |q| s.list_sandbox_stats(q).await).await,
            "ListMetricDescriptors" => unary(m, async |q| s.list_metric_descriptors(q)).await,
            "ListPodSandboxMetrics" => unary(m, async |q| s.list_sandbox_metrics(q).await).await,
            "GetContainerEvents" => decoded::<api::GetEventsRequest>(m).and_then(|_| self.container_events()),
            _ => return self.runtime_lists(name, m).await,
        })
    }

    /// The lists that come in several messages.
    async fn runtime_lists(&self, name: &str, m: Bytes) -> Option<Answer<GrpcAnswer>> {
        Some(match name {
            "StreamPodSandboxes" => {
                let list = async |q: api::StreamPodSandboxesRequest| {
                    let list = self.list_sandboxes(api::ListPodSandboxRequest { filter: q.filter })?;
                    Ok(list.items)
                };
                streamed(m, list, |pod_sandboxes| api::StreamPodSandboxesResponse {
                    pod_sandboxes,
                })
                .await
            }
            "StreamContainers" => {
                let list = async |q: api::StreamContainersRequest| {
                    let list = self.list_containers(api::ListContainersRequest { filter: q.filter })?;
                    Ok(list.containers)
                };
                streamed(m, list, |containers| api::StreamContainersResponse { containers }).await
            }
            "StreamContainerStats" => {
                let list = async |q: api::StreamContainerStatsRequest| {
                    let request = api::ListContainerStatsRequest { filter: q.filter };
                    Ok(self.list_container_stats(request).await?.stats)
                };
                streamed(m, list, |container_stats| api::StreamContainerStatsResponse {
                    container_stats,
                })
                .await
            }
            "StreamPodSandboxStats" => {
                let list = async |q: api::StreamPodSandboxStatsRequest| {
                    let request = api::ListPodSandboxStatsRequest { filter: q.filter };
                    Ok(self.list_sandbox_stats(request).await?.stats)
                };
                let wrap = |pod_sandbox_stats| api::StreamPodSandboxStatsResponse { pod_sandbox_stats };
                streamed(m, list, wrap).await
            }
            "StreamPodSandboxMetrics" => {
                let list = async |_: api::StreamPodSandboxMetricsRequest| {
                    let all = api::ListPodSandboxMetricsRequest {};
                    Ok(self.list_sandbox_metrics(all).await?.pod_metrics)
                };
                let wrap = |pod_sandbox_metrics| api::StreamPodSandboxMetricsResponse { pod_sandbox_metrics };
                streamed(m, list, wrap).await
            }
            _ => return None,
        })
    }

    async fn image(&self, name: &str, m: Bytes) -> Option<Answer<GrpcAnswer>> {
        Some(match name {
            "ListImages" => unary(m, async |q| self.list_images(q).await).await,
            "ImageStatus" => unary(m, async |q| self.image_status(q).await).await,
            "PullImage" => unary(m, async |q| self.pull_image(q).await).await,
            "RemoveImage" => unary(m, async |q| self.remove_image(q).await).await,
            "ImageFsInfo" => unary(m, async |q| self.image_fs_info(q).await).await,
            "StreamImages" => {
                let list = async |q: api::StreamImagesRequest| {
                    Ok(self
                        .list_images(api::ListImagesRequest { filter: q.filter })
                        .await?
                        .images)
                };
                streamed(m, list, |images| api::StreamImagesResponse { images }).await
            }
            _ => return None,
        })
    }

    /// Events until the client goes; one that cannot follow is told so by the end of its stream.
    fn container_events(self: &Arc<Self>) -> Answer<GrpcAnswer> {
        let mut events = self.events.subscribe();
        let (sender, receiver) = mpsc::channel(CHUNK);
        tokio::spawn(async move {
            loop {
                let event = tokio::select! {
                    event = events.recv() => event,
                    () = sender.closed() => return,
                };
                let message = match event {
                    Ok(event) => Ok(event.encode_to_vec().into()),
                    Err(broadcast::error::RecvError::Closed) => return,
                    Err(lagged) => Err(GrpcStatus::new(GrpcStatus::RESOURCE_EXHAUSTED, lagged)),
                };
                let last = message.is_err();
                if sender.send(message).await.is_err() || last {
                    return;
                }
            }
        });
        Ok(GrpcAnswer::Many(receiver))
    }
}

fn decoded<Q: Message + Default>(message: Bytes) -> Answer<Q> {
    Q::decode(message).map_err(|error| GrpcStatus::new(GrpcStatus::INTERNAL, error))
}

async fn unary<Q: Message + Default, A: Message>(
    message: Bytes,
    call: impl AsyncFnOnce(Q) -> Answer<A>,
) -> Answer<GrpcAnswer> {
    let answer = call(decoded(message)?).await?;
    Ok(GrpcAnswer::One(answer.encode_to_vec().into()))
}

async fn streamed<Q: Message + Default, T, A: Message>(
    message: Bytes,
    list: impl AsyncFnOnce(Q) -> Answer<Vec<T>>,
    wrap: impl Fn(Vec<T>) -> A,
) -> Answer<GrpcAnswer> {
    let mut items = list(decoded(message)?).await?;
    let (sender, receiver) = mpsc::channel(items.len() / CHUNK + 1);
    while !items.is_empty() {
        let rest = items.split_off(items.len().min(CHUNK));
        let chunk = wrap(std::mem::replace(&mut items, rest)).encode_to_vec();
        // There is room for all, and the receiver is here.
        let _ = sender.try_send(Ok(chunk.into()));
    }
    Ok(GrpcAnswer::Many(receiver))
}
