//! Pods for which room is being made, and where.

use crate::pod::Pod;
use std::{collections::HashMap, sync::Arc};
use strata_meta::Uid;

/// Every pod that waits for its room, by node.
#[derive(Default)]
pub(crate) struct Nominations {
    nodes: HashMap<Uid, Arc<str>>,
    pods: HashMap<Arc<str>, Vec<Arc<Pod>>>,
}

impl Nominations {
    /// Room is being made for the pod on a node, and no longer elsewhere.
    pub fn set(&mut self, pod: Arc<Pod>, node: &str) {
        self.remove(&pod.object.uid);
        let node: Arc<str> = Arc::from(node);
        self.nodes.insert(pod.object.uid.clone(), node.clone());
        self.pods.entry(node).or_default().push(pod);
    }

    pub fn remove(&mut self, uid: &Uid) {
        let Some(node) = self.nodes.remove(uid) else { return };
        if let Some(pods) = self.pods.get_mut(&node) {
            pods.retain(|pod| pod.object.uid != *uid);
            if pods.is_empty() {
                self.pods.remove(&node);
            }
        }
    }

    pub fn node_of(&self, uid: &Uid) -> Option<&Arc<str>> {
        self.nodes.get(uid)
    }

    /// The pods that wait for room on a node.
    pub fn on(&self, node: &str) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.get(node).into_iter().flatten()
    }
}
