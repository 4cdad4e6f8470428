//! Whether a pod's requests fit into what the node has left (upstream `noderesources.Fits`).

use super::OwnNode;
use crate::{
    pod::Pod,
    requests::{Amounts, pod_requests},
};
use std::{fmt, sync::Arc};
use strata_meta::Quantity;

/// A resource of which there is not enough. CPU is in thousandths, all else in units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    pub resource: String,
    requested: i64,
    used: i64,
    capacity: i64,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Node didn't have enough resource: {}, requested: {}, used: {}, capacity: {}",
            self.resource, self.requested, self.used, self.capacity
        )
    }
}

/// The first resource of which the node has not enough.
pub fn shortage(pod: &Pod, others: &[Arc<Pod>], node: &OwnNode) -> Option<Shortage> {
    let capacity = |name: &str| node.allocatable.get(name).map_or(0, |amount| units(name, amount));
    let used = i64::try_from(others.len()).unwrap_or(i64::MAX);
    if used.saturating_add(1) > capacity("pods") {
        return Some(Shortage {
            resource: "pods".into(),
            requested: 1,
            used,
            capacity: capacity("pods"),
        });
    }
    let wanted = pod_requests(pod);
    let taken: Vec<Amounts> = others.iter().map(|other| pod_requests(other)).collect();
    let basic = ["cpu", "memory", "ephemeral-storage"];
    let more = wanted.keys().map(String::as_str).filter(|name| !basic.contains(name));
    basic.into_iter().chain(more).find_map(|name| {
        let requested = wanted.get(name).map_or(0, |amount| units(name, amount));
        // One that the node does not know of is not its to give (upstream `removeMissingExtendedResources`).
        if requested == 0 || (name.contains('/') && !node.allocatable.contains_key(name)) {
            return None;
        }
        let of = |amounts: &Amounts| amounts.get(name).map_or(0, |amount| units(name, amount));
        let used = taken.iter().map(of).fold(0, i64::saturating_add);
        let capacity = capacity(name);
        (requested > capacity.saturating_sub(used)).then(|| Shortage {
            resource: name.to_owned(),
            requested,
            used,
            capacity,
        })
    })
}

fn units(name: &str, amount: &Quantity) -> i64 {
    if name == "cpu" {
        amount.milli_value()
    } else {
        amount.value()
    }
}
