//! Tables of what is used.

use super::{Amounts, Counted, Scope};
use serde_json::{Value, json};
use strata_meta::Time;

fn usage(group: &str, resource: &str, object: &Value) -> String {
    Counted::of(group, resource).usage(object, Time::now()).to_string()
}

#[test]
fn objects_are_counted_as_upstream_counts_them() {
    let container = |cpu: &str| json!({"name": "c", "resources": {"requests": {"cpu": cpu}, "limits": {"cpu": "2"}}});
    for (group, resource, object, expected) in [
        ("", "configmaps", json!({}), "configmaps=1,count/configmaps=1"),
        ("apps", "deployments", json!({}), "count/deployments.apps=1"),
        (
            "",
            "pods",
            json!({"spec": {"containers": [container("100m"), container("200m")], "initContainers": [container("500m")]}}),
            "count/pods=1,cpu=500m,limits.cpu=4,pods=1,requests.cpu=500m",
        ),
        (
            "",
            "pods",
            json!({"spec": {"containers": [container("1")]}, "status": {"phase": "Succeeded"}}),
            "count/pods=1",
        ),
        (
            "",
            "pods",
            json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"example.com/gpu": "3"}}}]}}),
            "count/pods=1,pods=1,requests.example.com/gpu=3",
        ),
        (
            "",
            "services",
            json!({"spec": {"type": "LoadBalancer", "ports": [{"port": 1}, {"port": 2}]}}),
            "count/services=1,services=1,services.loadbalancers=1,services.nodeports=2",
        ),
        (
            "",
            "persistentvolumeclaims",
            json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1Gi"}}}}),
            "count/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/persistentvolumeclaims=1,\
             gold.storageclass.storage.k8s.io/requests.storage=1Gi,persistentvolumeclaims=1,requests.storage=1Gi",
        ),
        (
            "resource.k8s.io",
            "resourceclaims",
            json!({"spec": {"devices": {"requests": [{"exactly": {"deviceClassName": "gpu", "count": 2}}]}}}),
            "count/resourceclaims.resource.k8s.io=1,gpu.deviceclass.resource.k8s.io/devices=2",
        ),
    ] {
        assert_eq!(usage(group, resource, &object), expected, "{object}");
    }
}

#[test]
fn scopes_select_pods() {
    let plain = json!({"spec": {"containers": [{"name": "c"}]}});
    let guaranteed = json!({"spec": {"priorityClassName": "high", "activeDeadlineSeconds": 5,
        "containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}],
        "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"namespaces": ["a"]}]}}}});
    let pods = Counted::of("", "pods");
    for (scope, of_plain, of_guaranteed) in [
        ("BestEffort", true, false),
        ("NotBestEffort", false, true),
        ("Terminating", false, true),
        ("NotTerminating", true, false),
        ("PriorityClass", false, true),
        ("CrossNamespacePodAffinity", false, true),
    ] {
        let scopes = Scope::read_all(&json!({"spec": {"scopes": [scope]}}));
        assert_eq!(
            (pods.in_scopes(&scopes, &plain), pods.in_scopes(&scopes, &guaranteed)),
            (of_plain, of_guaranteed),
            "{scope}"
        );
    }
    for (operator, values, expected) in [
        ("In", vec!["high"], (false, true)),
        ("In", vec!["low"], (false, false)),
        ("NotIn", vec!["low"], (true, true)),
        ("NotIn", vec!["high"], (true, false)),
        ("DoesNotExist", vec![], (true, false)),
        ("Exists", vec![], (false, true)),
    ] {
        let expression = json!({"scopeName": "PriorityClass", "operator": operator, "values": values});
        let scopes = Scope::read_all(&json!({"spec": {"scopeSelector": {"matchExpressions": [expression]}}}));
        let got = (pods.in_scopes(&scopes, &plain), pods.in_scopes(&scopes, &guaranteed));
        assert_eq!(got, expected, "{operator} {values:?}");
    }
}

#[test]
fn arithmetic_never_goes_below_zero() {
    let amounts = |value: Value| Amounts::read(Some(&value));
    let (a, b) = (
        amounts(json!({"cpu": "1", "pods": "3"})),
        amounts(json!({"cpu": "1500m"})),
    );
    assert_eq!(a.less(&b).without_zeros().to_string(), "pods=3");
    assert_eq!(b.exceeding(&a), ["cpu"]);
    let mut sum = a.clone();
    sum.add(&b);
    assert_eq!(sum.to_string(), "cpu=2500m,pods=3");
}

#[test]
fn pods_must_say_what_is_limited() {
    let pod = json!({"spec": {"containers": [{"name": "b"}, {"name": "a", "resources": {"limits": {"cpu": "1"}}}]}});
    let pods = Counted::of("", "pods");
    let why = pods.constraints(["limits.cpu", "requests.memory", "pods"].into_iter(), &pod);
    assert_eq!(
        why.unwrap_err(),
        "must specify limits.cpu for: b; requests.memory for: a,b"
    );
    assert!(pods.constraints(["pods"].into_iter(), &pod).is_ok());
}
