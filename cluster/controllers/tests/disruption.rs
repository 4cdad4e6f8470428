//! Disruption budgets, from the owners' scale to the eviction that is refused.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use strata_client::{DeleteOptions, Error, Patch, resources::*};
use support::{Cluster, deployment, text};

fn budget(spec: Value) -> Value {
    let mut spec = spec;
    spec["selector"] = json!({"matchLabels": {"app": "web"}});
    json!({"metadata": {"name": "web"}, "spec": spec})
}

fn allows(allowed: i64) -> impl Fn(&Value) -> bool {
    move |budget| {
        let (status, generation) = (&budget["status"], &budget["metadata"]["generation"]);
        status["disruptionsAllowed"] == allowed && status["observedGeneration"] == *generation
    }
}

async fn evict(cluster: &Cluster, pod: &Value) -> Result<Value, Error> {
    let name = text(&pod["metadata"]["name"]);
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
    cluster
        .client
        .create_subresource(PODS, "shop", &name, "eviction", &eviction)
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_follows_a_deployment_and_refuses_what_it_does_not_allow() {
    let cluster = Cluster::start().await;
    cluster.namespace("shop").await;
    let client = &cluster.client;
    client
        .create(DEPLOYMENTS, "shop", &deployment("web", 3, "web:1"))
        .await
        .unwrap();
    let pods = cluster.until(PODS, "shop", "three pods", |all| all.len() == 3).await;
    client
        .create(
            POD_DISRUPTION_BUDGETS,
            "shop",
            &budget(json!({"maxUnavailable": "30%"})),
        )
        .await
        .unwrap();
    let one = cluster
        .until_one(POD_DISRUPTION_BUDGETS, "shop", "web", |b| {
            b["status"]["expectedPods"] == 3
        })
        .await;
    assert_eq!(one["status"]["desiredHealthy"], 2);
    assert_eq!(one["status"]["conditions"][0]["reason"], "InsufficientPods");
    for (number, pod) in pods.iter().enumerate() {
        cluster.run_pod(pod, &format!("10.9.0.{}", number + 2)).await;
    }
    cluster
        .until_one(POD_DISRUPTION_BUDGETS, "shop", "web", allows(1))
        .await;
    evict(&cluster, &pods[0]).await.unwrap();
    // The new pod is not ready, so that nothing more may go.
    cluster
        .until_one(POD_DISRUPTION_BUDGETS, "shop", "web", allows(0))
        .await;
    let refused = evict(&cluster, &pods[1]).await.unwrap_err();
    let status = refused.status().unwrap();
    assert_eq!(status.code, 429);
    assert_eq!(status.details.as_ref().unwrap().causes[0].reason, "DisruptionBudget");

    let more = Patch::Merge(json!({"spec": {"maxUnavailable": 2}}));
    client
        .patch(POD_DISRUPTION_BUDGETS, "shop", "web", None, more)
        .await
        .unwrap();
    cluster
        .until_one(POD_DISRUPTION_BUDGETS, "shop", "web", allows(1))
        .await;
    evict(&cluster, &pods[1]).await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn owners_of_other_kinds_are_asked_for_their_scale() {
    let cluster = Cluster::start().await;
    cluster.namespace("shop").await;
    let client = &cluster.client;
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let definition = json!({"metadata": {"name": "farms.example.com"}, "spec": {"group": "example.com",
        "scope": "Namespaced", "names": {"plural": "farms", "singular": "farm", "kind": "Farm"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
            "subresources": {"scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}}}]}});
    client
        .create(CUSTOM_RESOURCE_DEFINITIONS, "", &definition)
        .await
        .unwrap();
    cluster
        .until_one(CUSTOM_RESOURCE_DEFINITIONS, "", "farms.example.com", |d| {
            let conditions = d["status"]["conditions"].as_array();
            conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "Established" && c["status"] == "True"))
        })
        .await;
    let farms = strata_client::Resource::discovered("example.com", "v1", "farms", "Farm", true);
    let farm = json!({"apiVersion": "example.com/v1", "kind": "Farm", "metadata": {"name": "big"},
        "spec": {"replicas": 10}});
    let farm = client.create(farms, "shop", &farm).await.unwrap();
    let owner = json!({"apiVersion": "example.com/v1", "kind": "Farm", "name": "big", "uid": farm.uid,
        "controller": true});
    for name in ["a", "b"] {
        let pod = json!({"metadata": {"name": name, "labels": {"app": "web"}, "ownerReferences": [owner]},
            "spec": {"containers": [{"name": "c", "image": "web:1"}]}});
        let pod = client.create(PODS, "shop", &pod).await.unwrap().to_value().unwrap();
        cluster.run_pod(&pod, "10.9.0.2").await;
    }
    client
        .create(POD_DISRUPTION_BUDGETS, "shop", &budget(json!({"minAvailable": "15%"})))
        .await
        .unwrap();
    let counted = cluster
        .until_one(POD_DISRUPTION_BUDGETS, "shop", "web", |b| {
            b["status"]["currentHealthy"] == 2
        })
        .await;
    assert_eq!(counted["status"]["expectedPods"], 10);
    assert_eq!(counted["status"]["desiredHealthy"], 2);

    // Without the owner nobody knows how many there should be.
    client
        .delete(farms, "shop", "big", DeleteOptions::default())
        .await
        .unwrap();
    cluster
        .until_one(POD_DISRUPTION_BUDGETS, "shop", "web", |b| {
            let condition = &b["status"]["conditions"][0];
            condition["reason"] == "SyncFailed" || b["status"]["expectedPods"] == 0
        })
        .await;
    cluster.stop().await;
}
