//! One decision: which node, or why none.

use crate::{
    checks::Checks,
    cluster::Cluster,
    framework::{Event, Plugin, PluginSet, Rejection, Score, Severity},
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
    plugins: Vec<Enabled>,
    /// Those that narrow, in their turns.
    turns: Vec<usize>,
    /// Of how many nodes the best is taken, in percent; 0 lets the size of the cluster decide.
    share: usize,
    start: usize,
    ties: u64,
}

/// A plugin, and what of it counts.
pub(crate) struct Enabled {
    pub plugin: Box<dyn Plugin>,
    /// Its turn among those that leave out nodes before any is looked at.
    pub narrows: Option<usize>,
    pub filters: bool,
    /// How much its score counts; nothing at zero.
    pub weight: i64,
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
    /// The pod could not be judged, and is to be tried again as it is.
    pub failed: bool,
}

impl Framework {
    pub fn new(plugins: Vec<Enabled>, share: usize) -> Self {
        let (start, ties) = (0, 0x9e37_79b9_7f4a_7c15);
        let mut turns: Vec<usize> = (0..plugins.len()).filter(|at| plugins[*at].narrows.is_some()).collect();
        turns.sort_by_key(|at| plugins[*at].narrows);
        Self {
            plugins,
            turns,
            share,
            start,
            ties,
        }
    }

    /// Decides about one pod.
    pub fn decide(&mut self, pod: &Pod, cluster: &Cluster) -> Decision {
        let checks = match self.prepare(pod, cluster) {
            Ok(checks) => checks,
            Err(refusal) => return Decision::Refuse(refusal),
        };
        if let Some(node) = nominated(pod, cluster, &checks) {
            return Decision::Place(node);
        }
        let (feasible, looked_at, refusals) =
            self.search(pod, cluster, &checks, feasible_wanted(cluster.node_count(), self.share));
        self.start = (self.start + looked_at) % cluster.nodes().len();
        match (&feasible[..], refusals.failure) {
            (_, Some(failure)) => Decision::Refuse(failure),
            ([], None) => Decision::Refuse(refusals.counts.sum_up(cluster.node_count())),
            ([only], None) => Decision::Place(cluster.nodes()[*only].name.clone()),
            (_, None) => Decision::Place(cluster.nodes()[self.best(pod, cluster, &feasible)].name.clone()),
        }
    }

    /// All nodes that do, or why none does.
    pub fn feasible(&self, pod: &Pod, cluster: &Cluster) -> Result<Vec<usize>, Refusal> {
        let checks = self.prepare(pod, cluster)?;
        let (feasible, _, refusals) = self.search(pod, cluster, &checks, cluster.nodes().len());
        match refusals.failure {
            Some(failure) => Err(failure),
            None if feasible.is_empty() => Err(refusals.counts.sum_up(cluster.node_count())),
            None => Ok(feasible),
        }
    }

    fn search<'a>(
        &self,
        pod: &Pod,
        cluster: &'a Cluster,
        checks: &Checks<'a>,
        wanted: usize,
    ) -> (Vec<usize>, usize, Searched) {
        let (mut feasible, mut refusals) = (Vec::new(), Searched::default());
        let count = cluster.nodes().len();
        let mut looked_at = 0;
        for at in (0..count).map(|step| (self.start + step) % count) {
            looked_at += 1;
            let state = &cluster.nodes()[at];
            let Some(node) = state.node.as_deref() else { continue };
            if checks.leaves_out(&state.name) {
                refusals.counts.note(at, None, checks.left_out());
                continue;
            }
            match checks.judge(pod, cluster, state, node) {
                Ok(()) => feasible.push(at),
                Err((by, rejection)) if rejection.severity == Severity::Error => {
                    let (name, why) = (self.name(by), rejection.reasons.join(", "));
                    refusals.failure = Some(Refusal::failure(format!("running {name:?} filter plugin: {why}")));
                    break;
                }
                Err((by, rejection)) => refusals.counts.note(at, Some(by), rejection),
            }
            if feasible.len() >= wanted {
                break;
            }
        }
        (feasible, looked_at, refusals)
    }

    /// What this pod's nodes are checked by; a refusal if no node has to be looked at.
    pub fn prepare<'a>(&self, pod: &'a Pod, cluster: &'a Cluster) -> Result<Checks<'a>, Refusal> {
        if cluster.node_count() == 0 {
            return Err(Refusal {
                message: "no nodes available to schedule pods".to_owned(),
                by: PluginSet::ALL,
                resolvable: Vec::new(),
                failed: false,
            });
        }
        let mut checks = Checks::default();
        let mut later = None;
        for (at, plugin) in self.narrowing() {
            match plugin.narrow(pod, cluster) {
                Ok(None) => {}
                Ok(Some(names)) => {
                    checks.narrow(names, plugin.name());
                    if checks.among.as_ref().is_some_and(Vec::is_empty) {
                        let why = checks.unsatisfied();
                        return Err(Refusal::of_all(at, Rejection::unresolvable(why), cluster));
                    }
                }
                Err(rejection) if rejection.severity == Severity::Error => {
                    let why = rejection.reasons.join(", ");
                    return Err(Refusal::failure(format!(
                        "running PreFilter plugin {:?}: {why}",
                        plugin.name()
                    )));
                }
                Err(rejection) if rejection.is_resolvable() => later = Some((at, rejection)),
                Err(rejection) => return Err(Refusal::of_all(at, rejection, cluster)),
            }
        }
        for (at, plugin) in self.enabled() {
            if let Some(filter) = plugin.filter(pod, cluster) {
                checks.filters.push((at, filter));
            }
        }
        match later {
            Some((at, rejection)) => Err(Refusal::of_all(at, rejection, cluster)),
            None => Ok(checks),
        }
    }

    fn narrowing(&self) -> impl Iterator<Item = (usize, &dyn Plugin)> {
        self.turns.iter().map(|at| (*at, &*self.plugins[*at].plugin))
    }

    fn enabled(&self) -> impl Iterator<Item = (usize, &dyn Plugin)> {
        let all = self.plugins.iter().enumerate();
        all.filter(|(_, enabled)| enabled.filters)
            .map(|(at, enabled)| (at, &*enabled.plugin))
    }

    /// The weighted scores of nodes by each plugin that has something to say.
    pub fn scores(&self, pod: &Pod, cluster: &Cluster, feasible: &[usize]) -> Vec<(&'static str, Vec<i64>)> {
        let scoring = self.plugins.iter().filter(|enabled| enabled.weight > 0);
        let scored = scoring.filter_map(|enabled| {
            let scorer = enabled.plugin.score(pod, cluster, feasible)?;
            let mut scores = vec![0i64; feasible.len()];
            score_all(&*scorer, cluster, feasible, &mut scores);
            scores.iter_mut().for_each(|score| *score *= enabled.weight);
            Some((enabled.plugin.name(), scores))
        });
        scored.collect()
    }

    /// The node with the highest score; among equals any, so that they fill evenly.
    fn best(&mut self, pod: &Pod, cluster: &Cluster, feasible: &[usize]) -> usize {
        let mut totals = vec![0i64; feasible.len()];
        for (_, scores) in self.scores(pod, cluster, feasible) {
            totals.iter_mut().zip(scores).for_each(|(total, score)| *total += score);
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
        let all = self.plugins.iter().enumerate();
        let mut rejecting = all.filter(|(at, _)| by.contains(*at));
        rejecting.any(|(_, enabled)| enabled.plugin.may_help(event, pod, cluster))
    }

    /// The names of plugins.
    pub fn names(&self, by: PluginSet) -> Vec<&'static str> {
        let all = self.plugins.iter().enumerate();
        all.filter(|(at, _)| by.contains(*at))
            .map(|(_, enabled)| enabled.plugin.name())
            .collect()
    }

    fn name(&self, at: usize) -> &'static str {
        self.plugins.get(at).map_or("", |enabled| enabled.plugin.name())
    }
}

/// The node where room was made for the pod, if it fits there now.
fn nominated<'a>(pod: &Pod, cluster: &'a Cluster, checks: &Checks<'a>) -> Option<Arc<str>> {
    let name = cluster.nominations.node_of(&pod.object.uid)?;
    let state = cluster.node(name).filter(|state| !checks.leaves_out(&state.name))?;
    let node = state.node.as_deref()?;
    let fits = checks.judge(pod, cluster, state, node).is_ok();
    fits.then(|| state.name.clone())
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
fn feasible_wanted(nodes: usize, share: usize) -> usize {
    if nodes < LEAST_FEASIBLE {
        return nodes;
    }
    let share = match share {
        0 => 50usize.saturating_sub(nodes / 125).max(LEAST_SHARE),
        share => share,
    };
    (nodes * share / 100).max(LEAST_FEASIBLE)
}

/// What a search found wrong.
#[derive(Default)]
struct Searched {
    counts: Refusals,
    failure: Option<Refusal>,
}

#[derive(Default)]
struct Refusals {
    by: PluginSet,
    reasons: HashMap<Cow<'static, str>, usize>,
    resolvable: Vec<usize>,
}

impl Refusals {
    fn note(&mut self, at: usize, by: Option<usize>, rejection: Rejection) {
        if let Some(by) = by {
            self.by.insert(by);
        }
        if rejection.is_resolvable() {
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
            failed: false,
        }
    }
}

impl Refusal {
    /// One plugin refuses every node for one reason.
    fn of_all(by: usize, rejection: Rejection, cluster: &Cluster) -> Self {
        let mut plugins = PluginSet::default();
        plugins.insert(by);
        let known = cluster.nodes().iter().enumerate();
        let known = known.filter(|(_, state)| state.node.is_some()).map(|(at, _)| at);
        Self {
            message: format!(
                "0/{} nodes are available: {}.",
                cluster.node_count(),
                rejection.reasons.join(", ")
            ),
            by: plugins,
            resolvable: if rejection.is_resolvable() {
                known.collect()
            } else {
                Vec::new()
            },
            failed: false,
        }
    }

    fn failure(message: String) -> Self {
        Self {
            message,
            by: PluginSet::ALL,
            resolvable: Vec::new(),
            failed: true,
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
        plugins::all().decide(pod, cluster)
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
        let mut framework = plugins::all();
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
        assert_eq!(feasible_wanted(500, 80), 400);
        assert_eq!(
            [50, 100, 500, 5000].map(|nodes| feasible_wanted(nodes, 0)),
            [50, 100, 230, 500]
        );
    }

    #[test]
    fn only_what_the_rejecting_plugin_cares_about_wakes_a_pod() {
        let tainted = || node("t", json!({}), taint("NoSchedule"), json!({}));
        let framework = plugins::all();
        let cluster = cluster([tainted()], []);
        let pod = waiting("w", json!({}), json!({}));
        let Decision::Refuse(refusal) = plugins::all().decide(&pod, &cluster) else {
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
