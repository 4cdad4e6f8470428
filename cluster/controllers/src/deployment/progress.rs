//! The status of a deployment and its conditions.

use super::types::{Deployment, Set, Status};
use crate::{
    conditions::{self, find, remove},
    views::Condition,
};
use strata_meta::Time;

pub(super) const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const REPLICA_FAILURE: &str = "ReplicaFailure";
const COMPLETE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";
pub(super) const CREATE_FAILED: &str = "ReplicaSetCreateError";

/// A condition with all its times at `now`.
pub(super) fn condition(type_: &str, status: &str, reason: &str, message: String, now: Time) -> Condition {
    Condition {
        last_update_time: Some(now),
        ..conditions::condition(type_, status, reason, message, now)
    }
}

/// Tells of pausing and resuming, so that the deadline does not run while paused.
pub(super) fn note_pause(deployment: &mut Deployment, now: Time) {
    if deployment.progress_deadline().is_none() {
        return;
    }
    let reason = find(&deployment.status.conditions, PROGRESSING)
        .map(|c| c.reason.clone())
        .unwrap_or_default();
    let new = match (deployment.spec.paused, reason.as_str()) {
        (_, TIMED_OUT) => return,
        (true, reason) if reason != PAUSED => (PAUSED, "Deployment is paused"),
        (false, PAUSED) => ("DeploymentResumed", "Deployment is resumed"),
        _ => return,
    };
    let new = condition(PROGRESSING, "Unknown", new.0, new.1.into(), now);
    conditions::set(&mut deployment.status.conditions, new);
}

/// Tells that the newest set was made, or found.
pub(super) fn note_new_set(deployment: &mut Deployment, name: &str, created: bool, now: Time) {
    let known = find(&deployment.status.conditions, PROGRESSING).is_some();
    if deployment.progress_deadline().is_none() || (known && !created) {
        return;
    }
    let (reason, message) = match created {
        true => ("NewReplicaSetCreated", format!("Created new replica set {name:?}")),
        false => ("FoundNewReplicaSet", format!("Found new replica set {name:?}")),
    };
    conditions::set(
        &mut deployment.status.conditions,
        condition(PROGRESSING, "True", reason, message, now),
    );
}

/// The counts and the condition Available.
pub(super) fn counted(deployment: &Deployment, new: Option<&Set>, old: &[Set], now: Time) -> Status {
    let all = || old.iter().chain(new);
    let sum = |of: fn(&Set) -> i32| all().map(of).sum::<i32>();
    let available = sum(|s| s.status.available_replicas);
    let mut status = Status {
        observed_generation: deployment.metadata.generation,
        replicas: sum(|s| s.status.replicas),
        updated_replicas: new.map_or(0, |s| s.status.replicas),
        ready_replicas: sum(|s| s.status.ready_replicas),
        available_replicas: available,
        unavailable_replicas: (sum(|s| s.replicas) - available).max(0),
        terminating_replicas: terminating(all()),
        conditions: deployment.status.conditions.clone(),
        collision_count: deployment.status.collision_count,
    };
    let enough = available >= deployment.replicas() - deployment.max_unavailable();
    let (value, reason, message) = match enough {
        true => (
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.",
        ),
        false => (
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        ),
    };
    conditions::set(
        &mut status.conditions,
        condition(AVAILABLE, value, reason, message.into(), now),
    );
    status
}

/// Unknown while a set that was looked after has not told.
fn terminating<'a>(sets: impl Iterator<Item = &'a Set>) -> Option<i32> {
    let mut sum = 0;
    for set in sets.filter(|s| s.status.observed_generation > 0) {
        sum += set.status.terminating_replicas?;
    }
    Some(sum)
}

/// Adds the conditions Progressing and ReplicaFailure to the counts of a rollout.
pub(super) fn rolled_out(deployment: &Deployment, new: Option<&Set>, old: &[Set], now: Time) -> Status {
    let mut status = counted(deployment, new, old, now);
    let current = find(&deployment.status.conditions, PROGRESSING).cloned();
    match deployment.progress_deadline() {
        None => remove(&mut status.conditions, PROGRESSING),
        Some(deadline) => {
            let is_complete = current.as_ref().is_some_and(|c| c.reason == COMPLETE);
            if !(status.replicas == status.updated_replicas && is_complete) {
                estimate(deployment, &mut status, current, new, deadline, now);
            }
        }
    }
    let failing = |set: &Set| find(&set.status.conditions, REPLICA_FAILURE).cloned();
    match new.and_then(failing).or_else(|| old.iter().find_map(failing)) {
        Some(failure) => {
            let update = failure.last_transition_time;
            conditions::set(
                &mut status.conditions,
                Condition {
                    last_update_time: update,
                    ..failure
                },
            );
        }
        None => remove(&mut status.conditions, REPLICA_FAILURE),
    }
    status
}

fn estimate(
    deployment: &Deployment,
    status: &mut Status,
    current: Option<Condition>,
    new: Option<&Set>,
    deadline: i64,
    now: Time,
) {
    let who = match new {
        Some(set) => format!("ReplicaSet {:?}", set.name),
        None => format!("Deployment {:?}", deployment.metadata.name),
    };
    if is_complete(deployment, status) {
        let message = format!("{who} has successfully progressed.");
        conditions::set(
            &mut status.conditions,
            condition(PROGRESSING, "True", COMPLETE, message, now),
        );
    } else if is_progressing(&deployment.status, status) {
        let mut progress = condition(
            PROGRESSING,
            "True",
            "ReplicaSetUpdated",
            format!("{who} is progressing."),
            now,
        );
        if let Some(current) = current.filter(|c| c.status == "True") {
            progress.last_transition_time = current.last_transition_time;
        }
        // The time of the update counts even when nothing else changed.
        remove(&mut status.conditions, PROGRESSING);
        status.conditions.push(progress);
    } else if has_timed_out(status, deadline, now) {
        let message = format!("{who} has timed out progressing.");
        conditions::set(
            &mut status.conditions,
            condition(PROGRESSING, "False", TIMED_OUT, message, now),
        );
    }
}

/// All pods are new and available.
pub(super) fn is_complete(deployment: &Deployment, status: &Status) -> bool {
    let wanted = deployment.replicas();
    status.updated_replicas == wanted
        && status.replicas == wanted
        && status.available_replicas == wanted
        && status.observed_generation >= deployment.metadata.generation
}

fn is_progressing(before: &Status, after: &Status) -> bool {
    let old = |s: &Status| s.replicas - s.updated_replicas;
    after.updated_replicas > before.updated_replicas
        || old(after) < old(before)
        || after.ready_replicas > before.ready_replicas
        || after.available_replicas > before.available_replicas
}

fn has_timed_out(status: &Status, deadline: i64, now: Time) -> bool {
    match find(&status.conditions, PROGRESSING) {
        None => false,
        Some(c) if c.reason == COMPLETE => false,
        Some(c) if c.reason == TIMED_OUT => true,
        Some(c) => c
            .last_update_time
            .is_some_and(|from| now.seconds_since(from) > deadline),
    }
}

/// Seconds until the deadline must be looked at again.
pub(super) fn check_again(deployment: &Deployment, status: &Status, now: Time) -> Option<u64> {
    let deadline = deployment.progress_deadline()?;
    let current = find(&status.conditions, PROGRESSING)?;
    if is_complete(deployment, status) || matches!(current.reason.as_str(), TIMED_OUT | PAUSED | COMPLETE) {
        return None;
    }
    let left = deadline - now.seconds_since(current.last_update_time?);
    Some(u64::try_from(left.max(0)).unwrap_or(0) + 1)
}
