//! What the deployment controller reads and writes.

use crate::{
    dependents::update::UpdateStrategy,
    replicas::ReplicaStatus,
    views::{Condition, is_default},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc};
use strata_meta::{IntOrString, LabelSelector, Object, ObjectError, ObjectMeta, Time, Uid};

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
pub(super) const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub(super) const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";

pub(super) type Annotations = BTreeMap<String, String>;

/// apps/v1 Deployment.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Deployment {
    pub metadata: ObjectMeta,
    pub spec: Spec,
    pub status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Spec {
    pub replicas: Option<i32>,
    pub selector: LabelSelector,
    pub template: Value,
    pub strategy: UpdateStrategy,
    pub min_ready_seconds: i64,
    pub revision_history_limit: Option<i32>,
    pub paused: bool,
    pub progress_deadline_seconds: Option<i32>,
}

/// apps/v1 DeploymentStatus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Status {
    #[serde(skip_serializing_if = "is_default")]
    pub observed_generation: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub replicas: i32,
    #[serde(skip_serializing_if = "is_default")]
    pub updated_replicas: i32,
    #[serde(skip_serializing_if = "is_default")]
    pub ready_replicas: i32,
    #[serde(skip_serializing_if = "is_default")]
    pub available_replicas: i32,
    #[serde(skip_serializing_if = "is_default")]
    pub unavailable_replicas: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminating_replicas: Option<i32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collision_count: Option<i32>,
}

impl Deployment {
    /// How many pods are wanted.
    pub fn replicas(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }

    pub fn is_rolling(&self) -> bool {
        self.spec.strategy.type_ != "Recreate"
    }

    /// Extra and missing pods that a rolling update may cause. Both may not be zero: then one
    /// may be missing, because extra ones might not be allowed by a quota.
    fn fenceposts(&self) -> (i32, i32) {
        let rolling = self.spec.strategy.rolling_update.clone().unwrap_or_default();
        let scaled = |value: Option<IntOrString>, up| value.and_then(|v| v.scaled(self.replicas(), up)).unwrap_or(0);
        match (scaled(rolling.max_surge, true), scaled(rolling.max_unavailable, false)) {
            (0, 0) => (0, 1),
            both => both,
        }
    }

    pub fn max_surge(&self) -> i32 {
        if self.is_rolling() { self.fenceposts().0 } else { 0 }
    }

    pub fn max_unavailable(&self) -> i32 {
        match self.is_rolling() && self.replicas() > 0 {
            true => self.fenceposts().1.min(self.replicas()),
            false => 0,
        }
    }

    pub fn progress_deadline(&self) -> Option<i64> {
        self.spec
            .progress_deadline_seconds
            .filter(|s| *s != i32::MAX)
            .map(i64::from)
    }

    pub fn history_limit(&self) -> Option<usize> {
        self.spec
            .revision_history_limit
            .filter(|n| *n != i32::MAX)
            .map(|n| usize::try_from(n).unwrap_or(0))
    }
}

/// A replica set of a deployment, as it is and as the plan changes it.
#[derive(Clone, Debug)]
pub(super) struct Set {
    pub name: String,
    pub uid: Uid,
    pub created: Option<Time>,
    pub deleting: bool,
    pub generation: i64,
    pub annotations: Annotations,
    pub replicas: i32,
    pub min_ready_seconds: i64,
    pub template: Value,
    pub status: ReplicaStatus,
}

impl Set {
    pub fn read(object: &Arc<Object>) -> Result<Self, ObjectError> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Wire {
            metadata: ObjectMeta,
            spec: SpecWire,
            status: ReplicaStatus,
        }
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        struct SpecWire {
            replicas: Option<i32>,
            min_ready_seconds: i64,
            template: Value,
        }
        let Wire { metadata, spec, status } = object.decode()?;
        Ok(Self {
            name: metadata.name,
            uid: metadata.uid,
            created: metadata.creation_timestamp,
            deleting: metadata.deletion_timestamp.is_some(),
            generation: metadata.generation,
            annotations: metadata.annotations,
            replicas: spec.replicas.unwrap_or(1),
            min_ready_seconds: spec.min_ready_seconds,
            template: spec.template,
            status,
        })
    }

    pub fn revision(&self) -> i64 {
        self.annotations.get(REVISION).and_then(|r| r.parse().ok()).unwrap_or(0)
    }

    /// A replica count that was written down as an annotation.
    pub fn noted(&self, annotation: &str) -> Option<i32> {
        self.annotations.get(annotation)?.parse().ok().filter(|n: &i32| *n >= 0)
    }

    /// Old before new.
    pub fn age(&self) -> (Option<Time>, String) {
        (self.created, self.name.clone())
    }
}
