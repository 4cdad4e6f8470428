//! What a pod refers to by name.

use crate::json;
use serde_json::Value;

const CONTAINERS: [&str; 3] = ["spec.containers", "spec.initContainers", "spec.ephemeralContainers"];

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    CONTAINERS.iter().flat_map(|list| json::list(pod, list))
}

/// Where volumes name secrets, by the members on the way.
const VOLUME_SECRETS: [&str; 11] = [
    "azureFile.secretName",
    "cephfs.secretRef.name",
    "cinder.secretRef.name",
    "flexVolume.secretRef.name",
    "rbd.secretRef.name",
    "secret.secretName",
    "scaleIO.secretRef.name",
    "iscsi.secretRef.name",
    "storageos.secretRef.name",
    "csi.nodePublishSecretRef.name",
    "projected.sources",
];

/// Whether a pod names a secret anywhere.
pub(super) fn names_secrets(pod: &Value) -> bool {
    let in_volume = |volume: &Value| {
        VOLUME_SECRETS.iter().any(|path| match *path {
            "projected.sources" => json::list(volume, path)
                .iter()
                .any(|s| !json::text(s, "secret.name").is_empty()),
            path => !json::text(volume, path).is_empty(),
        })
    };
    json::list(pod, "spec.imagePullSecrets")
        .iter()
        .any(|s| !json::text(s, "name").is_empty())
        || containers(pod).any(|c| names(c, "secretKeyRef", "secretRef"))
        || json::list(pod, "spec.volumes").iter().any(in_volume)
}

/// Whether a container's environment names one of a kind.
fn names(container: &Value, key: &str, whole: &str) -> bool {
    let named = |value: &Value, path: &str| !json::text(value, path).is_empty();
    let key = format!("valueFrom.{key}.name");
    json::list(container, "env").iter().any(|e| named(e, &key))
        || json::list(container, "envFrom")
            .iter()
            .any(|e| named(e, &format!("{whole}.name")))
}

/// The kind of API object that a pod refers to, if it refers to any, as upstream's sentences name it.
pub(super) fn api_object(pod: &Value) -> Option<&'static str> {
    if !json::text(pod, "spec.serviceAccountName").is_empty() {
        return Some("serviceaccounts");
    }
    if names_secrets(pod) {
        return Some("secrets");
    }
    if containers(pod).any(|c| names(c, "configMapKeyRef", "configMapRef"))
        || json::list(pod, "spec.volumes").iter().any(names_config_map)
    {
        return Some("configmaps");
    }
    if !json::list(pod, "spec.resourceClaims").is_empty() {
        return Some("resourceclaims");
    }
    json::list(pod, "spec.volumes").iter().find_map(of_volume)
}

fn names_config_map(volume: &Value) -> bool {
    !json::text(volume, "configMap.name").is_empty()
        || json::list(volume, "projected.sources")
            .iter()
            .any(|s| !json::text(s, "configMap.name").is_empty())
}

fn of_volume(volume: &Value) -> Option<&'static str> {
    for (member, kind) in [
        ("configMap", "configmaps (via configmap volumes)"),
        ("secret", "secrets (via secret volumes)"),
        ("csi", "csidrivers (via CSI volumes)"),
        ("glusterfs", "endpoints (via glusterFS volumes)"),
        ("persistentVolumeClaim", "persistentvolumeclaims"),
        ("ephemeral", "persistentvolumeclaims (via ephemeral volumes)"),
        ("azureFile", "secrets (via azureFile volumes)"),
    ] {
        if volume.get(member).is_some() {
            return Some(kind);
        }
    }
    json::list(volume, "projected.sources").iter().find_map(|source| {
        [
            ("configMap", "configmaps (via projected volumes)"),
            ("secret", "secrets (via projected volumes)"),
            ("serviceAccountToken", "serviceaccounts (via projected volumes)"),
            ("clusterTrustBundle", "clustertrustbundles"),
            ("podCertificate", "podcertificates"),
        ]
        .into_iter()
        .find_map(|(member, kind)| source.get(member).map(|_| kind))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn references_are_found_wherever_they_stand() {
        for (spec, expected) in [
            (json!({"containers": [{"name": "c"}]}), None),
            (json!({"serviceAccountName": "a"}), Some("serviceaccounts")),
            (
                json!({"containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "s"}}}]}]}),
                Some("secrets"),
            ),
            (
                json!({"initContainers": [{"envFrom": [{"configMapRef": {"name": "s"}}]}]}),
                Some("configmaps"),
            ),
            (
                json!({"volumes": [{"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]}),
                Some("serviceaccounts (via projected volumes)"),
            ),
            (json!({"volumes": [{"hostPath": {"path": "/"}}]}), None),
            (
                json!({"volumes": [{"persistentVolumeClaim": {"claimName": "x"}}]}),
                Some("persistentvolumeclaims"),
            ),
        ] {
            assert_eq!(api_object(&json!({"spec": spec})), expected, "{spec}");
        }
    }
}
