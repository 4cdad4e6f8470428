//! Does what was decided: the writes of a binding, in their order.

use super::{
    Binder, claims, tracked,
    types::{BIND_COMPLETED, BOUND_BY_CONTROLLER, Claim, ClaimView, PROVISIONERS, Volume, VolumeView, is_bound_to},
    volumes::{self, Reclaim},
};
use crate::{Error, error::During, tracked::value};
use serde_json::{Value, json};
use std::sync::Arc;
use strata_client::{
    EventType,
    resources::{PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES},
};
use strata_meta::ObjectKey;

impl Binder {
    pub(super) async fn claim(&self, claim: &Arc<Claim>) -> Result<(), Error> {
        match claims::decide(claim, &self.known(claim)) {
            claims::Step::Bind(volume) => self.bind(&volume, claim).await,
            claims::Step::Wait(said) => {
                if let Some((is_warning, (reason, message))) = said {
                    let kind = if is_warning {
                        EventType::Warning
                    } else {
                        EventType::Normal
                    };
                    self.tell(claim, kind, reason, message);
                }
                self.claim_status(claim, "Pending", None).await.map(drop)
            }
            claims::Step::Misbound((reason, message), why) => {
                self.tell(claim, EventType::Warning, reason, message);
                Err(Error::Incomplete(why))
            }
            claims::Step::Lost((reason, message)) => {
                if claim.view.status.phase != "Lost" {
                    let claim = self.claim_status(claim, "Lost", None).await?;
                    self.tell(&claim, EventType::Warning, reason, message);
                }
                Ok(())
            }
            claims::Step::Class(name) => {
                let mut wanted = value(claim)?;
                wanted["spec"]["storageClassName"] = json!(name);
                self.write_claim(claim, "", &wanted).await.map(drop)
            }
            claims::Step::Provision(provisioner) => self.provision(claim, &provisioner).await,
            claims::Step::CannotProvision(why) => {
                self.tell(claim, EventType::Warning, "ProvisioningFailed", why);
                Ok(())
            }
        }
    }

    /// Asks whoever provisions for the class.
    async fn provision(&self, claim: &Arc<Claim>, provisioner: &str) -> Result<(), Error> {
        let told = claim.view.metadata.annotations.get(PROVISIONERS[1]);
        let mut claim = claim.clone();
        if told.is_none_or(|told| told != provisioner) {
            let mut wanted = value(&claim)?;
            for name in PROVISIONERS {
                wanted["metadata"]["annotations"][name] = json!(provisioner);
            }
            claim = self.write_claim(&claim, "", &wanted).await?;
        }
        let message = format!(
            "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the \
             system administrator. If volume creation is delayed, please verify that the provisioner is running and \
             correctly registered."
        );
        self.tell(&claim, EventType::Normal, "ExternalProvisioning", message);
        Ok(())
    }

    pub(super) async fn volume(&self, volume: &Arc<Volume>) -> Result<(), Error> {
        let claim = self.claim_of(volume).await?;
        match volumes::decide(volume, claim.as_deref()) {
            volumes::Step::Available => self.volume_phase(volume, "Available", "").await.map(drop),
            volumes::Step::Bound => self.volume_phase(volume, "Bound", "").await.map(drop),
            volumes::Step::Unbind => self.unbind(volume).await,
            volumes::Step::Release => self.release(volume).await,
            volumes::Step::LeaveToClaim => {
                if let Some(claim) = claim {
                    self.queue.add(super::Work::Claim(claim.key.clone()));
                }
                Ok(())
            }
            volumes::Step::WrongMode => {
                if let Some(claim) = claim {
                    let message = format!(
                        "Cannot bind PersistentVolume to requested PersistentVolumeClaim {:?} due to incompatible volumeMode.",
                        claim.name()
                    );
                    self.tell(volume, EventType::Warning, "VolumeMismatch", message);
                    let message = format!(
                        "Cannot bind PersistentVolume {:?} to requested PersistentVolumeClaim due to incompatible volumeMode.",
                        volume.name()
                    );
                    self.tell(&claim, EventType::Warning, "VolumeMismatch", message);
                }
                Ok(())
            }
        }
    }

    /// Whatever has the name that a volume refers to. Before a volume is released the server is asked: the cache may
    /// not show yet whom somebody else has bound the volume to.
    async fn claim_of(&self, volume: &Volume) -> Result<Option<Arc<Claim>>, Error> {
        let Some(reference) = &volume.view.spec.claim_ref else {
            return Ok(None);
        };
        if reference.uid.is_empty() {
            return Ok(None);
        }
        let known = self.claims.get(&ObjectKey::new(&reference.namespace, &reference.name));
        if known.as_ref().is_some_and(|claim| claim.uid == reference.uid) {
            return Ok(known);
        }
        if matches!(volume.view.status.phase.as_str(), "Released" | "Failed") {
            return Ok(None);
        }
        let asked = self
            .client
            .get(PERSISTENT_VOLUME_CLAIMS, &reference.namespace, &reference.name);
        match asked.await {
            Ok(claim) => Ok(Some(Arc::new(tracked::<ClaimView>(claim)?))),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error).during(|| format!("reading the claim of volume {}", volume.name())),
        }
    }

    async fn release(&self, volume: &Arc<Volume>) -> Result<(), Error> {
        let mut volume = volume.clone();
        if !matches!(volume.view.status.phase.as_str(), "Released" | "Failed") {
            volume = self.volume_phase(&volume, "Released", "").await?;
        }
        match volumes::reclaim(&volume) {
            Reclaim::Nothing => Ok(()),
            Reclaim::Failed(reason, why) => {
                if volume.view.status.phase != "Failed" {
                    let volume = self.volume_phase(&volume, "Failed", &why).await?;
                    self.tell(&volume, EventType::Warning, reason, why);
                }
                Ok(())
            }
        }
    }

    /// Takes back a binding that the claim does not return.
    async fn unbind(&self, volume: &Arc<Volume>) -> Result<(), Error> {
        let mut wanted = value(volume)?;
        if volumes::is_ours(volume) {
            remove(&mut wanted["spec"], "claimRef");
            remove(&mut wanted["metadata"]["annotations"], BOUND_BY_CONTROLLER);
        } else {
            remove(&mut wanted["spec"]["claimRef"], "uid");
        }
        let volume = self.write_volume(volume, "", &wanted).await?;
        self.volume_phase(&volume, "Available", "").await.map(drop)
    }

    /// Writes whatever of a binding is not there yet.
    async fn bind(&self, volume: &Arc<Volume>, claim: &Arc<Claim>) -> Result<(), Error> {
        let volume = self.bind_volume(volume, claim).await?;
        let volume = self.volume_phase(&volume, "Bound", "").await?;
        let claim = self.bind_claim(claim, volume.name()).await?;
        self.claim_status(&claim, "Bound", Some(&volume)).await.map(drop)
    }

    async fn bind_volume(&self, volume: &Arc<Volume>, claim: &Arc<Claim>) -> Result<Arc<Volume>, Error> {
        let reference = volume.view.spec.claim_ref.as_ref();
        let same = |r: &super::types::ClaimRef| {
            r.uid == claim.uid && r.name == claim.name() && r.namespace == claim.namespace()
        };
        let ours = !is_bound_to(volume, claim);
        if reference.is_some_and(same) && !ours {
            return Ok(volume.clone());
        }
        let mut wanted = value(volume)?;
        wanted["spec"]["claimRef"] = json!({"kind": "PersistentVolumeClaim", "apiVersion": "v1",
            "namespace": claim.namespace(), "name": claim.name(), "uid": claim.uid,
            "resourceVersion": claim.revision.to_string()});
        if ours {
            wanted["metadata"]["annotations"][BOUND_BY_CONTROLLER] = json!("yes");
        }
        self.write_volume(volume, "", &wanted).await
    }

    async fn bind_claim(&self, claim: &Arc<Claim>, volume: &str) -> Result<Arc<Claim>, Error> {
        let named = claim.view.spec.volume_name == volume;
        if named && claim.view.is_completed() {
            return Ok(claim.clone());
        }
        let mut wanted = value(claim)?;
        if !named {
            wanted["spec"]["volumeName"] = json!(volume);
            wanted["metadata"]["annotations"][BOUND_BY_CONTROLLER] = json!("yes");
        }
        wanted["metadata"]["annotations"][BIND_COMPLETED] = json!("yes");
        self.write_claim(claim, "", &wanted).await
    }

    /// Writes phase, modes and size of a claim where they are not so yet.
    async fn claim_status(
        &self,
        claim: &Arc<Claim>,
        phase: &str,
        volume: Option<&Volume>,
    ) -> Result<Arc<Claim>, Error> {
        let mut wanted = value(claim)?;
        let before = wanted["status"].clone();
        let (is, status) = (&claim.view.status, &mut wanted["status"]);
        status["phase"] = json!(phase);
        match volume {
            None => {
                for name in ["accessModes", "capacity", "currentVolumeAttributesClassName"] {
                    remove(status, name);
                }
            }
            Some(volume) => {
                let spec = &volume.view.spec;
                if is.access_modes != spec.access_modes {
                    status["accessModes"] = json!(spec.access_modes);
                }
                // Later the size is that of the file system, which may be behind.
                if is.phase != phase && is.capacity.get("storage") != spec.capacity.get("storage") {
                    status["capacity"] = json!(spec.capacity);
                }
                let class = &spec.volume_attributes_class_name;
                if is.phase == "Pending" && *class != is.current_volume_attributes_class_name {
                    status["currentVolumeAttributesClassName"] = json!(class);
                }
            }
        }
        if *status == before {
            return Ok(claim.clone());
        }
        self.write_claim(claim, "status", &wanted).await
    }

    async fn volume_phase(&self, volume: &Arc<Volume>, phase: &str, message: &str) -> Result<Arc<Volume>, Error> {
        if volume.view.status.phase == phase {
            return Ok(volume.clone());
        }
        let mut wanted = value(volume)?;
        wanted["status"]["phase"] = json!(phase);
        match message {
            "" => remove(&mut wanted["status"], "message"),
            message => wanted["status"]["message"] = json!(message),
        }
        self.write_volume(volume, "status", &wanted).await
    }

    async fn write_claim(&self, claim: &Claim, part: &str, wanted: &Value) -> Result<Arc<Claim>, Error> {
        let (resource, key) = (PERSISTENT_VOLUME_CLAIMS, &claim.key);
        let written = self
            .client
            .update_subresource(resource, &key.namespace, &key.name, part, wanted);
        let written = written.await.during(|| format!("writing claim {key}"))?;
        Ok(self.claims.wrote(tracked::<ClaimView>(written)?))
    }

    async fn write_volume(&self, volume: &Volume, part: &str, wanted: &Value) -> Result<Arc<Volume>, Error> {
        let name = volume.name();
        let written = self
            .client
            .update_subresource(PERSISTENT_VOLUMES, "", name, part, wanted);
        let written = written.await.during(|| format!("writing volume {name}"))?;
        Ok(self.volumes.wrote(tracked::<VolumeView>(written)?))
    }
}

fn remove(from: &mut Value, name: &str) {
    if let Some(members) = from.as_object_mut() {
        members.remove(name);
    }
}
