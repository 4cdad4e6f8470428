//! NodeVolumeLimits: how many volumes of a driver a node takes.

use super::volume_binding::uses;
use crate::{
    cluster::{Cluster, NodeState},
    framework::{Event, Filter, Plugin, Rejection},
    node::Node,
    pod::Pod,
    storage::{Claim, Storage},
};
use std::collections::{HashMap, HashSet};
use strata_meta::ObjectKey;

pub(super) struct NodeVolumeLimits;

impl Plugin for NodeVolumeLimits {
    fn name(&self) -> &'static str {
        "NodeVolumeLimits"
    }

    fn filter<'a>(&self, pod: &'a Pod, cluster: &'a Cluster) -> Option<Box<dyn Filter<'a> + 'a>> {
        let wanted = of_driver(pod, &cluster.storage);
        (!wanted.is_empty()).then(|| {
            let storage = &cluster.storage;
            Box::new(Limited { storage, wanted }) as Box<dyn Filter<'a>>
        })
    }

    fn may_help(&self, event: &Event<'_>, pod: &Pod, _: &Cluster) -> bool {
        match event {
            Event::StorageChanged => true,
            Event::PodFreed(freed) => freed.volumes.is_some(),
            Event::ClaimChanged(key) => uses(pod, key),
            _ => false,
        }
    }
}

/// A volume of a driver: the driver, and what tells the volume from its others.
type Attached<'a> = (&'a str, Identity<'a>);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Identity<'a> {
    Handle(&'a str),
    /// Not made yet.
    Claim(&'a ObjectKey),
}

/// The volumes of a pod that are some driver's.
fn of_driver<'a>(pod: &Pod, storage: &'a Storage) -> HashSet<Attached<'a>> {
    let claims = pod.volumes.iter().flat_map(|volumes| &volumes.claims);
    let claims = claims.filter_map(|used| storage.claim(&ObjectKey::new(pod.namespace(), &used.name)));
    claims.filter_map(|claim| attached(claim, storage)).collect()
}

fn attached<'a>(claim: &'a Claim, storage: &'a Storage) -> Option<Attached<'a>> {
    if let Some(volume) = storage.volume(&claim.volume) {
        let (driver, handle) = volume.csi.as_ref()?;
        return Some((driver, Identity::Handle(handle)));
    }
    let class = storage.classes.get(&*claim.class)?;
    // What has no provisioner is counted as its own driver, for which no node has a limit.
    (!class.provisioner.is_empty()).then_some((&*class.provisioner, Identity::Claim(&claim.key)))
}

#[derive(Clone)]
struct Limited<'a> {
    storage: &'a Storage,
    wanted: HashSet<Attached<'a>>,
}

impl<'a> Filter<'a> for Limited<'a> {
    fn check(&self, state: &NodeState, node: &Node) -> Result<(), Rejection> {
        let Some(csi) = self.storage.nodes.get(node.object.name()) else {
            return Ok(());
        };
        if csi.limits.is_empty() {
            return Ok(());
        }
        let pods = state.pods.iter().filter(|pod| pod.volumes.is_some());
        let mut held: HashSet<Attached<'_>> = pods.flat_map(|pod| of_driver(pod, self.storage)).collect();
        let new: Vec<_> = self.wanted.iter().filter(|wanted| !held.contains(wanted)).collect();
        for (driver, volume) in self.storage.attached(node.object.name()) {
            if let Some((_, handle)) = &volume.csi {
                held.insert((driver, Identity::Handle(handle)));
            }
        }
        let mut counts: HashMap<&str, i64> = HashMap::new();
        held.iter()
            .for_each(|(driver, _)| *counts.entry(driver).or_default() += 1);
        for (driver, _) in &new {
            *counts.entry(driver).or_default() += 1;
        }
        let over = |(driver, _): &&&Attached<'_>| {
            let limit = csi.limits.get(*driver);
            limit.is_some_and(|limit| counts.get(driver).copied().unwrap_or(0) > *limit)
        };
        if new.iter().any(|wanted| over(&wanted)) {
            return Err(Rejection::resolvable("node(s) exceed max volume count"));
        }
        Ok(())
    }

    fn fork(&self) -> Box<dyn Filter<'a> + 'a> {
        Box::new(self.clone())
    }
}
