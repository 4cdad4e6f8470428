//! Deployments, replica sets and replication controllers, from the manifest to the pods.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};
use strata_client::{DeleteOptions, Informer, Patch, Propagation, Scope, resources::*};
use support::{Cluster, deployment, template, text};

fn ready_replicas(d: &Value) -> i64 {
    d["status"]["readyReplicas"].as_i64().unwrap_or(0)
}

fn condition<'a>(object: &'a Value, type_: &str) -> &'a Value {
    let conditions = object["status"]["conditions"].as_array();
    conditions
        .and_then(|all| all.iter().find(|c| c["type"] == type_))
        .unwrap_or(&Value::Null)
}

/// Plays the node agent until the deployment is complete at its newest generation.
async fn complete(cluster: &Cluster, namespace: &str, name: &str, replicas: i64) -> Value {
    let mut next_ip = 1;
    loop {
        let d = cluster
            .client
            .get(DEPLOYMENTS, namespace, name)
            .await
            .unwrap()
            .to_value()
            .unwrap();
        let status = &d["status"];
        let counts = ["replicas", "updatedReplicas", "availableReplicas"].map(|n| status[n].as_i64().unwrap_or(0));
        if counts == [replicas; 3] && status["observedGeneration"] == d["metadata"]["generation"] {
            return d;
        }
        let waiting =
            |pod: &Value| pod["status"]["phase"] == "Pending" && pod["metadata"]["deletionTimestamp"].is_null();
        let seen = status.clone();
        // Either a pod waits to be run, or the status moves on.
        tokio::select! {
            pods = cluster.until(PODS, namespace, "a pending pod", |all| all.iter().any(waiting)) => {
                for pod in pods.iter().filter(|pod| waiting(pod)) {
                    next_ip += 1;
                    cluster.run_pod(pod, &format!("10.9.0.{next_ip}")).await;
                }
            }
            _ = cluster.until_one(DEPLOYMENTS, namespace, name, |d| d["status"] != seen) => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_rolls_out_rolls_on_and_is_collected() {
    let cluster = Cluster::start().await;
    cluster.namespace("shop").await;
    let client = &cluster.client;
    client
        .create(DEPLOYMENTS, "shop", &deployment("web", 3, "web:1"))
        .await
        .unwrap();
    let d = complete(&cluster, "shop", "web", 3).await;
    assert_eq!(d["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "1");
    let d = cluster
        .until_one(DEPLOYMENTS, "shop", "web", |d| {
            condition(d, "Available")["status"] == "True"
        })
        .await;
    assert_eq!(ready_replicas(&d), 3);

    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "web:2"}]}}}});
    client
        .patch(DEPLOYMENTS, "shop", "web", None, Patch::Strategic(image))
        .await
        .unwrap();
    let d = complete(&cluster, "shop", "web", 3).await;
    assert_eq!(d["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "2");
    let d = cluster
        .until_one(DEPLOYMENTS, "shop", "web", |d| {
            condition(d, "Progressing")["reason"] == "NewReplicaSetAvailable"
        })
        .await;
    let message = text(&condition(&d, "Progressing")["message"]);
    assert!(
        message.starts_with("ReplicaSet \"web-") && message.ends_with("has successfully progressed."),
        "{message}"
    );
    let sets = cluster.until(REPLICA_SETS, "shop", "two sets, one empty", |all| {
        let mut sizes: Vec<_> = all.iter().map(|s| s["spec"]["replicas"].as_i64()).collect();
        sizes.sort();
        sizes == [Some(0), Some(3)]
    });
    let hashes: Vec<_> = sets
        .await
        .iter()
        .map(|s| text(&s["metadata"]["labels"]["pod-template-hash"]))
        .collect();
    assert!(hashes[0] != hashes[1] && !hashes[0].is_empty());

    client
        .patch(
            DEPLOYMENTS,
            "shop",
            "web",
            Some("scale"),
            Patch::Merge(json!({"spec": {"replicas": 1}})),
        )
        .await
        .unwrap();
    cluster.until(PODS, "shop", "one pod", |all| all.len() == 1).await;

    client
        .delete(DEPLOYMENTS, "shop", "web", DeleteOptions::default())
        .await
        .unwrap();
    cluster.until(REPLICA_SETS, "shop", "no set", <[Value]>::is_empty).await;
    cluster.until(PODS, "shop", "no pod", <[Value]>::is_empty).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn undoing_a_rollout_brings_the_old_set_back() {
    let cluster = Cluster::start().await;
    cluster.namespace("shop").await;
    cluster
        .client
        .create(DEPLOYMENTS, "shop", &deployment("web", 2, "web:1"))
        .await
        .unwrap();
    complete(&cluster, "shop", "web", 2).await;
    for (image, revision) in [("web:2", "2"), ("web:1", "3")] {
        let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}});
        cluster
            .client
            .patch(DEPLOYMENTS, "shop", "web", None, Patch::Strategic(image))
            .await
            .unwrap();
        let d = complete(&cluster, "shop", "web", 2).await;
        assert_eq!(
            d["metadata"]["annotations"]["deployment.kubernetes.io/revision"],
            revision
        );
    }
    let sets = cluster
        .until(REPLICA_SETS, "shop", "both sets", |all| all.len() == 2)
        .await;
    let first = sets.iter().find(|s| s["spec"]["replicas"] == 2).unwrap();
    assert_eq!(
        first["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"],
        "1"
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replica_sets_adopt_release_and_replace_pods() {
    let cluster = Cluster::start().await;
    cluster.namespace("shop").await;
    let client = &cluster.client;
    let orphan =
        json!({"metadata": {"name": "orphan", "labels": {"app": "web"}}, "spec": template("web", "web:1")["spec"]});
    let orphan = client.create(PODS, "shop", &orphan).await.unwrap().to_value().unwrap();
    cluster.run_pod(&orphan, "10.9.0.1").await;
    // Once an endpoint tells of it, the caches of the controllers show the pod.
    let service = json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}});
    client.create(SERVICES, "shop", &service).await.unwrap();
    let listed = |all: &[Value]| {
        all.iter()
            .any(|s| s["endpoints"].as_array().is_some_and(|e| e.len() == 1))
    };
    cluster.until(ENDPOINT_SLICES, "shop", "the pod listed", listed).await;
    let mut set = deployment("web", 2, "web:1");
    set["metadata"]["name"] = json!("set");
    let set = client.create(REPLICA_SETS, "shop", &set).await.unwrap();
    let owned = |pod: &Value| pod["metadata"]["ownerReferences"][0]["uid"] == json!(set.uid);
    let pods = cluster
        .until(PODS, "shop", "two owned pods", |all| {
            all.len() == 2 && all.iter().all(owned)
        })
        .await;
    assert!(support::has(&pods, "orphan"), "the orphan was adopted");

    let relabel = json!({"metadata": {"labels": {"app": "other"}}});
    client
        .patch(PODS, "shop", "orphan", None, Patch::Merge(relabel))
        .await
        .unwrap();
    let released = |all: &[Value]| {
        let orphan = all.iter().find(|p| p["metadata"]["name"] == "orphan");
        orphan.is_some_and(|p| p["metadata"].get("ownerReferences").is_none())
            && all.iter().filter(|p| owned(p)).count() == 2
    };
    cluster
        .until(PODS, "shop", "the pod released and replaced", released)
        .await;
    cluster
        .until_one(REPLICA_SETS, "shop", "set", |s| {
            s["status"]["replicas"] == 2 && s["status"]["fullyLabeledReplicas"] == 2
        })
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn owners_go_last_first_or_alone_as_asked_for() {
    let cluster = Cluster::start().await;
    cluster.namespace("shop").await;
    let client = &cluster.client;
    let make = async |name: &str| {
        let mut set = deployment(name, 2, "web:1");
        set["metadata"]["name"] = json!(name);
        client.create(REPLICA_SETS, "shop", &set).await.unwrap();
        let mine = move |p: &Value, name: &str| p["metadata"]["labels"]["app"] == name;
        cluster
            .until(PODS, "shop", "its pods", |all| {
                all.iter().filter(|p| mine(p, name)).count() == 2
            })
            .await;
    };
    let delete = async |name: &str, propagation| {
        let options = DeleteOptions {
            propagation: Some(propagation),
            ..DeleteOptions::default()
        };
        client.delete(REPLICA_SETS, "shop", name, options).await.unwrap();
    };
    let pods_of = |all: &[Value], name: &str| {
        all.iter()
            .filter(|p| p["metadata"]["labels"]["app"] == name)
            .cloned()
            .collect::<Vec<_>>()
    };

    make("alone").await;
    delete("alone", Propagation::Orphan).await;
    cluster
        .until(REPLICA_SETS, "shop", "the set gone", <[Value]>::is_empty)
        .await;
    let left = cluster.until(PODS, "shop", "pods without owner", |all| {
        let pods = pods_of(all, "alone");
        pods.len() == 2 && pods.iter().all(|p| p["metadata"].get("ownerReferences").is_none())
    });
    assert_eq!(left.await.len(), 2);

    make("last").await;
    // A pod that does not go at once holds its owner back.
    let pods = cluster
        .until(PODS, "shop", "pods", |all| pods_of(all, "last").len() == 2)
        .await;
    let held = text(&pods_of(&pods, "last")[0]["metadata"]["name"]);
    let hold = json!({"metadata": {"finalizers": ["example.com/hold"]}});
    client
        .patch(PODS, "shop", &held, None, Patch::Merge(hold))
        .await
        .unwrap();
    delete("last", Propagation::Foreground).await;
    cluster
        .until(PODS, "shop", "one pod left", |all| pods_of(all, "last").len() == 1)
        .await;
    let set = client
        .get(REPLICA_SETS, "shop", "last")
        .await
        .unwrap()
        .to_value()
        .unwrap();
    assert_eq!(set["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    client
        .patch(
            PODS,
            "shop",
            &held,
            None,
            Patch::Merge(json!({"metadata": {"finalizers": null}})),
        )
        .await
        .unwrap();
    cluster
        .until(REPLICA_SETS, "shop", "the set gone", <[Value]>::is_empty)
        .await;

    make("first").await;
    delete("first", Propagation::Background).await;
    cluster
        .until(PODS, "shop", "its pods gone", |all| pods_of(all, "first").is_empty())
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replication_controller_keeps_its_number() {
    let cluster = Cluster::start().await;
    cluster.namespace("shop").await;
    let controller = json!({"metadata": {"name": "rc"}, "spec": {"replicas": 2, "selector": {"app": "rc"}, "template": template("rc", "x")}});
    cluster
        .client
        .create(REPLICATION_CONTROLLERS, "shop", &controller)
        .await
        .unwrap();
    let pods = cluster.until(PODS, "shop", "two pods", |all| all.len() == 2).await;
    let name = text(&pods[0]["metadata"]["name"]);
    cluster
        .client
        .delete(PODS, "shop", &name, DeleteOptions::default())
        .await
        .unwrap();
    cluster
        .until(PODS, "shop", "a replacement", |all| {
            all.len() == 2 && !support::has(all, &name)
        })
        .await;
    cluster
        .until_one(REPLICATION_CONTROLLERS, "shop", "rc", |rc| {
            rc["status"]["replicas"] == 2
        })
        .await;
    let events = cluster.until(EVENTS, "shop", "three creations told", |all| {
        all.iter().filter(|e| e["reason"] == "SuccessfulCreate").count() == 3
    });
    assert_eq!(events.await[0]["source"]["component"], "replication-controller");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_pods_are_made_once_each() {
    let cluster = Cluster::start().await;
    cluster.namespace("shop").await;
    let scope = Scope {
        namespace: Some("shop".into()),
        ..Scope::default()
    };
    let pods = Informer::<Value>::start(&cluster.client, PODS, scope, cluster.cancel.clone());
    let ever = Arc::new(Mutex::new(HashSet::new()));
    let seen = ever.clone();
    pods.on_change(move |change| {
        seen.lock().unwrap().insert(change.key.name.clone());
    });
    cluster
        .client
        .create(DEPLOYMENTS, "shop", &deployment("web", 600, "web:1"))
        .await
        .unwrap();
    cluster
        .until_one(DEPLOYMENTS, "shop", "web", |d| d["status"]["replicas"] == 600)
        .await;
    cluster.until(PODS, "shop", "600 pods", |all| all.len() == 600).await;
    let scale = Patch::Merge(json!({"spec": {"replicas": 10}}));
    cluster
        .client
        .patch(DEPLOYMENTS, "shop", "web", Some("scale"), scale)
        .await
        .unwrap();
    cluster
        .until_one(DEPLOYMENTS, "shop", "web", |d| d["status"]["replicas"] == 10)
        .await;
    cluster.until(PODS, "shop", "10 pods", |all| all.len() == 10).await;
    assert_eq!(ever.lock().unwrap().len(), 600, "no pod was made too much");
    cluster.stop().await;
}
