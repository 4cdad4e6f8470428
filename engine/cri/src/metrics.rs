//! Figures by name, as cadvisor names them: one table of what is told of each container and sandbox.

use crate::error::Answer;
use crate::generated::v1 as api;
use crate::service::Service;
use crate::stats::{network, now};
use strata_engine::{ContainerStatus, SandboxState, SandboxStatus, Stats};

use api::MetricType::{Counter, Gauge};

/// What the values of labels stand for, in this order.
const CONTAINER_LABELS: [&str; 6] = ["id", "name", "image", "container", "pod", "namespace"];
const NETWORK_LABELS: [&str; 4] = ["id", "pod", "namespace", "interface"];

struct Row<T: ?Sized> {
    name: &'static str,
    help: &'static str,
    kind: api::MetricType,
    read: fn(&T) -> u64,
}

const CONTAINER: &[Row<Stats>] = &[
    Row {
        name: "container_cpu_usage_seconds_total",
        help: "Seconds of processor time since the start",
        kind: Counter,
        read: |stats| stats.cpu_usage_nanos / 1_000_000_000,
    },
    Row {
        name: "container_memory_usage_bytes",
        help: "Bytes of memory with the page cache",
        kind: Gauge,
        read: |stats| stats.memory_usage,
    },
    Row {
        name: "container_memory_working_set_bytes",
        help: "Bytes of memory less what can be had back at once",
        kind: Gauge,
        read: |stats| stats.memory_working_set,
    },
    Row {
        name: "container_memory_rss",
        help: "Anonymous memory",
        kind: Gauge,
        read: |stats| stats.memory_rss,
    },
    Row {
        name: "container_memory_failures_total",
        help: "Page faults since the start",
        kind: Counter,
        read: |stats| stats.page_faults,
    },
    Row {
        name: "container_processes",
        help: "Processes and threads",
        kind: Gauge,
        read: |stats| stats.pids,
    },
    Row {
        name: "container_fs_usage_bytes",
        help: "Bytes of the writable layer",
        kind: Gauge,
        read: |stats| stats.rootfs_used,
    },
];

fn number(value: &Option<api::UInt64Value>) -> u64 {
    value.as_ref().map_or(0, |value| value.value)
}

const NETWORK: &[Row<api::NetworkInterfaceUsage>] = &[
    Row {
        name: "container_network_receive_bytes_total",
        help: "Bytes that came in",
        kind: Counter,
        read: |link| number(&link.rx_bytes),
    },
    Row {
        name: "container_network_receive_errors_total",
        help: "Packets that came in broken",
        kind: Counter,
        read: |link| number(&link.rx_errors),
    },
    Row {
        name: "container_network_transmit_bytes_total",
        help: "Bytes that went out",
        kind: Counter,
        read: |link| number(&link.tx_bytes),
    },
    Row {
        name: "container_network_transmit_errors_total",
        help: "Packets that could not go out",
        kind: Counter,
        read: |link| number(&link.tx_errors),
    },
];

impl Service {
    pub(crate) fn list_metric_descriptors(
        &self,
        _: api::ListMetricDescriptorsRequest,
    ) -> Answer<api::ListMetricDescriptorsResponse> {
        let mut descriptors = descriptors(CONTAINER, &CONTAINER_LABELS);
        descriptors.extend(self::descriptors(NETWORK, &NETWORK_LABELS));
        Ok(api::ListMetricDescriptorsResponse { descriptors })
    }

    pub(crate) async fn list_sandbox_metrics(
        &self,
        _: api::ListPodSandboxMetricsRequest,
    ) -> Answer<api::ListPodSandboxMetricsResponse> {
        let (mut pod_metrics, mut running) = (Vec::new(), self.running_by_sandbox());
        for sandbox in self.engine.list_sandboxes() {
            if sandbox.state == SandboxState::Ready && self.is_made(&sandbox) {
                pod_metrics.push(
                    self.metrics_of(&sandbox, running.remove(&sandbox.id).unwrap_or_default())
                        .await,
                );
            }
        }
        Ok(api::ListPodSandboxMetricsResponse { pod_metrics })
    }

    async fn metrics_of(&self, sandbox: &SandboxStatus, own: Vec<ContainerStatus>) -> api::PodSandboxMetrics {
        let links = network(sandbox.pid).filter(|_| !sandbox.host_network);
        let links = links.map(|network| network.interfaces).unwrap_or_default();
        let metrics = links.iter().flat_map(|link| {
            let labels = [sandbox.id.as_str(), &sandbox.name, &sandbox.namespace, &link.name];
            values(NETWORK, link, &labels)
        });
        let metrics = metrics.collect();
        let mut container_metrics = Vec::new();
        for container in own {
            container_metrics.extend(self.metrics_of_container(sandbox, &container).await);
        }
        api::PodSandboxMetrics {
            pod_sandbox_id: sandbox.id.to_string(),
            metrics,
            container_metrics,
        }
    }

    /// Nothing if it ended meanwhile.
    async fn metrics_of_container(
        &self,
        sandbox: &SandboxStatus,
        container: &ContainerStatus,
    ) -> Option<api::ContainerMetrics> {
        let stats = self.engine.stats(&container.id).await.ok()?;
        let id = container.id.as_str();
        let labels = [
            id,
            id,
            &container.image,
            &container.name,
            &sandbox.name,
            &sandbox.namespace,
        ];
        Some(api::ContainerMetrics {
            container_id: container.id.to_string(),
            metrics: values(CONTAINER, &stats, &labels),
        })
    }
}

fn descriptors<T>(rows: &[Row<T>], labels: &[&str]) -> Vec<api::MetricDescriptor> {
    let descriptor = |row: &Row<T>| api::MetricDescriptor {
        name: row.name.into(),
        help: row.help.into(),
        label_keys: labels.iter().map(|label| (*label).to_owned()).collect(),
    };
    rows.iter().map(descriptor).collect()
}

fn values<T>(rows: &[Row<T>], of: &T, labels: &[&str]) -> Vec<api::Metric> {
    let value = |row: &Row<T>| api::Metric {
        name: row.name.into(),
        timestamp: now(),
        metric_type: row.kind.into(),
        label_values: labels.iter().map(|label| (*label).to_owned()).collect(),
        value: Some(api::UInt64Value { value: (row.read)(of) }),
    };
    rows.iter().map(value).collect()
}
