//! What a daemon set needs: pure decisions on its nodes and pods.

use super::{
    fit::{Fit, is_updated},
    types::{DaemonSet, Status},
};
use crate::views::{Phase, Pod};
use std::{collections::BTreeMap, sync::Arc};
use strata_meta::Time;

/// Pods by the node they are on or made for. Terminated ones that are being deleted are left out.
pub(super) type ByNode = BTreeMap<String, Vec<Arc<Pod>>>;

/// A daemon set, what is there of it, and the time.
pub(super) struct Seen<'a> {
    pub set: &'a DaemonSet,
    pub nodes: &'a BTreeMap<String, Fit>,
    pub pods: &'a ByNode,
    /// Of the present template.
    pub hash: &'a str,
    pub now: Time,
}

/// The new and the old pod of a node.
type Pair = (Option<Arc<Pod>>, Option<Arc<Pod>>);

/// What to do.
#[derive(Default)]
pub(super) struct Plan {
    /// Nodes that need a pod.
    pub create: Vec<String>,
    pub delete: Vec<Arc<Pod>>,
    /// Pods that ended by themselves, with their nodes: they are deleted, failed ones not too often.
    pub ended: Vec<(String, Arc<Pod>)>,
}

/// Oldest first; those with a node before those without.
fn by_age(pods: &mut [Arc<Pod>]) {
    pods.sort_by_cached_key(|pod| (pod.view.node.is_empty(), pod.view.created, pod.name().to_owned()));
}

impl Seen<'_> {
    fn is_available(&self, pod: &Pod) -> bool {
        pod.view.is_available(self.set.spec.min_ready_seconds, self.now)
    }

    fn is_updated(&self, pod: &Pod) -> bool {
        is_updated(self.set, pod, self.hash)
    }

    fn on(&self, node: &str) -> &[Arc<Pod>] {
        self.pods.get(node).map_or(&[], Vec::as_slice)
    }

    /// One pod on each node that wants one, none elsewhere.
    pub fn plan(&self) -> Plan {
        let mut plan = Plan::default();
        for (node, fit) in self.nodes {
            self.plan_node(node, *fit, &mut plan);
        }
        // Made for nodes that went before the scheduler placed them.
        for (node, pods) in self.pods {
            if !self.nodes.contains_key(node) {
                plan.delete
                    .extend(pods.iter().filter(|pod| pod.view.node.is_empty()).cloned());
            }
        }
        plan
    }

    fn plan_node(&self, node: &str, fit: Fit, plan: &mut Plan) {
        let pods = self.on(node);
        let present = || pods.iter().filter(|pod| !pod.deleting);
        match fit {
            Fit::Leave => plan.delete.extend(present().cloned()),
            Fit::Run if pods.is_empty() => plan.create.push(node.to_owned()),
            Fit::Run | Fit::Stay => {
                let mut running = Vec::new();
                for pod in present() {
                    match pod.view.phase.is_terminal() {
                        true => plan.ended.push((node.to_owned(), pod.clone())),
                        false => running.push(pod.clone()),
                    }
                }
                by_age(&mut running);
                match self.set.max_surge(1) > 0 {
                    false => plan.delete.extend(running.into_iter().skip(1)),
                    true if running.is_empty() && fit == Fit::Run => plan.create.push(node.to_owned()),
                    true => self.plan_surging(running, plan),
                }
            }
        }
    }

    /// An old and a new pod may be side by side until the new one can take over.
    fn plan_surging(&self, running: Vec<Arc<Pod>>, plan: &mut Plan) {
        let (mut new, mut old): (Vec<_>, Vec<_>) = running.into_iter().partition(|pod| self.is_updated(pod));
        plan.delete.extend(new.split_off(new.len().min(1)));
        plan.delete.extend(old.split_off(old.len().min(1)));
        if let (Some(new), Some(old)) = (new.pop(), old.pop())
            && (!old.view.ready || self.is_available(&new))
        {
            plan.delete.push(old);
        }
    }

    fn wanted(&self) -> i32 {
        saturated(self.nodes.values().filter(|fit| **fit == Fit::Run).count())
    }

    /// The one new and the one old pod of a node; none where there are more, which the plan mends first.
    fn pair(&self, pods: &[Arc<Pod>]) -> Option<Pair> {
        let present = pods.iter().filter(|pod| !pod.deleting).cloned();
        let (mut new, mut old): (Vec<_>, Vec<_>) = present.partition(|pod| self.is_updated(pod));
        (new.len() <= 1 && old.len() <= 1).then(|| (new.pop(), old.pop()))
    }

    /// The next part of a rolling update.
    pub fn roll(&self) -> Plan {
        match self.set.max_surge(self.wanted()) {
            0 => self.roll_by_replacing(),
            surge => self.roll_by_surging(usize::try_from(surge).unwrap_or(0)),
        }
    }

    fn roll_by_replacing(&self) -> Plan {
        let most = usize::try_from(self.set.max_unavailable(self.wanted())).unwrap_or(0);
        let (mut unavailable, mut plan, mut candidates) = (0, Plan::default(), Vec::new());
        for pods in self.pods.values() {
            match self.pair(pods) {
                Some((Some(new), None)) if self.is_available(&new) => {}
                // Replacing it makes nothing worse.
                Some((None, Some(old))) if !self.is_available(&old) => {
                    plan.delete.push(old);
                    unavailable += 1;
                }
                Some((None, Some(old))) => candidates.push(old),
                _ => unavailable += 1,
            }
        }
        plan.delete
            .extend(candidates.into_iter().take(most.saturating_sub(unavailable)));
        plan
    }

    fn roll_by_surging(&self, most: usize) -> Plan {
        let (mut surging, mut available) = (0, 0);
        let (mut plan, mut candidates, mut leaving) = (Plan::default(), Vec::new(), Vec::new());
        for (node, pods) in self.pods {
            let Some((new, old)) = self.pair(pods) else {
                surging += 1;
                continue;
            };
            let counted = old.as_ref().or(new.as_ref());
            available += usize::from(counted.is_some_and(|pod| self.is_available(pod)));
            let belongs = self.nodes.get(node) == Some(&Fit::Run);
            match (new, old) {
                (_, None) => {}
                (None, Some(old)) => match (self.is_available(&old), belongs) {
                    (false, false) => plan.delete.push(old),
                    (false, true) => plan.create.push(node.clone()),
                    (true, false) => leaving.push(old),
                    (true, true) => candidates.push(node.clone()),
                },
                (Some(new), Some(old)) => match self.is_available(&new) {
                    true => plan.delete.push(old),
                    false => surging += 1,
                },
            }
        }
        let spare = available.saturating_sub(usize::try_from(self.wanted()).unwrap_or(0));
        plan.delete.extend(leaving.into_iter().take(spare));
        plan.create
            .extend(candidates.into_iter().take(most.saturating_sub(surging)));
        plan
    }

    /// The status that follows from what was seen.
    pub fn status(&self, collisions: Option<i32>, observed: i64) -> Status {
        let mut status = Status {
            desired_number_scheduled: self.wanted(),
            observed_generation: observed,
            collision_count: collisions,
            conditions: self.set.status.conditions.clone(),
            ..Status::default()
        };
        for (node, fit) in self.nodes {
            let mut pods = self.on(node).to_vec();
            by_age(&mut pods);
            let Some(oldest) = pods.first() else { continue };
            if *fit != Fit::Run {
                status.number_misscheduled += 1;
                continue;
            }
            status.current_number_scheduled += 1;
            status.number_ready += i32::from(oldest.view.ready);
            status.number_available += i32::from(self.is_available(oldest));
            status.updated_number_scheduled += i32::from(self.is_updated(oldest));
        }
        status.number_unavailable = status.desired_number_scheduled - status.number_available;
        status
    }
}

/// Whether an ended pod failed, so that the next one waits.
pub(super) fn failed(pod: &Pod) -> bool {
    pod.view.phase == Phase::Failed
}

fn saturated(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}
