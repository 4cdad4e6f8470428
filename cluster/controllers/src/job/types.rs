//! What the job controller reads and writes of a job.

use crate::{dependents::template::Template, views::is_default};
use serde::{Deserialize, Serialize};
use strata_meta::{ObjectMeta, Time, Uid};

/// Who manages a job that does not say so.
const SELF: &str = "kubernetes.io/job-controller";

/// batch/v1 Job.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Job {
    pub metadata: ObjectMeta,
    pub spec: Spec,
    pub status: Status,
}

/// batch/v1 JobSpec.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Spec {
    parallelism: Option<i32>,
    pub completions: Option<i32>,
    pub active_deadline_seconds: Option<i64>,
    pub pod_failure_policy: Option<FailurePolicy>,
    pub success_policy: Option<SuccessPolicy>,
    backoff_limit: Option<i32>,
    pub backoff_limit_per_index: Option<i32>,
    pub max_failed_indexes: Option<i32>,
    pub template: Template,
    pub ttl_seconds_after_finished: Option<i64>,
    completion_mode: Option<String>,
    suspend: Option<bool>,
    pub pod_replacement_policy: Option<String>,
    managed_by: Option<String>,
}

/// What a pod's failure means for the job: the first rule that matches.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct FailurePolicy {
    pub rules: Vec<FailureRule>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FailureRule {
    pub action: Action,
    #[serde(default)]
    pub on_exit_codes: Option<OnExitCodes>,
    #[serde(default)]
    pub on_pod_conditions: Option<Vec<OnPodCondition>>,
}

/// What a rule wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(crate) enum Action {
    FailJob,
    FailIndex,
    Ignore,
    Count,
    #[serde(other)]
    Unknown,
}

impl Action {
    /// As the API and the metrics write it.
    pub fn text(self) -> &'static str {
        match self {
            Self::FailJob => "FailJob",
            Self::FailIndex => "FailIndex",
            Self::Ignore => "Ignore",
            Self::Count => "Count",
            Self::Unknown => "Unknown",
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct OnExitCodes {
    pub container_name: Option<String>,
    pub operator: String,
    pub values: Vec<i32>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct OnPodCondition {
    #[serde(rename = "type")]
    pub type_: String,
    pub status: String,
}

/// When an indexed job has succeeded before all its indexes have.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct SuccessPolicy {
    pub rules: Vec<SuccessRule>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct SuccessRule {
    pub succeeded_indexes: Option<String>,
    pub succeeded_count: Option<u64>,
}

/// batch/v1 JobStatus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Status {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    #[serde(skip_serializing_if = "is_default")]
    pub active: i32,
    #[serde(skip_serializing_if = "is_default")]
    pub succeeded: i32,
    #[serde(skip_serializing_if = "is_default")]
    pub failed: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminating: Option<i32>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub completed_indexes: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_indexes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uncounted_terminated_pods: Option<Uncounted>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<i32>,
}

/// Pods that have ended, are not in the counters yet, and may still carry the finalizer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Uncounted {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub succeeded: Vec<Uid>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<Uid>,
}

/// batch/v1 JobCondition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Condition {
    #[serde(rename = "type")]
    pub type_: String,
    pub status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_probe_time: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

impl Condition {
    /// A condition as of `now`.
    pub fn new(type_: &str, status: bool, reason: &str, message: impl Into<String>, now: Time) -> Self {
        Self {
            type_: type_.into(),
            status: if status { "True" } else { "False" }.into(),
            last_probe_time: Some(now),
            last_transition_time: Some(now),
            reason: reason.into(),
            message: message.into(),
        }
    }

    /// The same reason under another type.
    pub fn turned(&self, type_: &str, now: Time) -> Self {
        Self::new(type_, true, &self.reason, self.message.clone(), now)
    }
}

impl Spec {
    pub fn parallelism(&self) -> i32 {
        self.parallelism.unwrap_or(1)
    }

    /// Upstream's default, without which the API stores nothing.
    pub fn backoff_limit(&self) -> i32 {
        self.backoff_limit.unwrap_or(6)
    }

    pub fn is_indexed(&self) -> bool {
        self.completion_mode.as_deref() == Some("Indexed")
    }

    /// Whether the mode is one that this version knows.
    pub fn is_mode_known(&self) -> bool {
        matches!(self.completion_mode.as_deref(), None | Some("Indexed" | "NonIndexed"))
    }

    pub fn is_suspended(&self) -> bool {
        self.suspend == Some(true)
    }

    /// How many completions an indexed job has.
    pub fn indexes(&self) -> u32 {
        u32::try_from(self.completions.unwrap_or(0)).unwrap_or(0)
    }

    /// Whether a pod that is being deleted is replaced only when it has ended.
    pub fn replaces_only_failed(&self) -> bool {
        self.pod_replacement_policy.as_deref() == Some("Failed") || self.pod_failure_policy.is_some()
    }

    /// Somebody else who takes care of the job.
    pub fn manager(&self) -> Option<&str> {
        self.managed_by.as_deref().filter(|name| *name != SELF)
    }

    /// The label value that metrics have for the mode.
    pub fn mode(&self) -> &'static str {
        if self.is_indexed() { "Indexed" } else { "NonIndexed" }
    }
}

impl Status {
    /// The condition of a type.
    pub fn condition(&self, type_: &str) -> Option<&Condition> {
        self.conditions.iter().find(|c| c.type_ == type_)
    }

    /// The condition of a type, if it holds.
    pub fn holds(&self, type_: &str) -> Option<&Condition> {
        self.condition(type_).filter(|c| c.status == "True")
    }

    /// The condition by which the job has ended.
    pub fn finished(&self) -> Option<&Condition> {
        let ends = |c: &&Condition| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True";
        self.conditions.iter().find(ends)
    }

    /// Adds or changes a condition; whether that made a difference. One that never held is not added as false.
    pub fn ensure(&mut self, new: Condition) -> bool {
        match self.conditions.iter_mut().find(|c| c.type_ == new.type_) {
            Some(old) if (&old.status, &old.reason, &old.message) == (&new.status, &new.reason, &new.message) => false,
            Some(old) => {
                *old = new;
                true
            }
            None if new.status == "False" => false,
            None => {
                self.conditions.push(new);
                true
            }
        }
    }

    /// The pods that are in between.
    pub fn uncounted(&mut self) -> &mut Uncounted {
        self.uncounted_terminated_pods.get_or_insert_default()
    }
}
