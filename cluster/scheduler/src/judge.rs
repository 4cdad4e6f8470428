//! What would become of pods, and why: every figure of a decision about a cluster that is given
//! as objects. For tools that explain or compare placement; nothing is placed.

use crate::{
    budgets::Budget,
    cluster::Cluster,
    configuration::Configuration,
    cycle::{Framework, Refusal},
    node::Node,
    pod::Pod,
    preemption,
    storage::{Attachment, Capacity, Claim, Class, CsiNode, Driver, Volume},
    workloads::{MapSelector, SetSelector, Workload},
};
use serde::Serialize;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};
use strata_meta::{Object, ObjectError, ObjectKey};

/// A cluster about whose waiting pods can be asked.
pub struct Judge {
    frameworks: HashMap<Box<str>, Framework>,
    cluster: Cluster,
    waiting: HashMap<ObjectKey, Arc<Pod>>,
}

/// What would become of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The whole refusal; empty if some node does.
    pub message: String,
    /// All nodes that do, sorted.
    pub feasible: Vec<String>,
    /// Weighted scores by node and plugin; a plugin that has nothing to say is not there.
    pub scores: BTreeMap<String, BTreeMap<String, i64>>,
    /// Where preemption would make room, at whose cost.
    pub candidates: BTreeMap<String, Victims>,
    /// The nodes among which it may choose, sorted.
    pub chosen: Vec<String>,
}

/// Pods that would have to go from a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Victims {
    /// As namespace/name, sorted.
    pub victims: Vec<String>,
    /// How many of them break a disruption budget.
    pub violations: usize,
}

impl Judge {
    /// Reads a cluster. Kinds that placement does not look at are passed over.
    /// Errors: an object that cannot be read.
    pub fn new<'a>(
        objects: impl IntoIterator<Item = &'a Arc<Object>>,
        configuration: &Configuration,
    ) -> Result<Self, ObjectError> {
        let profiles = configuration.profiles.iter();
        let mut judge = Self {
            frameworks: profiles
                .map(|profile| (profile.name.clone(), profile.framework()))
                .collect(),
            cluster: Cluster::default(),
            waiting: HashMap::new(),
        };
        for object in objects {
            judge.take(object)?;
        }
        Ok(judge)
    }

    fn take(&mut self, object: &Arc<Object>) -> Result<(), ObjectError> {
        let cluster = &mut self.cluster;
        let mut workload = |kind, selector| cluster.workloads.set(kind, &object.key, selector);
        match &*object.kind.kind {
            "Service" => workload(Workload::Service, MapSelector::read(object)?.0),
            "ReplicationController" => workload(Workload::ReplicationController, MapSelector::read(object)?.0),
            "ReplicaSet" => workload(Workload::ReplicaSet, SetSelector::read(object)?.0),
            "StatefulSet" => workload(Workload::StatefulSet, SetSelector::read(object)?.0),
            "Node" => cluster.set_node(object.name(), Some(Arc::new(Node::read(object)?))),
            "Namespace" => {
                let labels = object.labels.iter();
                let labels = labels.map(|(key, value)| (key.to_string(), value.to_string()));
                cluster.namespaces.insert(object.name().into(), labels.collect());
            }
            "PodDisruptionBudget" => cluster.budgets.set(&object.key, Some(Arc::new(Budget::read(object)?))),
            "PersistentVolumeClaim" => {
                let claim = Arc::new(Claim::read(object)?);
                cluster.storage.claims.insert(object.key.clone(), claim);
            }
            "PersistentVolume" => cluster
                .storage
                .set_volume(&object.key.name, Some(Arc::new(Volume::read(object)?))),
            "VolumeAttachment" => {
                let attachment = Arc::new(Attachment::read(object)?);
                cluster.storage.set_attachment(&object.key.name, Some(attachment));
            }
            "StorageClass" => {
                let class = Arc::new(Class::read(object)?);
                cluster.storage.classes.insert(object.key.name.clone(), class);
            }
            "CSIDriver" => {
                let driver = Arc::new(Driver::read(object)?);
                cluster.storage.drivers.insert(object.key.name.clone(), driver);
            }
            "CSINode" => {
                let node = Arc::new(CsiNode::read(object)?);
                cluster.storage.nodes.insert(object.key.name.clone(), node);
            }
            "CSIStorageCapacity" => {
                let capacity = Arc::new(Capacity::read(object)?);
                cluster.storage.capacities.insert(object.key.clone(), capacity);
            }
            "Pod" => self.take_pod(Arc::new(Pod::read(object)?)),
            _ => {}
        }
        Ok(())
    }

    fn take_pod(&mut self, pod: Arc<Pod>) {
        if pod.finished {
            return;
        }
        if !pod.node_name.is_empty() {
            self.cluster.place(pod);
            return;
        }
        if let Some(node) = &pod.wish().nominated {
            self.cluster.nominations.set(pod.clone(), node);
        }
        self.waiting.insert(pod.object.key.clone(), pod);
    }

    /// Decides about a pod that waits; `None` if there is none of that name.
    pub fn verdict(&self, pod: &ObjectKey) -> Option<Verdict> {
        let pod = self.waiting.get(pod)?;
        let framework = self.frameworks.get(&pod.scheduler_name)?;
        Some(match framework.feasible(pod, &self.cluster) {
            Ok(feasible) => self.accepted(pod, &feasible, framework),
            Err(refusal) => self.refused(pod, refusal, framework),
        })
    }

    fn name(&self, at: usize) -> String {
        self.cluster.nodes()[at].name.to_string()
    }

    fn accepted(&self, pod: &Pod, feasible: &[usize], framework: &Framework) -> Verdict {
        let mut verdict = Verdict {
            feasible: feasible.iter().map(|at| self.name(*at)).collect(),
            ..Verdict::default()
        };
        verdict.feasible.sort_unstable();
        for (plugin, scores) in framework.scores(pod, &self.cluster, feasible) {
            for (at, score) in feasible.iter().zip(scores) {
                let of_node = verdict.scores.entry(self.name(*at)).or_default();
                of_node.insert(plugin.to_owned(), score);
            }
        }
        verdict
    }

    fn refused(&self, pod: &Pod, refusal: Refusal, framework: &Framework) -> Verdict {
        let mut verdict = Verdict {
            message: refusal.message.clone(),
            ..Verdict::default()
        };
        if refusal.failed {
            return verdict;
        }
        match preemption::candidates(pod, &refusal, framework, &self.cluster, usize::MAX) {
            Ok(candidates) => {
                let best = preemption::best_of(&candidates).into_iter();
                verdict.chosen = best.map(|candidate| candidate.node.to_string()).collect();
                verdict.chosen.sort_unstable();
                for candidate in &candidates {
                    let named = candidate.victims.iter().map(|victim| victim.object.key.to_string());
                    let mut victims: Vec<String> = named.collect();
                    victims.sort_unstable();
                    let violations = candidate.violations;
                    verdict
                        .candidates
                        .insert(candidate.node.to_string(), Victims { victims, violations });
                }
            }
            Err(why) => verdict.message = format!("{} {}", verdict.message, why.message).trim_end().to_owned(),
        }
        verdict
    }
}
