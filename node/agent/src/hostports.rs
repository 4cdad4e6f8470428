//! Ports of the node that lead to pods.

use crate::{context::Context, pod::Pod};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddrV4},
    sync::Arc,
};
use strata_engine::SandboxId;
use strata_net::HostPort;

/// Leads the node's ports to a pod's sandbox; may be repeated. Error: a sentence for an event.
pub async fn publish(context: &Context, pod: &Pod, sandbox: &SandboxId, ip: &str) -> Result<(), String> {
    // In the node's network a pod's ports are the node's already.
    let wanted = if pod.spec.host_network {
        Vec::new()
    } else {
        wanted(pod, ip)?
    };
    if wanted.is_empty() {
        return Ok(());
    }
    let ports = context.ports.as_ref().map_err(Clone::clone)?.clone();
    let network = context.network.get().ok_or("the node has no pod network yet")?;
    let place = network.address(sandbox.as_str());
    let place = place.ok_or_else(|| format!("sandbox {sandbox} is not on the pod network"))?;
    let sandbox = sandbox.clone();
    let published = tokio::task::spawn_blocking(move || {
        // What an earlier attempt left would be in the way of this one.
        ports.withdraw(sandbox.as_str())?;
        ports.publish(sandbox.as_str(), &place.host_link, &wanted)
    });
    let published = published.await.map_err(|e| e.to_string())?;
    published.map_err(|e| e.to_string())
}

/// Takes a sandbox's ports back; one without any is fine.
pub async fn withdraw(context: &Context, sandbox: &SandboxId) -> Result<(), String> {
    let Ok(ports) = &context.ports else { return Ok(()) };
    let (ports, sandbox) = (Arc::clone(ports), sandbox.clone());
    let withdrawn = tokio::task::spawn_blocking(move || ports.withdraw(sandbox.as_str())).await;
    withdrawn.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
}

fn wanted(pod: &Pod, ip: &str) -> Result<Vec<HostPort>, String> {
    let sidecars = pod.spec.init_containers.iter().filter(|c| c.is_sidecar());
    let ports = sidecars.chain(&pod.spec.containers).flat_map(|c| &c.ports);
    let mut found = BTreeMap::new();
    for port in ports.filter(|port| port.host_port != 0 && port.container_port != 0) {
        let address = match port.host_ip.as_str() {
            "" => Ipv4Addr::UNSPECIFIED,
            text => match text.parse().map_err(|e| format!("host address {text:?}: {e}"))? {
                IpAddr::V4(address) => address,
                // Every address, of whatever family.
                IpAddr::V6(address) if address.is_unspecified() => Ipv4Addr::UNSPECIFIED,
                // Pods have IPv4 addresses; a port of the other family leads nowhere (upstream skips it).
                IpAddr::V6(_) => continue,
            },
        };
        let protocol = match port.protocol.as_str() {
            "UDP" => 17,
            "SCTP" => 132,
            _ => 6,
        };
        let to: Ipv4Addr = ip
            .parse()
            .map_err(|_| format!("the pod's address {ip:?} is not IPv4"))?;
        found.entry((protocol, address, port.host_port)).or_insert(HostPort {
            protocol,
            address,
            port: port.host_port,
            to: SocketAddrV4::new(to, port.container_port),
        });
    }
    Ok(found.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ports_lead_to_the_pod_once_each() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [{"name": "a", "ports": [
            {"containerPort": 80, "hostPort": 8080, "hostIP": "127.0.0.1", "protocol": "UDP"},
            {"containerPort": 80, "hostPort": 8080},
            {"containerPort": 81, "hostPort": 8080},
            {"containerPort": 82, "hostPort": 8082, "hostIP": "::1"},
            {"containerPort": 83},
        ]}]}}))
        .expect("pod");
        let ports = wanted(&pod, "10.1.0.2").expect("valid");
        let short: Vec<_> = ports
            .iter()
            .map(|p| (p.protocol, p.address.to_string(), p.to.port()))
            .collect();
        assert_eq!(short, [(6, "0.0.0.0".to_owned(), 80), (17, "127.0.0.1".to_owned(), 80)]);
    }
}
