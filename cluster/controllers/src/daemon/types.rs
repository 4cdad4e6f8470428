//! What the daemon set controller reads and writes.

use crate::{
    dependents::{
        template::Template,
        update::{RollingUpdate, UpdateStrategy},
    },
    views::{Condition, is_default},
};
use serde::{Deserialize, Serialize};
use strata_meta::{IntOrString, ObjectMeta};

/// Where apps/v1 keeps the number that older versions counted templates by.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

/// apps/v1 DaemonSet.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct DaemonSet {
    pub metadata: ObjectMeta,
    pub spec: Spec,
    pub status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Spec {
    pub template: Template,
    pub update_strategy: UpdateStrategy,
    pub min_ready_seconds: i64,
    pub revision_history_limit: Option<i32>,
}

/// apps/v1 DaemonSetStatus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Status {
    pub current_number_scheduled: i32,
    pub number_misscheduled: i32,
    pub desired_number_scheduled: i32,
    pub number_ready: i32,
    #[serde(skip_serializing_if = "is_default")]
    pub observed_generation: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub updated_number_scheduled: i32,
    #[serde(skip_serializing_if = "is_default")]
    pub number_available: i32,
    #[serde(skip_serializing_if = "is_default")]
    pub number_unavailable: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collision_count: Option<i32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

impl DaemonSet {
    /// The number of the template as older versions counted it, which pods may still carry.
    pub fn template_generation(&self) -> Option<&str> {
        let text = self.metadata.annotations.get(TEMPLATE_GENERATION)?;
        text.parse::<i64>().is_ok().then_some(text)
    }

    /// Whether pods are replaced by the controller.
    pub fn rolls(&self) -> bool {
        self.spec.update_strategy.type_ == "RollingUpdate"
    }

    fn share(&self, of: impl Fn(&RollingUpdate) -> Option<IntOrString>, nodes: i32) -> i32 {
        let rolling = self.spec.update_strategy.rolling_update.as_ref();
        let share = rolling.filter(|_| self.rolls()).and_then(of);
        share.and_then(|share| share.scaled(nodes, true)).unwrap_or(0)
    }

    /// How many nodes may have a new pod beside the old one.
    pub fn max_surge(&self, nodes: i32) -> i32 {
        self.share(|rolling| rolling.max_surge.clone(), nodes)
    }

    /// How many nodes may be without an available pod during an update; at least one where none may surge.
    pub fn max_unavailable(&self, nodes: i32) -> i32 {
        let unavailable = self.share(|rolling| rolling.max_unavailable.clone(), nodes);
        match (unavailable, self.max_surge(nodes)) {
            (0, 0) => 1,
            (unavailable, _) => unavailable,
        }
    }
}
