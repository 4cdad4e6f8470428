//! VolumeZone: volumes whose labels say which zone they are in.

use super::volume_binding::uses;
use crate::{
    cluster::{Cluster, NodeState},
    framework::{Event, Filter, Plugin, Rejection},
    node::Node,
    pod::Pod,
    storage::Volume,
};
use strata_meta::ObjectKey;

/// Labels of zones and regions, each with its present name.
const LABELS: [(&str, &str); 4] = [
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "topology.kubernetes.io/region",
    ),
    ("topology.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("topology.kubernetes.io/region", "topology.kubernetes.io/region"),
];
/// Between the zones of one volume.
const BETWEEN: &str = "__";

pub(super) struct VolumeZone;

impl Plugin for VolumeZone {
    fn name(&self) -> &'static str {
        "VolumeZone"
    }

    fn narrow<'a>(&self, pod: &'a Pod, cluster: &'a Cluster) -> Result<Option<Vec<&'a str>>, Rejection> {
        volumes(pod, cluster).map(|_| None)
    }

    fn filter<'a>(&self, pod: &'a Pod, cluster: &'a Cluster) -> Option<Box<dyn Filter<'a> + 'a>> {
        // What is wrong with them has been said before.
        let volumes = volumes(pod, cluster).ok()?;
        let zones: Vec<Zone<'a>> = volumes.into_iter().flat_map(zones).collect();
        (!zones.is_empty()).then(|| Box::new(Zones(zones)) as Box<dyn Filter<'a>>)
    }

    fn may_help(&self, event: &Event<'_>, pod: &Pod, _: &Cluster) -> bool {
        match event {
            Event::NodeAdded(_) | Event::StorageChanged => true,
            Event::NodeUpdated { old, new } => old.object.labels != new.object.labels,
            Event::ClaimChanged(key) => uses(pod, key),
            _ => false,
        }
    }
}

/// The volumes that a pod's claims are bound to.
fn volumes<'a>(pod: &Pod, cluster: &'a Cluster) -> Result<Vec<&'a Volume>, Rejection> {
    let storage = &cluster.storage;
    let mut found = Vec::new();
    let claims = pod.volumes.iter().flat_map(|volumes| &volumes.claims);
    for used in claims.filter(|used| !used.ephemeral) {
        let refuse = |why: String| Err(Rejection::unresolvable(why));
        let Some(claim) = storage.claim(&ObjectKey::new(pod.namespace(), &used.name)) else {
            return refuse(format!("persistentvolumeclaim {:?} not found", used.name));
        };
        if claim.volume.is_empty() {
            if claim.class.is_empty() {
                return refuse("PersistentVolumeClaim had no pv name and storageClass name".to_owned());
            }
            match storage.classes.get(&*claim.class) {
                None => return refuse(format!("storageclass.storage.k8s.io {:?} not found", claim.class)),
                Some(class) if !class.delayed => return refuse("PersistentVolume had no name".to_owned()),
                Some(_) => continue,
            }
        }
        match storage.volume(&claim.volume) {
            None => return refuse(format!("persistentvolume {:?} not found", claim.volume)),
            Some(volume) => found.push(&**volume),
        }
    }
    Ok(found)
}

/// A label, its present name, and the values that do.
#[derive(Clone)]
struct Zone<'a> {
    label: &'static str,
    present: &'static str,
    values: Vec<&'a str>,
}

fn zones(volume: &Volume) -> impl Iterator<Item = Zone<'_>> {
    LABELS.iter().filter_map(|(label, present)| {
        let values: Vec<&str> = volume.object.label(label)?.split(BETWEEN).map(str::trim).collect();
        // A list with a hole in it means nothing.
        (!values.contains(&"")).then_some(Zone { label, present, values })
    })
}

#[derive(Clone)]
struct Zones<'a>(Vec<Zone<'a>>);

impl<'a> Filter<'a> for Zones<'a> {
    fn check(&self, _: &NodeState, node: &Node) -> Result<(), Rejection> {
        let label = |name: &str| node.object.label(name);
        if LABELS.iter().all(|(name, _)| label(name).is_none()) {
            return Ok(());
        }
        let holds = |zone: &Zone<'_>| {
            let value = label(zone.label).or_else(|| label(zone.present));
            value.is_some_and(|value| zone.values.contains(&value))
        };
        if self.0.iter().all(holds) {
            return Ok(());
        }
        Err(Rejection::unresolvable("node(s) had no available volume zone"))
    }

    fn fork(&self) -> Box<dyn Filter<'a> + 'a> {
        Box::new(self.clone())
    }
}
