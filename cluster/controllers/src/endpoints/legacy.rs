//! core/v1 Endpoints of a service.

use super::{
    members::{self, Port},
    slices::{self, target},
};
use crate::views::{Pod, Service};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};
use strata_client::ObjectReference;

pub(super) const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
pub(super) const MANAGER: &str = "endpoint-controller";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Addresses in one object; the rest is left out, and an annotation says so.
const CAPACITY: usize = 1_000;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Subset {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<Address>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_ready_addresses: Vec<Address>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ports: Vec<SubsetPort>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Address {
    ip: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hostname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_ref: Option<ObjectReference>,
}

/// Unlike in a slice, an empty name is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct SubsetPort {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    port: i32,
    protocol: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_protocol: Option<String>,
}

/// The whole object to write, or nothing if `present` says it all already.
pub(super) fn plan(service: &Service, pods: &[Arc<Pod>], present: Option<Value>) -> Option<Value> {
    let (subsets, over_capacity) = truncated(subsets(service, pods));
    let mut labels = service.view.metadata.labels.clone();
    labels.remove(slices::HEADLESS);
    if service.view.spec.is_headless() {
        labels.insert(slices::HEADLESS.into(), String::new());
    }
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    let mut wanted = present
        .clone()
        .unwrap_or_else(|| json!({"metadata": {"name": service.name(), "namespace": service.namespace()}}));
    let current = Option::<Vec<Subset>>::deserialize(wanted.get("subsets").unwrap_or(&Value::Null))
        .ok()
        .flatten();
    if current.unwrap_or_default() != subsets {
        wanted["subsets"] = json!(subsets);
    }
    if wanted["metadata"]["labels"] != json!(labels) {
        wanted["metadata"]["labels"] = json!(labels);
    }
    if over_capacity {
        wanted["metadata"]["annotations"][OVER_CAPACITY] = "truncated".into();
    } else if let Some(annotations) = wanted
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    {
        annotations.remove(OVER_CAPACITY);
    }
    (present.as_ref() != Some(&wanted)).then_some(wanted)
}

/// Ports that the same addresses listen at share a subset.
fn subsets(service: &Service, pods: &[Arc<Pod>]) -> Vec<Subset> {
    let spec = &service.view.spec;
    let listed = |pod: &&Arc<Pod>| members::is_listed(&pod.view, spec.publish_not_ready_addresses);
    // Of each port: the pods, by position, and whether they are ready.
    let mut by_port: BTreeMap<Option<Port>, Vec<(usize, bool)>> = BTreeMap::new();
    for (at, pod) in pods.iter().enumerate().filter(|(_, pod)| listed(pod)) {
        let ready = spec.publish_not_ready_addresses || pod.view.ready;
        if spec.ports.is_empty() && spec.cluster_ip == "None" {
            by_port.entry(None).or_default().push((at, ready));
        }
        for port in members::ports(&pod.view, service) {
            by_port.entry(Some(port)).or_default().push((at, ready));
        }
    }
    let mut by_addresses: BTreeMap<Vec<(usize, bool)>, Vec<Port>> = BTreeMap::new();
    for (port, addresses) in by_port {
        by_addresses.entry(addresses).or_default().extend(port);
    }
    by_addresses
        .into_iter()
        .map(|(addresses, ports)| {
            let pick = |ready: bool| {
                let chosen = addresses.iter().filter(|(_, r)| *r == ready);
                chosen.filter_map(|(at, _)| address(service, &pods[*at])).collect()
            };
            Subset {
                addresses: pick(true),
                not_ready_addresses: pick(false),
                ports: ports.into_iter().map(Into::into).collect(),
            }
        })
        .collect()
}

fn address(service: &Service, pod: &Pod) -> Option<Address> {
    Some(Address {
        ip: pod.view.ips.first()?.clone(),
        hostname: members::hostname(pod, service).map(str::to_owned),
        node_name: (!pod.view.node.is_empty()).then(|| pod.view.node.clone()),
        target_ref: Some(target(pod)),
    })
}

impl From<Port> for SubsetPort {
    fn from(port: Port) -> Self {
        Self {
            name: port.name,
            port: port.port,
            protocol: port.protocol,
            app_protocol: port.app_protocol,
        }
    }
}

/// Ready addresses are kept before those that are not.
fn truncated(mut subsets: Vec<Subset>) -> (Vec<Subset>, bool) {
    let total: usize = subsets
        .iter()
        .map(|s| s.addresses.len() + s.not_ready_addresses.len())
        .sum();
    let mut room = CAPACITY;
    for subset in &mut subsets {
        subset.addresses.truncate(room);
        room -= subset.addresses.len();
    }
    for subset in &mut subsets {
        subset.not_ready_addresses.truncate(room);
        room -= subset.not_ready_addresses.len();
    }
    (subsets, total > CAPACITY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoints::slices::tests::{named_port, pod, service};

    #[test]
    fn ports_with_the_same_addresses_share_a_subset() {
        let mut spec = named_port();
        spec["ports"] = json!([
            {"name": "http", "protocol": "TCP", "port": 80, "targetPort": "http"},
            {"name": "metrics", "protocol": "TCP", "port": 81, "targetPort": 9100},
        ]);
        let pods = [
            pod("a", "10.1.0.1", 'r'),
            pod("b", "10.1.0.2", 'n'),
            pod("odd", "10.1.0.3", 'r'),
            pod("t", "10.1.0.4", 't'),
        ];
        let written = plan(&service(spec), &pods, None).unwrap();
        let outline: Vec<_> = written["subsets"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| {
                let ips = |member: &str| -> Vec<&str> {
                    s[member]
                        .as_array()
                        .into_iter()
                        .flatten()
                        .map(|a| a["ip"].as_str().unwrap())
                        .collect()
                };
                let ports: Vec<i64> = s["ports"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|p| p["port"].as_i64().unwrap())
                    .collect();
                (ips("addresses"), ips("notReadyAddresses"), ports)
            })
            .collect();
        assert_eq!(
            outline,
            [
                (vec!["10.1.0.1"], vec!["10.1.0.2"], vec![8080]),
                (vec!["10.1.0.1", "10.1.0.3"], vec!["10.1.0.2"], vec![9100]),
                (vec!["10.1.0.3"], vec![], vec![9090]),
            ]
        );
        assert_eq!(written["metadata"]["labels"][MANAGED_BY], MANAGER);
    }

    #[test]
    fn nothing_is_written_when_nothing_changed() {
        let service = service(json!({"clusterIP": "None", "selector": {"app": "web"}}));
        let pods = [pod("a", "10.1.0.1", 'r')];
        let first = plan(&service, &pods, None).unwrap();
        assert!(first["subsets"][0].get("ports").is_none(), "headless without ports");
        assert_eq!(first["metadata"]["labels"][slices::HEADLESS], "");
        assert_eq!(plan(&service, &pods, Some(first.clone())), None);
        assert!(plan(&service, &[], Some(first)).is_some());
    }
}
