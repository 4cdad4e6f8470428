//! InterPodAffinity: near some pods, away from others.

use crate::{
    affinity::{PodAffinity, PodTerm},
    cluster::{Cluster, NodeState, Selected},
    framework::{Event, Filter, MAX_SCORE, Plugin, Rejection, Score},
    node::Node,
    pod::Pod,
};
use std::collections::HashMap;

pub(crate) struct InterPodAffinity {
    /// What a placed pod's required affinity to this pod counts in the score.
    pub hard_weight: i64,
    /// Whether what placed pods prefer is nothing to a pod that prefers nothing.
    pub ignores_placed: bool,
}

/// A label of nodes and a value of it.
type Domain<'a> = (&'a str, &'a str);
type Counts<'a> = HashMap<Domain<'a>, i64>;

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }

    fn filter<'a>(&self, pod: &'a Pod, cluster: &'a Cluster) -> Option<Box<dyn Filter<'a> + 'a>> {
        let repelling = repelling(pod, cluster);
        let own = pod.pod_affinity.as_deref();
        let own = own.filter(|own| !own.required.is_empty() || !own.required_anti.is_empty());
        if repelling.is_empty() && own.is_none() {
            return None;
        }
        Some(Box::new(Required::count(pod, cluster, own, repelling)))
    }

    fn score<'a>(&self, pod: &'a Pod, cluster: &'a Cluster, _: &[usize]) -> Option<Box<dyn Score + 'a>> {
        let mut counts = Counts::new();
        let own = pod.pod_affinity.as_deref().map_or(&[][..], |own| &own.preferred);
        if self.ignores_placed && own.is_empty() {
            return None;
        }
        for (weight, term) in own {
            let selected = select(term, cluster);
            for (state, node) in cluster.known_nodes() {
                add(&mut counts, node, term, weight * selected.all(state));
            }
        }
        for (node, placed) in affine_pods(cluster) {
            for term in placed.required.iter().filter(|term| means(term, pod, cluster)) {
                add(&mut counts, node, term, self.hard_weight);
            }
            for (weight, term) in placed.preferred.iter().filter(|(_, term)| means(term, pod, cluster)) {
                add(&mut counts, node, term, *weight);
            }
        }
        (!counts.is_empty()).then(|| Box::new(Preferred(counts)) as Box<dyn Score>)
    }

    fn may_help(&self, event: &Event<'_>, pod: &Pod, cluster: &Cluster) -> bool {
        let own = pod.pod_affinity.as_deref();
        match event {
            Event::NodeAdded(_) | Event::NodeUpdated { .. } | Event::NamespaceRelabelled => true,
            Event::NodeRemoved | Event::ClaimChanged(_) | Event::StorageChanged => false,
            Event::PodPlaced(other) => {
                own.is_some_and(|own| own.required.iter().any(|term| means(term, other, cluster)))
            }
            Event::PodFreed(other) => {
                let ours = own.is_some_and(|own| own.required_anti.iter().any(|term| means(term, other, cluster)));
                let theirs = other.pod_affinity.as_deref();
                ours || theirs.is_some_and(|theirs| theirs.required_anti.iter().any(|term| means(term, pod, cluster)))
            }
            Event::PodRelabelled(_) => own.is_some(),
        }
    }
}

/// Whether a term is about a pod.
fn means(term: &PodTerm, pod: &Pod, cluster: &Cluster) -> bool {
    term.matches(pod.namespace(), |key| pod.object.label(key), &|name| {
        cluster.namespace_labels(name)
    })
}

/// The placed pods that a term is about.
fn select(term: &PodTerm, cluster: &Cluster) -> Selected {
    let namespace_labels = |name: &str| cluster.namespace_labels(name);
    cluster
        .groups()
        .select(|group| term.matches(&group.namespace, |key| group.label(key), &namespace_labels))
}

fn affine_pods(cluster: &Cluster) -> impl Iterator<Item = (&Node, &PodAffinity)> {
    let nodes = cluster
        .has_affine_pods()
        .then(|| cluster.known_nodes())
        .into_iter()
        .flatten();
    nodes.flat_map(|(state, node)| {
        state
            .affine
            .iter()
            .filter_map(move |pod| Some((node, pod.pod_affinity.as_deref()?)))
    })
}

fn add<'a>(counts: &mut Counts<'a>, node: &'a Node, term: &'a PodTerm, count: i64) {
    if count != 0
        && let Some(value) = node.object.label(&term.topology_key)
    {
        bump(counts, (&term.topology_key, value), count);
    }
}

/// What comes to nothing is forgotten.
fn bump<'a>(counts: &mut Counts<'a>, domain: Domain<'a>, by: i64) {
    let count = counts.entry(domain).or_default();
    *count += by;
    if *count == 0 {
        counts.remove(&domain);
    }
}

/// Where placed pods do not want this one.
fn repelling<'a>(pod: &Pod, cluster: &'a Cluster) -> Counts<'a> {
    let mut counts = Counts::new();
    for (node, placed) in affine_pods(cluster) {
        for term in placed.required_anti.iter().filter(|term| means(term, pod, cluster)) {
            add(&mut counts, node, term, 1);
        }
    }
    counts
}

#[derive(Clone)]
struct Required<'a> {
    pod: &'a Pod,
    cluster: &'a Cluster,
    own: Option<&'a PodAffinity>,
    /// Where pods are that match all terms of the affinity.
    near: Counts<'a>,
    /// Where pods are that match a term of the anti-affinity.
    away: Counts<'a>,
    repelling: Counts<'a>,
    /// Whether the pod's affinity is about pods like itself, so that the first may go anywhere.
    means_itself: bool,
}

impl<'a> Required<'a> {
    fn count(pod: &'a Pod, cluster: &'a Cluster, own: Option<&'a PodAffinity>, repelling: Counts<'a>) -> Self {
        let (mut near, mut away) = (Counts::new(), Counts::new());
        let mut means_itself = false;
        if let Some(own) = own {
            let namespace_labels = |name: &str| cluster.namespace_labels(name);
            let all = cluster.groups().select(|group| {
                let mut terms = own.required.iter();
                terms.all(|term| term.matches(&group.namespace, |key| group.label(key), &namespace_labels))
            });
            let anti: Vec<_> = own
                .required_anti
                .iter()
                .map(|term| (term, select(term, cluster)))
                .collect();
            for (state, node) in cluster.known_nodes() {
                if !own.required.is_empty() {
                    own.required
                        .iter()
                        .for_each(|term| add(&mut near, node, term, all.all(state)));
                }
                anti.iter()
                    .for_each(|(term, selected)| add(&mut away, node, term, selected.all(state)));
            }
            means_itself = own.required.iter().all(|term| means(term, pod, cluster));
        }
        Self {
            pod,
            cluster,
            own,
            near,
            away,
            repelling,
            means_itself,
        }
    }

    fn near_enough(&self, node: &Node, terms: &[PodTerm]) -> bool {
        let mut there = true;
        for term in terms {
            let Some(value) = node.object.label(&term.topology_key) else {
                return false;
            };
            there &= self.near.contains_key(&(&*term.topology_key, value));
        }
        there || self.near.is_empty() && self.means_itself
    }
}

impl<'a> Filter<'a> for Required<'a> {
    fn check(&self, _: &NodeState, node: &Node) -> Result<(), Rejection> {
        if let Some(own) = self.own {
            if !self.near_enough(node, &own.required) {
                return Err(Rejection::unresolvable("node(s) didn't match pod affinity rules"));
            }
            let too_near = |term: &PodTerm| {
                let value = node.object.label(&term.topology_key);
                value.is_some_and(|value| self.away.contains_key(&(&*term.topology_key, value)))
            };
            if own.required_anti.iter().any(too_near) {
                return Err(Rejection::resolvable("node(s) didn't match pod anti-affinity rules"));
            }
        }
        if self
            .repelling
            .keys()
            .any(|(key, value)| node.object.label(key) == Some(value))
        {
            return Err(Rejection::resolvable(
                "node(s) didn't satisfy existing pods anti-affinity rules",
            ));
        }
        Ok(())
    }

    fn shift(&mut self, other: &Pod, node: &'a Node, by: i64) {
        if let Some(theirs) = other.pod_affinity.as_deref() {
            for term in theirs
                .required_anti
                .iter()
                .filter(|term| means(term, self.pod, self.cluster))
            {
                // The term lives only as long as the other pod, the node's label as long as the cluster.
                let mut labels = node.object.labels.iter();
                if let Some((key, value)) = labels.find(|(key, _)| *key == term.topology_key) {
                    bump(&mut self.repelling, (key, value), by);
                }
            }
        }
        let Some(own) = self.own else { return };
        let mut all = own.required.iter();
        if !own.required.is_empty() && all.all(|term| means(term, other, self.cluster)) {
            own.required.iter().for_each(|term| add(&mut self.near, node, term, by));
        }
        for term in own.required_anti.iter().filter(|term| means(term, other, self.cluster)) {
            add(&mut self.away, node, term, by);
        }
    }

    fn fork(&self) -> Box<dyn Filter<'a> + 'a> {
        Box::new(self.clone())
    }
}

struct Preferred<'a>(Counts<'a>);

impl Score for Preferred<'_> {
    fn score(&self, _: &NodeState, node: &Node) -> i64 {
        let here = self
            .0
            .iter()
            .filter(|((key, value), _)| node.object.label(key) == Some(value));
        here.map(|(_, count)| count).sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        let (least, most) = (
            scores.iter().copied().min().unwrap_or(0),
            scores.iter().copied().max().unwrap_or(0),
        );
        for score in scores {
            let share = if most > least {
                (*score - least) as f64 / (most - least) as f64
            } else {
                0.0
            };
            *score = (MAX_SCORE as f64 * share) as i64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{cluster, node, placed, waiting};
    use serde_json::{Value, json};

    const INTER_POD: InterPodAffinity = InterPodAffinity {
        hard_weight: 1,
        ignores_placed: false,
    };

    fn term(app: &str) -> Value {
        json!({"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": "zone"})
    }

    fn affinity(kind: &str, terms: Value) -> Value {
        json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": terms}}})
    }

    fn fitting(cluster: &Cluster, pod: &Pod) -> Vec<String> {
        let filter = INTER_POD.filter(pod, cluster);
        let fits =
            |state: &NodeState, node: &Node| filter.as_ref().is_none_or(|filter| filter.check(state, node).is_ok());
        cluster
            .known_nodes()
            .filter(|(state, node)| fits(state, node))
            .map(|(state, _)| state.name.to_string())
            .collect()
    }

    fn zones(pods: Vec<Pod>) -> Cluster {
        let nodes = [("a1", "a"), ("a2", "a"), ("b1", "b")]
            .map(|(name, zone)| node(name, json!({"zone": zone}), json!({}), json!({})));
        cluster(nodes, pods)
    }

    #[test]
    fn required_terms_decide_where_a_pod_fits() {
        let x = json!({"app": "x"});
        let with_x = || zones(vec![placed("p", "a1", x.clone(), json!({}))]);
        let near = waiting("w", json!({}), affinity("podAffinity", json!([term("x")])));
        let away = waiting("w", json!({}), affinity("podAntiAffinity", json!([term("x")])));
        assert_eq!(fitting(&with_x(), &near), ["a1", "a2"]);
        assert_eq!(fitting(&with_x(), &away), ["b1"]);
        assert!(fitting(&zones(vec![]), &near).is_empty(), "nothing to be near to");
        assert_eq!(fitting(&zones(vec![]), &away).len(), 3);
        let first = waiting("w", x.clone(), affinity("podAffinity", json!([term("x")])));
        assert_eq!(
            fitting(&zones(vec![]), &first).len(),
            3,
            "the first of its kind goes anywhere"
        );
        assert_eq!(fitting(&with_x(), &first), ["a1", "a2"]);
        let jealous = zones(vec![placed(
            "p",
            "b1",
            json!({}),
            affinity("podAntiAffinity", json!([term("x")])),
        )]);
        assert_eq!(
            fitting(&jealous, &waiting("w", x, json!({}))),
            ["a1", "a2"],
            "a placed pod may refuse a new one"
        );
        assert_eq!(fitting(&jealous, &waiting("w", json!({}), json!({}))).len(), 3);
    }

    #[test]
    fn terms_reach_other_namespaces_only_when_they_say_so() {
        let elsewhere = |spec: Value| {
            let mut terms = term("x");
            terms
                .as_object_mut()
                .expect("map")
                .extend(spec.as_object().expect("map").clone());
            let mut cluster = zones(vec![crate::fixture::placed_in(
                "other",
                "p",
                "a1",
                json!({"app": "x"}),
                json!({}),
            )]);
            cluster
                .namespaces
                .insert("other".into(), [("team".to_owned(), "t".to_owned())].into());
            fitting(
                &cluster,
                &waiting("w", json!({}), affinity("podAntiAffinity", json!([terms]))),
            )
        };
        assert_eq!(elsewhere(json!({})).len(), 3);
        assert_eq!(elsewhere(json!({"namespaces": ["other"]})), ["b1"]);
        assert_eq!(elsewhere(json!({"namespaceSelector": {}})), ["b1"]);
        assert_eq!(
            elsewhere(json!({"namespaceSelector": {"matchLabels": {"team": "t"}}})),
            ["b1"]
        );
        assert_eq!(
            elsewhere(json!({"namespaceSelector": {"matchLabels": {"team": "u"}}})).len(),
            3
        );
    }

    #[test]
    fn preferred_terms_rank_nodes() {
        let cluster = zones(vec![placed("p", "a1", json!({"app": "x"}), json!({}))]);
        let prefer = |kind: &str| {
            let terms = json!([{"weight": 10, "podAffinityTerm": term("x")}]);
            json!({"affinity": {kind: {"preferredDuringSchedulingIgnoredDuringExecution": terms}}})
        };
        for (kind, expected) in [("podAffinity", [100, 100, 0]), ("podAntiAffinity", [0, 0, 100])] {
            let pod = waiting("w", json!({}), prefer(kind));
            let score = INTER_POD.score(&pod, &cluster, &[0, 1, 2]).expect("preference");
            let mut scores: Vec<i64> = cluster
                .known_nodes()
                .map(|(state, node)| score.score(state, node))
                .collect();
            score.normalize(&mut scores);
            assert_eq!(scores, expected, "{kind}");
        }
    }
}
