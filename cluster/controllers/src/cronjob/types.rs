//! What the cron job controller reads and writes of a cron job.

use crate::views::is_default;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use strata_client::ObjectReference;
use strata_meta::{ObjectMeta, Time, Uid};

/// batch/v1 CronJob.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct CronJob {
    pub metadata: ObjectMeta,
    pub spec: Spec,
    pub status: Status,
}

/// batch/v1 CronJobSpec.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Spec {
    pub schedule: String,
    pub time_zone: Option<String>,
    pub starting_deadline_seconds: Option<i64>,
    pub concurrency_policy: String,
    suspend: Option<bool>,
    pub job_template: JobTemplate,
    pub successful_jobs_history_limit: Option<i32>,
    pub failed_jobs_history_limit: Option<i32>,
}

/// batch/v1 JobTemplateSpec.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct JobTemplate {
    pub metadata: ObjectMeta,
    pub spec: Value,
}

/// batch/v1 CronJobStatus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Status {
    #[serde(skip_serializing_if = "is_default")]
    pub active: Vec<ObjectReference>,
    #[serde(skip_serializing_if = "is_default")]
    pub last_schedule_time: Option<Time>,
    #[serde(skip_serializing_if = "is_default")]
    pub last_successful_time: Option<Time>,
}

impl Spec {
    pub fn is_suspended(&self) -> bool {
        self.suspend == Some(true)
    }
}

impl Status {
    /// Whether a job is known to run.
    pub fn has(&self, job: &Uid) -> bool {
        self.active.iter().any(|active| active.uid == *job)
    }

    /// A job runs no more.
    pub fn drop_active(&mut self, job: &Uid) {
        self.active.retain(|active| active.uid != *job);
    }
}
