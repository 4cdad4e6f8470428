//! What webhooks and policies are shown when the request came in another version than the one they are about.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use base64::{Engine, engine::general_purpose::STANDARD};
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use strata_client::{Patch, Resource};
use strata_http::{Body, Handler, Peer};
use support::beside::Beside;

const fn configuration(plural: &'static str, kind: &'static str) -> Resource {
    Resource::new("admissionregistration.k8s.io", "v1", plural, kind, false)
}
const MUTATING: Resource = configuration("mutatingwebhookconfigurations", "MutatingWebhookConfiguration");
const VALIDATING: Resource = configuration("validatingwebhookconfigurations", "ValidatingWebhookConfiguration");
const POLICIES: Resource = configuration("validatingadmissionpolicies", "ValidatingAdmissionPolicy");
const BINDINGS: Resource = configuration("validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding");
const DEFINITIONS: Resource = Resource::new(
    "apiextensions.k8s.io",
    "v1",
    "customresourcedefinitions",
    "CustomResourceDefinition",
    false,
);
const BOXES_V1: Resource = Resource::new("example.com", "v1", "boxes", "Box", true);
const BOXES_V2: Resource = Resource::new("example.com", "v2", "boxes", "Box", true);
const SCALERS_V1: Resource = Resource::new(
    "autoscaling",
    "v1",
    "horizontalpodautoscalers",
    "HorizontalPodAutoscaler",
    true,
);

/// Converts boxes (`spec.size` of v1 is `spec.bytes` of v2) and answers reviews; remembers what it was asked.
#[derive(Clone, Default)]
struct Hook {
    reviews: Arc<Mutex<Vec<Value>>>,
}

fn converted(mut object: Value, wanted: &Value) -> Value {
    if object["apiVersion"] == *wanted {
        return object;
    }
    object["apiVersion"] = wanted.clone();
    let names = match wanted.as_str() {
        Some("example.com/v2") => ("size", "bytes"),
        _ => ("bytes", "size"),
    };
    let spec = object["spec"].as_object_mut().unwrap();
    if let Some(value) = spec.remove(names.0) {
        spec.insert(names.1.into(), value);
    }
    object
}

impl Handler for Hook {
    fn call(&self, request: Request<Incoming>, _peer: Peer) -> BoxFuture<'static, Response<Body>> {
        let reviews = self.reviews.clone();
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            let bytes = request.into_body().collect().await.unwrap().to_bytes();
            let asked: Value = serde_json::from_slice(&bytes).unwrap();
            let mut asked = asked["request"].clone();
            let uid = asked["uid"].clone();
            let answer = match path.as_str() {
                "/convert" => {
                    let wanted = asked["desiredAPIVersion"].clone();
                    let objects = asked["objects"].as_array_mut().unwrap().drain(..);
                    let objects: Vec<Value> = objects.map(|object| converted(object, &wanted)).collect();
                    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
                        "response": {"uid": uid, "convertedObjects": objects, "result": {"status": "Success"}}})
                }
                _ => {
                    let patch = STANDARD.encode(r#"[{"op": "replace", "path": "/spec/bytes", "value": 42}]"#);
                    let response = match path.as_str() {
                        "/mutate" if asked["operation"] != "DELETE" => {
                            json!({"uid": uid, "allowed": true, "patchType": "JSONPatch", "patch": patch})
                        }
                        _ => json!({"uid": uid, "allowed": true}),
                    };
                    reviews.lock().unwrap().push(asked);
                    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
                }
            };
            Response::new(Body::full(answer.to_string()))
        })
    }
}

type Bench = Beside<Hook>;

impl Bench {
    async fn configure(&self, resource: Resource, path: &str, rule: Value) {
        let hook = json!({"name": "hook.example.com", "clientConfig": self.place(path), "rules": [rule],
            "sideEffects": "None", "admissionReviewVersions": ["v1"]});
        let object = json!({"metadata": {"name": "hook"}, "webhooks": [hook]});
        self.client.create(resource, "", &object).await.unwrap();
    }

    /// Boxes in two versions, the first of which is stored.
    async fn define(&self) {
        let version = |name: &str, member: &str, stored: bool| {
            json!({"name": name, "served": true, "storage": stored, "schema": {"openAPIV3Schema": {"type": "object",
                "properties": {"spec": {"type": "object", "properties": {member: {"type": "integer"}}}}}}})
        };
        let definition = json!({"metadata": {"name": "boxes.example.com"}, "spec": {"group": "example.com",
            "scope": "Namespaced", "names": {"plural": "boxes", "kind": "Box", "singular": "box", "listKind": "BoxList"},
            "versions": [version("v1", "size", true), version("v2", "bytes", false)],
            "conversion": {"strategy": "Webhook", "webhook": {"clientConfig": self.place("/convert"),
                "conversionReviewVersions": ["v1"]}}}});
        self.client.create(DEFINITIONS, "", &definition).await.unwrap();
        let served = async {
            while self
                .client
                .list(BOXES_V2, Some("default"), Default::default())
                .await
                .is_err()
            {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), served)
            .await
            .expect("boxes are served");
    }

    fn reviews(&self) -> Vec<Value> {
        std::mem::take(&mut *self.hook.reviews.lock().unwrap())
    }
}

fn rule(group: &str, version: &str, resource: &str) -> Value {
    json!({"operations": ["*"], "apiGroups": [group], "apiVersions": [version], "resources": [resource]})
}

#[tokio::test(flavor = "multi_thread")]
async fn custom_resources_are_converted_for_a_webhook_and_its_answer_back() {
    let bench = Bench::start(Hook::default()).await;
    bench.define().await;
    bench
        .configure(MUTATING, "/mutate", rule("example.com", "v2", "boxes"))
        .await;
    let small = json!({"metadata": {"name": "b"}, "spec": {"size": 1}});
    let made = bench.client.create(BOXES_V1, "default", &small).await.unwrap();
    assert_eq!(made.to_value().unwrap()["spec"], json!({"size": 42}));
    let review = bench.reviews().remove(0);
    assert_eq!(review["object"]["apiVersion"], "example.com/v2");
    assert_eq!(review["object"]["spec"], json!({"bytes": 1}));
    assert_eq!(
        (&review["kind"]["version"], &review["requestKind"]["version"]),
        (&json!("v2"), &json!("v1"))
    );
    assert_eq!(review["resource"]["version"], "v2");
    assert_eq!(review["requestResource"]["version"], "v1");
    let label = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
    bench.client.patch(BOXES_V1, "default", "b", None, label).await.unwrap();
    let review = bench.reviews().remove(0);
    assert_eq!(
        review["oldObject"]["spec"],
        json!({"bytes": 42}),
        "the state before is converted too"
    );
    bench
        .client
        .delete(BOXES_V1, "default", "b", Default::default())
        .await
        .unwrap();
    let review = bench.reviews().remove(0);
    assert_eq!(
        (&review["operation"], &review["object"]),
        (&json!("DELETE"), &Value::Null)
    );
    assert_eq!(review["oldObject"]["spec"], json!({"bytes": 42}));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_judge_custom_resources_in_the_version_they_name() {
    let bench = Bench::start(Hook::default()).await;
    bench.define().await;
    let policy = json!({"metadata": {"name": "p"}, "spec": {
        "matchConstraints": {"resourceRules": [rule("example.com", "v2", "boxes")]},
        "validations": [{"expression": "object.spec.bytes < 10", "message": "too large"}]}});
    bench.client.create(POLICIES, "", &policy).await.unwrap();
    let binding = json!({"metadata": {"name": "b"}, "spec": {"policyName": "p", "validationActions": ["Deny"]}});
    bench.client.create(BINDINGS, "", &binding).await.unwrap();
    for (resource, member) in [(BOXES_V1, "size"), (BOXES_V2, "bytes")] {
        for (value, allowed) in [(9, true), (10, false)] {
            let name = format!("{member}-{value}");
            let one = json!({"metadata": {"name": name}, "spec": {member: value}});
            let made = bench.client.create(resource, "default", &one).await;
            assert_eq!(made.is_ok(), allowed, "{made:?}");
        }
    }
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn built_in_kinds_are_shown_in_the_version_a_webhook_names() {
    let bench = Bench::start(Hook::default()).await;
    let about = rule("autoscaling", "v2", "horizontalpodautoscalers");
    bench.configure(VALIDATING, "/allow", about.clone()).await;
    let scaler = |name: &str| {
        json!({"metadata": {"name": name}, "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 70,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}})
    };
    bench.client.create(SCALERS_V1, "default", &scaler("a")).await.unwrap();
    let review = bench.reviews().remove(0);
    assert_eq!(review["object"]["apiVersion"], "autoscaling/v2");
    assert_eq!(
        review["object"]["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"],
        70
    );
    assert_eq!(review["requestKind"]["version"], "v1");
    // Who wants the very version only is not asked about others.
    bench
        .client
        .delete(VALIDATING, "", "hook", Default::default())
        .await
        .unwrap();
    let hook = json!({"name": "hook.example.com", "clientConfig": bench.place("/allow"), "rules": [about],
        "matchPolicy": "Exact", "sideEffects": "None", "admissionReviewVersions": ["v1"]});
    let object = json!({"metadata": {"name": "hook"}, "webhooks": [hook]});
    bench.client.create(VALIDATING, "", &object).await.unwrap();
    bench.client.create(SCALERS_V1, "default", &scaler("b")).await.unwrap();
    assert_eq!(bench.reviews(), Vec::<Value>::new());
    bench.stop().await;
}
