//! Having a pod's volumes bound before the pod is.

use crate::{
    informers::Informers,
    pod::Pod,
    storage::{Claim, SELECTED_NODE, Volume, VolumePlan},
};
use serde_json::json;
use std::time::Duration;
use strata_client::{
    Client, Informer, Patch,
    resources::{PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES},
};
use strata_meta::ObjectKey;
use tokio::sync::watch;

/// How long the claims of a pod may take to be bound (upstream's bindTimeoutSeconds).
const BIND_TIMEOUT: Duration = Duration::from_secs(600);
/// Set on volumes that were not meant for their claim from the start.
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";

/// Asks for volumes and sees them bound. Cloning is cheap.
#[derive(Clone)]
pub(crate) struct VolumeWriter {
    client: Client,
    claims: Informer<Claim>,
    volumes: Informer<Volume>,
    changes: watch::Receiver<()>,
}

impl VolumeWriter {
    pub fn new(client: Client, informers: &Informers, changes: watch::Receiver<()>) -> Self {
        Self {
            client,
            claims: informers.claims.clone(),
            volumes: informers.volumes.clone(),
            changes,
        }
    }

    /// Carries out a plan and waits until every claim is bound. Err: why the pod has to be
    /// placed again.
    pub async fn carry_out(&self, plan: &VolumePlan, pod: &Pod, node: &str) -> Result<(), String> {
        let work = async {
            for (volume, claim) in &plan.bind {
                self.bind(volume, claim).await?;
            }
            for claim in &plan.provision {
                self.provision(claim, node).await?;
            }
            self.bound(plan, node).await
        };
        match tokio::time::timeout(BIND_TIMEOUT, work).await {
            Ok(done) => done,
            Err(_) => Err(format!(
                "binding volumes of {}: context deadline exceeded",
                pod.object.key
            )),
        }
    }

    async fn bind(&self, volume: &str, claim: &ObjectKey) -> Result<(), String> {
        let gone = |what: &str| format!("{what} is gone");
        let known = self.volumes.get(&ObjectKey::new("", volume));
        let known = known.ok_or_else(|| gone(volume))?;
        let claim = self.claims.get(claim).ok_or_else(|| gone(&claim.to_string()))?;
        let mut metadata = json!({"resourceVersion": known.object.revision.to_string()});
        if !known.is_claimed() {
            metadata["annotations"] = json!({BOUND_BY_CONTROLLER: "yes"});
        }
        let reference = json!({
            "kind": "PersistentVolumeClaim", "apiVersion": "v1", "namespace": &*claim.key.namespace,
            "name": &*claim.key.name, "uid": claim.uid.as_str(), "resourceVersion": claim.revision.to_string(),
        });
        let patch = Patch::Merge(json!({"metadata": metadata, "spec": {"claimRef": reference}}));
        let written = self.client.patch(PERSISTENT_VOLUMES, "", volume, None, patch).await;
        written.map(|_| ()).map_err(|error| error.to_string())
    }

    async fn provision(&self, key: &ObjectKey, node: &str) -> Result<(), String> {
        let claim = self.claims.get(key).ok_or_else(|| format!("{key} is gone"))?;
        if claim.selected_node.as_deref() == Some(node) {
            return Ok(());
        }
        let metadata = json!({
            "resourceVersion": claim.revision.to_string(), "annotations": {SELECTED_NODE: node},
        });
        let patch = Patch::Merge(json!({"metadata": metadata}));
        let written = self
            .client
            .patch(PERSISTENT_VOLUME_CLAIMS, &key.namespace, &key.name, None, patch)
            .await;
        written.map(|_| ()).map_err(|error| error.to_string())
    }

    async fn bound(&self, plan: &VolumePlan, node: &str) -> Result<(), String> {
        let mut changes = self.changes.clone();
        // The annotation is ours, so what is known may be older than it.
        let mut seen = vec![false; plan.provision.len()];
        loop {
            changes.mark_unchanged();
            let mut all = true;
            for (at, key) in plan.provision.iter().enumerate() {
                let claim = self.claims.get(key).ok_or_else(|| format!("{key} is gone"))?;
                let selected = claim.selected_node.as_deref() == Some(node);
                seen[at] |= selected;
                if seen[at] && !selected && !claim.bound {
                    return Err(format!("provisioning failed for PVC {:?}", key.name));
                }
                all &= claim.bound;
            }
            for (_, key) in &plan.bind {
                let claim = self.claims.get(key).ok_or_else(|| format!("{key} is gone"))?;
                all &= claim.bound;
            }
            if all {
                return Ok(());
            }
            let stopped = |_| "the scheduler is stopping".to_owned();
            changes.changed().await.map_err(stopped)?;
        }
    }
}
