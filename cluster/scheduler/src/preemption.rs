//! Which pods would have to go for a more important one.

use crate::{
    checks::Checks,
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

/// Pods to remove so that a pod fits on a node.
#[derive(Clone)]
pub(crate) struct Preemption {
    pub node: Arc<str>,
    /// The most important first.
    pub victims: Vec<Arc<Pod>>,
    /// How many of them break a disruption budget.
    pub violations: usize,
    /// Less important pods for which room was being made there.
    pub displaced: Vec<Arc<Pod>>,
}

/// Why removing pods does not help.
#[derive(Debug, Default)]
pub(crate) struct Futile {
    /// The part of the refusal's message that says so.
    pub message: String,
    /// Whether room may still be coming where it was made before.
    pub keeps_nomination: bool,
}

/// Finds the node where the fewest and least important pods have to go.
pub(crate) fn plan(
    pod: &Pod,
    refusal: &Refusal,
    framework: &Framework,
    cluster: &Cluster,
) -> Result<Preemption, Futile> {
    let enough = LEAST_CANDIDATES.max(refusal.resolvable.len() / 10);
    let found = candidates(pod, refusal, framework, cluster, enough)?;
    let mut best: Option<Preemption> = None;
    for candidate in found {
        if best.as_ref().is_none_or(|best| cost(&candidate) < cost(best)) {
            best = Some(candidate);
        }
    }
    best.ok_or_else(Futile::default)
}

/// Nodes where removing pods helps, until there are enough of them; at least one.
pub(crate) fn candidates(
    pod: &Pod,
    refusal: &Refusal,
    framework: &Framework,
    cluster: &Cluster,
    enough: usize,
) -> Result<Vec<Preemption>, Futile> {
    let nodes = cluster.node_count();
    if nodes == 0 {
        return Err(Futile::default());
    }
    let ineligible = |why: &str| Futile {
        message: format!("preemption: not eligible due to {why}."),
        keeps_nomination: true,
    };
    if pod.never_preempts {
        return Err(ineligible("preemptionPolicy=Never"));
    }
    if victims_are_leaving(pod, refusal, cluster) {
        return Err(ineligible("a terminating pod on the nominated node"));
    }
    let mut reasons: HashMap<String, usize> = HashMap::new();
    let not_helpful = nodes - refusal.resolvable.len();
    if not_helpful > 0 {
        reasons.insert(NOT_HELPFUL.to_owned(), not_helpful);
    }
    let mut found = Vec::new();
    let mut unharmful = false;
    // Where no pod may be judged nothing is resolvable either.
    if let Ok(checks) = framework.prepare(pod, cluster) {
        for at in &refusal.resolvable {
            match try_node(pod, *at, &checks, cluster) {
                Ok(candidate) => {
                    unharmful |= candidate.violations == 0;
                    found.push(candidate);
                    if unharmful && found.len() >= enough {
                        break;
                    }
                }
                Err(rejection) => {
                    for reason in rejection.reasons {
                        *reasons.entry(reason.into_owned()).or_default() += 1;
                    }
                }
            }
        }
    }
    if found.is_empty() {
        let counted = reasons.iter().map(|(reason, count)| (&**reason, *count));
        return Err(Futile {
            message: format!("preemption: {}", histogram(nodes, counted)),
            keeps_nomination: false,
        });
    }
    Ok(found)
}

/// Those among which [`plan`] may choose: none is better.
pub(crate) fn best_of(candidates: &[Preemption]) -> Vec<&Preemption> {
    let least = candidates.iter().map(cost).min();
    candidates
        .iter()
        .filter(|candidate| Some(cost(candidate)) == least)
        .collect()
}

/// Whether room has been made for the pod where it fits once its victims are gone.
fn victims_are_leaving(pod: &Pod, refusal: &Refusal, cluster: &Cluster) -> bool {
    let node = cluster.nominations.node_of(&pod.object.uid);
    let Some(at) = node.and_then(|node| cluster.position(node)) else {
        return false;
    };
    let mut pods = cluster.nodes()[at].pods.iter();
    refusal.resolvable.contains(&at) && pods.any(|other| other.preempted && other.priority < pod.priority)
}

/// Removes all less important pods, then lets back as many as fit beside the pod: first those
/// whose going would break a budget.
fn try_node<'a>(pod: &Pod, at: usize, checks: &Checks<'a>, cluster: &'a Cluster) -> Result<Preemption, Rejection> {
    let (mut state, mut checks) = (cluster.nodes()[at].clone(), checks.fork());
    let Some(node) = cluster.nodes()[at].node.as_deref() else {
        return Err(Rejection::unresolvable(NOT_HELPFUL));
    };
    let less = state.pods.iter().filter(|other| other.priority < pod.priority);
    let mut removed: Vec<_> = less.cloned().collect();
    if removed.is_empty() {
        return Err(Rejection::unresolvable(NO_VICTIMS));
    }
    for other in &removed {
        state.take(other);
        checks.shift(other, node, -1);
    }
    checks
        .judge(pod, cluster, &state, node)
        .map_err(|(_, rejection)| rejection)?;
    removed.sort_by_key(|other| importance(other));
    let (breaking, harmless) = cluster.budgets.part(removed);
    let breaks = breaking.len();
    let mut victims = Vec::new();
    let mut violations = 0;
    for (position, other) in breaking.into_iter().chain(harmless).enumerate() {
        state.add(&other);
        checks.shift(&other, node, 1);
        if checks.judge(pod, cluster, &state, node).is_err() {
            state.take(&other);
            checks.shift(&other, node, -1);
            violations += usize::from(position < breaks);
            victims.push(other);
        }
    }
    victims.sort_by_key(|other| importance(other));
    Ok(Preemption {
        node: state.name,
        displaced: displaced(pod, cluster, at),
        victims,
        violations,
    })
}

fn displaced(pod: &Pod, cluster: &Cluster, at: usize) -> Vec<Arc<Pod>> {
    let others = cluster.nominations.on(&cluster.nodes()[at].name);
    others
        .filter(|other| other.priority < pod.priority && other.object.uid != pod.object.uid)
        .cloned()
        .collect()
}

/// The most important first: by priority, then by how long it has run.
fn importance(pod: &Pod) -> (Reverse<i32>, i64) {
    (Reverse(pod.priority), pod.started)
}

/// Less is better: broken budgets, the most important victim, their sum, their number, and how
/// long the longest running of the most important has run.
fn cost(plan: &Preemption) -> (usize, i32, i64, usize, Reverse<i64>) {
    let highest = plan.victims.first().map_or(i32::MIN, |victim| victim.priority);
    // Shifted so that negative priorities add up as well.
    let sum = plan
        .victims
        .iter()
        .map(|victim| i64::from(victim.priority) - i64::from(i32::MIN))
        .sum();
    let most_important = plan.victims.iter().take_while(|victim| victim.priority == highest);
    let started = most_important.map(|victim| victim.started).min().unwrap_or(i64::MAX);
    (plan.violations, highest, sum, plan.victims.len(), Reverse(started))
}
