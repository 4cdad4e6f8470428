//! Ports of the node that pods take.

use crate::pod::Pod;
use std::sync::Arc;

/// Whether a port of the node that the pod wants is another's.
pub fn conflict(pod: &Pod, others: &[Arc<Pod>]) -> bool {
    let mut wanted = taken(pod).peekable();
    if wanted.peek().is_none() {
        return false;
    }
    let present: Vec<_> = others.iter().flat_map(|other| taken(other)).collect();
    wanted.any(|(port, protocol, address)| {
        present
            .iter()
            .any(|other| (other.0, other.1) == (port, protocol) && meet(other.2, address))
    })
}

/// Port, protocol and address.
fn taken(pod: &Pod) -> impl Iterator<Item = (u16, &str, &str)> {
    let or = |text: &'static str, given: &'_ str| -> bool { given.is_empty() || given == text };
    // A container that only initializes leaves its ports to those after it.
    let sidecars = pod.spec.init_containers.iter().filter(|c| c.is_sidecar());
    let ports = sidecars.chain(&pod.spec.containers).flat_map(|c| &c.ports);
    ports.filter(|port| port.host_port != 0).map(move |port| {
        let protocol = if or("TCP", &port.protocol) {
            "TCP"
        } else {
            &port.protocol
        };
        let address = if or("0.0.0.0", &port.host_ip) {
            "0.0.0.0"
        } else {
            &port.host_ip
        };
        (port.host_port, protocol, address)
    })
}

fn meet(one: &str, other: &str) -> bool {
    one == other || one == "0.0.0.0" || other == "0.0.0.0"
}
