//! Who manages which fields, as clients see it in `metadata.managedFields`.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use bytes::Bytes;
use http::{Method, Request};
use serde_json::{Value, json};
use strata_auth::UserInfo;
use support::TestServer;

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const APPLY: &str = "application/apply-patch+yaml";
const MERGE: &str = "application/merge-patch+json";

/// The answer to a request of a client that calls itself `tester`.
async fn send(server: &TestServer, method: Method, path: &str, media: &str, body: &Value) -> (u16, Value) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", media)
        .header("user-agent", "tester/v1 (linux)")
        .body(Bytes::from(body.to_string()))
        .unwrap();
    let transport = server.transport(UserInfo::new("admin", &["system:masters"]));
    let (parts, body) = transport.send(request).await.unwrap().into_parts();
    (parts.status.as_u16(), serde_json::from_slice(&body).unwrap())
}

async fn ok(server: &TestServer, method: Method, path: &str, media: &str, body: &Value) -> Value {
    let (code, answer) = send(server, method, path, media, body).await;
    assert!(code < 300, "{path}: {code} {answer}");
    answer
}

/// The fields that a manager has through a subresource, and whether it applied them.
fn fields<'v>(object: &'v Value, manager: &str, subresource: &str) -> Option<&'v Value> {
    let entries = object["metadata"]["managedFields"].as_array()?;
    let found = entries
        .iter()
        .find(|e| e["manager"] == manager && e["subresource"].as_str().unwrap_or("") == subresource)?;
    assert_eq!(found["fieldsType"], "FieldsV1");
    Some(&found["fieldsV1"])
}

fn deployment() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "labels": {"a": "b"}},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

#[tokio::test]
async fn fields_are_managed_from_the_first_write_on() {
    let server = TestServer::start().await;
    let made = ok(&server, Method::POST, DEPLOYMENTS, "application/json", &deployment()).await;
    let owned = fields(&made, "tester", "").unwrap();
    assert_eq!(owned["f:metadata"], json!({"f:labels": {".": {}, "f:a": {}}}));
    assert_eq!(owned["f:spec"]["f:replicas"], json!({}));
    assert!(owned["f:spec"]["f:template"]["f:spec"]["f:containers"]["k:{\"name\":\"c\"}"]["f:image"].is_object());
    assert!(owned.get("f:status").is_none());

    let path = format!("{DEPLOYMENTS}/d");
    let patched = ok(
        &server,
        Method::PATCH,
        &format!("{path}?fieldManager=other"),
        MERGE,
        &json!({"spec": {"replicas": 3}}),
    )
    .await;
    assert_eq!(
        fields(&patched, "other", "").unwrap(),
        &json!({"f:spec": {"f:replicas": {}}})
    );
    assert!(
        fields(&patched, "tester", "").unwrap()["f:spec"]
            .get("f:replicas")
            .is_none()
    );

    let same = ok(
        &server,
        Method::PATCH,
        &format!("{path}?fieldManager=third"),
        MERGE,
        &json!({"spec": {"replicas": 3}}),
    )
    .await;
    assert_eq!(same, patched, "what changes nothing is not written");

    let status = json!({"status": {"observedGeneration": 1, "replicas": 1}, "spec": {"replicas": 9}});
    let written = ok(&server, Method::PATCH, &format!("{path}/status"), MERGE, &status).await;
    let owned = fields(&written, "tester", "status").unwrap();
    assert_eq!(
        owned,
        &json!({"f:status": {"f:observedGeneration": {}, "f:replicas": {}}})
    );

    let reset = ok(
        &server,
        Method::PATCH,
        &path,
        MERGE,
        &json!({"metadata": {"managedFields": [{}]}}),
    )
    .await;
    assert!(reset["metadata"].get("managedFields").is_none());
    server.stop().await;
}

#[tokio::test]
async fn a_scale_takes_and_gives_the_replicas() {
    let server = TestServer::start().await;
    let path = format!("{DEPLOYMENTS}/d");
    ok(
        &server,
        Method::PATCH,
        &format!("{path}?fieldManager=a"),
        APPLY,
        &deployment(),
    )
    .await;
    let scale = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d", "namespace": "default"}, "spec": {"replicas": 5}});
    ok(
        &server,
        Method::PUT,
        &format!("{path}/scale?fieldManager=s"),
        "application/json",
        &scale,
    )
    .await;
    let live = ok(&server, Method::GET, &path, "", &Value::Null).await;
    assert_eq!(live["spec"]["replicas"], 5);
    assert_eq!(
        fields(&live, "s", "scale").unwrap(),
        &json!({"f:spec": {"f:replicas": {}}})
    );
    assert!(fields(&live, "a", "").unwrap()["f:spec"].get("f:replicas").is_none());

    let (code, refused) = send(
        &server,
        Method::PATCH,
        &format!("{path}?fieldManager=a"),
        APPLY,
        &deployment(),
    )
    .await;
    assert_eq!(
        (code, refused["message"].as_str().unwrap()),
        (
            409,
            "Apply failed with 1 conflict: conflict with \"s\" with subresource \"scale\" using apps/v1: .spec.replicas"
        )
    );
    assert_eq!(
        refused["details"]["causes"][0],
        json!({"reason": "FieldManagerConflict", "message": "conflict with \"s\" with subresource \"scale\" using apps/v1", "field": ".spec.replicas"})
    );
    let applied = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "spec": {"replicas": 6}});
    let (code, refused) = send(
        &server,
        Method::PATCH,
        &format!("{path}/scale?fieldManager=t"),
        APPLY,
        &applied,
    )
    .await;
    assert_eq!(code, 409, "{refused}");
    ok(
        &server,
        Method::PATCH,
        &format!("{path}/scale?fieldManager=t&force=true"),
        APPLY,
        &applied,
    )
    .await;
    let live = ok(&server, Method::GET, &path, "", &Value::Null).await;
    assert_eq!(live["spec"]["replicas"], 6);
    assert_eq!(
        fields(&live, "t", "scale").unwrap(),
        &json!({"f:spec": {"f:replicas": {}}})
    );
    server.stop().await;
}

#[tokio::test]
async fn configurations_that_cannot_be_applied_are_refused_in_upstreams_words() {
    let server = TestServer::start().await;
    let path = format!("{DEPLOYMENTS}/d?fieldManager=a");
    let with = |pointer: &str, value: Value| {
        let mut config = deployment();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        config.pointer_mut(parent).unwrap()[name] = value;
        config
    };
    for (config, code, sentence) in [
        (
            with("/metadata/managedFields", json!([])),
            400,
            "metadata.managedFields must be nil",
        ),
        (
            with("/spec/unknown", json!(1)),
            500,
            "failed to create typed patch object (/d; apps/v1, Kind=Deployment): .spec.unknown: field not declared in schema",
        ),
        (
            with("/spec/replicas", json!("x")),
            500,
            "failed to create typed patch object (/d; apps/v1, Kind=Deployment): .spec.replicas: expected numeric (int or float), got string",
        ),
        (
            with("/spec/template/spec/containers", json!([{"name": "c"}, {"name": "c"}])),
            500,
            "failed to create typed patch object (/d; apps/v1, Kind=Deployment): .spec.template.spec.containers: duplicate entries for key [name=\"c\"]",
        ),
        (
            with("/kind", json!("Pod")),
            400,
            "invalid object type: apps/v1, Kind=Pod",
        ),
    ] {
        let (answered, refused) = send(&server, Method::PATCH, &path, APPLY, &config).await;
        assert_eq!((answered, refused["message"].as_str().unwrap()), (code, sentence));
    }
    let (code, refused) = send(&server, Method::PATCH, &path, APPLY, &with("/metadata/uid", json!("u"))).await;
    assert_eq!((code, refused["reason"].as_str()), (409, Some("Conflict")), "{refused}");
    server.stop().await;
}
