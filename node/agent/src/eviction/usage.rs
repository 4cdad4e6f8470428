//! What pods use of what they may be evicted for.

use crate::{
    container::{POD_UID, cgroup_parent},
    context::Context,
    pod::Pod,
};
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};
use strata_engine::{ContainerState, ContainerStatus};
use strata_mount::FolderUsage;
use strata_volume::Volume;

/// What one container uses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContainerUse {
    /// Its name.
    pub name: String,
    /// Bytes of memory that cannot be given back.
    pub memory: u64,
    /// Its writable layer.
    pub rootfs: FolderUsage,
    /// Its logs.
    pub logs: FolderUsage,
}

/// What one pod uses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodUse {
    /// Bytes of memory that cannot be given back.
    pub memory: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Its containers, once each.
    pub containers: Vec<ContainerUse>,
    /// Its volumes that lie on the node's disk.
    pub volumes: BTreeMap<String, FolderUsage>,
    /// Bytes of its volumes in memory.
    pub in_memory: BTreeMap<String, u64>,
}

impl PodUse {
    /// What of it lies on disks: on that of images if `rootfs`, on that of volumes if `local`.
    pub fn disk(&self, rootfs: bool, local: bool) -> FolderUsage {
        let mut sum = FolderUsage::default();
        for container in &self.containers {
            if rootfs {
                sum = sum.plus(container.rootfs);
            }
            if local {
                sum = sum.plus(container.logs);
            }
        }
        let volumes = self.volumes.values().filter(|_| local);
        volumes.fold(sum, |sum, volume| sum.plus(*volume))
    }
}

/// What a pod uses; without `disks` nothing is walked.
pub async fn pod_use(context: &Arc<Context>, pod: &Pod, disks: bool) -> PodUse {
    let engine = &context.options.engine;
    let group = cgroup_parent(&context.options.cgroup_root, pod);
    // A pod that ends meanwhile uses nothing.
    let all = engine.cgroup_usage(&group).await.unwrap_or_else(|_| Default::default());
    let mut used = PodUse {
        memory: all.memory_working_set,
        pids: all.pids,
        ..PodUse::default()
    };
    for container in newest(context, pod) {
        let stats = if disks {
            engine.stats(&container.id).await
        } else {
            engine.usage(&container.id).await
        };
        let Ok(stats) = stats else { continue };
        let running = container.state == ContainerState::Running;
        used.containers.push(ContainerUse {
            name: container.name,
            memory: if running { stats.memory_working_set } else { 0 },
            rootfs: FolderUsage {
                bytes: stats.rootfs_used,
                inodes: stats.rootfs_inodes,
            },
            logs: FolderUsage {
                bytes: stats.logs_used,
                inodes: 1,
            },
        });
    }
    if disks {
        (used.volumes, used.in_memory) = volumes(context, pod).await;
    }
    used
}

/// What a pod's volumes hold: those on the node's disk, and bytes of those in memory.
pub async fn volumes(context: &Arc<Context>, pod: &Pod) -> (BTreeMap<String, FolderUsage>, BTreeMap<String, u64>) {
    let (places, memory) = places(context, pod);
    let walked = tokio::task::spawn_blocking(move || (walk(places), in_memory(memory)));
    // Only a shutdown ends it.
    walked.await.unwrap_or_else(|_| Default::default())
}

/// The newest instance of each container.
fn newest(context: &Context, pod: &Pod) -> Vec<ContainerStatus> {
    let uid = pod.metadata.uid.as_str();
    let mut by_name: BTreeMap<String, ContainerStatus> = BTreeMap::new();
    for container in context.options.engine.list_containers() {
        let mine = container.labels.get(POD_UID).map(String::as_str) == Some(uid);
        let newer = by_name
            .get(&container.name)
            .is_none_or(|known| known.attempt < container.attempt);
        if mine && newer {
            by_name.insert(container.name.clone(), container);
        }
    }
    by_name.into_values().collect()
}

type Places = Vec<(String, PathBuf)>;

/// The pod's volumes that lie on the node's disk, and those in memory.
fn places(context: &Context, pod: &Pod) -> (Places, Places) {
    let folder = context.volumes.pod_dir(&pod.metadata.uid).join("volumes");
    let (mut disk, mut memory) = (Vec::new(), Vec::new());
    for volume in &pod.spec.volumes {
        match volume {
            Volume { empty_dir: Some(e), .. } => {
                let at = folder.join("kubernetes.io~empty-dir").join(&volume.name);
                let list = if e.medium == "Memory" { &mut memory } else { &mut disk };
                list.push((volume.name.clone(), at));
            }
            Volume {
                config_map: Some(_), ..
            } => disk.push((
                volume.name.clone(),
                folder.join("kubernetes.io~configmap").join(&volume.name),
            )),
            _ => {}
        }
    }
    (disk, memory)
}

fn walk(places: Places) -> BTreeMap<String, FolderUsage> {
    let one = |(name, path): (String, PathBuf)| Some((name, strata_mount::folder_usage(&path).ok()?));
    places.into_iter().filter_map(one).collect()
}

fn in_memory(places: Places) -> BTreeMap<String, u64> {
    let one = |(name, path): (String, PathBuf)| {
        let mounted = strata_mount::is_mount_point(&path).ok()?;
        Some((name, super::observe::Disk::of(&path).ok().filter(|_| mounted)?.used))
    };
    places.into_iter().filter_map(one).collect()
}
