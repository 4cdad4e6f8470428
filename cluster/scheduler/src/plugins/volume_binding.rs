//! VolumeBinding: nodes that a pod's volumes reach, or where they can be found or made.

use crate::{
    cluster::{Cluster, NodeState},
    framework::{Event, Filter, Plugin, Rejection, Severity},
    node::Node,
    pod::Pod,
    storage::{Claim, Storage, Volume, VolumePlan},
};
use std::{borrow::Cow, collections::HashSet, sync::Arc};
use strata_meta::ObjectKey;

const NO_VOLUME: &str = "node(s) didn't find available persistent volumes to bind";
const NOT_REACHED: &str = "node(s) didn't match PersistentVolume's node affinity";
const NO_ROOM: &str = "node(s) did not have enough free storage";
const VOLUME_GONE: &str = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";

pub(crate) struct VolumeBinding;

impl Plugin for VolumeBinding {
    fn name(&self) -> &'static str {
        "VolumeBinding"
    }

    fn narrow<'a>(&self, pod: &'a Pod, cluster: &'a Cluster) -> Result<Option<Vec<&'a str>>, Rejection> {
        let Some(volumes) = &pod.volumes else { return Ok(None) };
        for used in &volumes.claims {
            present(pod, &used.name, used.ephemeral, &cluster.storage).map_err(Rejection::unresolvable)?;
        }
        if Claims::of(pod, &cluster.storage).early {
            return Err(Rejection::unresolvable(
                "pod has unbound immediate PersistentVolumeClaims",
            ));
        }
        Ok(None)
    }

    fn filter<'a>(&self, pod: &'a Pod, cluster: &'a Cluster) -> Option<Box<dyn Filter<'a> + 'a>> {
        let claims = Claims::of(pod, &cluster.storage);
        (!claims.bound.is_empty() || !claims.delayed.is_empty()).then(|| {
            Box::new(Volumes {
                storage: &cluster.storage,
                claims: Arc::new(claims),
            }) as Box<dyn Filter<'a>>
        })
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

/// Whether a pod mounts a claim.
pub(super) fn uses(pod: &Pod, claim: &ObjectKey) -> bool {
    let mut claims = pod.volumes.iter().flat_map(|volumes| &volumes.claims);
    *claim.namespace == *pod.namespace() && claims.any(|used| *used.name == *claim.name)
}

/// What has to be done about the volumes of a pod that goes to a node where they do.
pub(crate) fn plan(pod: &Pod, cluster: &Cluster, node: &Node) -> VolumePlan {
    if pod.volumes.is_none() {
        return VolumePlan::default();
    }
    let volumes = Volumes {
        storage: &cluster.storage,
        claims: Arc::new(Claims::of(pod, &cluster.storage)),
    };
    // The node was checked before, so there is a plan.
    volumes.plan(node).unwrap_or_default()
}

/// The claim, if a pod can begin with it.
fn present<'a>(pod: &Pod, name: &str, ephemeral: bool, storage: &'a Storage) -> Result<&'a Arc<Claim>, String> {
    let Some(claim) = storage.claim(&ObjectKey::new(pod.namespace(), name)) else {
        return Err(if ephemeral {
            format!("waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}")
        } else {
            format!("persistentvolumeclaim {name:?} not found")
        });
    };
    if claim.lost {
        let volume = &claim.volume;
        return Err(format!(
            "persistentvolumeclaim {name:?} bound to non-existent persistentvolume {volume:?}"
        ));
    }
    if claim.deleting {
        return Err(format!("persistentvolumeclaim {name:?} is being deleted"));
    }
    if ephemeral && !claim.is_owned_by(&pod.object.uid) {
        let (key, pod) = (&claim.key, &pod.object.key);
        return Err(format!("PVC {key} was not created for pod {pod} (pod is not owner)"));
    }
    Ok(claim)
}

/// A pod's claims by how far they are.
struct Claims<'a> {
    bound: Vec<&'a Claim>,
    /// They wait for the pod's node.
    delayed: Vec<&'a Claim>,
    /// Whether some should be bound by now.
    early: bool,
}

impl<'a> Claims<'a> {
    fn of(pod: &Pod, storage: &'a Storage) -> Self {
        let mut all = Self {
            bound: Vec::new(),
            delayed: Vec::new(),
            early: false,
        };
        for used in pod.volumes.iter().flat_map(|volumes| &volumes.claims) {
            let Some(claim) = storage.claim(&ObjectKey::new(pod.namespace(), &used.name)) else {
                continue;
            };
            let delayed = || storage.classes.get(&*claim.class).is_some_and(|class| class.delayed);
            if claim.bound {
                all.bound.push(claim);
            } else if claim.volume.is_empty() && !claim.class.is_empty() && delayed() {
                all.delayed.push(claim);
            } else {
                all.early = true;
            }
        }
        // The smallest first, so that none takes a larger volume than it needs.
        all.delayed.sort_by_key(|claim| claim.size.unwrap_or(0));
        all
    }
}

#[derive(Clone)]
struct Volumes<'a> {
    storage: &'a Storage,
    claims: Arc<Claims<'a>>,
}

impl<'a> Volumes<'a> {
    fn plan(&self, node: &Node) -> Result<VolumePlan, Rejection> {
        let mut reasons = self.bound(node);
        match self.delayed(node) {
            Ok(plan) if reasons.is_empty() => return Ok(plan),
            Ok(_) => {}
            Err(Trouble::Reason(reason)) => reasons.push(reason),
            Err(Trouble::Error(error)) => return Err(Rejection::error(error)),
        }
        let order = [NOT_REACHED, NO_VOLUME, NO_ROOM, VOLUME_GONE];
        reasons.sort_by_key(|reason| order.iter().position(|listed| listed == reason));
        Err(Rejection {
            reasons: reasons.into_iter().map(Cow::Borrowed).collect(),
            severity: Severity::Unresolvable,
        })
    }

    /// What is wrong with the volumes that the pod has.
    fn bound(&self, node: &Node) -> Vec<&'static str> {
        for claim in &self.claims.bound {
            match self.storage.volume(&claim.volume) {
                None => return vec![VOLUME_GONE],
                Some(volume) if !volume.reaches(&node.object) => return vec![NOT_REACHED],
                Some(_) => {}
            }
        }
        Vec::new()
    }

    fn delayed(&self, node: &Node) -> Result<VolumePlan, Trouble> {
        let mut plan = VolumePlan::default();
        let mut provision: Vec<&Claim> = Vec::new();
        let mut find: Vec<&Claim> = Vec::new();
        for claim in &self.claims.delayed {
            match self.storage.selected_node(claim) {
                Some(selected) if selected != node.object.name() => return Err(Trouble::Reason(NO_VOLUME)),
                Some(_) => provision.push(claim),
                None => find.push(claim),
            }
        }
        let mut taken: HashSet<&str> = HashSet::new();
        for claim in find {
            match self.volume_for(claim, node, &taken) {
                Some(volume) => {
                    taken.insert(volume.name());
                    plan.bind.push((volume.name().clone(), claim.key.clone()));
                }
                None => provision.push(claim),
            }
        }
        for claim in provision {
            self.can_be_made(claim, node)?;
            plan.provision.push(claim.key.clone());
        }
        Ok(plan)
    }

    /// The volume that is meant for a claim, or the smallest that does.
    fn volume_for(&self, claim: &Claim, node: &Node, taken: &HashSet<&str>) -> Option<&'a Volume> {
        let mut smallest: Option<&'a Volume> = None;
        for volume in self.storage.of_class(&claim.class) {
            let free = !taken.contains(&**volume.name()) && self.storage.is_free_for(volume, claim);
            if !free || !volume.suits(claim) {
                continue;
            }
            let reaches = volume.reaches(&node.object);
            if self.storage.is_meant_for(volume, claim) {
                return reaches.then_some(volume);
            }
            let smaller = smallest.is_none_or(|held| volume.size < held.size);
            if reaches && smaller && volume.may_be_chosen(claim) {
                smallest = Some(volume);
            }
        }
        smallest
    }

    fn can_be_made(&self, claim: &Claim, node: &Node) -> Result<(), Trouble> {
        let Some(class) = self.storage.classes.get(&*claim.class) else {
            return Err(Trouble::Error(format!(
                "failed to find storage class {:?}",
                claim.class
            )));
        };
        if class.provisioner.is_empty() || !class.reaches(&node.object) {
            return Err(Trouble::Reason(NO_VOLUME));
        }
        let driver = self.storage.drivers.get(&*class.provisioner);
        let (Some(size), true) = (claim.size, driver.is_some_and(|driver| driver.tells_capacity)) else {
            return Ok(());
        };
        let mut capacities = self.storage.capacities.values();
        if capacities.any(|capacity| capacity.suffices(&claim.class, size, &node.object)) {
            return Ok(());
        }
        Err(Trouble::Reason(NO_ROOM))
    }
}

enum Trouble {
    Reason(&'static str),
    Error(String),
}

impl<'a> Filter<'a> for Volumes<'a> {
    fn check(&self, _: &NodeState, node: &Node) -> Result<(), Rejection> {
        self.plan(node).map(|_| ())
    }

    fn fork(&self) -> Box<dyn Filter<'a> + 'a> {
        Box::new(self.clone())
    }
}
