//! Rollouts as tables.

use super::{
    plan::{Action, Plan, plan},
    types::{Deployment, Set},
};
use crate::dependents::template;
use serde_json::{Value, json};
use strata_meta::Time;

fn now() -> Time {
    Time::parse("2026-01-01T01:00:00Z").unwrap()
}

fn pod_template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}})
}

/// A deployment of image `new`.
fn deployment(replicas: i32, surge: Value, unavailable: Value) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "n", "uid": "d", "generation": 1},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": pod_template("new"),
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}},
            "progressDeadlineSeconds": 600, "revisionHistoryLimit": 10,
        },
    }))
    .unwrap()
}

/// A set of an image, `age` minutes old, that was scaled for `desired` pods in all.
fn set(image: &str, age: i64, replicas: i32, available: i32, desired: (i32, i32)) -> Set {
    Set {
        name: format!("web-{image}"),
        uid: image.into(),
        created: Some(now().plus_seconds(-60 * age)),
        deleting: false,
        generation: 1,
        annotations: [
            ("deployment.kubernetes.io/revision", (100 - age).to_string()),
            ("deployment.kubernetes.io/desired-replicas", desired.0.to_string()),
            ("deployment.kubernetes.io/max-replicas", desired.1.to_string()),
        ]
        .map(|(k, v)| (k.to_owned(), v))
        .into(),
        replicas,
        min_ready_seconds: 0,
        template: pod_template(image),
        status: serde_json::from_value(json!({
            "replicas": replicas, "readyReplicas": available, "availableReplicas": available,
            "observedGeneration": 1, "terminatingReplicas": 0,
        }))
        .unwrap(),
    }
}

fn decide(deployment: &Deployment, sets: &[Set]) -> Plan {
    plan(deployment.clone(), sets.to_vec(), |_| false, now())
}

/// `+name=n` for a creation, `name=n` for a change of size, `-name` for a deletion.
fn sizes(plan: &Plan) -> Vec<String> {
    let line = |action: &Action| match action {
        Action::Create { replicas, .. } => Some(format!("+new={replicas}")),
        Action::Update {
            name,
            replicas: Some((_, to)),
            ..
        } => Some(format!("{}={to}", &name[4..])),
        Action::Update { .. } => None,
        Action::Delete { name } => Some(format!("-{}", &name[4..])),
    };
    plan.actions.iter().filter_map(line).collect()
}

#[test]
fn a_new_deployment_creates_its_set_at_full_size() {
    let plan = decide(&deployment(3, json!("25%"), json!("25%")), &[]);
    let [
        Action::Create {
            name,
            hash,
            replicas: 3,
            annotations,
        },
    ] = &plan.actions[..]
    else {
        panic!("{plan:?}")
    };
    assert_eq!(*name, format!("web-{hash}"));
    assert_eq!(*hash, template::hash(&pod_template("new"), None));
    assert_eq!(annotations["deployment.kubernetes.io/revision"], "1");
    assert_eq!(annotations["deployment.kubernetes.io/desired-replicas"], "3");
    assert_eq!(annotations["deployment.kubernetes.io/max-replicas"], "4");
    assert_eq!(plan.revision.as_deref(), Some("1"));
    let condition = |type_: &str| {
        plan.status
            .conditions
            .iter()
            .find(|c| c.type_ == type_)
            .cloned()
            .unwrap()
    };
    assert_eq!(condition("Progressing").reason, "NewReplicaSetCreated");
    assert_eq!(
        (condition("Available").status.as_str(), plan.status.unavailable_replicas),
        ("False", 3)
    );
    assert_eq!(plan.again, Some(601));
}

#[test]
fn a_rolling_update_keeps_within_surge_and_unavailability() {
    let ten = (10, 12);
    for (surge, unavailable, new, old, expected) in [
        // The new set starts with the surge, and the old one goes as far as may be unavailable.
        (json!(2), json!(3), None, (10, 10), vec!["+new=2", "old=7"]),
        // Not a pod of the new set is ready: the old ones go as far as may be unavailable.
        (json!(2), json!(3), Some((2, 0)), (10, 10), vec!["old=7"]),
        // Room again.
        (json!(2), json!(3), Some((2, 0)), (7, 7), vec!["new=5"]),
        (json!(2), json!(3), Some((5, 5)), (7, 7), vec!["old=2"]),
        (json!(2), json!(3), Some((10, 10)), (2, 2), vec!["old=0"]),
        // Unhealthy old pods go first and cost nothing.
        (json!(2), json!(3), Some((2, 2)), (10, 4), vec!["old=5"]),
        // Nothing may be missing: wait for the new ones.
        (json!(1), json!(0), Some((1, 0)), (10, 10), vec![]),
        (json!(1), json!(0), Some((1, 1)), (10, 10), vec!["old=9"]),
        // Percentages that come to nothing still let one be missing.
        (json!("0%"), json!("1%"), Some((0, 0)), (10, 10), vec!["old=9"]),
        // The new set is never larger than the deployment.
        (json!(2), json!(3), Some((12, 12)), (0, 0), vec!["new=10"]),
    ] {
        let deployment = deployment(10, surge.clone(), unavailable.clone());
        let mut sets = vec![set("old", 9, old.0, old.1, ten)];
        sets.extend(new.map(|(size, available)| set("new", 1, size, available, ten)));
        assert_eq!(
            sizes(&decide(&deployment, &sets)),
            expected,
            "{surge} {unavailable} {new:?} {old:?}"
        );
    }
}

#[test]
fn rollouts_of_all_shapes_end_and_never_leave_their_bounds() {
    for (replicas, surge, unavailable) in [(1, 1, 0), (1, 0, 1), (4, 1, 1), (10, 3, 2), (7, 0, 3), (5, 5, 0)] {
        let deployment = deployment(replicas, json!(surge), json!(unavailable));
        let noted = (replicas, replicas + surge);
        let mut sets = vec![set("old", 9, replicas, replicas, noted)];
        let mut steps = 0;
        while !(sets.len() == 2 && sets[0].replicas == 0 && sets[1].replicas == replicas) {
            steps += 1;
            assert!(steps < 100, "{replicas} {surge} {unavailable}: {sets:?}");
            for action in decide(&deployment, &sets).actions {
                match action {
                    Action::Create { replicas, .. } => sets.push(set("new", 1, replicas, 0, noted)),
                    Action::Update {
                        name,
                        replicas: Some((_, to)),
                        ..
                    } => {
                        let set = sets.iter_mut().find(|s| s.name == name).unwrap();
                        set.replicas = to;
                        set.status.available_replicas = set.status.available_replicas.min(to);
                    }
                    _ => {}
                }
            }
            let total: i32 = sets.iter().map(|s| s.replicas).sum();
            let available: i32 = sets.iter().map(|s| s.status.available_replicas).sum();
            assert!(total <= replicas + surge, "too many: {sets:?}");
            assert!(available >= replicas - unavailable, "too few: {sets:?}");
            // One more pod becomes available.
            if let Some(set) = sets.iter_mut().find(|s| s.status.available_replicas < s.replicas) {
                set.status.available_replicas += 1;
            }
            for set in &mut sets {
                set.status.replicas = set.replicas;
            }
        }
    }
}

#[test]
fn a_resize_in_the_middle_of_a_rollout_is_spread_in_proportion() {
    // Upstream's example: 10 pods, surge 3, 8 old and 5 new; scaled to 15.
    let sets = [set("old", 9, 8, 8, (10, 13)), set("new", 1, 5, 5, (10, 13))];
    assert_eq!(
        sizes(&decide(&deployment(15, json!(3), json!(2)), &sets)),
        ["new=7", "old=11"]
    );
    assert_eq!(
        sizes(&decide(&deployment(5, json!(3), json!(2)), &sets)),
        ["new=3", "old=5"]
    );
    assert_eq!(
        sizes(&decide(&deployment(0, json!(3), json!(2)), &sets)),
        ["new=0", "old=0"]
    );
    // A single set takes it all.
    assert_eq!(
        sizes(&decide(
            &deployment(4, json!(3), json!(2)),
            &[set("new", 1, 10, 10, (10, 13))]
        )),
        ["new=4"]
    );
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut deployment = deployment(10, json!(3), json!(2));
    deployment.spec.paused = true;
    let plan = decide(&deployment, &[set("old", 9, 10, 10, (10, 13))]);
    assert_eq!(sizes(&plan), Vec::<String>::new());
    assert!(
        plan.status
            .conditions
            .iter()
            .any(|c| c.reason == "DeploymentPaused" && c.status == "Unknown")
    );
    deployment.spec.replicas = Some(4);
    assert_eq!(
        sizes(&decide(&deployment, &[set("old", 9, 10, 10, (10, 13))])),
        ["old=4"]
    );
}

#[test]
fn recreate_waits_for_the_last_old_pod() {
    let mut deployment = deployment(3, json!(null), json!(null));
    deployment.spec.strategy = serde_json::from_value(json!({"type": "Recreate"})).unwrap();
    let old = |replicas, alive| set("old", 9, replicas, alive, (3, 3));
    assert_eq!(sizes(&decide(&deployment, &[old(3, 3)])), ["old=0"]);
    let mut gone = old(0, 0);
    let waiting = plan(
        deployment.clone(),
        vec![gone.clone()],
        |uid| uid.as_str() == "old",
        now(),
    );
    assert_eq!(sizes(&waiting), Vec::<String>::new());
    gone.status.replicas = 1;
    assert_eq!(sizes(&decide(&deployment, &[gone])), Vec::<String>::new());
    assert_eq!(sizes(&decide(&deployment, &[old(0, 0)])), ["+new=3"]);
}

#[test]
fn rolling_back_reuses_the_set_and_gives_it_the_next_revision() {
    let sets = [set("new", 9, 0, 0, (3, 4)), set("bad", 1, 3, 3, (3, 4))];
    let plan = decide(&deployment(3, json!(1), json!(1)), &sets);
    let Action::Update {
        name,
        replicas: Some((0, 1)),
        annotations,
        ..
    } = &plan.actions[0]
    else {
        panic!("{plan:?}")
    };
    assert_eq!(name, "web-new");
    assert_eq!(annotations["deployment.kubernetes.io/revision"], "100");
    assert_eq!(annotations["deployment.kubernetes.io/revision-history"], "91");
    assert_eq!(plan.revision.as_deref(), Some("100"));
}

#[test]
fn history_beyond_the_limit_is_removed_once_complete() {
    let mut deployment = deployment(2, json!(1), json!(1));
    deployment.spec.revision_history_limit = Some(1);
    let mut sets: Vec<Set> = (2..6).map(|age| set(&format!("r{age}"), age, 0, 0, (2, 3))).collect();
    sets[3].status.replicas = 1; // the oldest still has a pod
    sets.push(set("new", 1, 2, 2, (2, 3)));
    assert_eq!(
        sizes(&decide(&deployment, &sets)),
        Vec::<String>::new(),
        "not complete yet"
    );
    deployment.status = decide(&deployment, &sets).status;
    sets[3].status.replicas = 0;
    deployment.status = decide(&deployment, &sets).status;
    assert_eq!(sizes(&decide(&deployment, &sets)), ["-r5", "-r4", "-r3"]);
    sets[3].status.replicas = 1;
    assert_eq!(
        sizes(&decide(&deployment, &sets)),
        ["-r4", "-r3"],
        "sets with pods are kept"
    );
}

#[test]
fn progress_is_told_and_its_lack_after_the_deadline() {
    let progressing = |plan: &Plan| {
        plan.status
            .conditions
            .iter()
            .find(|c| c.type_ == "Progressing")
            .cloned()
            .unwrap()
    };
    let mut deployment = deployment(2, json!(1), json!(0));
    let mut new = set("new", 1, 2, 0, (2, 3));
    let first = decide(&deployment, &[new.clone()]);
    assert_eq!(progressing(&first).reason, "ReplicaSetUpdated");
    deployment.status = first.status;
    let later = plan(
        deployment.clone(),
        vec![new.clone()],
        |_| false,
        now().plus_seconds(601),
    );
    assert_eq!(
        (progressing(&later).reason.as_str(), later.again),
        ("ProgressDeadlineExceeded", None)
    );
    assert_eq!(
        progressing(&later).message,
        "ReplicaSet \"web-new\" has timed out progressing."
    );
    new.status.available_replicas = 2;
    new.status.ready_replicas = 2;
    let done = decide(&deployment, &[new]);
    assert_eq!(progressing(&done).reason, "NewReplicaSetAvailable");
    assert_eq!(done.again, None);
}

#[test]
fn a_settled_deployment_plans_nothing() {
    let mut deployment = deployment(2, json!(1), json!(0));
    let sets = [set("new", 1, 2, 2, (2, 3))];
    let first = decide(&deployment, &sets);
    deployment.status = first.status.clone();
    deployment
        .metadata
        .annotations
        .insert("deployment.kubernetes.io/revision".into(), "99".into());
    let second = decide(&deployment, &sets);
    assert!(second.actions.is_empty(), "{second:?}");
    assert_eq!((second.status, second.revision), (first.status, None));
}
