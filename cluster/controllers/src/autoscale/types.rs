//! What is read of a horizontal pod autoscaler, and the status that is written.

use crate::tracked::Tracked;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use strata_meta::{LabelSelector, Quantity, Time};

pub(super) type Autoscaler = Tracked<View>;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct View {
    pub spec: Spec,
    pub status: Status,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Spec {
    pub scale_target_ref: Reference,
    pub min_replicas: Option<i32>,
    pub max_replicas: i32,
    #[serde(deserialize_with = "nullable")]
    pub metrics: Vec<Metric>,
    pub behavior: Option<Behavior>,
}

/// autoscaling/v2 CrossVersionObjectReference.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Reference {
    pub kind: String,
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_version: String,
}

/// autoscaling/v2 MetricSpec: a type and the source of that type.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Metric {
    #[serde(rename = "type")]
    pub type_: String,
    pub object: Option<Source>,
    pub pods: Option<Source>,
    pub resource: Option<Source>,
    pub container_resource: Option<Source>,
    pub external: Option<Source>,
}

/// The members of all sources.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Source {
    /// Of a resource.
    pub name: String,
    pub container: String,
    pub described_object: Reference,
    pub metric: Identifier,
    pub target: Target,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Identifier {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Target {
    #[serde(rename = "type")]
    pub type_: String,
    pub value: Option<Quantity>,
    pub average_value: Option<Quantity>,
    pub average_utilization: Option<i32>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Behavior {
    #[serde(deserialize_with = "nullable")]
    pub scale_up: Rules,
    #[serde(deserialize_with = "nullable")]
    pub scale_down: Rules,
}

/// autoscaling/v2 HPAScalingRules.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Rules {
    pub stabilization_window_seconds: Option<i32>,
    pub select_policy: Option<String>,
    #[serde(deserialize_with = "nullable")]
    pub policies: Vec<Policy>,
    pub tolerance: Option<Quantity>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Policy {
    #[serde(rename = "type")]
    pub type_: String,
    pub value: i32,
    pub period_seconds: i32,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Status {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_scale_time: Option<Time>,
    pub current_replicas: i32,
    pub desired_replicas: i32,
    /// Each as its kind of metric tells it.
    #[serde(deserialize_with = "nullable")]
    pub current_metrics: Vec<Value>,
    #[serde(deserialize_with = "nullable")]
    pub conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Condition {
    #[serde(rename = "type")]
    pub type_: String,
    pub status: String,
    pub last_transition_time: Option<Time>,
    pub reason: String,
    pub message: String,
}

/// `null` is what is empty, as Go writes it.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

impl Status {
    /// Sets a condition; the moment of its transition stays where its status does.
    pub fn set(&mut self, type_: &str, status: bool, reason: &str, message: impl Into<String>, now: Time) {
        let word = if status { "True" } else { "False" };
        let known = self.conditions.iter_mut().find(|c| c.type_ == type_);
        let since = known
            .as_ref()
            .filter(|c| c.status == word)
            .and_then(|c| c.last_transition_time);
        let new = Condition {
            type_: type_.into(),
            status: word.into(),
            last_transition_time: Some(since.unwrap_or(now)),
            reason: reason.into(),
            message: message.into(),
        };
        match known {
            Some(known) => *known = new,
            None => self.conditions.push(new),
        }
    }
}
