//! What is counted of jobs, under upstream's names.

use super::{
    intervals::Indexes,
    types::{Action, Job, Spec, Status},
};
use crate::{tracked::decode, views::Pod};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use strata_client::Change;
use strata_meta::Object;
use strata_metrics::{Buckets, Counter, Family, Histogram, Page};

/// Upstream's bounds of a pass: from four milliseconds, each twice the one before.
const PASS: Buckets = Buckets::seconds(&[
    0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384, 32.768, 65.536,
]);

/// The same of delays of cron jobs and of expired jobs.
const SKEW: Buckets = Buckets::seconds(&[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0]);
const EXPIRED: Buckets = Buckets::seconds(&[
    0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6, 819.2,
]);

/// Counters of the controllers of jobs and cron jobs.
pub struct JobMetrics {
    passes: Family<3, Counter>,
    times: Family<3, Histogram>,
    finished: Family<3, Counter>,
    external: Family<1, Counter>,
    pods_finished: Family<2, Counter>,
    judged: Family<1, Counter>,
    terminated: Family<1, Counter>,
    indexes: Family<2, Counter>,
    created: Family<2, Counter>,
    skew: Family<0, Histogram>,
    expired: Family<0, Histogram>,
}

impl Default for JobMetrics {
    fn default() -> Self {
        let pass = ["completion_mode", "result", "action"];
        Self {
            passes: Family::counters("job_controller_job_syncs_total", "Passes over jobs.", pass),
            times: Family::histograms(
                "job_controller_job_sync_duration_seconds",
                "How long passes over jobs took.",
                pass,
                PASS,
            ),
            finished: Family::counters(
                "job_controller_jobs_finished_total",
                "Jobs that finished.",
                ["completion_mode", "result", "reason"],
            ),
            external: Family::counters(
                "job_controller_jobs_by_external_controller_total",
                "Jobs that somebody else takes care of.",
                ["controller_name"],
            ),
            pods_finished: Family::counters(
                "job_controller_job_pods_finished_total",
                "Pods that ended and were counted.",
                ["completion_mode", "result"],
            ),
            judged: Family::counters(
                "job_controller_pod_failures_handled_by_failure_policy_total",
                "Failed pods that a rule of a failure policy matched.",
                ["action"],
            ),
            terminated: Family::counters(
                "job_controller_terminated_pods_tracking_finalizer_total",
                "Ended pods that came to carry the finalizer, or lost it.",
                ["event"],
            ),
            indexes: Family::counters(
                "job_controller_job_finished_indexes_total",
                "Indexes that finished.",
                ["status", "backoffLimit"],
            ),
            created: Family::counters(
                "job_controller_job_pods_creation_total",
                "Pods that were created, or were to be.",
                ["reason", "status"],
            ),
            skew: Family::histograms(
                "cronjob_controller_job_creation_skew_duration_seconds",
                "From when a cron job's job was due until it was made.",
                [],
                SKEW,
            ),
            expired: Family::histograms(
                "ttl_after_finished_controller_job_deletion_duration_seconds",
                "From when a finished job was to go until it was deleted.",
                [],
                EXPIRED,
            ),
        }
    }
}

impl JobMetrics {
    /// Adds all to a page.
    pub fn show(&self, page: &mut Page) {
        self.passes.show(page);
        self.times.show(page);
        self.finished.show(page);
        self.external.show(page);
        self.pods_finished.show(page);
        self.judged.show(page);
        self.terminated.show(page);
        self.indexes.show(page);
        self.created.show(page);
        self.skew.show(page);
        self.expired.show(page);
    }

    pub(super) fn synced(&self, mode: &str, action: &str, well: bool, took: Duration) {
        let labels = [mode, if well { "success" } else { "error" }, action];
        self.passes.with(labels).inc();
        self.times.with(labels).took(took);
    }

    pub(super) fn finished(&self, mode: &str, succeeded: bool, reason: &str) {
        let result = if succeeded { "succeeded" } else { "failed" };
        self.finished.with([mode, result, reason]).inc();
    }

    pub(super) fn job_added(&self, job: &Arc<Object>) {
        if let Ok(job) = decode::<Job>(job)
            && let Some(manager) = job.spec.manager()
        {
            self.external.with([manager]).inc();
        }
    }

    pub(super) fn judged(&self, actions: &BTreeMap<Action, u64>) {
        for (action, count) in actions {
            self.judged.with([action.text()]).add(*count);
        }
    }

    pub(super) fn created(&self, reason: &str, created: i32, failed: i32) {
        for (status, count) in [("succeeded", created), ("failed", failed)] {
            if count > 0 {
                self.created.with([reason, status]).add(positive(i64::from(count)));
            }
        }
    }

    /// A cron job's job was made at `now` for a second, both since 1970.
    pub(crate) fn job_scheduled(&self, now: Duration, due: i64) {
        let due = Duration::from_secs(u64::try_from(due).unwrap_or(0));
        self.skew.with([]).took(now.saturating_sub(due));
    }

    /// A finished job was deleted at `now` that was to go at `expiry`.
    pub(crate) fn job_expired(&self, now: Duration, expiry: Duration) {
        self.expired.with([]).took(now.saturating_sub(expiry));
    }

    pub(super) fn pod_changed(&self, change: &Change<Pod>) {
        let is = |pod: &Option<Arc<Pod>>| {
            let pod = pod.as_ref();
            pod.is_some_and(|pod| pod.view.job_tracked && pod.view.phase.is_terminal())
        };
        match (is(&change.old), is(&change.new)) {
            (false, true) => self.terminated.with(["add"]).inc(),
            (true, false) => self.terminated.with(["delete"]).inc(),
            _ => {}
        }
    }

    /// What a status says beyond the one before it.
    pub(super) fn counted(&self, spec: &Spec, before: &Status, after: &Status) {
        let mode = spec.mode();
        let mut succeeded = i64::from(after.succeeded) - i64::from(before.succeeded);
        if spec.is_indexed() {
            let count = |text: &str| {
                let indexes = Indexes::parse(text, spec.indexes());
                i64::try_from(indexes.count()).unwrap_or(i64::MAX)
            };
            let limit = if spec.backoff_limit_per_index.is_some() {
                "perIndex"
            } else {
                "global"
            };
            succeeded = count(&after.completed_indexes) - count(&before.completed_indexes);
            self.indexes.with(["succeeded", limit]).add(positive(succeeded));
            let text = |status: &Status| status.failed_indexes.clone().unwrap_or_default();
            let failed = count(&text(after)) - count(&text(before));
            if failed > 0 {
                self.indexes.with(["failed", limit]).add(positive(failed));
            }
        }
        self.pods_finished.with([mode, "succeeded"]).add(positive(succeeded));
        let failed = i64::from(after.failed) - i64::from(before.failed);
        self.pods_finished.with([mode, "failed"]).add(positive(failed));
    }
}

fn positive(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}
