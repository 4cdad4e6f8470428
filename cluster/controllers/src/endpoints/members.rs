//! Which pods belong to a service, and where they listen.

use crate::views::{Pod, PodView, Service, ServicePort};
use serde::{Deserialize, Serialize};
use strata_meta::IntOrString;

/// discovery/v1 EndpointPort and core/v1 EndpointPort: the number of a port in a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Port {
    pub name: String,
    pub port: i32,
    pub protocol: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
}

/// Whether the pod is listed at all.
pub(super) fn is_listed(pod: &PodView, even_terminating: bool) -> bool {
    !pod.phase.is_terminal() && !pod.ips.is_empty() && (even_terminating || pod.deletion.is_none())
}

/// The hostname that the pod is known by below the service's name.
pub(super) fn hostname<'a>(pod: &'a Pod, service: &Service) -> Option<&'a str> {
    let named = !pod.view.hostname.is_empty() && pod.view.subdomain == service.name();
    (named && pod.namespace() == service.namespace()).then_some(&pod.view.hostname)
}

/// Where the pod listens for the ports of the service; a port whose name the pod does not
/// have is left out.
pub(super) fn ports(pod: &PodView, service: &Service) -> Vec<Port> {
    let mut ports: Vec<Port> = service
        .view
        .spec
        .ports
        .iter()
        .filter_map(|port| port_of(pod, port))
        .collect();
    ports.sort();
    ports
}

fn port_of(pod: &PodView, port: &ServicePort) -> Option<Port> {
    let number = match &port.target_port {
        IntOrString::Int(0) => port.port,
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let same = |p: &&crate::views::ContainerPort| {
                let protocol = if p.protocol.is_empty() { "TCP" } else { &p.protocol };
                p.name == *name && protocol == port.protocol
            };
            pod.ports.iter().find(same)?.container_port
        }
    };
    Some(Port {
        name: port.name.clone(),
        port: number,
        protocol: port.protocol.clone(),
        app_protocol: port.app_protocol.clone(),
    })
}
