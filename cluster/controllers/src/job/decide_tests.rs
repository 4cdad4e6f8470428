//! Tables of what a job is to be.

use super::{
    backoff::Record,
    decide::{Assessment, Seen, Step, Wanted},
    pod::JobPod,
    track::{self, Release},
    types::{Job, Status},
};
use crate::{tracked::Tracked, views::Pod};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use strata_meta::{GroupVersionKind, Object, Revision, Time, Uid};

const START: &str = "2026-01-01T00:00:00Z";

fn job(spec: Value, status: Value) -> Job {
    let value = json!({"metadata": {"name": "j", "namespace": "n", "uid": "job"}, "spec": spec, "status": status});
    let mut job: Job = serde_json::from_value(value).unwrap();
    job.status.start_time = Some(Time::parse(START).unwrap());
    job
}

/// A pod by its name, phase and index; a name that ends in `-gone` is being deleted, one in `-counted` has no finalizer.
fn pod(name: &str, phase: &str, index: Option<u32>, more: Value) -> Arc<JobPod> {
    let mut metadata = json!({"name": name, "namespace": "n", "uid": name, "creationTimestamp": START,
        "finalizers": ["batch.kubernetes.io/job-tracking"], "annotations": {},
        "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "job", "controller": true}]});
    if name.ends_with("-counted") {
        metadata["finalizers"] = json!([]);
    }
    if name.ends_with("-gone") {
        metadata["deletionTimestamp"] = json!("2026-01-01T00:00:30Z");
    }
    if let Some(index) = index {
        metadata["annotations"]["batch.kubernetes.io/job-completion-index"] = json!(index.to_string());
    }
    if let Some(failures) = more.get("failures") {
        metadata["annotations"]["batch.kubernetes.io/job-index-failure-count"] = failures.clone();
    }
    let mut status = json!({"phase": phase, "conditions": more["conditions"].as_array().cloned().unwrap_or_default()});
    if let Some(code) = more.get("exit") {
        let finished = more.get("at").cloned().unwrap_or(json!("2026-01-01T00:00:10Z"));
        status["containerStatuses"] = json!([{"name": "c", "restartCount": more["restarts"].as_i64().unwrap_or(0),
            "state": {"terminated": {"exitCode": code, "finishedAt": finished}}}]);
    }
    let kind = Arc::new(GroupVersionKind::new("", "v1", "Pod"));
    let object = Object::from_value(kind, Revision(1), &json!({"metadata": metadata, "status": status})).unwrap();
    let pod: Pod = Tracked::decode(&Arc::new(object)).unwrap();
    Arc::new(JobPod::of(Arc::new(pod), &Uid::from("job")).unwrap())
}

fn plain(name: &str, phase: &str) -> Arc<JobPod> {
    pod(name, phase, None, json!({}))
}

fn seen<'a>(job: &'a Job, pods: &'a [Arc<JobPod>], second: u64) -> Seen<'a> {
    let start = u64::try_from(Time::parse(START).unwrap().as_second()).unwrap();
    Seen {
        job,
        pods,
        backoff: Record::default(),
        now: Duration::from_secs(start + second),
    }
}

/// The step in words.
fn step(job: &Job, pods: &[Arc<JobPod>], second: u64) -> String {
    let seen = seen(job, pods, second);
    let assessment = seen.assess();
    if let Some(end) = &assessment.ends {
        return format!("{} {}", end.type_, end.reason);
    }
    match seen.step(&assessment) {
        Step::Nothing if seen.is_complete(&assessment, assessment.active.len()) => "complete".into(),
        Step::Nothing => "nothing".into(),
        Step::Wait(left) => format!("wait {}", left.as_secs()),
        Step::Delete(pods) => {
            let names: Vec<&str> = pods.iter().map(|pod| pod.pod.name()).collect();
            format!("delete {}", names.join(" "))
        }
        Step::Create(Wanted::Any(count)) => format!("create {count}"),
        Step::Create(Wanted::Indexed(indexes)) => format!("create {indexes:?}"),
    }
}

#[test]
fn pods_are_made_up_to_parallelism_and_completions() {
    let running = |count: usize| -> Vec<_> { (0..count).map(|at| plain(&format!("p{at}"), "Running")).collect() };
    for (spec, pods, expected) in [
        (json!({}), running(0), "create 1"),
        (json!({"parallelism": 3, "completions": 5}), running(1), "create 2"),
        (json!({"parallelism": 3, "completions": 2}), running(0), "create 2"),
        (json!({"parallelism": 3, "completions": 5}), running(3), "nothing"),
        (json!({"parallelism": 0, "completions": 5}), running(0), "nothing"),
        (
            json!({"parallelism": 2, "completions": 5, "suspend": true}),
            running(2),
            "delete p0 p1",
        ),
        (json!({"parallelism": 2, "completions": 0}), running(0), "complete"),
    ] {
        assert_eq!(step(&job(spec.clone(), json!({})), &pods, 1), expected, "{spec}");
    }
    let done = [plain("a", "Succeeded"), plain("b", "Running")];
    let any = job(json!({"parallelism": 3}), json!({}));
    assert_eq!(step(&any, &done, 1), "nothing", "the others end by themselves");
    assert_eq!(step(&any, &done[..1], 1), "complete");
    let shrunk = job(json!({"parallelism": 1, "completions": 5}), json!({}));
    let pods = [plain("old", "Running"), plain("pending", "Pending")];
    assert_eq!(step(&shrunk, &pods, 1), "delete pending");
}

#[test]
fn failures_wait_and_end_the_job_beyond_the_limit() {
    let failed = |name: &str| pod(name, "Failed", None, json!({"exit": 1}));
    let spec = json!({"parallelism": 1, "completions": 1, "backoffLimit": 1});
    let once = job(spec.clone(), json!({}));
    assert_eq!(step(&once, &[failed("a")], 12), "wait 8");
    assert_eq!(step(&once, &[failed("a")], 20), "create 1");
    let twice = [failed("a"), failed("b")];
    assert_eq!(step(&once, &twice, 40), "FailureTarget BackoffLimitExceeded");
    let counted = job(spec, json!({"failed": 1, "uncountedTerminatedPods": {"failed": ["b"]}}));
    assert_eq!(step(&counted, &[failed("b")], 40), "FailureTarget BackoffLimitExceeded");
    let gone = [plain("a-gone", "Running")];
    let replacing = |policy: &str| job(json!({"podReplacementPolicy": policy, "completions": 1}), json!({}));
    assert_eq!(step(&replacing("TerminatingOrFailed"), &gone, 60), "create 1");
    assert_eq!(step(&replacing("Failed"), &gone, 60), "nothing");
    let deadline = job(json!({"activeDeadlineSeconds": 30, "completions": 1}), json!({}));
    assert_eq!(step(&deadline, &[plain("a", "Running")], 29), "nothing");
    assert_eq!(
        step(&deadline, &[plain("a", "Running")], 30),
        "FailureTarget DeadlineExceeded"
    );
    let restarting = job(
        json!({"completions": 1, "backoffLimit": 2, "template": {"spec": {"restartPolicy": "OnFailure"}}}),
        json!({}),
    );
    let restarted = |count: i32| [pod("a", "Running", None, json!({"exit": 1, "restarts": count}))];
    assert_eq!(step(&restarting, &restarted(1), 5), "nothing");
    assert_eq!(
        step(&restarting, &restarted(2), 5),
        "FailureTarget BackoffLimitExceeded"
    );
}

#[test]
fn each_index_has_its_own_pods_failures_and_end() {
    let at = |name: &str, phase: &str, index: u32| pod(name, phase, Some(index), json!({}));
    let spec = json!({"completionMode": "Indexed", "parallelism": 3, "completions": 4});
    let half = job(spec.clone(), json!({"completedIndexes": "0,2", "succeeded": 2}));
    assert_eq!(step(&half, &[], 1), "create [1, 3]");
    assert_eq!(step(&half, &[at("a", "Succeeded", 1)], 1), "create [3]");
    let twice = [
        at("a", "Running", 1),
        at("b", "Pending", 1),
        at("c", "Running", 3),
        at("d", "Running", 9),
    ];
    assert_eq!(step(&half, &twice, 1), "delete d b");

    let each = |most: Option<u32>| {
        let mut spec = spec.clone();
        (spec["backoffLimitPerIndex"], spec["backoffLimit"]) = (json!(1), json!(i32::MAX));
        spec["maxFailedIndexes"] = json!(most);
        job(spec, json!({"completedIndexes": "0,2", "succeeded": 2}))
    };
    let failed = |name: &str, index: u32, failures: &str| {
        pod(name, "Failed", Some(index), json!({"exit": 1, "failures": failures}))
    };
    assert_eq!(step(&each(None), &[failed("a", 1, "0")], 12), "create [3]");
    assert_eq!(
        step(&each(None), &[failed("a", 1, "0"), at("b", "Running", 3)], 12),
        "wait 8"
    );
    assert_eq!(
        step(&each(None), &[failed("a", 1, "1"), at("b", "Running", 3)], 12),
        "nothing"
    );
    let over = [failed("a", 1, "1"), failed("b", 3, "1")];
    assert_eq!(step(&each(None), &over, 12), "FailureTarget FailedIndexes");
    assert_eq!(
        step(&each(Some(0)), &over[..1], 12),
        "FailureTarget MaxFailedIndexesExceeded"
    );
}

#[test]
fn policies_decide_by_the_first_rule_that_matches() {
    let spec = |rules: Value| json!({"completions": 2, "parallelism": 1, "backoffLimit": 0, "podFailurePolicy": {"rules": rules}});
    let exit = |action: &str, operator: &str, codes: Value| json!({"action": action, "onExitCodes": {"operator": operator, "values": codes}});
    let disrupted = json!({"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]});
    let failed = |code: i32, conditions: Value| {
        [pod(
            "a",
            "Failed",
            None,
            json!({"exit": code, "conditions": conditions}),
        )]
    };
    let hit = json!([{"type": "DisruptionTarget", "status": "True"}]);
    for (rules, pods, expected) in [
        (
            json!([exit("FailJob", "In", json!([42]))]),
            failed(42, json!([])),
            "FailureTarget PodFailurePolicy",
        ),
        (
            json!([exit("FailJob", "In", json!([42]))]),
            failed(1, json!([])),
            "FailureTarget BackoffLimitExceeded",
        ),
        (
            json!([exit("Ignore", "NotIn", json!([42]))]),
            failed(1, json!([])),
            "wait 10",
        ),
        (
            json!([disrupted, exit("FailJob", "NotIn", json!([0]))]),
            failed(1, hit),
            "wait 10",
        ),
        (
            json!([exit("Count", "In", json!([1])), exit("FailJob", "In", json!([1]))]),
            failed(1, json!([])),
            "FailureTarget BackoffLimitExceeded",
        ),
    ] {
        assert_eq!(
            step(&job(spec(rules.clone()), json!({})), &pods, 10),
            expected,
            "{rules}"
        );
    }
    let pods = failed(42, json!([]));
    let fails = job(spec(json!([exit("FailJob", "In", json!([42]))])), json!({}));
    let end = seen(&fails, &pods, 10).assess().ends.unwrap();
    assert_eq!(
        end.message,
        "Container c for pod n/a failed with exit code 42 matching FailJob rule at index 0"
    );

    let success = |rules: Value| {
        job(
            json!({"completionMode": "Indexed", "parallelism": 1, "completions": 6, "successPolicy": {"rules": rules}}),
            json!({"completedIndexes": "0-2", "succeeded": 3}),
        )
    };
    let met = "SuccessCriteriaMet SuccessPolicy";
    for (rules, expected) in [
        (json!([{"succeededIndexes": "0,2"}]), met),
        (json!([{"succeededIndexes": "2-4"}]), "create [3]"),
        (json!([{"succeededIndexes": "2-4", "succeededCount": 1}]), met),
        (json!([{"succeededCount": 4}]), "create [3]"),
        (json!([{"succeededCount": 4}, {"succeededCount": 3}]), met),
    ] {
        assert_eq!(step(&success(rules.clone()), &[], 1), expected, "{rules}");
    }
}

/// Counts what ended; the status and what is to be released.
fn count(job: &Job, pods: &[Arc<JobPod>], complete: bool) -> (Status, Release, Assessment) {
    let seen = seen(job, pods, 20);
    let mut assessment = seen.assess();
    if complete {
        assessment.ends = Some(super::decide::completed(seen.second()));
    }
    let mut status = job.status.clone();
    let release = track::count(job, &mut assessment, pods, &mut status, seen.second());
    (status, release, assessment)
}

#[test]
fn a_pod_is_counted_once_whatever_was_written_before() {
    let pods = [
        plain("a", "Succeeded"),
        pod("b", "Failed", None, json!({"exit": 1})),
        plain("c", "Running"),
    ];
    let fresh = job(json!({"parallelism": 2, "completions": 3}), json!({}));
    let (status, release, _) = count(&fresh, &pods, false);
    let uncounted = status.uncounted_terminated_pods.clone().unwrap();
    assert_eq!(
        (uncounted.succeeded, uncounted.failed),
        (vec![Uid::from("a")], vec![Uid::from("b")])
    );
    assert_eq!((status.succeeded, status.failed, release.pods.len()), (0, 0, 2));

    // The process ended after that was written, and again after one finalizer went.
    let mut again = fresh;
    again.status = status;
    let pods = [plain("a-counted", "Succeeded"), pods[1].clone(), pods[2].clone()];
    let (mut status, release, _) = count(&again, &pods, false);
    assert_eq!((status.succeeded, status.failed, release.pods.len()), (1, 0, 1));
    track::settle(&mut status, &[&Uid::from("c")].into());
    assert_eq!((status.succeeded, status.failed), (1, 1));
    assert!(status.uncounted().failed.is_empty());
    assert!(!track::finish(&mut status, &release, Time::parse(START).unwrap()));
}

#[test]
fn the_final_condition_follows_the_interim_one_when_all_pods_are_counted() {
    let now = Time::parse(START).unwrap();
    let spec = json!({"completionMode": "Indexed", "parallelism": 1, "completions": 1});
    let (mut status, release, _) = count(
        &job(spec, json!({})),
        &[pod("a", "Succeeded", Some(0), json!({}))],
        true,
    );
    let types = |status: &Status| -> Vec<String> { status.conditions.iter().map(|c| c.type_.clone()).collect() };
    assert_eq!(types(&status), ["SuccessCriteriaMet"]);
    assert_eq!((status.succeeded, status.completed_indexes.as_str()), (1, "0"));
    status.terminating = Some(1);
    assert!(!track::finish(&mut status, &release, now), "while pods terminate");
    status.terminating = Some(0);
    assert!(track::finish(&mut status, &release, now));
    assert_eq!(types(&status), ["SuccessCriteriaMet", "Complete"]);
    assert!(status.completion_time.is_some());

    let failing = job(json!({"completions": 1, "backoffLimit": 0}), json!({}));
    let (mut status, release, _) = count(&failing, &[pod("a", "Failed", None, json!({"exit": 1}))], false);
    assert!(!track::finish(&mut status, &release, now), "while a pod is not counted");
    track::settle(&mut status, &Default::default());
    assert!(track::finish(&mut status, &release, now));
    assert_eq!(types(&status), ["FailureTarget", "Failed"]);
    assert_eq!((status.failed, status.completion_time), (1, None));
}
