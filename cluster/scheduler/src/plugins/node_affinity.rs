//! NodeAffinity, which node selectors are part of.

use crate::{
    affinity::{NodeAffinity as Affinity, PreferredNode},
    cluster::{Cluster, NodeState},
    framework::{Event, Filter, Plugin, Rejection, Score, normalize_by_highest},
    node::Node,
    pod::{Pod, Wish},
};
use std::{collections::BTreeSet, sync::Arc};
use strata_meta::placement::{NodeRequirement, NodeTerm};

#[derive(Default)]
pub(crate) struct NodeAffinity {
    /// What every pod of the profile asks for besides.
    pub added: Option<Arc<Affinity>>,
}

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn narrow<'a>(&self, pod: &'a Pod, _: &'a Cluster) -> Result<Option<Vec<&'a str>>, Rejection> {
        let Some(required) = &pod.wish().node_affinity.required else {
            return Ok(None);
        };
        if required.node_selector_terms.is_empty() {
            return Ok(None);
        }
        let mut all = BTreeSet::new();
        for term in &required.node_selector_terms {
            let Some(names) = named(term) else { return Ok(None) };
            all.extend(names);
        }
        if all.is_empty() {
            return Err(Rejection::unresolvable("pod affinity terms conflict"));
        }
        Ok(Some(all.into_iter().collect()))
    }

    fn filter<'a>(&self, pod: &'a Pod, _: &'a Cluster) -> Option<Box<dyn Filter<'a> + 'a>> {
        let wish = pod.wish();
        let added = self.added.clone().filter(|added| added.required.is_some());
        let asks = !wish.node_selector.is_empty() || wish.node_affinity.required.is_some() || added.is_some();
        asks.then(|| Box::new(Required { wish, added }) as Box<dyn Filter<'a>>)
    }

    fn score<'a>(&self, pod: &'a Pod, _: &'a Cluster, _: &[usize]) -> Option<Box<dyn Score + 'a>> {
        let own = &pod.wish().node_affinity.preferred;
        let added = self.added.clone().filter(|added| !added.preferred.is_empty());
        (!own.is_empty() || added.is_some()).then(|| Box::new(Preferred { own, added }) as Box<dyn Score>)
    }

    fn may_help(&self, event: &Event<'_>, pod: &Pod, _: &Cluster) -> bool {
        match event {
            _ if event.node().is_some_and(|node| {
                let added = self.added.as_ref().and_then(|added| added.required.as_ref());
                added.is_some_and(|added| !added.matches(&node.object))
            }) =>
            {
                false
            }
            Event::NodeUpdated { old, new } => wants(pod.wish(), new) && !wants(pod.wish(), old),
            _ => event.node().is_some_and(|node| wants(pod.wish(), node)),
        }
    }
}

/// The nodes that a term names; `None` if it names none and so may mean any.
fn named(term: &NodeTerm) -> Option<BTreeSet<&str>> {
    let by_name = |requirement: &&NodeRequirement| requirement.key == "metadata.name" && requirement.operator == "In";
    let lists = term.match_fields.iter().filter(by_name);
    let sets = lists.map(|requirement| requirement.values.iter().map(String::as_str).collect::<BTreeSet<_>>());
    sets.reduce(|all, next| all.intersection(&next).copied().collect())
}

/// Whether a pod's node selector and required node affinity admit a node.
pub(super) fn wants(wish: &Wish, node: &Node) -> bool {
    let selected = wish
        .node_selector
        .iter()
        .all(|(key, value)| node.object.label(key) == Some(value));
    selected
        && wish
            .node_affinity
            .required
            .as_ref()
            .is_none_or(|required| required.matches(&node.object))
}

#[derive(Clone)]
struct Required<'a> {
    wish: &'a Wish,
    added: Option<Arc<Affinity>>,
}

impl<'a> Filter<'a> for Required<'a> {
    fn check(&self, _: &NodeState, node: &Node) -> Result<(), Rejection> {
        let added = self.added.as_ref().and_then(|added| added.required.as_ref());
        if added.is_some_and(|added| !added.matches(&node.object)) {
            return Err(Rejection::unresolvable(
                "node(s) didn't match scheduler-enforced node affinity",
            ));
        }
        if wants(self.wish, node) {
            return Ok(());
        }
        Err(Rejection::unresolvable(
            "node(s) didn't match Pod's node affinity/selector",
        ))
    }

    fn fork(&self) -> Box<dyn Filter<'a> + 'a> {
        Box::new(self.clone())
    }
}

struct Preferred<'a> {
    own: &'a [PreferredNode],
    added: Option<Arc<Affinity>>,
}

impl Score for Preferred<'_> {
    fn score(&self, _: &NodeState, node: &Node) -> i64 {
        let added = self.added.iter().flat_map(|added| &added.preferred);
        let all = self.own.iter().chain(added);
        let matching = all.filter(|term| term.preference.matches(&node.object));
        matching.map(|term| term.weight).sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        normalize_by_highest(scores, false);
    }
}
