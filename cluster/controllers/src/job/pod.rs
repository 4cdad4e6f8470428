//! What the job controller reads of a pod.

use super::types::Spec;
use crate::{
    Error,
    tracked::decode,
    views::{Condition, Phase, Pod},
};
use serde::Deserialize;
use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};
use strata_meta::{Time, Uid};

/// Where an indexed job's pods keep their index: an annotation and a label.
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// How often the index failed before this pod.
pub(super) const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// The same of failures that the policy ignored.
pub(super) const IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

/// A pod of a job.
pub(super) struct JobPod {
    pub pod: Arc<Pod>,
    /// Whether it carries the finalizer: not counted yet.
    pub tracked: bool,
    pub index: Option<u32>,
    /// See [`FAILURES`] and [`IGNORED_FAILURES`].
    pub failures: i32,
    pub ignored_failures: i32,
    pub conditions: Vec<Condition>,
    /// Name and exit code of containers that have terminated; those of init containers last.
    pub exits: Vec<(String, i32)>,
    /// Restarts of all containers.
    pub restarts: i32,
    /// When it ended, as well as that is known.
    pub finished: Time,
}

impl JobPod {
    /// Decodes it. One that was adopted just now carries the finalizer, although the cache does not show it yet.
    pub fn of(pod: Arc<Pod>, job: &Uid) -> Result<Self, Error> {
        let wire: Wire = decode(&pod)?;
        let adopted = pod.controller().is_none_or(|owner| owner.uid != *job);
        let annotations = &wire.metadata.annotations;
        let number = |key: &str| annotations.get(key).and_then(|text| text.parse::<i32>().ok());
        let statuses = || {
            wire.status
                .container_statuses
                .iter()
                .chain(&wire.status.init_container_statuses)
        };
        let exit = |s: &ContainerStatus| Some((s.name.clone(), s.state.terminated.as_ref()?.exit_code));
        Ok(Self {
            tracked: pod.view.job_tracked || adopted,
            index: number(INDEX).and_then(|index| u32::try_from(index).ok()),
            failures: number(FAILURES).filter(|n| *n >= 0).unwrap_or(0),
            ignored_failures: number(IGNORED_FAILURES).filter(|n| *n >= 0).unwrap_or(0),
            exits: statuses().filter_map(exit).collect(),
            restarts: statuses().map(|s| s.restart_count).fold(0, i32::saturating_add),
            finished: wire.finished(&pod),
            conditions: wire.status.conditions,
            pod,
        })
    }

    pub fn uid(&self) -> &Uid {
        &self.pod.uid
    }

    pub fn is_active(&self) -> bool {
        self.pod.view.is_active()
    }

    pub fn is_terminating(&self) -> bool {
        self.pod.deleting && !self.pod.view.phase.is_terminal()
    }

    pub fn has_succeeded(&self) -> bool {
        self.pod.view.phase == Phase::Succeeded
    }

    /// Whether it counts as a failure; where deleted pods are replaced at once, they do too.
    pub fn has_failed(&self, spec: &Spec) -> bool {
        match self.pod.view.phase {
            Phase::Failed => true,
            _ if spec.replaces_only_failed() => false,
            phase => self.pod.deleting && phase != Phase::Succeeded,
        }
    }

    /// The index, if the job has it.
    pub fn index_below(&self, completions: u32) -> Option<u32> {
        self.index.filter(|index| *index < completions)
    }

    /// How often its index failed before it, whether that counted or not.
    pub fn all_failures(&self) -> i32 {
        self.failures.saturating_add(self.ignored_failures)
    }
}

/// Those to be deleted first in front (upstream's ActivePods).
pub(super) fn by_deletion_preference(pods: &mut [Arc<JobPod>]) {
    pods.sort_by_cached_key(|pod| {
        let view = &pod.pod.view;
        // No time at all counts as the latest.
        let latest = |time: Option<Time>| Reverse(time.map_or(i64::MAX, |t| t.as_second()));
        (
            !view.node.is_empty(),
            view.phase,
            view.ready,
            view.ready.then(|| latest(view.ready_since)),
            Reverse(view.restarts),
            latest(view.created),
            pod.uid().clone(),
        )
    });
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Wire {
    metadata: Metadata,
    spec: PodSpec,
    status: PodStatus,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    annotations: BTreeMap<String, String>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    deletion_grace_period_seconds: i64,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodSpec {
    init_containers: Vec<Container>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Container {
    name: String,
    restart_policy: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodStatus {
    conditions: Vec<Condition>,
    container_statuses: Vec<ContainerStatus>,
    init_container_statuses: Vec<ContainerStatus>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ContainerStatus {
    name: String,
    restart_count: i32,
    state: State,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct State {
    terminated: Option<Terminated>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Terminated {
    exit_code: i32,
    finished_at: Option<Time>,
}

impl Wire {
    /// By its containers, else by when it ceased to be ready, else by its deletion.
    fn finished(&self, pod: &Pod) -> Time {
        let is_sidecar = |status: &&ContainerStatus| {
            let same = |c: &&Container| c.name == status.name;
            let container = self.spec.init_containers.iter().find(same);
            container.is_some_and(|c| c.restart_policy == "Always")
        };
        let containers = latest(None, self.status.container_statuses.iter());
        let containers = latest(
            containers,
            self.status.init_container_statuses.iter().filter(is_sidecar),
        );
        let unready = || {
            let ready = self.status.conditions.iter().find(|c| c.type_ == "Ready");
            ready.filter(|c| c.status == "False")?.last_transition_time
        };
        let grace = self.metadata.deletion_grace_period_seconds;
        let deleted = || Some(self.metadata.deletion_timestamp?.plus_seconds(-grace));
        let known = containers.or_else(unready).or_else(deleted);
        let created = self.metadata.creation_timestamp.or(pod.view.created);
        known.or(created).unwrap_or_else(|| Time::from_second(0))
    }
}

/// The latest end of containers; none while one of them has not ended.
fn latest<'a>(before: Option<Time>, mut statuses: impl Iterator<Item = &'a ContainerStatus>) -> Option<Time> {
    statuses.try_fold(before, |latest, status| {
        let ended = status.state.terminated.as_ref()?.finished_at?;
        Some(latest.max(Some(ended)))
    })?
}
