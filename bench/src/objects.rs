//! What the load writes beside config maps: a deployment, and a custom resource with rules.

use crate::{
    failure::{Outcome, fail},
    http2::Http2,
};
use bytes::Bytes;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How long a definition may take to be served.
const PATIENCE: Duration = Duration::from_secs(30);
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// Defines the custom resource and waits until it is served.
pub async fn define(api: &mut Http2) -> Outcome {
    api.create(DEFINITIONS, definition().to_string()).await?;
    let end = Instant::now() + PATIENCE;
    while api
        .get("/apis/bench.example.com/v1/namespaces/default/gadgets")
        .await?
        .is_none()
    {
        if Instant::now() > end {
            return fail("the custom resource is not served");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Where custom resources are created.
pub fn custom_path(namespace: &str) -> String {
    format!("/apis/bench.example.com/v1/namespaces/{namespace}/gadgets")
}

/// A custom resource that keeps its rules.
pub fn custom(name: &str, count: usize) -> Bytes {
    let ports: Vec<Value> = (0..4)
        .map(|n| json!({"name": format!("port-{n}"), "port": 8000 + n}))
        .collect();
    let object = json!({
        "apiVersion": "bench.example.com/v1", "kind": "Gadget", "metadata": {"name": name},
        "spec": {"minimum": 1, "maximum": 10 + count, "mode": "steady", "ports": ports,
                 "labels": {"tier": "front", "team": "blue"}, "image": format!("registry.example.com/gadget:{count}")},
    });
    object.to_string().into()
}

fn definition() -> Value {
    let rule = |rule: &str, message: &str| json!({"rule": rule, "message": message});
    let port = json!({
        "type": "object", "required": ["name", "port"],
        "properties": {"name": {"type": "string", "maxLength": 63}, "port": {"type": "integer", "minimum": 1, "maximum": 65535}},
    });
    let spec = json!({
        "type": "object", "required": ["minimum", "maximum"],
        "x-kubernetes-validations": [
            rule("self.minimum <= self.maximum", "minimum must not exceed maximum"),
            rule("self.mode != 'steady' || self.ports.all(p, p.port >= 8000)", "a steady gadget has high ports"),
            rule("self.ports.exists(p, p.name == 'port-0')", "there must be a first port"),
            rule("!has(self.image) || self.image.startsWith('registry.example.com/')", "images come from our registry"),
        ],
        "properties": {
            "minimum": {"type": "integer"}, "maximum": {"type": "integer"},
            "mode": {"type": "string", "enum": ["steady", "burst"], "default": "steady"},
            "image": {"type": "string", "maxLength": 255},
            "labels": {"type": "object", "maxProperties": 16, "additionalProperties": {"type": "string", "maxLength": 63}},
            "ports": {"type": "array", "maxItems": 16, "x-kubernetes-list-type": "map",
                      "x-kubernetes-list-map-keys": ["name"], "items": port},
        },
    });
    let schema = json!({"type": "object", "properties": {"spec": spec}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "gadgets.bench.example.com"},
        "spec": {
            "group": "bench.example.com", "scope": "Namespaced",
            "names": {"plural": "gadgets", "singular": "gadget", "kind": "Gadget", "listKind": "GadgetList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
        },
    })
}

/// A deployment to apply: its path and the configuration, which differs by `count`.
pub fn applied(namespace: &str, name: &str, count: usize) -> (String, Bytes) {
    let path = format!("/apis/apps/v1/namespaces/{namespace}/deployments/{name}?fieldManager=bench&force=true");
    let object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "labels": {"app": name, "build": count.to_string()}},
        "spec": {
            "replicas": 0, "paused": true,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{
                    "name": "main", "image": "registry.example.com/app:1",
                    "env": [{"name": "MODE", "value": "bench"}, {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
                    "ports": [{"name": "http", "containerPort": 8080}],
                    "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
                    "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}},
                }]},
            },
        },
    });
    (path, object.to_string().into())
}
