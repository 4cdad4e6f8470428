//! How pods that have ended come to be counted, each once whatever fails in between: first its uid (or its index) is in
//! the status, then its finalizer goes, then the counter grows and the uid goes.

use super::{
    decide::Assessment,
    pod::JobPod,
    policy,
    types::{Action, Condition, Job, Status, Uncounted},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use strata_meta::{Time, Uid};

/// Uids in the status at most, so that it stays below 20 KB, as upstream.
const MOST_UNCOUNTED: usize = 500;

/// What is to be done after the status was written.
#[derive(Default)]
pub(super) struct Release {
    /// Their finalizers go.
    pub pods: Vec<Arc<JobPod>>,
    /// Failures by what the policy made of them.
    pub actions: BTreeMap<Action, u64>,
    /// The condition the job has at the end.
    pub end: Option<Condition>,
    /// There was no room for all pods: another pass follows.
    pub full: bool,
}

/// Puts what ended into the status.
pub(super) fn count(job: &Job, seen: &mut Assessment, pods: &[Arc<JobPod>], status: &mut Status, now: Time) -> Release {
    let spec = &job.spec;
    let mut pods = pods.to_vec();
    if spec.is_indexed() {
        pods.sort_by_key(|pod| pod.index);
    }
    settle(
        status,
        &pods.iter().filter(|pod| pod.tracked).map(|pod| pod.uid()).collect(),
    );
    let known = status.uncounted().clone();
    let known = (
        known.succeeded.iter().collect::<BTreeSet<_>>(),
        known.failed.iter().collect::<BTreeSet<_>>(),
    );
    let (mut release, mut newly) = (Release::default(), Vec::new());
    for pod in pods.iter().filter(|pod| pod.tracked) {
        if !may_release(job, seen, pod) {
            continue;
        }
        release.pods.push(pod.clone());
        let index = pod.index_below(spec.indexes());
        if pod.has_succeeded() && !known.1.contains(pod.uid()) {
            match (spec.is_indexed(), index) {
                // The index is enough to know it again.
                (true, Some(index)) if !seen.previously_succeeded.has(index) => newly.push(index),
                (false, _) if !known.0.contains(pod.uid()) => status.uncounted().succeeded.push(pod.uid().clone()),
                _ => {}
            }
        } else if counts_as_failed(job, seen, pod)
            && !known.1.contains(pod.uid())
            && (!spec.is_indexed() || index.is_some())
        {
            let verdict = policy::judge(spec, pod);
            if let Some(action) = verdict.action {
                *release.actions.entry(action).or_default() += 1;
            }
            if verdict.counts {
                status.uncounted().failed.push(pod.uid().clone());
            }
        }
        let Uncounted { succeeded, failed } = status.uncounted();
        if newly.len() + succeeded.len() + failed.len() >= MOST_UNCOUNTED {
            release.full = true;
            break;
        }
    }
    if spec.is_indexed() {
        seen.succeeded_indexes = seen.succeeded_indexes.with(newly);
        status.succeeded = i32::try_from(seen.succeeded_indexes.count()).unwrap_or(i32::MAX);
        status.completed_indexes = seen.succeeded_indexes.to_string();
        status.failed_indexes = seen.failed_indexes.as_ref().map(ToString::to_string);
    }
    release.end = seen.ends.as_ref().map(|end| announce(status, end, now));
    release
}

/// Puts the interim condition into the status; the final one follows when the pods are gone.
fn announce(status: &mut Status, end: &Condition, now: Time) -> Condition {
    let last = match end.type_.as_str() {
        "FailureTarget" => "Failed",
        "SuccessCriteriaMet" => "Complete",
        _ => return end.clone(),
    };
    if status.holds(&end.type_).is_none() {
        status.conditions.push(end.clone());
    }
    end.turned(last, now)
}

fn counts_as_failed(job: &Job, seen: &Assessment, pod: &JobPod) -> bool {
    let fails = seen.ends.as_ref().is_some_and(|end| end.type_ != "SuccessCriteriaMet");
    // With the job, every pod that has not ended has failed.
    pod.has_failed(&job.spec) || fails
}

fn may_release(job: &Job, seen: &Assessment, pod: &JobPod) -> bool {
    if job.metadata.deletion_timestamp.is_some() || seen.ends.is_some() || pod.has_succeeded() {
        return true;
    }
    let is_awaited = || {
        let replaced = pod.index.and_then(|index| seen.replaced.get(&index));
        replaced.is_some_and(|replaced| replaced.uid() == pod.uid())
    };
    pod.has_failed(&job.spec) && !is_awaited()
}

/// Counts the pods whose finalizers are gone.
pub(super) fn settle(status: &mut Status, tracked: &BTreeSet<&Uid>) {
    let Uncounted { succeeded, failed } = status.uncounted();
    let gone = |uids: &mut Vec<Uid>| {
        let before = uids.len();
        uids.retain(|uid| tracked.contains(uid));
        i32::try_from(before - uids.len()).unwrap_or(i32::MAX)
    };
    let (succeeded, failed) = (gone(succeeded), gone(failed));
    status.succeeded = status.succeeded.saturating_add(succeeded);
    status.failed = status.failed.saturating_add(failed);
}

/// Whether the job can be said to have ended: every pod is counted and gone.
pub(super) fn finish(status: &mut Status, release: &Release, now: Time) -> bool {
    let Some(end) = &release.end else { return false };
    let Uncounted { succeeded, failed } = status.uncounted();
    let pending = !succeeded.is_empty() || !failed.is_empty();
    if release.full || pending || status.terminating.is_some_and(|count| count > 0) {
        return false;
    }
    status.ensure(Condition {
        last_probe_time: Some(now),
        ..end.clone()
    });
    if end.type_ == "Complete" {
        status.completion_time = end.last_transition_time;
    }
    true
}
