//! What services use.

use crate::Amounts;
use serde_json::Value;

pub(crate) const NAMES: &[&str] = &["services", "services.nodeports", "services.loadbalancers"];

pub(crate) fn usage(service: &Value) -> Amounts {
    let spec = &service["spec"];
    let ports = spec["ports"].as_array().map_or(&[][..], Vec::as_slice);
    let allocated = ports
        .iter()
        .filter(|p| p["nodePort"].as_i64().unwrap_or(0) != 0)
        .count();
    let (node_ports, balancers) = match spec["type"].as_str() {
        Some("NodePort") => (ports.len(), 0),
        Some("LoadBalancer") if spec["allocateLoadBalancerNodePorts"] == false => (allocated, 1),
        Some("LoadBalancer") => (ports.len(), 1),
        _ => (0, 0),
    };
    let mut amounts = Amounts::default();
    amounts.count("services", 1);
    amounts.count("services.nodeports", node_ports);
    amounts.count("services.loadbalancers", balancers);
    amounts
}
