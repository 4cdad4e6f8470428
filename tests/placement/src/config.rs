//! Random configurations of a scheduler.

use crate::random::Random;
use serde_json::{Value, json};

const SCORING: [&str; 7] = [
    "TaintToleration",
    "NodeAffinity",
    "NodeResourcesFit",
    "PodTopologySpread",
    "InterPodAffinity",
    "NodeResourcesBalancedAllocation",
    "ImageLocality",
];
const FILTERING: [&str; 6] = [
    "NodePorts",
    "NodeAffinity",
    "NodeResourcesFit",
    "TaintToleration",
    "PodTopologySpread",
    "InterPodAffinity",
];

/// A KubeSchedulerConfiguration with one profile.
pub fn file(random: &mut Random) -> Value {
    let mut profile = json!({"schedulerName": "default-scheduler", "pluginConfig": arguments(random)});
    if random.percent(60) {
        profile["plugins"] = plugins(random);
    }
    json!({
        "apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration",
        "percentageOfNodesToScore": random.between(0, 100), "profiles": [profile],
    })
}

fn plugins(random: &mut Random) -> Value {
    let named = |names: Vec<&str>| -> Vec<Value> { names.iter().map(|name| json!({"name": name})).collect() };
    let mut all = json!({});
    let mut gone = Vec::new();
    if random.percent(30) {
        gone = random.some(&["ImageLocality", "NodePorts", "InterPodAffinity"], 40);
        all["multiPoint"] = json!({"disabled": named(gone.clone())});
    }
    if random.percent(50) {
        // Upstream's fail at one point when they are disabled at the others.
        let enabled = random
            .some(&SCORING, 40)
            .into_iter()
            .filter(|name| !gone.contains(name));
        let enabled: Vec<Value> = enabled
            .map(|name| json!({"name": name, "weight": random.between(1, 20)}))
            .collect();
        let disabled = if random.percent(40) {
            vec!["*"]
        } else {
            let kept = |name: &&str| !enabled.iter().any(|one| one["name"] == **name);
            random.some(&SCORING, 30).into_iter().filter(kept).collect()
        };
        all["score"] = json!({"enabled": enabled, "disabled": named(disabled)});
    }
    if random.percent(25) {
        all["filter"] = json!({"disabled": named(random.some(&FILTERING, 20))});
    } else if random.percent(25) {
        let mut first = random.some(&["NodeResourcesFit", "NodePorts", "NodeAffinity"], 60);
        first.retain(|name| !gone.contains(name));
        all["filter"] = json!({"enabled": named(first)});
    }
    all
}

fn arguments(random: &mut Random) -> Value {
    let mut all = Vec::new();
    let mut add = |name: &str, args: Value| all.push(json!({"name": name, "args": args}));
    if random.percent(70) {
        let mut args = json!({"scoringStrategy": strategy(random)});
        if random.percent(30) {
            args["ignoredResources"] = json!(["example.com/gpu"]);
        }
        add("NodeResourcesFit", args);
    }
    if random.percent(40) {
        let resources =
            json!([{"name": "cpu"}, {"name": "memory"}, {"name": "ephemeral-storage"}, {"name": "example.com/gpu"}]);
        add("NodeResourcesBalancedAllocation", json!({"resources": resources}));
    }
    if random.percent(40) {
        add(
            "InterPodAffinity",
            json!({"hardPodAffinityWeight": random.between(0, 100), "ignorePreferredTermsOfExistingPods": random.percent(50)}),
        );
    }
    if random.percent(25) {
        let required = json!({"nodeSelectorTerms": [{"matchExpressions": [{"key": "rack", "operator": "Exists"}]}]});
        let preferred = json!([{"weight": 30, "preference": {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}}]);
        let mut added = json!({"preferredDuringSchedulingIgnoredDuringExecution": preferred});
        if random.percent(40) {
            added["requiredDuringSchedulingIgnoredDuringExecution"] = required;
        }
        add("NodeAffinity", json!({"addedAffinity": added}));
    }
    if random.percent(35) {
        let constraints = json!([
            {"maxSkew": random.between(1, 2), "topologyKey": "topology.kubernetes.io/zone",
                "whenUnsatisfiable": random.pick(&["DoNotSchedule", "ScheduleAnyway"])},
            {"maxSkew": 3, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"},
        ]);
        add(
            "PodTopologySpread",
            json!({"defaultingType": "List", "defaultConstraints": constraints}),
        );
    }
    json!(all)
}

fn strategy(random: &mut Random) -> Value {
    let kind = *random.pick(&["LeastAllocated", "MostAllocated", "RequestedToCapacityRatio"]);
    let names = random.some(&["cpu", "memory", "ephemeral-storage", "example.com/gpu"], 60);
    let mut resources: Vec<Value> = names
        .iter()
        .map(|name| json!({"name": name, "weight": random.between(1, 5)}))
        .collect();
    if resources.is_empty() {
        resources.push(json!({"name": "cpu", "weight": 3}));
    }
    let mut all = json!({"type": kind, "resources": resources});
    if kind == "RequestedToCapacityRatio" {
        let (low, high) = (random.between(0, 10), random.between(0, 10));
        all["requestedToCapacityRatio"] = json!({"shape": [
            {"utilization": 0, "score": low}, {"utilization": random.between(10, 60), "score": 5}, {"utilization": 100, "score": high},
        ]});
    }
    all
}
