//! What one service needs on this node: a pure function of the Service, its slices and the node's name.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use strata_net::Cidr;

use crate::objects::{EndpointSlice, Service, ServicePort};

/// Upstream's default of three hours.
const AFFINITY_SECONDS: u32 = 10_800;

/// A transport protocol that services have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Protocol {
    Tcp = 6,
    Udp = 17,
    Sctp = 132,
}

/// What a client connects to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Frontend {
    /// The address; absent: every address of the node (a node port).
    pub address: Option<Ipv4Addr>,
    /// The protocol.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
}

/// Which endpoints a pool holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolKey {
    /// The service port's name.
    pub port: String,
    /// Its protocol: names are unique per protocol only in old objects.
    pub protocol: Protocol,
    /// Only endpoints of this node.
    pub local: bool,
}

/// Whose source address is replaced by the node's, so that answers come back this way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Masquerade {
    /// Nobody's.
    Never,
    /// That of clients which are no pods.
    Outside,
    /// Everybody's.
    Always,
}

/// How traffic to a frontend is spread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Balance {
    /// Where to.
    pub pool: PoolKey,
    /// Where to for clients inside the cluster, when that differs (external traffic policy Local).
    pub inside: Option<PoolKey>,
    /// Whose source is replaced.
    pub masquerade: Masquerade,
    /// Seconds for which a client keeps its endpoint.
    pub affinity: Option<u32>,
}

/// What happens to traffic to a frontend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Treatment {
    /// Spread over endpoints.
    Balance(Balance),
    /// Nobody serves it anywhere: refused at once.
    Refuse,
    /// Nobody serves it on this node, and this node must not send it elsewhere: dropped, so that a
    /// load balancer tries another node.
    Drop,
}

/// Everything one service needs on this node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServicePlan {
    /// Each frontend's treatment, and the ranges its clients are restricted to (none: unrestricted).
    pub frontends: BTreeMap<Frontend, (Treatment, Vec<Cidr>)>,
    /// The endpoints, in a stable order. Only pools that some frontend uses.
    pub pools: BTreeMap<PoolKey, Vec<SocketAddrV4>>,
    /// Endpoints that run on this node: they may reach themselves through the service.
    pub hairpin: BTreeSet<Ipv4Addr>,
}

/// The plan for a service; empty for those that have no tables (headless, external names, services
/// of another proxy).
pub fn plan(node: &str, service: &Service, slices: &[Arc<EndpointSlice>]) -> ServicePlan {
    let mut plan = ServicePlan::default();
    let foreign = [
        "service.kubernetes.io/service-proxy-name",
        "service.kubernetes.io/headless",
    ];
    let labels = &service.metadata.labels;
    let has_tables = service.spec.kind != "ExternalName" && !foreign.iter().any(|label| labels.contains_key(*label));
    if has_tables && !cluster_addresses(service).is_empty() {
        for port in &service.spec.ports {
            plan_port(&mut plan, node, service, port, slices);
        }
    }
    plan
}

fn plan_port(plan: &mut ServicePlan, node: &str, service: &Service, port: &ServicePort, slices: &[Arc<EndpointSlice>]) {
    let Some(protocol) = protocol(&port.protocol) else {
        return;
    };
    let key = |local| PoolKey {
        port: port.name.clone(),
        protocol,
        local,
    };
    let all = endpoints(slices, port, protocol, None);
    let local = endpoints(slices, port, protocol, Some(node));
    plan.hairpin.extend(local.iter().map(|endpoint| *endpoint.ip()));
    let spec = &service.spec;
    let config = spec
        .session_affinity_config
        .as_ref()
        .and_then(|config| config.client_ip.as_ref());
    let timeout = config
        .and_then(|config| config.timeout_seconds)
        .unwrap_or(AFFINITY_SECONDS)
        .max(1);
    let affinity = (spec.session_affinity == "ClientIP").then_some(timeout);
    let treat = |external: bool| {
        let policy = if external {
            &spec.external_traffic_policy
        } else {
            &spec.internal_traffic_policy
        };
        let only_local = policy == "Local";
        if all.is_empty() {
            return Treatment::Refuse;
        }
        if only_local && !external && local.is_empty() {
            return Treatment::Drop;
        }
        let masquerade = match (external, only_local) {
            (false, _) => Masquerade::Outside,
            (true, false) => Masquerade::Always,
            (true, true) => Masquerade::Never,
        };
        let inside = (external && only_local).then(|| key(false));
        Treatment::Balance(Balance {
            pool: key(only_local),
            inside,
            masquerade,
            affinity,
        })
    };
    let mut add = |address: Option<Ipv4Addr>, port: u16, external: bool, sources: Vec<Cidr>| {
        let treatment = treat(external);
        if let Treatment::Balance(balance) = &treatment {
            for used in [Some(&balance.pool), balance.inside.as_ref()].into_iter().flatten() {
                plan.pools
                    .insert(used.clone(), if used.local { local.clone() } else { all.clone() });
            }
        }
        plan.frontends
            .entry(Frontend {
                address,
                protocol,
                port,
            })
            .or_insert((treatment, sources));
    };
    for address in cluster_addresses(service) {
        add(Some(address), port.port, false, Vec::new());
    }
    for address in spec.external_ips.iter().filter_map(|ip| ip.parse().ok()) {
        add(Some(address), port.port, true, Vec::new());
    }
    if spec.kind == "LoadBalancer" {
        for address in load_balancer_addresses(service) {
            add(
                Some(address),
                port.port,
                true,
                source_ranges(&spec.load_balancer_source_ranges),
            );
        }
    }
    if port.node_port != 0 && (spec.kind == "NodePort" || spec.kind == "LoadBalancer") {
        add(None, port.node_port, true, Vec::new());
    }
}

/// The endpoints of a port that get traffic: the ready ones, or else those that still serve while
/// they terminate (KEP-1669). Sorted, each once.
fn endpoints(
    slices: &[Arc<EndpointSlice>],
    port: &ServicePort,
    protocol: Protocol,
    node: Option<&str>,
) -> Vec<SocketAddrV4> {
    let mut ready = BTreeSet::new();
    let mut terminating = BTreeSet::new();
    for slice in slices.iter().filter(|slice| slice.address_type == "IPv4") {
        let matching = slice.ports.iter().find(|candidate| {
            candidate.name.as_deref().unwrap_or("") == port.name
                && self::protocol(candidate.protocol.as_deref().unwrap_or("")) == Some(protocol)
        });
        let Some(target) = matching.and_then(|candidate| candidate.port) else {
            continue;
        };
        for endpoint in &slice.endpoints {
            let Some(IpAddr::V4(address)) = endpoint.address() else {
                continue;
            };
            if node.is_some() && endpoint.node_name.as_deref() != node {
                continue;
            }
            if endpoint.conditions.is_ready() {
                ready.insert(SocketAddrV4::new(address, target));
            } else if endpoint.conditions.is_serving_while_terminating() {
                terminating.insert(SocketAddrV4::new(address, target));
            }
        }
    }
    let chosen = if ready.is_empty() { terminating } else { ready };
    chosen.into_iter().collect()
}

fn cluster_addresses(service: &Service) -> Vec<Ipv4Addr> {
    let spec = &service.spec;
    let listed = spec.cluster_ips.iter().filter_map(|ip| ip.parse().ok());
    let mut addresses: Vec<Ipv4Addr> = listed.collect();
    if addresses.is_empty() {
        addresses.extend(spec.cluster_ip.parse::<Ipv4Addr>());
    }
    addresses
}

/// Addresses whose traffic reaches the node unchanged (KEP-1860).
fn load_balancer_addresses(service: &Service) -> Vec<Ipv4Addr> {
    let ingress = service
        .status
        .load_balancer
        .ingress
        .iter()
        .filter(|ingress| ingress.ip_mode != "Proxy");
    ingress.filter_map(|ingress| ingress.ip.parse().ok()).collect()
}

/// The ranges, without those that lie inside another: the kernel's ranges must not overlap.
fn source_ranges(ranges: &[String]) -> Vec<Cidr> {
    let mut parsed: Vec<Cidr> = ranges.iter().filter_map(|range| range.trim().parse().ok()).collect();
    parsed.retain(|range: &Cidr| range.network().is_ipv4());
    parsed.sort_by_key(|range| (range.prefix(), range.network()));
    let mut kept: Vec<Cidr> = Vec::new();
    for range in parsed {
        if !kept.iter().any(|wider| wider.contains(range.network())) {
            kept.push(range);
        }
    }
    kept
}

fn protocol(name: &str) -> Option<Protocol> {
    match name {
        "TCP" | "" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        "SCTP" => Some(Protocol::Sctp),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(spec: &str) -> Service {
        serde_json::from_str(&format!(r#"{{"metadata": {{"labels": {{}}}}, "spec": {spec}}}"#)).unwrap()
    }

    fn slices(endpoints: &str) -> Vec<Arc<EndpointSlice>> {
        let text = format!(
            r#"{{"addressType": "IPv4", "endpoints": {endpoints},
                 "ports": [{{"name": "http", "port": 8080, "protocol": "TCP"}}, {{"name": "dns", "port": 5353, "protocol": "UDP"}}]}}"#
        );
        vec![Arc::new(serde_json::from_str(&text).unwrap())]
    }

    const HERE: &str = r#"{"addresses": ["10.244.1.2"], "nodeName": "node", "conditions": {"ready": true}}"#;
    const THERE: &str = r#"{"addresses": ["10.244.2.2"], "nodeName": "other", "conditions": {"ready": true}}"#;

    /// Frontends in one line each: `address:port -> endpoints (masquerade)`.
    fn describe(plan: &ServicePlan) -> Vec<String> {
        let describe = |(frontend, (treatment, _)): (&Frontend, &(Treatment, Vec<Cidr>))| {
            let address = frontend
                .address
                .map_or("node".to_owned(), |address| address.to_string());
            let what = match treatment {
                Treatment::Refuse => "refuse".to_owned(),
                Treatment::Drop => "drop".to_owned(),
                Treatment::Balance(balance) => {
                    let pool = |key: &PoolKey| {
                        plan.pools[key]
                            .iter()
                            .map(ToString::to_string)
                            .collect::<Vec<_>>()
                            .join(" ")
                    };
                    let inside = balance
                        .inside
                        .as_ref()
                        .map(|key| format!(" inside {}", pool(key)))
                        .unwrap_or_default();
                    format!("{}{inside} {:?}", pool(&balance.pool), balance.masquerade)
                }
            };
            format!("{address}:{} {what}", frontend.port)
        };
        plan.frontends.iter().map(describe).collect()
    }

    fn check(spec: &str, endpoints: &str, expected: &[&str]) {
        let plan = plan("node", &service(spec), &slices(endpoints));
        assert_eq!(describe(&plan), expected, "{spec} {endpoints}");
    }

    #[test]
    fn policies_choose_endpoints_and_whose_source_is_replaced() {
        let both = format!("[{HERE}, {THERE}]");
        let only_there = format!("[{THERE}]");
        let port = r#""ports": [{"name": "http", "port": 80, "nodePort": 30080}]"#;
        let node_port = |policy: &str| format!(r#"{{"type": "NodePort", "clusterIP": "10.96.0.7", {policy} {port}}}"#);
        let all = "10.244.1.2:8080 10.244.2.2:8080";
        check(
            &node_port(""),
            &both,
            &[
                &format!("node:30080 {all} Always"),
                &format!("10.96.0.7:80 {all} Outside"),
            ],
        );
        let external = node_port(r#""externalTrafficPolicy": "Local","#);
        let local = format!("node:30080 10.244.1.2:8080 inside {all} Never");
        check(&external, &both, &[&local, &format!("10.96.0.7:80 {all} Outside")]);
        let elsewhere = "node:30080  inside 10.244.2.2:8080 Never";
        check(
            &external,
            &only_there,
            &[elsewhere, "10.96.0.7:80 10.244.2.2:8080 Outside"],
        );
        let internal = node_port(r#""internalTrafficPolicy": "Local","#);
        check(
            &internal,
            &both,
            &[
                &format!("node:30080 {all} Always"),
                "10.96.0.7:80 10.244.1.2:8080 Outside",
            ],
        );
        check(
            &internal,
            &only_there,
            &["node:30080 10.244.2.2:8080 Always", "10.96.0.7:80 drop"],
        );
        check(&internal, "[]", &["node:30080 refuse", "10.96.0.7:80 refuse"]);
    }

    #[test]
    fn endpoints_are_matched_by_port_name_and_protocol() {
        let both = format!("[{HERE}, {HERE}]");
        let spec = r#"{"clusterIP": "10.96.0.7", "ports": [{"name": "dns", "port": 53, "protocol": "UDP"},
                       {"name": "dns", "port": 54}, {"name": "other", "port": 55}]}"#;
        check(
            spec,
            &both,
            &[
                "10.96.0.7:54 refuse",
                "10.96.0.7:55 refuse",
                "10.96.0.7:53 10.244.1.2:5353 Outside",
            ],
        );
    }

    #[test]
    fn services_without_tables_have_an_empty_plan() {
        let endpoints = format!("[{HERE}]");
        for spec in [
            r#"{"clusterIP": "None", "ports": [{"name": "http", "port": 80}]}"#,
            r#"{"type": "ExternalName"}"#,
        ] {
            check(spec, &endpoints, &[]);
        }
        let mut foreign = service(r#"{"clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80}]}"#);
        foreign
            .metadata
            .labels
            .insert("service.kubernetes.io/service-proxy-name".into(), "other".into());
        assert_eq!(plan("node", &foreign, &slices(&endpoints)), ServicePlan::default());
    }

    #[test]
    fn source_ranges_do_not_overlap() {
        let ranges = [
            "10.1.0.0/16",
            " 10.0.0.0/8",
            "192.0.2.1/32",
            "fd00::/8",
            "bad",
            "10.0.0.0/8",
        ]
        .map(String::from);
        let kept: Vec<String> = source_ranges(&ranges).iter().map(ToString::to_string).collect();
        assert_eq!(kept, ["10.0.0.0/8", "192.0.2.1/32"]);
    }
}
