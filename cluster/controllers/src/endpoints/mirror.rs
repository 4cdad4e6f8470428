//! Mirrors Endpoints that somebody wrote by hand, for a service without a selector, into slices.

use super::{
    follow_slices, index_key,
    members::Port,
    service_of,
    slices::{self, Conditions, Endpoint, Present, SERVICE_NAME, Slice, Write},
    store::SliceStore,
};
use crate::{
    Error, claim,
    context::{Context, is_of_family},
    expectations::LOOK_AGAIN,
    tracked::decode,
};
use serde::Deserialize;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use strata_client::{Informer, ObjectReference};
use strata_meta::{Object, ObjectKey, ObjectMeta};

const CONTROLLER: &str = "endpointslicemirroring-controller";
const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const WORKERS: usize = 2;
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Endpoints that components elect their leader by.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Addresses of a subset that are mirrored, as upstream.
const SUBSET_MAX: usize = 1_000;
const NOT_COPIED: [&str; 2] = [
    "endpoints.kubernetes.io/last-change-trigger-time",
    "kubectl.kubernetes.io/last-applied-configuration",
];

pub(super) fn start(context: &Arc<Context>, slices: &Informer<Arc<Object>>, endpoints: &Informer<Arc<Object>>) {
    let mirror = Arc::new(Mirror {
        store: SliceStore::new(context.client(CONTROLLER), slices, |slice| {
            service_of(slice, MANAGER).into_iter().map(index_key).collect()
        }),
        endpoints: endpoints.clone(),
        context: context.clone(),
    });
    let queue = context.queue("endpoint_slice_mirroring");
    follow_slices(slices, &queue, MANAGER);
    let to = queue.clone();
    endpoints.on_change(move |change| to.add(change.key.clone()));
    let to = queue.clone();
    context.services.on_change(move |change| to.add(change.key.clone()));
    let (services, endpoints, slices) = (context.services.clone(), endpoints.clone(), slices.clone());
    let ready = async move {
        services.synced().await;
        endpoints.synced().await;
        slices.synced().await;
    };
    context.run(&queue, WORKERS, ready, move |key| mirror.clone().reconcile(key));
}

struct Mirror {
    store: SliceStore,
    endpoints: Informer<Arc<Object>>,
    context: Arc<Context>,
}

impl Mirror {
    async fn reconcile(self: Arc<Self>, key: ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(present) = self.store.present(&key)? else {
            return Ok(Some(LOOK_AGAIN));
        };
        let service = self.context.services.get(&key).filter(|s| !s.deleting);
        let by_hand = service.is_some_and(|s| s.view.spec.selector.is_none());
        let endpoints = self.endpoints.get(&key).filter(|e| by_hand && !e.deleting);
        let manual = endpoints.as_ref().map(|e| decode::<Manual>(e)).transpose()?;
        let writes = match endpoints.zip(manual) {
            Some((object, manual)) if manual.is_mirrored() => plan(&object, &manual, present),
            _ => present.into_iter().map(|(object, _)| Write::Delete(object)).collect(),
        };
        for write in writes {
            self.store.write(&key, write).await?;
        }
        Ok(None)
    }
}

/// core/v1 Endpoints as somebody wrote them.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Manual {
    metadata: ObjectMeta,
    subsets: Vec<Subset>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Subset {
    addresses: Vec<Address>,
    not_ready_addresses: Vec<Address>,
    ports: Vec<Port>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Address {
    ip: String,
    hostname: Option<String>,
    node_name: Option<String>,
    target_ref: Option<ObjectReference>,
}

impl Manual {
    fn is_mirrored(&self) -> bool {
        self.metadata.labels.get(SKIP).is_none_or(|skip| skip != "true")
            && !self.metadata.annotations.contains_key(LEADER)
    }
}

fn plan(object: &Object, manual: &Manual, present: Vec<Present>) -> Vec<Write> {
    let mut writes = Vec::new();
    let mut left = present;
    for family in ["IPv4", "IPv6"] {
        let (same, other) = left.into_iter().partition(|(_, slice)| slice.address_type == family);
        left = other;
        let mut wanted: BTreeMap<Vec<Port>, Vec<Endpoint>> = BTreeMap::new();
        for subset in &manual.subsets {
            let mut ports = subset.ports.clone();
            ports.sort();
            let ready = subset.addresses.iter().map(|a| (a, true));
            let all = ready.chain(subset.not_ready_addresses.iter().map(|a| (a, false)));
            let endpoints: Vec<Endpoint> = all
                .take(SUBSET_MAX)
                .filter(|(a, _)| is_of_family(&a.ip, family))
                .map(|(a, r)| mirrored(a, r))
                .collect();
            if !endpoints.is_empty() {
                wanted.entry(ports).or_default().extend(endpoints);
            }
        }
        slices::place(&blank(object, manual, family), wanted, same, &mut writes);
    }
    writes.extend(left.into_iter().map(|(object, _)| Write::Delete(object)));
    writes
}

fn mirrored(address: &Address, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Conditions {
            ready,
            serving: ready,
            terminating: false,
        },
        hostname: address.hostname.clone(),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        zone: None,
    }
}

fn blank(object: &Object, manual: &Manual, family: &str) -> Slice {
    let mut labels = manual.metadata.labels.clone();
    labels.insert(SERVICE_NAME.into(), object.name().into());
    labels.insert(slices::MANAGED_BY.into(), MANAGER.into());
    let copied = manual
        .metadata
        .annotations
        .iter()
        .filter(|(key, _)| !NOT_COPIED.contains(&key.as_str()));
    Slice {
        metadata: ObjectMeta {
            generate_name: format!("{}-", object.name()),
            namespace: object.namespace().into(),
            labels,
            annotations: copied.map(|(k, v)| (k.clone(), v.clone())).collect(),
            owner_references: vec![claim::reference(object)],
            ..ObjectMeta::default()
        },
        address_type: family.into(),
        ..Slice::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoints::slices::tests::object;
    use serde_json::json;

    #[test]
    fn what_was_written_by_hand_is_mirrored_once() {
        let value = json!({"metadata": {"name": "db", "namespace": "n", "uid": "e", "labels": {"a": "b"}}, "subsets": [
            {"addresses": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}], "notReadyAddresses": [{"ip": "10.0.0.2"}],
                "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}]},
        ]});
        let object_ = object("Endpoints", value);
        let manual: Manual = object_.decode().unwrap();
        let slices: Vec<Slice> = plan(&object_, &manual, Vec::new())
            .into_iter()
            .map(|write| {
                if let Write::Create(slice) = write {
                    slice
                } else {
                    panic!("{write:?}")
                }
            })
            .collect();
        let outline = |s: &Slice| {
            let endpoints = s
                .endpoints
                .iter()
                .map(|e| (e.addresses[0].clone(), e.conditions.ready))
                .collect::<Vec<_>>();
            (s.address_type.clone(), endpoints, s.ports[0].port)
        };
        assert_eq!(
            outline(&slices[0]),
            (
                "IPv4".into(),
                vec![("10.0.0.1".into(), true), ("10.0.0.2".into(), false)],
                5432
            )
        );
        assert_eq!(
            outline(&slices[1]),
            ("IPv6".into(), vec![("fd00::1".into(), true)], 5432)
        );
        assert_eq!(slices[0].metadata.labels[SERVICE_NAME], "db");
        let present = slices.iter().enumerate().map(|(i, slice)| {
            let mut value = json!(slice);
            value["metadata"]["name"] = json!(format!("db-{i}"));
            (object("EndpointSlice", value), slice.clone())
        });
        assert!(plan(&object_, &manual, present.collect()).is_empty(), "nothing changed");
    }

    #[test]
    fn some_endpoints_are_not_mirrored() {
        for (metadata, expected) in [
            (json!({}), true),
            (json!({"labels": {SKIP: "true"}}), false),
            (json!({"labels": {SKIP: "false"}}), true),
            (json!({"annotations": {LEADER: "{}"}}), false),
        ] {
            let manual: Manual = serde_json::from_value(json!({ "metadata": metadata })).unwrap();
            assert_eq!(manual.is_mirrored(), expected, "{metadata}");
        }
    }
}
