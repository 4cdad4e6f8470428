//! What a plugin is: a filter, a score, or both, and what could change its mind.

use crate::{
    cluster::{Cluster, NodeState},
    node::Node,
    pod::Pod,
};
use std::borrow::Cow;
use strata_meta::ObjectKey;

/// The best score of a node, as upstream.
pub(crate) const MAX_SCORE: i64 = 100;

/// One aspect of placement.
pub(crate) trait Plugin: Send + Sync {
    /// Upstream's name.
    fn name(&self) -> &'static str;

    /// Which nodes alone to look at for this pod, sorted; `None` means all. An error refuses them all.
    fn narrow<'a>(&self, _pod: &'a Pod, _cluster: &'a Cluster) -> Result<Option<Vec<&'a str>>, Rejection> {
        Ok(None)
    }

    /// What to check nodes by for this pod; `None` if nothing.
    fn filter<'a>(&self, _pod: &'a Pod, _cluster: &'a Cluster) -> Option<Box<dyn Filter<'a> + 'a>> {
        None
    }

    /// What to rank nodes by for this pod; `None` if nothing.
    fn score<'a>(&self, _pod: &'a Pod, _cluster: &'a Cluster, _feasible: &[usize]) -> Option<Box<dyn Score + 'a>> {
        None
    }

    /// Whether a pod that this plugin rejected may fit after the event.
    fn may_help(&self, _event: &Event<'_>, _pod: &Pod, _cluster: &Cluster) -> bool {
        false
    }
}

/// Checks nodes for one pod. It knows the cluster as it was when it was made, plus the pods that
/// were told to come and go since.
pub(crate) trait Filter<'a> {
    fn check(&self, state: &NodeState, node: &Node) -> Result<(), Rejection>;

    /// A pod comes to a node (`by` is 1) or goes from it (-1).
    fn shift(&mut self, _other: &Pod, _node: &'a Node, _by: i64) {}

    /// A copy, to be told of pods that only may come and go.
    fn fork(&self) -> Box<dyn Filter<'a> + 'a>;
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
    pub severity: Severity,
}

/// What could be done about a rejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    /// Removing pods from the node may help.
    Resolvable,
    /// Removing pods from the node would not help.
    Unresolvable,
    /// The node could not be judged: something that the pod refers to makes no sense.
    Error,
}

impl Rejection {
    pub fn resolvable(reason: &'static str) -> Self {
        Self {
            reasons: vec![Cow::Borrowed(reason)],
            severity: Severity::Resolvable,
        }
    }

    pub fn unresolvable(reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reasons: vec![reason.into()],
            severity: Severity::Unresolvable,
        }
    }

    pub fn error(reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reasons: vec![reason.into()],
            severity: Severity::Error,
        }
    }

    pub fn is_resolvable(&self) -> bool {
        self.severity == Severity::Resolvable
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
    /// A claim is new, or is otherwise than it was.
    ClaimChanged(&'a ObjectKey),
    /// A volume, a class or what a driver says is new or otherwise than it was.
    StorageChanged,
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
