//! What containers and sandboxes use.

use crate::error::{Answer, OrStatus};
use crate::generated::v1 as api;
use crate::sandbox::{has_labels, metadata, nanos};
use crate::service::Service;
use futures::future::join_all;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime};
use strata_engine::{ContainerId, ContainerState, ContainerStatus, SandboxId, SandboxState, SandboxStatus, Stats};

/// Processor time as it was when last looked at, for rates.
#[derive(Default)]
pub(crate) struct Rates(Mutex<HashMap<ContainerId, (Instant, u64, u64)>>);

impl Rates {
    /// Nanoseconds of processor time per second since the last look.
    fn rate(&self, id: &ContainerId, usage: u64) -> u64 {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let rate = match seen.get(id) {
            Some((at, before, last)) => {
                let elapsed = now.duration_since(*at).as_nanos();
                // Two looks at once say nothing new.
                if elapsed < 100_000_000 {
                    return *last;
                }
                let used = u128::from(usage.saturating_sub(*before));
                u64::try_from(used * 1_000_000_000 / elapsed).unwrap_or(u64::MAX)
            }
            None => 0,
        };
        seen.insert(id.clone(), (now, usage, rate));
        rate
    }

    pub fn forget(&self, id: &ContainerId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

impl Service {
    pub(crate) async fn container_stats(
        &self,
        request: api::ContainerStatsRequest,
    ) -> Answer<api::ContainerStatsResponse> {
        let container = self.find_container(&request.container_id)?;
        let (stats, _) = self.stats_of(&container).await?;
        Ok(api::ContainerStatsResponse { stats: Some(stats) })
    }

    pub(crate) async fn list_container_stats(
        &self,
        request: api::ListContainerStatsRequest,
    ) -> Answer<api::ListContainerStatsResponse> {
        let filter = request.filter.unwrap_or_default();
        let mut list = self.engine.list_containers();
        list.retain(|container| {
            container.state == ContainerState::Running
                && container.id.as_str().starts_with(&filter.id)
                && container.sandbox_id.as_str().starts_with(&filter.pod_sandbox_id)
                && has_labels(&filter.label_selector, &container.labels)
        });
        let stats = join_all(list.iter().map(|container| self.stats_of(container))).await;
        Ok(api::ListContainerStatsResponse {
            // One that ended meanwhile uses nothing.
            stats: stats
                .into_iter()
                .filter_map(Result::ok)
                .map(|(stats, _)| stats)
                .collect(),
        })
    }

    /// And the number of its processes.
    async fn stats_of(&self, container: &ContainerStatus) -> Answer<(api::ContainerStats, u64)> {
        let stats = self.engine.stats(&container.id).await.status()?;
        let memo = self.memos.container(&self.engine, &container.id)?;
        let config = memo.config();
        let limit = config.linux.as_ref().and_then(|linux| linux.resources.as_ref());
        let limit = limit.map_or(0, |limits| limits.memory_limit_in_bytes);
        let rate = self.rates.rate(&container.id, stats.cpu_usage_nanos);
        let pids = stats.pids;
        let stats = api::ContainerStats {
            attributes: Some(api::ContainerAttributes {
                id: container.id.to_string(),
                metadata: config.metadata,
                labels: container.labels.clone(),
                annotations: container.annotations.clone(),
            }),
            cpu: Some(cpu(&stats, rate)),
            memory: Some(memory(&stats, limit)),
            writable_layer: Some(api::FilesystemUsage {
                timestamp: now(),
                fs_id: Some(api::FilesystemIdentifier {
                    mountpoint: self.data_dir.join("engine").display().to_string(),
                }),
                used_bytes: value(stats.rootfs_used),
                inodes_used: value(stats.rootfs_inodes),
            }),
            swap: None,
            io: None,
        };
        Ok((stats, pids))
    }

    /// The running containers of every sandbox.
    pub(crate) fn running_by_sandbox(&self) -> HashMap<SandboxId, Vec<ContainerStatus>> {
        let mut by_sandbox: HashMap<_, Vec<_>> = HashMap::new();
        for container in self.engine.list_containers() {
            if container.state == ContainerState::Running {
                by_sandbox
                    .entry(container.sandbox_id.clone())
                    .or_default()
                    .push(container);
            }
        }
        by_sandbox
    }

    pub(crate) async fn sandbox_stats(
        &self,
        request: api::PodSandboxStatsRequest,
    ) -> Answer<api::PodSandboxStatsResponse> {
        let sandbox = self.find_sandbox(&request.pod_sandbox_id)?;
        let own = self.running_by_sandbox().remove(&sandbox.id).unwrap_or_default();
        let stats = self.stats_of_sandbox(&sandbox, &own).await;
        Ok(api::PodSandboxStatsResponse { stats: Some(stats) })
    }

    pub(crate) async fn list_sandbox_stats(
        &self,
        request: api::ListPodSandboxStatsRequest,
    ) -> Answer<api::ListPodSandboxStatsResponse> {
        let filter = request.filter.unwrap_or_default();
        let mut list = self.engine.list_sandboxes();
        list.retain(|sandbox| {
            sandbox.state == SandboxState::Ready
                && sandbox.id.as_str().starts_with(&filter.id)
                && has_labels(&filter.label_selector, &sandbox.labels)
                && self.is_made(sandbox)
        });
        let running = self.running_by_sandbox();
        let of = |sandbox: &SandboxStatus| running.get(&sandbox.id).map_or(&[][..], Vec::as_slice);
        let stats = list.iter().map(|sandbox| self.stats_of_sandbox(sandbox, of(sandbox)));
        Ok(api::ListPodSandboxStatsResponse {
            stats: join_all(stats).await,
        })
    }

    /// The sums of its running containers: the pod's cgroup may hold what is not this runtime's.
    async fn stats_of_sandbox(&self, sandbox: &SandboxStatus, own: &[ContainerStatus]) -> api::PodSandboxStats {
        let stats = join_all(own.iter().map(|container| self.stats_of(container))).await;
        // One that ended meanwhile uses nothing.
        let (containers, pids): (Vec<_>, Vec<_>) = stats.into_iter().filter_map(Result::ok).unzip();
        let network = network(sandbox.pid).filter(|_| !sandbox.host_network);
        api::PodSandboxStats {
            attributes: Some(api::PodSandboxAttributes {
                id: sandbox.id.to_string(),
                metadata: Some(metadata(sandbox)),
                labels: sandbox.labels.clone(),
                annotations: sandbox.annotations.clone(),
            }),
            linux: Some(api::LinuxPodSandboxStats {
                cpu: Some(sum_cpu(&containers)),
                memory: Some(sum_memory(&containers)),
                network,
                process: Some(api::ProcessUsage {
                    timestamp: now(),
                    process_count: value(pids.iter().sum()),
                }),
                containers,
                io: None,
            }),
        }
    }
}

pub(crate) fn now() -> i64 {
    nanos(SystemTime::now())
}

fn value(value: u64) -> Option<api::UInt64Value> {
    Some(api::UInt64Value { value })
}

fn cpu(stats: &Stats, rate: u64) -> api::CpuUsage {
    api::CpuUsage {
        timestamp: now(),
        usage_core_nano_seconds: value(stats.cpu_usage_nanos),
        usage_nano_cores: value(rate),
        psi: None,
    }
}

fn memory(stats: &Stats, limit: i64) -> api::MemoryUsage {
    let limit = u64::try_from(limit).ok().filter(|limit| *limit > 0);
    api::MemoryUsage {
        timestamp: now(),
        working_set_bytes: value(stats.memory_working_set),
        available_bytes: limit.and_then(|limit| value(limit.saturating_sub(stats.memory_working_set))),
        usage_bytes: value(stats.memory_usage),
        rss_bytes: value(stats.memory_rss),
        page_faults: value(stats.page_faults),
        major_page_faults: value(stats.major_page_faults),
        psi: None,
    }
}

fn sum<'a, T: 'a>(list: &'a [T], part: impl Fn(&'a T) -> Option<&'a api::UInt64Value>) -> Option<api::UInt64Value> {
    value(list.iter().filter_map(part).map(|value| value.value).sum())
}

fn sum_cpu(containers: &[api::ContainerStats]) -> api::CpuUsage {
    let list: Vec<_> = containers.iter().filter_map(|one| one.cpu.clone()).collect();
    api::CpuUsage {
        timestamp: now(),
        usage_core_nano_seconds: sum(&list, |cpu| cpu.usage_core_nano_seconds.as_ref()),
        usage_nano_cores: sum(&list, |cpu| cpu.usage_nano_cores.as_ref()),
        psi: None,
    }
}

fn sum_memory(containers: &[api::ContainerStats]) -> api::MemoryUsage {
    let list: Vec<_> = containers.iter().filter_map(|one| one.memory.clone()).collect();
    api::MemoryUsage {
        timestamp: now(),
        working_set_bytes: sum(&list, |memory| memory.working_set_bytes.as_ref()),
        available_bytes: None,
        usage_bytes: sum(&list, |memory| memory.usage_bytes.as_ref()),
        rss_bytes: sum(&list, |memory| memory.rss_bytes.as_ref()),
        page_faults: sum(&list, |memory| memory.page_faults.as_ref()),
        major_page_faults: sum(&list, |memory| memory.major_page_faults.as_ref()),
        psi: None,
    }
}

/// Counters of the links that a process sees.
pub(crate) fn network(pid: i32) -> Option<api::NetworkUsage> {
    let links = strata_net::link_counters(pid).ok()?;
    let interfaces: Vec<_> = links.into_iter().map(interface).collect();
    Some(api::NetworkUsage {
        timestamp: now(),
        default_interface: interfaces.iter().find(|link| link.name == "eth0").cloned(),
        interfaces,
    })
}

fn interface(link: strata_net::LinkCounters) -> api::NetworkInterfaceUsage {
    let (received, sent) = link.columns.split_at(strata_net::SENT);
    api::NetworkInterfaceUsage {
        name: link.name,
        rx_bytes: value(received[0]),
        rx_errors: value(received[2]),
        tx_bytes: value(sent[0]),
        tx_errors: value(sent[2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_a_link_are_read_in_their_places() {
        let link = interface(strata_net::LinkCounters {
            name: "eth0".into(),
            columns: [10, 1, 2, 0, 0, 0, 0, 0, 30, 3, 4, 0, 0, 0, 0, 0],
        });
        let number = |value: Option<api::UInt64Value>| value.expect("there").value;
        assert_eq!(link.name, "eth0");
        assert_eq!((number(link.rx_bytes), number(link.rx_errors)), (10, 2));
        assert_eq!((number(link.tx_bytes), number(link.tx_errors)), (30, 4));
    }

    #[test]
    fn a_rate_needs_two_looks() {
        let rates = Rates::default();
        let id = ContainerId::from("a");
        assert_eq!(rates.rate(&id, 1_000), 0);
        // Too soon to say anything else.
        assert_eq!(rates.rate(&id, 2_000), 0);
    }
}
