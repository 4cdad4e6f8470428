//! Claims and persistent volumes, from the manifest to the binding and back.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use strata_client::{DeleteOptions, Patch, resources::*};
use support::{Cluster, has, text};

fn volume(name: &str, size: &str, class: &str, policy: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"],
        "storageClassName": class, "persistentVolumeReclaimPolicy": policy, "hostPath": {"path": "/srv/data"}}})
}

fn claim(name: &str, size: &str, class: Option<&str>) -> Value {
    json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": class,
        "resources": {"requests": {"storage": size}}}})
}

fn phase(wanted: &'static str) -> impl Fn(&Value) -> bool {
    move |object| object["status"]["phase"] == wanted
}

async fn delete_claim(cluster: &Cluster, name: &str) {
    let options = DeleteOptions::default();
    cluster
        .client
        .delete(PERSISTENT_VOLUME_CLAIMS, "shop", name, options)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_are_bound_to_volumes_and_volumes_outlive_them() {
    let cluster = Cluster::start().await;
    cluster.namespace("shop").await;
    let client = &cluster.client;
    for claim in [claim("small", "1Gi", Some("")), claim("large", "15Gi", Some(""))] {
        client.create(PERSISTENT_VOLUME_CLAIMS, "shop", &claim).await.unwrap();
    }
    for (name, size) in [("ten", "10Gi"), ("twenty", "20Gi")] {
        client
            .create(PERSISTENT_VOLUMES, "", &volume(name, size, "", "Retain"))
            .await
            .unwrap();
    }
    let large = cluster
        .until_one(PERSISTENT_VOLUME_CLAIMS, "shop", "large", phase("Bound"))
        .await;
    assert_eq!(large["spec"]["volumeName"], "twenty");
    assert_eq!(large["status"]["capacity"]["storage"], "20Gi");
    assert_eq!(
        large["metadata"]["annotations"]["pv.kubernetes.io/bind-completed"],
        "yes"
    );
    let small = cluster
        .until_one(PERSISTENT_VOLUME_CLAIMS, "shop", "small", phase("Bound"))
        .await;
    let ten = cluster.until_one(PERSISTENT_VOLUMES, "", "ten", phase("Bound")).await;
    assert_eq!(small["spec"]["volumeName"], "ten");
    assert_eq!(ten["spec"]["claimRef"]["uid"], small["metadata"]["uid"]);

    delete_claim(&cluster, "small").await;
    cluster
        .until_one(PERSISTENT_VOLUMES, "", "ten", phase("Released"))
        .await;
    // Given free by hand, it serves the next one that names it.
    let free = Patch::Merge(json!({"spec": {"claimRef": null}}));
    client.patch(PERSISTENT_VOLUMES, "", "ten", None, free).await.unwrap();
    cluster
        .until_one(PERSISTENT_VOLUMES, "", "ten", phase("Available"))
        .await;
    let mut named = claim("named", "5Gi", Some(""));
    named["spec"]["volumeName"] = json!("ten");
    client.create(PERSISTENT_VOLUME_CLAIMS, "shop", &named).await.unwrap();
    cluster
        .until_one(PERSISTENT_VOLUME_CLAIMS, "shop", "named", phase("Bound"))
        .await;

    // A claim whose volume is taken away has lost it.
    client
        .delete(PERSISTENT_VOLUMES, "", "twenty", DeleteOptions::default())
        .await
        .unwrap();
    let finalizers = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    client
        .patch(PERSISTENT_VOLUMES, "", "twenty", None, finalizers)
        .await
        .unwrap();
    cluster
        .until_one(PERSISTENT_VOLUME_CLAIMS, "shop", "large", phase("Lost"))
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn classes_say_who_makes_volumes_and_when() {
    let cluster = Cluster::start().await;
    cluster.namespace("shop").await;
    let client = &cluster.client;
    client
        .create(PERSISTENT_VOLUME_CLAIMS, "shop", &claim("early", "1Gi", None))
        .await
        .unwrap();
    let class = json!({"metadata": {"name": "made",
        "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "example.com/maker", "volumeBindingMode": "WaitForFirstConsumer"});
    client.create(STORAGE_CLASSES, "", &class).await.unwrap();
    cluster
        .until_one(PERSISTENT_VOLUME_CLAIMS, "shop", "early", |claim| {
            claim["spec"]["storageClassName"] == "made"
        })
        .await;
    let waits = |all: &[Value]| all.iter().any(|event| event["reason"] == "WaitForFirstConsumer");
    cluster
        .until(EVENTS, "shop", "an event that it waits for a pod", waits)
        .await;
    let chosen = Patch::Merge(json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "n1"}}}));
    client
        .patch(PERSISTENT_VOLUME_CLAIMS, "shop", "early", None, chosen)
        .await
        .unwrap();
    let asked = cluster
        .until_one(PERSISTENT_VOLUME_CLAIMS, "shop", "early", |claim| {
            claim["metadata"]["annotations"]["volume.kubernetes.io/storage-provisioner"] == "example.com/maker"
        })
        .await;

    // Who makes it reserves it for the claim and deletes it later.
    let mut made = volume("made-1", "1Gi", "made", "Delete");
    made["metadata"]["annotations"] = json!({"pv.kubernetes.io/provisioned-by": "example.com/maker"});
    made["spec"]["claimRef"] = json!({"kind": "PersistentVolumeClaim", "apiVersion": "v1", "namespace": "shop",
        "name": "early", "uid": asked["metadata"]["uid"]});
    client.create(PERSISTENT_VOLUMES, "", &made).await.unwrap();
    cluster
        .until_one(PERSISTENT_VOLUME_CLAIMS, "shop", "early", phase("Bound"))
        .await;
    delete_claim(&cluster, "early").await;
    cluster
        .until_one(PERSISTENT_VOLUMES, "", "made-1", phase("Released"))
        .await;

    // Nobody can delete this one.
    let mut fixed = volume("fixed", "1Gi", "", "Delete");
    fixed["spec"]["claimRef"] = json!({"namespace": "shop", "name": "late"});
    client.create(PERSISTENT_VOLUMES, "", &fixed).await.unwrap();
    client
        .create(PERSISTENT_VOLUME_CLAIMS, "shop", &claim("late", "1Gi", Some("")))
        .await
        .unwrap();
    cluster
        .until_one(PERSISTENT_VOLUME_CLAIMS, "shop", "late", phase("Bound"))
        .await;
    delete_claim(&cluster, "late").await;
    let failed = cluster
        .until_one(PERSISTENT_VOLUMES, "", "fixed", phase("Failed"))
        .await;
    assert!(text(&failed["status"]["message"]).contains("no deletable volume plugin matched"));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ephemeral_claim_comes_and_goes_with_its_pod() {
    let cluster = Cluster::start().await;
    cluster.namespace("shop").await;
    let client = &cluster.client;
    let template = json!({"metadata": {"labels": {"for": "scratch"}}, "spec": {"accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}}}});
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i:1"}],
        "volumes": [{"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}}]}});
    client.create(PODS, "shop", &pod).await.unwrap();
    let all = cluster
        .until(PERSISTENT_VOLUME_CLAIMS, "shop", "the claim", |all| {
            has(all, "p-scratch")
        })
        .await;
    assert_eq!(all[0]["metadata"]["ownerReferences"][0]["kind"], "Pod");
    assert_eq!(all[0]["metadata"]["labels"]["for"], "scratch");
    client
        .delete(PODS, "shop", "p", DeleteOptions::default())
        .await
        .unwrap();
    cluster
        .until(PERSISTENT_VOLUME_CLAIMS, "shop", "no claim", <[Value]>::is_empty)
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_none_is_asked_for_nothing() {
    let cluster = Cluster::start().await;
    cluster.namespace("shop").await;
    let client = &cluster.client;
    let class = json!({"metadata": {"name": "local"}, "provisioner": "strata.local/volume",
        "volumeBindingMode": "WaitForFirstConsumer"});
    client.create(STORAGE_CLASSES, "", &class).await.unwrap();
    let mut wanted = claim("c", "1Gi", Some("local"));
    wanted["metadata"]["annotations"] = json!({"volume.kubernetes.io/selected-node": "n/proxy/run?x="});
    client.create(PERSISTENT_VOLUME_CLAIMS, "shop", &wanted).await.unwrap();
    let told = |event: &Value| {
        event["reason"] == "ProvisioningFailed" && text(&event["message"]).contains("Failed to get target node")
    };
    cluster
        .until(EVENTS, "shop", "the refusal", |all| all.iter().any(told))
        .await;
    cluster
        .until_one(PERSISTENT_VOLUME_CLAIMS, "shop", "c", |claim| {
            claim["metadata"]["annotations"]["volume.kubernetes.io/selected-node"].is_null()
        })
        .await;
    cluster.stop().await;
}
