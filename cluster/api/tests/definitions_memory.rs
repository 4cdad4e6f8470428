//! What hundreds of definitions cost in memory, by an allocator that counts what lives.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use bytes::Bytes;
use http::Request;
use serde_json::{Map, Value, json};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicIsize, Ordering},
    time::{Duration, Instant},
};
use strata_auth::UserInfo;
use support::TestServer;

/// Counts the bytes that live.
struct Counting;

static LIVE: AtomicIsize = AtomicIsize::new(0);

// SAFETY: everything is left to the system's allocator; only a number is kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LIVE.fetch_add(size as isize - layout.size() as isize, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Definitions that are made. What one costs does not depend on how many there are, so a part shows it.
const DEFINITIONS: usize = 100;
/// The most that memory may be, as a multiple of what is stored.
const BAR: f64 = 3.0;
const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

async fn send(server: &TestServer, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .body(Bytes::from(body))
        .unwrap();
    let user = UserInfo::new("admin", &["system:masters"]);
    let response = server.transport(user).send(request).await.unwrap();
    (
        response.status().as_u16(),
        serde_json::from_slice(response.body()).unwrap_or(Value::Null),
    )
}

/// A schema of the server's own API as people generate those of definitions: everything it refers to written out,
/// with its description, `depth` references deep.
fn written_out(all: &Map<String, Value>, schema: &Value, depth: usize) -> Value {
    let target = schema.get("$ref").or_else(|| schema.pointer("/allOf/0/$ref"));
    if let Some(target) = target.and_then(Value::as_str) {
        let name = target.rsplit('/').next().unwrap();
        if name.ends_with("IntOrString") || name.ends_with("Quantity") {
            return json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]});
        }
        let mut below = match depth {
            0 => json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
            _ => written_out(all, &all[name], depth - 1),
        };
        if let Some(said) = schema.get("description") {
            below["description"] = said.clone();
        }
        return below;
    }
    let mut out = Map::new();
    for (name, member) in schema.as_object().into_iter().flatten() {
        let member = match (name.as_str(), member) {
            ("properties", Value::Object(members)) => {
                let members = members.iter();
                members.map(|(n, s)| (n.clone(), written_out(all, s, depth))).collect()
            }
            ("items" | "additionalProperties", below @ Value::Object(_)) => written_out(all, below, depth),
            ("default", _) => continue,
            (name, _) if name.starts_with("x-") => continue,
            (_, other) => other.clone(),
        };
        out.insert(name.clone(), member);
    }
    if !out.contains_key("type") {
        out.insert("type".into(), json!("object"));
        out.insert("x-kubernetes-preserve-unknown-fields".into(), json!(true));
    }
    Value::Object(out)
}

/// A definition with a schema of some thirty kilobytes, a default and a rule.
fn definition(all: &Map<String, Value>, i: usize) -> Value {
    const PARTS: &[&str] = &[
        "PodSpec",
        "Volume",
        "Container",
        "Affinity",
        "StatefulSetSpec",
        "DeploymentSpec",
        "Probe",
        "PodTemplateSpec",
    ];
    let mut properties = json!({"mode": {"type": "string", "enum": ["A", "B"], "default": "A"}});
    let mut size = 0;
    for j in 0..3 {
        let part = PARTS[(i + j) % PARTS.len()];
        let name = all.keys().find(|n| n.ends_with(&format!(".{part}"))).unwrap();
        let sizes = (1..=4).rev().map(|depth| written_out(all, &all[name], depth));
        let fits = |schema: &Value| size + schema.to_string().len() < 40_000;
        if let Some(schema) = sizes.into_iter().find(fits) {
            size += schema.to_string().len();
            properties[part.to_lowercase()] = schema;
        }
    }
    let (group, plural) = (format!("g{}.memory.example.com", i % 20), format!("kinds{i}"));
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {"group": group, "scope": "Namespaced", "names": {"plural": plural, "kind": format!("Kind{i}")},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "description": format!("Kind {i}."), "properties": {
                    "spec": {"type": "object", "properties": properties,
                        "x-kubernetes-validations": [{"rule": "self.mode == oldSelf.mode", "message": "never changes"}]},
                    "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}}]}})
}

/// Waits until every definition is served; what all of them take in the store.
async fn established(server: &TestServer) -> usize {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let (_, list) = send(server, "GET", CRDS, &Value::Null).await;
        let items = list["items"].as_array().unwrap();
        let holds = |c: &Value| c["type"] == "Established" && c["status"] == "True";
        let served = |d: &&Value| {
            d["status"]["conditions"]
                .as_array()
                .is_some_and(|c| c.iter().any(holds))
        };
        if items.iter().filter(served).count() == DEFINITIONS {
            return items.iter().map(|d| d.to_string().len()).sum();
        }
        assert!(Instant::now() < deadline, "not established");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn definitions_cost_at_most_three_times_what_is_stored() {
    let server = TestServer::start().await;
    let (_, document) = send(&server, "GET", "/openapi/v3/apis/apps/v1", &Value::Null).await;
    let all = document.pointer("/components/schemas").unwrap().as_object().unwrap();
    // What is made once and kept is not theirs: the documents of the built-in kinds.
    send(&server, "GET", "/openapi/v2", &Value::Null).await;
    let before = LIVE.load(Ordering::Relaxed);
    for i in 0..DEFINITIONS {
        let (code, said) = send(&server, "POST", CRDS, &definition(all, i)).await;
        assert_eq!(code, 201, "{said}");
    }
    let stored = established(&server).await;
    let cost = |what: &str| {
        let ratio = (LIVE.load(Ordering::Relaxed) - before) as f64 / stored as f64;
        println!("{what}: {ratio:.2} times the {stored} bytes stored");
        ratio
    };
    let mut costs = vec![cost("made, with history")];
    send(&server, "GET", "/openapi/v2", &Value::Null).await;
    let (_, index) = send(&server, "GET", "/openapi/v3", &Value::Null).await;
    for (path, place) in index["paths"].as_object().unwrap() {
        if path.contains("memory.example.com") {
            let place = place["serverRelativeURL"].as_str().unwrap();
            assert_eq!(send(&server, "GET", place, &Value::Null).await.0, 200);
        }
    }
    costs.push(cost("described"));
    for i in 0..DEFINITIONS {
        let group = format!("g{}.memory.example.com", i % 20);
        let object = json!({"apiVersion": format!("{group}/v1"), "kind": format!("Kind{i}"),
            "metadata": {"name": "x"}, "spec": {"mode": "A"}});
        let path = format!("/apis/{group}/v1/namespaces/default/kinds{i}");
        let (code, said) = send(&server, "POST", &path, &object).await;
        assert_eq!(code, 201, "{said}");
        let (code, said) = send(&server, "PUT", &format!("{path}/x"), &said).await;
        assert_eq!(code, 200, "{said}");
    }
    costs.push(cost("used"));
    let highest = costs.iter().copied().fold(0.0, f64::max);
    assert!(highest <= BAR, "{highest:.2} times what is stored");
}
