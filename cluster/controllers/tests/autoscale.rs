//! Horizontal pod autoscalers against the real API: what bounds demand, and what is said where no metric can be had.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use strata_client::{Patch, resources::*};
use support::{Cluster, deployment};

fn condition<'a>(scaler: &'a Value, type_: &str) -> &'a Value {
    let conditions = scaler["status"]["conditions"].as_array();
    conditions
        .and_then(|all| all.iter().find(|c| c["type"] == type_))
        .unwrap_or(&Value::Null)
}

fn scaler(name: &str, min: i32, max: i32) -> Value {
    let metric = json!({"type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}});
    json!({"metadata": {"name": name}, "spec": {"minReplicas": min, "maxReplicas": max, "metrics": [metric],
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bounds_are_kept_without_metrics_and_their_lack_is_told() {
    let cluster = Cluster::start().await;
    cluster.namespace("shop").await;
    let client = &cluster.client;
    client
        .create(DEPLOYMENTS, "shop", &deployment("web", 1, "web:1"))
        .await
        .unwrap();
    client
        .create(HORIZONTAL_POD_AUTOSCALERS, "shop", &scaler("web", 3, 5))
        .await
        .unwrap();
    cluster
        .until_one(DEPLOYMENTS, "shop", "web", |d| d["spec"]["replicas"] == 3)
        .await;
    let grown = cluster
        .until_one(HORIZONTAL_POD_AUTOSCALERS, "shop", "web", |s| {
            condition(s, "AbleToScale")["reason"] == "SucceededRescale"
        })
        .await;
    assert_eq!(grown["status"]["desiredReplicas"], 3);
    assert_eq!(grown["status"]["currentReplicas"], 1);
    assert!(grown["status"]["lastScaleTime"].is_string());

    let lower = Patch::Merge(json!({"spec": {"minReplicas": 1, "maxReplicas": 2}}));
    client
        .patch(HORIZONTAL_POD_AUTOSCALERS, "shop", "web", None, lower)
        .await
        .unwrap();
    cluster
        .until_one(DEPLOYMENTS, "shop", "web", |d| d["spec"]["replicas"] == 2)
        .await;

    // Within its bounds the metrics count, and nobody has any of pods that run nowhere.
    let wider = Patch::Merge(json!({"spec": {"maxReplicas": 4}}));
    client
        .patch(HORIZONTAL_POD_AUTOSCALERS, "shop", "web", None, wider)
        .await
        .unwrap();
    let blind = cluster
        .until_one(HORIZONTAL_POD_AUTOSCALERS, "shop", "web", |s| {
            condition(s, "ScalingActive")["status"] == "False"
        })
        .await;
    assert_eq!(condition(&blind, "ScalingActive")["reason"], "FailedGetResourceMetric");
    assert_eq!(condition(&blind, "AbleToScale")["reason"], "SucceededGetScale");
    let told = |all: &[Value]| {
        let reasons = [
            "SuccessfulRescale",
            "FailedGetResourceMetric",
            "FailedComputeMetricsReplicas",
        ];
        reasons
            .iter()
            .all(|reason| all.iter().any(|event| event["reason"] == *reason))
    };
    cluster.until(EVENTS, "shop", "the events", told).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_scaled_is_told() {
    let cluster = Cluster::start().await;
    cluster.namespace("shop").await;
    let client = &cluster.client;
    client
        .create(HORIZONTAL_POD_AUTOSCALERS, "shop", &scaler("lost", 1, 5))
        .await
        .unwrap();
    let lost = cluster
        .until_one(HORIZONTAL_POD_AUTOSCALERS, "shop", "lost", |s| {
            condition(s, "AbleToScale")["status"] == "False"
        })
        .await;
    assert_eq!(condition(&lost, "AbleToScale")["reason"], "FailedGetScale");
    let message = condition(&lost, "AbleToScale")["message"].as_str().unwrap().to_owned();
    assert!(message.ends_with("deployments.apps \"web\" not found"), "{message}");
    cluster.stop().await;
}
