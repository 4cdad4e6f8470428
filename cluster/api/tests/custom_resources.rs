//! What kube-apiserver v1.36.3 answered to hundreds of definitions and custom resources, good and bad, and what
//! this server answers. `tests/golden/README.md` says how the answers were recorded.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};
use std::{
    fmt::Write,
    time::{Duration, Instant},
};
use strata_auth::UserInfo;
use support::TestServer;

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct Answer {
    code: u16,
    value: Value,
    warnings: Vec<String>,
}

async fn send(server: &TestServer, method: &str, path: &str, body: &Value) -> Answer {
    let media = if method == "PATCH" {
        "application/merge-patch+json"
    } else {
        "application/json"
    };
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", media)
        .body(Bytes::from(body))
        .unwrap();
    let user = UserInfo::new("admin", &["system:masters"]);
    let response = server.transport(user).send(request).await.unwrap();
    let warnings = response.headers().get_all("warning").iter();
    let mut warnings: Vec<String> = warnings
        .map(|w| w.to_str().unwrap().trim_start_matches("299 - ").to_owned())
        .collect();
    warnings.sort();
    Answer {
        code: response.status().as_u16(),
        value: serde_json::from_slice(response.body()).unwrap_or(Value::Null),
        warnings,
    }
}

/// What is compared of an answer. Of several causes upstream tells no order, so they are sorted and the sentence made
/// of them is left out. The checker numbers unnamed types.
fn canonical(answer: Answer, definition: bool) -> Value {
    let Answer {
        code,
        mut value,
        warnings,
    } = answer;
    let mut out = json!({"code": code});
    if !warnings.is_empty() {
        out["warnings"] = json!(warnings);
    }
    let text = |value: &Value| without_numbers(value.as_str().unwrap_or(""));
    if value["kind"] == "Status" && code >= 300 {
        let causes = value["details"]["causes"].as_array().cloned().unwrap_or_default();
        let mut causes: Vec<[String; 3]> = causes
            .iter()
            .map(|c| [text(&c["reason"]), text(&c["message"]), text(&c["field"])])
            .collect();
        causes.sort();
        out["reason"] = value["reason"].clone();
        if causes.len() < 2 {
            out["message"] = json!(text(&value["message"]));
        }
        if !causes.is_empty() {
            out["causes"] = json!(causes);
        }
        return out;
    }
    if definition {
        out["object"] = value["spec"].take();
        return out;
    }
    for name in [
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "managedFields",
        "namespace",
    ] {
        value["metadata"].as_object_mut().unwrap().remove(name);
    }
    out["object"] = value;
    out
}

fn without_numbers(text: &str) -> String {
    let mut parts = text.split("selfType");
    let mut out = parts.next().unwrap_or("").to_owned();
    for part in parts {
        out.push_str("selfType");
        out.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    out
}

/// Asks until an answer is as wanted.
async fn until(server: &TestServer, path: &str, wanted: impl Fn(&Answer) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = send(server, "GET", path, &Value::Null).await;
        if wanted(&answer) {
            return answer.value;
        }
        assert!(Instant::now() < deadline, "{path}: {}", answer.value);
        tokio::task::yield_now().await;
    }
}

fn is_established(answer: &Answer) -> bool {
    let conditions = answer.value["status"]["conditions"].as_array().cloned();
    let holds = |c: &Value| c["type"] == "Established" && c["status"] == "True";
    conditions.unwrap_or_default().iter().any(holds)
}

async fn remove(server: &TestServer, name: &str) {
    let path = format!("{CRDS}/{name}");
    send(server, "DELETE", &path, &Value::Null).await;
    until(server, &path, |answer| answer.code == 404).await;
}

/// Puts a definition in the place of the one there is, whatever the controllers write meanwhile.
async fn replace(server: &TestServer, name: &str, body: &Value) -> Answer {
    let path = format!("{CRDS}/{name}");
    let mut body = body.clone();
    body["metadata"]["name"] = json!(name);
    loop {
        let present = until(server, &path, is_established).await;
        body["metadata"]["resourceVersion"] = present["metadata"]["resourceVersion"].clone();
        let answer = send(server, "PUT", &path, &body).await;
        if answer.code != 409 {
            return answer;
        }
    }
}

async fn define(server: &TestServer, bodies: &[Value]) -> Answer {
    let [body, rest @ ..] = bodies else {
        panic!("a case without a body")
    };
    if rest.is_empty() {
        return send(server, "POST", &format!("{CRDS}?dryRun=All"), body).await;
    }
    let mut answer = send(server, "POST", CRDS, body).await;
    let name = body["metadata"]["name"].as_str().unwrap();
    for body in rest {
        assert!(answer.code < 300, "{}", answer.value);
        answer = replace(server, name, body).await;
    }
    remove(server, name).await;
    answer
}

/// What a case came to, if it is not what was recorded.
fn differs(title: &str, recorded: &Value, found: &Value) -> Option<String> {
    let mut out = String::new();
    for (name, wanted) in recorded.as_object().unwrap() {
        let (found, wanted) = (&found[name], wanted);
        if found != wanted {
            write!(out, "\n   {name}\n     recorded {wanted}\n     found    {found}").unwrap();
        }
    }
    for name in ["causes", "warnings"] {
        if recorded.get(name).is_none() && found.get(name).is_some() {
            write!(out, "\n   {name} more: {}", found[name]).unwrap();
        }
    }
    (!out.is_empty()).then(|| format!("{title}{out}"))
}

fn report(wrong: &[String]) {
    assert!(
        wrong.is_empty(),
        "{} are answered differently:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[tokio::test]
async fn definitions_are_answered_as_kube_apiserver_answers_them() {
    let server = TestServer::start().await;
    let cases: Vec<Value> =
        serde_json::from_str(include_str!("../../../tests/golden/custom/definitions.json")).unwrap();
    let mut wrong = Vec::new();
    for case in &cases {
        let answer = define(&server, case["bodies"].as_array().unwrap()).await;
        let found = canonical(answer, true);
        wrong.extend(differs(case["title"].as_str().unwrap(), &case["answer"], &found));
    }
    report(&wrong);
}

#[tokio::test]
async fn custom_resources_are_answered_as_kube_apiserver_answers_them() {
    let server = TestServer::start().await;
    let kinds: Vec<Value> = serde_json::from_str(include_str!("../../../tests/golden/custom/objects.json")).unwrap();
    let mut wrong = Vec::new();
    for kind in &kinds {
        let definition = &kind["definition"];
        let name = definition["metadata"]["name"].as_str().unwrap();
        let made = send(&server, "POST", CRDS, definition).await;
        assert_eq!(made.code, 201, "{}", made.value);
        until(&server, &format!("{CRDS}/{name}"), is_established).await;
        objects(&server, kind, &mut wrong).await;
        remove(&server, name).await;
    }
    report(&wrong);
}

/// All cases of one kind. Where it is redefined, what is written first is there before.
async fn objects(server: &TestServer, kind: &Value, wrong: &mut Vec<String>) {
    let plural = kind["name"].as_str().unwrap();
    let base = format!("/apis/trial.example.com/v1/namespaces/default/{plural}");
    let mut cases = Vec::new();
    for (at, case) in kind["cases"].as_array().unwrap().iter().enumerate() {
        let mut bodies = case["bodies"].as_array().unwrap().clone();
        let mut first = None;
        if kind.get("redefinition").is_some() {
            bodies
                .iter_mut()
                .for_each(|body| body["metadata"]["name"] = json!(format!("x{at}")));
            first = Some(send(server, "POST", &base, &bodies[0]).await);
        }
        cases.push((case, bodies, first));
    }
    if let Some(redefinition) = kind.get("redefinition") {
        let name = redefinition["metadata"]["name"].as_str().unwrap();
        let answer = replace(server, name, redefinition).await;
        assert_eq!(answer.code, 200, "{}", answer.value);
    }
    for (case, bodies, first) in cases {
        let mut answer = match first {
            Some(first) => first,
            None => send(server, "POST", &base, &bodies[0]).await,
        };
        let path = format!("{base}/{}", bodies[0]["metadata"]["name"].as_str().unwrap());
        let part = case["subresource"]
            .as_str()
            .map_or_else(String::new, |s| format!("/{s}"));
        if answer.code == 201 {
            for body in &bodies[1..] {
                let mut body = body.clone();
                body["metadata"]["resourceVersion"] = answer.value["metadata"]["resourceVersion"].clone();
                answer = send(server, "PUT", &format!("{path}{part}"), &body).await;
            }
            let free = json!({"metadata": {"finalizers": null}});
            send(server, "PATCH", &path, &free).await;
            send(server, "DELETE", &path, &Value::Null).await;
        }
        let title = format!("{plural}: {}", case["title"].as_str().unwrap());
        wrong.extend(differs(&title, &case["answer"], &canonical(answer, false)));
    }
}
