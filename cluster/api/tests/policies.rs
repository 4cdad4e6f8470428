//! Admission policies and match conditions, from the configuration to the refusal.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use serde_json::{Value, json};
use strata_client::{Client, Patch, Resource, resources::*};
use support::TestServer;

const GROUP: &str = "admissionregistration.k8s.io";

const fn resource(plural: &'static str, kind: &'static str) -> Resource {
    Resource::new(GROUP, "v1", plural, kind, false)
}

const POLICIES: Resource = resource("validatingadmissionpolicies", "ValidatingAdmissionPolicy");
const BINDINGS: Resource = resource("validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding");
const MUTATING: Resource = resource("mutatingadmissionpolicies", "MutatingAdmissionPolicy");
const MUTATING_BINDINGS: Resource = resource("mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding");

fn rules(operations: &[&str]) -> Value {
    json!({"resourceRules": [{"operations": operations, "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]})
}

async fn policy(client: &Client, resources: (Resource, Resource), spec: Value, binding: Value) {
    let named = json!({"metadata": {"name": "p"}, "spec": spec});
    client.create(resources.0, "", &named).await.unwrap();
    let mut binding = binding;
    binding["policyName"] = json!("p");
    let named = json!({"metadata": {"name": "b"}, "spec": binding});
    client.create(resources.1, "", &named).await.unwrap();
}

fn map(name: &str, data: Value) -> Value {
    json!({"metadata": {"name": name}, "data": data})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validating_policy_refuses_with_variables_params_and_messages() {
    let server = TestServer::start().await;
    let client = server.client();
    client
        .create(CONFIG_MAPS, "default", &map("params", json!({"most": "2"})))
        .await
        .unwrap();
    let spec = json!({
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConstraints": rules(&["CREATE", "UPDATE"]),
        "matchConditions": [{"name": "not-kube", "expression": "!request.userInfo.username.startsWith('system:')"}],
        "variables": [
            {"name": "size", "expression": "has(object.data) ? object.data.size() : 0"},
            {"name": "most", "expression": "int(params.data.most)"},
        ],
        "validations": [
            {"expression": "variables.size <= variables.most", "messageExpression": "'too many: ' + string(variables.size)", "reason": "Forbidden"},
            {"expression": "authorizer.group('').resource('pods').check('create').allowed()"},
            {"expression": "namespaceObject.metadata.name == 'default'", "message": "elsewhere"},
        ],
        "auditAnnotations": [{"key": "size", "valueExpression": "string(variables.size)"}],
    });
    let binding = json!({"validationActions": ["Deny"], "paramRef": {"name": "params", "namespace": "default", "parameterNotFoundAction": "Deny"}});
    policy(&client, (POLICIES, BINDINGS), spec, binding).await;
    client
        .create(CONFIG_MAPS, "default", &map("small", json!({"a": "1", "b": "2"})))
        .await
        .unwrap();
    let large = map("large", json!({"a": "1", "b": "2", "c": "3"}));
    let error = client.create(CONFIG_MAPS, "default", &large).await.unwrap_err();
    let status = error.status().unwrap();
    assert_eq!(
        status.message,
        "configmaps \"large\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: too many: 3"
    );
    assert_eq!((status.code, status.reason.as_str()), (403, "Forbidden"));
    client
        .create(NAMESPACES, "", &json!({"metadata": {"name": "other"}}))
        .await
        .unwrap();
    let error = client
        .create(CONFIG_MAPS, "other", &map("x", json!({})))
        .await
        .unwrap_err();
    let status = error.status().unwrap();
    assert!(
        status.message.ends_with("denied request: elsewhere"),
        "{}",
        status.message
    );
    assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
    client
        .delete(CONFIG_MAPS, "default", "params", Default::default())
        .await
        .unwrap();
    let error = client
        .create(CONFIG_MAPS, "default", &map("late", json!({})))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("no params found for policy binding"),
        "{error}"
    );
    client.delete(BINDINGS, "", "b", Default::default()).await.unwrap();
    client.create(CONFIG_MAPS, "default", &large).await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mutating_policy_applies_and_patches() {
    let server = TestServer::start().await;
    let client = server.client();
    let spec = json!({
        "matchConstraints": rules(&["CREATE"]),
        "reinvocationPolicy": "Never",
        "variables": [{"name": "tier", "expression": "'gold'"}],
        "mutations": [
            {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression":
                "Object{metadata: Object.metadata{labels: Object.metadata.labels{tier: variables.tier}}}"}},
            {"patchType": "JSONPatch", "jsonPatch": {"expression":
                "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('x.io/y'), value: 'z'}]"}},
        ],
    });
    policy(&client, (MUTATING, MUTATING_BINDINGS), spec, json!({})).await;
    let made = client
        .create(CONFIG_MAPS, "default", &map("m", json!({"x": "y"})))
        .await
        .unwrap();
    let made = made.to_value().unwrap();
    assert_eq!(made["metadata"]["labels"], json!({"tier": "gold", "x.io/y": "z"}));
    assert_eq!(made["data"], json!({"x": "y"}));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn expressions_are_checked_against_the_types_they_will_meet() {
    let server = TestServer::start().await;
    let client = server.client();
    let rule = json!({"operations": ["*"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]});
    for (name, expression) in [
        ("wrong", "object.spec.replicas > '1'"),
        ("right", "object.spec.replicas > 1"),
    ] {
        let policy = json!({"metadata": {"name": name}, "spec": {
            "matchConstraints": {"resourceRules": [rule]},
            "validations": [{"expression": expression, "messageExpression": "'got ' + string(object.spec.replicas)"}]}});
        client.create(POLICIES, "", &policy).await.unwrap();
    }
    let checked = |policy: &Value| policy["status"]["typeChecking"].is_object();
    let policies = watched(&client, 2, checked).await;
    let warnings = |name: &str| {
        let found = policies.iter().find(|p| p["metadata"]["name"] == name).unwrap();
        found["status"]["typeChecking"]["expressionWarnings"].clone()
    };
    assert_eq!(warnings("right"), Value::Null);
    assert_eq!(warnings("wrong")[0]["fieldRef"], "spec.validations[0].expression");
    let warning = warnings("wrong")[0]["warning"].as_str().unwrap().to_owned();
    assert!(
        warning.contains("apps/v1, Kind=Deployment")
            && warning.contains("no matching overload for '_>_' applied to '(int, string)'"),
        "{warning}"
    );
    server.stop().await;
}

/// Waits until so many policies are as wanted.
async fn watched(client: &Client, count: usize, is: impl Fn(&Value) -> bool) -> Vec<Value> {
    let cancel = strata_task::CancellationToken::new();
    let scope = strata_client::Scope::default();
    let informer = strata_client::Informer::<Value>::start(client, POLICIES, scope, cancel);
    let changed = std::sync::Arc::new(tokio::sync::Notify::new());
    let notify = changed.clone();
    informer.on_change(move |_| notify.notify_one());
    let wait = async {
        loop {
            let all: Vec<Value> = informer.list().iter().map(|(_, v)| (**v).clone()).collect();
            if all.iter().filter(|p| is(p)).count() == count {
                return all;
            }
            changed.notified().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), wait)
        .await
        .expect("policies are checked")
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_configurations_are_refused() {
    let server = TestServer::start().await;
    let client = server.client();
    let hook = json!({"name": "a.b.c", "clientConfig": {"url": "https://127.0.0.1/"}, "sideEffects": "None",
        "admissionReviewVersions": ["v1"]});
    let webhooks = resource("validatingwebhookconfigurations", "ValidatingWebhookConfiguration");
    for (change, expected) in [
        (
            json!({"name": "short"}),
            "should be a domain with at least three segments separated by dots",
        ),
        (
            json!({"sideEffects": "Some"}),
            "supported values: \"None\", \"NoneOnDryRun\"",
        ),
        (
            json!({"timeoutSeconds": 31}),
            "the timeout value must be between 1 and 30 seconds",
        ),
        (
            json!({"admissionReviewVersions": ["v9"]}),
            "must include at least one of v1, v1beta1",
        ),
        (json!({"clientConfig": {}}), "exactly one of url or service is required"),
        (
            json!({"matchConditions": [{"name": "c", "expression": "oldObject.x ="}]}),
            "webhooks[0].matchConditions[0].expression: Invalid value: \"oldObject.x =\": compilation failed: ",
        ),
        (
            json!({"matchConditions": [{"name": "c", "expression": "1"}]}),
            "must evaluate to bool but got int",
        ),
        (
            json!({"rules": [{"operations": ["*", "CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["*/*", "pods"]}]}),
            "if '*/*' is present, must not specify other resources",
        ),
    ] {
        let mut hook = hook.clone();
        for (key, value) in change.as_object().unwrap() {
            hook[key] = value.clone();
        }
        let configuration = json!({"metadata": {"name": "w"}, "webhooks": [hook]});
        let error = client
            .create(webhooks, "", &configuration)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{error}");
    }
    let fine = json!({"matchConstraints": rules(&["CREATE"]), "validations": [{"expression": "true"}]});
    for (change, expected) in [
        (
            json!({"validations": [{"expression": "object.x +"}]}),
            "spec.validations[0].expression: Invalid value",
        ),
        (
            json!({"validations": []}),
            "validations or auditAnnotations must contain at least one item",
        ),
        (
            json!({"matchConstraints": null}),
            "spec.matchConstraints: Required value",
        ),
        (
            json!({"variables": [{"name": "1a", "expression": "1"}]}),
            "must be a valid CEL identifier",
        ),
    ] {
        let mut spec = fine.clone();
        for (key, value) in change.as_object().unwrap() {
            spec[key] = value.clone();
        }
        let policy = json!({"metadata": {"name": "p"}, "spec": spec});
        let error = client.create(POLICIES, "", &policy).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    client
        .create(POLICIES, "", &json!({"metadata": {"name": "p"}, "spec": fine}))
        .await
        .unwrap();
    let label = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
    client.patch(POLICIES, "", "p", None, label).await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mutating_policy_applies_nothing_that_stands_as_one_value() {
    let server = TestServer::start().await;
    let client = server.client();
    let rule =
        json!({"operations": ["CREATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]});
    let args = "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{containers: \
        [Object.spec.template.spec.containers{name: 'c', args: ['x']}]}}}}";
    let spec = json!({
        "matchConstraints": {"resourceRules": [rule]}, "reinvocationPolicy": "Never",
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": args}}],
    });
    policy(&client, (MUTATING, MUTATING_BINDINGS), spec, json!({})).await;
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    let error = client.create(DEPLOYMENTS, "default", &deployment).await.unwrap_err();
    let expected = "denied request: error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps \
        or structs: .spec.template.spec.containers[0].args";
    assert!(error.to_string().contains(expected), "{error}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn expressions_that_grow_without_end_are_refused_before_they_do() {
    let server = TestServer::start().await;
    let client = server.client();
    let doubling = |first: &str| -> Vec<Value> {
        let start = std::iter::once(json!({"name": "v0", "expression": first}));
        let next = |n: usize| json!({"name": format!("v{n}"), "expression": format!("variables.v{0} + variables.v{0}", n - 1)});
        start.chain((1..40).map(next)).collect()
    };
    let nested = "[0,1,2,3,4,5,6,7,8,9]";
    let loops = (0..9).fold("true".to_owned(), |inner, n| format!("{nested}.all(x{n}, {inner})"));
    for (name, variables, expression) in [
        ("text", doubling("'xxxxxxxxxx'"), "variables.v39.size() > 0"),
        ("list", doubling("[1, 2, 3]"), "variables.v39.exists(x, x > 5)"),
        ("loops", Vec::new(), loops.as_str()),
    ] {
        let spec = json!({"matchConstraints": rules(&["CREATE"]), "variables": variables,
            "validations": [{"expression": expression}]});
        let named = json!({"metadata": {"name": "p"}, "spec": spec});
        // Upstream takes such policies, and stops them when they are run.
        client.create(POLICIES, "", &named).await.unwrap();
        let binding = json!({"metadata": {"name": "b"}, "spec": {"policyName": "p", "validationActions": ["Deny"]}});
        client.create(BINDINGS, "", &binding).await.unwrap();
        let object = map("m", json!({}));
        let asked = client.create(CONFIG_MAPS, "default", &object);
        let error = tokio::time::timeout(std::time::Duration::from_secs(20), asked).await;
        let error = error.unwrap_or_else(|_| panic!("{name} goes on and on"));
        let error = error.unwrap_err().to_string();
        assert!(error.contains("cost"), "{name}: {error}");
        for (resource, object) in [(BINDINGS, "b"), (POLICIES, "p")] {
            client.delete(resource, "", object, Default::default()).await.unwrap();
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn selectors_look_at_a_namespace_itself_and_params_are_selected() {
    let server = TestServer::start().await;
    let client = server.client();
    let all = json!({"operations": ["CREATE", "UPDATE"], "apiGroups": [""], "apiVersions": ["v1"],
        "resources": ["namespaces", "configmaps"]});
    let spec = json!({
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConstraints": {"resourceRules": [all],
            "namespaceSelector": {"matchLabels": {"strict": "yes"}}},
        "validations": [{"expression": "!object.metadata.name.startsWith(params.data.forbidden)"}],
    });
    let binding = json!({"validationActions": ["Deny"], "paramRef": {"namespace": "default",
        "selector": {"matchLabels": {"param": "yes"}}, "parameterNotFoundAction": "Allow"}});
    policy(&client, (POLICIES, BINDINGS), spec, binding).await;
    let space = |name: &str, strict: &str| json!({"metadata": {"name": name, "labels": {"strict": strict}}});
    // Without params nothing is forbidden.
    client.create(NAMESPACES, "", &space("x-first", "yes")).await.unwrap();
    for (name, forbidden) in [("one", "x-"), ("two", "y-")] {
        let param = json!({"metadata": {"name": name, "labels": {"param": "yes"}}, "data": {"forbidden": forbidden}});
        client.create(CONFIG_MAPS, "default", &param).await.unwrap();
    }
    for (name, strict, allowed) in [
        ("x-a", "yes", false),
        ("y-a", "yes", false),
        ("z-a", "yes", true),
        ("x-b", "no", true),
    ] {
        let made = client.create(NAMESPACES, "", &space(name, strict)).await;
        assert_eq!(made.is_ok(), allowed, "{name} {strict}: {made:?}");
    }
    for (namespace, name, allowed) in [("z-a", "x-m", false), ("z-a", "m", true), ("x-b", "x-m", true)] {
        let made = client.create(CONFIG_MAPS, namespace, &map(name, json!({}))).await;
        assert_eq!(made.is_ok(), allowed, "{namespace}/{name}: {made:?}");
    }
    server.stop().await;
}
