//! NodeResourcesFit with its scoring strategies, and NodeResourcesBalancedAllocation.

use crate::{
    cluster::{Cluster, NodeState},
    framework::{Event, Filter, MAX_SCORE, Plugin, Rejection, Score, Severity},
    node::Node,
    pod::Pod,
    resources::is_scalar,
};
use std::{borrow::Cow, sync::Arc};

/// Resources that are scored, with their weights.
pub(crate) type Weighed = Arc<[(Box<str>, i64)]>;

/// How nodes are ranked by what is used of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Strategy {
    LeastAllocated,
    MostAllocated,
    /// Scores (0 to 100) at shares of use (in percent), straight lines between them.
    Ratio(Arc<[(i64, i64)]>),
}

/// Extended resources that the filter leaves to others: by name, or all of a group.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ignored {
    pub names: Vec<String>,
    pub groups: Vec<String>,
}

impl Ignored {
    fn covers(&self, name: &str) -> bool {
        let group = name.split_once('/').map(|(group, _)| group);
        self.names.iter().any(|ignored| ignored == name) || self.groups.iter().any(|ignored| Some(&**ignored) == group)
    }
}

/// CPU and memory alike.
pub(crate) fn usual_resources() -> Weighed {
    ["cpu", "memory"].map(|name| (Box::from(name), 1)).into()
}

pub(crate) struct NodeResourcesFit {
    pub strategy: Strategy,
    pub resources: Weighed,
    pub ignored: Arc<Ignored>,
}

impl Default for NodeResourcesFit {
    fn default() -> Self {
        Self {
            strategy: Strategy::LeastAllocated,
            resources: usual_resources(),
            ignored: Arc::default(),
        }
    }
}

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn filter<'a>(&self, pod: &'a Pod, _: &'a Cluster) -> Option<Box<dyn Filter<'a> + 'a>> {
        let ignored = self.ignored.clone();
        Some(Box::new(Fits { pod, ignored }))
    }

    fn score<'a>(&self, pod: &'a Pod, _: &'a Cluster, _: &[usize]) -> Option<Box<dyn Score + 'a>> {
        Some(Box::new(Allocated {
            pod,
            strategy: self.strategy.clone(),
            resources: self.resources.clone(),
        }))
    }

    fn may_help(&self, event: &Event<'_>, pod: &Pod, cluster: &Cluster) -> bool {
        match event {
            Event::PodFreed(freed) => {
                let wanted = &pod.requests;
                // The pod count may have been what was missing, so every pod helps that fits the node otherwise.
                let frees = |wanted: i64, freed: i64| wanted > 0 && freed > 0;
                let state = cluster.node(&freed.node_name);
                let counted =
                    state.and_then(|state| Some(state.pods.len() as i64 + 1 >= state.node.as_ref()?.allocatable.pods));
                counted.unwrap_or(true)
                    || frees(wanted.milli_cpu, freed.requests.milli_cpu)
                    || frees(wanted.memory, freed.requests.memory)
                    || frees(wanted.ephemeral_storage, freed.requests.ephemeral_storage)
                    || wanted
                        .scalars
                        .iter()
                        .any(|(name, amount)| frees(*amount, freed.requests.scalar(name)))
            }
            Event::NodeAdded(node) | Event::NodeUpdated { new: node, .. } => match cluster.node(node.object.name()) {
                Some(state) => {
                    let ignored = self.ignored.clone();
                    Fits { pod, ignored }.check(state, node).is_ok()
                }
                None => true,
            },
            _ => false,
        }
    }
}

#[derive(Clone)]
struct Fits<'a> {
    pod: &'a Pod,
    ignored: Arc<Ignored>,
}

impl<'a> Filter<'a> for Fits<'a> {
    fn check(&self, state: &NodeState, node: &Node) -> Result<(), Rejection> {
        let (wanted, has, used) = (&self.pod.requests, &node.allocatable, &state.requested);
        let mut reasons = Vec::new();
        let mut unresolvable = false;
        if state.pods.len() as i64 + 1 > has.pods {
            reasons.push(Cow::Borrowed("Too many pods"));
        }
        if !wanted.is_nothing() {
            let mut compare = |wanted: i64, has: i64, used: i64, reason: &'static str| {
                if wanted > 0 && wanted > has - used {
                    reasons.push(reason.into());
                    unresolvable |= wanted > has;
                }
            };
            compare(wanted.milli_cpu, has.milli_cpu, used.milli_cpu, "Insufficient cpu");
            compare(wanted.memory, has.memory, used.memory, "Insufficient memory");
            compare(
                wanted.ephemeral_storage,
                has.ephemeral_storage,
                used.ephemeral_storage,
                "Insufficient ephemeral-storage",
            );
            for (name, wanted) in wanted.scalars.iter().filter(|(_, wanted)| *wanted != 0) {
                if *wanted > has.scalar(name) - used.scalar(name) && !self.ignored.covers(name) {
                    reasons.push(format!("Insufficient {name}").into());
                    unresolvable |= *wanted > has.scalar(name);
                }
            }
        }
        if reasons.is_empty() {
            return Ok(());
        }
        let severity = if unresolvable {
            Severity::Unresolvable
        } else {
            Severity::Resolvable
        };
        Err(Rejection { reasons, severity })
    }

    fn fork(&self) -> Box<dyn Filter<'a> + 'a> {
        Box::new(self.clone())
    }
}

/// What would be used of a resource on a node, and what there is; nothing for one that does not count.
fn use_of(pod: &Pod, state: &NodeState, node: &Node, name: &str, usual: bool) -> Option<(i64, i64, i64)> {
    let wish = pod.wish();
    let wanted = if usual { &wish.usual } else { &pod.requests };
    let wanted = wanted.amount(name);
    let used = match name {
        "cpu" if usual => state.usual.0,
        "memory" if usual => state.usual.1,
        name => state.requested.amount(name),
    };
    // Nodes are not compared by pieces that the pod does not want.
    let counts = wanted != 0 || !is_scalar(name);
    let has = node.allocatable.amount(name);
    (counts && has != 0).then_some((wanted, used, has))
}

struct Allocated<'a> {
    pod: &'a Pod,
    strategy: Strategy,
    resources: Weighed,
}

impl Score for Allocated<'_> {
    fn score(&self, state: &NodeState, node: &Node) -> i64 {
        let (mut sum, mut weights) = (0, 0);
        for (name, weight) in &*self.resources {
            let Some((wanted, used, has)) = use_of(self.pod, state, node, name, true) else {
                continue;
            };
            let score = self.strategy.score(used + wanted, has);
            // A ratio of nothing says nothing.
            if score > 0 || !matches!(self.strategy, Strategy::Ratio(_)) {
                sum += score * weight;
                weights += weight;
            }
        }
        match self.strategy {
            _ if weights == 0 => 0,
            Strategy::Ratio(_) => (sum as f64 / weights as f64).round() as i64,
            _ => sum / weights,
        }
    }
}

impl Strategy {
    fn score(&self, used: i64, has: i64) -> i64 {
        match self {
            Self::LeastAllocated if used > has => 0,
            Self::LeastAllocated => share(has - used, has),
            Self::MostAllocated => share(used.min(has), has),
            Self::Ratio(shape) => on_line(shape, if used > has { 100 } else { share(used, has) }),
        }
    }
}

/// In percent; in 128 bits, for a memory size times 100 may not fit 64.
fn share(part: i64, whole: i64) -> i64 {
    let share = i128::from(part) * i128::from(MAX_SCORE) / i128::from(whole);
    i64::try_from(share).unwrap_or(MAX_SCORE)
}

fn on_line(shape: &[(i64, i64)], at: i64) -> i64 {
    let Some(next) = shape.iter().position(|(share, _)| at <= *share) else {
        return shape.last().map_or(0, |(_, score)| *score);
    };
    let (share, score) = shape[next];
    if next == 0 {
        return score;
    }
    let (before, from) = shape[next - 1];
    from + (score - from) * (at - before) / (share - before)
}

pub(crate) struct BalancedAllocation {
    pub resources: Weighed,
}

impl Default for BalancedAllocation {
    fn default() -> Self {
        Self {
            resources: usual_resources(),
        }
    }
}

impl Plugin for BalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn score<'a>(&self, pod: &'a Pod, _: &'a Cluster, _: &[usize]) -> Option<Box<dyn Score + 'a>> {
        let asks = self.resources.iter().any(|(name, _)| pod.requests.amount(name) != 0);
        asks.then(|| {
            let resources = self.resources.clone();
            Box::new(Balance { pod, resources }) as Box<dyn Score>
        })
    }
}

struct Balance<'a> {
    pod: &'a Pod,
    resources: Weighed,
}

impl Score for Balance<'_> {
    fn score(&self, state: &NodeState, node: &Node) -> i64 {
        let uses: Vec<_> = self
            .resources
            .iter()
            .filter_map(|(name, _)| use_of(self.pod, state, node, name, false))
            .collect();
        let share = |used: i64, has: i64| (used as f64 / has as f64).min(1.0);
        let with = balance(uses.iter().map(|(wanted, used, has)| share(used + wanted, *has)));
        let without = balance(uses.iter().map(|(_, used, has)| share(*used, *has)));
        MAX_SCORE / 2 + (MAX_SCORE / 2 + with - without) / 2
    }
}

/// The less shares deviate from each other, the better.
fn balance(shares: impl Iterator<Item = f64>) -> i64 {
    let shares: Vec<f64> = shares.collect();
    let deviation = match shares[..] {
        [] | [_] => 0.0,
        [one, other] => ((one - other) / 2.0).abs(),
        _ => {
            let count = shares.len() as f64;
            let mean = shares.iter().sum::<f64>() / count;
            let squares = shares
                .iter()
                .fold(0.0, |sum, share| sum + (share - mean) * (share - mean));
            (squares / count).sqrt()
        }
    };
    ((1.0 - deviation) * MAX_SCORE as f64) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{cluster, node, placed, waiting};
    use serde_json::json;

    fn fits(pod: &Pod) -> Fits<'_> {
        Fits {
            pod,
            ignored: Arc::default(),
        }
    }

    fn asks(requests: serde_json::Value) -> serde_json::Value {
        json!({"containers": [{"resources": {"requests": requests}}]})
    }

    #[test]
    fn every_missing_resource_is_named() {
        let small = json!({"cpu": "2", "memory": "1Gi", "pods": "2", "x.io/y": "1"});
        let cluster = cluster(
            [node("n", json!({}), json!({}), small)],
            [placed(
                "p",
                "n",
                json!({}),
                asks(json!({"cpu": "1500m", "x.io/y": "1"})),
            )],
        );
        let cases: [(_, &[&str], _); 7] = [
            (json!({}), &[], false),
            (json!({"cpu": "500m"}), &[], false),
            (json!({"cpu": "501m"}), &["Insufficient cpu"], false),
            (json!({"cpu": "3"}), &["Insufficient cpu"], true),
            (
                json!({"cpu": "1", "memory": "2Gi"}),
                &["Insufficient cpu", "Insufficient memory"],
                true,
            ),
            (json!({"x.io/y": "1"}), &["Insufficient x.io/y"], false),
            (json!({"x.io/z": "1"}), &["Insufficient x.io/z"], true),
        ];
        let state = cluster.node("n").expect("known");
        for (requests, reasons, unresolvable) in cases {
            let pod = waiting("w", json!({}), asks(requests.clone()));
            match fits(&pod).check(state, state.node.as_ref().expect("known")) {
                Ok(()) => assert!(reasons.is_empty(), "{requests}"),
                Err(found) => assert_eq!(
                    (found.reasons, !found.severity.eq(&Severity::Resolvable)),
                    (reasons.iter().map(|r| Cow::Borrowed(*r)).collect(), unresolvable),
                    "{requests}"
                ),
            }
        }
    }

    #[test]
    fn a_node_takes_only_so_many_pods() {
        let cluster = cluster(
            [node("n", json!({}), json!({}), json!({"cpu": "2", "pods": "1"}))],
            [placed("p", "n", json!({}), json!({}))],
        );
        let state = cluster.node("n").expect("known");
        let pod = waiting("w", json!({}), json!({}));
        let refused = fits(&pod)
            .check(state, state.node.as_ref().expect("known"))
            .expect_err("full");
        assert_eq!(refused.reasons, ["Too many pods"]);
    }

    #[test]
    fn emptier_and_more_balanced_nodes_score_higher() {
        let size = json!({"cpu": "4", "memory": "8Gi", "pods": "10"});
        let cluster = cluster(
            [
                node("empty", json!({}), json!({}), size.clone()),
                node("busy", json!({}), json!({}), size),
            ],
            [placed(
                "p",
                "busy",
                json!({}),
                asks(json!({"cpu": "2", "memory": "1Gi"})),
            )],
        );
        let pod = waiting("w", json!({}), asks(json!({"cpu": "1", "memory": "2Gi"})));
        let least = NodeResourcesFit::default();
        let least = least.score(&pod, &cluster, &[]).expect("always");
        let balance = BalancedAllocation::default();
        let balance = balance.score(&pod, &cluster, &[]).expect("asks for something");
        let score = |score: &dyn Score, name: &str| {
            let state = cluster.node(name).expect("known");
            score.score(state, state.node.as_ref().expect("known"))
        };
        assert_eq!(score(&*least, "empty"), 75);
        assert_eq!(score(&*least, "busy"), (25 + 62) / 2);
        assert_eq!(score(&*balance, "empty"), 75);
        // Before: |0.5 - 0.125| / 2, after: |0.75 - 0.375| / 2, so as balanced as before.
        assert_eq!(score(&*balance, "busy"), 75);
    }
}
