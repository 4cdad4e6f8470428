//! What a pod's nodes are checked by, once the plugins have looked at the pod.

use crate::{
    cluster::{Cluster, NodeState},
    framework::{Filter, Rejection},
    node::Node,
    pod::Pod,
};

/// The filters of a pod. Copies can be told of pods that only may come and go.
#[derive(Default)]
pub(crate) struct Checks<'a> {
    /// With the place of each plugin.
    pub filters: Vec<(usize, Box<dyn Filter<'a> + 'a>)>,
    /// Only these nodes are looked at, sorted by name.
    pub among: Option<Vec<&'a str>>,
    /// Who said so.
    narrowed_by: Vec<&'static str>,
}

impl<'a> Checks<'a> {
    /// A copy to try things with.
    pub fn fork(&self) -> Self {
        let filters = self.filters.iter().map(|(by, filter)| (*by, filter.fork()));
        Self {
            filters: filters.collect(),
            among: self.among.clone(),
            narrowed_by: self.narrowed_by.clone(),
        }
    }

    /// See [`Filter::shift`].
    pub fn shift(&mut self, other: &Pod, node: &'a Node, by: i64) {
        let filters = self.filters.iter_mut();
        filters.for_each(|(_, filter)| filter.shift(other, node, by));
    }

    /// Leaves out all nodes but these, which are sorted.
    pub fn narrow(&mut self, names: Vec<&'a str>, by: &'static str) {
        self.narrowed_by.push(by);
        self.narrowed_by.sort_unstable();
        self.among = Some(match self.among.take() {
            None => names,
            Some(mut among) => {
                among.retain(|name| names.binary_search(name).is_ok());
                among
            }
        });
    }

    /// Why no node at all is left.
    pub fn unsatisfied(&self) -> String {
        match &self.narrowed_by[..] {
            [only] => format!("node(s) didn't satisfy plugin {only}"),
            all => format!("node(s) didn't satisfy plugin(s) [{}] simultaneously", all.join(" ")),
        }
    }

    /// Why a node was left out.
    pub fn left_out(&self) -> Rejection {
        Rejection::unresolvable(format!(
            "node(s) didn't satisfy plugin(s) [{}]",
            self.narrowed_by.join(" ")
        ))
    }

    /// Whether a node is none of those that are looked at.
    pub fn leaves_out(&self, name: &str) -> bool {
        let among = self.among.as_ref();
        among.is_some_and(|among| among.binary_search(&name).is_err())
    }

    /// Whether the pod fits on a node in this state, both beside the pods for which room is
    /// being made there, if they are at least as important, and without them.
    /// Err: which plugin does not think so, and why.
    pub fn judge(
        &self,
        pod: &Pod,
        cluster: &Cluster,
        state: &NodeState,
        node: &'a Node,
    ) -> Result<(), (usize, Rejection)> {
        let awaited: Vec<_> = cluster
            .nominations
            .on(&state.name)
            .filter(|other| other.priority >= pod.priority && other.object.uid != pod.object.uid)
            .collect();
        if !awaited.is_empty() {
            let (mut checks, mut state) = (self.fork(), state.clone());
            for other in awaited {
                state.add(other);
                checks.shift(other, node, 1);
            }
            checks.check(&state, node)?;
        }
        self.check(state, node)
    }

    fn check(&self, state: &NodeState, node: &Node) -> Result<(), (usize, Rejection)> {
        let mut filters = self.filters.iter();
        filters.try_for_each(|(by, filter)| filter.check(state, node).map_err(|rejection| (*by, rejection)))
    }
}
