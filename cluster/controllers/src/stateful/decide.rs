//! What a stateful set needs: pure decisions on its pods, in the order in which things may happen.

use super::{
    pod::is_its_own,
    types::{StatefulSet, Status},
};
use crate::{
    dependents::revisions::HASH_LABEL,
    views::{Phase, Pod},
};
use std::sync::Arc;
use strata_meta::Time;

/// What to do next.
#[derive(Clone)]
pub(super) enum Action {
    /// Makes the claims of an ordinal, then its pod.
    Create {
        ordinal: i64,
    },
    /// Makes claims that a waiting pod lacks.
    Claims {
        ordinal: i64,
    },
    /// Gives a pod the identity and the claims of its ordinal, and the claims their owners.
    Mend(Arc<Pod>),
    /// Gives the claims of a pod that is scaled away their owners.
    Own(Arc<Pod>),
    Delete(Arc<Pod>),
}

/// A stateful set, its pods, and the time.
pub(super) struct Seen<'a> {
    pub set: &'a StatefulSet,
    /// With their ordinals, lowest first.
    pub pods: &'a [(i64, Arc<Pod>)],
    /// The revision that is being left, and the one that is being reached.
    pub current: &'a str,
    pub update: &'a str,
    pub now: Time,
    /// Whether the claims of an ordinal belong to a former pod and are about to go.
    pub is_stale: &'a (dyn Fn(i64) -> bool + Sync),
    /// Whether the claims of a pod have the owners that the retention policy gives them.
    pub are_owned: &'a (dyn Fn(i64, &Pod) -> bool + Sync),
}

/// Actions, and whether what follows has to wait for them.
struct Pass {
    actions: Vec<Action>,
    waits: bool,
}

impl Seen<'_> {
    fn at(&self, ordinal: i64) -> Option<&Arc<Pod>> {
        let found = self.pods.binary_search_by_key(&ordinal, |(ordinal, _)| *ordinal);
        found.ok().map(|at| &self.pods[at].1)
    }

    fn is_available(&self, pod: &Pod) -> bool {
        pod.view.is_available(self.set.spec.min_ready_seconds, self.now)
    }

    /// Whether a pod is ready, for long enough, and stays.
    fn is_healthy(&self, pod: Option<&Arc<Pod>>) -> bool {
        pod.is_some_and(|pod| self.is_available(pod) && !pod.deleting)
    }

    /// Everything that may be done now.
    pub fn plan(&self) -> Vec<Action> {
        let replicas = self.replicas();
        if replicas.waits {
            return replicas.actions;
        }
        let mut actions = replicas.actions;
        let condemned = self.condemned();
        actions.extend(condemned.actions);
        // An ordered set is rolled on only when nobody is to be scaled away.
        if !condemned.waits && self.set.rolls() {
            actions.extend(self.update());
        }
        actions
    }

    /// Sees to it that all ordinals are there; one after another unless the set is parallel.
    fn replicas(&self) -> Pass {
        let (mut actions, ordered) = (Vec::new(), self.set.is_ordered());
        for ordinal in self.set.ordinals() {
            let waits = self.replica(ordinal, &mut actions);
            if waits && ordered {
                return Pass { actions, waits };
            }
        }
        Pass { actions, waits: false }
    }

    /// Whether the ordinals after this one have to wait.
    fn replica(&self, ordinal: i64, actions: &mut Vec<Action>) -> bool {
        let Some(pod) = self.at(ordinal) else {
            if !(self.is_stale)(ordinal) {
                actions.push(Action::Create { ordinal });
            }
            return true;
        };
        if pod.view.phase.is_terminal() {
            if !pod.deleting {
                actions.push(Action::Delete(pod.clone()));
            }
            return true;
        }
        if pod.view.phase == Phase::Pending {
            actions.push(Action::Claims { ordinal });
        }
        if self.set.is_ordered() && !self.is_healthy(Some(pod)) {
            return true;
        }
        if !is_its_own(self.set, pod, ordinal) || !(self.are_owned)(ordinal, pod) {
            actions.push(Action::Mend(pod.clone()));
        }
        false
    }

    /// Takes away the pods beyond the ordinals, the highest first.
    fn condemned(&self) -> Pass {
        let ordinals = self.set.ordinals();
        let beyond = || self.pods.iter().filter(|(ordinal, _)| !ordinals.contains(ordinal));
        let mut actions: Vec<Action> = beyond()
            .filter(|(ordinal, pod)| !(self.are_owned)(*ordinal, pod))
            .map(|(_, pod)| Action::Own(pod.clone()))
            .collect();
        // The first that is not healthy may go although it is not: everything waits for it.
        let replicas = ordinals.clone().map(|ordinal| (ordinal, self.at(ordinal)));
        let sick_replica = replicas.into_iter().any(|(_, pod)| !self.is_healthy(pod));
        let first_sick = match sick_replica {
            true => None,
            false => beyond()
                .find(|(_, pod)| !self.is_healthy(Some(pod)))
                .map(|(ordinal, _)| *ordinal),
        };
        let (ordered, mut waits) = (self.set.is_ordered(), false);
        for (ordinal, pod) in beyond().rev() {
            waits = true;
            if !pod.deleting {
                if ordered && !self.is_available(pod) && first_sick != Some(*ordinal) {
                    break;
                }
                actions.push(Action::Delete(pod.clone()));
            }
            if ordered {
                break;
            }
        }
        // A parallel set does not wait for those that go.
        let waits = waits && ordered;
        Pass { actions, waits }
    }

    /// The pods that an update replaces next, the highest first.
    fn update(&self) -> Vec<Action> {
        let ordinals = self.set.ordinals();
        let from = ordinals.start + self.set.partition();
        let outdated = |pod: &Pod| pod.label(HASH_LABEL) != Some(self.update) && !pod.deleting;
        let delete = |pod: &Arc<Pod>| Action::Delete(pod.clone());
        let Some(most) = self.set.max_unavailable() else {
            // One at a time; one that is not healthy holds up those below it.
            for ordinal in (from.min(ordinals.end)..ordinals.end).rev() {
                match self.at(ordinal) {
                    Some(pod) if outdated(pod) => return vec![delete(pod)],
                    pod if !self.is_healthy(pod) => return Vec::new(),
                    _ => {}
                }
            }
            return Vec::new();
        };
        let sick = ordinals
            .clone()
            .filter(|ordinal| !self.is_healthy(self.at(*ordinal)))
            .count();
        (from.min(ordinals.end)..ordinals.end)
            .rev()
            .filter_map(|ordinal| self.at(ordinal))
            .filter(|pod| outdated(pod))
            .take(most.saturating_sub(sick))
            .map(delete)
            .collect()
    }

    /// The status that follows, once the actions are done: what an update deletes is not of the current revision any more.
    pub fn status(&self, collisions: Option<i32>, actions: &[Action]) -> Status {
        let mut status = Status {
            observed_generation: self.set.metadata.generation,
            current_revision: self.current.to_owned(),
            update_revision: self.update.to_owned(),
            collision_count: Some(collisions.unwrap_or(0)),
            conditions: self.set.status.conditions.clone(),
            ..Status::default()
        };
        let goes = |pod: &Arc<Pod>| {
            let same = |action: &Action| matches!(action, Action::Delete(other) if other.uid == pod.uid);
            pod.deleting || actions.iter().any(same)
        };
        for (_, pod) in self.pods {
            status.replicas += 1;
            let ready = pod.view.phase == Phase::Running && pod.view.ready;
            status.ready_replicas += i32::from(ready);
            status.available_replicas += i32::from(ready && self.is_available(pod));
            if !goes(pod) {
                let revision = pod.label(HASH_LABEL);
                status.current_replicas += i32::from(revision == Some(self.current));
                status.updated_replicas += i32::from(revision == Some(self.update));
            }
        }
        let wanted = self.set.replicas();
        if self.set.rolls() && [status.updated_replicas, status.ready_replicas, status.replicas] == [wanted; 3] {
            status.current_replicas = status.updated_replicas;
            status.current_revision.clone_from(&status.update_revision);
        }
        status
    }
}
