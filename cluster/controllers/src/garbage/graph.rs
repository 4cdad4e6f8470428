//! Who owns whom, and what a change makes worth looking at.

use super::Work;
use std::collections::{HashMap, HashSet};
use strata_client::Resource;
use strata_meta::{ObjectKey, OwnerReference, Uid};

/// Where an object is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// Unknown for an owner that was only heard of.
    pub resource: Option<Resource>,
    pub api_version: String,
    pub kind: String,
    pub key: ObjectKey,
}

/// An object as a watch shows it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub identity: Identity,
    pub uid: Uid,
    pub owners: Vec<OwnerReference>,
    pub deleting: bool,
    /// Has the finalizer of a foreground deletion.
    pub foreground: bool,
    /// Has the finalizer of an orphaning deletion.
    pub orphan: bool,
}

/// All objects that were seen, and the owners that were heard of.
#[derive(Default)]
pub(super) struct Graph {
    nodes: HashMap<Uid, Node>,
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub identity: Identity,
    pub owners: Vec<OwnerReference>,
    pub dependents: HashSet<Uid>,
    /// False for an owner that was only heard of.
    pub observed: bool,
    pub deleting: bool,
    /// Is being deleted in the foreground: after its dependents.
    pub waits_for_dependents: bool,
    orphaning: bool,
}

impl Graph {
    pub fn get(&self, uid: &Uid) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// Takes in the present state of an object.
    pub fn observe(&mut self, seen: Seen) -> Vec<Work> {
        let mut work = Vec::new();
        let before = self
            .nodes
            .get(&seen.uid)
            .map(|node| node.owners.clone())
            .unwrap_or_default();
        self.leave_owners(&seen, &before, &mut work);
        self.join_owners(&seen, &before, &mut work);
        let node = self
            .nodes
            .entry(seen.uid.clone())
            .or_insert_with(|| Node::heard_of(seen.identity.clone()));
        let starts_waiting = seen.deleting && seen.foreground && !node.waits_for_dependents;
        let starts_orphaning = seen.deleting && seen.orphan && !node.orphaning;
        node.observed = true;
        node.identity = seen.identity;
        node.owners = seen.owners;
        node.deleting |= seen.deleting;
        node.waits_for_dependents |= starts_waiting;
        node.orphaning |= starts_orphaning;
        if starts_waiting {
            work.extend(node.dependents.iter().cloned().map(Work::Delete));
            work.push(Work::Delete(seen.uid.clone()));
        }
        if starts_orphaning {
            work.push(Work::Orphan(seen.uid));
        }
        work
    }

    /// Takes out an object that no longer exists.
    pub fn gone(&mut self, uid: &Uid) -> Vec<Work> {
        let Some(node) = self.nodes.remove(uid) else {
            return Vec::new();
        };
        let mut work: Vec<Work> = node.dependents.iter().cloned().map(Work::Delete).collect();
        for owner in &node.owners {
            if let Some(owner_node) = self.nodes.get_mut(&owner.uid) {
                owner_node.dependents.remove(uid);
                if owner_node.waits_for_dependents {
                    work.push(Work::Delete(owner.uid.clone()));
                }
            }
        }
        work
    }

    /// Owners that the object no longer has, or no longer holds back.
    fn leave_owners(&mut self, seen: &Seen, before: &[OwnerReference], work: &mut Vec<Work>) {
        for old in before {
            let now = seen.owners.iter().find(|o| o.uid == old.uid);
            let Some(owner) = self.nodes.get_mut(&old.uid) else {
                continue;
            };
            if now.is_none() {
                owner.dependents.remove(&seen.uid);
            }
            let blocks = |o: &OwnerReference| o.block_owner_deletion == Some(true);
            if owner.waits_for_dependents && blocks(old) && !now.is_some_and(blocks) {
                work.push(Work::Delete(old.uid.clone()));
            }
        }
    }

    /// Owners that are new. One that was never seen has to be looked for.
    fn join_owners(&mut self, seen: &Seen, before: &[OwnerReference], work: &mut Vec<Work>) {
        for owner in seen.owners.iter().filter(|o| !before.iter().any(|b| b.uid == o.uid)) {
            let known = self.nodes.contains_key(&owner.uid);
            let identity = Identity {
                resource: None,
                api_version: owner.api_version.clone(),
                kind: owner.kind.clone(),
                key: ObjectKey::new(seen.identity.key.namespace.as_ref(), &owner.name),
            };
            let node = self
                .nodes
                .entry(owner.uid.clone())
                .or_insert_with(|| Node::heard_of(identity));
            node.dependents.insert(seen.uid.clone());
            if !known {
                work.push(Work::Delete(owner.uid.clone()));
            } else if node.observed && !node.is_named_by(owner, seen) {
                // The reference names something else than what has this uid.
                work.push(Work::Delete(seen.uid.clone()));
            } else if node.waits_for_dependents {
                work.push(Work::Delete(seen.uid.clone()));
            }
        }
    }
}

impl Node {
    fn heard_of(identity: Identity) -> Self {
        Self {
            identity,
            owners: Vec::new(),
            dependents: HashSet::new(),
            observed: false,
            deleting: false,
            waits_for_dependents: false,
            orphaning: false,
        }
    }

    fn is_named_by(&self, reference: &OwnerReference, dependent: &Seen) -> bool {
        let Some(resource) = self.identity.resource else {
            return true;
        };
        let same_namespace = !resource.namespaced || self.identity.key.namespace == dependent.identity.key.namespace;
        resource.is_kind(&reference.api_version, &reference.kind)
            && *self.identity.key.name == *reference.name
            && same_namespace
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use strata_client::resources::{PODS, REPLICA_SETS};

    pub fn seen(name: &str, owners: &[(&str, bool)]) -> Seen {
        let resource = if name.starts_with("rs") { REPLICA_SETS } else { PODS };
        Seen {
            identity: Identity {
                resource: Some(resource),
                api_version: resource.api_version(),
                kind: resource.kind.into(),
                key: ObjectKey::new("n", name),
            },
            uid: name.into(),
            owners: owners.iter().map(|(owner, blocks)| reference(owner, *blocks)).collect(),
            deleting: false,
            foreground: false,
            orphan: false,
        }
    }

    pub fn reference(owner: &str, blocks: bool) -> OwnerReference {
        OwnerReference {
            api_version: "apps/v1".into(),
            kind: "ReplicaSet".into(),
            name: owner.into(),
            uid: owner.into(),
            controller: None,
            block_owner_deletion: Some(blocks),
        }
    }

    fn sorted(mut work: Vec<Work>) -> Vec<String> {
        work.sort();
        work.iter()
            .map(|w| match w {
                Work::Delete(uid) => uid.to_string(),
                Work::Orphan(uid) => format!("orphan {uid}"),
                Work::Discover => "discover".into(),
            })
            .collect()
    }

    #[test]
    fn dependents_of_what_is_gone_are_looked_at() {
        let mut graph = Graph::default();
        assert!(graph.observe(seen("rs", &[])).is_empty());
        for pod in ["a", "b"] {
            assert!(graph.observe(seen(pod, &[("rs", true)])).is_empty());
        }
        assert_eq!(sorted(graph.gone(&"rs".into())), ["a", "b"]);
        assert!(graph.gone(&"rs".into()).is_empty());
    }

    #[test]
    fn an_owner_that_was_never_seen_is_looked_for() {
        let mut graph = Graph::default();
        assert_eq!(sorted(graph.observe(seen("a", &[("rs", false)]))), ["rs"]);
        assert!(!graph.get(&"rs".into()).unwrap().observed);
        assert!(graph.observe(seen("rs", &[])).is_empty(), "found");
        assert!(graph.get(&"rs".into()).unwrap().observed);
        assert_eq!(sorted(graph.gone(&"rs".into())), ["a"]);
    }

    #[test]
    fn a_foreground_deletion_waits_for_its_dependents() {
        let mut graph = Graph::default();
        graph.observe(seen("rs", &[]));
        graph.observe(seen("a", &[("rs", true)]));
        let deleting = Seen {
            deleting: true,
            foreground: true,
            ..seen("rs", &[])
        };
        assert_eq!(sorted(graph.observe(deleting.clone())), ["a", "rs"]);
        assert!(graph.observe(deleting).is_empty(), "told once");
        assert_eq!(sorted(graph.observe(seen("late", &[("rs", true)]))), ["late"]);
        assert_eq!(
            sorted(graph.observe(seen("late", &[("rs", false)]))),
            ["rs"],
            "no longer blocks"
        );
        assert_eq!(sorted(graph.gone(&"a".into())), ["rs"]);
    }

    #[test]
    fn an_orphaning_deletion_lets_its_dependents_go() {
        let mut graph = Graph::default();
        graph.observe(seen("rs", &[]));
        graph.observe(seen("a", &[("rs", true)]));
        let deleting = Seen {
            deleting: true,
            orphan: true,
            ..seen("rs", &[])
        };
        assert_eq!(sorted(graph.observe(deleting)), ["orphan rs"]);
        graph.observe(seen("a", &[]));
        assert!(graph.get(&"rs".into()).unwrap().dependents.is_empty());
        assert!(graph.gone(&"rs".into()).is_empty());
    }

    #[test]
    fn a_reference_that_names_something_else_is_looked_at() {
        let mut graph = Graph::default();
        graph.observe(seen("rs", &[]));
        let mut wrong = seen("a", &[("rs", false)]);
        wrong.owners[0].name = "another".into();
        assert_eq!(sorted(graph.observe(wrong)), ["a"]);
    }
}
