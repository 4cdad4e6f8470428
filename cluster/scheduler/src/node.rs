//! What placement reads of a node.

use crate::{
    body,
    pod::normalized_image,
    resources::{ResourceList, Resources},
};
use serde::Deserialize;
use std::sync::Arc;
use strata_meta::{Object, ObjectError, placement::Taint};

/// A node as the scheduler keeps it.
#[derive(Debug)]
pub struct Node {
    /// The whole, for its name and labels.
    pub object: Arc<Object>,
    pub(crate) taints: Vec<Taint>,
    pub(crate) unschedulable: bool,
    pub(crate) allocatable: Resources,
    /// Names and sizes in bytes, sorted by name.
    pub(crate) images: Vec<(Box<str>, i64)>,
    /// What it says it can do.
    pub(crate) features: Vec<String>,
}

impl Node {
    /// Reads a node.
    pub fn read(object: &Arc<Object>) -> Result<Self, ObjectError> {
        let RawNode { spec, status } = body::read(object)?;
        let allocatable = if status.allocatable.is_empty() {
            &status.capacity
        } else {
            &status.allocatable
        };
        let mut images: Vec<_> = status
            .images
            .into_iter()
            .flat_map(|image| {
                image
                    .names
                    .into_iter()
                    .map(move |name| (normalized_image(&name), image.size_bytes))
            })
            .collect();
        images.sort_unstable();
        Ok(Self {
            object: object.clone(),
            taints: spec.taints,
            unschedulable: spec.unschedulable,
            allocatable: Resources::from_list(allocatable),
            images,
            features: status.declared_features,
        })
    }

    pub(crate) fn image_size(&self, name: &str) -> Option<i64> {
        let at = self.images.binary_search_by(|(held, _)| held.as_ref().cmp(name)).ok()?;
        Some(self.images[at].1)
    }

    /// Whether an update could change what fits on the node; heartbeats do not.
    pub(crate) fn differs(&self, other: &Self) -> bool {
        self.object.labels != other.object.labels
            || self.taints != other.taints
            || self.unschedulable != other.unschedulable
            || self.allocatable != other.allocatable
            || self.features != other.features
    }
}

#[derive(Deserialize)]
struct RawNode {
    #[serde(default)]
    spec: RawSpec,
    #[serde(default)]
    status: RawStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawSpec {
    taints: Vec<Taint>,
    unschedulable: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawStatus {
    allocatable: ResourceList,
    capacity: ResourceList,
    images: Vec<RawImage>,
    declared_features: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawImage {
    names: Vec<String>,
    size_bytes: i64,
}
