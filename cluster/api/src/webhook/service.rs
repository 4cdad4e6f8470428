//! A service of the cluster as a place to connect to: one of its ready endpoints.

use crate::{core::Core, json, options::Target};
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
use strata_http::BoxedIo;
use strata_meta::Uid;

/// Where a service may be reached now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// An endpoint, and the node it is on when that is known.
    Endpoint(String, SocketAddr),
    /// A name outside the cluster.
    External(String, u16),
}

/// The ready endpoints of a service's port. Errors: a sentence as upstream has it.
pub(crate) fn places(core: &Core, namespace: &str, name: &str, port: u16) -> Result<Vec<Place>, String> {
    let service = core.resource("", "services").get(namespace, name);
    let service = service.ok_or_else(|| format!("service {name:?} not found"))?;
    let service = service.to_value().map_err(|e| e.to_string())?;
    if json::text(&service, "spec.type") == "ExternalName" {
        return Ok(vec![Place::External(
            json::text(&service, "spec.externalName").to_owned(),
            port,
        )]);
    }
    let wanted = json::list(&service, "spec.ports")
        .iter()
        .find(|p| json::int(p, "port") == Some(i64::from(port)))
        .ok_or_else(|| format!("no service port {port} found for service {name:?}"))?;
    let found = endpoints(core, namespace, name, json::text(wanted, "name"))?;
    if found.is_empty() {
        return Err(format!("no endpoints available for service {name:?}"));
    }
    Ok(found.into_iter().map(|(node, at)| Place::Endpoint(node, at)).collect())
}

/// Node and address of every ready endpoint behind a named port of a service, from the endpoint slices.
pub(crate) fn endpoints(
    core: &Core,
    namespace: &str,
    service: &str,
    port_name: &str,
) -> Result<Vec<(String, SocketAddr)>, String> {
    let mut found = Vec::new();
    let slices = core.resource("discovery.k8s.io", "endpointslices");
    for slice in slices.objects(Some(namespace)) {
        if slice.label("kubernetes.io/service-name") != Some(service) {
            continue;
        }
        let slice = slice.to_value().map_err(|e| e.to_string())?;
        let number = json::list(&slice, "ports")
            .iter()
            .find(|p| json::text(p, "name") == port_name)
            .and_then(|p| json::int(p, "port"));
        let Some(number) = number.and_then(|n| u16::try_from(n).ok()) else {
            continue;
        };
        for endpoint in json::list(&slice, "endpoints") {
            let ready = json::get(endpoint, "conditions.ready").is_none_or(|r| r == true);
            let address = json::list(endpoint, "addresses")
                .first()
                .and_then(Value::as_str)
                .and_then(|a| a.parse::<IpAddr>().ok());
            // The server's own loopback is no place that a client may choose.
            if let Some(address) = address.filter(|a| ready && !a.is_loopback()) {
                let node = json::text(endpoint, "nodeName").to_owned();
                found.push((node, SocketAddr::new(address, number)));
            }
        }
    }
    Ok(found)
}

/// A byte stream to a port of a service. Errors: a sentence.
pub(crate) async fn dial_service(core: &Core, namespace: &str, name: &str, port: u16) -> Result<BoxedIo, String> {
    let mut places = places(core, namespace, name, port)?;
    let random = usize::from_str_radix(&Uid::random().as_str()[..8], 16).unwrap_or(0);
    let place = places.swap_remove(random % places.len());
    dial(core, &place).await
}

/// A byte stream to one place. Errors: a sentence.
pub(super) async fn dial(core: &Core, place: &Place) -> Result<BoxedIo, String> {
    match place {
        Place::Endpoint(node, address) => {
            let target = Target::Pod {
                node: node.clone(),
                address: *address,
            };
            let dialled = core.dialer.dial(target).await;
            dialled.map_err(|e| format!("dial tcp {address}: {}", in_words(&e.to_string())))
        }
        Place::External(host, port) => dial_host(host, *port).await,
    }
}

/// A byte stream to a host that this machine resolves. Errors: a sentence.
pub(super) async fn dial_host(host: &str, port: u16) -> Result<BoxedIo, String> {
    let failed = |e: strata_http::Error| match e {
        strata_http::Error::Connect { address, why } => format!("dial tcp {address}: {}", in_words(&why)),
        other => format!("dial tcp: {other}"),
    };
    let addresses = strata_http::resolve(host, port).await.map_err(failed)?;
    let stream = strata_http::connect_tcp(&addresses).await.map_err(failed)?;
    Ok(Box::new(stream))
}

/// Why a connection was not made, in the words of Go's `net`.
fn in_words(why: &str) -> String {
    let why = why.split(" (os error").next().unwrap_or(why).to_lowercase();
    match why.as_str() {
        "timed out" => "i/o timeout".into(),
        _ => format!("connect: {why}"),
    }
}
