//! What is read of claims, volumes and classes, and the words that are protocol between their controllers.

use crate::tracked::Tracked;
use serde::Deserialize;
use std::collections::BTreeMap;
use strata_meta::{LabelSelector, Quantity, Time, Uid};

/// On a claim: its life has gone beyond the first binding.
pub(super) const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// On both: the reference was made here and not by a user.
pub(super) const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// On a claim: where the scheduler wants the volume to be made.
pub(super) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// On a volume: who made it.
pub(super) const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// On a claim: who is asked to make its volume.
pub(super) const PROVISIONERS: [&str; 2] = [
    "volume.beta.kubernetes.io/storage-provisioner",
    "volume.kubernetes.io/storage-provisioner",
];
/// The class, before it was a field.
const CLASS_OF_OLD: &str = "volume.beta.kubernetes.io/storage-class";
const DEFAULT_CLASS: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];

pub(super) type Claim = Tracked<ClaimView>;
pub(super) type Volume = Tracked<VolumeView>;

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Meta {
    pub annotations: BTreeMap<String, String>,
    pub finalizers: Vec<String>,
    pub creation_timestamp: Option<Time>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ClaimView {
    pub metadata: Meta,
    pub spec: ClaimSpec,
    pub status: ClaimStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ClaimSpec {
    pub access_modes: Vec<String>,
    pub volume_name: String,
    pub storage_class_name: Option<String>,
    pub volume_mode: Option<String>,
    pub selector: Option<LabelSelector>,
    pub resources: Resources,
    pub volume_attributes_class_name: Option<String>,
    pub data_source: Option<serde::de::IgnoredAny>,
    pub data_source_ref: Option<serde::de::IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Resources {
    pub requests: BTreeMap<String, Quantity>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ClaimStatus {
    pub phase: String,
    pub access_modes: Vec<String>,
    pub capacity: BTreeMap<String, Quantity>,
    pub current_volume_attributes_class_name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct VolumeView {
    pub metadata: Meta,
    pub spec: VolumeSpec,
    pub status: VolumeStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct VolumeSpec {
    pub capacity: BTreeMap<String, Quantity>,
    pub access_modes: Vec<String>,
    pub claim_ref: Option<ClaimRef>,
    pub persistent_volume_reclaim_policy: String,
    pub storage_class_name: String,
    pub volume_mode: Option<String>,
    pub volume_attributes_class_name: Option<String>,
    pub csi: Option<serde::de::IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ClaimRef {
    pub namespace: String,
    pub name: String,
    /// Empty: reserved for whoever has the name.
    pub uid: Uid,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct VolumeStatus {
    pub phase: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ClassView {
    pub metadata: Meta,
    pub provisioner: String,
    pub volume_binding_mode: String,
    pub reclaim_policy: String,
    pub mount_options: Vec<String>,
    pub parameters: BTreeMap<String, String>,
}

/// The mode that an absent one means.
fn mode(stated: Option<&String>) -> &str {
    stated.map_or("Filesystem", String::as_str)
}

impl ClaimView {
    pub fn has(&self, annotation: &str) -> bool {
        self.metadata.annotations.contains_key(annotation)
    }

    /// Empty: none.
    pub fn class(&self) -> &str {
        let of_old = self.metadata.annotations.get(CLASS_OF_OLD);
        of_old
            .or(self.spec.storage_class_name.as_ref())
            .map_or("", String::as_str)
    }

    /// Whether the user asked for a class, be it for none.
    pub fn has_class(&self) -> bool {
        self.has(CLASS_OF_OLD) || self.spec.storage_class_name.is_some()
    }

    pub fn is_completed(&self) -> bool {
        self.has(BIND_COMPLETED)
    }

    pub fn requested(&self) -> Quantity {
        self.spec.resources.requests.get("storage").copied().unwrap_or_default()
    }

    pub fn mode(&self) -> &str {
        mode(self.spec.volume_mode.as_ref())
    }

    pub fn attributes_class(&self) -> &str {
        self.spec.volume_attributes_class_name.as_deref().unwrap_or_default()
    }
}

impl VolumeView {
    pub fn has(&self, annotation: &str) -> bool {
        self.metadata.annotations.contains_key(annotation)
    }

    /// Empty: none.
    pub fn class(&self) -> &str {
        let of_old = self.metadata.annotations.get(CLASS_OF_OLD);
        of_old.map_or(&self.spec.storage_class_name, |name| name)
    }

    pub fn capacity(&self) -> Quantity {
        self.spec.capacity.get("storage").copied().unwrap_or_default()
    }

    pub fn mode(&self) -> &str {
        mode(self.spec.volume_mode.as_ref())
    }

    pub fn attributes_class(&self) -> &str {
        self.spec.volume_attributes_class_name.as_deref().unwrap_or_default()
    }

    /// Whether it is somebody's else's to delete it.
    pub fn has_external_deleter(&self) -> bool {
        let by = self
            .metadata
            .annotations
            .get(PROVISIONED_BY)
            .filter(|by| !by.is_empty());
        by.map_or(self.spec.csi.is_some(), |by| !by.starts_with("kubernetes.io/"))
    }
}

impl ClassView {
    pub fn waits(&self) -> bool {
        self.volume_binding_mode == "WaitForFirstConsumer"
    }

    pub fn is_default(&self) -> bool {
        let annotations = &self.metadata.annotations;
        let yes = |name: &str| annotations.get(name).is_some_and(|value| value == "true");
        DEFAULT_CLASS.iter().any(|name| yes(name))
    }
}

/// Whether a volume is bound to a claim or reserved for it.
pub(super) fn is_bound_to(volume: &Volume, claim: &Claim) -> bool {
    let Some(reference) = &volume.view.spec.claim_ref else {
        return false;
    };
    let named = reference.name == claim.name() && reference.namespace == claim.namespace();
    named && (reference.uid.is_empty() || reference.uid == claim.uid)
}
