//! Admission webhooks: a real HTTPS server that speaks AdmissionReview, called by a real API server.

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
    time::{Duration, Instant},
};
use strata_client::{Patch, Resource, resources::*};
use strata_http::{Body, Handler, Peer};
use support::beside::Beside;

const VALIDATING: Resource = Resource::new(
    "admissionregistration.k8s.io",
    "v1",
    "validatingwebhookconfigurations",
    "ValidatingWebhookConfiguration",
    false,
);
const MUTATING: Resource = Resource::new(
    "admissionregistration.k8s.io",
    "v1",
    "mutatingwebhookconfigurations",
    "MutatingWebhookConfiguration",
    false,
);

/// Answers by path, and remembers what it was asked.
#[derive(Clone, Default)]
struct Hook {
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Handler for Hook {
    fn call(&self, request: Request<Incoming>, _peer: Peer) -> BoxFuture<'static, Response<Body>> {
        let asked = self.asked.clone();
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            let bytes = request.into_body().collect().await.unwrap().to_bytes();
            let review: Value = serde_json::from_slice(&bytes).unwrap();
            asked.lock().unwrap().push(review.clone());
            let uid = &review["request"]["uid"];
            let patch = |operations: Value| {
                json!({"uid": uid, "allowed": true, "patchType": "JSONPatch",
                    "patch": STANDARD.encode(operations.to_string())})
            };
            let response = match path.as_str() {
                "/deny" => json!({"uid": uid, "allowed": false, "warnings": ["beware"],
                    "status": {"message": "this is not wanted", "code": 422, "reason": "Teapot"}}),
                "/stranger" => json!({"uid": "another", "allowed": true}),
                "/hang" => std::future::pending().await,
                "/mutate" => patch(json!([{"op": "add", "path": "/data/mutated", "value": "yes"}])),
                "/second" => match &review["request"]["object"]["data"]["late"] {
                    Value::Null => patch(json!([{"op": "add", "path": "/data/late", "value": "yes"}])),
                    _ => json!({"uid": uid, "allowed": true}),
                },
                "/nonsense" => return Response::new(Body::full("<html>")),
                _ => json!({"uid": uid, "allowed": true}),
            };
            let answer = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
            Response::new(Body::full(answer.to_string()))
        })
    }
}

impl Hook {
    /// What it was asked about a name.
    fn about(&self, name: &str) -> Vec<Value> {
        let asked = self.asked.lock().unwrap();
        let named = |review: &&Value| review["request"]["name"] == name;
        asked.iter().filter(named).map(|r| r["request"].clone()).collect()
    }
}

type Bench = Beside<Hook>;

impl Bench {
    fn webhook(&self, name: &str, path: &str, extra: Value) -> Value {
        let mut hook = json!({
            "name": name,
            "clientConfig": self.place(path),
            "rules": [{"operations": ["CREATE", "UPDATE", "DELETE"], "apiGroups": [""], "apiVersions": ["v1"],
                "resources": ["configmaps"]}],
            "sideEffects": "None", "admissionReviewVersions": ["v1"], "timeoutSeconds": 2,
        });
        for (key, value) in extra.as_object().into_iter().flatten() {
            hook[key] = value.clone();
        }
        hook
    }

    async fn configure(&self, resource: Resource, name: &str, hooks: Vec<Value>) {
        let configuration = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": resource.kind,
            "metadata": {"name": name}, "webhooks": hooks});
        self.client.create(resource, "", &configuration).await.unwrap();
    }

    async fn make(&self, name: &str) -> Result<Value, String> {
        let map = json!({"metadata": {"name": name}, "data": {"a": "b"}});
        let made = self.client.create(CONFIG_MAPS, "default", &map).await;
        made.map(|o| o.to_value().unwrap()).map_err(|e| e.to_string())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validating_webhook_refuses_as_soon_as_it_is_configured() {
    let bench = Bench::start(Hook::default()).await;
    let selective = json!({"objectSelector": {"matchLabels": {"deny": "me"}}});
    bench
        .configure(
            VALIDATING,
            "v",
            vec![bench.webhook("deny.example.com", "/deny", selective)],
        )
        .await;
    bench.make("fine").await.unwrap();
    let labelled = json!({"metadata": {"name": "bad", "labels": {"deny": "me"}}});
    let why = bench
        .client
        .create(CONFIG_MAPS, "default", &labelled)
        .await
        .unwrap_err();
    assert!(
        why.to_string()
            .contains("admission webhook \"deny.example.com\" denied the request: this is not wanted"),
        "{why}"
    );
    let review = bench.hook.about("bad").remove(0);
    assert_eq!(review["operation"], "CREATE");
    assert_eq!(
        review["kind"],
        json!({"group": "", "version": "v1", "kind": "ConfigMap"})
    );
    assert_eq!(review["object"]["kind"], "ConfigMap");
    assert_eq!(review["oldObject"], Value::Null);
    assert_eq!(review["userInfo"]["username"], "admin");
    let label = Patch::Merge(json!({"metadata": {"labels": {"deny": "me"}}}));
    let patched = bench.client.patch(CONFIG_MAPS, "default", "fine", None, label).await;
    assert!(patched.is_err());
    let review = bench.hook.about("fine").remove(0);
    assert_eq!(
        (&review["operation"], &review["oldObject"]["data"]["a"]),
        (&json!("UPDATE"), &json!("b"))
    );
    bench
        .client
        .delete(VALIDATING, "", "v", Default::default())
        .await
        .unwrap();
    bench.client.create(CONFIG_MAPS, "default", &labelled).await.unwrap();
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mutating_webhooks_change_in_order_and_are_asked_again() {
    let bench = Bench::start(Hook::default()).await;
    let again = json!({"reinvocationPolicy": "IfNeeded"});
    bench
        .configure(
            MUTATING,
            "m",
            vec![
                bench.webhook("first.example.com", "/mutate", again),
                bench.webhook("second.example.com", "/second", json!({})),
            ],
        )
        .await;
    let made = bench.make("map").await.unwrap();
    assert_eq!(made["data"], json!({"a": "b", "mutated": "yes", "late": "yes"}));
    let seen: Vec<bool> = bench
        .hook
        .about("map")
        .iter()
        .map(|r| r["object"]["data"].get("late").is_some())
        .collect();
    assert_eq!(
        seen,
        [false, false, true],
        "the first is asked again after the second's change"
    );
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_decided_by_the_policy_within_the_timeout() {
    let bench = Bench::start(Hook::default()).await;
    for (path, expected) in [
        ("/hang", "context deadline exceeded"),
        ("/stranger", "received invalid webhook response: expected response.uid="),
        ("/nonsense", "failed to call webhook"),
    ] {
        let began = Instant::now();
        let hook = bench.webhook("broken.example.com", path, json!({"timeoutSeconds": 1}));
        bench.configure(VALIDATING, "broken", vec![hook]).await;
        let why = bench.make("x").await.unwrap_err();
        assert!(why.contains("failed calling webhook \"broken.example.com\""), "{why}");
        assert!(why.contains(expected), "{why}");
        assert!(began.elapsed() < Duration::from_secs(10));
        // Configurations are exempt: a broken one can be removed.
        bench
            .client
            .delete(VALIDATING, "", "broken", Default::default())
            .await
            .unwrap();
        let open = json!({"timeoutSeconds": 1, "failurePolicy": "Ignore"});
        let hook = bench.webhook("broken.example.com", path, open);
        bench.configure(VALIDATING, "broken", vec![hook]).await;
        bench.make(&format!("open{}", path.replace('/', "-"))).await.unwrap();
        bench
            .client
            .delete(VALIDATING, "", "broken", Default::default())
            .await
            .unwrap();
    }
    bench.stop().await;
}
