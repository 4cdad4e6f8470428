use super::*;
use crate::bootstrap_policy;
use serde_json::{Value, json};
use strata_meta::{GroupVersionKind, Revision};

fn object(value: &Value) -> Arc<Object> {
    let kind = GroupVersionKind::new(GROUP, "v1", value["kind"].as_str().expect("kind"));
    Arc::new(Object::from_value(Arc::new(kind), Revision(1), value).expect("object"))
}

fn add(rbac: &Rbac, value: Value) {
    rbac.apply(&WatchEvent::Added(object(&value))).expect("applied");
}

fn defaults() -> Rbac {
    let rbac = Rbac::new();
    bootstrap_policy().into_iter().for_each(|value| add(&rbac, value));
    rbac
}

/// `VERB GROUP/RESOURCE[/SUBRESOURCE] [NAMESPACE [NAME]]` or `VERB PATH`.
fn allows(rbac: &Rbac, user: &UserInfo, question: &str) -> bool {
    let mut words = question.split(' ');
    let verb = words.next().expect("verb");
    let what = words.next().expect("what");
    let attributes = if what.starts_with('/') {
        Attributes {
            verb,
            path: what,
            is_resource: false,
            ..Attributes::of(user)
        }
    } else {
        let mut parts = what.split('/');
        let mut part = || parts.next().unwrap_or_default();
        let group = Some(part()).filter(|group| *group != "core").unwrap_or_default();
        let (resource, subresource) = (part(), part());
        let mut word = || words.next().unwrap_or_default();
        let (namespace, name) = (word(), word());
        Attributes {
            verb,
            group,
            resource,
            subresource,
            namespace,
            name,
            ..Attributes::of(user)
        }
    };
    rbac.authorize(&attributes).is_allowed()
}

#[test]
fn the_defaults_let_everybody_do_what_upstream_lets_them() {
    let rbac = defaults();
    let admin = UserInfo::new("root", &["system:masters"]);
    let account = UserInfo::service_account("n", "default", "u");
    let scheduler = UserInfo::new("system:kube-scheduler", &[]);
    let deployments = UserInfo::service_account("kube-system", "deployment-controller", "u");
    let cases = [
        (&admin, "delete core/nodes  n1", true),
        (&admin, "post /anything", true),
        (&account, "get core/pods n", false),
        (&account, "get /version", true),
        (&account, "get /api/v1", true),
        (&account, "get /openid/v1/jwks", true),
        (&account, "get /metrics", false),
        (&account, "create authorization.k8s.io/selfsubjectaccessreviews", true),
        (&scheduler, "create core/pods/binding n p", true),
        (&scheduler, "update core/pods n p", false),
        (&deployments, "create apps/replicasets n", true),
        (&deployments, "create core/pods n", false),
        (&UserInfo::anonymous(), "get /healthz", true),
        (&UserInfo::anonymous(), "get /readyz", true),
        (&UserInfo::anonymous(), "get /api", false),
        (&UserInfo::anonymous(), "list core/pods", false),
    ];
    for (user, question, wanted) in cases {
        assert_eq!(allows(&rbac, user, question), wanted, "{} {question}", user.name);
    }
}

#[test]
fn bindings_hold_in_their_namespace_and_while_they_last() {
    let rbac = defaults();
    let binding = json!({
        "kind": "RoleBinding", "metadata": {"name": "b", "namespace": "team"},
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": "edit"},
        "subjects": [{"kind": "User", "name": "jane"}, {"kind": "ServiceAccount", "name": "bot"}],
    });
    add(&rbac, binding.clone());
    let jane = UserInfo::new("jane", &[]);
    let bot = UserInfo::service_account("team", "bot", "u");
    for (user, question, wanted) in [
        (&jane, "create apps/deployments team", true),
        (&bot, "create apps/deployments team", true),
        (&jane, "get core/pods/log team p", true),
        (&jane, "create apps/deployments other", false),
        (&jane, "create apps/deployments", false),
        (&jane, "create rbac.authorization.k8s.io/rolebindings team", false),
        (
            &UserInfo::service_account("other", "bot", "u"),
            "create apps/deployments team",
            false,
        ),
    ] {
        assert_eq!(allows(&rbac, user, question), wanted, "{} {question}", user.name);
    }
    let mut narrowed = binding.clone();
    narrowed["subjects"] = json!([{"kind": "Group", "name": "g"}]);
    rbac.apply(&WatchEvent::Modified(object(&narrowed))).expect("applied");
    assert!(!allows(&rbac, &jane, "create apps/deployments team"));
    assert!(allows(
        &rbac,
        &UserInfo::new("joe", &["g"]),
        "create apps/deployments team"
    ));
    rbac.apply(&WatchEvent::Deleted(object(&narrowed))).expect("applied");
    assert!(!allows(
        &rbac,
        &UserInfo::new("joe", &["g"]),
        "create apps/deployments team"
    ));
    assert_eq!(rbac.read().groups.0.get("g"), None);
}

#[test]
fn rules_match_names_subresources_and_wildcards() {
    let rbac = Rbac::new();
    add(
        &rbac,
        json!({
            "kind": "Role", "metadata": {"name": "r", "namespace": "n"},
            "rules": [
                {"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["one"]},
                {"verbs": ["*"], "apiGroups": ["apps"], "resources": ["*/scale"]},
                {"verbs": ["get"], "apiGroups": ["*"], "resources": ["pods"], "resourceNames": null},
            ],
        }),
    );
    add(
        &rbac,
        json!({
            "kind": "RoleBinding", "metadata": {"name": "b", "namespace": "n"},
            "roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}],
        }),
    );
    let user = UserInfo::new("u", &[]);
    for (question, wanted) in [
        ("get core/configmaps n one", true),
        ("get core/configmaps n two", false),
        ("list core/configmaps n", false),
        ("patch apps/deployments/scale n d", true),
        ("patch apps/deployments n d", false),
        ("patch apps/deployments/status n d", false),
        ("get metrics.k8s.io/pods n p", true),
        ("get core/pods/log n p", false),
    ] {
        assert_eq!(allows(&rbac, &user, question), wanted, "{question}");
    }
}

#[test]
fn an_object_that_cannot_be_read_grants_nothing() {
    let rbac = defaults();
    let admin = UserInfo::new("root", &["system:masters"]);
    let broken = json!({"kind": "ClusterRoleBinding", "metadata": {"name": "cluster-admin"}, "roleRef": 5});
    assert!(rbac.apply(&WatchEvent::Modified(object(&broken))).is_err());
    assert!(!allows(&rbac, &admin, "get core/pods"));
}

#[test]
fn nobody_grants_what_they_lack() {
    let rbac = defaults();
    add(
        &rbac,
        json!({
            "kind": "RoleBinding", "metadata": {"name": "b", "namespace": "n"},
            "roleRef": {"kind": "ClusterRole", "name": "admin"}, "subjects": [{"kind": "User", "name": "u"}],
        }),
    );
    let user = UserInfo::new("u", &[]);
    let rules = |value: Value| serde_json::from_value::<Vec<PolicyRule>>(value).expect("rules");
    let held = rules(json!([{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "pods/log"]}]));
    assert!(rbac.covers(&user, "n", &held));
    assert!(!rbac.covers(&user, "other", &held));
    let mixed = rules(json!([{"verbs": ["get", "*"], "apiGroups": [""], "resources": ["pods", "nodes"]}]));
    let missing = rbac.missing(&user, "n", &mixed);
    let words: Vec<_> = missing
        .iter()
        .map(|rule| format!("{} {}", rule.verbs[0], rule.resources[0]))
        .collect();
    assert_eq!(words, ["* pods", "get nodes", "* nodes"]);
    let root = UserInfo::new("root", &["system:masters"]);
    assert!(rbac.covers(
        &root,
        "",
        &rules(json!([{"verbs": ["*"], "nonResourceURLs": ["/x/*", "*"]}]))
    ));
}

#[test]
fn aggregation_takes_what_the_selectors_match_once() {
    let role = |name: &str, labels: Value, verbs: &[&str]| {
        let rules = json!([{"verbs": verbs, "apiGroups": [""], "resources": ["x"]}]);
        let value = json!({"kind": "ClusterRole", "metadata": {"name": name, "labels": labels}, "rules": rules});
        (
            object(&value),
            serde_json::from_value::<Vec<PolicyRule>>(rules).expect("rules"),
        )
    };
    let roles = [
        role("b", json!({"to": "all"}), &["get"]),
        role("a", json!({"to": "all"}), &["list"]),
        role("c", json!({"to": "all"}), &["get"]),
        role("all", json!({"to": "all"}), &["delete"]),
        role("d", json!({}), &["create"]),
    ];
    let roles: Vec<(&Object, Vec<PolicyRule>)> = roles.iter().map(|(o, r)| (o.as_ref(), r.clone())).collect();
    let selector: LabelSelector = serde_json::from_value(json!({"matchLabels": {"to": "all"}})).expect("selector");
    let verbs: Vec<_> = aggregate(&[selector], &roles, "all")
        .into_iter()
        .map(|rule| rule.verbs.concat())
        .collect();
    assert_eq!(verbs, ["list", "get"]);
}
