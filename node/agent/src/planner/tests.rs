//! The planner as a table of situations.

use super::*;
use serde_json::json;

const NOW: i64 = 1_000_000;

fn pod(value: serde_json::Value) -> Pod {
    serde_json::from_value(value).expect("pod")
}

fn simple(policy: &str) -> Pod {
    pod(
        json!({"metadata": {"name": "p"}, "spec": {"restartPolicy": policy, "containers": [{"name": "a"}, {"name": "b"}]}}),
    )
}

fn running() -> Instance {
    Instance {
        id: "x".into(),
        state: State::Running {
            since: Time::from_second(NOW - 60),
        },
        started: true,
        ..Instance::waiting("")
    }
}

fn exited(code: i32, attempt: u32, ago: i64) -> Instance {
    Instance {
        id: "x".into(),
        attempt,
        state: State::Exited(Exit {
            code,
            reason: String::new(),
            message: String::new(),
            started: None,
            finished: Time::from_second(NOW - ago),
        }),
        ..Instance::waiting("")
    }
}

fn observed(ready: bool, containers: &[(&str, Instance)]) -> Observed {
    Observed {
        sandbox: Some(SandboxState {
            id: "s".into(),
            attempt: 0,
            ready,
            ip: "10.0.0.2".into(),
        }),
        containers: containers.iter().map(|(n, i)| ((*n).to_owned(), i.clone())).collect(),
        ..Observed::default()
    }
}

fn actions(pod: &Pod, observed: &Observed) -> Vec<Action> {
    plan(pod, observed, Time::from_second(NOW)).actions
}

fn start(container: &str, attempt: u32) -> Action {
    Action::Start {
        container: container.into(),
        attempt,
    }
}

fn killed(actions: &[Action]) -> Vec<&str> {
    let name = |a: &Action| match a {
        Action::Kill { container, .. } => Some(container.clone()),
        _ => None,
    };
    assert!(actions.iter().all(|a| name(a).is_some()), "{actions:?}");
    actions
        .iter()
        .filter_map(|a| {
            if let Action::Kill { container, .. } = a {
                Some(container.as_str())
            } else {
                None
            }
        })
        .collect()
}

#[test]
fn a_new_pod_gets_a_sandbox_then_its_containers() {
    let pod = simple("Always");
    assert_eq!(actions(&pod, &Observed::default()), [Action::RunSandbox { attempt: 0 }]);
    assert_eq!(actions(&pod, &observed(true, &[])), [start("a", 0), start("b", 0)]);
    assert_eq!(
        actions(&pod, &observed(true, &[("a", running()), ("b", running())])),
        []
    );
}

#[test]
fn the_restart_policy_decides_about_ended_containers() {
    for (policy, code, restarted) in [
        ("Always", 0, true),
        ("Always", 1, true),
        ("OnFailure", 0, false),
        ("OnFailure", 1, true),
        ("Never", 1, false),
    ] {
        let seen = observed(true, &[("a", exited(code, 0, 1)), ("b", running())]);
        let expected: &[Action] = if restarted { &[start("a", 1)] } else { &[] };
        assert_eq!(actions(&simple(policy), &seen), expected, "{policy} {code}");
    }
}

#[test]
fn a_second_restart_waits_for_its_turn() {
    let seen = observed(true, &[("a", exited(1, 1, 4)), ("b", running())]);
    let plan = plan(&simple("Always"), &seen, Time::from_second(NOW));
    assert_eq!(plan.actions, []);
    assert_eq!(plan.wake_at, Some(Time::from_second(NOW + 6)));
    let seen = observed(true, &[("a", exited(1, 1, 10)), ("b", running())]);
    assert_eq!(actions(&simple("Always"), &seen), [start("a", 2)]);
    assert_eq!(restart_pause(20), BACKOFF_MAX);
}

#[test]
fn a_completed_pod_loses_its_sandbox_and_keeps_its_containers() {
    let seen = observed(true, &[("a", exited(0, 0, 1)), ("b", exited(0, 0, 1))]);
    assert_eq!(phase(&simple("OnFailure"), &seen), Phase::Succeeded);
    assert_eq!(actions(&simple("OnFailure"), &seen), [Action::StopSandbox]);
    let seen = observed(false, &[("a", exited(3, 0, 1)), ("b", exited(0, 0, 1))]);
    assert_eq!(phase(&simple("Never"), &seen), Phase::Failed);
    assert_eq!(actions(&simple("Never"), &seen), []);
}

#[test]
fn a_deleted_pod_ends_containers_then_sandbox_then_itself() {
    let mut pod = simple("Always");
    pod.metadata.deletion_timestamp = Some(Time::from_second(NOW));
    let seen = observed(true, &[("a", running()), ("b", running())]);
    assert_eq!(killed(&actions(&pod, &seen)), ["a", "b"]);
    let stopping = Instance {
        busy: true,
        ..running()
    };
    assert_eq!(actions(&pod, &observed(true, &[("a", stopping)])), []);
    assert_eq!(
        actions(&pod, &observed(true, &[("a", exited(0, 0, 1))])),
        [Action::StopSandbox]
    );
    assert_eq!(actions(&pod, &Observed::default()), [Action::Finish]);
}

fn with_inits() -> Pod {
    pod(json!({"metadata": {"name": "p"}, "spec": {"restartPolicy": "Always",
        "initContainers": [{"name": "i"}, {"name": "side", "restartPolicy": "Always"}, {"name": "j"}], "containers": [{"name": "a"}]}}))
}

#[test]
fn init_containers_run_one_after_another_and_sidecars_stay() {
    let pod = with_inits();
    assert_eq!(actions(&pod, &observed(true, &[])), [start("i", 0)]);
    assert_eq!(phase(&pod, &observed(true, &[("i", running())])), Phase::Pending);
    assert_eq!(actions(&pod, &observed(true, &[("i", running())])), []);
    assert_eq!(
        actions(&pod, &observed(true, &[("i", exited(0, 0, 1))])),
        [start("side", 0)]
    );
    let starting = Instance {
        started: false,
        ..running()
    };
    assert_eq!(
        actions(&pod, &observed(true, &[("i", exited(0, 0, 1)), ("side", starting)])),
        []
    );
    let seen = observed(true, &[("i", exited(0, 0, 1)), ("side", running())]);
    assert_eq!(actions(&pod, &seen), [start("j", 0)]);
    let seen = observed(
        true,
        &[("i", exited(0, 0, 1)), ("side", running()), ("j", exited(0, 0, 1))],
    );
    assert_eq!(actions(&pod, &seen), [start("a", 0)]);
    // Later on an ended sidecar comes back, an ended init container does not.
    let seen = observed(true, &[("side", exited(0, 0, 1)), ("a", running())]);
    assert_eq!(actions(&pod, &seen), [start("side", 1)]);
}

#[test]
fn sidecars_end_after_the_others() {
    let mut pod = with_inits();
    pod.metadata.deletion_timestamp = Some(Time::from_second(NOW));
    let seen = observed(true, &[("side", running()), ("a", running())]);
    assert_eq!(killed(&actions(&pod, &seen)), ["a"]);
    let seen = observed(true, &[("side", running()), ("a", exited(0, 0, 1))]);
    assert_eq!(killed(&actions(&pod, &seen)), ["side"]);
}

#[test]
fn a_dead_sandbox_is_replaced_after_its_containers_have_ended() {
    let pod = simple("Always");
    let seen = observed(false, &[("a", running()), ("b", exited(0, 0, 1))]);
    assert_eq!(killed(&actions(&pod, &seen)), ["a"]);
    let seen = observed(false, &[("a", exited(137, 0, 1)), ("b", exited(0, 0, 1))]);
    assert_eq!(actions(&pod, &seen), [Action::RunSandbox { attempt: 1 }]);
}

#[test]
fn an_unhealthy_or_changed_container_is_ended() {
    let pod = simple("Always");
    let sick = Instance {
        unhealthy: Some(Unhealthy {
            why: "liveness".into(),
            grace: None,
        }),
        ..running()
    };
    assert_eq!(
        killed(&actions(&pod, &observed(true, &[("a", sick), ("b", running())]))),
        ["a"]
    );
    let old = Instance {
        image: "old:1".into(),
        ..running()
    };
    assert_eq!(
        killed(&actions(&pod, &observed(true, &[("a", running()), ("b", old)]))),
        ["b"]
    );
}

#[test]
fn a_containers_own_policy_and_rules_decide_before_the_pods() {
    let with = |container: serde_json::Value| {
        pod(
            json!({"metadata": {"name": "p"}, "spec": {"restartPolicy": "Never", "containers": [container, {"name": "b"}]}}),
        )
    };
    let rules = json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]);
    let never = json!({"name": "a", "restartPolicy": "Never", "restartPolicyRules": rules});
    for (container, code, again) in [
        (json!({"name": "a"}), 1, false),
        (json!({"name": "a", "restartPolicy": "Always"}), 0, true),
        (json!({"name": "a", "restartPolicy": "OnFailure"}), 0, false),
        (never.clone(), 1, false),
        (never, 42, true),
    ] {
        let pod = with(container.clone());
        let seen = observed(true, &[("a", exited(code, 0, 1)), ("b", exited(0, 0, 1))]);
        let expected = if again {
            Phase::Running
        } else if code == 0 {
            Phase::Succeeded
        } else {
            Phase::Failed
        };
        assert_eq!(phase(&pod, &seen), expected, "{container} {code}");
        assert_eq!(
            actions(&pod, &seen).contains(&start("a", 1)),
            again,
            "{container} {code}"
        );
    }
}

#[test]
fn a_rule_may_have_all_containers_begun_anew() {
    let rules = json!([{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [7]}}]);
    let pod = pod(
        json!({"metadata": {"name": "p"}, "spec": {"restartPolicy": "Never", "initContainers": [{"name": "i"}],
        "containers": [{"name": "a", "restartPolicy": "Never", "restartPolicyRules": rules}, {"name": "b"}]}}),
    );
    let init = ("i", exited(0, 0, 50));
    let seen = observed(true, &[init.clone(), ("a", exited(7, 0, 1)), ("b", running())]);
    assert_eq!(phase(&pod, &seen), Phase::Running);
    assert_eq!(killed(&actions(&pod, &seen)), ["b"]);
    let seen = observed(true, &[init, ("a", exited(7, 0, 1)), ("b", exited(137, 0, 1))]);
    assert_eq!(actions(&pod, &seen), [Action::Renew]);
    let anew = Instance {
        anew: true,
        attempt: 1,
        ..Instance::waiting("ContainerCreating")
    };
    let seen = observed(true, &[("i", anew.clone()), ("a", anew.clone()), ("b", anew)]);
    assert_eq!(phase(&pod, &seen), Phase::Running);
    assert_eq!(actions(&pod, &seen), [start("i", 1)]);
}

#[test]
fn resources_change_in_place_unless_a_restart_is_asked_for() {
    let sized = |cpu: &str, memory: &str| json!({"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}});
    let pod = pod(
        json!({"metadata": {"name": "p"}, "spec": {"restartPolicy": "Never", "containers": [{"name": "a",
        "resources": sized("200m", "2Mi"), "resizePolicy": [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]}]}}),
    );
    let has = |cpu: &str, memory: &str| Instance {
        resources: Some(serde_json::from_value(sized(cpu, memory)).expect("resources")),
        ..running()
    };
    assert_eq!(actions(&pod, &observed(true, &[("a", has("200m", "2Mi"))])), []);
    assert_eq!(
        actions(&pod, &observed(true, &[("a", has("100m", "2Mi"))])),
        [Action::Resize]
    );
    let seen = observed(true, &[("a", has("200m", "1Mi"))]);
    assert_eq!(killed(&actions(&pod, &seen)), ["a"]);
    // It did nothing wrong: it runs again at once, although the pod says never.
    let ended = Instance {
        again: Again::AtOnce,
        ..exited(137, 5, 0)
    };
    let seen = observed(true, &[("a", ended)]);
    assert_eq!(
        (actions(&pod, &seen), phase(&pod, &seen)),
        (vec![start("a", 6)], Phase::Running)
    );
    // The pod has room before a container that needs it starts.
    let mut seen = observed(true, &[]);
    seen.pod_cgroup = Some(Cgroup::default());
    assert_eq!(actions(&pod, &seen), [Action::Resize]);
}
