//! What is where: nodes with the sums of their pods, kept up to date change by change.

use crate::{
    budgets::Budgets,
    node::Node,
    nomination::Nominations,
    pod::{HostPort, Pod},
    resources::Resources,
    storage::Storage,
    workloads::Workloads,
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};
use strata_meta::{ObjectKey, Selector, Uid};

/// The state that placement decides by.
#[derive(Default)]
pub(crate) struct Cluster {
    /// In an order that changes only when a node goes.
    nodes: Vec<NodeState>,
    by_name: HashMap<Arc<str>, usize>,
    placed: HashMap<Uid, Placed>,
    groups: Groups,
    /// Nodes that have an image.
    image_nodes: HashMap<Box<str>, usize>,
    known: usize,
    affine: usize,
    pub namespaces: HashMap<Box<str>, BTreeMap<String, String>>,
    pub workloads: Workloads,
    pub nominations: Nominations,
    pub budgets: Budgets,
    pub storage: Storage,
    /// How many placed pods mount a claim.
    mounted: HashMap<ObjectKey, usize>,
}

struct Placed {
    pod: Arc<Pod>,
    node: usize,
    group: GroupId,
}

/// A node and what its pods add up to.
#[derive(Clone)]
pub(crate) struct NodeState {
    pub name: Arc<str>,
    /// Absent while only pods tell of the node.
    pub node: Option<Arc<Node>>,
    pub pods: Vec<Arc<Pod>>,
    pub requested: Resources,
    /// As [`Pod::usual`].
    pub usual: (i64, i64),
    pub ports: Vec<HostPort>,
    pub groups: Vec<GroupCount>,
    /// Those of the pods that have terms about other pods.
    pub affine: Vec<Arc<Pod>>,
}

/// How many pods of a group a node has.
#[derive(Clone, Copy)]
pub(crate) struct GroupCount {
    pub group: GroupId,
    pub all: u32,
    /// Without those being deleted.
    pub staying: u32,
}

impl Cluster {
    /// Nodes that the API knows.
    pub fn node_count(&self) -> usize {
        self.known
    }

    pub fn nodes(&self) -> &[NodeState] {
        &self.nodes
    }

    pub fn node(&self, name: &str) -> Option<&NodeState> {
        self.position(name).map(|at| &self.nodes[at])
    }

    /// Where a node is in [`Cluster::nodes`].
    pub fn position(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// Nodes that the API knows, with their state.
    pub fn known_nodes(&self) -> impl Iterator<Item = (&NodeState, &Node)> {
        self.nodes
            .iter()
            .filter_map(|state| Some((state, state.node.as_deref()?)))
    }

    pub fn has_affine_pods(&self) -> bool {
        self.affine > 0
    }

    pub fn nodes_with_image(&self, image: &str) -> usize {
        self.image_nodes.get(image).copied().unwrap_or(0)
    }

    pub fn placed(&self, uid: &Uid) -> Option<&Arc<Pod>> {
        self.placed.get(uid).map(|placed| &placed.pod)
    }

    pub fn placed_count(&self) -> usize {
        self.placed.len()
    }

    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    pub fn namespace_labels(&self, name: &str) -> Option<&BTreeMap<String, String>> {
        self.namespaces.get(name)
    }

    /// Takes a node's new state; `None` removes it.
    pub fn set_node(&mut self, name: &str, node: Option<Arc<Node>>) {
        let at = match (self.by_name.get(name), &node) {
            (Some(at), _) => *at,
            (None, None) => return,
            (None, Some(_)) => self.add_state(name),
        };
        let old = std::mem::replace(&mut self.nodes[at].node, node.clone());
        self.known = self.known + usize::from(node.is_some()) - usize::from(old.is_some());
        for (image, _) in old.iter().flat_map(|old| &old.images) {
            if let Some(count) = self.image_nodes.get_mut(image) {
                *count -= 1;
                if *count == 0 {
                    self.image_nodes.remove(image);
                }
            }
        }
        for (image, _) in node.iter().flat_map(|node| &node.images) {
            *self.image_nodes.entry(image.clone()).or_default() += 1;
        }
        self.drop_if_empty(at);
    }

    fn add_state(&mut self, name: &str) -> usize {
        let name: Arc<str> = Arc::from(name);
        self.by_name.insert(name.clone(), self.nodes.len());
        self.nodes.push(NodeState {
            name,
            node: None,
            pods: Vec::new(),
            requested: Resources::default(),
            usual: (0, 0),
            ports: Vec::new(),
            groups: Vec::new(),
            affine: Vec::new(),
        });
        self.nodes.len() - 1
    }

    fn drop_if_empty(&mut self, at: usize) {
        if self.nodes[at].node.is_some() || !self.nodes[at].pods.is_empty() {
            return;
        }
        let gone = self.nodes.swap_remove(at);
        self.by_name.remove(&gone.name);
        if let Some(moved) = self.nodes.get(at) {
            self.by_name.insert(moved.name.clone(), at);
            for pod in &moved.pods {
                if let Some(placed) = self.placed.get_mut(&pod.object.uid) {
                    placed.node = at;
                }
            }
        }
    }

    /// Counts a pod on its node, in place of any former state of it.
    pub fn place(&mut self, pod: Arc<Pod>) {
        self.remove(&pod.object.uid);
        let at = match self.by_name.get(&*pod.node_name) {
            Some(at) => *at,
            None => self.add_state(&pod.node_name),
        };
        self.mount(&pod, true);
        let group = self.groups.join(&pod);
        let state = &mut self.nodes[at];
        state.add(&pod);
        let staying = u32::from(!pod.deleting());
        match state.groups.iter_mut().find(|count| count.group == group) {
            Some(count) => {
                count.all += 1;
                count.staying += staying;
            }
            None => state.groups.push(GroupCount { group, all: 1, staying }),
        }
        self.affine += usize::from(pod.pod_affinity.is_some());
        self.placed
            .insert(pod.object.uid.clone(), Placed { pod, node: at, group });
    }

    /// Whether a placed pod mounts a claim.
    pub fn uses_claim(&self, claim: &ObjectKey) -> bool {
        self.mounted.contains_key(claim)
    }

    fn mount(&mut self, pod: &Pod, comes: bool) {
        let claims = pod.volumes.iter().flat_map(|volumes| &volumes.claims);
        for used in claims.filter(|used| !used.ephemeral) {
            let key = ObjectKey::new(pod.namespace(), &used.name);
            let count = self.mounted.entry(key.clone()).or_default();
            *count = if comes { *count + 1 } else { count.saturating_sub(1) };
            if *count == 0 {
                self.mounted.remove(&key);
            }
        }
    }

    /// Takes a pod off its node; tells what it was.
    pub fn remove(&mut self, uid: &Uid) -> Option<Arc<Pod>> {
        let Placed { pod, node: at, group } = self.placed.remove(uid)?;
        self.mount(&pod, false);
        self.groups.leave(group);
        let state = &mut self.nodes[at];
        state.take(&pod);
        if let Some(count) = state.groups.iter_mut().find(|count| count.group == group) {
            count.all -= 1;
            count.staying -= u32::from(!pod.deleting());
        }
        state.groups.retain(|count| count.all > 0);
        self.affine -= usize::from(pod.pod_affinity.is_some());
        self.drop_if_empty(at);
        Some(pod)
    }
}

impl NodeState {
    /// Counts a pod, but for its group.
    pub fn add(&mut self, pod: &Arc<Pod>) {
        self.requested.add(&pod.requests);
        self.usual.0 += pod.usual.0;
        self.usual.1 += pod.usual.1;
        self.ports.extend(pod.ports.iter().cloned());
        if pod.pod_affinity.is_some() {
            self.affine.push(pod.clone());
        }
        self.pods.push(pod.clone());
    }

    /// Counts a pod no longer, but for its group.
    pub fn take(&mut self, pod: &Pod) {
        self.requested.subtract(&pod.requests);
        self.usual.0 -= pod.usual.0;
        self.usual.1 -= pod.usual.1;
        for port in &pod.ports {
            if let Some(at) = self.ports.iter().position(|held| held == port) {
                self.ports.swap_remove(at);
            }
        }
        let same = |held: &Arc<Pod>| held.object.uid == pod.object.uid;
        if let Some(at) = self.affine.iter().position(same) {
            self.affine.swap_remove(at);
        }
        if let Some(at) = self.pods.iter().position(same) {
            self.pods.swap_remove(at);
        }
    }
}

/// Pods of one namespace with the same labels: what selectors tell apart.
#[derive(Default)]
pub(crate) struct Groups {
    all: Vec<Group>,
    by_identity: HashMap<Identity, GroupId>,
    free: Vec<GroupId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupId(u32);

type Identity = (Box<str>, Labels);
type Labels = Arc<[(Box<str>, Box<str>)]>;

pub(crate) struct Group {
    pub namespace: Box<str>,
    labels: Labels,
    pods: usize,
}

impl Group {
    pub fn label(&self, key: &str) -> Option<&str> {
        let at = self.labels.binary_search_by(|(held, _)| held.as_ref().cmp(key)).ok()?;
        Some(&self.labels[at].1)
    }

    pub fn matches(&self, selectors: &[Selector]) -> bool {
        selectors
            .iter()
            .all(|selector| selector.matches_with(|key| self.label(key)))
    }
}

impl Groups {
    fn join(&mut self, pod: &Pod) -> GroupId {
        let labels: Labels = pod.object.labels.iter().cloned().collect();
        let identity: Identity = (pod.namespace().into(), labels);
        if let Some(id) = self.by_identity.get(&identity) {
            self.all[id.0 as usize].pods += 1;
            return *id;
        }
        let group = Group {
            namespace: identity.0.clone(),
            labels: identity.1.clone(),
            pods: 1,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.all[id.0 as usize] = group;
                id
            }
            None => {
                self.all.push(group);
                GroupId(u32::try_from(self.all.len() - 1).unwrap_or(u32::MAX))
            }
        };
        self.by_identity.insert(identity, id);
        id
    }

    fn leave(&mut self, id: GroupId) {
        let group = &mut self.all[id.0 as usize];
        group.pods -= 1;
        if group.pods == 0 {
            let identity = (group.namespace.clone(), group.labels.clone());
            self.by_identity.remove(&identity);
            self.free.push(id);
        }
    }

    /// Which groups satisfy a condition, each asked once.
    pub fn select(&self, holds: impl Fn(&Group) -> bool) -> Selected {
        Selected(self.all.iter().map(|group| group.pods > 0 && holds(group)).collect())
    }
}

/// The groups that satisfied a condition.
pub(crate) struct Selected(Vec<bool>);

impl Selected {
    pub fn none(&self) -> bool {
        !self.0.contains(&true)
    }

    /// Pods of these groups on a node, without those being deleted.
    pub fn staying(&self, node: &NodeState) -> i64 {
        self.chosen(node).map(|count| i64::from(count.staying)).sum()
    }

    /// Pods of these groups on a node.
    pub fn all(&self, node: &NodeState) -> i64 {
        self.chosen(node).map(|count| i64::from(count.all)).sum()
    }

    fn chosen<'a>(&'a self, node: &'a NodeState) -> impl Iterator<Item = &'a GroupCount> {
        node.groups.iter().filter(|count| self.0[count.group.0 as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{node, placed};
    use serde_json::json;

    #[test]
    fn sums_return_to_nothing_when_the_pods_go() {
        let mut cluster = Cluster::default();
        cluster.set_node("n1", Some(Arc::new(node("n1", json!({}), json!({}), json!({})))));
        let spec = json!({"containers": [{"resources": {"requests": {"cpu": "1", "x.io/y": "2"}}, "ports": [{"hostPort": 80}]}]});
        let pods: Vec<_> = (0..3)
            .map(|at| Arc::new(placed(&format!("p{at}"), "n1", json!({"a": "b"}), spec.clone())))
            .collect();
        for pod in &pods {
            cluster.place(pod.clone());
            cluster.place(pod.clone());
        }
        let state = cluster.node("n1").expect("known");
        assert_eq!(
            (
                state.requested.milli_cpu,
                state.requested.scalar("x.io/y"),
                state.pods.len()
            ),
            (3000, 6, 3)
        );
        assert_eq!((state.groups.len(), state.groups[0].all, state.ports.len()), (1, 3, 3));
        cluster.set_node("n1", None);
        assert_eq!(
            (cluster.node_count(), cluster.nodes().len()),
            (0, 1),
            "its pods are still there"
        );
        for pod in &pods {
            cluster.remove(&pod.object.uid);
        }
        assert_eq!(cluster.nodes().len(), 0);
        assert!(cluster.groups.by_identity.is_empty());
    }

    #[test]
    fn a_node_that_goes_leaves_the_others_in_place() {
        let mut cluster = Cluster::default();
        for name in ["a", "b", "c"] {
            cluster.set_node(name, Some(Arc::new(node(name, json!({}), json!({}), json!({})))));
            cluster.place(Arc::new(placed(&format!("p-{name}"), name, json!({}), json!({}))));
        }
        let gone = cluster.node("a").expect("known").pods[0].object.uid.clone();
        cluster.remove(&gone);
        cluster.set_node("a", None);
        let uid = cluster.node("c").expect("moved").pods[0].object.uid.clone();
        assert!(cluster.remove(&uid).is_some());
        assert!(cluster.node("c").expect("known").pods.is_empty());
        assert_eq!(cluster.node("b").expect("known").pods.len(), 1);
    }
}
