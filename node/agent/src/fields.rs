//! Values of a pod's own fields, as environment and volumes ask for them.

use crate::{
    options::NodeFacts,
    pod::{Container, Pod},
    resources,
};
use std::collections::BTreeMap;
use strata_meta::{Quantity, Uid};
use strata_volume::{FieldRef, ResourceFieldRef, Volume, VolumeError, VolumePod};

/// A pod with what the node knows about it.
pub struct PodView<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The node.
    pub node: &'a NodeFacts,
    /// The pod's address; empty before it has one.
    pub ip: &'a str,
}

impl PodView<'_> {
    /// The value of a field; the paths are those of core/v1 ObjectFieldSelector.
    pub fn field_value(&self, path: &str) -> Result<String, VolumeError> {
        let meta = &self.pod.metadata;
        if let Some(key) = subscript(path, "metadata.labels") {
            return Ok(meta.labels.get(key).cloned().unwrap_or_default());
        }
        if let Some(key) = subscript(path, "metadata.annotations") {
            return Ok(meta.annotations.get(key).cloned().unwrap_or_default());
        }
        Ok(match path {
            "metadata.name" => meta.name.clone(),
            "metadata.namespace" => meta.namespace.clone(),
            "metadata.uid" => meta.uid.to_string(),
            "metadata.labels" => format_map(&meta.labels),
            "metadata.annotations" => format_map(&meta.annotations),
            "spec.nodeName" => self.pod.spec.node_name.clone(),
            "spec.serviceAccountName" => self.pod.spec.service_account_name.clone(),
            "status.hostIP" => self.node.ips.first().cloned().unwrap_or_default(),
            "status.hostIPs" => self.node.ips.join(","),
            "status.podIP" | "status.podIPs" if self.pod.spec.host_network => {
                self.node.ips.first().cloned().unwrap_or_default()
            }
            "status.podIP" | "status.podIPs" => self.ip.to_owned(),
            other => return Err(VolumeError::FieldPath(other.to_owned())),
        })
    }

    /// The value of a container's resource; `container` is the one that asks when none is named.
    pub fn resource_value(&self, r: &ResourceFieldRef, container: Option<&Container>) -> Result<String, VolumeError> {
        let named = self.pod.all_containers().find(|c| c.name == r.container_name);
        let target = if r.container_name.is_empty() { container } else { named };
        let invalid = || VolumeError::FieldPath(format!("{} of container {:?}", r.resource, r.container_name));
        let node = |name: &str| self.node.allocatable(name);
        resources::field_value(target.ok_or_else(invalid)?, &r.resource, r.divisor, &node).ok_or_else(invalid)
    }
}

fn subscript<'a>(path: &'a str, field: &str) -> Option<&'a str> {
    path.strip_prefix(field)?.strip_prefix("['")?.strip_suffix("']")
}

/// `key="value"` lines, sorted, quoted as Go quotes (upstream `FormatMap`).
fn format_map(map: &BTreeMap<String, String>) -> String {
    let line = |(key, value): (&String, &String)| format!("{key}={value:?}");
    map.iter().map(line).collect::<Vec<_>>().join("\n")
}

impl VolumePod for PodView<'_> {
    fn namespace(&self) -> &str {
        &self.pod.metadata.namespace
    }

    fn name(&self) -> &str {
        &self.pod.metadata.name
    }

    fn uid(&self) -> &Uid {
        &self.pod.metadata.uid
    }

    fn service_account(&self) -> &str {
        match self.pod.spec.service_account_name.as_str() {
            "" => "default",
            name => name,
        }
    }

    fn node_name(&self) -> &str {
        &self.pod.spec.node_name
    }

    fn fs_group_on_root_mismatch(&self) -> bool {
        let policy = self.pod.spec.security_context.fs_group_change_policy.as_deref();
        policy == Some("OnRootMismatch")
    }

    fn fs_group(&self) -> Option<u32> {
        self.pod
            .spec
            .security_context
            .fs_group
            .and_then(|id| u32::try_from(id).ok())
    }

    fn volumes(&self) -> &[Volume] {
        &self.pod.spec.volumes
    }

    fn field(&self, reference: &FieldRef) -> Result<String, VolumeError> {
        self.field_value(&reference.field_path)
    }

    fn resource(&self, reference: &ResourceFieldRef) -> Result<String, VolumeError> {
        self.resource_value(reference, None)
    }
}

impl NodeFacts {
    /// What the node has of a resource for pods.
    pub fn allocatable(&self, name: &str) -> Quantity {
        let mut capacity = self.capacity(name);
        if name == "memory" {
            let huge = self
                .huge_pages
                .values()
                .fold(0_i64, |sum, bytes| sum.saturating_add(*bytes));
            capacity = capacity.minus(Quantity::from_bytes(huge));
        }
        self.configuration.allocatable(name, capacity)
    }

    /// What the node has of a resource.
    pub fn capacity(&self, name: &str) -> Quantity {
        match name {
            "cpu" => Quantity::from_milli(self.cpu_milli),
            "memory" => Quantity::from_bytes(self.memory_bytes),
            "ephemeral-storage" => Quantity::from_bytes(self.storage_bytes),
            "pods" => Quantity::from_units(self.max_pods),
            _ => Quantity::from_bytes(self.huge_pages.get(name).copied().unwrap_or(0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_are_found_by_their_paths() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"b": "2", "a/x": "1"}},
            "spec": {"nodeName": "node", "containers": []},
        }))
        .expect("pod");
        let node = NodeFacts {
            ips: vec!["10.0.0.1".into()],
            ..NodeFacts::default()
        };
        let view = PodView {
            pod: &pod,
            node: &node,
            ip: "10.1.0.2",
        };
        for (path, value) in [
            ("metadata.name", "p"),
            ("metadata.labels", "a/x=\"1\"\nb=\"2\""),
            ("metadata.labels['a/x']", "1"),
            ("metadata.annotations['none']", ""),
            ("spec.nodeName", "node"),
            ("status.podIP", "10.1.0.2"),
            ("status.hostIP", "10.0.0.1"),
        ] {
            assert_eq!(view.field_value(path).expect(path), value, "{path}");
        }
        assert!(view.field_value("spec.foo").is_err());
    }
}
