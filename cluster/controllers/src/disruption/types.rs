//! What is read of a disruption budget, and the status that is written.

use crate::tracked::Tracked;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use strata_meta::{IntOrString, LabelSelector, Object, Selector, Time};

pub(super) type Budget = Tracked<View>;

/// policy/v1 PodDisruptionBudget.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "Wire")]
pub(super) struct View {
    pub generation: i64,
    pub spec: Spec,
    pub status: Status,
    /// Of `spec.selector`; a budget without one selects nothing.
    selector: Option<Selector>,
}

impl View {
    pub fn selects(&self, pod: &Object) -> bool {
        self.selector
            .as_ref()
            .is_some_and(|selector| selector.matches_object(pod))
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Wire {
    metadata: Meta,
    spec: Spec,
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Meta {
    generation: i64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Spec {
    pub min_available: Option<IntOrString>,
    pub max_unavailable: Option<IntOrString>,
    pub selector: Option<LabelSelector>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Status {
    #[serde(skip_serializing_if = "crate::views::is_default")]
    pub observed_generation: i64,
    /// When each of the pods was evicted that are expected to go.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub disrupted_pods: BTreeMap<String, Time>,
    pub disruptions_allowed: i32,
    pub current_healthy: i32,
    pub desired_healthy: i32,
    pub expected_pods: i32,
    pub conditions: Vec<Condition>,
}

/// metav1.Condition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Condition {
    #[serde(rename = "type")]
    pub type_: String,
    pub status: String,
    #[serde(skip_serializing_if = "crate::views::is_default")]
    pub observed_generation: i64,
    pub last_transition_time: Option<Time>,
    pub reason: String,
    pub message: String,
}

impl From<Wire> for View {
    fn from(wire: Wire) -> Self {
        let Wire { metadata, spec, status } = wire;
        Self {
            generation: metadata.generation,
            selector: spec.selector.as_ref().and_then(|selector| selector.to_selector().ok()),
            spec,
            status,
        }
    }
}
