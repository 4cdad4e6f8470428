//! What is read of Services and EndpointSlices.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Deserializer};

/// A Service.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "fields are the API's own")]
pub struct DnsService {
    pub spec: ServiceSpec,
}

/// A Service's specification.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs, reason = "fields are the API's own")]
pub struct ServiceSpec {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(rename = "clusterIP")]
    pub cluster_ip: String,
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Vec<String>,
    pub external_name: String,
    pub ports: Vec<Port>,
}

/// A port of a Service or of a slice.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "fields are the API's own")]
pub struct Port {
    pub name: Option<String>,
    pub protocol: Option<String>,
    pub port: Option<u16>,
}

/// An EndpointSlice.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "fields are the API's own")]
pub struct DnsSlice {
    pub metadata: Metadata,
    #[serde(deserialize_with = "null_is_empty")]
    pub endpoints: Vec<Endpoint>,
    #[serde(deserialize_with = "null_is_empty")]
    pub ports: Vec<Port>,
}

/// Of the metadata only the labels are kept.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "fields are the API's own")]
pub struct Metadata {
    pub labels: BTreeMap<String, String>,
}

/// One endpoint.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "fields are the API's own")]
pub struct Endpoint {
    pub addresses: Vec<String>,
    pub conditions: Conditions,
    pub hostname: Option<String>,
}

/// An endpoint's state.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "fields are the API's own")]
pub struct Conditions {
    pub ready: Option<bool>,
}

impl DnsService {
    /// The cluster addresses; none for headless services and external names.
    pub fn cluster_addresses(&self) -> Vec<IpAddr> {
        let listed: Vec<IpAddr> = self.spec.cluster_ips.iter().filter_map(|ip| ip.parse().ok()).collect();
        if listed.is_empty() {
            self.spec.cluster_ip.parse().ok().into_iter().collect()
        } else {
            listed
        }
    }

    /// Names stand for another name instead of addresses.
    pub fn external_name(&self) -> Option<&str> {
        (self.spec.kind == "ExternalName").then_some(self.spec.external_name.as_str())
    }
}

impl DnsSlice {
    /// The name of the Service it belongs to, in its own namespace.
    pub fn service_name(&self) -> Option<&str> {
        self.metadata
            .labels
            .get("kubernetes.io/service-name")
            .map(String::as_str)
    }
}

impl Endpoint {
    /// Unknown counts as ready.
    pub fn is_ready(&self) -> bool {
        self.conditions.ready.unwrap_or(true)
    }

    /// Its addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().filter_map(|address| address.parse().ok())
    }

    /// The label in front of its service's name: its hostname, or one made of the address.
    pub fn label(&self, address: IpAddr) -> String {
        match self.hostname.as_deref().filter(|hostname| !hostname.is_empty()) {
            Some(hostname) => hostname.to_owned(),
            None => dashed(address),
        }
    }
}

impl Port {
    /// The name; empty when there is none.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or("")
    }

    /// The protocol in lower case, as it stands in names.
    pub fn protocol(&self) -> String {
        self.protocol
            .as_deref()
            .filter(|protocol| !protocol.is_empty())
            .unwrap_or("TCP")
            .to_ascii_lowercase()
    }
}

/// An address as a label: dots and colons become dashes.
pub(crate) fn dashed(address: IpAddr) -> String {
    address.to_string().replace(['.', ':'], "-")
}

/// Go clients write `null` for an empty list.
fn null_is_empty<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
