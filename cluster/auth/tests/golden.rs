//! The node authorizer and RBAC answer what upstream's answered to the same random objects and requests
//! (tests/golden/access).

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;
use strata_auth::{Attributes, Authorizer, Decision, NodeAuthorizer, PolicyRule, Rbac, UserInfo};
use strata_meta::{FieldSelector, GroupVersion, Object, Revision, WatchEvent};

#[derive(Default, Deserialize)]
#[serde(default)]
struct Question {
    user: String,
    groups: Vec<String>,
    verb: String,
    group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
    path: String,
    fields: String,
    allowed: bool,
    reason: String,
}

#[derive(Deserialize)]
struct NodeGolden {
    events: Vec<NodeEvent>,
    questions: Vec<Value>,
}

#[derive(Deserialize)]
struct NodeEvent {
    #[serde(default)]
    deleted: bool,
    object: Value,
}

#[derive(Deserialize)]
struct RbacGolden {
    objects: Vec<Value>,
    questions: Vec<Value>,
    grants: Vec<Grant>,
}

#[derive(Deserialize)]
struct Grant {
    user: String,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    namespace: String,
    rules: Vec<PolicyRule>,
    held: Option<Vec<PolicyRule>>,
    missing: Option<Vec<PolicyRule>>,
}

fn golden<T: for<'de> Deserialize<'de>>(name: &str) -> T {
    // Answers to other random questions than those that are checked in may be elsewhere.
    let folder = std::env::var("GOLDEN_ACCESS");
    let folder = folder.unwrap_or(format!("{}/../../tests/golden/golden", env!("CARGO_MANIFEST_DIR")));
    let path = format!("{folder}/{name}");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn object(value: &Value) -> Arc<Object> {
    let text = |member: &str| value[member].as_str().unwrap();
    let kind = GroupVersion::parse(text("apiVersion")).unwrap().kind(text("kind"));
    Arc::new(Object::from_value(Arc::new(kind), Revision(1), value).unwrap())
}

fn user(name: &str, groups: &[String]) -> UserInfo {
    UserInfo {
        name: name.to_owned(),
        groups: groups.to_vec(),
        ..UserInfo::default()
    }
}

/// Asks, and compares decision and reason.
fn check(questions: Vec<Value>, decide: impl Fn(&Attributes<'_>) -> (Decision, String)) {
    let mut wrong = Vec::new();
    for shown in questions {
        let q: Question = serde_json::from_value(shown.clone()).unwrap();
        let user = user(&q.user, &q.groups);
        let fields = FieldSelector::parse(&q.fields).unwrap();
        let (decision, reason) = decide(&Attributes {
            verb: &q.verb,
            group: &q.group,
            version: "v1",
            resource: &q.resource,
            subresource: &q.subresource,
            namespace: &q.namespace,
            name: &q.name,
            path: &q.path,
            is_resource: q.path.is_empty(),
            field_selector: Some(&fields),
            ..Attributes::of(&user)
        });
        if (decision.is_allowed(), reason.as_str()) != (q.allowed, q.reason.as_str()) {
            wrong.push(format!("{shown}\n    ours: {decision:?} {reason}"));
        }
    }
    let few: Vec<&str> = wrong.iter().take(20).map(String::as_str).collect();
    assert!(wrong.is_empty(), "{} answers differ:\n{}", wrong.len(), few.join("\n"));
}

#[test]
fn node_agents_may_do_what_upstream_allows_them() {
    let golden: NodeGolden = golden("node.json");
    let nodes = NodeAuthorizer::new();
    for event in &golden.events {
        let object = object(&event.object);
        let event = match event.deleted {
            true => WatchEvent::Deleted(object),
            false => WatchEvent::Modified(object),
        };
        nodes.apply(&event).unwrap();
    }
    check(golden.questions, |attributes| {
        let decision = nodes.authorize(attributes);
        let reason = decision.reason().to_owned();
        (decision, reason)
    });
}

#[test]
fn roles_allow_and_cover_what_upstream_says() {
    let golden: RbacGolden = golden("rbac.json");
    let rbac = Rbac::new();
    for value in &golden.objects {
        rbac.apply(&WatchEvent::Added(object(value))).unwrap();
    }
    check(golden.questions, |attributes| {
        let decision = rbac.authorize(attributes);
        let refusal = || decision.reason().to_owned();
        let reason = rbac.reason(attributes).unwrap_or_else(refusal);
        (decision, reason)
    });
    for grant in golden.grants {
        let user = user(&grant.user, &grant.groups);
        let sorted = |rules: Vec<PolicyRule>| {
            let mut texts: Vec<String> = rules.iter().map(|rule| format!("{rule:?}")).collect();
            texts.sort();
            texts
        };
        let held = rbac.rules_for(&user, &grant.namespace);
        assert_eq!(sorted(held), sorted(grant.held.unwrap_or_default()), "{user:?}");
        let missing = rbac.missing(&user, &grant.namespace, &grant.rules);
        assert_eq!(missing, grant.missing.unwrap_or_default(), "{user:?} {:?}", grant.rules);
    }
}
