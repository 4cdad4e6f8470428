//! What metrics ask for, as tables.

use super::*;
use serde_json::json;

const NOW: i64 = 1_800_000_000;
const TENTH: Tolerances = Tolerances { down: 0.1, up: 0.1 };

fn ago(seconds: i64) -> Time {
    Time::from_second(NOW - seconds)
}

/// A pod that asks for a whole processor: `state` is `ready`, `unready`, `pending`, `failed`, `deleted` or `never`,
/// started long ago.
fn pod(index: usize, state: &str) -> Pod {
    let deleted = (state == "deleted").then(|| ago(5));
    let ready = if matches!(state, "unready" | "never") {
        "False"
    } else {
        "True"
    };
    let since = if state == "never" { ago(999) } else { ago(300) };
    let phase = match state {
        "pending" => "Pending",
        "failed" => "Failed",
        _ => "Running",
    };
    let container = |name: &str| json!({"name": name, "resources": {"requests": {"cpu": "500m", "memory": "1Mi"}}});
    serde_json::from_value(json!({
        "metadata": {"name": format!("p{index}"), "deletionTimestamp": deleted},
        "spec": {"containers": [container("a"), container("b")]},
        "status": {"phase": phase, "startTime": ago(1000),
            "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": since}]},
    }))
    .unwrap()
}

fn pods(states: &[&str]) -> Vec<Pod> {
    states.iter().enumerate().map(|(i, state)| pod(i, state)).collect()
}

/// A sample of each pod; a negative one: none.
fn samples(values: &[i64]) -> Samples {
    let known = values.iter().enumerate().filter(|(_, value)| **value >= 0);
    let sample = |value: i64| Sample {
        value,
        at: Some(ago(10)),
        window: 30,
    };
    known.map(|(i, value)| (format!("p{i}"), sample(*value))).collect()
}

fn cpu(states: &[&str], values: &[i64], target: i32, current: i32) -> Result<i32, String> {
    let goal = Goal::Utilization(target, "cpu", "");
    of_pods(&pods(states), samples(values), goal, current, TENTH, ago(0)).map(|p| p.replicas)
}

#[test]
fn utilization_beyond_the_tolerance_changes_the_number() {
    let ready = ["ready"; 3];
    assert_eq!(cpu(&ready, &[300, 500, 700], 30, 3), Ok(5));
    assert_eq!(cpu(&ready, &[100, 300, 500], 50, 3), Ok(2));
    assert_eq!(cpu(&ready, &[1010, 1030, 1020], 100, 3), Ok(3), "within a tenth");
    assert_eq!(cpu(&ready, &[1110, 1130, 1120], 100, 3), Ok(4));
    let one = of_pods(
        &pods(&ready),
        samples(&[300, 500, 700]),
        Goal::Utilization(30, "cpu", ""),
        3,
        TENTH,
        ago(0),
    );
    let one = one.unwrap();
    assert_eq!((one.utilization, one.average), (Some(50), 500));
}

#[test]
fn pods_that_are_going_failed_or_starting_do_not_count() {
    assert_eq!(cpu(&["ready", "ready", "deleted"], &[500, 500, 5000], 50, 3), Ok(3));
    assert_eq!(cpu(&["ready", "ready", "failed"], &[900, 900, 9000], 50, 2), Ok(4));
    // Unready pods are taken to use nothing where more are wanted, and not at all where fewer are.
    assert_eq!(cpu(&["ready", "ready", "pending"], &[500, 700, -1], 30, 3), Ok(4));
    assert_eq!(cpu(&["ready", "never", "never"], &[400, 500, 700], 30, 3), Ok(3));
    assert_eq!(
        cpu(&["ready", "unready"], &[200, 900], 50, 2),
        Ok(2),
        "it was ready once, so that it counts"
    );
    assert!(
        cpu(&["never", "pending"], &[500, -1], 50, 2)
            .unwrap_err()
            .contains("might be unready")
    );
}

#[test]
fn a_pod_without_a_sample_holds_back() {
    assert_eq!(
        cpu(&["ready"; 4], &[-1, 950, 950, 950], 100, 4),
        Ok(4),
        "within the tolerance"
    );
    assert_eq!(
        cpu(&["ready"; 4], &[100, 200, 200, -1], 50, 4),
        Ok(3),
        "it may use all that it asked for"
    );
    assert_eq!(cpu(&["ready"; 2], &[1000, -1], 100, 2), Ok(2));
    assert_eq!(
        cpu(&["ready"; 3], &[3000, 3000, -1], 100, 3),
        Ok(6),
        "it may use nothing"
    );
    assert_eq!(
        cpu(&["ready"; 3], &[100, 450, -1], 50, 3),
        Ok(3),
        "turned round, so that nothing is done"
    );
}

#[test]
fn requests_are_needed_for_shares_of_them() {
    let goal = |container| Goal::Utilization(50, "cpu", container);
    let ask = |pods: &[Pod], container| of_pods(pods, samples(&[250]), goal(container), 1, TENTH, ago(0));
    assert_eq!(ask(&pods(&["ready"]), "a").unwrap().replicas, 1);
    assert_eq!(
        ask(&pods(&["ready"]), "x").unwrap_err(),
        "container x not found in Pod p0"
    );
    let mut bare = pod(0, "ready");
    bare.spec.containers[1].resources.requests.clear();
    assert_eq!(
        ask(&[bare.clone()], "").unwrap_err(),
        "missing request for cpu in container b of Pod p0"
    );
    assert_eq!(ask(&[bare.clone()], "a").unwrap().replicas, 1);
    bare.spec
        .resources
        .requests
        .insert("cpu".into(), Quantity::from_milli(250));
    assert_eq!(ask(&[bare], "").unwrap().utilization, Some(100));
    assert!(ask(&[], "").is_err());
}

#[test]
fn amounts_are_compared_with_what_each_pod_has() {
    let ask = |states: &[&str], values: &[i64], target, current| {
        let goal = Goal::Average(target, "");
        of_pods(&pods(states), samples(values), goal, current, TENTH, ago(0)).map(|p| (p.replicas, p.average))
    };
    assert_eq!(
        ask(&["ready"; 3], &[20_000, 10_000, 30_000], 15_000, 3),
        Ok((4, 20_000))
    );
    assert_eq!(
        ask(&["ready"; 3], &[20_000, 10_000, 30_000], 20_000, 3),
        Ok((3, 20_000))
    );
    assert_eq!(ask(&["ready"; 3], &[9_000, 9_000, -1], 20_000, 3), Ok((2, 9_000)));
    assert_eq!(ask(&["ready", "pending"], &[50_000, -1], 20_000, 2), Ok((3, 50_000)));
}

#[test]
fn a_pod_that_started_just_now_is_believed_after_a_whole_window_of_being_ready() {
    let mut young = pod(1, "ready");
    young.status.start_time = Some(ago(60));
    let goal = Goal::Utilization(50, "cpu", "");
    let mut ask = |since: i64| {
        young.status.conditions[0].last_transition_time = Some(ago(since));
        let pods = [pod(0, "ready"), young.clone()];
        of_pods(&pods, samples(&[500, 1600]), goal, 2, TENTH, ago(0)).map(|p| p.replicas)
    };
    assert_eq!(ask(45), Ok(5), "measured after the window began");
    assert_eq!(ask(20), Ok(2), "measured while it started");
}

#[test]
fn totals_and_shares_follow_the_value() {
    let three = pods(&["ready", "ready", "unready"]);
    assert_eq!(
        of_total(&three, 20_000, 10_000, 3, TENTH),
        Ok(4),
        "of those that are ready"
    );
    assert_eq!(of_total(&three, 10_500, 10_000, 3, TENTH), Ok(3));
    assert_eq!(of_total(&[], 3_000, 1_000, 0, TENTH), Ok(3), "from nothing");
    assert!(of_total(&[], 3_000, 1_000, 1, TENTH).is_err());
    assert_eq!(of_total(&three, i64::MAX, 1, 3, TENTH), Ok(i32::MAX));
    assert_eq!(of_share(8_600, 2_867, 3, TENTH), (3, 2_867));
    assert_eq!(of_share(8_600, 2_150, 3, TENTH), (4, 2_867));
    assert_eq!(of_share(i64::MAX, 1, 3, TENTH), (i32::MAX, i64::MAX));
    let wide = Tolerances { down: 0.1, up: 0.9 };
    assert_eq!(of_share(5_400, 1_000, 3, wide).0, 3);
    assert_eq!(
        of_share(2_400, 1_000, 3, wide).0,
        3,
        "within what may be lacking: rounded up"
    );
}
