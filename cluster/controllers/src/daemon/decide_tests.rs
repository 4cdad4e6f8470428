//! Daemon sets as tables.

use super::{
    decide::{ByNode, Plan, Seen},
    fit::{Fit, Wish, pod_for, pod_template, target},
    types::DaemonSet,
};
use crate::{
    tracked::Tracked,
    views::{Node, Pod},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};
use strata_meta::{GroupVersionKind, Object, Revision, Time};

const NOW: &str = "2026-01-01T00:01:00Z";

fn object(kind: &str, value: &Value) -> Arc<Object> {
    let kind = Arc::new(GroupVersionKind::new("", "v1", kind));
    Arc::new(Object::from_value(kind, Revision(1), value).unwrap())
}

fn node(name: &str, labels: Value, taints: Value) -> Node {
    let value = json!({"metadata": {"name": name, "labels": labels}, "spec": {"taints": taints}});
    Tracked::decode(&object("Node", &value)).unwrap()
}

fn set(strategy: Value, spec: Value) -> DaemonSet {
    let template = json!({"metadata": {"labels": {"app": "d"}}, "spec": spec});
    let spec = json!({"updateStrategy": strategy, "template": template});
    serde_json::from_value(json!({"metadata": {"name": "d", "generation": 2}, "spec": spec})).unwrap()
}

/// `n1:new:ready` is a ready pod of the present template on n1; also `old`, `pending`, `failed`, `succeeded`.
fn pods(words: &[&str]) -> ByNode {
    let mut found = ByNode::new();
    for (number, word) in words.iter().enumerate() {
        let [node, hash, state] = word.split(':').collect::<Vec<_>>().try_into().unwrap();
        let condition = json!([{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        let status = match state {
            "ready" => json!({"phase": "Running", "conditions": condition}),
            "pending" => json!({"phase": "Pending"}),
            "failed" => json!({"phase": "Failed"}),
            _ => json!({"phase": "Succeeded"}),
        };
        let name = format!("{word}/{number}");
        let labels = json!({"controller-revision-hash": hash});
        let created = format!("2026-01-01T00:00:{number:02}Z");
        let metadata = json!({"name": name, "uid": name, "labels": labels, "creationTimestamp": created});
        let value = json!({"metadata": metadata, "spec": {"nodeName": node}, "status": status});
        let pod: Pod = Tracked::decode(&object("Pod", &value)).unwrap();
        found.entry(node.to_owned()).or_default().push(Arc::new(pod));
    }
    found
}

fn seen<R>(set: &DaemonSet, nodes: &[(&str, Fit)], words: &[&str], ask: impl FnOnce(&Seen<'_>) -> R) -> R {
    let nodes: BTreeMap<String, Fit> = nodes.iter().map(|(name, fit)| ((*name).to_owned(), *fit)).collect();
    let pods = pods(words);
    ask(&Seen {
        set,
        nodes: &nodes,
        pods: &pods,
        hash: "new",
        now: Time::parse(NOW).unwrap(),
    })
}

fn told(plan: &Plan) -> (Vec<String>, Vec<String>, usize) {
    let word = |pod: &Arc<Pod>| pod.name().split('/').next().unwrap().to_owned();
    (
        plan.create.clone(),
        plan.delete.iter().map(word).collect(),
        plan.ended.len(),
    )
}

const ALL: [(&str, Fit); 3] = [("n1", Fit::Run), ("n2", Fit::Run), ("n3", Fit::Run)];

#[test]
fn every_node_that_fits_gets_one_pod() {
    let set = set(json!({"type": "OnDelete"}), json!({}));
    let nodes = [("n1", Fit::Run), ("n2", Fit::Stay), ("n3", Fit::Leave)];
    for (there, create, delete, ended) in [
        (vec![], vec!["n1"], vec![], 0),
        (
            vec!["n1:old:ready", "n2:old:ready", "n3:old:ready"],
            vec![],
            vec!["n3:old:ready"],
            0,
        ),
        (
            vec!["n1:new:ready", "n1:new:pending"],
            vec![],
            vec!["n1:new:pending"],
            0,
        ),
        (vec!["n1:new:failed", "n2:new:succeeded"], vec![], vec![], 2),
    ] {
        let plan = seen(&set, &nodes, &there, |seen| told(&seen.plan()));
        let texts = |words: Vec<&str>| words.into_iter().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(plan, (texts(create), texts(delete), ended), "{there:?}");
    }
}

#[test]
fn a_rolling_update_keeps_within_its_bounds() {
    let replacing = |most: Value| {
        set(
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": most}}),
            json!({}),
        )
    };
    let old = ["n1:old:ready", "n2:old:ready", "n3:old:ready"];
    for (most, there, deleted) in [
        (json!(1), old.to_vec(), 1),
        (json!(2), old.to_vec(), 2),
        (json!("50%"), old.to_vec(), 2),
        // One is away already.
        (json!(1), vec!["n1:new:pending", "n2:old:ready", "n3:old:ready"], 0),
        // What does not work may go at once.
        (json!(1), vec!["n1:old:pending", "n2:old:pending", "n3:old:ready"], 2),
        (json!(1), vec!["n1:new:ready", "n2:new:ready", "n3:new:ready"], 0),
    ] {
        let plan = seen(&replacing(most.clone()), &ALL, &there, |seen| told(&seen.roll()));
        assert_eq!((plan.0.len(), plan.1.len()), (0, deleted), "{most} {there:?}");
    }
}

#[test]
fn a_surging_update_starts_new_pods_first() {
    let surging = set(
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}),
        json!({}),
    );
    let old = ["n1:old:ready", "n2:old:ready", "n3:old:ready"];
    let plan = seen(&surging, &ALL, &old, |seen| told(&seen.roll()));
    assert_eq!((plan.0.len(), plan.1.len()), (1, 0));
    let half = ["n1:old:ready", "n1:new:pending", "n2:old:ready", "n3:old:ready"];
    assert_eq!(
        seen(&surging, &ALL, &half, |seen| told(&seen.roll())),
        (vec![], vec![], 0)
    );
    let ready = ["n1:old:ready", "n1:new:ready", "n2:old:ready", "n3:old:ready"];
    let plan = seen(&surging, &ALL, &ready, |seen| told(&seen.plan()));
    assert_eq!(plan, (vec![], vec!["n1:old:ready".to_owned()], 0));
}

#[test]
fn the_status_counts_the_oldest_pod_of_each_node() {
    let set = set(json!({"type": "OnDelete"}), json!({}));
    let nodes = [("n1", Fit::Run), ("n2", Fit::Run), ("n3", Fit::Leave)];
    let there = ["n1:new:ready", "n1:old:pending", "n3:old:ready"];
    let status = seen(&set, &nodes, &there, |seen| seen.status(None, 2));
    let counts = [
        status.desired_number_scheduled,
        status.current_number_scheduled,
        status.number_misscheduled,
        status.number_ready,
        status.updated_number_scheduled,
        status.number_available,
        status.number_unavailable,
    ];
    assert_eq!(counts, [2, 1, 1, 1, 1, 1, 1]);
}

#[test]
fn nodes_fit_as_their_labels_and_taints_say() {
    let taint = |effect: &str| json!([{"key": "k", "effect": effect}]);
    let cordoned = json!([{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]);
    let zone = json!({"nodeSelector": {"zone": "a"}});
    let named = json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
        {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}]}}}});
    for (spec, labels, taints, expected) in [
        (json!({}), json!({}), json!([]), Fit::Run),
        (zone.clone(), json!({"zone": "a"}), json!([]), Fit::Run),
        (zone, json!({"zone": "b"}), json!([]), Fit::Leave),
        (json!({}), json!({}), taint("NoSchedule"), Fit::Stay),
        (json!({}), json!({}), taint("NoExecute"), Fit::Leave),
        (json!({}), json!({}), taint("PreferNoSchedule"), Fit::Run),
        (json!({}), json!({}), cordoned, Fit::Run),
        (
            json!({"tolerations": [{"operator": "Exists"}]}),
            json!({}),
            taint("NoExecute"),
            Fit::Run,
        ),
        (json!({"nodeName": "other"}), json!({}), json!([]), Fit::Leave),
        (named, json!({}), json!([]), Fit::Run),
    ] {
        let wish = Wish::of(&set(json!({}), spec.clone())).unwrap();
        assert_eq!(
            wish.fit(&node("n", labels, taints.clone())),
            expected,
            "{spec} {taints}"
        );
    }
}

#[test]
fn a_pod_is_made_for_one_node() {
    let set = set(
        json!({}),
        json!({"tolerations": [{"key": "mine", "operator": "Exists"}]}),
    );
    let owner = object(
        "DaemonSet",
        &json!({"metadata": {"name": "d", "namespace": "n", "uid": "u"}}),
    );
    let mut pod = pod_for(&pod_template(&owner, &set, "abc"), "n7");
    assert_eq!(
        pod["metadata"]["labels"],
        json!({"app": "d", "controller-revision-hash": "abc"})
    );
    assert_eq!(pod["spec"]["tolerations"].as_array().unwrap().len(), 7);
    pod["metadata"]["name"] = "p".into();
    let pod: Pod = Tracked::decode(&object("Pod", &pod)).unwrap();
    assert_eq!(target(&pod).as_deref(), Some("n7"));
}
