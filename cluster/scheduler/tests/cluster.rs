//! The scheduler against the real API server.

#[allow(dead_code)]
mod support;

use serde_json::{Value, json};
use strata_client::{
    Patch,
    resources::{NODES, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, STORAGE_CLASSES},
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
    let why = "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable. \
               preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.";
    // The pod may be looked at before the last node is known.
    assert_eq!(cluster.event_with("web", "FailedScheduling", "0/3").await, why);
    let condition = cluster
        .eventually(PODS, "default", "web", |pod| {
            pod["status"]["conditions"][0]["message"] == why
        })
        .await;
    assert_eq!(condition["status"]["conditions"][0]["reason"], "Unschedulable");
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_waits_until_the_volume_chosen_for_its_node_is_bound() {
    let cluster = TestCluster::start().await;
    for name in ["n1", "n2"] {
        cluster.node(name, json!({})).await;
    }
    let class = json!({
        "metadata": {"name": "local"}, "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    });
    cluster.create(STORAGE_CLASSES, "", class).await;
    cluster
        .create(PERSISTENT_VOLUMES, "", local_volume("on-n2", "n2"))
        .await;
    let available = Patch::Merge(json!({"status": {"phase": "Available"}}));
    let client = &cluster.admin;
    let patched = client
        .patch(PERSISTENT_VOLUMES, "", "on-n2", Some("status"), available)
        .await;
    patched.expect("patch");
    let claim = json!({
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "local",
            "resources": {"requests": {"storage": "1Gi"}}},
    });
    cluster.create(PERSISTENT_VOLUME_CLAIMS, "default", claim).await;
    let mounts = json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]});
    cluster.pod("db", "100m", mounts).await;
    // What the scheduler asks of the controller of volumes.
    let chosen = cluster
        .eventually(PERSISTENT_VOLUMES, "", "on-n2", |volume| {
            volume["spec"]["claimRef"]["name"] == "data"
        })
        .await;
    assert_eq!(
        chosen["metadata"]["annotations"]["pv.kubernetes.io/bound-by-controller"],
        "yes"
    );
    let waiting = cluster.seen("db").expect("seen");
    assert!(waiting["spec"].get("nodeName").is_none(), "{waiting}");
    // What that controller answers.
    let bound = Patch::Merge(json!({
        "metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}, "spec": {"volumeName": "on-n2"},
    }));
    let answered = client
        .patch(PERSISTENT_VOLUME_CLAIMS, "default", "data", None, bound)
        .await;
    answered.expect("patch");
    assert_eq!(cluster.placed("db").await, "n2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_to_be_made_for_a_node_says_so_and_a_failure_places_the_pod_again() {
    let cluster = TestCluster::start().await;
    cluster.node("n1", json!({})).await;
    let class = json!({
        "metadata": {"name": "made"}, "provisioner": "example.com/made", "volumeBindingMode": "WaitForFirstConsumer",
    });
    cluster.create(STORAGE_CLASSES, "", class).await;
    let claim = json!({
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "made",
            "resources": {"requests": {"storage": "1Gi"}}},
    });
    cluster.create(PERSISTENT_VOLUME_CLAIMS, "default", claim).await;
    let mounts = json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]});
    cluster.pod("db", "100m", mounts).await;
    let selected = "volume.kubernetes.io/selected-node";
    let is_selected = |claim: &Value| claim["metadata"]["annotations"][selected] == "n1";
    cluster
        .eventually(PERSISTENT_VOLUME_CLAIMS, "default", "data", is_selected)
        .await;
    // A provisioner that cannot takes the annotation away.
    let refused = Patch::Merge(json!({"metadata": {"annotations": {selected: null}}}));
    let client = &cluster.admin;
    let patched = client
        .patch(PERSISTENT_VOLUME_CLAIMS, "default", "data", None, refused)
        .await;
    patched.expect("patch");
    let why = "provisioning failed for PVC \"data\"";
    cluster.event_with("db", "FailedScheduling", why).await;
    cluster
        .eventually(PERSISTENT_VOLUME_CLAIMS, "default", "data", is_selected)
        .await;
}

fn local_volume(name: &str, node: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "2Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "local",
            "local": {"path": "/data"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]},
            ]}]}},
        },
    })
}
