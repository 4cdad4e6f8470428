//! NodeResourcesFit with the least-allocated score, and NodeResourcesBalancedAllocation.

use crate::{
    cluster::{Cluster, NodeState},
    framework::{Event, Filter, MAX_SCORE, Plugin, Rejection, Score},
    node::Node,
    pod::Pod,
};
use std::borrow::Cow;

pub(super) struct NodeResourcesFit;

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn filter<'a>(&self, pod: &'a Pod, _: &'a Cluster) -> Option<Box<dyn Filter + 'a>> {
        Some(Box::new(Fits(pod)))
    }

    fn score<'a>(&self, pod: &'a Pod, _: &'a Cluster, _: &[usize]) -> Option<Box<dyn Score + 'a>> {
        Some(Box::new(LeastAllocated(pod)))
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
                Some(state) => Fits(pod).check(state, node).is_ok(),
                None => true,
            },
            _ => false,
        }
    }
}

struct Fits<'a>(&'a Pod);

impl Filter for Fits<'_> {
    fn check(&self, state: &NodeState, node: &Node) -> Result<(), Rejection> {
        let (wanted, has, used) = (&self.0.requests, &node.allocatable, &state.requested);
        let mut reasons = Vec::new();
        let mut unresolvable = false;
        if state.pods.len() as i64 + 1 > has.pods {
            reasons.push(Cow::Borrowed("Too many pods"));
        }
        if !wanted.is_nothing() {
            let mut compare = |wanted: i64, has: i64, used: i64, reason: fn() -> Cow<'static, str>| {
                if wanted > 0 && wanted > has - used {
                    reasons.push(reason());
                    unresolvable |= wanted > has;
                }
            };
            compare(wanted.milli_cpu, has.milli_cpu, used.milli_cpu, || {
                "Insufficient cpu".into()
            });
            compare(wanted.memory, has.memory, used.memory, || "Insufficient memory".into());
            compare(
                wanted.ephemeral_storage,
                has.ephemeral_storage,
                used.ephemeral_storage,
                || "Insufficient ephemeral-storage".into(),
            );
            for (name, wanted) in &wanted.scalars {
                if *wanted > has.scalar(name) - used.scalar(name) {
                    reasons.push(format!("Insufficient {name}").into());
                    unresolvable |= *wanted > has.scalar(name);
                }
            }
        }
        if reasons.is_empty() {
            Ok(())
        } else {
            Err(Rejection { reasons, unresolvable })
        }
    }
}

struct LeastAllocated<'a>(&'a Pod);

impl Score for LeastAllocated<'_> {
    fn score(&self, state: &NodeState, node: &Node) -> i64 {
        let (cpu, memory) = self.0.usual;
        let free = [
            (cpu + state.usual.0, node.allocatable.milli_cpu),
            (memory + state.usual.1, node.allocatable.memory),
        ];
        let (mut sum, mut counted) = (0, 0);
        for (used, has) in free.into_iter().filter(|(_, has)| *has > 0) {
            counted += 1;
            // In 128 bits: a memory size times 100 may not fit 64.
            let share = i128::from(has - used) * i128::from(MAX_SCORE) / i128::from(has);
            sum += i64::try_from(share.max(0)).unwrap_or(0);
        }
        if counted == 0 { 0 } else { sum / counted }
    }
}

pub(super) struct BalancedAllocation;

impl Plugin for BalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn score<'a>(&self, pod: &'a Pod, _: &'a Cluster, _: &[usize]) -> Option<Box<dyn Score + 'a>> {
        let asks = pod.requests.milli_cpu > 0 || pod.requests.memory > 0;
        asks.then(|| Box::new(Balance(pod)) as Box<dyn Score>)
    }
}

struct Balance<'a>(&'a Pod);

impl Score for Balance<'_> {
    fn score(&self, state: &NodeState, node: &Node) -> i64 {
        let (wanted, has, used) = (&self.0.requests, &node.allocatable, &state.requested);
        let balance = |cpu: i64, memory: i64| {
            let share = |used: i64, has: i64| (used as f64 / has as f64).min(1.0);
            let deviation = if has.milli_cpu == 0 || has.memory == 0 {
                0.0
            } else {
                ((share(cpu, has.milli_cpu) - share(memory, has.memory)) / 2.0).abs()
            };
            ((1.0 - deviation) * MAX_SCORE as f64) as i64
        };
        let with = balance(used.milli_cpu + wanted.milli_cpu, used.memory + wanted.memory);
        let without = balance(used.milli_cpu, used.memory);
        MAX_SCORE / 2 + (MAX_SCORE / 2 + with - without) / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{cluster, node, placed, waiting};
    use serde_json::json;

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
            match Fits(&pod).check(state, state.node.as_ref().expect("known")) {
                Ok(()) => assert!(reasons.is_empty(), "{requests}"),
                Err(found) => assert_eq!(
                    (found.reasons, found.unresolvable),
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
        let refused = Fits(&pod)
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
        let score = |score: &dyn Score, name: &str| {
            let state = cluster.node(name).expect("known");
            score.score(state, state.node.as_ref().expect("known"))
        };
        assert_eq!(score(&LeastAllocated(&pod), "empty"), 75);
        assert_eq!(score(&LeastAllocated(&pod), "busy"), (25 + 62) / 2);
        assert_eq!(score(&Balance(&pod), "empty"), 75);
        // Before: |0.5 - 0.125| / 2, after: |0.75 - 0.375| / 2, so as balanced as before.
        assert_eq!(score(&Balance(&pod), "busy"), 75);
    }
}
