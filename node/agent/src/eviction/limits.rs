//! Pods that hold more on the node's disk than they may (upstream `localStorageEviction`). Pure.

use super::usage::PodUse;
use crate::{pod::Pod, resources};
use strata_meta::Quantity;

const STORAGE: &str = "ephemeral-storage";

/// Whether anything limits what the pod may hold; otherwise nobody need look.
pub fn is_limited(pod: &Pod) -> bool {
    let sized = |volume: &strata_volume::Volume| volume.empty_dir.as_ref().is_some_and(|e| e.size_limit.is_some());
    let limited = |c: &crate::pod::Container| c.resources.limits.contains_key(STORAGE);
    pod.spec.volumes.iter().any(sized) || pod.all_containers().any(limited)
}

/// What a pod is told that holds too much; `apart`: its writable layers lie on the images' own disk.
pub fn violation(pod: &Pod, used: &PodUse, apart: bool) -> Option<String> {
    volume(pod, used)
        .or_else(|| whole(pod, used))
        .or_else(|| container(pod, used, apart))
}

fn exceeds(bytes: u64, limit: Quantity) -> bool {
    i64::try_from(bytes).unwrap_or(i64::MAX) > limit.value()
}

fn volume(pod: &Pod, used: &PodUse) -> Option<String> {
    pod.spec.volumes.iter().find_map(|volume| {
        let limit = volume.empty_dir.as_ref()?.size_limit?;
        let on_disk = used.volumes.get(&volume.name).map(|found| found.bytes);
        let bytes = on_disk.or_else(|| used.in_memory.get(&volume.name).copied())?;
        let over = !limit.is_zero() && exceeds(bytes, limit);
        let name = &volume.name;
        over.then(|| format!("Usage of EmptyDir volume {name:?} exceeds the limit \"{limit}\". "))
    })
}

fn whole(pod: &Pod, used: &PodUse) -> Option<String> {
    let limit = resources::pod_limit(pod, STORAGE)?;
    exceeds(used.disk(true, true).bytes, limit)
        .then(|| format!("Pod ephemeral local storage usage exceeds the total limit of containers {limit}. "))
}

fn container(pod: &Pod, used: &PodUse, apart: bool) -> Option<String> {
    pod.spec.containers.iter().find_map(|container| {
        let limit = container
            .resources
            .limits
            .get(STORAGE)
            .filter(|limit| !limit.is_zero())?;
        let found = used.containers.iter().find(|c| c.name == container.name)?;
        let bytes = found.logs.bytes + if apart { 0 } else { found.rootfs.bytes };
        let name = &container.name;
        exceeds(bytes, *limit)
            .then(|| format!("Container {name} exceeded its local ephemeral storage limit \"{limit}\". "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eviction::usage::ContainerUse;
    use serde_json::json;
    use strata_mount::FolderUsage;

    fn bytes(bytes: u64) -> FolderUsage {
        FolderUsage { bytes, inodes: 1 }
    }

    #[test]
    fn each_limit_has_its_sentence() {
        let limit = json!({"limits": {"ephemeral-storage": "1Ki"}});
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "containers": [{"name": "a", "resources": limit}, {"name": "b", "resources": limit}],
            "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "2Ki"}}, {"name": "w", "emptyDir": {}}],
        }}))
        .expect("a pod");
        assert!(is_limited(&pod));
        let container = |name: &str, rootfs, logs| ContainerUse {
            name: name.into(),
            rootfs: bytes(rootfs),
            logs: bytes(logs),
            ..ContainerUse::default()
        };
        let mut used = PodUse {
            containers: vec![container("a", 1000, 24), container("b", 0, 0)],
            ..PodUse::default()
        };
        used.volumes.insert("v".into(), bytes(1024));
        assert_eq!(violation(&pod, &used, false), None, "the limits themselves are allowed");
        used.volumes.insert("v".into(), bytes(2049));
        let told = violation(&pod, &used, false);
        assert_eq!(
            told.as_deref(),
            Some("Usage of EmptyDir volume \"v\" exceeds the limit \"2Ki\". ")
        );
        used.volumes.insert("v".into(), bytes(0));
        used.volumes.insert("w".into(), bytes(1025));
        let told = violation(&pod, &used, false);
        let expected = "Pod ephemeral local storage usage exceeds the total limit of containers 2Ki. ";
        assert_eq!(told.as_deref(), Some(expected));
        used.volumes.clear();
        used.containers[0].logs = bytes(25);
        let told = violation(&pod, &used, false);
        let expected = "Container a exceeded its local ephemeral storage limit \"1Ki\". ";
        assert_eq!(told.as_deref(), Some(expected));
        assert_eq!(violation(&pod, &used, true), None, "its layer is on another disk");
    }
}
