//! discovery/v1 EndpointSlices of a service.

use super::members::{self, Port};
use crate::{
    claim,
    context::is_of_family,
    views::{Pod, Service},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};
use strata_client::ObjectReference;
use strata_meta::{Object, ObjectMeta, names};

pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub(super) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub(super) const MANAGER: &str = "endpointslice-controller.k8s.io";
pub(super) const HEADLESS: &str = "service.kubernetes.io/headless";
pub(super) const ZONE: &str = "topology.kubernetes.io/zone";
/// Endpoints in a slice.
const SLICE_MAX: usize = 100;

/// discovery/v1 EndpointSlice.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Slice {
    pub metadata: ObjectMeta,
    pub address_type: String,
    #[serde(deserialize_with = "null_is_empty")]
    pub endpoints: Vec<Endpoint>,
    #[serde(deserialize_with = "null_is_empty")]
    pub ports: Vec<Port>,
}

/// discovery/v1 Endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Endpoint {
    pub addresses: Vec<String>,
    pub conditions: Conditions,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<ObjectReference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

impl Endpoint {
    /// What makes two states of an endpoint the same endpoint.
    fn identity(&self) -> (Option<&ObjectReference>, &[String]) {
        (self.target_ref.as_ref(), &self.addresses)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Conditions {
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(d: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::<Vec<T>>::deserialize(d)?.unwrap_or_default())
}

/// One write that the slices need.
#[derive(Debug)]
pub(super) enum Write {
    Create(Slice),
    Update(Arc<Object>, Slice),
    Delete(Arc<Object>),
}

pub(super) type Present = (Arc<Object>, Slice);

/// What has to be written so that the slices say what the pods are.
pub(super) fn plan(
    service: &Service,
    pods: &[Arc<Pod>],
    zone: &dyn Fn(&str) -> Option<String>,
    present: Vec<Present>,
) -> Vec<Write> {
    let families = match service.view.spec.ip_families.as_slice() {
        [] => &["IPv4".to_owned()][..],
        families => families,
    };
    let mut writes = Vec::new();
    let mut left = present;
    for family in families {
        let (same, other) = left.into_iter().partition(|(_, slice)| slice.address_type == *family);
        left = other;
        plan_family(service, family, pods, zone, same, &mut writes);
    }
    writes.extend(left.into_iter().map(|(object, _)| Write::Delete(object)));
    writes
}

fn plan_family(
    service: &Service,
    family: &str,
    pods: &[Arc<Pod>],
    zone: &dyn Fn(&str) -> Option<String>,
    present: Vec<Present>,
    writes: &mut Vec<Write>,
) {
    // Pods may listen at different numbers for the same named port: a group for each.
    let mut wanted: BTreeMap<Vec<Port>, Vec<Endpoint>> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| members::is_listed(&pod.view, true)) {
        let addresses: Vec<String> = pod
            .view
            .ips
            .iter()
            .filter(|ip| is_of_family(ip, family))
            .cloned()
            .collect();
        if !addresses.is_empty() {
            let ports = members::ports(&pod.view, service);
            wanted
                .entry(ports)
                .or_default()
                .push(endpoint(service, pod, addresses, zone));
        }
    }
    if wanted.is_empty() {
        // One slice without endpoints tells that nobody is there, rather than nothing known.
        wanted.insert(Vec::new(), Vec::new());
    }
    place(&blank(service, family), wanted, present, writes);
}

/// Places groups of endpoints, each with its own ports, in slices like `blank`.
pub(super) fn place(
    blank: &Slice,
    wanted: BTreeMap<Vec<Port>, Vec<Endpoint>>,
    present: Vec<Present>,
    writes: &mut Vec<Write>,
) {
    let mut by_ports: HashMap<Vec<Port>, Vec<Present>> = HashMap::new();
    for (object, slice) in present {
        let mut ports = slice.ports.clone();
        ports.sort();
        by_ports.entry(ports).or_default().push((object, slice));
    }
    let mut planned = Vec::new();
    for (ports, endpoints) in wanted {
        let present = by_ports.remove(&ports).unwrap_or_default();
        plan_group(&Slice { ports, ..blank.clone() }, endpoints, present, &mut planned);
    }
    let mut useless: Vec<Arc<Object>> = by_ports.into_values().flatten().map(|(object, _)| object).collect();
    for write in planned {
        // A slice that would be deleted becomes the one that would be created, so that readers
        // see one change instead of two.
        writes.push(match write {
            Write::Create(slice) if !useless.is_empty() => Write::Update(useless.remove(0), slice),
            other => other,
        });
    }
    writes.extend(useless.into_iter().map(Write::Delete));
}

/// Places the endpoints of one set of ports with as few writes as possible: each stays in
/// its slice; new ones fill slices that change anyway, then others with room, then new slices.
fn plan_group(blank: &Slice, endpoints: Vec<Endpoint>, present: Vec<Present>, writes: &mut Vec<Write>) {
    let nobody = endpoints.is_empty();
    let mut waiting: Vec<Endpoint> = Vec::new();
    let mut kept: Vec<Vec<Endpoint>> = present.iter().map(|_| Vec::new()).collect();
    let mut place: HashMap<(Option<&ObjectReference>, &[String]), usize> = HashMap::new();
    for (at, (_, slice)) in present.iter().enumerate() {
        place.extend(slice.endpoints.iter().map(|e| (e.identity(), at)));
    }
    for endpoint in endpoints {
        match place.get(&endpoint.identity()) {
            Some(&at) if kept[at].len() < SLICE_MAX => kept[at].push(endpoint),
            _ => waiting.push(endpoint),
        }
    }
    let differs = |at: usize, now: &[Endpoint]| {
        let slice: &Slice = &present[at].1;
        !same_endpoints(&slice.endpoints, now)
            || slice.metadata.labels != blank.metadata.labels
            || blank
                .metadata
                .annotations
                .iter()
                .any(|(k, v)| slice.metadata.annotations.get(k) != Some(v))
            || slice.metadata.owner_references != blank.metadata.owner_references
    };
    let mut order: Vec<usize> = (0..kept.len()).filter(|&at| !kept[at].is_empty() || nobody).collect();
    order.sort_by_key(|&at| (!differs(at, &kept[at]), std::cmp::Reverse(kept[at].len())));
    for &at in &order {
        let room = SLICE_MAX.saturating_sub(kept[at].len()).min(waiting.len());
        kept[at].extend(waiting.drain(..room));
    }
    let mut placeholder_kept = false;
    for (at, now) in kept.into_iter().enumerate() {
        let object = present[at].0.clone();
        let keep = !now.is_empty() || (nobody && !std::mem::replace(&mut placeholder_kept, nobody));
        match keep {
            false if !waiting.is_empty() => {
                // Rather than deleting one and creating another.
                let count = waiting.len().min(SLICE_MAX);
                let endpoints = waiting.drain(..count).collect();
                writes.push(Write::Update(
                    object,
                    Slice {
                        endpoints,
                        ..blank.clone()
                    },
                ));
            }
            false => writes.push(Write::Delete(object)),
            true if differs(at, &now) => writes.push(Write::Update(
                object,
                Slice {
                    endpoints: now,
                    ..blank.clone()
                },
            )),
            true => {}
        }
    }
    if nobody && !placeholder_kept {
        writes.push(Write::Create(blank.clone()));
    }
    while !waiting.is_empty() {
        let count = waiting.len().min(SLICE_MAX);
        let endpoints = waiting.drain(..count).collect();
        writes.push(Write::Create(Slice {
            endpoints,
            ..blank.clone()
        }));
    }
}

/// In whatever order, and whatever state of the pod is named.
fn same_endpoints(a: &[Endpoint], b: &[Endpoint]) -> bool {
    a.len() == b.len() && a.iter().all(|x| b.contains(x))
}

fn endpoint(service: &Service, pod: &Pod, addresses: Vec<String>, zone: &dyn Fn(&str) -> Option<String>) -> Endpoint {
    let (serving, terminating) = (pod.view.ready, pod.view.deletion.is_some());
    let ready = service.view.spec.publish_not_ready_addresses || (serving && !terminating);
    let node = (!pod.view.node.is_empty()).then(|| pod.view.node.clone());
    Endpoint {
        addresses,
        conditions: Conditions {
            ready,
            serving,
            terminating,
        },
        hostname: members::hostname(pod, service).map(str::to_owned),
        zone: node.as_deref().and_then(zone),
        node_name: node,
        target_ref: Some(target(pod)),
    }
}

/// The pod as endpoints name it: without version, in whatever state.
pub(super) fn target(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: "Pod".into(),
        namespace: pod.namespace().to_owned(),
        name: pod.name().to_owned(),
        uid: pod.uid.clone(),
        ..ObjectReference::default()
    }
}

/// A slice of the service without endpoints.
fn blank(service: &Service, family: &str) -> Slice {
    let reserved = [SERVICE_NAME, MANAGED_BY, HEADLESS];
    let own = service
        .view
        .metadata
        .labels
        .iter()
        .filter(|(key, _)| !reserved.contains(&key.as_str()));
    let mut labels: BTreeMap<String, String> = own.map(|(k, v)| (k.clone(), v.clone())).collect();
    labels.insert(SERVICE_NAME.into(), service.name().into());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    if service.view.spec.is_headless() {
        labels.insert(HEADLESS.into(), String::new());
    }
    let prefix = format!("{}-", service.name());
    let prefix_fits = names::dns1123_subdomain(prefix.trim_end_matches('-')).is_empty();
    Slice {
        metadata: ObjectMeta {
            generate_name: if prefix_fits { prefix } else { service.name().into() },
            namespace: service.namespace().into(),
            labels,
            owner_references: vec![claim::reference(service)],
            ..ObjectMeta::default()
        },
        address_type: family.into(),
        ..Slice::default()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::tracked::Tracked;
    use serde_json::{Value, json};
    use strata_meta::{GroupVersionKind, Revision};

    pub fn object(kind: &str, value: Value) -> Arc<Object> {
        let kind = Arc::new(GroupVersionKind::new("", "v1", kind));
        Arc::new(Object::from_value(kind, Revision(1), &value).unwrap())
    }

    pub fn service(spec: Value) -> Service {
        let meta = json!({"name": "web", "namespace": "n", "uid": "s", "labels": {"team": "a", HEADLESS: "x"}});
        Tracked::decode(&object("Service", json!({"metadata": meta, "spec": spec}))).unwrap()
    }

    /// `state`: r ready, n not ready, t terminating but ready, f finished.
    pub fn pod(name: &str, ip: &str, state: char) -> Arc<Pod> {
        let mut meta = json!({"name": name, "namespace": "n", "uid": format!("u-{name}"), "labels": {"app": "web"}});
        if state == 't' {
            meta["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        let ready = json!({"type": "Ready", "status": if state == 'n' { "False" } else { "True" }});
        let port = if name.starts_with("odd") { 9090 } else { 8080 };
        let value = json!({"metadata": meta,
            "spec": {"nodeName": "node", "hostname": name, "subdomain": "web",
                "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": port, "protocol": "TCP"}]}]},
            "status": {"phase": if state == 'f' { "Failed" } else { "Running" }, "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [ready]}});
        Arc::new(Tracked::decode(&object("Pod", value)).unwrap())
    }

    pub fn named_port() -> Value {
        json!({"clusterIP": "10.0.0.1", "selector": {"app": "web"},
            "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": "http"}]})
    }

    fn run(service: &Service, pods: &[Arc<Pod>], present: &[Slice]) -> Vec<Write> {
        let read = |(i, slice): (usize, &Slice)| {
            let mut value = json!(slice);
            value["metadata"]["name"] = json!(format!("web-{i}"));
            value["metadata"]["uid"] = json!(format!("slice-{i}"));
            (object("EndpointSlice", value), slice.clone())
        };
        let zone = |node: &str| (node == "node").then(|| "z1".to_owned());
        plan(service, pods, &zone, present.iter().enumerate().map(read).collect())
    }

    /// `+n` creates with n endpoints, `~n` updates to n, `-` deletes.
    fn describe(writes: &[Write]) -> Vec<String> {
        let mut lines: Vec<String> = writes
            .iter()
            .map(|write| match write {
                Write::Create(slice) => format!("+{}", slice.endpoints.len()),
                Write::Update(_, slice) => format!("~{}", slice.endpoints.len()),
                Write::Delete(_) => "-".to_owned(),
            })
            .collect();
        lines.sort();
        lines
    }

    fn created(writes: Vec<Write>) -> Vec<Slice> {
        writes
            .into_iter()
            .map(|w| if let Write::Create(s) = w { s } else { panic!("{w:?}") })
            .collect()
    }

    fn many(count: usize) -> Vec<Arc<Pod>> {
        (0..count)
            .map(|i| pod(&format!("p{i:03}"), &format!("10.1.{}.{}", i / 200, i % 200 + 1), 'r'))
            .collect()
    }

    #[test]
    fn a_slice_tells_all_about_its_pods() {
        let pods = [
            pod("a", "10.1.0.1", 'r'),
            pod("b", "10.1.0.2", 'n'),
            pod("c", "10.1.0.3", 't'),
            pod("d", "10.1.0.4", 'f'),
        ];
        let slices = created(run(&service(named_port()), &pods, &[]));
        let [slice] = &slices[..] else { panic!("{slices:?}") };
        let states: Vec<_> = slice
            .endpoints
            .iter()
            .map(|e| (e.addresses[0].as_str(), e.conditions))
            .collect();
        let conditions = |ready, serving, terminating| Conditions {
            ready,
            serving,
            terminating,
        };
        assert_eq!(
            states,
            [
                ("10.1.0.1", conditions(true, true, false)),
                ("10.1.0.2", conditions(false, false, false)),
                ("10.1.0.3", conditions(false, true, true)),
            ]
        );
        let first = &slice.endpoints[0];
        assert_eq!(
            (
                first.zone.as_deref(),
                first.node_name.as_deref(),
                first.hostname.as_deref()
            ),
            (Some("z1"), Some("node"), Some("a"))
        );
        assert_eq!(
            (slice.ports[0].port, slice.metadata.generate_name.as_str()),
            (8080, "web-")
        );
        assert_eq!(slice.metadata.labels[SERVICE_NAME], "web");
        assert!(
            !slice.metadata.labels.contains_key(HEADLESS),
            "a service may not set it itself"
        );
        assert_eq!(slice.metadata.owner_references[0].block_owner_deletion, Some(true));
    }

    #[test]
    fn not_ready_addresses_are_published_on_demand_and_headless_services_are_marked() {
        let service =
            service(json!({"clusterIP": "None", "selector": {"app": "web"}, "publishNotReadyAddresses": true}));
        let slices = created(run(&service, &[pod("b", "10.1.0.2", 'n')], &[]));
        assert!(slices[0].endpoints[0].conditions.ready && !slices[0].endpoints[0].conditions.serving);
        assert_eq!(slices[0].metadata.labels[HEADLESS], "");
        assert!(slices[0].ports.is_empty());
    }

    #[test]
    fn pods_with_other_numbers_for_a_named_port_get_a_slice_of_their_own() {
        let pods = [pod("a", "10.1.0.1", 'r'), pod("odd", "10.1.0.2", 'r')];
        let slices = created(run(&service(named_port()), &pods, &[]));
        let ports: Vec<_> = slices.iter().map(|s| s.ports[0].port).collect();
        assert_eq!(ports, [8080, 9090]);
    }

    #[test]
    fn changes_touch_as_few_slices_as_possible() {
        let service = service(named_port());
        let pods = many(250);
        let full = created(run(&service, &pods, &[]));
        assert_eq!(
            full.iter().map(|s| s.endpoints.len()).collect::<Vec<_>>(),
            [100, 100, 50]
        );
        for (what, wanted, expected) in [
            ("nothing", pods.clone(), vec![]),
            ("one gone", pods[1..].to_vec(), vec!["~99"]),
            (
                "one more",
                [&pods[..], &[pod("z", "10.9.0.1", 'r')]].concat(),
                vec!["~51"],
            ),
            ("a slice gone", pods[100..].to_vec(), vec!["-"]),
            ("all gone", vec![], vec!["-", "-", "~0"]),
        ] {
            assert_eq!(describe(&run(&service, &wanted, &full)), expected, "{what}");
        }
    }

    #[test]
    fn a_placeholder_becomes_the_first_slice() {
        let service = service(named_port());
        let placeholder = created(run(&service, &[], &[]));
        assert_eq!(describe(&run(&service, &many(2), &placeholder)), ["~2"]);
    }

    #[test]
    fn a_placeholder_stays_alone() {
        let service = service(named_port());
        let placeholder = created(run(&service, &[], &[]));
        assert_eq!(placeholder[0].endpoints.len(), 0);
        assert_eq!(describe(&run(&service, &[], &placeholder)), Vec::<String>::new());
        let two = [placeholder[0].clone(), placeholder[0].clone()];
        assert_eq!(describe(&run(&service, &[], &two)), ["-"]);
    }
}
