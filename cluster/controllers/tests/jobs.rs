//! Jobs and cron jobs, from the manifest to their ends.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use strata_client::{DeleteOptions, Patch, Propagation, resources::*};
use strata_meta::Time;
use strata_task::TestClock;
use support::{Cluster, text};

const FINALIZER: &str = "batch.kubernetes.io/job-tracking";

fn job(name: &str, spec: Value) -> Value {
    let mut spec = spec;
    spec["template"] = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}]}});
    json!({"metadata": {"name": name}, "spec": spec})
}

fn is_pending(pod: &Value) -> bool {
    pod["status"]["phase"] == "Pending" && pod["metadata"]["deletionTimestamp"].is_null()
}

fn index(pod: &Value) -> String {
    text(&pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"])
}

/// What a node agent would tell of a pod that has ended.
async fn end_pod(cluster: &Cluster, pod: &Value, phase: &str, code: i32) {
    let (namespace, name) = (text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["name"]));
    let ended = json!({"terminated": {"exitCode": code, "finishedAt": Time::now()}});
    let container =
        json!({"name": "c", "image": "x", "imageID": "x", "ready": false, "restartCount": 0, "state": ended});
    let patch = Patch::Strategic(json!({"status": {"phase": phase, "containerStatuses": [container]}}));
    cluster
        .client
        .patch(PODS, &namespace, &name, Some("status"), patch)
        .await
        .unwrap();
}

/// Ends pods as `code` wants until the job has a condition; its status then.
async fn run(cluster: &Cluster, name: &str, condition: &str, code: impl Fn(&Value) -> i32) -> Value {
    let holds = |job: &Value| {
        let conditions = job["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions
            .iter()
            .any(|c| c["type"] == condition && c["status"] == "True")
    };
    loop {
        let finished = cluster.until_one(JOBS, "shop", name, holds);
        tokio::select! {
            job = finished => return job["status"].clone(),
            pods = cluster.until(PODS, "shop", "a pending pod", |all| all.iter().any(is_pending)) => {
                for pod in pods.iter().filter(|pod| is_pending(pod)) {
                    let code = code(pod);
                    end_pod(cluster, pod, if code == 0 { "Succeeded" } else { "Failed" }, code).await;
                }
                cluster.until(PODS, "shop", "ended pods", |all| {
                    pods.iter().filter(|pod| is_pending(pod)).all(|was| {
                        let same = |pod: &&Value| pod["metadata"]["uid"] == was["metadata"]["uid"];
                        all.iter().find(same).is_none_or(|pod| !is_pending(pod))
                    })
                }).await;
            }
        }
    }
}

fn conditions(status: &Value) -> Vec<String> {
    let all = status["conditions"].as_array().cloned().unwrap_or_default();
    all.iter().map(|c| text(&c["type"])).collect()
}

fn no_finalizers(all: &[Value]) -> bool {
    all.iter().all(|pod| pod["metadata"]["finalizers"].is_null())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_completion_and_every_index_is_counted_once() {
    let cluster = Cluster::start().await;
    cluster.namespace("shop").await;
    let client = &cluster.client;
    let plain = job("plain", json!({"parallelism": 4, "completions": 10}));
    client.create(JOBS, "shop", &plain).await.unwrap();
    let status = run(&cluster, "plain", "Complete", |_| 0).await;
    assert_eq!((&status["succeeded"], &status["failed"]), (&json!(10), &Value::Null));
    assert_eq!(conditions(&status), ["SuccessCriteriaMet", "Complete"]);
    assert!(status["completionTime"].is_string() && status["uncountedTerminatedPods"] == json!({}));
    cluster
        .until(PODS, "shop", "ten free pods", |all| {
            all.len() == 10 && no_finalizers(all)
        })
        .await;
    client
        .delete(
            JOBS,
            "shop",
            "plain",
            DeleteOptions {
                propagation: Some(Propagation::Background),
                ..Default::default()
            },
        )
        .await
        .unwrap();
    cluster.until(PODS, "shop", "nothing left", <[Value]>::is_empty).await;

    let indexed = json!({"parallelism": 3, "completions": 5, "completionMode": "Indexed",
        "backoffLimitPerIndex": 0, "maxFailedIndexes": 2});
    client.create(JOBS, "shop", &job("indexed", indexed)).await.unwrap();
    let pods = cluster.until(PODS, "shop", "three pods", |all| all.len() == 3).await;
    let one = pods.iter().find(|pod| index(pod) == "1").unwrap();
    assert!(text(&one["metadata"]["name"]).starts_with("indexed-1-"));
    assert_eq!(one["spec"]["hostname"], "indexed-1");
    assert_eq!(
        one["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"],
        "1"
    );
    assert_eq!(one["metadata"]["finalizers"], json!([FINALIZER]));
    assert_eq!(one["spec"]["containers"][0]["env"][0]["name"], "JOB_COMPLETION_INDEX");
    let status = run(&cluster, "indexed", "Failed", |pod| i32::from(index(pod) == "1")).await;
    assert_eq!(
        (&status["completedIndexes"], &status["failedIndexes"]),
        (&json!("0,2-4"), &json!("1"))
    );
    assert_eq!((&status["succeeded"], &status["failed"]), (&json!(4), &json!(1)));
    assert_eq!(conditions(&status), ["FailureTarget", "Failed"]);
    assert_eq!(status["conditions"][1]["reason"], "FailedIndexes");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_suspended_resumed_let_go_and_expires() {
    let cluster = Cluster::start().await;
    cluster.namespace("shop").await;
    let client = &cluster.client;
    let waiting = job("late", json!({"suspend": true, "ttlSecondsAfterFinished": 0}));
    client.create(JOBS, "shop", &waiting).await.unwrap();
    let is_suspended = |status: &'static str| {
        move |job: &Value| {
            let condition = &job["status"]["conditions"][0];
            condition["type"] == "Suspended" && condition["status"] == status
        }
    };
    let late = cluster.until_one(JOBS, "shop", "late", is_suspended("True")).await;
    assert!(late["status"]["startTime"].is_null());
    let resume = |suspend: bool| Patch::Merge(json!({"spec": {"suspend": suspend}}));
    client.patch(JOBS, "shop", "late", None, resume(false)).await.unwrap();
    cluster.until_one(JOBS, "shop", "late", is_suspended("False")).await;
    cluster
        .until(PODS, "shop", "a pod", |all| all.iter().any(is_pending))
        .await;
    client.patch(JOBS, "shop", "late", None, resume(true)).await.unwrap();
    cluster.until(PODS, "shop", "no pod", <[Value]>::is_empty).await;
    client.patch(JOBS, "shop", "late", None, resume(false)).await.unwrap();
    let pods = cluster
        .until(PODS, "shop", "a pod", |all| all.iter().any(is_pending))
        .await;
    let late = cluster
        .until_one(JOBS, "shop", "late", |job| job["status"]["startTime"].is_string())
        .await;
    assert!(
        late["status"]["failed"].is_null(),
        "deleted pods of a suspended job have not failed"
    );
    end_pod(&cluster, &pods[0], "Succeeded", 0).await;
    cluster
        .until(JOBS, "shop", "the job expires", <[Value]>::is_empty)
        .await;
    cluster.until(PODS, "shop", "its pods go", <[Value]>::is_empty).await;

    // Pods that are left over are held by nobody.
    client.create(JOBS, "shop", &job("left", json!({}))).await.unwrap();
    cluster
        .until(PODS, "shop", "a pod", |all| all.iter().any(is_pending))
        .await;
    let orphan = DeleteOptions {
        propagation: Some(Propagation::Orphan),
        ..Default::default()
    };
    client.delete(JOBS, "shop", "left", orphan).await.unwrap();
    let is_free = |all: &[Value]| no_finalizers(all) && all[0]["metadata"]["ownerReferences"].is_null();
    cluster
        .until(PODS, "shop", "a free pod", |all| all.len() == 1 && is_free(all))
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cron_job_makes_jobs_in_its_zone_and_keeps_few_of_them() {
    let clock = Arc::new(TestClock::new(SystemTime::now()));
    let ticking = clock.clone();
    let cluster = Cluster::start_with(move |options| options.clock = ticking).await;
    cluster.namespace("shop").await;
    let client = &cluster.client;
    let template = job("", json!({}))["spec"].clone();
    let cron = json!({"metadata": {"name": "tick"}, "spec": {"schedule": "* * * * *", "timeZone": "Asia/Tokyo",
        "concurrencyPolicy": "Replace", "successfulJobsHistoryLimit": 1,
        "jobTemplate": {"metadata": {"labels": {"of": "tick"}}, "spec": template}}});
    client.create(CRON_JOBS, "shop", &cron).await.unwrap();
    cluster.until_one(CRON_JOBS, "shop", "tick", |_| true).await;
    let mut before = 0;
    for round in 1..=3 {
        clock.advance(Duration::from_secs(60));
        // The timer waits by another clock; a change looks at once.
        let touch = Patch::Merge(json!({"metadata": {"labels": {"round": round.to_string()}}}));
        client.patch(CRON_JOBS, "shop", "tick", None, touch).await.unwrap();
        let scheduled =
            |cron: &Value| Time::parse(&text(&cron["status"]["lastScheduleTime"])).map_or(0, |t| t.as_second());
        let cron = cluster
            .until_one(CRON_JOBS, "shop", "tick", |cron| {
                scheduled(cron) > before
                    && cron["status"]["active"]
                        .as_array()
                        .is_some_and(|active| active.len() == 1)
            })
            .await;
        before = scheduled(&cron);
        let name = format!("tick-{}", before / 60);
        assert_eq!(
            cron["status"]["active"][0]["name"],
            json!(name),
            "the one before was replaced"
        );
        let made = client.get(JOBS, "shop", &name).await.unwrap().to_value().unwrap();
        let at = text(&made["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"]);
        assert!(
            at.ends_with("+09:00") && Time::parse(&at).unwrap().as_second() == before,
            "{at}"
        );
        assert_eq!(made["metadata"]["labels"]["of"], "tick");
        if round > 1 {
            run(&cluster, &name, "Complete", |_| 0).await;
            cluster
                .until_one(CRON_JOBS, "shop", "tick", |cron| cron["status"]["active"].is_null())
                .await;
        }
    }
    let kept = cluster.until(JOBS, "shop", "one job", |all| all.len() == 1).await;
    assert_eq!(kept[0]["metadata"]["name"], json!(format!("tick-{}", before / 60)));
    let cron = cluster
        .until_one(CRON_JOBS, "shop", "tick", |cron| {
            cron["status"]["lastSuccessfulTime"].is_string()
        })
        .await;
    assert_eq!(
        cron["status"]["lastSuccessfulTime"],
        kept[0]["status"]["completionTime"]
    );
    cluster.stop().await;
}
