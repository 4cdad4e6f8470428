//! Daemon sets and stateful sets, from the manifest to the pods.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use strata_client::{DeleteOptions, Patch, Resource, resources::*};
use support::{Cluster, has, template, text};

fn pending(pod: &Value) -> bool {
    pod["status"]["phase"] == "Pending" && pod["metadata"]["deletionTimestamp"].is_null()
}

/// Plays the node agent until an object is as it is wanted.
async fn run_until(cluster: &Cluster, resource: Resource, name: &str, is: impl Fn(&Value) -> bool) -> Value {
    let mut next_ip = 1;
    loop {
        let object = cluster.client.get(resource, "shop", name).await.unwrap();
        let object = object.to_value().unwrap();
        if is(&object) {
            return object;
        }
        let seen = object["metadata"]["resourceVersion"].clone();
        tokio::select! {
            pods = cluster.until(PODS, "shop", "a pending pod", |all| all.iter().any(pending)) => {
                for pod in pods.iter().filter(|pod| pending(pod)) {
                    next_ip += 1;
                    cluster.run_pod(pod, &format!("10.9.0.{next_ip}")).await;
                }
            }
            _ = cluster.until_one(resource, "shop", name, |o| o["metadata"]["resourceVersion"] != seen) => {}
        }
    }
}

fn names(pods: &[Value]) -> Vec<String> {
    let mut names: Vec<String> = pods.iter().map(|pod| text(&pod["metadata"]["name"])).collect();
    names.sort();
    names
}

async fn history(cluster: &Cluster, count: usize) -> Vec<i64> {
    let all = cluster
        .until(CONTROLLER_REVISIONS, "shop", "revisions", |all| all.len() == count)
        .await;
    let mut numbers: Vec<i64> = all.iter().map(|r| r["revision"].as_i64().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

fn image(name: &str) -> Patch {
    Patch::Merge(json!({"spec": {"template": template("web", name)}}))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_set_has_a_pod_on_every_node() {
    let cluster = Cluster::start().await;
    cluster.namespace("shop").await;
    for number in 1..=2 {
        cluster
            .node(&format!("n{number}"), &format!("192.168.7.{number}"))
            .await;
    }
    let set = json!({"metadata": {"name": "web"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template("web", "web:1")}});
    let client = &cluster.client;
    client.create(DAEMON_SETS, "shop", &set).await.unwrap();
    let ready = |wanted: i64| {
        move |set: &Value| {
            let status = &set["status"];
            let counts = ["desiredNumberScheduled", "numberAvailable", "updatedNumberScheduled"];
            counts.iter().all(|name| status[name].as_i64().unwrap_or(0) == wanted)
                && status["observedGeneration"] == set["metadata"]["generation"]
        }
    };
    run_until(&cluster, DAEMON_SETS, "web", ready(2)).await;
    cluster.node("n3", "192.168.7.3").await;
    run_until(&cluster, DAEMON_SETS, "web", ready(3)).await;

    client
        .patch(DAEMON_SETS, "shop", "web", None, image("web:2"))
        .await
        .unwrap();
    run_until(&cluster, DAEMON_SETS, "web", ready(3)).await;
    let pods = cluster.until(PODS, "shop", "three pods", |all| all.len() == 3).await;
    assert!(pods.iter().all(|pod| pod["spec"]["containers"][0]["image"] == "web:2"));
    assert_eq!(history(&cluster, 2).await, [1, 2]);

    // Gone back to: the first template is the newest then.
    client
        .patch(DAEMON_SETS, "shop", "web", None, image("web:1"))
        .await
        .unwrap();
    run_until(&cluster, DAEMON_SETS, "web", ready(3)).await;
    assert_eq!(history(&cluster, 2).await, [2, 3]);

    client.delete(NODES, "", "n3", DeleteOptions::default()).await.unwrap();
    run_until(&cluster, DAEMON_SETS, "web", ready(2)).await;
    client
        .delete(DAEMON_SETS, "shop", "web", DeleteOptions::default())
        .await
        .unwrap();
    for resource in [PODS, CONTROLLER_REVISIONS] {
        cluster
            .until(resource, "shop", "nothing left", <[Value]>::is_empty)
            .await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stateful_set_keeps_names_order_and_claims() {
    let cluster = Cluster::start().await;
    cluster.namespace("shop").await;
    let client = &cluster.client;
    let claim = json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}}}});
    let set = json!({"metadata": {"name": "web"}, "spec": {"replicas": 2, "serviceName": "web",
        "selector": {"matchLabels": {"app": "web"}}, "template": template("web", "web:1"),
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Delete"},
        "volumeClaimTemplates": [claim]}});
    client.create(STATEFUL_SETS, "shop", &set).await.unwrap();
    let first = cluster
        .until(PODS, "shop", "the first pod", |all| !all.is_empty())
        .await;
    assert_eq!(names(&first), ["web-0"], "the second waits for the first");
    let ready = |wanted: i64| {
        move |set: &Value| {
            let status = &set["status"];
            let counts = ["replicas", "availableReplicas", "updatedReplicas"];
            counts.iter().all(|name| status[name].as_i64().unwrap_or(0) == wanted)
                && status["currentRevision"] == status["updateRevision"]
                && status["observedGeneration"] == set["metadata"]["generation"]
        }
    };
    run_until(&cluster, STATEFUL_SETS, "web", ready(2)).await;
    let pods = cluster.until(PODS, "shop", "two pods", |all| all.len() == 2).await;
    assert_eq!(names(&pods), ["web-0", "web-1"]);
    let one = pods.iter().find(|pod| pod["metadata"]["name"] == "web-1").unwrap();
    assert_eq!(
        (&one["spec"]["hostname"], &one["spec"]["subdomain"]),
        (&json!("web-1"), &json!("web"))
    );
    assert_eq!(one["metadata"]["labels"]["apps.kubernetes.io/pod-index"], "1");
    assert_eq!(
        one["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"],
        "data-web-1"
    );
    let owned_by = |kind: &'static str| move |claim: &Value| claim["metadata"]["ownerReferences"][0]["kind"] == kind;
    cluster
        .until_one(PERSISTENT_VOLUME_CLAIMS, "shop", "data-web-1", owned_by("StatefulSet"))
        .await;

    client
        .patch(STATEFUL_SETS, "shop", "web", None, image("web:2"))
        .await
        .unwrap();
    run_until(&cluster, STATEFUL_SETS, "web", ready(2)).await;
    let pods = cluster.until(PODS, "shop", "two pods", |all| all.len() == 2).await;
    assert!(pods.iter().all(|pod| pod["spec"]["containers"][0]["image"] == "web:2"));
    assert_eq!(history(&cluster, 2).await, [1, 2]);

    // The claim goes with the pod that is scaled away.
    let scale = Patch::Merge(json!({"spec": {"replicas": 1}}));
    client.patch(STATEFUL_SETS, "shop", "web", None, scale).await.unwrap();
    run_until(&cluster, STATEFUL_SETS, "web", ready(1)).await;
    cluster
        .until(PERSISTENT_VOLUME_CLAIMS, "shop", "one claim", |all| {
            all.len() == 1 && has(all, "data-web-0")
        })
        .await;
    client
        .delete(STATEFUL_SETS, "shop", "web", DeleteOptions::default())
        .await
        .unwrap();
    for resource in [PODS, CONTROLLER_REVISIONS, PERSISTENT_VOLUME_CLAIMS] {
        cluster
            .until(resource, "shop", "nothing left", <[Value]>::is_empty)
            .await;
    }
    cluster.stop().await;
}
