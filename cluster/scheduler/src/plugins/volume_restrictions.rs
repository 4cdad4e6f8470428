//! VolumeRestrictions: disks that one node cannot mount twice, and claims for one pod alone.

use super::volume_binding::uses;
use crate::{
    cluster::{Cluster, NodeState},
    framework::{Event, Filter, Plugin, Rejection},
    node::Node,
    pod::Pod,
    volumes::Disk,
};
use strata_meta::ObjectKey;

pub(super) struct VolumeRestrictions;

impl Plugin for VolumeRestrictions {
    fn name(&self) -> &'static str {
        "VolumeRestrictions"
    }

    fn narrow<'a>(&self, pod: &'a Pod, cluster: &'a Cluster) -> Result<Option<Vec<&'a str>>, Rejection> {
        let claims = pod.volumes.iter().flat_map(|volumes| &volumes.claims);
        for used in claims.filter(|used| !used.ephemeral) {
            if cluster
                .storage
                .claim(&ObjectKey::new(pod.namespace(), &used.name))
                .is_none()
            {
                let why = format!("persistentvolumeclaim {:?} not found", used.name);
                return Err(Rejection::unresolvable(why));
            }
        }
        Ok(None)
    }

    fn filter<'a>(&self, pod: &'a Pod, cluster: &'a Cluster) -> Option<Box<dyn Filter<'a> + 'a>> {
        let volumes = pod.volumes.as_deref()?;
        let mut alone = Vec::new();
        for used in volumes.claims.iter().filter(|used| !used.ephemeral) {
            let key = ObjectKey::new(pod.namespace(), &used.name);
            if cluster.storage.claim(&key).is_some_and(|claim| claim.is_for_one_pod()) && !alone.contains(&key) {
                alone.push(key);
            }
        }
        let in_use = alone.iter().filter(|key| cluster.uses_claim(key)).count() as i64;
        if volumes.disks.is_empty() && in_use == 0 {
            return None;
        }
        Some(Box::new(Restricted {
            disks: &volumes.disks,
            alone,
            in_use,
        }))
    }

    fn may_help(&self, event: &Event<'_>, pod: &Pod, _: &Cluster) -> bool {
        match event {
            Event::NodeAdded(_) => true,
            Event::ClaimChanged(key) => uses(pod, key),
            Event::PodFreed(freed) => {
                let theirs = freed.volumes.iter().flat_map(|volumes| &volumes.claims);
                let mut keys = theirs.map(|used| ObjectKey::new(freed.namespace(), &used.name));
                keys.any(|key| uses(pod, &key)) || disks(pod).iter().any(|disk| shares(disk, freed))
            }
            _ => false,
        }
    }
}

fn disks(pod: &Pod) -> &[Disk] {
    pod.volumes.as_ref().map_or(&[], |volumes| &volumes.disks)
}

fn shares(disk: &Disk, other: &Pod) -> bool {
    disks(other).iter().any(|held| disk.conflicts(held))
}

#[derive(Clone)]
struct Restricted<'a> {
    disks: &'a [Disk],
    alone: Vec<ObjectKey>,
    /// How many of them placed pods have.
    in_use: i64,
}

impl<'a> Filter<'a> for Restricted<'a> {
    fn check(&self, state: &NodeState, _: &Node) -> Result<(), Rejection> {
        if self
            .disks
            .iter()
            .any(|disk| state.pods.iter().any(|pod| shares(disk, pod)))
        {
            return Err(Rejection::resolvable("node(s) had no available disk"));
        }
        if self.in_use > 0 {
            return Err(Rejection::resolvable(
                "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod",
            ));
        }
        Ok(())
    }

    fn shift(&mut self, other: &Pod, _: &'a Node, by: i64) {
        let theirs = other.volumes.iter().flat_map(|volumes| &volumes.claims);
        let theirs = theirs.filter(|used| !used.ephemeral);
        let shared = theirs.filter(|used| self.alone.contains(&ObjectKey::new(other.namespace(), &used.name)));
        self.in_use += by * shared.count() as i64;
    }

    fn fork(&self) -> Box<dyn Filter<'a> + 'a> {
        Box::new(self.clone())
    }
}
