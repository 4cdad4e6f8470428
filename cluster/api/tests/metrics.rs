//! What the dashboards and alerts of kubernetes-mixin ask for is there, under upstream's names and labels.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use serde_json::json;
use strata_client::{ListParams, Resource, resources::*};
use support::TestServer;

const POLICIES: Resource = Resource::new(
    "admissionregistration.k8s.io",
    "v1",
    "validatingadmissionpolicies",
    "ValidatingAdmissionPolicy",
    false,
);
const BINDINGS: Resource = Resource::new(
    "admissionregistration.k8s.io",
    "v1",
    "validatingadmissionpolicybindings",
    "ValidatingAdmissionPolicyBinding",
    false,
);

/// The samples whose name and labels contain all of these.
fn samples<'t>(text: &'t str, name: &str, labels: &[&str]) -> Vec<&'t str> {
    let named = |line: &&str| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['{', ' '])) && labels.iter().all(|label| line.contains(label))
    };
    text.lines().filter(named).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn dashboards_find_what_they_ask_for() {
    let server = TestServer::start().await;
    let client = server.client();
    let rule = json!({"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["secrets"]});
    let policy = json!({"metadata": {"name": "p"}, "spec": {"matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": "object.metadata.name != 'bad'"}]}});
    client.create(POLICIES, "", &policy).await.unwrap();
    let binding = json!({"metadata": {"name": "b"}, "spec": {"policyName": "p", "validationActions": ["Deny"]}});
    client.create(BINDINGS, "", &binding).await.unwrap();
    let bad = json!({"metadata": {"name": "bad"}});
    client.create(SECRETS, "default", &bad).await.unwrap_err();
    server.ok("create configmap m --from-literal=a=b").await;
    server.ok("get configmap m").await;
    server.ok("get configmaps -A").await;
    server.ok("label configmap m a=b").await;
    server.ok("delete configmap m").await;
    client
        .list(CONFIG_MAPS, Some("default"), ListParams::default())
        .await
        .unwrap();
    let text = server.ok("get --raw /metrics").await;
    let config_maps = r#"resource="configmaps""#;
    for (name, labels) in [
        (
            "apiserver_request_total",
            vec![config_maps, r#"verb="GET""#, r#"code="200""#, r#"scope="resource""#],
        ),
        (
            "apiserver_request_total",
            vec![config_maps, r#"verb="LIST""#, r#"scope="cluster""#],
        ),
        (
            "apiserver_request_total",
            vec![
                config_maps,
                r#"verb="POST""#,
                r#"code="201""#,
                r#"component="apiserver""#,
            ],
        ),
        (
            "apiserver_request_total",
            vec![r#"resource="secrets""#, r#"code="422""#],
        ),
        (
            "apiserver_request_duration_seconds_bucket",
            vec![config_maps, r#"verb="PATCH""#, r#"dry_run="""#, r#"le="0.005""#],
        ),
        (
            "apiserver_request_sli_duration_seconds_bucket",
            vec![config_maps, r#"verb="LIST""#, r#"le="30""#],
        ),
        (
            "apiserver_request_sli_duration_seconds_count",
            vec![config_maps, r#"verb="DELETE""#],
        ),
        (
            "apiserver_response_sizes_bucket",
            vec![config_maps, r#"verb="GET""#, r#"le="1e+06""#],
        ),
        (
            "apiserver_current_inflight_requests",
            vec![r#"request_kind="readOnly""#],
        ),
        ("apiserver_current_inqueue_requests", vec![r#"request_kind="mutating""#]),
        (
            "apiserver_admission_controller_admission_duration_seconds_bucket",
            vec![r#"name="LimitRanger""#, r#"type="validate""#],
        ),
        (
            "apiserver_admission_step_admission_duration_seconds_count",
            vec![r#"type="validate""#, r#"rejected="true""#],
        ),
        (
            "apiserver_validating_admission_policy_check_total",
            vec![r#"policy="p""#, r#"policy_binding="b""#, r#"enforcement_action="deny""#],
        ),
        ("apiserver_storage_objects", vec![r#"resource="configmaps""#]),
        (
            "apiserver_resource_objects",
            vec![r#"group="apps""#, r#"resource="deployments""#],
        ),
        ("apiserver_storage_size_bytes", vec!["storage_cluster_id"]),
        (
            "etcd_request_duration_seconds_bucket",
            vec![r#"operation="create""#, config_maps],
        ),
        ("etcd_requests_total", vec![r#"operation="delete""#, config_maps]),
        ("authentication_attempts", vec![r#"result="success""#]),
        ("authorization_attempts_total", vec![r#"result="allowed""#]),
        (
            "apiserver_client_certificate_expiration_seconds_bucket",
            vec![r#"le="604800""#],
        ),
        ("apiserver_client_certificate_expiration_seconds_count", vec![]),
        ("aggregator_unavailable_apiservice", vec![r#"name="v1.apps""#]),
        (
            "apiserver_flowcontrol_nominal_limit_seats",
            vec![r#"priority_level="workload-low""#],
        ),
        ("rest_client_requests_total", vec![r#"method="POST""#, r#"code="201""#]),
        ("process_resident_memory_bytes", vec![]),
        ("process_cpu_seconds_total", vec![]),
        ("process_open_fds", vec![]),
        ("go_goroutines", vec![]),
        ("kubernetes_build_info", vec![r#"git_version="v1.36"#]),
    ] {
        assert!(!samples(&text, name, &labels).is_empty(), "{name} {labels:?}");
    }
    // Every family says its type once, and what anybody makes up is no label.
    let mut types: Vec<&str> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
    let before = types.len();
    types.sort_unstable();
    types.dedup();
    assert_eq!(types.len(), before);
    server.kubectl("get --raw /apis/made.up/v1/things").await;
    server
        .kubectl("get --raw /api/v1/namespaces/default/pods/p/made-up")
        .await;
    let text = server.ok("get --raw /metrics").await;
    assert!(!text.contains("made.up") && !text.contains("made-up"), "{text}");
    server.stop().await;
}
