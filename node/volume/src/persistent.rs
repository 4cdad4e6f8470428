//! Volumes that outlive pods: what a pod's claim is bound to, as far as it lies on this node.
//!
//! A claim is looked at once a pod. The scheduler waits for its binding, so one that is not bound is an error here, and
//! tried again.

use crate::{
    HostPath, Volume, VolumeError, VolumePod,
    manager::{VolumeManager, blocking, host_path},
    ownership::give_to_group,
};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use strata_client::resources::{NODES, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES};
use strata_meta::{ObjectMeta, Uid, placement::NodeSelector};

/// What a claim stands for on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Persistent {
    /// Where it lies.
    pub path: PathBuf,
    /// Whether no container may write it.
    pub read_only: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Claim {
    metadata: ObjectMeta,
    spec: ClaimSpec,
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ClaimSpec {
    volume_name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    phase: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PersistentVolume {
    metadata: ObjectMeta,
    spec: Spec,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    claim_ref: Option<ClaimRef>,
    volume_mode: Option<String>,
    node_affinity: Affinity,
    host_path: Option<HostPath>,
    local: Option<Local>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ClaimRef {
    uid: Uid,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Affinity {
    required: Option<NodeSelector>,
}

/// core/v1 LocalVolumeSource.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Local {
    path: String,
}

/// The claim that a pod's volume names, and whether it is to be read only.
fn named(pod: &dyn VolumePod, volume: &Volume) -> Option<(String, bool)> {
    match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(source), _) => Some((source.claim_name.clone(), source.read_only)),
        (None, Some(_)) => Some((format!("{}-{}", pod.name(), volume.name), false)),
        (None, None) => None,
    }
}

impl VolumeManager {
    /// What the claim of a pod's volume is bound to; `None` for volumes of other kinds.
    pub(crate) async fn persistent(
        &self,
        pod: &dyn VolumePod,
        volume: &Volume,
    ) -> Result<Option<Persistent>, VolumeError> {
        let Some((claim, read_only)) = named(pod, volume) else {
            return Ok(None);
        };
        let key = (pod.uid().clone(), volume.name.clone());
        if let Some(known) = self.claimed().get(&key) {
            return Ok(Some(known.clone()));
        }
        let found = self.bound(pod, volume, &claim).await?;
        self.check_node(pod, &found).await?;
        let path = self.provide(pod, &found, read_only).await?;
        let provided = Persistent { path, read_only };
        self.claimed().insert(key, provided.clone());
        Ok(Some(provided))
    }

    /// The volume that a claim is bound to.
    async fn bound(&self, pod: &dyn VolumePod, volume: &Volume, name: &str) -> Result<PersistentVolume, VolumeError> {
        let namespace = pod.namespace();
        let refused = |why: String| VolumeError::Claim {
            claim: format!("{namespace}/{name}"),
            why,
        };
        let claim = self.client().get(PERSISTENT_VOLUME_CLAIMS, namespace, name).await;
        let claim: Claim = claim
            .map_err(|e| refused(format!("failed to fetch PVC from API server: {e}")))?
            .decode()?;
        let own = |meta: &ObjectMeta| meta.controller().is_some_and(|owner| owner.uid == *pod.uid());
        if volume.ephemeral.is_some() && !own(&claim.metadata) {
            let why = format!(
                "PVC {namespace}/{name} was not created for pod {namespace}/{} (pod is not owner)",
                pod.name()
            );
            return Err(refused(why));
        }
        if claim.metadata.deletion_timestamp.is_some() {
            return Err(refused("PVC is being deleted".to_owned()));
        }
        if claim.status.phase != "Bound" || claim.spec.volume_name.is_empty() {
            return Err(refused("PVC is not bound".to_owned()));
        }
        let wanted = &claim.spec.volume_name;
        let found = self.client().get(PERSISTENT_VOLUMES, "", wanted).await;
        let found: PersistentVolume = found
            .map_err(|e| refused(format!("failed to fetch PV {wanted} from API server: {e}")))?
            .decode()?;
        match &found.spec.claim_ref {
            Some(reference) if reference.uid == claim.metadata.uid => Ok(found),
            _ => Err(refused(format!(
                "PV {wanted} is not bound to PVC UID {}",
                claim.metadata.uid
            ))),
        }
    }

    /// A volume of another node is not taken for one that has the same path here.
    async fn check_node(&self, pod: &dyn VolumePod, volume: &PersistentVolume) -> Result<(), VolumeError> {
        let Some(required) = &volume.spec.node_affinity.required else {
            return Ok(());
        };
        let node = self.client().get(NODES, "", pod.node_name()).await?;
        if required.matches(&node) {
            return Ok(());
        }
        Err(VolumeError::Persistent(format!(
            "storage node affinity check failed for volume {:?} : no matching NodeSelectorTerms",
            volume.metadata.name
        )))
    }

    async fn provide(
        &self,
        pod: &dyn VolumePod,
        volume: &PersistentVolume,
        read_only: bool,
    ) -> Result<PathBuf, VolumeError> {
        let (name, spec) = (&volume.metadata.name, &volume.spec);
        if spec.volume_mode.as_deref() == Some("Block") {
            return Err(VolumeError::Persistent(format!(
                "volume {name:?} has volumeMode Block, which is not supported"
            )));
        }
        if let Some(source) = spec.host_path.clone() {
            return blocking(move || host_path(&source)).await;
        }
        let Some(local) = &spec.local else {
            return Err(VolumeError::Persistent(format!(
                "no volume plugin matched for volume {name:?}"
            )));
        };
        let (path, group) = (PathBuf::from(&local.path), pod.fs_group());
        let if_root_differs = pod.fs_group_on_root_mismatch();
        blocking(move || {
            let is = std::fs::metadata(&path).map_err(VolumeError::io("looking at local volume", &path))?;
            if !is.is_dir() {
                return Err(VolumeError::Persistent(format!(
                    "local volume {} is not a directory, which alone is supported",
                    path.display()
                )));
            }
            if let Some(group) = group.filter(|_| !read_only) {
                give(&path, group, if_root_differs)?;
            }
            Ok(path)
        })
        .await
    }
}

fn give(path: &Path, group: u32, if_root_differs: bool) -> Result<(), VolumeError> {
    give_to_group(path, group, if_root_differs).map_err(VolumeError::io("giving to the pod's group", path))
}
