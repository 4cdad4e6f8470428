//! The arithmetic of a disruption budget.

use super::types::{Condition, Spec, Status, View};
use crate::views::Pod;
use std::{collections::BTreeMap, sync::Arc};
use strata_meta::{IntOrString, Time};

/// Seconds within which a pod that was evicted is expected to go.
const DELETION_TIMEOUT: i64 = 120;
const ALLOWED: &str = "DisruptionAllowed";

/// Whether the budget is a share of what the pods' owners want, rather than of the pods that are there.
pub(super) fn needs_scale(spec: &Spec) -> bool {
    spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_)))
}

/// The number of pods that are expected, and of those that must be healthy, of `pods` pods whose owners want `scale`.
pub(super) fn expected(spec: &Spec, pods: i32, scale: i32) -> Result<(i32, i32), String> {
    let share = |value: &IntOrString| {
        value
            .scaled(scale, true)
            .ok_or_else(|| format!("invalid value for IntOrString: invalid type: {value:?} is not a percentage"))
    };
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => Ok((scale, scale.saturating_sub(share(most)?).max(0))),
        (None, Some(IntOrString::Int(least))) => Ok((pods, *least)),
        (None, Some(least)) => Ok((scale, share(least)?)),
        (None, None) => Ok((0, 0)),
    }
}

/// What has become of the pods that were evicted.
#[derive(Default)]
pub(super) struct Disrupted {
    /// Expected to go.
    pub still: BTreeMap<String, Time>,
    /// Were expected to go and are here.
    pub expired: Vec<Arc<Pod>>,
    /// When the next of them expires.
    pub recheck: Option<Time>,
}

pub(super) fn disrupted(pods: &[Arc<Pod>], status: &Status, now: Time) -> Disrupted {
    let mut result = Disrupted::default();
    for pod in pods.iter().filter(|pod| !pod.deleting) {
        let Some(since) = status.disrupted_pods.get(pod.name()) else {
            continue;
        };
        let until = since.plus_seconds(DELETION_TIMEOUT);
        if until < now {
            result.expired.push(pod.clone());
        } else {
            result.recheck = Some(result.recheck.map_or(until, |at| at.min(until)));
            result.still.insert(pod.name().to_owned(), *since);
        }
    }
    result
}

/// How many pods are ready and stay.
pub(super) fn healthy(pods: &[Arc<Pod>], disrupted: &BTreeMap<String, Time>) -> i32 {
    let counts = |pod: &&Arc<Pod>| !pod.deleting && !disrupted.contains_key(pod.name()) && pod.view.ready;
    i32::try_from(pods.iter().filter(counts).count()).unwrap_or(i32::MAX)
}

/// The numbers of a budget.
#[derive(Clone, Copy)]
pub(super) struct Counted {
    pub expected: i32,
    pub desired: i32,
    pub healthy: i32,
}

/// The status as it should be; `None` if it is so.
pub(super) fn status(budget: &View, counted: Counted, disrupted: BTreeMap<String, Time>, now: Time) -> Option<Status> {
    // A budget whose first pods appear before it was counted again allows nothing.
    let allowed = match counted.healthy - counted.desired {
        some if counted.expected > 0 && some > 0 => some,
        _ => 0,
    };
    let mut new = Status {
        observed_generation: budget.generation,
        disrupted_pods: disrupted,
        disruptions_allowed: allowed,
        current_healthy: counted.healthy,
        desired_healthy: counted.desired,
        expected_pods: counted.expected,
        conditions: budget.status.conditions.clone(),
    };
    let (word, reason) = match allowed {
        0 => ("False", "InsufficientPods"),
        _ => ("True", "SufficientPods"),
    };
    let told = budget.status.conditions.iter().find(|c| c.type_ == ALLOWED);
    let up_to_date = told.is_some_and(|c| c.status == word && c.reason == reason);
    if up_to_date && new == budget.status {
        return None;
    }
    set(&mut new, word, reason, "", now);
    Some(new)
}

/// The status of a budget that could not be counted: nothing may be evicted.
pub(super) fn failed(status: &Status, why: &str, now: Time) -> Option<Status> {
    let mut new = status.clone();
    new.disruptions_allowed = 0;
    set(&mut new, "False", "SyncFailed", why, now);
    (new != *status).then_some(new)
}

fn set(status: &mut Status, word: &str, reason: &str, message: &str, now: Time) {
    let known = status.conditions.iter_mut().find(|c| c.type_ == ALLOWED);
    let since = known
        .as_ref()
        .filter(|c| c.status == word)
        .and_then(|c| c.last_transition_time);
    let new = Condition {
        type_: ALLOWED.into(),
        status: word.into(),
        observed_generation: status.observed_generation,
        last_transition_time: Some(since.unwrap_or(now)),
        reason: reason.into(),
        message: message.into(),
    };
    match known {
        Some(known) => *known = new,
        None => status.conditions.push(new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracked::Tracked;
    use serde_json::{Value, json};
    use strata_meta::{GroupVersionKind, Object, Revision};

    const NOW: i64 = 1_800_000_000;

    fn now() -> Time {
        Time::from_second(NOW)
    }

    fn budget(spec: Value, status: Value) -> View {
        serde_json::from_value(json!({"metadata": {"generation": 3}, "spec": spec, "status": status})).unwrap()
    }

    fn pod(name: &str, ready: bool, deleted: bool) -> Arc<Pod> {
        let deletion = deleted.then_some("2026-01-01T00:00:00Z");
        let conditions = json!([{"type": "Ready", "status": if ready { "True" } else { "False" }}]);
        let pod = json!({"metadata": {"name": name, "namespace": "n", "deletionTimestamp": deletion},
            "status": {"conditions": conditions}});
        let kind = Arc::new(GroupVersionKind::new("", "v1", "Pod"));
        let object = Arc::new(Object::from_value(kind, Revision(1), &pod).unwrap());
        Arc::new(Tracked::decode(&object).unwrap())
    }

    #[test]
    fn what_must_be_healthy_is_a_number_or_a_share_of_what_is_wanted() {
        for (spec, pods, scale, wanted) in [
            (json!({"minAvailable": 3}), 5, 0, (5, 3)),
            (json!({"minAvailable": 0}), 5, 0, (5, 0)),
            (json!({"minAvailable": "28%"}), 2, 10, (10, 3)),
            (json!({"minAvailable": "100%"}), 2, 10, (10, 10)),
            (json!({"maxUnavailable": 2}), 1, 5, (5, 3)),
            (json!({"maxUnavailable": 7}), 1, 5, (5, 0)),
            (json!({"maxUnavailable": "33%"}), 1, 4, (4, 2)),
            (json!({}), 3, 0, (0, 0)),
        ] {
            let view = budget(spec.clone(), json!({}));
            assert_eq!(expected(&view.spec, pods, scale), Ok(wanted), "{spec}");
        }
        let wrong = budget(json!({"maxUnavailable": "many"}), json!({}));
        assert!(expected(&wrong.spec, 1, 1).is_err());
        assert!(needs_scale(&wrong.spec));
        assert!(!needs_scale(&budget(json!({"minAvailable": 1}), json!({})).spec));
    }

    #[test]
    fn an_evicted_pod_does_not_count_until_it_has_stayed_two_minutes() {
        let at = |ago: i64| Time::from_second(NOW - ago);
        let evicted = json!({"disruptedPods": {"young": at(10), "old": at(121), "gone": at(10), "going": at(10)}});
        let view = budget(json!({}), evicted);
        let pods = [
            pod("young", true, false),
            pod("old", true, false),
            pod("going", true, true),
            pod("other", true, false),
            pod("unready", false, false),
        ];
        let found = disrupted(&pods, &view.status, now());
        assert_eq!(found.still.keys().collect::<Vec<_>>(), ["young"]);
        assert_eq!(found.expired[0].name(), "old");
        assert_eq!(found.recheck, Some(at(10).plus_seconds(120)));
        assert_eq!(healthy(&pods, &found.still), 2);
    }

    #[test]
    fn nothing_is_allowed_where_nothing_is_expected_and_an_equal_status_is_not_written() {
        let numbers = |expected, desired, healthy| Counted {
            expected,
            desired,
            healthy,
        };
        let view = budget(json!({}), json!({}));
        let first = |counted| status(&view, counted, BTreeMap::new(), now()).unwrap();
        assert_eq!(first(numbers(0, 0, 3)).disruptions_allowed, 0);
        assert_eq!(first(numbers(3, 2, 1)).disruptions_allowed, 0);
        let some = first(numbers(3, 1, 3));
        assert_eq!((some.disruptions_allowed, some.observed_generation), (2, 3));
        assert_eq!(
            (some.conditions[0].status.as_str(), some.conditions[0].reason.as_str()),
            ("True", "SufficientPods")
        );
        let again = budget(json!({}), json!(some));
        assert_eq!(status(&again, numbers(3, 1, 3), BTreeMap::new(), now()), None);
        let later = Time::from_second(NOW + 60);
        let fewer = status(&again, numbers(3, 1, 2), BTreeMap::new(), later).unwrap();
        assert_eq!(fewer.conditions[0].last_transition_time, Some(now()), "still allowed");
        let none = status(&again, numbers(3, 1, 1), BTreeMap::new(), later).unwrap();
        assert_eq!(none.conditions[0].last_transition_time, Some(later));
    }

    #[test]
    fn a_budget_that_cannot_be_counted_says_so_once() {
        let view = budget(json!({}), json!({"disruptionsAllowed": 2, "observedGeneration": 2}));
        let said = failed(&view.status, "found no controllers", now()).unwrap();
        assert_eq!(said.disruptions_allowed, 0);
        assert_eq!(
            (said.observed_generation, said.conditions[0].observed_generation),
            (2, 2)
        );
        assert_eq!(failed(&said, "found no controllers", Time::from_second(NOW + 9)), None);
    }
}
