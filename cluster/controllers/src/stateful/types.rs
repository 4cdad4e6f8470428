//! What the stateful set controller reads and writes.

use crate::{
    dependents::{
        template::Template,
        update::{RollingUpdate, UpdateStrategy},
    },
    views::{Condition, is_default},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use strata_meta::ObjectMeta;

/// apps/v1 StatefulSet.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct StatefulSet {
    pub metadata: ObjectMeta,
    pub spec: Spec,
    pub status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Spec {
    pub replicas: Option<i32>,
    pub selector: MatchLabels,
    pub template: Template,
    /// Claims as they are made for each pod.
    pub volume_claim_templates: Vec<ClaimTemplate>,
    pub service_name: String,
    pub pod_management_policy: String,
    pub update_strategy: UpdateStrategy,
    pub revision_history_limit: Option<i32>,
    pub min_ready_seconds: i64,
    pub persistent_volume_claim_retention_policy: Option<Retention>,
    pub ordinals: Option<Ordinals>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct MatchLabels {
    pub match_labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ClaimTemplate {
    pub metadata: ObjectMeta,
    pub spec: Value,
}

/// What becomes of claims.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Retention {
    pub when_deleted: String,
    pub when_scaled: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Ordinals {
    pub start: i32,
}

/// apps/v1 StatefulSetStatus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Status {
    #[serde(skip_serializing_if = "is_default")]
    pub observed_generation: i64,
    pub replicas: i32,
    #[serde(skip_serializing_if = "is_default")]
    pub ready_replicas: i32,
    #[serde(skip_serializing_if = "is_default")]
    pub current_replicas: i32,
    #[serde(skip_serializing_if = "is_default")]
    pub updated_replicas: i32,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub current_revision: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub update_revision: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collision_count: Option<i32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    pub available_replicas: i32,
}

impl StatefulSet {
    pub fn replicas(&self) -> i32 {
        self.spec.replicas.unwrap_or(1).max(0)
    }

    /// The ordinals that pods have, from and up to but without.
    pub fn ordinals(&self) -> std::ops::Range<i64> {
        let start = i64::from(self.spec.ordinals.as_ref().map_or(0, |ordinals| ordinals.start));
        start..start + i64::from(self.replicas())
    }

    /// Whether pods come and go one at a time.
    pub fn is_ordered(&self) -> bool {
        self.spec.pod_management_policy != "Parallel"
    }

    pub fn rolls(&self) -> bool {
        self.spec.update_strategy.type_ == "RollingUpdate"
    }

    fn rolling(&self) -> Option<&RollingUpdate> {
        self.spec.update_strategy.rolling_update.as_ref()
    }

    /// The first ordinal, counted from the start, that an update reaches.
    pub fn partition(&self) -> i64 {
        i64::from(self.rolling().and_then(|rolling| rolling.partition).unwrap_or(0))
    }

    /// How many pods an update may take away at a time, where that is said.
    pub fn max_unavailable(&self) -> Option<usize> {
        let most = self.rolling()?.max_unavailable.as_ref()?;
        let most = most.scaled(self.replicas(), false)?.max(1);
        usize::try_from(most).ok()
    }

    /// Whether a pod that is missing is made of the template before the update.
    pub fn starts_current(&self, ordinal: i64) -> bool {
        let index = ordinal - self.ordinals().start;
        self.rolls()
            && match self.rolling() {
                None => index < i64::from(self.status.current_replicas),
                Some(rolling) => index < i64::from(rolling.partition.unwrap_or(0)),
            }
    }

    /// Whether claims go (with the set, with a pod that is scaled away).
    pub fn deletes_claims(&self) -> (bool, bool) {
        let policy = self.spec.persistent_volume_claim_retention_policy.as_ref();
        policy.map_or((false, false), |policy| {
            (policy.when_deleted == "Delete", policy.when_scaled == "Delete")
        })
    }

    /// The ordinal of a pod that is named as this set names its pods.
    pub fn ordinal(&self, pod: &str) -> Option<i64> {
        let digits = pod.strip_prefix(&self.metadata.name)?.strip_prefix('-')?;
        let plain = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.is_empty();
        plain.then(|| digits.parse::<i32>().ok().map(i64::from)).flatten()
    }

    pub fn pod_name(&self, ordinal: i64) -> String {
        format!("{}-{ordinal}", self.metadata.name)
    }

    /// The claim that a template stands for at an ordinal.
    pub fn claim_name(&self, template: &ClaimTemplate, ordinal: i64) -> String {
        format!("{}-{}", template.metadata.name, self.pod_name(ordinal))
    }
}
