//! Nodes, namespaces, workloads and budgets of a random cluster.

use crate::{case::Theme, random::Random};
use serde_json::{Map, Value, json};

pub const ZONES: [&str; 3] = ["a", "b", "c"];
pub const APPS: [&str; 4] = ["web", "db", "cache", "job"];
pub const TIERS: [&str; 3] = ["front", "back", "edge"];
pub const NAMESPACES: [&str; 3] = ["default", "team-a", "team-b"];
pub const TAINTS: [(&str, &str); 3] = [("dedicated", "x"), ("gpu", ""), ("maintenance", "soon")];
pub const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
pub const IMAGES: [(&str, u64); 5] = [
    ("registry.example.com/big:1", 900 << 20),
    ("registry.example.com/middle:latest", 300 << 20),
    ("small:2", 60 << 20),
    ("tiny:1", 2 << 20),
    ("huge:9", 3 << 30),
];
pub const FEATURES: [&str; 2] = [
    "RestartAllContainersOnContainerExits",
    "UserNamespacesHostNetworkSupport",
];

/// A node.
pub fn node(random: &mut Random, theme: &Theme, at: u64) -> Value {
    let name = format!("node-{at}");
    let mut labels = Map::new();
    if random.percent(95) {
        labels.insert("kubernetes.io/hostname".to_owned(), json!(name));
    }
    if random.percent(85) {
        labels.insert("topology.kubernetes.io/zone".to_owned(), json!(random.pick(&ZONES)));
        labels.insert("topology.kubernetes.io/region".to_owned(), json!("r"));
    }
    if random.percent(60) {
        labels.insert("disk".to_owned(), json!(random.pick(&["ssd", "hdd"])));
    }
    if random.percent(60) {
        labels.insert("generation".to_owned(), json!(random.between(1, 6).to_string()));
    }
    if random.percent(50) {
        labels.insert("rack".to_owned(), json!(format!("r{}", random.between(1, 4))));
    }
    let mut spec = Map::new();
    if theme.taints {
        let taints = taints(random);
        spec.insert("taints".to_owned(), json!(taints));
        if random.percent(8) {
            spec.insert("unschedulable".to_owned(), json!(true));
        }
    }
    let mut status = Map::new();
    status.insert("allocatable".to_owned(), allocatable(random, theme));
    if theme.images {
        let images = random.some(&IMAGES, 50);
        let images = images
            .iter()
            .map(|(name, size)| json!({"names": [name], "sizeBytes": size}));
        status.insert("images".to_owned(), images.collect());
    }
    if theme.features {
        status.insert("declaredFeatures".to_owned(), json!(random.some(&FEATURES, 60)));
    }
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "uid": name, "labels": labels},
        "spec": spec, "status": status,
    })
}

fn taints(random: &mut Random) -> Vec<Value> {
    let mut taints = Vec::new();
    for (key, value) in TAINTS {
        if random.percent(18) {
            taints.push(json!({"key": key, "value": value, "effect": random.pick(&EFFECTS)}));
        }
    }
    taints
}

fn allocatable(random: &mut Random, theme: &Theme) -> Value {
    let mut all = json!({
        "cpu": format!("{}m", random.between(8, 40) * 100),
        "memory": format!("{}Mi", random.between(10, 80) * 100),
        "ephemeral-storage": format!("{}Gi", random.between(2, 20)),
        "pods": random.between(3, 12).to_string(),
    });
    if theme.extended && random.percent(60) {
        all["example.com/gpu"] = json!(random.between(0, 4).to_string());
    }
    if theme.extended && random.percent(40) {
        all["hugepages-2Mi"] = json!(format!("{}Mi", random.between(0, 8) * 64));
    }
    all
}

/// Namespaces with labels that selectors of namespaces mean.
pub fn namespaces(random: &mut Random) -> Vec<Value> {
    let namespace = |(at, name): (usize, &&str)| {
        let team = if at == 0 || random.percent(30) { "none" } else { "yes" };
        json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "uid": name, "labels": {"team": team, "kubernetes.io/metadata.name": name}},
        })
    };
    NAMESPACES.iter().enumerate().map(namespace).collect()
}

/// Services, replica sets and stateful sets, by whose selectors pods are spread that ask for nothing.
pub fn workloads(random: &mut Random) -> Vec<Value> {
    let mut all = Vec::new();
    for namespace in NAMESPACES {
        for app in APPS {
            let metadata = json!({"namespace": namespace, "name": app, "uid": format!("{namespace}-{app}")});
            if random.percent(25) {
                all.push(json!({
                    "apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"selector": {"app": app}},
                }));
            }
            if random.percent(25) {
                all.push(json!({
                    "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": metadata,
                    "spec": {"selector": {"matchLabels": {"app": app}}},
                }));
            }
            if random.percent(10) {
                all.push(json!({
                    "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata,
                    "spec": {"selector": {"matchExpressions": [{"key": "app", "operator": "In", "values": [app]}]}},
                }));
            }
        }
    }
    all
}

/// Disruption budgets.
pub fn budgets(random: &mut Random) -> Vec<Value> {
    let mut all = Vec::new();
    for namespace in NAMESPACES {
        for (at, app) in APPS.iter().enumerate() {
            if random.percent(45) {
                let selector = match random.between(0, 9) {
                    0 => json!({}),
                    1 => json!({"matchExpressions": [{"key": "tier", "operator": "Exists"}]}),
                    _ => json!({"matchLabels": {"app": app}}),
                };
                all.push(json!({
                    "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
                    "metadata": {"namespace": namespace, "name": format!("pdb-{at}"), "uid": format!("{namespace}-pdb-{at}")},
                    "spec": {"selector": selector},
                    "status": {"disruptionsAllowed": random.between(0, 2)},
                }));
            }
        }
    }
    all
}
