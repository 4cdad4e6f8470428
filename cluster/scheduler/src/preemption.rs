//! Which pods would have to go for a more important one.

use crate::{
    cluster::Cluster,
    cycle::{Framework, Refusal, histogram},
    framework::Rejection,
    pod::Pod,
};
use std::{cmp::Reverse, collections::HashMap, sync::Arc};

/// At least so many nodes are tried, or a tenth of all (upstream's figures).
const LEAST_CANDIDATES: usize = 100;

const NOT_HELPFUL: &str = "Preemption is not helpful for scheduling";
const NO_VICTIMS: &str = "No preemption victims found for incoming pod";

/// A pod for which room is being made, and where.
pub(crate) struct Nominated {
    pub pod: Arc<Pod>,
    pub node: Arc<str>,
}

/// Pods to remove so that a pod fits on a node.
pub(crate) struct Preemption {
    pub node: Arc<str>,
    /// The most important first.
    pub victims: Vec<Arc<Pod>>,
}

/// Finds the node where the fewest and least important pods have to go.
/// Err: the part of the refusal's message that says why there is none.
pub(crate) fn plan(
    pod: &Pod,
    refusal: &Refusal,
    nominated: Option<&Nominated>,
    framework: &Framework,
    cluster: &mut Cluster,
) -> Result<Preemption, String> {
    let nodes = cluster.node_count();
    if nodes == 0 {
        return Err(String::new());
    }
    if pod.never_preempts {
        return Err("preemption: not eligible due to preemptionPolicy=Never.".to_owned());
    }
    if nominated.is_some_and(|nominated| victims_are_leaving(pod, nominated, cluster)) {
        return Err("preemption: not eligible due to a terminating pod on the nominated node.".to_owned());
    }
    let mut reasons: HashMap<String, usize> = HashMap::new();
    let not_helpful = nodes - refusal.resolvable.len();
    if not_helpful > 0 {
        reasons.insert(NOT_HELPFUL.to_owned(), not_helpful);
    }
    let mut best: Option<Preemption> = None;
    for at in refusal.resolvable.iter().take(LEAST_CANDIDATES.max(nodes / 10)) {
        match try_node(pod, *at, framework, cluster) {
            Ok(plan) if best.as_ref().is_none_or(|best| cost(&plan) < cost(best)) => best = Some(plan),
            Ok(_) => {}
            Err(rejection) => {
                for reason in rejection.reasons {
                    *reasons.entry(reason.into_owned()).or_default() += 1;
                }
            }
        }
    }
    best.ok_or_else(|| {
        let counted = reasons.iter().map(|(reason, count)| (&**reason, *count));
        format!("preemption: {}", histogram(nodes, counted))
    })
}

fn victims_are_leaving(pod: &Pod, nominated: &Nominated, cluster: &Cluster) -> bool {
    let state = cluster.node(&nominated.node);
    state.is_some_and(|state| {
        state
            .pods
            .iter()
            .any(|other| other.deleting() && other.priority < pod.priority)
    })
}

/// Removes all less important pods, then lets back as many as fit beside the pod.
/// The cluster is as before when this returns.
fn try_node(pod: &Pod, at: usize, framework: &Framework, cluster: &mut Cluster) -> Result<Preemption, Rejection> {
    let state = &cluster.nodes()[at];
    let node = state.name.clone();
    let mut candidates: Vec<_> = state
        .pods
        .iter()
        .filter(|other| other.priority < pod.priority)
        .cloned()
        .collect();
    if candidates.is_empty() {
        return Err(Rejection::resolvable(NO_VICTIMS));
    }
    candidates.sort_by_key(|other| (Reverse(other.priority), other.started));
    for other in &candidates {
        cluster.remove(&other.object.uid);
    }
    if let Err(rejection) = fits(pod, at, framework, cluster) {
        candidates.into_iter().for_each(|other| cluster.place(other));
        return Err(rejection);
    }
    let mut victims = Vec::new();
    for other in candidates {
        cluster.place(other.clone());
        if fits(pod, at, framework, cluster).is_err() {
            cluster.remove(&other.object.uid);
            victims.push(other);
        }
    }
    victims.iter().for_each(|victim| cluster.place(victim.clone()));
    Ok(Preemption { node, victims })
}

fn fits(pod: &Pod, at: usize, framework: &Framework, cluster: &Cluster) -> Result<(), Rejection> {
    let state = &cluster.nodes()[at];
    let Some(node) = state.node.as_deref() else {
        return Err(Rejection::unresolvable(NOT_HELPFUL));
    };
    framework
        .filters(pod, cluster)
        .iter()
        .try_for_each(|(_, filter)| filter.check(state, node))
}

/// Less is better: the most important victim, their sum, their number, and how long the
/// longest running of the most important has run.
fn cost(plan: &Preemption) -> (i32, i64, usize, Reverse<i64>) {
    let highest = plan.victims.first().map_or(i32::MIN, |victim| victim.priority);
    // Shifted so that negative priorities add up as well.
    let sum = plan
        .victims
        .iter()
        .map(|victim| i64::from(victim.priority) - i64::from(i32::MIN))
        .sum();
    let most_important = plan.victims.iter().take_while(|victim| victim.priority == highest);
    let started = most_important.map(|victim| victim.started).min().unwrap_or(i64::MAX);
    (highest, sum, plan.victims.len(), Reverse(started))
}
