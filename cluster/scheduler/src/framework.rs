//! What a plugin is: a filter, a score, or both, and what could change its mind.

use crate::{
    cluster::{Cluster, NodeState},
    node::Node,
    pod::Pod,
};
use std::borrow::Cow;

/// The best score of a node, as upstream.
pub(crate) const MAX_SCORE: i64 = 100;

/// One aspect of placement.
pub(crate) trait Plugin: Send + Sync {
    /// Upstream's name.
    fn name(&self) -> &'static str;

    /// What to check nodes by for this pod; `None` if nothing.
    fn filter<'a>(&self, _pod: &'a Pod, _cluster: &'a Cluster) -> Option<Box<dyn Filter + 'a>> {
        None
    }

    /// What to rank nodes by for this pod; `None` if nothing.
    fn score<'a>(&self, _pod: &'a Pod, _cluster: &'a Cluster, _feasible: &[usize]) -> Option<Box<dyn Score + 'a>> {
        None
    }

    /// How much the score counts.
    fn weight(&self) -> i64 {
        1
    }

    /// Whether a pod that this plugin rejected may fit after the event.
    fn may_help(&self, _event: &Event<'_>, _pod: &Pod, _cluster: &Cluster) -> bool {
        false
    }
}

/// Checks nodes for one pod.
pub(crate) trait Filter {
    fn check(&self, state: &NodeState, node: &Node) -> Result<(), Rejection>;
}

/// Ranks nodes for one pod.
pub(crate) trait Score {
    fn score(&self, state: &NodeState, node: &Node) -> i64;

    /// Brings the scores of all nodes between 0 and [`MAX_SCORE`].
    fn normalize(&self, _scores: &mut [i64]) {}
}

/// Why a node does not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rejection {
    pub reasons: Vec<Cow<'static, str>>,
    /// Removing pods from the node would not help.
    pub unresolvable: bool,
}

impl Rejection {
    pub fn resolvable(reason: &'static str) -> Self {
        Self {
            reasons: vec![Cow::Borrowed(reason)],
            unresolvable: false,
        }
    }

    pub fn unresolvable(reason: &'static str) -> Self {
        Self {
            unresolvable: true,
            ..Self::resolvable(reason)
        }
    }
}

/// Something changed that may let a rejected pod fit.
pub(crate) enum Event<'a> {
    NodeAdded(&'a Node),
    NodeUpdated {
        old: &'a Node,
        new: &'a Node,
    },
    NodeRemoved,
    /// A pod was placed.
    PodPlaced(&'a Pod),
    /// A placed pod is gone or finished.
    PodFreed(&'a Pod),
    /// A placed pod has other labels.
    PodRelabelled(&'a Pod),
    NamespaceRelabelled,
}

impl Event<'_> {
    /// The node as it is after the event.
    pub fn node(&self) -> Option<&Node> {
        match self {
            Self::NodeAdded(node) | Self::NodeUpdated { new: node, .. } => Some(node),
            _ => None,
        }
    }
}

/// Scales to 0..=[`MAX_SCORE`] by the highest; `reverse` makes the lowest the best.
pub(crate) fn normalize_by_highest(scores: &mut [i64], reverse: bool) {
    let highest = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let scaled = if highest == 0 { 0 } else { MAX_SCORE * *score / highest };
        *score = if reverse { MAX_SCORE - scaled } else { scaled };
    }
}

/// A set of plugins, by their place in the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PluginSet(u32);

impl PluginSet {
    pub const ALL: Self = Self(u32::MAX);

    pub fn insert(&mut self, at: usize) {
        self.0 |= 1 << at;
    }

    pub fn contains(self, at: usize) -> bool {
        self.0 >> at & 1 == 1
    }
}
