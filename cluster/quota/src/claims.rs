//! What claims of volumes and devices use.

use crate::{Amounts, Scope};
use serde_json::Value;
use strata_meta::Quantity;

pub(crate) const NAMES: &[&str] = &["persistentvolumeclaims", "requests.storage"];
const CLASS: &str = ".storageclass.storage.k8s.io/";
const DEVICES: &str = ".deviceclass.resource.k8s.io/devices";
/// Devices of one claim that asks for all (upstream's AllocationResultsMaxSize).
const ALL_DEVICES: i64 = 32;

/// `gold.storageclass.storage.k8s.io/requests.storage`.
pub(crate) fn is_own(name: &str) -> bool {
    name.split_once(CLASS).is_some_and(|(_, rest)| NAMES.contains(&rest))
}

pub(crate) fn usage(claim: &Value) -> Amounts {
    let annotation = claim["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"].as_str();
    let class = annotation
        .or_else(|| claim["spec"]["storageClassName"].as_str())
        .unwrap_or("");
    let mut amounts = Amounts::default();
    let mut add = |name: &str, amount: Quantity| {
        amounts.set(name, amount);
        if !class.is_empty() {
            amounts.set(format!("{class}{CLASS}{name}"), amount);
        }
    };
    add("persistentvolumeclaims", Quantity::from_units(1));
    let storage = |value: &Value| Amounts::read(Some(value)).get("storage");
    if let Some(requested) = storage(&claim["spec"]["resources"]["requests"]) {
        let allocated = storage(&claim["status"]["allocatedResources"]);
        add("requests.storage", allocated.map_or(requested, |a| a.max(requested)));
    }
    amounts
}

fn attribute_classes(claim: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = [
        &claim["spec"]["volumeAttributesClassName"],
        &claim["status"]["currentVolumeAttributesClassName"],
        &claim["status"]["modifyVolumeStatus"]["targetVolumeAttributesClassName"],
    ]
    .into_iter()
    .filter_map(|name| name.as_str().filter(|n| !n.is_empty()))
    .collect();
    names.sort_unstable();
    names.dedup();
    names
}

pub(crate) fn in_scope(scope: &Scope, claim: &Value) -> bool {
    scope.name == "VolumeAttributesClass" && scope.selects(&attribute_classes(claim))
}

pub(crate) fn changes(subresource: &str, new: &Value, old: &Value) -> bool {
    match subresource {
        "" => true,
        "status" => {
            new["status"]["allocatedResources"] != old["status"]["allocatedResources"]
                || attribute_classes(new) != attribute_classes(old)
        }
        _ => false,
    }
}

/// `gpu.deviceclass.resource.k8s.io/devices`.
pub(crate) fn is_device(name: &str) -> bool {
    name.ends_with(DEVICES)
}

pub(crate) fn devices(claim: &Value) -> Amounts {
    let mut amounts = Amounts::default();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let count = |request: &Value| {
        let count = match request["allocationMode"].as_str() {
            Some("All") => ALL_DEVICES,
            _ => request["count"].as_i64().unwrap_or(1),
        };
        let class = request["deviceClassName"].as_str().unwrap_or("");
        let mut one = Amounts::default();
        one.set(format!("{class}{DEVICES}"), Quantity::from_units(count));
        one
    };
    for request in list(&claim["spec"]["devices"]["requests"]) {
        let alternatives = list(&request["firstAvailable"]);
        if alternatives.is_empty() {
            amounts.add(&count(&request["exactly"]));
        } else {
            let mut most = Amounts::default();
            alternatives.iter().for_each(|one| most.raise(&count(one)));
            amounts.add(&most);
        }
    }
    amounts
}
