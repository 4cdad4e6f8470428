//! Gives services of type LoadBalancer the addresses of the nodes, at which the service
//! tables of every node answer.

use crate::{
    Error,
    context::{Context, is_of_family},
    error::During,
    views::{LoadBalancerIngress, LoadBalancerStatus, Node, Service},
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use strata_client::{Client, Patch, resources::*};
use strata_meta::ObjectKey;

const CONTROLLER: &str = "service-controller";
const WORKERS: usize = 1;
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

pub(crate) fn start(context: &Arc<Context>) {
    let controller = Arc::new(Controller {
        client: context.client(CONTROLLER),
        context: context.clone(),
    });
    let queue = context.queue("service");
    let to = queue.clone();
    context.services.on_change(move |change| to.add(change.key.clone()));
    let (to, services) = (queue.clone(), context.services.clone());
    context.nodes.on_change(move |change| {
        if change.old.as_deref().map(addresses) != change.new.as_deref().map(addresses) {
            let balanced = services.select(|_, service| is_balanced(service));
            balanced.into_iter().for_each(|(key, _)| to.add(key));
        }
    });
    let (services, nodes) = (context.services.clone(), context.nodes.clone());
    let ready = async move {
        services.synced().await;
        nodes.synced().await;
    };
    context.run(&queue, WORKERS, ready, move |key| controller.clone().reconcile(key));
}

struct Controller {
    client: Client,
    context: Arc<Context>,
}

impl Controller {
    async fn reconcile(self: Arc<Self>, key: ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(service) = self.context.services.get(&key).filter(|s| !s.deleting) else {
            return Ok(None);
        };
        let nodes: Vec<_> = self.context.nodes.list().into_iter().map(|(_, node)| node).collect();
        let Some(wanted) = wanted(&service, &nodes) else {
            return Ok(None);
        };
        let body = match wanted.ingress.is_empty() {
            true => Value::Null,
            false => json!(wanted.ingress),
        };
        let patch = Patch::Merge(json!({"status": {"loadBalancer": {"ingress": body}}}));
        match self
            .client
            .patch(SERVICES, &key.namespace, &key.name, Some("status"), patch)
            .await
        {
            Err(error) if !error.is_not_found() => Err(error).during(|| format!("writing the status of service {key}")),
            _ => Ok(None),
        }
    }
}

/// Another balancer may be asked for by its class.
fn is_balanced(service: &Service) -> bool {
    service.view.spec.type_ == "LoadBalancer" && service.view.spec.load_balancer_class.is_none()
}

/// The status to write, if it is not there yet.
fn wanted(service: &Service, nodes: &[Arc<Node>]) -> Option<LoadBalancerStatus> {
    let present = &service.view.status.load_balancer;
    if !is_balanced(service) {
        let ours = service.view.spec.type_ != "LoadBalancer" && !present.ingress.is_empty();
        return ours.then(LoadBalancerStatus::default);
    }
    let default = ["IPv4".to_owned()];
    let families = match service.view.spec.ip_families.as_slice() {
        [] => &default[..],
        families => families,
    };
    let of_family = |address: &String| families.iter().any(|family| is_of_family(address, family));
    let mut found: Vec<String> = nodes
        .iter()
        .flat_map(|node| addresses(node))
        .filter(of_family)
        .collect();
    found.sort();
    found.dedup();
    // While no node is ready the addresses stay: they are as good as any.
    if found.is_empty() && !present.ingress.is_empty() {
        return None;
    }
    let ingress = |ip| LoadBalancerIngress {
        ip,
        ip_mode: Some("VIP".into()),
    };
    let wanted = LoadBalancerStatus {
        ingress: found.into_iter().map(ingress).collect(),
    };
    (wanted != *present).then_some(wanted)
}

/// Where a node may be reached from outside: its external addresses, else its internal ones.
fn addresses(node: &Node) -> Vec<String> {
    if !node.view.is_ready() || node.label(EXCLUDED).is_some() || node.deleting {
        return Vec::new();
    }
    let of = |type_: &str| -> Vec<String> {
        node.view
            .status
            .addresses
            .iter()
            .filter(|a| a.type_ == type_)
            .map(|a| a.address.clone())
            .collect()
    };
    match of("ExternalIP") {
        external if !external.is_empty() => external,
        _ => of("InternalIP"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracked::Tracked;
    use strata_meta::{GroupVersionKind, Object, Revision};

    fn object(kind: &str, value: Value) -> Arc<Object> {
        let kind = Arc::new(GroupVersionKind::new("", "v1", kind));
        Arc::new(Object::from_value(kind, Revision(1), &value).unwrap())
    }

    fn node(name: &str, ready: &str, addresses: Value) -> Arc<Node> {
        let value = json!({"metadata": {"name": name},
            "status": {"conditions": [{"type": "Ready", "status": ready}], "addresses": addresses}});
        Arc::new(Tracked::decode(&object("Node", value)).unwrap())
    }

    fn service(type_: &str, ips: &[&str]) -> Service {
        let ingress: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip, "ipMode": "VIP"})).collect();
        let value = json!({"metadata": {"name": "s", "namespace": "n"}, "spec": {"type": type_, "ipFamilies": ["IPv4"]},
            "status": {"loadBalancer": {"ingress": ingress}}});
        Tracked::decode(&object("Service", value)).unwrap()
    }

    #[test]
    fn ready_nodes_lend_their_addresses() {
        let nodes = [
            node(
                "b",
                "True",
                json!([{"type": "InternalIP", "address": "10.0.0.2"}, {"type": "InternalIP", "address": "fd00::2"}]),
            ),
            node(
                "a",
                "True",
                json!([{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "ExternalIP", "address": "1.2.3.4"}]),
            ),
            node("c", "False", json!([{"type": "InternalIP", "address": "10.0.0.3"}])),
        ];
        let ips = |s: &Service| wanted(s, &nodes).map(|w| w.ingress.into_iter().map(|i| i.ip).collect::<Vec<_>>());
        assert_eq!(
            ips(&service("LoadBalancer", &[])),
            Some(vec!["1.2.3.4".into(), "10.0.0.2".into()])
        );
        assert_eq!(ips(&service("LoadBalancer", &["1.2.3.4", "10.0.0.2"])), None);
        assert_eq!(
            ips(&service("ClusterIP", &["1.2.3.4"])),
            Some(vec![]),
            "no longer of this type"
        );
        assert_eq!(ips(&service("ClusterIP", &[])), None);
        assert_eq!(
            wanted(&service("LoadBalancer", &["9.9.9.9"]), &nodes[2..]),
            None,
            "no node is ready"
        );
    }
}
