//! Quotas: what is used is taken at once, never twice, and given back.

#![allow(clippy::unwrap_used)]

mod support;

use futures::future::join_all;
use serde_json::{Value, json};
use strata_client::{Patch, resources::*};
use support::Cluster;

fn quota(hard: Value) -> Value {
    json!({"metadata": {"name": "q"}, "spec": {"hard": hard}})
}

fn pod(name: &str, cpu: &str) -> Value {
    let resources = json!({"requests": {"cpu": cpu}, "limits": {"cpu": cpu}});
    json!({"metadata": {"name": name}, "spec": {"terminationGracePeriodSeconds": 0,
        "containers": [{"name": "c", "image": "i", "resources": resources}]}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_creates_never_exceed_a_quota_and_deletions_give_back() {
    let cluster = Cluster::start().await;
    cluster.namespace("n").await;
    let client = &cluster.client;
    let hard = json!({"count/configmaps": "6", "pods": "2", "requests.cpu": "1", "services": "0", "count/deployments.apps": "1"});
    client.create(RESOURCE_QUOTAS, "n", &quota(hard.clone())).await.unwrap();
    let settled = |q: &Value| q["status"]["used"]["pods"] == "0" && q["status"]["hard"] == hard;
    let q = cluster.until_one(RESOURCE_QUOTAS, "n", "q", settled).await;
    let there: usize = q["status"]["used"]["count/configmaps"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let made = join_all((0..16).map(|i| async move {
        let map = json!({"metadata": {"name": format!("m{i}")}});
        client.create(CONFIG_MAPS, "n", &map).await
    }))
    .await;
    let (fine, refused): (Vec<_>, Vec<_>) = made.into_iter().partition(Result::is_ok);
    assert_eq!(fine.len() + there, 6);
    let why = refused[0].as_ref().unwrap_err().to_string();
    assert!(
        why.contains("is forbidden: exceeded quota: q, requested: count/configmaps=1, used: count/configmaps=6, limited: count/configmaps=6"),
        "{why}"
    );

    client.create(PODS, "n", &pod("a", "600m")).await.unwrap();
    let why = client
        .create(PODS, "n", &pod("b", "600m"))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        why.contains("pods \"b\" is forbidden: exceeded quota: q, requested: requests.cpu=600m, used: requests.cpu=600m, limited: requests.cpu=1"),
        "{why}"
    );
    let bare = json!({"metadata": {"name": "c"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let why = client.create(PODS, "n", &bare).await.unwrap_err().to_string();
    assert!(
        why.contains("failed quota: q: must specify requests.cpu for: c"),
        "{why}"
    );

    client.delete(PODS, "n", "a", Default::default()).await.unwrap();
    client
        .delete(CONFIG_MAPS, "n", fine[0].as_ref().unwrap().name(), Default::default())
        .await
        .unwrap();
    let back = |q: &Value| {
        let used = &q["status"]["used"];
        used["pods"] == "0" && used["requests.cpu"] == "0" && used["count/configmaps"] == "5"
    };
    cluster.until_one(RESOURCE_QUOTAS, "n", "q", back).await;
    client.create(PODS, "n", &pod("b", "600m")).await.unwrap();

    let wider = Patch::Merge(json!({"spec": {"hard": {"pods": "9", "secrets": "3"}}}));
    client.patch(RESOURCE_QUOTAS, "n", "q", None, wider).await.unwrap();
    let seen = |q: &Value| q["status"]["hard"]["pods"] == "9" && q["status"]["used"]["secrets"] == "0";
    let q = cluster.until_one(RESOURCE_QUOTAS, "n", "q", seen).await;
    assert_eq!(q["status"]["used"]["pods"], "1");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limit_ranges_fill_in_and_bound() {
    let cluster = Cluster::start().await;
    cluster.namespace("n").await;
    let client = &cluster.client;
    let range = json!({"metadata": {"name": "r"}, "spec": {"limits": [
        {"type": "Container", "default": {"cpu": "300m"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "500m"}}]}});
    client.create(LIMIT_RANGES, "n", &range).await.unwrap();
    let bare = json!({"metadata": {"name": "bare"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let made = client.create(PODS, "n", &bare).await.unwrap().to_value().unwrap();
    assert_eq!(
        made["spec"]["containers"][0]["resources"],
        json!({"limits": {"cpu": "300m"}, "requests": {"cpu": "100m"}})
    );
    assert_eq!(
        made["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
    );
    let why = client
        .create(PODS, "n", &pod("big", "1"))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        why.contains("maximum cpu usage per Container is 500m, but limit is 1"),
        "{why}"
    );
    cluster.stop().await;
}
