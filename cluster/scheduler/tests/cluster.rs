//! The scheduler against the real API server.

#[allow(dead_code)]
mod support;

use serde_json::json;
use strata_client::{
    Patch,
    resources::{NODES, PODS},
};
use support::TestCluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_is_bound_and_says_where() {
    let cluster = TestCluster::start().await;
    cluster.node("n1", json!({})).await;
    cluster.pod("web", "100m", json!({})).await;
    assert_eq!(cluster.placed("web").await, "n1");
    cluster.condition("web", "True").await;
    assert_eq!(
        cluster.event("web", "Scheduled").await,
        "Successfully assigned default/web to n1"
    );
    cluster.scheduler.statistics();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_fits_nowhere_says_why_and_is_bound_once_it_does() {
    let cluster = TestCluster::start().await;
    let tainted = json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}});
    cluster
        .node("small", json!({"status": {"allocatable": {"cpu": "100m"}}}))
        .await;
    cluster.node("tainted", tainted).await;
    cluster.node("off", json!({"spec": {"unschedulable": true}})).await;
    cluster.pod("web", "1", json!({})).await;
    let condition = cluster.condition("web", "False").await;
    let why = "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable. \
               preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.";
    assert_eq!(
        (&condition["reason"], &condition["message"]),
        (&json!("Unschedulable"), &json!(why))
    );
    assert_eq!(cluster.event("web", "FailedScheduling").await, why);
    let untaint = Patch::Merge(json!({"spec": {"taints": null}}));
    cluster
        .admin
        .patch(NODES, "", "tainted", None, untaint)
        .await
        .expect("patch");
    assert_eq!(cluster.placed("web").await, "tainted");
    cluster.condition("web", "True").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_wait_for_nodes_for_gates_and_for_their_own_scheduler() {
    let cluster = TestCluster::start().await;
    cluster.pod("early", "100m", json!({})).await;
    assert_eq!(
        cluster.condition("early", "False").await["message"],
        "no nodes available to schedule pods"
    );
    cluster
        .pod("gated", "100m", json!({"schedulingGates": [{"name": "example.com/g"}]}))
        .await;
    cluster.pod("other", "100m", json!({"schedulerName": "mine"})).await;
    cluster.node("n1", json!({})).await;
    assert_eq!(cluster.placed("early").await, "n1");
    cluster.pod("late", "100m", json!({})).await;
    cluster.placed("late").await;
    for name in ["gated", "other"] {
        let pod = cluster.seen(name).expect("seen");
        assert!(pod["spec"].get("nodeName").is_none(), "{pod}");
    }
    let open = Patch::Merge(json!({"spec": {"schedulingGates": null}}));
    cluster
        .admin
        .patch(PODS, "default", "gated", None, open)
        .await
        .expect("patch");
    assert_eq!(cluster.placed("gated").await, "n1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_that_avoid_each_other_get_nodes_of_their_own() {
    let cluster = TestCluster::start().await;
    for name in ["n1", "n2", "n3"] {
        cluster.node(name, json!({})).await;
    }
    let alone = json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{
        "labelSelector": {}, "topologyKey": "kubernetes.io/hostname",
    }]}}});
    let mut nodes = Vec::new();
    for name in ["a", "b", "c"] {
        cluster.pod(name, "100m", alone.clone()).await;
        nodes.push(cluster.placed(name).await);
    }
    nodes.sort();
    assert_eq!(nodes, ["n1", "n2", "n3"]);
    cluster.pod("d", "100m", alone).await;
    let why = cluster.condition("d", "False").await;
    let message = why["message"].as_str().expect("message");
    assert!(
        message.starts_with("0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules."),
        "{message}"
    );
    cluster.delete_pod("b").await;
    cluster.placed("d").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_more_important_pod_gets_the_room_of_a_less_important_one() {
    let cluster = TestCluster::start().await;
    cluster.node("n1", json!({})).await;
    cluster.pod("low", "2", json!({})).await;
    cluster.placed("low").await;
    let class = json!({"metadata": {"name": "vip"}, "value": 1000});
    cluster
        .create(strata_client::resources::PRIORITY_CLASSES, "", class)
        .await;
    cluster.pod("high", "2", json!({"priorityClassName": "vip"})).await;
    let leaving = |cluster: &TestCluster| {
        cluster
            .seen("low")
            .filter(|pod| pod["metadata"]["deletionTimestamp"].is_string())
    };
    let low = cluster.until("low is asked to go", leaving).await;
    let disrupted = low["status"]["conditions"].as_array().expect("conditions").iter();
    assert!(
        disrupted
            .into_iter()
            .any(|condition| condition["type"] == "DisruptionTarget"),
        "{low}"
    );
    assert!(cluster.event("low", "Preempted").await.ends_with("on node n1"));
    let nominated = |cluster: &TestCluster| {
        Some(
            cluster.seen("high")?["status"]["nominatedNodeName"]
                .as_str()?
                .to_owned(),
        )
    };
    assert_eq!(cluster.until("high has its room noted", nominated).await, "n1");
    cluster.delete_pod("low").await;
    assert_eq!(cluster.placed("high").await, "n1");
}
