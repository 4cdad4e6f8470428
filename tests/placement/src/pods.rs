//! Pods of a random cluster: those that are placed and those that wait.

use crate::{
    case::Theme,
    nodes::{APPS, IMAGES, NAMESPACES, TAINTS, TIERS, ZONES},
    random::Random,
    storage,
};
use serde_json::{Map, Value, json};

/// How a pod stands in the cluster.
pub enum Place<'a> {
    Placed(&'a str),
    Waiting,
    /// Room is being made for it.
    Nominated(&'a str),
}

/// A pod. The number makes its name and, if it is placed, when it started.
pub fn pod(random: &mut Random, theme: &Theme, at: u64, place: &Place<'_>) -> Value {
    let namespace = *random.pick(&NAMESPACES);
    let placed = matches!(place, Place::Placed(_));
    let name = format!("{}-{at}", if placed { "placed" } else { "pod" });
    let mut labels = Map::new();
    if random.percent(90) {
        labels.insert("app".to_owned(), json!(random.pick(&APPS)));
    }
    if random.percent(70) {
        labels.insert("tier".to_owned(), json!(random.pick(&TIERS)));
    }
    if random.percent(40) {
        labels.insert("hash".to_owned(), json!(random.pick(&["h1", "h2"])));
    }
    let mut metadata =
        json!({"namespace": namespace, "name": name, "uid": format!("{namespace}-{name}"), "labels": labels});
    if random.percent(40)
        && let Some(app) = labels.get("app")
    {
        metadata["ownerReferences"] = json!([{
            "apiVersion": "apps/v1", "kind": random.pick(&["ReplicaSet", "StatefulSet"]), "name": app,
            "uid": format!("{namespace}-{app}"), "controller": true,
        }]);
    }
    let mut spec = containers(random, theme);
    let mut status = json!({"phase": "Pending"});
    spec["schedulerName"] = json!("default-scheduler");
    if theme.priorities {
        spec["priority"] = json!(*random.pick(&[-10, 0, 0, 5, 5, 100]) + if placed { 0 } else { 50 });
        if !placed && random.percent(8) {
            spec["preemptionPolicy"] = json!("Never");
        }
    }
    match place {
        Place::Placed(node) => {
            spec["nodeName"] = json!(node);
            status["phase"] = json!("Running");
            status["startTime"] = json!(format!(
                "2026-01-01T{:02}:{:02}:{:02}Z",
                at / 3600,
                at / 60 % 60,
                at % 60
            ));
            resize(random, theme, &spec, &mut status);
            leave(random, theme, &mut metadata, &mut status);
        }
        Place::Waiting => {}
        Place::Nominated(node) => status["nominatedNodeName"] = json!(node),
    }
    if !placed {
        wishes(random, theme, &labels, &mut spec);
    }
    if theme.between {
        between_pods(random, &labels, &mut spec, if placed { 30 } else { 60 });
    }
    if theme.volumes && random.percent(if placed { 30 } else { 70 }) {
        spec["volumes"] = storage::volumes(random, namespace, placed);
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status})
}

/// Some pods are on their way out, some of those to make room.
fn leave(random: &mut Random, theme: &Theme, metadata: &mut Value, status: &mut Value) {
    if !theme.leaving || !random.percent(15) {
        return;
    }
    metadata["deletionTimestamp"] = json!("2026-02-01T00:00:00Z");
    metadata["finalizers"] = json!(["example.com/held"]);
    if random.percent(50) {
        let reason = *random.pick(&["PreemptionByScheduler", "EvictionByEvictionAPI"]);
        status["conditions"] = json!([{"type": "DisruptionTarget", "status": "True", "reason": reason}]);
    }
}

/// Some containers are being given more or less.
fn resize(random: &mut Random, theme: &Theme, spec: &Value, status: &mut Value) {
    if !theme.resizing || !random.percent(40) {
        return;
    }
    for (kind, statuses) in [
        ("containers", "containerStatuses"),
        ("initContainers", "initContainerStatuses"),
    ] {
        let containers = spec[kind].as_array().into_iter().flatten();
        let of_each = containers.map(|container| {
            let mut told = json!({"name": container["name"]});
            if random.percent(80) {
                told["resources"] =
                    json!({"requests": {"cpu": format!("{}m", random.between(0, 9) * 50), "memory": "100Mi"}});
            }
            if random.percent(80) {
                told["allocatedResources"] = json!({"cpu": format!("{}m", random.between(0, 9) * 50)});
            }
            told
        });
        status[statuses] = of_each.collect();
    }
    if spec.get("resources").is_some() && random.percent(50) {
        status["resources"] = json!({"requests": {"cpu": "700m", "memory": "400Mi"}});
        status["allocatedResources"] = json!({"cpu": "600m"});
    }
    if random.percent(30) {
        let reason = *random.pick(&["Infeasible", "Deferred"]);
        status["conditions"] = json!([{"type": "PodResizePending", "status": "True", "reason": reason}]);
    }
}

fn containers(random: &mut Random, theme: &Theme) -> Value {
    let mut spec = json!({});
    let container = |random: &mut Random, at: u64, kind: &str| {
        let image = match random.between(0, 9) {
            0 => "registry.example.com/middle",
            1 => "unknown:1",
            _ => random.pick(&IMAGES).0,
        };
        let mut container =
            json!({"name": format!("{kind}{at}"), "image": image, "resources": {"requests": requests(random, theme)}});
        if theme.ports && random.percent(25) {
            container["ports"] = json!([port(random)]);
        }
        container
    };
    let main: Vec<Value> = (0..random.between(1, 2)).map(|at| container(random, at, "c")).collect();
    spec["containers"] = json!(main);
    if theme.init {
        let init = (0..random.between(0, 3)).map(|at| {
            let mut container = container(random, at, "i");
            if random.percent(45) {
                container["restartPolicy"] = json!("Always");
            }
            container
        });
        spec["initContainers"] = init.collect();
        if random.percent(20) {
            spec["overhead"] = json!({"cpu": "150m", "memory": "60Mi"});
        }
        if random.percent(25) {
            spec["resources"] = json!({"requests": match random.between(0, 2) {
                0 => json!({"cpu": "800m"}),
                1 => json!({"memory": "900Mi"}),
                _ => json!({"cpu": "600m", "memory": "500Mi", "hugepages-2Mi": "64Mi"}),
            }});
        }
    }
    if theme.features && random.percent(30) {
        spec["hostNetwork"] = json!(random.percent(50));
        spec["hostUsers"] = json!(random.percent(30));
        if random.percent(30) {
            spec["containers"][0]["restartPolicy"] = json!("Never");
            spec["containers"][0]["restartPolicyRules"] =
                json!([{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [3]}}]);
        }
    }
    spec
}

fn requests(random: &mut Random, theme: &Theme) -> Value {
    let mut all = Map::new();
    if random.percent(75) {
        all.insert("cpu".to_owned(), json!(format!("{}m", random.between(0, 12) * 50)));
    }
    if random.percent(70) {
        all.insert("memory".to_owned(), json!(format!("{}Mi", random.between(0, 12) * 50)));
    }
    if random.percent(20) {
        all.insert(
            "ephemeral-storage".to_owned(),
            json!(format!("{}Mi", random.between(1, 20) * 100)),
        );
    }
    if theme.extended && random.percent(25) {
        all.insert("example.com/gpu".to_owned(), json!(random.between(0, 2).to_string()));
    }
    if theme.extended && random.percent(15) {
        all.insert(
            "hugepages-2Mi".to_owned(),
            json!(format!("{}Mi", random.between(1, 3) * 64)),
        );
    }
    json!(all)
}

fn port(random: &mut Random) -> Value {
    let number = 8000 + random.between(0, 3);
    let mut port = json!({"containerPort": number, "protocol": random.pick(&["TCP", "TCP", "UDP"])});
    if random.percent(90) {
        port["hostPort"] = json!(number);
    }
    match random.between(0, 3) {
        0 => port["hostIP"] = json!("127.0.0.1"),
        1 => port["hostIP"] = json!("10.0.0.1"),
        2 => port["hostIP"] = json!("0.0.0.0"),
        _ => {}
    }
    port
}

/// What only waiting pods say.
fn wishes(random: &mut Random, theme: &Theme, labels: &Map<String, Value>, spec: &mut Value) {
    if theme.taints {
        spec["tolerations"] = tolerations(random);
    }
    if theme.affinity {
        if random.percent(25) {
            spec["nodeSelector"] = json!({"disk": "ssd"});
        }
        if random.percent(50) {
            let terms: Vec<Value> = (0..random.between(1, 2)).map(|_| node_term(random, true)).collect();
            spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] =
                json!({"nodeSelectorTerms": terms});
        }
        if random.percent(50) {
            let preferred = (0..random.between(1, 3))
                .map(|_| json!({"weight": random.between(1, 100), "preference": node_term(random, false)}));
            spec["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"] = preferred.collect();
        }
    }
    if theme.spread && random.percent(75) {
        let constraints = (0..random.between(1, 2)).map(|at| spread(random, labels, at));
        spec["topologySpreadConstraints"] = constraints.collect();
    }
}

fn tolerations(random: &mut Random) -> Value {
    let mut all = Vec::new();
    for (key, value) in TAINTS {
        match random.between(0, 6) {
            0 => all.push(json!({"key": key, "operator": "Exists"})),
            1 => all.push(json!({"key": key, "operator": "Equal", "value": value, "effect": "NoSchedule"})),
            2 => all.push(json!({"key": key, "value": value})),
            3 => all.push(json!({"key": key, "operator": "Equal", "value": "other", "effect": "PreferNoSchedule"})),
            _ => {}
        }
    }
    if random.percent(6) {
        all.push(json!({"operator": "Exists"}));
    }
    if random.percent(15) {
        all.push(json!({"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule"}));
    }
    json!(all)
}

fn node_term(random: &mut Random, fields: bool) -> Value {
    let mut term = Map::new();
    let expressions: Vec<Value> = (0..random.between(if fields { 0 } else { 1 }, 2))
        .map(|_| node_expression(random))
        .collect();
    if !expressions.is_empty() {
        term.insert("matchExpressions".to_owned(), json!(expressions));
    }
    if fields && random.percent(35) {
        let names: Vec<String> = (0..random.between(1, 3))
            .map(|_| format!("node-{}", random.between(0, 12)))
            .collect();
        let operator = *random.pick(&["In", "In", "NotIn"]);
        let mut all = vec![json!({"key": "metadata.name", "operator": operator, "values": &names[..1]})];
        if names.len() > 1 && operator == "In" && random.percent(30) {
            all.push(json!({"key": "metadata.name", "operator": "In", "values": [names[1]]}));
        }
        term.insert("matchFields".to_owned(), json!(all));
    }
    json!(term)
}

fn node_expression(random: &mut Random) -> Value {
    match random.between(0, 6) {
        0 => json!({"key": "disk", "operator": "In", "values": ["ssd"]}),
        1 => json!({"key": "disk", "operator": "NotIn", "values": ["hdd", "tape"]}),
        2 => json!({"key": "rack", "operator": "Exists"}),
        3 => json!({"key": "rack", "operator": "DoesNotExist"}),
        4 => json!({"key": "generation", "operator": "Gt", "values": [random.between(1, 4).to_string()]}),
        5 => json!({"key": "generation", "operator": "Lt", "values": [random.between(2, 6).to_string()]}),
        _ => {
            json!({"key": "topology.kubernetes.io/zone", "operator": "In", "values": random.some(&ZONES, 60).first().map_or(vec!["a"], |zone| vec![*zone, "z"])})
        }
    }
}

fn label_selector(random: &mut Random) -> Value {
    match random.between(0, 6) {
        0 => json!({"matchLabels": {"app": random.pick(&APPS), "tier": random.pick(&TIERS)}}),
        1 => json!({"matchExpressions": [{"key": "tier", "operator": "In", "values": ["front", "back"]}]}),
        2 => json!({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["edge"]}]}),
        3 => json!({"matchExpressions": [{"key": "hash", "operator": "Exists"}, {"key": "app", "operator": "Exists"}]}),
        4 => json!({"matchExpressions": [{"key": "hash", "operator": "DoesNotExist"}]}),
        _ => json!({"matchLabels": {"app": random.pick(&APPS)}}),
    }
}

const TOPOLOGIES: [&str; 3] = ["kubernetes.io/hostname", "topology.kubernetes.io/zone", "rack"];

fn spread(random: &mut Random, labels: &Map<String, Value>, at: u64) -> Value {
    let hard = random.percent(55);
    // The API refuses two constraints of one kind over one label.
    let topology = TOPOLOGIES[((random.next() % 2) + at) as usize % TOPOLOGIES.len()];
    let mut all = json!({
        "maxSkew": random.between(1, 3),
        "topologyKey": topology,
        "whenUnsatisfiable": if hard { "DoNotSchedule" } else { "ScheduleAnyway" },
    });
    if random.percent(95) {
        all["labelSelector"] = label_selector(random);
        if random.percent(30) && labels.contains_key("hash") {
            all["matchLabelKeys"] = json!(["hash", "absent"]);
        }
    }
    if hard && random.percent(40) {
        all["minDomains"] = json!(random.between(1, 5));
    }
    if random.percent(40) {
        all["nodeAffinityPolicy"] = json!(random.pick(&["Honor", "Ignore"]));
    }
    if random.percent(40) {
        all["nodeTaintsPolicy"] = json!(random.pick(&["Honor", "Ignore"]));
    }
    all
}

fn between_pods(random: &mut Random, labels: &Map<String, Value>, spec: &mut Value, chance: u64) {
    for (kind, required, preferred) in [
        ("podAffinity", chance / 3, chance / 2),
        ("podAntiAffinity", chance / 3, chance / 2),
    ] {
        if random.percent(required) {
            let terms: Vec<Value> = (0..random.between(1, 2)).map(|_| pod_term(random, labels)).collect();
            spec["affinity"][kind]["requiredDuringSchedulingIgnoredDuringExecution"] = json!(terms);
        }
        if random.percent(preferred) {
            let terms = (0..random.between(1, 2))
                .map(|_| json!({"weight": random.between(1, 100), "podAffinityTerm": pod_term(random, labels)}));
            spec["affinity"][kind]["preferredDuringSchedulingIgnoredDuringExecution"] = terms.collect();
        }
    }
}

fn pod_term(random: &mut Random, labels: &Map<String, Value>) -> Value {
    let mut term = json!({"topologyKey": random.pick(&TOPOLOGIES)});
    if random.percent(95) {
        let mut selector = if random.percent(5) {
            json!({})
        } else {
            label_selector(random)
        };
        // The API writes the values of these labels into the selector.
        for (keys, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
            if random.percent(12)
                && let Some(value) = labels.get("hash")
            {
                term[keys] = json!(["hash"]);
                let mut all = selector["matchExpressions"].as_array().cloned().unwrap_or_default();
                all.push(json!({"key": "hash", "operator": operator, "values": [value]}));
                selector["matchExpressions"] = json!(all);
                break;
            }
        }
        term["labelSelector"] = selector;
    }
    match random.between(0, 5) {
        0 => term["namespaces"] = json!(["team-a", "team-b"]),
        1 => term["namespaceSelector"] = json!({"matchLabels": {"team": "yes"}}),
        2 => term["namespaceSelector"] = json!({}),
        3 => {
            term["namespaces"] = json!(["default"]);
            term["namespaceSelector"] =
                json!({"matchExpressions": [{"key": "team", "operator": "In", "values": ["yes"]}]});
        }
        _ => {}
    }
    term
}
