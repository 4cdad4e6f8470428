use super::*;
use crate::UserInfo;
use serde_json::json;
use std::sync::Arc;
use strata_meta::{FieldSelector, GroupVersionKind, Revision};

fn object(group: &str, value: &Value) -> Arc<Object> {
    let kind = GroupVersionKind::new(group, "v1", value["kind"].as_str().expect("kind"));
    Arc::new(Object::from_value(Arc::new(kind), Revision(1), value).expect("object"))
}

fn pod(name: &str, node: &str) -> Value {
    json!({
        "kind": "Pod", "metadata": {"name": name, "namespace": "n"},
        "spec": {
            "nodeName": node, "serviceAccountName": "sa",
            "imagePullSecrets": [{"name": "pull"}],
            "containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "env"}}}, {"value": "x"}],
                "envFrom": [{"configMapRef": {"name": "from"}}]}],
            "volumes": [
                {"name": "a", "secret": {"secretName": "volume"}},
                {"name": "b", "projected": {"sources": [{"configMap": {"name": "root-ca"}}, {"serviceAccountToken": {}}]}},
                {"name": "c", "persistentVolumeClaim": {"claimName": "claim"}},
                {"name": "d", "ephemeral": {}},
            ],
        },
    })
}

/// `VERB RESOURCE[/SUBRESOURCE] [NAMESPACE/][NAME] [SELECTOR]` as the agent of node `one`.
fn decide(authorizer: &NodeAuthorizer, question: &str) -> Decision {
    let user = UserInfo::node("one");
    let mut words = question.split(' ');
    let mut word = || words.next().unwrap_or_default();
    let (verb, what, key, selector) = (word(), word(), word(), word());
    let (resource, subresource) = what.split_once('/').unwrap_or((what, ""));
    let (namespace, name) = key.split_once('/').unwrap_or(("", key));
    let group = match resource {
        "leases" => "coordination.k8s.io",
        "csinodes" | "volumeattachments" => "storage.k8s.io",
        "certificatesigningrequests" => "certificates.k8s.io",
        "tokenreviews" => "authentication.k8s.io",
        _ => "",
    };
    let selector = FieldSelector::parse(selector).expect("selector");
    let field_selector = Some(&selector);
    authorizer.authorize(&Attributes {
        verb,
        group,
        resource,
        subresource,
        namespace,
        name,
        field_selector,
        ..Attributes::of(&user)
    })
}

fn check(authorizer: &NodeAuthorizer, allowed: &[&str], refused: &[&str]) {
    for question in allowed {
        assert_eq!(decide(authorizer, question), Decision::Allow, "{question}");
    }
    for question in refused {
        assert!(!decide(authorizer, question).is_allowed(), "{question}");
    }
}

#[test]
fn an_agent_reads_what_its_pods_refer_to_and_nothing_else() {
    let authorizer = NodeAuthorizer::new();
    let mine = object("", &pod("mine", "one"));
    authorizer.apply(&WatchEvent::Added(mine.clone())).expect("applied");
    authorizer
        .apply(&WatchEvent::Added(object("", &pod("waiting", ""))))
        .expect("applied");
    let mut foreign = pod("foreign", "two");
    foreign["spec"]["volumes"][0]["secret"]["secretName"] = json!("theirs");
    authorizer
        .apply(&WatchEvent::Added(object("", &foreign)))
        .expect("applied");
    let readable = [
        "get secrets n/pull",
        "watch secrets n/env",
        "list secrets n/volume",
        "get configmaps n/from",
        "get configmaps n/root-ca",
        "get persistentvolumeclaims n/claim",
        "patch persistentvolumeclaims/status n/claim",
        "get persistentvolumeclaims n/mine-d",
        "create serviceaccounts/token n/sa",
        "get serviceaccounts n/sa",
        "get pods n/mine",
    ];
    check(
        &authorizer,
        &readable,
        &[
            "get secrets n/theirs",
            "get secrets other/volume",
            "list secrets n/",
            "list secrets ",
            "delete secrets n/volume",
            "get configmaps n/other",
            "create serviceaccounts/token n/other",
            "delete serviceaccounts n/sa",
            "get pods n/foreign",
            "get pods n/waiting",
        ],
    );
    authorizer.apply(&WatchEvent::Deleted(mine)).expect("applied");
    check(&authorizer, &[], &readable);
    let graph = authorizer.graph.read().expect("lock");
    assert!(
        graph
            .nodes
            .values()
            .all(|nodes| nodes.keys().all(|node| &**node == "two")),
        "nothing is left behind"
    );
}

#[test]
fn an_agent_writes_about_itself() {
    let authorizer = NodeAuthorizer::new();
    check(
        &authorizer,
        &[
            "get nodes one",
            "watch nodes one",
            "create nodes ",
            "patch nodes/status one",
            "list pods  spec.nodeName=one",
            "watch pods  spec.nodeName=one",
            "patch pods/status n/p",
            "delete pods n/p",
            "create pods/eviction n/p",
            "create events n/",
            "update leases kube-node-lease/one",
            "create leases kube-node-lease/",
            "get csinodes one",
            "create certificatesigningrequests ",
            "create tokenreviews ",
            "list services ",
        ],
        &[
            "list nodes ",
            "get nodes two",
            "delete nodes one",
            "list pods  spec.nodeName=two",
            "list pods  spec.nodeName!=one",
            "list pods ",
            "update pods n/p",
            "deletecollection pods n/",
            "update leases kube-node-lease/two",
            "update leases kube-system/one",
            "list leases kube-node-lease/",
            "get csinodes two",
            "create deployments n/d",
            "list secrets ",
            "get namespaces n",
        ],
    );
}

#[test]
fn others_are_no_business_of_this_authorizer() {
    let authorizer = NodeAuthorizer::new();
    for user in [
        UserInfo::new("root", &["system:masters"]),
        UserInfo::new("system:node:one", &[]),
        UserInfo::anonymous(),
    ] {
        let attributes = Attributes {
            verb: "get",
            resource: "nodes",
            name: "one",
            ..Attributes::of(&user)
        };
        assert_eq!(
            authorizer.authorize(&attributes),
            Decision::NoOpinion(String::new()),
            "{}",
            user.name
        );
    }
    let unnamed = UserInfo::node("");
    let attributes = Attributes {
        verb: "list",
        resource: "services",
        ..Attributes::of(&unnamed)
    };
    assert!(!authorizer.authorize(&attributes).is_allowed());
}

#[test]
fn volumes_lead_to_their_claims_and_secrets() {
    let authorizer = NodeAuthorizer::new();
    authorizer
        .apply(&WatchEvent::Added(object("", &pod("mine", "one"))))
        .expect("applied");
    let volume = object(
        "",
        &json!({
            "kind": "PersistentVolume", "metadata": {"name": "pv"},
            "spec": {"claimRef": {"namespace": "n", "name": "claim"}, "csi": {
                "nodePublishSecretRef": {"namespace": "csi", "name": "publish"},
                "controllerPublishSecretRef": {"namespace": "csi", "name": "controller"},
            }},
        }),
    );
    authorizer.apply(&WatchEvent::Added(volume.clone())).expect("applied");
    let attachment = json!({"kind": "VolumeAttachment", "metadata": {"name": "va"}, "spec": {"nodeName": "one"}});
    authorizer
        .apply(&WatchEvent::Added(object("storage.k8s.io", &attachment)))
        .expect("applied");
    let readable = ["get persistentvolumes pv", "get secrets csi/publish"];
    check(
        &authorizer,
        &readable,
        &["get secrets csi/controller", "get persistentvolumes other"],
    );
    check(
        &authorizer,
        &["get volumeattachments va"],
        &["get volumeattachments other"],
    );
    authorizer.apply(&WatchEvent::Deleted(volume)).expect("applied");
    check(&authorizer, &[], &readable);
}

#[test]
fn a_mirror_pod_gives_no_access() {
    let authorizer = NodeAuthorizer::new();
    let mut mirror = pod("mirror", "one");
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    authorizer
        .apply(&WatchEvent::Added(object("", &mirror)))
        .expect("applied");
    check(
        &authorizer,
        &["get pods n/mirror"],
        &["get secrets n/volume", "create serviceaccounts/token n/sa"],
    );
}
