//! What a job is to be: pure decisions on the job and its pods.

use super::{
    backoff::{self, Record},
    intervals::Indexes,
    pod::{JobPod, by_deletion_preference},
    policy,
    types::{Condition, Job, Status},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use strata_meta::{Time, Uid};

/// At most so many pods are created or deleted in one pass, as upstream.
const BURST: usize = 500;

/// A job, its pods, and the time.
pub(super) struct Seen<'a> {
    pub job: &'a Job,
    pub pods: &'a [Arc<JobPod>],
    pub backoff: Record,
    /// Since 1970.
    pub now: Duration,
}

/// What was made of it.
pub(super) struct Assessment {
    pub active: Vec<Arc<JobPod>>,
    pub ready: i32,
    pub terminating: i32,
    /// With those that are not in the status yet.
    pub succeeded: i64,
    pub failed: i64,
    /// Why the job ends: `FailureTarget`, `SuccessCriteriaMet` or, when the former is in the status, `Failed`.
    pub ends: Option<Condition>,
    pub previously_succeeded: Indexes,
    pub succeeded_indexes: Indexes,
    /// None without a limit for each index.
    pub failed_indexes: Option<Indexes>,
    /// The failed pods whose counts the next pods of their indexes take over.
    pub replaced: BTreeMap<u32, Arc<JobPod>>,
    pub backoff: Record,
    /// When the deadline passes.
    pub deadline: Option<Duration>,
}

/// What to do about the number of pods.
pub(super) enum Step {
    Nothing,
    /// Nothing before so much time has passed.
    Wait(Duration),
    Delete(Vec<Arc<JobPod>>),
    /// So many pods, or one for each of these indexes.
    Create(Wanted),
}

/// Pods to create.
pub(super) enum Wanted {
    Any(usize),
    Indexed(Vec<u32>),
}

impl Seen<'_> {
    /// Judges the job. Its status has a start time if it is not suspended.
    pub fn assess(&self) -> Assessment {
        let (spec, status) = (&self.job.spec, &self.job.status);
        let active: Vec<_> = self.pods.iter().filter(|pod| pod.is_active()).cloned().collect();
        let nothing = Default::default();
        let uncounted = status.uncounted_terminated_pods.as_ref().unwrap_or(&nothing);
        let fresh = |counted: &[Uid], is: &dyn Fn(&JobPod) -> bool| {
            let counted: BTreeSet<&Uid> = counted.iter().collect();
            let is = |pod: &&Arc<JobPod>| self.is_valid(pod) && !counted.contains(pod.uid()) && is(pod);
            self.pods.iter().filter(is).cloned().collect::<Vec<_>>()
        };
        let succeeded = fresh(&uncounted.succeeded, &|pod| pod.has_succeeded());
        let failed = fresh(&uncounted.failed, &|pod| pod.has_failed(spec));
        let counted_failures = failed.iter().filter(|pod| policy::judge(spec, pod).counts).count();
        let mut assessment = Assessment {
            ready: saturated(active.iter().filter(|pod| pod.pod.view.ready).count()),
            terminating: saturated(self.pods.iter().filter(|pod| pod.is_terminating()).count()),
            succeeded: i64::from(status.succeeded) + wide(succeeded.len() + uncounted.succeeded.len()),
            failed: i64::from(status.failed) + wide(counted_failures + uncounted.failed.len()),
            ends: None,
            previously_succeeded: Indexes::default(),
            succeeded_indexes: Indexes::default(),
            failed_indexes: None,
            replaced: BTreeMap::new(),
            backoff: self
                .backoff
                .after(succeeded.iter().map(|pod| &**pod), failed.iter().map(|pod| &**pod)),
            deadline: self.until_deadline(),
            active,
        };
        assessment.ends = self.known_end().or_else(|| self.failure(&assessment));
        if spec.is_indexed() {
            self.assess_indexes(&mut assessment);
        }
        assessment
    }

    /// In whole seconds, as the API keeps it.
    pub fn second(&self) -> Time {
        Time::from_second(i64::try_from(self.now.as_secs()).unwrap_or(i64::MAX))
    }

    /// Whether a pod may count yet: with the finalizer and, in an indexed job, with an index of the job's.
    fn is_valid(&self, pod: &JobPod) -> bool {
        let spec = &self.job.spec;
        pod.tracked && (!spec.is_indexed() || pod.index_below(spec.indexes()).is_some())
    }

    /// What an earlier pass, or the pod failure policy, has decided.
    fn known_end(&self) -> Option<Condition> {
        let (spec, status, now) = (&self.job.spec, &self.job.status, self.second());
        if let Some(met) = status.holds("SuccessCriteriaMet") {
            return Some(met.clone());
        }
        if let Some(target) = status.holds("FailureTarget") {
            return Some(target.turned("Failed", now));
        }
        spec.pod_failure_policy.as_ref()?;
        let failed = self.pods.iter().filter(|pod| pod.has_failed(spec));
        let message = failed.filter_map(|pod| policy::judge(spec, pod).fails_job).next()?;
        Some(Condition::new("FailureTarget", true, "PodFailurePolicy", message, now))
    }

    fn failure(&self, seen: &Assessment) -> Option<Condition> {
        let (reason, message) = if seen.failed > i64::from(self.job.spec.backoff_limit()) || self.restarts_exceed() {
            ("BackoffLimitExceeded", "Job has reached the specified backoff limit")
        } else if seen.deadline == Some(Duration::ZERO) {
            ("DeadlineExceeded", "Job was active longer than specified deadline")
        } else {
            return None;
        };
        Some(self.target(reason, message))
    }

    fn target(&self, reason: &str, message: &str) -> Condition {
        Condition::new("FailureTarget", true, reason, message, self.second())
    }

    /// Whether containers that are restarted in their pods failed too often.
    fn restarts_exceed(&self) -> bool {
        let spec = &self.job.spec;
        if spec.template.spec["restartPolicy"] != "OnFailure" {
            return false;
        }
        let running = self.pods.iter().filter(|pod| {
            use crate::views::Phase;
            matches!(pod.pod.view.phase, Phase::Running | Phase::Pending)
        });
        let restarts = running.map(|pod| i64::from(pod.restarts)).sum::<i64>();
        restarts >= i64::from(spec.backoff_limit().max(1))
    }

    /// Zero if it has passed.
    fn until_deadline(&self) -> Option<Duration> {
        let spec = &self.job.spec;
        let started = self.job.status.start_time.filter(|_| !spec.is_suspended())?;
        let end = started.as_second().saturating_add(spec.active_deadline_seconds?);
        Some(Duration::from_secs(u64::try_from(end).unwrap_or(0)).saturating_sub(self.now))
    }

    fn assess_indexes(&self, seen: &mut Assessment) {
        let (spec, status) = (&self.job.spec, &self.job.status);
        let completions = spec.indexes();
        let ended = |is: &dyn Fn(&JobPod) -> bool| -> Vec<u32> {
            let tracked = self.pods.iter().filter(|pod| pod.tracked && is(pod));
            tracked.filter_map(|pod| pod.index_below(completions)).collect()
        };
        seen.previously_succeeded = Indexes::parse(&status.completed_indexes, completions);
        seen.succeeded_indexes = seen.previously_succeeded.with(ended(&|pod| pod.has_succeeded()));
        seen.succeeded = i64::try_from(seen.succeeded_indexes.count()).unwrap_or(i64::MAX);
        if let Some(limit) = spec.backoff_limit_per_index {
            let before = Indexes::parse(status.failed_indexes.as_deref().unwrap_or(""), completions);
            let failed = before.with(ended(&|pod| policy::fails_index(spec, limit, pod)));
            if seen.ends.is_none() {
                seen.ends = self.index_failure(&failed, &seen.succeeded_indexes);
            }
            seen.replaced = self.replaced(&seen.succeeded_indexes, &failed, &indexes(&seen.active));
            seen.failed_indexes = Some(failed);
        }
        if seen.ends.is_none()
            && let Some(policy) = &spec.success_policy
            && let Some(message) = policy::success(policy, completions, &seen.succeeded_indexes)
        {
            let now = self.second();
            seen.ends = Some(Condition::new(
                "SuccessCriteriaMet",
                true,
                "SuccessPolicy",
                message,
                now,
            ));
        }
    }

    fn index_failure(&self, failed: &Indexes, succeeded: &Indexes) -> Option<Condition> {
        let spec = &self.job.spec;
        let count = failed.count();
        let most = spec.max_failed_indexes.and_then(|most| u64::try_from(most).ok());
        if most.is_some_and(|most| count > most) {
            let message = "Job has exceeded the specified maximal number of failed indexes";
            return Some(self.target("MaxFailedIndexesExceeded", message));
        }
        let all = count + succeeded.count() >= u64::from(spec.indexes());
        (count > 0 && all).then(|| self.target("FailedIndexes", "Job has failed indexes"))
    }

    /// For each index that waits for a new pod, the pod that failed last.
    fn replaced(&self, succeeded: &Indexes, failed: &Indexes, active: &BTreeSet<u32>) -> BTreeMap<u32, Arc<JobPod>> {
        let spec = &self.job.spec;
        let mut found: BTreeMap<u32, Arc<JobPod>> = BTreeMap::new();
        for pod in self
            .pods
            .iter()
            .filter(|pod| self.is_valid(pod) && pod.has_failed(spec))
        {
            let Some(index) = pod.index_below(spec.indexes()) else {
                continue;
            };
            if succeeded.has(index) || failed.has(index) || active.contains(&index) {
                continue;
            }
            let later =
                |other: &Arc<JobPod>| other.all_failures() <= pod.all_failures() && other.finished <= pod.finished;
            if found.get(&index).is_none_or(later) {
                found.insert(index, pod.clone());
            }
        }
        found
    }

    /// What a job that goes on needs.
    pub fn step(&self, seen: &Assessment) -> Step {
        let spec = &self.job.spec;
        let active = seen.active.len();
        if spec.is_suspended() {
            return Step::Delete(self.surplus(&seen.active, active));
        }
        let wanted = self.wanted_active(seen);
        let mut surplus = self.surplus(&seen.active, active.saturating_sub(wanted));
        if !surplus.is_empty() {
            surplus.truncate(BURST);
            return Step::Delete(surplus);
        }
        let terminating = match spec.replaces_only_failed() {
            true => usize::try_from(seen.terminating).unwrap_or(0),
            false => 0,
        };
        let missing = wanted.saturating_sub(terminating).saturating_sub(active);
        if missing == 0 {
            return Step::Nothing;
        }
        if spec.backoff_limit_per_index.is_none() {
            let left = seen.backoff.left(self.now);
            if !left.is_zero() {
                return Step::Wait(left);
            }
        }
        let missing = missing.min(BURST);
        match spec.is_indexed() {
            true => self.indexes_to_start(seen, missing),
            false => Step::Create(Wanted::Any(missing)),
        }
    }

    fn wanted_active(&self, seen: &Assessment) -> usize {
        let spec = &self.job.spec;
        let parallelism = i64::from(spec.parallelism());
        let wanted = match spec.completions {
            // Once one has succeeded, the others may end, and are not replaced.
            None if seen.succeeded > 0 => return seen.active.len(),
            None => parallelism,
            Some(completions) => (i64::from(completions) - seen.succeeded).min(parallelism),
        };
        usize::try_from(wanted).unwrap_or(0)
    }

    /// Pods with an index that others have or the job does not, and at least so many.
    fn surplus(&self, active: &[Arc<JobPod>], least: usize) -> Vec<Arc<JobPod>> {
        let (mut surplus, mut left) = (Vec::new(), Vec::new());
        match self.job.spec.is_indexed() {
            false => left.extend_from_slice(active),
            true => {
                let mut by_index: BTreeMap<u32, Vec<Arc<JobPod>>> = BTreeMap::new();
                for pod in active {
                    match pod.index_below(self.job.spec.indexes()) {
                        Some(index) => by_index.entry(index).or_default().push(pod.clone()),
                        None => surplus.push(pod.clone()),
                    }
                }
                for mut pods in by_index.into_values() {
                    by_deletion_preference(&mut pods);
                    left.extend(pods.pop());
                    surplus.extend(pods);
                }
            }
        }
        by_deletion_preference(&mut left);
        left.truncate(least.saturating_sub(surplus.len()));
        surplus.extend(left);
        surplus
    }

    fn indexes_to_start(&self, seen: &Assessment, count: usize) -> Step {
        let spec = &self.job.spec;
        let mut taken = seen.succeeded_indexes.with(indexes(&seen.active));
        if spec.replaces_only_failed() {
            let terminating: Vec<_> = self.pods.iter().filter(|pod| pod.is_terminating()).cloned().collect();
            taken = taken.with(indexes(&terminating));
        }
        if let Some(failed) = &seen.failed_indexes {
            taken = taken.merged(failed);
        }
        let missing = taken.missing(count, spec.indexes());
        if missing.is_empty() {
            return Step::Nothing;
        }
        if spec.backoff_limit_per_index.is_none() {
            return Step::Create(Wanted::Indexed(missing));
        }
        let left = |index: &u32| {
            let failed = seen.replaced.get(index);
            failed.map_or(Duration::ZERO, |pod| backoff::left_of_index(pod, self.now))
        };
        let (now, later): (Vec<u32>, Vec<u32>) = missing.into_iter().partition(|index| left(index).is_zero());
        match later.iter().map(left).min() {
            Some(wait) if now.is_empty() => Step::Wait(wait),
            _ => Step::Create(Wanted::Indexed(now)),
        }
    }

    /// The counts for the annotations of a new pod of an index.
    pub fn failure_counts(&self, replaced: Option<&Arc<JobPod>>) -> (i32, i32) {
        let Some(pod) = replaced else { return (0, 0) };
        match policy::judge(&self.job.spec, pod).counts {
            true => (pod.failures.saturating_add(1), pod.ignored_failures),
            false => (pod.failures, pod.ignored_failures.saturating_add(1)),
        }
    }

    /// Why metrics say pods are created.
    pub fn creation_reason(&self, seen: &Assessment) -> &'static str {
        let only_failed = self.job.spec.pod_replacement_policy.as_deref() == Some("Failed");
        match seen.failed > 0 {
            true if only_failed => "recreate_failed",
            failed if failed || seen.terminating > 0 => "recreate_terminating_or_failed",
            _ => "new",
        }
    }

    /// Whether the job has all the completions it needs while so many pods are active.
    pub fn is_complete(&self, seen: &Assessment, active: usize) -> bool {
        let enough = match self.job.spec.completions {
            None => seen.succeeded > 0,
            Some(completions) => seen.succeeded >= i64::from(completions),
        };
        enough && active == 0
    }
}

/// What is said of a job that has its completions.
pub(super) fn completed(now: Time) -> Condition {
    let message = "Reached expected number of succeeded pods";
    Condition::new("SuccessCriteriaMet", true, "CompletionsReached", message, now)
}

/// Suspends or resumes by the specification; the event to tell of if that is news.
pub(super) fn suspend_or_resume(
    status: &mut Status,
    suspended: bool,
    now: Time,
) -> Option<(&'static str, &'static str)> {
    let (reason, event, message) = match suspended {
        true => ("JobSuspended", "Suspended", "Job suspended"),
        false => ("JobResumed", "Resumed", "Job resumed"),
    };
    let changed = status.ensure(Condition::new("Suspended", suspended, reason, message, now));
    if !changed {
        return None;
    }
    // The deadline counts from when the job goes on.
    status.start_time = (!suspended).then_some(now);
    Some((event, message))
}

/// The indexes of pods.
fn indexes(pods: &[Arc<JobPod>]) -> BTreeSet<u32> {
    pods.iter().filter_map(|pod| pod.index).collect()
}

fn saturated(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

fn wide(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
