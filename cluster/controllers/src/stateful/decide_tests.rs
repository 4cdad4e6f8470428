//! Stateful sets as tables.

use super::{
    decide::{Action, Seen},
    types::StatefulSet,
};
use crate::{tracked::Tracked, views::Pod};
use serde_json::{Value, json};
use std::sync::Arc;
use strata_meta::{GroupVersionKind, Object, Revision, Time};

fn set(spec: Value) -> StatefulSet {
    serde_json::from_value(json!({"metadata": {"name": "web", "generation": 2}, "spec": spec, "status": {}})).unwrap()
}

/// `0:old:ready` is a ready pod of the old template; also `pending`, `failed`, and `going` for one being deleted.
fn pod(word: &str) -> (i64, Arc<Pod>) {
    let [ordinal, revision, state] = word.split(':').collect::<Vec<_>>().try_into().unwrap();
    let name = format!("web-{ordinal}");
    let labels = json!({"controller-revision-hash": revision, "statefulset.kubernetes.io/pod-name": name});
    let mut metadata = json!({"name": name, "uid": word, "labels": labels});
    let ready = json!([{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
    let status = match state {
        "ready" => json!({"phase": "Running", "conditions": ready}),
        "going" => {
            metadata["deletionTimestamp"] = "2026-01-01T00:00:30Z".into();
            json!({"phase": "Running", "conditions": ready})
        }
        "failed" => json!({"phase": "Failed"}),
        _ => json!({"phase": "Pending"}),
    };
    let value = json!({"metadata": metadata, "spec": {"nodeName": "n"}, "status": status});
    let kind = Arc::new(GroupVersionKind::new("", "v1", "Pod"));
    let object = Arc::new(Object::from_value(kind, Revision(1), &value).unwrap());
    (ordinal.parse().unwrap(), Arc::new(Tracked::decode(&object).unwrap()))
}

fn seen<R>(set: &StatefulSet, words: &str, ask: impl FnOnce(&Seen<'_>) -> R) -> R {
    let pods: Vec<(i64, Arc<Pod>)> = words.split_whitespace().map(pod).collect();
    ask(&Seen {
        set,
        pods: &pods,
        current: "old",
        update: "new",
        now: Time::parse("2026-01-01T00:01:00Z").unwrap(),
        is_stale: &|_| false,
        are_owned: &|_, _| true,
    })
}

fn plan(set: &StatefulSet, words: &str) -> String {
    let text = |action: &Action| match action {
        Action::Create { ordinal } => format!("+{ordinal}"),
        Action::Claims { ordinal } => format!("claims {ordinal}"),
        Action::Mend(pod) => format!("mend {}", pod.name()),
        Action::Own(pod) => format!("own {}", pod.name()),
        Action::Delete(pod) => format!("-{}", pod.name().trim_start_matches("web-")),
    };
    seen(set, words, |seen| {
        seen.plan().iter().map(text).collect::<Vec<_>>().join(" ")
    })
}

#[test]
fn pods_come_in_order_and_go_in_reverse() {
    let ordered = set(json!({"replicas": 3, "updateStrategy": {"type": "OnDelete"}}));
    let parallel =
        set(json!({"replicas": 3, "podManagementPolicy": "Parallel", "updateStrategy": {"type": "OnDelete"}}));
    let later = set(json!({"replicas": 2, "ordinals": {"start": 5}, "updateStrategy": {"type": "OnDelete"}}));
    for (set, there, expected) in [
        (&ordered, "", "+0"),
        (&ordered, "0:old:pending", "claims 0"),
        (&ordered, "0:old:ready", "+1"),
        (&ordered, "0:old:ready 2:old:ready", "+1"),
        (&ordered, "0:old:failed 1:old:ready", "-0"),
        (&ordered, "0:old:ready 1:old:ready 2:old:ready", ""),
        (
            &ordered,
            "0:old:ready 1:old:ready 2:old:ready 3:old:ready 4:old:ready",
            "-4",
        ),
        (
            &ordered,
            "0:old:ready 1:old:ready 2:old:ready 3:old:ready 4:old:going",
            "",
        ),
        // The lowest that is not well may go, and nothing above it before.
        (
            &ordered,
            "0:old:ready 1:old:ready 2:old:ready 3:old:pending 4:old:pending",
            "",
        ),
        (&ordered, "0:old:ready 1:old:ready 2:old:ready 3:old:pending", "-3"),
        // Nobody goes while somebody below is not well.
        (
            &ordered,
            "0:old:pending 1:old:ready 2:old:ready 3:old:ready",
            "claims 0",
        ),
        (&parallel, "", "+0 +1 +2"),
        (
            &parallel,
            "0:old:pending 3:old:ready 4:old:ready",
            "claims 0 +1 +2 -4 -3",
        ),
        (&later, "5:old:ready", "+6"),
        (&later, "0:old:ready 5:old:ready 6:old:ready", "-0"),
    ] {
        assert_eq!(plan(set, there), expected, "{there}");
    }
}

#[test]
fn an_update_goes_from_the_top_down_to_the_partition() {
    let rolling = |rolling: Value| {
        set(json!({"replicas": 3, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling}}))
    };
    let old = "0:old:ready 1:old:ready 2:old:ready";
    for (bounds, there, expected) in [
        (json!({"partition": 0}), old, "-2"),
        (json!({"partition": 0}), "0:old:ready 1:old:ready 2:old:going", ""),
        (json!({"partition": 0}), "0:old:ready 1:old:ready 2:new:ready", "-1"),
        (json!({"partition": 2}), "0:old:ready 1:old:ready 2:new:ready", ""),
        (json!({"partition": 9}), old, ""),
        (json!({"maxUnavailable": 2}), old, "-2 -1"),
        (json!({"maxUnavailable": "50%"}), old, "-2"),
        (json!({"maxUnavailable": 2}), "0:old:ready 1:old:ready 2:new:going", ""),
    ] {
        assert_eq!(plan(&rolling(bounds.clone()), there), expected, "{bounds} {there}");
    }
}

#[test]
fn the_status_counts_revisions_until_the_update_is_complete() {
    let set = set(json!({"replicas": 2, "updateStrategy": {"type": "RollingUpdate"}}));
    let half = seen(&set, "0:old:ready 1:new:pending", |seen| seen.status(None, &[]));
    let counts = [
        half.replicas,
        half.ready_replicas,
        half.current_replicas,
        half.updated_replicas,
        half.available_replicas,
    ];
    assert_eq!((counts, half.current_revision.as_str()), ([2, 1, 1, 1, 1], "old"));
    let done = seen(&set, "0:new:ready 1:new:ready", |seen| seen.status(None, &[]));
    assert_eq!((done.current_replicas, done.current_revision.as_str()), (2, "new"));
}
