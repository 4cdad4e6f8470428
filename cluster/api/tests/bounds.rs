//! Requests that are deep, long or huge are answered: in time that grows with their size, and never by a fall.
//!
//! A test's thread has the stack of a server's worker.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use bytes::Bytes;
use http::{Method, Request};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use strata_auth::UserInfo;
use support::TestServer;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const THINGS: &str = "/apis/example.com/v1/namespaces/default/things";

/// What takes the product of two lengths takes minutes for the bodies here.
const PATIENCE: Duration = Duration::from_secs(60);

async fn ask(server: &TestServer, method: Method, path: &str, media: &str, body: impl Into<Bytes>) -> (u16, Value) {
    let request = Request::builder()
        .method(method.clone())
        .uri(path)
        .header("content-type", media)
        .header("accept", "application/json");
    let request = request.body(body.into()).unwrap();
    let begun = Instant::now();
    let admin = server.transport(UserInfo::new("admin", &["system:masters"]));
    let response = admin.send(request).await.unwrap();
    let shown: String = path.chars().take(100).collect();
    assert!(
        begun.elapsed() < PATIENCE,
        "{method} {shown} took {:?}",
        begun.elapsed()
    );
    let code = response.status().as_u16();
    (code, serde_json::from_slice(response.body()).unwrap_or(Value::Null))
}

async fn post(server: &TestServer, path: &str, media: &str, body: impl Into<Bytes>) -> u16 {
    let (code, answer) = ask(server, Method::POST, path, media, body).await;
    assert!(code == 201 || answer["kind"] == "Status", "{code} {answer}");
    code
}

/// A kind whose objects may say anything, and lists known by keys.
async fn with_things() -> TestServer {
    let server = TestServer::start().await;
    let spec = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {
        "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}}},
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
    }});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}}]},
    });
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    assert_eq!(
        post(&server, definitions, "application/json", definition.to_string()).await,
        201
    );
    let deadline = Instant::now() + PATIENCE;
    while ask(&server, Method::GET, THINGS, "", "").await.0 != 200 {
        assert!(Instant::now() < deadline, "the kind is served");
        tokio::task::yield_now().await;
    }
    server
}

fn thing(name: &str, spec: &Value) -> String {
    json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": name}, "spec": spec}).to_string()
}

fn nested(depth: usize) -> String {
    format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth))
}

#[tokio::test]
async fn nesting_without_end_is_refused_in_every_encoding() {
    let server = with_things().await;
    let json = "application/json";
    for depth in [1_000, 500_000] {
        let (lists, objects) = ("[".repeat(depth), "{\"a\":".repeat(depth));
        for bomb in [lists, objects, nested(depth)] {
            // What is below a member that nobody knows is not looked at.
            assert!(matches!(post(&server, MAPS, json, bomb.clone()).await, 400 | 422));
            assert_eq!(post(&server, MAPS, json, format!("{{\"metadata\":{bomb}")).await, 400);
            let body = format!("{{\"apiVersion\":\"example.com/v1\",\"kind\":\"Thing\",\"spec\":{bomb}");
            assert_eq!(post(&server, THINGS, json, body).await, 400);
            assert_eq!(post(&server, MAPS, "application/yaml", bomb).await, 400);
        }
        for indent in ["- ", "? ", "a: {", "[a, "] {
            assert_eq!(post(&server, MAPS, "application/yaml", indent.repeat(depth)).await, 400);
        }
    }
    // A schema's `not` in a `not`, in the schema of a version of the spec of a definition, in its envelope.
    let field = |number: u32, value: &[u8]| {
        let mut out = Vec::new();
        for mut part in [u64::from(number << 3 | 2), value.len() as u64] {
            while part >= 0x80 {
                out.push(part as u8 | 0x80);
                part >>= 7;
            }
            out.push(part as u8);
        }
        out.extend(value);
        out
    };
    let deepest = (0..2_000).fold(Vec::new(), |inner, _| field(28, &inner));
    let message = [1, 4, 7, 2]
        .into_iter()
        .fold(deepest, |inner, number| field(number, &inner));
    let kind = [
        field(1, b"apiextensions.k8s.io/v1"),
        field(2, b"CustomResourceDefinition"),
    ]
    .concat();
    let body = [b"k8s\0".to_vec(), field(1, &kind), field(2, &message)].concat();
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    assert_eq!(
        post(&server, definitions, "application/vnd.kubernetes.protobuf", body).await,
        400
    );
    server.stop().await;
}

#[tokio::test]
async fn what_is_as_deep_as_it_may_be_is_kept_and_shown() {
    let server = with_things().await;
    for depth in [60, 100, 120, 121, 122, 123, 124, 125, 126, 127] {
        let name = format!("deep{depth}");
        let spec: Result<Value, _> = serde_json::from_str(&nested(depth - 1));
        let body = format!(
            "{{\"apiVersion\":\"example.com/v1\",\"kind\":\"Thing\",\"metadata\":{{\"name\":\"{name}\"}},\"spec\":{}}}",
            nested(depth - 1)
        );
        let code = post(
            &server,
            &format!("{THINGS}?fieldManager=a"),
            "application/json",
            body.clone(),
        )
        .await;
        assert!(matches!(code, 201 | 400), "{depth}: {code}");
        if code != 201 {
            continue;
        }
        let (code, shown) = ask(&server, Method::GET, &format!("{THINGS}/{name}"), "", "").await;
        assert_eq!((code, &shown["spec"]), (200, &spec.unwrap()), "{depth}");
        let merge = "application/merge-patch+json";
        let change = r#"{"metadata":{"labels":{"a":"b"}}}"#;
        let (code, said) = ask(&server, Method::PATCH, &format!("{THINGS}/{name}"), merge, change).await;
        assert_eq!(code, 200, "{depth}: {said}");
        let apply = "application/apply-patch+yaml";
        let path = format!("{THINGS}/{name}?fieldManager=b&force=true");
        let (code, said) = ask(&server, Method::PATCH, &path, apply, body).await;
        assert!(matches!(code, 200 | 400), "{depth}: {said}");
        let (code, _) = ask(&server, Method::DELETE, &format!("{THINGS}/{name}"), "", "").await;
        assert_eq!(code, 200);
    }
    let (code, list) = ask(&server, Method::GET, THINGS, "", "").await;
    assert_eq!((code, &list["items"]), (200, &json!([])));
    server.stop().await;
}

#[tokio::test]
async fn patches_make_nothing_that_cannot_be_read() {
    let server = with_things().await;
    let made = post(
        &server,
        THINGS,
        "application/json",
        thing("a", &json!({"a": {"b": {}}})),
    )
    .await;
    assert_eq!(made, 201);
    let path = format!("{THINGS}/a");
    let deepen = |n: usize| json!({"op": "copy", "from": "/spec", "path": format!("/spec{}", "/a".repeat(n))});
    let mut swaps = Vec::new();
    for _ in 0..3000 {
        swaps.push(json!({"op": "add", "path": "/x", "value": {}}));
        swaps.push(json!({"op": "move", "from": "/spec", "path": "/x/a"}));
        swaps.push(json!({"op": "move", "from": "/x", "path": "/spec"}));
    }
    for operations in [json!((1..1200).map(deepen).collect::<Vec<_>>()), json!(swaps)] {
        let body = operations.to_string();
        let (code, said) = ask(&server, Method::PATCH, &path, "application/json-patch+json", body).await;
        assert_eq!(code, 422, "{said}");
    }
    let apart = serde_json::from_str::<Value>(&nested(120)).unwrap();
    let body = json!({"spec": {"a": {"b": apart}}}).to_string();
    let (code, said) = ask(&server, Method::PATCH, &path, "application/merge-patch+json", body).await;
    assert!(matches!(code, 200 | 400 | 422), "{said}");
    assert_eq!(ask(&server, Method::GET, &path, "", "").await.0, 200);
    server.stop().await;
}

#[tokio::test]
async fn long_lists_are_applied_and_changed_in_time() {
    let server = with_things().await;
    let many = 30_000;
    let item = |n: usize, v: usize| json!({"k": format!("{n}"), "v": v});
    let some = |count: usize, v: usize| json!({"list": (0..count).map(|n| item(n, v)).collect::<Vec<_>>()});
    let list = |v: usize| some(many, v);
    let reversed = json!({"list": (0..many).rev().map(|n| item(n, 3)).collect::<Vec<_>>()});
    let path = |manager: &str| format!("{THINGS}/long?fieldManager={manager}&force=true");
    let apply = "application/apply-patch+yaml";
    for (manager, spec) in [("a", list(1)), ("a", list(1)), ("b", list(2)), ("a", reversed)] {
        let (code, said) = ask(&server, Method::PATCH, &path(manager), apply, thing("long", &spec)).await;
        let message = said["message"].as_str().unwrap_or("");
        assert!(
            matches!(code, 200 | 201 | 413 | 500),
            "{manager}: {code} {message:.200}"
        );
    }
    // Everything conflicts with what another manager holds, in a list that is short enough to be stored.
    for (manager, v, expected) in [("a", 1, 201), ("c", 9, 409)] {
        let path = format!("{THINGS}/held?fieldManager={manager}");
        let (code, said) = ask(&server, Method::PATCH, &path, apply, thing("held", &some(many / 3, v))).await;
        assert_eq!(code, expected, "{}", said["reason"]);
    }
    let set = json!({"set": (0..many).map(|n| n.to_string()).collect::<Vec<_>>()});
    let twice = json!({"set": vec!["x"; many]});
    for spec in [&set, &twice] {
        ask(
            &server,
            Method::PATCH,
            &format!("{THINGS}/set?fieldManager=a"),
            apply,
            thing("set", spec),
        )
        .await;
    }
    // A million items of two bytes.
    let zeros = thing("zeros", &json!({"any": vec![0; 1_000_000]}));
    post(&server, THINGS, "application/json", zeros.clone()).await;
    post(
        &server,
        MAPS,
        "application/json",
        format!("{{\"data\":[{}]}}", vec!["0"; 1_000_000].join(",")),
    )
    .await;
    post(
        &server,
        MAPS,
        "application/json",
        format!("{{\"x\":{zeros},\"x\":{zeros}}}")
            .get(..3_000_000)
            .unwrap_or(&zeros)
            .to_owned(),
    )
    .await;
    server.stop().await;
}

#[tokio::test]
async fn unknown_and_repeated_members_without_end_are_told_within_bounds() {
    let server = with_things().await;
    let unknown: String = (0..100_000).map(|n| format!(",\"u{n}\":{n}")).collect();
    let long = "x".repeat(1_000_000);
    for validation in ["Strict", "Warn", "Ignore"] {
        let body = format!("{{\"metadata\":{{\"name\":\"m\"}}{unknown}}}");
        post(
            &server,
            &format!("{MAPS}?fieldValidation={validation}&dryRun=All"),
            "application/json",
            body,
        )
        .await;
        let head = "{\"apiVersion\":\"example.com/v1\",\"kind\":\"Thing\",\"metadata\":{\"name\":\"m\"}";
        let body = format!("{head},\"spec\":{{\"list\":[{{\"k\":\"a\",\"{long}\":1{unknown}}}]}}}}");
        post(
            &server,
            &format!("{THINGS}?fieldValidation={validation}&dryRun=All"),
            "application/json",
            body,
        )
        .await;
        let repeated = format!(
            "{{\"metadata\":{{\"name\":\"m\"}},\"data\":{{\"{long}\":\"\"{}}}}}",
            ",\"a\":\"\"".repeat(100_000)
        );
        post(
            &server,
            &format!("{MAPS}?fieldValidation={validation}&dryRun=All"),
            "application/json",
            repeated.clone(),
        )
        .await;
        post(
            &server,
            &format!("{MAPS}?fieldValidation={validation}&dryRun=All"),
            "application/yaml",
            repeated,
        )
        .await;
    }
    server.stop().await;
}

#[tokio::test]
async fn numbers_without_end_are_read_or_refused() {
    let server = with_things().await;
    let pod = |memory: &str| {
        json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i",
            "resources": {"limits": {"memory": memory}}}]}})
        .to_string()
    };
    let long = "9".repeat(1_000_000);
    for memory in [
        "1e999999999",
        "1e-999999999",
        "1E99999999999999999999",
        "0.0000000000000000001",
        &long,
        &format!("0.{long}"),
        &format!("1e{long}"),
    ] {
        let begun = Instant::now();
        post(
            &server,
            "/api/v1/namespaces/default/pods?dryRun=All",
            "application/json",
            pod(memory),
        )
        .await;
        assert!(begun.elapsed() < Duration::from_secs(20), "{memory:.20}");
    }
    for number in [
        "1e999999999",
        "-1e999999999",
        &long,
        &format!("0.{long}"),
        &format!("1e{long}"),
        "1e308",
        "5e-324",
    ] {
        let body = format!(
            "{{\"apiVersion\":\"example.com/v1\",\"kind\":\"Thing\",\"metadata\":{{\"name\":\"n\"}},\"spec\":{{\"n\":{number}}}}}"
        );
        post(
            &server,
            &format!("{THINGS}?dryRun=All"),
            "application/json",
            body.clone(),
        )
        .await;
        post(&server, &format!("{THINGS}?dryRun=All"), "application/yaml", body).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn selectors_of_many_requirements_are_read_in_time() {
    let server = TestServer::start().await;
    assert_eq!(
        post(&server, MAPS, "application/json", "{\"metadata\":{\"name\":\"a\"}}").await,
        201
    );
    let many = |part: &str, count: usize| vec![part; count].join("%2C");
    for query in [
        format!("labelSelector={}", many("!a", 10_000)),
        format!("labelSelector=a%20in%20({})", many("b", 10_000)),
        format!("fieldSelector={}", many("metadata.name%3Da", 3_000)),
        format!("labelSelector={}", "(".repeat(50_000)),
        format!("continue={}", "A".repeat(50_000)),
    ] {
        let (code, _) = ask(&server, Method::GET, &format!("{MAPS}?{query}"), "", "").await;
        assert!(matches!(code, 200 | 400 | 414 | 431), "{code}");
    }
    let expressions: Vec<Value> = (0..30_000)
        .map(|n| json!({"key": format!("k{n}"), "operator": "Exists"}))
        .collect();
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let set = json!({"metadata": {"name": "r"}, "spec": {"selector": {"matchExpressions": expressions}, "template": template}});
    post(
        &server,
        "/apis/apps/v1/namespaces/default/replicasets",
        "application/json",
        set.to_string(),
    )
    .await;
    server.stop().await;
}

#[tokio::test]
async fn managed_fields_of_a_client_are_bounded() {
    let server = with_things().await;
    let entry = |fields: Value| json!({"manager": "m", "operation": "Update", "apiVersion": "example.com/v1", "fieldsType": "FieldsV1", "fieldsV1": fields});
    let with = |entries: Value| {
        json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "m", "managedFields": entries}, "spec": {}}).to_string()
    };
    let wide: serde_json::Map<String, Value> = (0..100_000).map(|n| (format!("f:{n}"), json!({}))).collect();
    let deep: Value = serde_json::from_str(&format!("{}{{}}{}", "{\"f:a\":".repeat(110), "}".repeat(110))).unwrap();
    let keys: serde_json::Map<String, Value> = (0..30_000)
        .map(|n| (format!("k:{{\"k\":\"{n}\"}}"), json!({".": {}})))
        .collect();
    let bomb = "k:".to_owned() + &"[".repeat(100_000);
    for fields in [
        Value::Object(wide),
        deep,
        json!({"f:spec": {"f:list": keys}}),
        json!({bomb: {}}),
    ] {
        let code = post(&server, THINGS, "application/json", with(json!([entry(fields)]))).await;
        if code == 201 {
            assert_eq!(ask(&server, Method::GET, &format!("{THINGS}/m"), "", "").await.0, 200);
            assert_eq!(
                ask(&server, Method::DELETE, &format!("{THINGS}/m"), "", "").await.0,
                200
            );
        }
    }
    let mut entries = Vec::new();
    for n in 0..10_000 {
        let mut one = entry(json!({"f:spec": {format!("f:a{n}"): {}}}));
        one["manager"] = json!(format!("m{n}"));
        entries.push(one);
    }
    post(&server, THINGS, "application/json", with(json!(entries))).await;
    server.stop().await;
}
