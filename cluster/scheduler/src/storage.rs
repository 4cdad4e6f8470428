//! Claims, volumes and what drivers say of nodes, as far as placement reads them.

use crate::{affinity::selector, body};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};
use strata_meta::{
    Object, ObjectError, ObjectKey, Quantity, Revision, Selector, Uid, placement::NodeSelector, selector::LabelSelector,
};

const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// Tells provisioners where the pod will be.
pub(crate) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

/// Everything of storage that placement knows.
#[derive(Default)]
pub(crate) struct Storage {
    pub claims: HashMap<ObjectKey, Arc<Claim>>,
    volumes: HashMap<Arc<str>, Arc<Volume>>,
    by_class: HashMap<Box<str>, HashSet<Arc<str>>>,
    pub classes: HashMap<Arc<str>, Arc<Class>>,
    pub drivers: HashMap<Arc<str>, Arc<Driver>>,
    pub nodes: HashMap<Arc<str>, Arc<CsiNode>>,
    pub capacities: HashMap<ObjectKey, Arc<Capacity>>,
    attachments: HashMap<Arc<str>, Arc<Attachment>>,
    /// Volumes that were chosen for claims, until the API tells.
    chosen: HashMap<Arc<str>, ObjectKey>,
    /// Claims that are to be provisioned for a node, until the API tells.
    provisioning: HashMap<ObjectKey, Arc<str>>,
}

impl Storage {
    pub fn claim(&self, key: &ObjectKey) -> Option<&Arc<Claim>> {
        self.claims.get(key)
    }

    pub fn volume(&self, name: &str) -> Option<&Arc<Volume>> {
        self.volumes.get(name)
    }

    pub fn set_volume(&mut self, name: &Arc<str>, volume: Option<Arc<Volume>>) {
        if let Some(old) = self.volumes.remove(name)
            && let Some(names) = self.by_class.get_mut(&old.class)
        {
            names.remove(name);
            if names.is_empty() {
                self.by_class.remove(&old.class);
            }
        }
        if let Some(volume) = volume {
            self.by_class
                .entry(volume.class.clone())
                .or_default()
                .insert(name.clone());
            self.volumes.insert(name.clone(), volume);
        }
    }

    pub fn set_attachment(&mut self, name: &Arc<str>, attachment: Option<Arc<Attachment>>) {
        match attachment {
            Some(attachment) => self.attachments.insert(name.clone(), attachment),
            None => self.attachments.remove(name),
        };
    }

    /// The volumes of a class.
    pub fn of_class(&self, class: &str) -> impl Iterator<Item = &Arc<Volume>> {
        let names = self.by_class.get(class).into_iter().flatten();
        names.filter_map(|name| self.volumes.get(name))
    }

    /// Volumes that are attached to a node, with their drivers.
    pub fn attached<'a>(&'a self, node: &'a str) -> impl Iterator<Item = (&'a str, &'a Arc<Volume>)> {
        let here = self
            .attachments
            .values()
            .filter(move |attachment| attachment.node == node);
        here.filter_map(|attachment| Some((&*attachment.driver, self.volumes.get(&*attachment.volume)?)))
    }

    /// Whether a volume is free for a claim, or the claim's already.
    pub fn is_free_for(&self, volume: &Volume, claim: &Claim) -> bool {
        let chosen_for_another = self
            .chosen
            .get(volume.name())
            .is_some_and(|chosen| *chosen != claim.key);
        !chosen_for_another && (volume.claim.is_none() || volume.is_bound_to(claim))
    }

    /// Whether a volume was meant for the claim before this pod came.
    pub fn is_meant_for(&self, volume: &Volume, claim: &Claim) -> bool {
        volume.is_bound_to(claim) || self.chosen.get(volume.name()) == Some(&claim.key)
    }

    /// Where a claim is being provisioned.
    pub fn selected_node<'a>(&'a self, claim: &'a Claim) -> Option<&'a str> {
        let ours = self.provisioning.get(&claim.key).map(|node| &**node);
        ours.or(claim.selected_node.as_deref())
    }

    /// Takes a decision for made until [`Storage::revert`].
    pub fn assume(&mut self, plan: &VolumePlan, node: &Arc<str>) {
        for (volume, claim) in &plan.bind {
            self.chosen.insert(volume.clone(), claim.clone());
        }
        for claim in &plan.provision {
            self.provisioning.insert(claim.clone(), node.clone());
        }
    }

    /// The decision was carried out, and the API tells of it by now, or it failed.
    pub fn revert(&mut self, plan: &VolumePlan) {
        for (volume, claim) in &plan.bind {
            if self.chosen.get(volume) == Some(claim) {
                self.chosen.remove(volume);
            }
        }
        for claim in &plan.provision {
            self.provisioning.remove(claim);
        }
    }
}

/// What has to be done about a pod's volumes before it can be bound to its node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct VolumePlan {
    /// Volumes to bind to claims.
    pub bind: Vec<(Arc<str>, ObjectKey)>,
    /// Claims to provision for the node.
    pub provision: Vec<ObjectKey>,
}

impl VolumePlan {
    pub fn is_empty(&self) -> bool {
        self.bind.is_empty() && self.provision.is_empty()
    }
}

/// What is read of a PersistentVolumeClaim.
#[derive(Debug)]
pub(crate) struct Claim {
    pub key: ObjectKey,
    pub uid: Uid,
    pub revision: Revision,
    /// Empty while it has none.
    pub volume: Box<str>,
    /// Whether both sides know of each other.
    pub bound: bool,
    pub class: Box<str>,
    pub lost: bool,
    pub deleting: bool,
    pub selected_node: Option<Box<str>>,
    pub access_modes: Vec<String>,
    block: bool,
    /// Bytes; absent if it does not say.
    pub size: Option<i64>,
    selector: Option<Selector>,
    attributes_class: String,
    owner: Option<Uid>,
}

impl Claim {
    pub fn read(object: &Arc<Object>) -> Result<Self, ObjectError> {
        let RawClaim { metadata, spec, status } = body::read(object)?;
        let annotation = |key: &str| metadata.annotations.get(key).map(String::as_str);
        Ok(Self {
            key: object.key.clone(),
            uid: object.uid.clone(),
            revision: object.revision,
            bound: !spec.volume_name.is_empty() && annotation(BIND_COMPLETED).is_some(),
            volume: spec.volume_name.into(),
            class: annotation(BETA_CLASS).unwrap_or(&spec.storage_class_name).into(),
            lost: status.phase == "Lost",
            deleting: object.deleting,
            selected_node: annotation(SELECTED_NODE).map(Box::from),
            access_modes: spec.access_modes,
            block: spec.volume_mode == "Block",
            size: spec.resources.requests.get("storage").map(Quantity::value),
            selector: spec.selector.as_ref().map(selector).transpose()?,
            attributes_class: spec.volume_attributes_class_name,
            owner: object.controller().map(|owner| owner.uid.clone()),
        })
    }

    /// Whether it was made for a pod.
    pub fn is_owned_by(&self, pod: &Uid) -> bool {
        self.owner.as_ref() == Some(pod)
    }

    pub fn is_for_one_pod(&self) -> bool {
        self.access_modes.iter().any(|mode| mode == "ReadWriteOncePod")
    }
}

/// What is read of a PersistentVolume.
#[derive(Debug)]
pub(crate) struct Volume {
    pub object: Arc<Object>,
    pub class: Box<str>,
    /// Bytes.
    pub size: i64,
    access_modes: Vec<String>,
    block: bool,
    claim: Option<RawReference>,
    affinity: Option<NodeSelector>,
    available: bool,
    attributes_class: String,
    /// Driver and handle.
    pub csi: Option<(Box<str>, Box<str>)>,
}

impl Volume {
    pub fn read(object: &Arc<Object>) -> Result<Self, ObjectError> {
        let RawVolume { metadata, spec, status } = body::read(object)?;
        let class = metadata.annotations.get(BETA_CLASS).unwrap_or(&spec.storage_class_name);
        Ok(Self {
            object: object.clone(),
            class: class.as_str().into(),
            size: spec.capacity.get("storage").map_or(0, Quantity::value),
            access_modes: spec.access_modes,
            block: spec.volume_mode == "Block",
            claim: spec.claim_ref,
            affinity: spec.node_affinity.and_then(|affinity| affinity.required),
            available: status.phase == "Available",
            attributes_class: spec.volume_attributes_class_name,
            csi: spec.csi.map(|csi| (csi.driver.into(), csi.volume_handle.into())),
        })
    }

    pub fn name(&self) -> &Arc<str> {
        &self.object.key.name
    }

    /// Whether it is meant for some claim.
    pub fn is_claimed(&self) -> bool {
        self.claim.is_some()
    }

    fn is_bound_to(&self, claim: &Claim) -> bool {
        self.claim.as_ref().is_some_and(|held| {
            held.name == *claim.key.name
                && held.namespace == *claim.key.namespace
                && (held.uid.is_empty() || held.uid == claim.uid.as_str())
        })
    }

    /// Whether a node can mount it.
    pub fn reaches(&self, node: &Object) -> bool {
        self.affinity.as_ref().is_none_or(|affinity| affinity.matches(node))
    }

    /// Whether it has what every volume of the claim needs, bound or not.
    pub fn suits(&self, claim: &Claim) -> bool {
        self.size >= claim.size.unwrap_or(0)
            && self.block == claim.block
            && self.attributes_class == claim.attributes_class
            && !self.object.deleting
    }

    /// Whether it may be chosen for a claim that knows none yet.
    pub fn may_be_chosen(&self, claim: &Claim) -> bool {
        self.available
            && claim
                .selector
                .as_ref()
                .is_none_or(|selector| selector.matches_object(&self.object))
            && self.class == claim.class
            && claim.access_modes.iter().all(|mode| self.access_modes.contains(mode))
    }
}

/// What is read of a StorageClass.
#[derive(Debug)]
pub(crate) struct Class {
    /// Empty if volumes of it are not provisioned.
    pub provisioner: Box<str>,
    /// Whether claims wait for their first pod.
    pub delayed: bool,
    topologies: Vec<RawTopology>,
}

impl Class {
    pub fn read(object: &Arc<Object>) -> Result<Self, ObjectError> {
        let raw: RawClass = body::read(object)?;
        let none = raw.provisioner == "kubernetes.io/no-provisioner";
        Ok(Self {
            provisioner: if none { "".into() } else { raw.provisioner.into() },
            delayed: raw.volume_binding_mode == "WaitForFirstConsumer",
            topologies: raw.allowed_topologies,
        })
    }

    /// Whether volumes can be made for a node.
    pub fn reaches(&self, node: &Object) -> bool {
        let holds = |term: &RawTopology| {
            let mut all = term.match_label_expressions.iter();
            !term.match_label_expressions.is_empty()
                && all.all(|one| {
                    node.label(&one.key)
                        .is_some_and(|value| one.values.iter().any(|allowed| allowed == value))
                })
        };
        self.topologies.is_empty() || self.topologies.iter().any(holds)
    }
}

/// What is read of a CSIDriver.
#[derive(Debug)]
pub(crate) struct Driver {
    /// Whether it tells how much room there is.
    pub tells_capacity: bool,
}

impl Driver {
    pub fn read(object: &Arc<Object>) -> Result<Self, ObjectError> {
        let raw: RawDriver = body::read(object)?;
        Ok(Self {
            tells_capacity: raw.spec.storage_capacity,
        })
    }
}

/// What is read of a CSINode: how many volumes of each driver it takes.
#[derive(Debug)]
pub(crate) struct CsiNode {
    pub limits: HashMap<String, i64>,
}

impl CsiNode {
    pub fn read(object: &Arc<Object>) -> Result<Self, ObjectError> {
        let raw: RawCsiNode = body::read(object)?;
        let drivers = raw.spec.drivers.into_iter();
        let limits = drivers.filter_map(|driver| Some((driver.name, driver.allocatable?.count?)));
        Ok(Self {
            limits: limits.collect(),
        })
    }
}

/// What is read of a CSIStorageCapacity.
#[derive(Debug)]
pub(crate) struct Capacity {
    class: String,
    /// Bytes of the largest volume that can be made.
    largest: Option<i64>,
    /// Absent means no node.
    nodes: Option<Selector>,
}

impl Capacity {
    pub fn read(object: &Arc<Object>) -> Result<Self, ObjectError> {
        let raw: RawCapacity = body::read(object)?;
        let largest = raw.maximum_volume_size.or(raw.capacity);
        Ok(Self {
            class: raw.storage_class_name,
            largest: largest.as_ref().map(Quantity::value),
            nodes: raw.node_topology.as_ref().map(selector).transpose()?,
        })
    }

    /// Whether a volume of a class and of so many bytes can be made for a node.
    pub fn suffices(&self, class: &str, size: i64, node: &Object) -> bool {
        self.class == class
            && self.largest.is_some_and(|largest| largest >= size)
            && self.nodes.as_ref().is_some_and(|nodes| nodes.matches_object(node))
    }
}

/// What is read of a VolumeAttachment.
#[derive(Debug)]
pub(crate) struct Attachment {
    driver: Box<str>,
    node: String,
    volume: Box<str>,
}

impl Attachment {
    pub fn read(object: &Arc<Object>) -> Result<Self, ObjectError> {
        let raw: RawAttachment = body::read(object)?;
        Ok(Self {
            driver: raw.spec.attacher.into(),
            node: raw.spec.node_name,
            volume: raw.spec.source.persistent_volume_name.into(),
        })
    }
}

type Amounts = BTreeMap<String, Quantity>;

#[derive(Deserialize)]
struct RawClaim {
    metadata: RawMetadata,
    #[serde(default)]
    spec: RawClaimSpec,
    #[serde(default)]
    status: RawPhase,
}

#[derive(Deserialize)]
struct RawMetadata {
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawClaimSpec {
    volume_name: String,
    storage_class_name: String,
    access_modes: Vec<String>,
    volume_mode: String,
    resources: RawRequests,
    selector: Option<LabelSelector>,
    volume_attributes_class_name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawRequests {
    requests: Amounts,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawPhase {
    phase: String,
}

#[derive(Deserialize)]
struct RawVolume {
    metadata: RawMetadata,
    #[serde(default)]
    spec: RawVolumeSpec,
    #[serde(default)]
    status: RawPhase,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawVolumeSpec {
    capacity: Amounts,
    storage_class_name: String,
    access_modes: Vec<String>,
    volume_mode: String,
    claim_ref: Option<RawReference>,
    node_affinity: Option<RawVolumeAffinity>,
    volume_attributes_class_name: String,
    csi: Option<RawCsi>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawReference {
    namespace: String,
    name: String,
    uid: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawVolumeAffinity {
    required: Option<NodeSelector>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawCsi {
    driver: String,
    volume_handle: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawClass {
    provisioner: String,
    volume_binding_mode: String,
    allowed_topologies: Vec<RawTopology>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawTopology {
    match_label_expressions: Vec<RawTopologyLabel>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawTopologyLabel {
    key: String,
    values: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawDriver {
    spec: RawDriverSpec,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawDriverSpec {
    storage_capacity: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawCsiNode {
    spec: RawCsiNodeSpec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawCsiNodeSpec {
    drivers: Vec<RawNodeDriver>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawNodeDriver {
    name: String,
    allocatable: Option<RawCount>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawCount {
    count: Option<i64>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawCapacity {
    storage_class_name: String,
    node_topology: Option<LabelSelector>,
    capacity: Option<Quantity>,
    maximum_volume_size: Option<Quantity>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawAttachment {
    spec: RawAttachmentSpec,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawAttachmentSpec {
    attacher: String,
    node_name: String,
    source: RawSource,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawSource {
    persistent_volume_name: String,
}
