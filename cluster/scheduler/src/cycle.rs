//! One decision: which node, or why none.

use crate::{
    cluster::Cluster,
    framework::{Event, Filter, Plugin, PluginSet, Rejection, Score},
    node::Node,
    pod::Pod,
};
use std::{borrow::Cow, collections::HashMap, sync::Arc};

/// In smaller clusters every node is looked at (upstream's figure).
const LEAST_FEASIBLE: usize = 100;
/// Of large clusters at least this share is ranked, in percent.
const LEAST_SHARE: usize = 5;

/// The plugins, and where the next search begins.
pub(crate) struct Framework {
    plugins: Vec<Box<dyn Plugin>>,
    start: usize,
    ties: u64,
}

/// What becomes of a pod.
#[derive(Debug)]
pub(crate) enum Decision {
    Place(Arc<str>),
    Refuse(Refusal),
}

/// Why a pod fits nowhere.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub message: String,
    /// Who rejected nodes: only what one of these cares about can help.
    pub by: PluginSet,
    /// Nodes that might do once some of their pods are gone.
    pub resolvable: Vec<usize>,
}

impl Framework {
    pub fn new(plugins: Vec<Box<dyn Plugin>>) -> Self {
        let (start, ties) = (0, 0x9e37_79b9_7f4a_7c15);
        Self { plugins, start, ties }
    }

    /// Decides about one pod.
    pub fn decide(&mut self, pod: &Pod, cluster: &Cluster) -> Decision {
        if cluster.node_count() == 0 {
            return Decision::Refuse(Refusal {
                message: "no nodes available to schedule pods".to_owned(),
                by: PluginSet::ALL,
                resolvable: Vec::new(),
            });
        }
        let filters = self.filters(pod, cluster);
        let wanted = feasible_wanted(cluster.node_count());
        let (mut feasible, mut refusals) = (Vec::new(), Refusals::default());
        let count = cluster.nodes().len();
        let mut looked_at = 0;
        for at in (0..count).map(|step| (self.start + step) % count) {
            looked_at += 1;
            let state = &cluster.nodes()[at];
            let Some(node) = state.node.as_deref() else { continue };
            match filters
                .iter()
                .find_map(|(by, filter)| Some((*by, filter.check(state, node).err()?)))
            {
                None => feasible.push(at),
                Some((by, rejection)) => refusals.note(at, by, rejection),
            }
            if feasible.len() >= wanted {
                break;
            }
        }
        self.start = (self.start + looked_at) % count;
        match feasible[..] {
            [] => Decision::Refuse(refusals.sum_up(cluster.node_count())),
            [only] => Decision::Place(cluster.nodes()[only].name.clone()),
            _ => Decision::Place(cluster.nodes()[self.best(pod, cluster, &feasible)].name.clone()),
        }
    }

    /// What this pod's nodes are checked by, with the place of each plugin.
    pub fn filters<'a>(&self, pod: &'a Pod, cluster: &'a Cluster) -> Vec<(usize, Box<dyn Filter + 'a>)> {
        let all = self.plugins.iter().enumerate();
        all.filter_map(|(at, plugin)| Some((at, plugin.filter(pod, cluster)?)))
            .collect()
    }

    /// The node with the highest score; among equals any, so that they fill evenly.
    fn best(&mut self, pod: &Pod, cluster: &Cluster, feasible: &[usize]) -> usize {
        let mut totals = vec![0i64; feasible.len()];
        let mut scores = vec![0i64; feasible.len()];
        let scorers = self
            .plugins
            .iter()
            .filter_map(|plugin| Some((plugin.weight(), plugin.score(pod, cluster, feasible)?)));
        for (weight, scorer) in scorers {
            score_all(&*scorer, cluster, feasible, &mut scores);
            totals
                .iter_mut()
                .zip(&scores)
                .for_each(|(total, score)| *total += weight * score);
        }
        let highest = totals.iter().copied().max().unwrap_or(0);
        let equals: Vec<usize> = (0..totals.len()).filter(|at| totals[*at] == highest).collect();
        self.ties = self
            .ties
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        feasible[equals[(self.ties >> 33) as usize % equals.len()]]
    }

    /// Whether an event may let a pod fit that these plugins rejected.
    pub fn may_help(&self, event: &Event<'_>, pod: &Pod, by: PluginSet, cluster: &Cluster) -> bool {
        if by == PluginSet::ALL {
            return true;
        }
        let rejecting = self.plugins.iter().enumerate().filter(|(at, _)| by.contains(*at));
        rejecting
            .into_iter()
            .any(|(_, plugin)| plugin.may_help(event, pod, cluster))
    }

    /// The names of plugins, for logs.
    pub fn names(&self, by: PluginSet) -> Vec<&'static str> {
        let all = self.plugins.iter().enumerate();
        all.filter(|(at, _)| by.contains(*at))
            .map(|(_, plugin)| plugin.name())
            .collect()
    }
}

fn score_all(scorer: &dyn Score, cluster: &Cluster, feasible: &[usize], scores: &mut [i64]) {
    for (score, at) in scores.iter_mut().zip(feasible) {
        let state = &cluster.nodes()[*at];
        let node: Option<&Node> = state.node.as_deref();
        *score = node.map_or(0, |node| scorer.score(state, node));
    }
    scorer.normalize(scores);
}

/// How many nodes that do are enough: all in a small cluster, a falling share in a large one.
fn feasible_wanted(nodes: usize) -> usize {
    if nodes < LEAST_FEASIBLE {
        return nodes;
    }
    let share = 50usize.saturating_sub(nodes / 125).max(LEAST_SHARE);
    (nodes * share / 100).max(LEAST_FEASIBLE)
}

#[derive(Default)]
struct Refusals {
    by: PluginSet,
    reasons: HashMap<Cow<'static, str>, usize>,
    resolvable: Vec<usize>,
}

impl Refusals {
    fn note(&mut self, at: usize, by: usize, rejection: Rejection) {
        self.by.insert(by);
        if !rejection.unresolvable {
            self.resolvable.push(at);
        }
        for reason in rejection.reasons {
            *self.reasons.entry(reason).or_default() += 1;
        }
    }

    fn sum_up(self, nodes: usize) -> Refusal {
        Refusal {
            message: histogram(nodes, self.reasons.iter().map(|(reason, count)| (&**reason, *count))),
            by: self.by,
            resolvable: self.resolvable,
        }
    }
}

/// Upstream's sentence: `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`
pub(crate) fn histogram<'a>(nodes: usize, reasons: impl Iterator<Item = (&'a str, usize)>) -> String {
    let mut parts: Vec<String> = reasons.map(|(reason, count)| format!("{count} {reason}")).collect();
    parts.sort_unstable();
    let mut message = format!("0/{nodes} nodes are available:");
    if !parts.is_empty() {
        message.push(' ');
        message.push_str(&parts.join(", "));
        message.push('.');
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixture::{cluster, node, placed, waiting},
        plugins,
    };
    use serde_json::{Value, json};

    fn decide(cluster: &Cluster, pod: &Pod) -> Decision {
        Framework::new(plugins::all()).decide(pod, cluster)
    }

    fn refusal(cluster: &Cluster, pod: &Pod) -> String {
        match decide(cluster, pod) {
            Decision::Refuse(refusal) => refusal.message,
            Decision::Place(node) => panic!("placed on {node}"),
        }
    }

    fn taint(effect: &str) -> Value {
        json!({"taints": [{"key": "k", "value": "v", "effect": effect}]})
    }

    #[test]
    fn the_refusal_is_upstreams_sentence() {
        let asks = json!({"containers": [{"resources": {"requests": {"cpu": "2"}}}]});
        let pod = waiting("w", json!({}), asks);
        assert_eq!(refusal(&cluster([], []), &pod), "no nodes available to schedule pods");
        let nodes = [
            node("small", json!({}), json!({}), json!({"cpu": "1", "memory": "1Gi"})),
            node("t1", json!({}), taint("NoSchedule"), json!({})),
            node("t2", json!({}), taint("NoExecute"), json!({})),
            node("off", json!({}), json!({"unschedulable": true}), json!({})),
        ];
        assert_eq!(
            refusal(&cluster(nodes, []), &pod),
            "0/4 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable, 2 node(s) had untolerated taint(s)."
        );
        let picky = waiting("w", json!({}), json!({"nodeSelector": {"disk": "ssd"}}));
        let one = cluster([node("n", json!({}), json!({}), json!({}))], []);
        assert_eq!(
            refusal(&one, &picky),
            "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."
        );
        let ports = json!({"containers": [{"ports": [{"containerPort": 80, "hostPort": 80}]}]});
        let taken = cluster(
            [node("n", json!({}), json!({}), json!({}))],
            [placed("p", "n", json!({}), ports.clone())],
        );
        assert_eq!(
            refusal(&taken, &waiting("w", json!({}), ports)),
            "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports."
        );
    }

    #[test]
    fn what_a_pod_prefers_decides_among_nodes_that_do() {
        let nodes = || {
            [
                node("a", json!({"disk": "hdd"}), json!({}), json!({})),
                node("b", json!({"disk": "ssd"}), json!({}), json!({})),
                node("c", json!({"disk": "hdd"}), taint("PreferNoSchedule"), json!({})),
            ]
        };
        let prefers = |value: &str| {
            let preference = json!({"matchExpressions": [{"key": "disk", "operator": "In", "values": [value]}]});
            let terms = json!([{"weight": 100, "preference": preference}]);
            json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": terms}}})
        };
        let placed_on = |spec| match decide(&cluster(nodes(), []), &waiting("w", json!({}), spec)) {
            Decision::Place(node) => node.to_string(),
            Decision::Refuse(refusal) => panic!("{refusal:?}"),
        };
        assert_eq!(placed_on(prefers("ssd")), "b");
        assert_eq!(placed_on(prefers("hdd")), "a");
    }

    #[test]
    fn pods_fill_equal_nodes_evenly() {
        let names: Vec<String> = (0..10).map(|at| format!("n{at}")).collect();
        let size = json!({"cpu": "4", "memory": "32Gi"});
        let mut cluster = cluster(
            names.iter().map(|name| node(name, json!({}), json!({}), size.clone())),
            [],
        );
        let mut framework = Framework::new(plugins::all());
        let asks = json!({"containers": [{"resources": {"requests": {"cpu": "100m", "memory": "500Mi"}}}]});
        for at in 0..100 {
            let pod = waiting(&format!("p{at}"), json!({}), asks.clone());
            let Decision::Place(node) = framework.decide(&pod, &cluster) else {
                panic!("there is room")
            };
            cluster.place(Arc::new(pod.placed_on(&node)));
        }
        for state in cluster.nodes() {
            assert_eq!(state.pods.len(), 10, "{}", state.name);
        }
    }

    #[test]
    fn a_large_cluster_is_searched_in_part_and_in_turn() {
        assert_eq!([50, 100, 500, 5000].map(feasible_wanted), [50, 100, 230, 500]);
    }

    #[test]
    fn only_what_the_rejecting_plugin_cares_about_wakes_a_pod() {
        let tainted = || node("t", json!({}), taint("NoSchedule"), json!({}));
        let framework = Framework::new(plugins::all());
        let cluster = cluster([tainted()], []);
        let pod = waiting("w", json!({}), json!({}));
        let Decision::Refuse(refusal) = Framework::new(plugins::all()).decide(&pod, &cluster) else {
            panic!("tainted")
        };
        assert_eq!(framework.names(refusal.by), ["TaintToleration"]);
        let clean = node("t", json!({}), json!({}), json!({}));
        let freed = placed(
            "p",
            "t",
            json!({}),
            json!({"containers": [{"resources": {"requests": {"cpu": "1"}}}]}),
        );
        let cases = [
            (Event::PodFreed(&freed), false),
            (
                Event::NodeUpdated {
                    old: &tainted(),
                    new: &tainted(),
                },
                false,
            ),
            (
                Event::NodeUpdated {
                    old: &tainted(),
                    new: &clean,
                },
                true,
            ),
            (Event::NodeAdded(&clean), true),
            (Event::NodeAdded(&tainted()), false),
        ];
        for (at, (event, expected)) in cases.into_iter().enumerate() {
            assert_eq!(
                framework.may_help(&event, &pod, refusal.by, &cluster),
                expected,
                "case {at}"
            );
        }
    }
}
