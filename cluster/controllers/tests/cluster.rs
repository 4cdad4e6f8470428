//! Namespaces, services and nodes.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use std::time::Duration;
use strata_client::{DeleteOptions, Patch, resources::*};
use support::{Cluster, deployment, has, template, text};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_is_furnished_and_emptied() {
    let cluster = Cluster::start().await;
    cluster.namespace("shop").await;
    let client = &cluster.client;
    let root = cluster
        .until_one(CONFIG_MAPS, "shop", "kube-root-ca.crt", |_| true)
        .await;
    assert_eq!(text(&root["data"]["ca.crt"]), cluster.ca.ca_pem());
    // What must be there comes back.
    client
        .delete(CONFIG_MAPS, "shop", "kube-root-ca.crt", DeleteOptions::default())
        .await
        .unwrap();
    let uid = root["metadata"]["uid"].clone();
    cluster
        .until_one(CONFIG_MAPS, "shop", "kube-root-ca.crt", |c| c["metadata"]["uid"] != uid)
        .await;

    client
        .create(DEPLOYMENTS, "shop", &deployment("web", 2, "web:1"))
        .await
        .unwrap();
    let held = json!({"metadata": {"name": "held", "finalizers": ["example.com/hold"]}});
    client.create(CONFIG_MAPS, "shop", &held).await.unwrap();
    cluster.until(PODS, "shop", "pods", |all| all.len() == 2).await;
    client
        .delete(NAMESPACES, "", "shop", DeleteOptions::default())
        .await
        .unwrap();
    let remaining = |n: &Value| {
        let conditions = n["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions
            .iter()
            .any(|c| c["type"] == "NamespaceFinalizersRemaining" && c["status"] == "True")
    };
    let namespace = cluster.until_one(NAMESPACES, "", "shop", remaining).await;
    assert_eq!(namespace["status"]["phase"], "Terminating");
    client
        .patch(
            CONFIG_MAPS,
            "shop",
            "held",
            None,
            Patch::Merge(json!({"metadata": {"finalizers": null}})),
        )
        .await
        .unwrap();
    cluster
        .until(NAMESPACES, "", "the namespace gone", |all| !has(all, "shop"))
        .await;
    for resource in [PODS, DEPLOYMENTS, REPLICA_SETS, CONFIG_MAPS, SERVICE_ACCOUNTS] {
        cluster
            .until(resource, "shop", "nothing left", <[Value]>::is_empty)
            .await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storage_in_use_stays_until_nobody_uses_it() {
    let cluster = Cluster::start().await;
    cluster.namespace("shop").await;
    cluster.node("n1", "192.168.7.1").await;
    let client = &cluster.client;
    // No class, not even the one that is the default.
    let claim = json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "",
        "volumeAttributesClassName": "fast", "resources": {"requests": {"storage": "1Gi"}}}});
    client.create(PERSISTENT_VOLUME_CLAIMS, "shop", &claim).await.unwrap();
    let class = json!({"metadata": {"name": "fast"}, "driverName": "example.com", "parameters": {"a": "b"}});
    client.create(VOLUME_ATTRIBUTES_CLASSES, "", &class).await.unwrap();
    let volume = json!({"metadata": {"name": "disk"}, "spec": {"capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"], "volumeAttributesClassName": "fast",
        "csi": {"driver": "example.com", "volumeHandle": "v"}}});
    client.create(PERSISTENT_VOLUMES, "", &volume).await.unwrap();
    let bound = |o: &Value| o["status"]["phase"] == "Bound";
    cluster.until_one(PERSISTENT_VOLUMES, "", "disk", bound).await;
    cluster.until_one(PERSISTENT_VOLUME_CLAIMS, "shop", "data", bound).await;
    let mut spec = template("web", "web:1")["spec"].clone();
    spec["nodeName"] = json!("n1");
    spec["volumes"] = json!([{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]);
    let pod = json!({"metadata": {"name": "user"}, "spec": spec});
    client.create(PODS, "shop", &pod).await.unwrap();

    let kinds = [
        (PERSISTENT_VOLUME_CLAIMS, "shop", "data"),
        (VOLUME_ATTRIBUTES_CLASSES, "", "fast"),
        (PERSISTENT_VOLUMES, "", "disk"),
    ];
    for (resource, namespace, name) in kinds {
        let options = DeleteOptions::default();
        client.delete(resource, namespace, name, options).await.unwrap();
        let held = |o: &Value| {
            o["metadata"]["deletionTimestamp"].is_string() && o["metadata"]["finalizers"].as_array().is_some()
        };
        cluster.until_one(resource, namespace, name, held).await;
    }
    let now = DeleteOptions {
        grace_period_seconds: Some(0),
        ..DeleteOptions::default()
    };
    client.delete(PODS, "shop", "user", now).await.unwrap();
    for (resource, namespace, name) in kinds {
        cluster
            .until(resource, namespace, "nothing left", |all| !has(all, name))
            .await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_knows_its_pods() {
    let cluster = Cluster::start().await;
    cluster.namespace("shop").await;
    cluster.node("n1", "192.168.7.1").await;
    let client = &cluster.client;
    let service = json!({"metadata": {"name": "web"}, "spec": {"type": "LoadBalancer", "selector": {"app": "web"},
        "ports": [{"port": 80, "targetPort": "http"}]}});
    client.create(SERVICES, "shop", &service).await.unwrap();
    let placeholder = |all: &[Value]| all.len() == 1 && all[0]["endpoints"].as_array().is_none_or(Vec::is_empty);
    cluster
        .until(ENDPOINT_SLICES, "shop", "an empty slice", placeholder)
        .await;
    for name in ["a", "b"] {
        let mut spec = template("web", "web:1")["spec"].clone();
        spec["nodeName"] = json!("n1");
        let pod = json!({"metadata": {"name": name, "labels": {"app": "web"}}, "spec": spec});
        client.create(PODS, "shop", &pod).await.unwrap();
    }
    let pods = cluster.until(PODS, "shop", "pods", |all| all.len() == 2).await;
    for pod in &pods {
        let ip = if pod["metadata"]["name"] == "a" {
            "10.9.0.1"
        } else {
            "10.9.0.2"
        };
        cluster.run_pod(pod, ip).await;
    }
    let ready = |all: &[Value]| {
        let endpoints = all
            .iter()
            .flat_map(|s| s["endpoints"].as_array().cloned().unwrap_or_default());
        endpoints.filter(|e| e["conditions"]["ready"] == true).count()
    };
    let slices = cluster
        .until(ENDPOINT_SLICES, "shop", "two endpoints", |all| ready(all) == 2)
        .await;
    let first = &slices[0]["endpoints"][0];
    assert_eq!(
        (first["nodeName"].clone(), first["zone"].clone()),
        (json!("n1"), json!("z1"))
    );
    assert_eq!(slices[0]["ports"][0]["port"], 8080);
    let two = |e: &Value| e["subsets"][0]["addresses"].as_array().is_some_and(|a| a.len() == 2);
    cluster.until_one(ENDPOINTS, "shop", "web", two).await;
    let balanced = |s: &Value| s["status"]["loadBalancer"]["ingress"][0]["ip"] == "192.168.7.1";
    cluster.until_one(SERVICES, "shop", "web", balanced).await;

    // A pod that ends is told as terminating, then no longer.
    client
        .delete(PODS, "shop", "a", DeleteOptions::default())
        .await
        .unwrap();
    cluster
        .until(ENDPOINT_SLICES, "shop", "a terminating endpoint", |all| {
            let endpoints = all[0]["endpoints"].as_array().cloned().unwrap_or_default();
            endpoints
                .iter()
                .any(|e| e["conditions"]["terminating"] == true && e["conditions"]["serving"] == true)
        })
        .await;
    let now = DeleteOptions {
        grace_period_seconds: Some(0),
        ..DeleteOptions::default()
    };
    client.delete(PODS, "shop", "a", now).await.unwrap();
    cluster
        .until(ENDPOINT_SLICES, "shop", "one endpoint", |all| {
            all[0]["endpoints"].as_array().is_some_and(|e| e.len() == 1)
        })
        .await;
    client
        .delete(SERVICES, "shop", "web", DeleteOptions::default())
        .await
        .unwrap();
    cluster
        .until(ENDPOINT_SLICES, "shop", "no slice", <[Value]>::is_empty)
        .await;
    cluster
        .until(ENDPOINTS, "shop", "no endpoints", <[Value]>::is_empty)
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_node_is_tainted_and_its_pods_are_evicted() {
    let cluster = Cluster::start_with(|options| {
        options.node_grace = Duration::from_secs(2);
        options.orphan_quarantine = Duration::from_millis(100);
    })
    .await;
    cluster.namespace("shop").await;
    let client = &cluster.client;
    cluster.node("n1", "192.168.7.1").await;
    let ranged = |n: &Value| n["spec"]["podCIDR"] == "10.42.0.0/24" && n["spec"]["podCIDRs"][0] == "10.42.0.0/24";
    cluster.until_one(NODES, "", "n1", ranged).await;
    for (name, seconds) in [("brief", 0), ("patient", 3600)] {
        let mut spec = template("web", "web:1")["spec"].clone();
        spec["nodeName"] = json!("n1");
        spec["tolerations"] = json!([{"key": "node.kubernetes.io/unreachable", "operator": "Exists",
            "effect": "NoExecute", "tolerationSeconds": seconds}]);
        let pod = json!({"metadata": {"name": name, "labels": {"app": "web"}}, "spec": spec});
        client.create(PODS, "shop", &pod).await.unwrap();
    }
    let pods = cluster.until(PODS, "shop", "pods", |all| all.len() == 2).await;
    for (pod, ip) in pods.iter().zip(["10.42.0.2", "10.42.0.3"]) {
        cluster.run_pod(pod, ip).await;
    }
    // No lease is renewed: after the grace nobody knows how the node is.
    let taints = |n: &Value| {
        let taints = n["spec"]["taints"].as_array().cloned().unwrap_or_default();
        let unreachable = taints.iter().filter(|t| t["key"] == "node.kubernetes.io/unreachable");
        unreachable.map(|t| text(&t["effect"])).collect::<Vec<_>>()
    };
    let node = cluster.until_one(NODES, "", "n1", |n| taints(n).len() == 2).await;
    let ready = node["status"]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .find(|c| c["type"] == "Ready")
        .unwrap()
        .clone();
    assert_eq!(
        (ready["status"].clone(), ready["reason"].clone()),
        (json!("Unknown"), json!("NodeStatusUnknown"))
    );
    let is_ready = |p: &Value| {
        let conditions = p["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
    };
    cluster
        .until(PODS, "shop", "no pod ready", |all| !all.iter().any(is_ready))
        .await;
    let brief = cluster
        .until_one(PODS, "shop", "brief", |p| {
            p["metadata"]["deletionTimestamp"].is_string()
        })
        .await;
    assert!(
        brief["status"]["conditions"]
            .as_array()
            .unwrap()
            .iter()
            .any(|c| c["reason"] == "DeletionByTaintManager")
    );
    let patient = client.get(PODS, "shop", "patient").await.unwrap();
    assert!(!patient.deleting);

    cluster.report("n1", "192.168.7.1").await;
    cluster.until_one(NODES, "", "n1", |n| taints(n).is_empty()).await;

    client.delete(NODES, "", "n1", DeleteOptions::default()).await.unwrap();
    cluster
        .until(PODS, "shop", "the pods of the deleted node gone", <[Value]>::is_empty)
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_written_by_hand_are_mirrored() {
    let cluster = Cluster::start().await;
    let client = &cluster.client;
    let service = json!({"metadata": {"name": "db"}, "spec": {"ports": [{"port": 5432}]}});
    client.create(SERVICES, "default", &service).await.unwrap();
    let endpoints = |ip: &str| json!({"metadata": {"name": "db"}, "subsets": [{"addresses": [{"ip": ip}], "ports": [{"port": 5432}]}]});
    client
        .create(ENDPOINTS, "default", &endpoints("10.7.0.1"))
        .await
        .unwrap();
    let tells = |all: &[Value], ip: &str| {
        let of_db = |s: &&Value| s["metadata"]["labels"]["kubernetes.io/service-name"] == "db";
        let found: Vec<_> = all
            .iter()
            .filter(of_db)
            .map(|s| s["endpoints"][0]["addresses"][0].clone())
            .collect();
        found == [json!(ip)]
    };
    cluster
        .until(ENDPOINT_SLICES, "default", "a slice", |all| tells(all, "10.7.0.1"))
        .await;
    client
        .update(ENDPOINTS, "default", "db", &endpoints("10.7.0.2"))
        .await
        .unwrap();
    cluster
        .until(ENDPOINT_SLICES, "default", "the new address", |all| {
            tells(all, "10.7.0.2")
        })
        .await;
    client
        .delete(ENDPOINTS, "default", "db", DeleteOptions::default())
        .await
        .unwrap();
    cluster
        .until(ENDPOINT_SLICES, "default", "no slice", <[Value]>::is_empty)
        .await;
    cluster.stop().await;
}
