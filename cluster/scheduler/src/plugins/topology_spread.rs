//! PodTopologySpread: pods of a kind spread evenly over zones, hosts or any label.

use super::{node_affinity::wants, taint_toleration::untolerated};
use crate::{
    cluster::{Cluster, NodeState, Selected},
    framework::{Event, Filter, MAX_SCORE, Plugin, Rejection, Score},
    node::Node,
    pod::{Pod, Spread},
};
use std::{borrow::Cow, collections::HashMap, rc::Rc, sync::Arc};
use strata_meta::Selector;

const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";
/// The score of a node that lacks a topology label, until scores are normalized.
const IGNORED: i64 = i64::MIN;

#[derive(Default)]
pub(crate) struct PodTopologySpread {
    /// What pods that ask for nothing get; absent is upstream's own list.
    pub defaults: Option<Arc<[Spread]>>,
}

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }

    fn filter<'a>(&self, pod: &'a Pod, cluster: &'a Cluster) -> Option<Box<dyn Filter<'a> + 'a>> {
        let own = &pod.wish().spread;
        let hard: Vec<Cow<'a, Spread>> = if own.is_empty() {
            let usual = self.usual(pod, cluster).into_iter().filter(|spread| spread.hard);
            usual.map(Cow::Owned).collect()
        } else {
            own.iter().filter(|spread| spread.hard).map(Cow::Borrowed).collect()
        };
        (!hard.is_empty()).then(|| Box::new(Hard::count(pod, cluster, hard)) as Box<dyn Filter<'a>>)
    }

    fn score<'a>(&self, pod: &'a Pod, cluster: &'a Cluster, feasible: &[usize]) -> Option<Box<dyn Score + 'a>> {
        let own = &pod.wish().spread;
        let soft: Vec<Spread> = if own.is_empty() {
            let usual = self.usual(pod, cluster).into_iter();
            usual.filter(|spread| !spread.hard).collect()
        } else {
            own.iter().filter(|spread| !spread.hard).cloned().collect()
        };
        let all_labels = !own.is_empty() || self.defaults.is_some();
        (!soft.is_empty()).then(|| Box::new(Soft::count(pod, cluster, soft, all_labels, feasible)) as Box<dyn Score>)
    }

    fn may_help(&self, event: &Event<'_>, pod: &Pod, _: &Cluster) -> bool {
        match event {
            Event::NodeAdded(_) | Event::NodeRemoved | Event::NodeUpdated { .. } => true,
            Event::PodPlaced(other) | Event::PodFreed(other) | Event::PodRelabelled(other) => {
                other.namespace() == pod.namespace()
            }
            Event::NamespaceRelabelled | Event::ClaimChanged(_) | Event::StorageChanged => false,
        }
    }
}

impl PodTopologySpread {
    /// What pods that ask for nothing get: those of one service or controller apart.
    fn usual(&self, pod: &Pod, cluster: &Cluster) -> Vec<Spread> {
        let selectors = cluster.workloads.selectors(pod);
        if selectors.is_empty() {
            return Vec::new();
        }
        let Some(defaults) = &self.defaults else {
            return usual(&selectors);
        };
        let with_selectors = |spread: &Spread| Spread {
            selectors: selectors.clone(),
            ..spread.clone()
        };
        defaults.iter().map(with_selectors).collect()
    }
}

fn usual(selectors: &[Selector]) -> Vec<Spread> {
    let spread = |topology_key: &str, max_skew| Spread {
        max_skew,
        topology_key: topology_key.into(),
        hard: false,
        selectors: selectors.to_vec(),
        min_domains: 1,
        honor_affinity: true,
        honor_taints: false,
    };
    vec![spread(HOSTNAME, 3), spread(ZONE, 5)]
}

impl Spread {
    /// The placed pods that count.
    fn selected(&self, pod: &Pod, cluster: &Cluster) -> Selected {
        // Upstream counts nothing for a selector without requirements.
        let counts = self.selectors.iter().any(|selector| !selector.is_everything());
        cluster
            .groups()
            .select(|group| counts && *group.namespace == *pod.namespace() && group.matches(&self.selectors))
    }

    fn matches(&self, pod: &Pod) -> bool {
        !self.selectors.is_empty()
            && self
                .selectors
                .iter()
                .all(|selector| selector.matches_object(&pod.object))
    }

    fn counts_node(&self, pod: &Pod, node: &Node) -> bool {
        (!self.honor_affinity || wants(pod.wish(), node))
            && (!self.honor_taints || untolerated(node, &pod.wish().tolerations).is_none())
    }
}

fn has_all_labels<'a>(node: &Node, mut spreads: impl Iterator<Item = &'a Spread>) -> bool {
    spreads.all(|spread| node.object.label(&spread.topology_key).is_some())
}

#[derive(Clone)]
struct Hard<'a> {
    pod: &'a Pod,
    constraints: Vec<Constraint<'a>>,
}

#[derive(Clone)]
struct Constraint<'a> {
    spread: Cow<'a, Spread>,
    counts: HashMap<&'a str, i64>,
    /// Of the domain with the fewest.
    least: i64,
    own: i64,
}

impl<'a> Hard<'a> {
    fn count(pod: &'a Pod, cluster: &'a Cluster, hard: Vec<Cow<'a, Spread>>) -> Self {
        let constraints = hard.iter().map(|spread| {
            let selected = spread.selected(pod, cluster);
            let mut counts = HashMap::new();
            for (state, node) in cluster.known_nodes() {
                let Some(value) = node.object.label(&spread.topology_key) else {
                    continue;
                };
                if has_all_labels(node, hard.iter().map(|spread| &**spread)) && spread.counts_node(pod, node) {
                    *counts.entry(value).or_default() += selected.staying(state);
                }
            }
            let least = least(&counts, spread);
            let own = i64::from(spread.matches(pod));
            Constraint {
                spread: spread.clone(),
                counts,
                least,
                own,
            }
        });
        let constraints = constraints.collect();
        Self { pod, constraints }
    }
}

/// With fewer domains than asked for, the least is taken to be an empty one.
fn least(counts: &HashMap<&str, i64>, spread: &Spread) -> i64 {
    let enough = counts.len() >= spread.min_domains;
    let least = counts.values().copied().min();
    least.filter(|_| enough).unwrap_or(0)
}

impl<'a> Filter<'a> for Hard<'a> {
    fn check(&self, _: &NodeState, node: &Node) -> Result<(), Rejection> {
        for constraint in &self.constraints {
            let Some(value) = node.object.label(&constraint.spread.topology_key) else {
                return Err(Rejection::unresolvable(
                    "node(s) didn't match pod topology spread constraints (missing required label)",
                ));
            };
            let there = constraint.counts.get(value).copied().unwrap_or(0);
            if there + constraint.own - constraint.least > constraint.spread.max_skew {
                return Err(Rejection::resolvable(
                    "node(s) didn't match pod topology spread constraints",
                ));
            }
        }
        Ok(())
    }

    fn shift(&mut self, other: &Pod, node: &'a Node, by: i64) {
        if other.namespace() != self.pod.namespace()
            || !has_all_labels(node, self.constraints.iter().map(|constraint| &*constraint.spread))
        {
            return;
        }
        for constraint in &mut self.constraints {
            if let Some(value) = node.object.label(&constraint.spread.topology_key)
                && constraint.spread.matches(other)
                && constraint.spread.counts_node(self.pod, node)
            {
                *constraint.counts.entry(value).or_default() += by;
                constraint.least = least(&constraint.counts, &constraint.spread);
            }
        }
    }

    fn fork(&self) -> Box<dyn Filter<'a> + 'a> {
        Box::new(self.clone())
    }
}

struct Soft<'a> {
    constraints: Vec<Weighed<'a>>,
    all_labels: bool,
}

struct Weighed<'a> {
    spread: Spread,
    selected: Rc<Selected>,
    /// By the value of the label; per host the count is the node's own.
    counts: HashMap<&'a str, i64>,
    weight: f64,
}

impl<'a> Soft<'a> {
    fn count(pod: &'a Pod, cluster: &'a Cluster, soft: Vec<Spread>, all_labels: bool, feasible: &[usize]) -> Self {
        let usable = |node: &Node| !all_labels || has_all_labels(node, soft.iter());
        let candidates = feasible.iter().filter_map(|at| cluster.nodes()[*at].node.as_deref());
        let candidates: Vec<&Node> = candidates.filter(|node| usable(node)).collect();
        let mut last: Option<(&Spread, Rc<Selected>)> = None;
        let weighed = soft.iter().map(|spread| {
            let same = last.as_ref().filter(|(last, _)| last.selectors == spread.selectors);
            let selected = same.map_or_else(
                || Rc::new(spread.selected(pod, cluster)),
                |(_, selected)| selected.clone(),
            );
            last = Some((spread, selected.clone()));
            let mut counts: HashMap<&'a str, i64> = HashMap::new();
            let by_host = &*spread.topology_key == HOSTNAME;
            if !by_host {
                let values = candidates
                    .iter()
                    .map(|node| node.object.label(&spread.topology_key).unwrap_or(""));
                counts.extend(values.map(|value| (value, 0)));
            }
            let domains = if by_host { candidates.len() } else { counts.len() };
            if !by_host && !selected.none() {
                for (state, node) in cluster.known_nodes() {
                    let value = node.object.label(&spread.topology_key).unwrap_or("");
                    if usable(node)
                        && let Some(count) = counts.get_mut(value)
                        && spread.counts_node(pod, node)
                    {
                        *count += selected.staying(state);
                    }
                }
            }
            Weighed {
                spread: spread.clone(),
                selected,
                counts,
                // So that the counts of few large domains do not drown those of many small ones.
                weight: ((domains + 2) as f64).ln(),
            }
        });
        let constraints = weighed.collect();
        Self {
            constraints,
            all_labels,
        }
    }
}

impl Score for Soft<'_> {
    fn score(&self, state: &NodeState, node: &Node) -> i64 {
        if self.all_labels && !has_all_labels(node, self.constraints.iter().map(|weighed| &weighed.spread)) {
            return IGNORED;
        }
        let mut score = 0.0;
        for weighed in &self.constraints {
            let Some(value) = node.object.label(&weighed.spread.topology_key) else {
                continue;
            };
            let by_host = &*weighed.spread.topology_key == HOSTNAME;
            let count = if by_host {
                weighed.selected.staying(state)
            } else {
                weighed.counts.get(value).copied().unwrap_or(0)
            };
            score += count as f64 * weighed.weight + (weighed.spread.max_skew - 1) as f64;
        }
        score.round() as i64
    }

    fn normalize(&self, scores: &mut [i64]) {
        let counted = || scores.iter().copied().filter(|score| *score != IGNORED);
        let (least, most) = (counted().min().unwrap_or(0), counted().max().unwrap_or(0).max(0));
        for score in scores {
            *score = match *score {
                IGNORED => 0,
                _ if most == 0 => MAX_SCORE,
                score => MAX_SCORE * (most + least - score) / most,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{cluster, node, placed, waiting};
    use serde_json::json;

    fn zones() -> Vec<Node> {
        [("a1", "a"), ("a2", "a"), ("b1", "b")]
            .map(|(name, zone)| {
                node(
                    name,
                    json!({"topology.kubernetes.io/zone": zone, "kubernetes.io/hostname": name}),
                    json!({}),
                    json!({}),
                )
            })
            .into()
    }

    fn constraint(more: serde_json::Value) -> serde_json::Value {
        let mut constraint = json!({
            "maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "x"}}
        });
        constraint
            .as_object_mut()
            .expect("map")
            .extend(more.as_object().expect("map").clone());
        json!({"topologySpreadConstraints": [constraint]})
    }

    fn fitting(cluster: &Cluster, pod: &Pod) -> Vec<String> {
        let filter = PodTopologySpread::default().filter(pod, cluster).expect("constrained");
        let fits = cluster
            .known_nodes()
            .filter(|(state, node)| filter.check(state, node).is_ok());
        fits.map(|(state, _)| state.name.to_string()).collect()
    }

    #[test]
    fn the_skew_is_kept() {
        let x = json!({"app": "x"});
        let one = cluster(zones(), [placed("p", "a1", x.clone(), json!({}))]);
        let pod = |more| waiting("w", x.clone(), constraint(more));
        assert_eq!(fitting(&one, &pod(json!({}))), ["b1"]);
        assert_eq!(fitting(&one, &pod(json!({"maxSkew": 2}))), ["a1", "a2", "b1"]);
        assert_eq!(fitting(&one, &pod(json!({"minDomains": 3}))), ["b1"]);
        let other = cluster(zones(), [placed("p", "a1", json!({"app": "y"}), json!({}))]);
        assert_eq!(fitting(&other, &pod(json!({}))), ["a1", "a2", "b1"]);
        let mut only_a = constraint(json!({}));
        only_a["nodeSelector"] = json!({"topology.kubernetes.io/zone": "a"});
        let pod = waiting("w", x.clone(), only_a);
        assert_eq!(
            fitting(&one, &pod),
            ["a1", "a2", "b1"],
            "zone b does not count, so a is the least"
        );
        let missing = waiting("w", x, constraint(json!({"topologyKey": "rack"})));
        let filter = PodTopologySpread::default()
            .filter(&missing, &one)
            .expect("constrained");
        let (state, node) = one.known_nodes().next().expect("nodes");
        assert!(filter.check(state, node).expect_err("no label").reasons[0].ends_with("(missing required label)"));
    }

    #[test]
    fn pods_of_one_service_are_spread_without_being_asked() {
        let x = json!({"app": "x"});
        let mut cluster = cluster(
            zones(),
            [
                placed("p", "a1", x.clone(), json!({})),
                placed("q", "b1", json!({}), json!({})),
            ],
        );
        let pod = waiting("w", x, json!({}));
        let feasible: Vec<usize> = (0..3).collect();
        assert!(
            PodTopologySpread::default().score(&pod, &cluster, &feasible).is_none(),
            "no service, no spreading"
        );
        let selector = strata_meta::Selector::parse("app=x").expect("selector");
        let key = strata_meta::ObjectKey::new("default", "s");
        cluster
            .workloads
            .set(crate::workloads::Workload::Service, &key, Some(selector));
        let score = PodTopologySpread::default()
            .score(&pod, &cluster, &feasible)
            .expect("spread");
        let mut scores: Vec<i64> = cluster
            .known_nodes()
            .map(|(state, node)| score.score(state, node))
            .collect();
        score.normalize(&mut scores);
        assert!(scores[2] > scores[1] && scores[1] > scores[0], "{scores:?}");
        assert_eq!(scores[2], MAX_SCORE);
    }
}
