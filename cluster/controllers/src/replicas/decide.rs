//! What a replica set needs: pure decisions on its spec and its pods.

use crate::{
    conditions,
    dependents::{BURST, template::Template},
    replicas::rank,
    views::{Condition, Pod, is_default},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc};
use strata_meta::{LabelSelector, ObjectMeta, Selector, Time, selector::SelectorError};

pub(super) const FAILURE: &str = "ReplicaFailure";

/// A ReplicaSet or a ReplicationController.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ReplicaSet {
    pub metadata: ObjectMeta,
    pub spec: ReplicaSetSpec,
    pub status: ReplicaStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ReplicaSetSpec {
    pub replicas: Option<i32>,
    pub min_ready_seconds: i64,
    /// A LabelSelector, or for a ReplicationController a map of labels.
    selector: Value,
    pub template: Template,
}

/// The status of both kinds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ReplicaStatus {
    pub replicas: i32,
    #[serde(skip_serializing_if = "is_default")]
    pub fully_labeled_replicas: i32,
    #[serde(skip_serializing_if = "is_default")]
    pub ready_replicas: i32,
    #[serde(skip_serializing_if = "is_default")]
    pub available_replicas: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminating_replicas: Option<i32>,
    #[serde(skip_serializing_if = "is_default")]
    pub observed_generation: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

impl ReplicaSet {
    /// How many pods are wanted.
    pub fn replicas(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }

    /// Which pods it may manage; one that would select everything selects nothing.
    pub fn selector(&self) -> Result<Selector, SelectorError> {
        let invalid = |error: serde_json::Error| SelectorError(error.to_string());
        let is_label_selector = self.spec.selector.get("matchLabels").is_some_and(Value::is_object)
            || self.spec.selector.get("matchExpressions").is_some_and(Value::is_array);
        let selector = match &self.spec.selector {
            Value::Null => Selector::from_map(&self.spec.template.metadata.labels),
            value if is_label_selector => LabelSelector::deserialize(value).map_err(invalid)?.to_selector()?,
            value => Selector::from_map(&BTreeMap::deserialize(value).map_err(invalid)?),
        };
        match selector.is_everything() {
            true => Err(SelectorError("the selector is empty".into())),
            false => Ok(selector),
        }
    }
}

/// What to do about the number of pods.
pub(super) enum Step {
    Nothing,
    Create(usize),
    Delete(Vec<Arc<Pod>>),
}

/// Compares the active pods with what is wanted. `related` are the pods that spreading of
/// deletions takes into account.
pub(super) fn step(wanted: i32, active: &[Arc<Pod>], related: impl FnOnce() -> Vec<Arc<Pod>>, now: Time) -> Step {
    let wanted = usize::try_from(wanted).unwrap_or(0);
    match active.len() {
        have if have < wanted => Step::Create((wanted - have).min(BURST)),
        have if have > wanted => {
            let surplus = (have - wanted).min(BURST);
            let chosen = match surplus == have {
                true => active.to_vec(),
                false => rank::by_deletion_preference(active, &related(), now),
            };
            Step::Delete(chosen.into_iter().take(surplus).collect())
        }
        _ => Step::Nothing,
    }
}

/// What was seen when the status is computed.
pub(super) struct Seen<'a> {
    pub active: &'a [Arc<Pod>],
    /// Pods of the owner that are being deleted; absent where the kind does not tell of them.
    pub terminating: Option<usize>,
    /// Why creating or deleting failed.
    pub failure: Option<String>,
    pub now: Time,
}

/// The status that follows from what was seen.
pub(super) fn status(set: &ReplicaSet, seen: &Seen<'_>) -> ReplicaStatus {
    let count = |keep: &dyn Fn(&Pod) -> bool| saturated(seen.active.iter().filter(|pod| keep(pod)).count());
    let labels = Selector::from_map(&set.spec.template.metadata.labels);
    let mut conditions = set.status.conditions.clone();
    match &seen.failure {
        Some(message) if conditions::find(&conditions, FAILURE).is_none() => {
            let reason = match seen.active.len().cmp(&usize::try_from(set.replicas()).unwrap_or(0)) {
                std::cmp::Ordering::Less => "FailedCreate",
                std::cmp::Ordering::Greater => "FailedDelete",
                std::cmp::Ordering::Equal => "",
            };
            conditions::set(
                &mut conditions,
                conditions::condition(FAILURE, "True", reason, message, seen.now),
            );
        }
        Some(_) => {}
        None => conditions::remove(&mut conditions, FAILURE),
    }
    ReplicaStatus {
        replicas: saturated(seen.active.len()),
        fully_labeled_replicas: count(&|pod| labels.matches_object(pod)),
        ready_replicas: count(&|pod| pod.view.ready),
        available_replicas: count(&|pod| pod.view.is_available(set.spec.min_ready_seconds, seen.now)),
        terminating_replicas: seen.terminating.map(saturated),
        observed_generation: set.metadata.generation,
        conditions,
    }
}

fn saturated(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::tracked::Tracked;
    use serde_json::json;
    use strata_meta::{GroupVersionKind, Object, Revision};

    pub(in crate::replicas) fn pod(name: &str, spec: Value, status: Value) -> Arc<Pod> {
        pod_with(
            json!({"name": name, "namespace": "n", "uid": name, "labels": {"app": "web"}}),
            spec,
            status,
        )
    }

    pub(in crate::replicas) fn pod_with(metadata: Value, spec: Value, status: Value) -> Arc<Pod> {
        let kind = Arc::new(GroupVersionKind::new("", "v1", "Pod"));
        let value = json!({"metadata": metadata, "spec": spec, "status": status});
        Arc::new(Tracked::decode(&Arc::new(Object::from_value(kind, Revision(1), &value).unwrap())).unwrap())
    }

    fn ready(name: &str, since: &str) -> Arc<Pod> {
        let condition = json!({"type": "Ready", "status": "True", "lastTransitionTime": since});
        pod(
            name,
            json!({"nodeName": "a"}),
            json!({"phase": "Running", "conditions": [condition]}),
        )
    }

    fn set(spec: Value) -> ReplicaSet {
        serde_json::from_value(json!({"metadata": {"generation": 3}, "spec": spec})).unwrap()
    }

    const NOW: &str = "2026-01-01T00:01:00Z";

    #[test]
    fn selectors_of_both_kinds_are_read_and_an_empty_one_is_refused() {
        let pod = pod("p", json!({}), json!({}));
        let template = json!({"metadata": {"labels": {"app": "web"}}});
        for (selector, expected) in [
            (json!({"matchLabels": {"app": "web"}}), Ok(true)),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["db"]}]}),
                Ok(false),
            ),
            (json!({"app": "web"}), Ok(true)),
            (json!({"app": "db"}), Ok(false)),
            (json!(null), Ok(true)),
            (json!({}), Err(())),
        ] {
            let set = set(json!({"selector": selector, "template": template}));
            let matched = set.selector().map(|s| s.matches_object(&pod)).map_err(drop);
            assert_eq!(matched, expected, "{selector}");
        }
    }

    #[test]
    fn the_difference_is_created_or_deleted_up_to_the_burst() {
        let pods: Vec<_> = (0..4).map(|i| ready(&i.to_string(), NOW)).collect();
        let now = Time::parse(NOW).unwrap();
        let describe = |wanted| match step(wanted, &pods, || pods.clone(), now) {
            Step::Nothing => 0,
            Step::Create(n) => i64::try_from(n).unwrap(),
            Step::Delete(pods) => -i64::try_from(pods.len()).unwrap(),
        };
        assert_eq!([0, 1, 4, 6, 100_000].map(describe), [-4, -3, 0, 2, 500]);
    }

    #[test]
    fn the_status_counts_labels_readiness_and_availability() {
        let set = set(
            json!({"replicas": 3, "minReadySeconds": 30, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}}}),
        );
        let unlabelled = pod_with(json!({"name": "x", "uid": "x"}), json!({}), json!({}));
        let active = [
            ready("old", "2026-01-01T00:00:30Z"),
            ready("new", "2026-01-01T00:00:40Z"),
            unlabelled,
        ];
        let now = Time::parse(NOW).unwrap();
        let status = status(
            &set,
            &Seen {
                active: &active,
                terminating: Some(1),
                failure: None,
                now,
            },
        );
        assert_eq!(
            (
                status.replicas,
                status.fully_labeled_replicas,
                status.ready_replicas,
                status.available_replicas
            ),
            (3, 2, 2, 1)
        );
        assert_eq!((status.terminating_replicas, status.observed_generation), (Some(1), 3));
        let next = crate::dependents::next_availability(30, &active, now);
        assert_eq!(next, Some(std::time::Duration::from_secs(10)));
    }

    #[test]
    fn a_failure_is_a_condition_until_it_is_over() {
        let mut set = set(json!({"replicas": 1}));
        let now = Time::parse(NOW).unwrap();
        let failing = Seen {
            active: &[],
            terminating: None,
            failure: Some("quota".into()),
            now,
        };
        set.status = status(&set, &failing);
        let condition = &set.status.conditions[0];
        assert_eq!(
            (condition.type_.as_str(), condition.reason.as_str()),
            (FAILURE, "FailedCreate")
        );
        let later = Seen {
            failure: Some("other".into()),
            ..failing
        };
        assert_eq!(status(&set, &later), set.status, "the first failure stays");
        assert!(status(&set, &Seen { failure: None, ..later }).conditions.is_empty());
    }
}
