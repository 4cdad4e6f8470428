//! Claims, volumes and what drivers say, of a random cluster.

use crate::{
    nodes::{NAMESPACES, ZONES},
    random::Random,
};
use serde_json::{Value, json};

const CLAIMS: u64 = 10;
const DRIVER: &str = "csi.example.com";
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// The volumes of a pod.
pub fn volumes(random: &mut Random, namespace: &str, placed: bool) -> Value {
    let mut all = Vec::new();
    for at in 0..random.between(1, 2) {
        let name = format!("v{at}");
        all.push(match random.between(0, 11) {
            0 => json!({"name": name, "gcePersistentDisk": {"pdName": random.pick(&["d1", "d2"]), "readOnly": random.percent(50)}}),
            1 => json!({"name": name, "iscsi": {"iqn": random.pick(&["q1", "q2"]), "targetPortal": "p", "lun": 0, "readOnly": random.percent(50)}}),
            2 => json!({"name": name, "rbd": {"monitors": random.pick(&[["m1", "m2"], ["m2", "m3"]]), "image": "i", "pool": "rbd", "readOnly": random.percent(50)}}),
            3 => json!({"name": name, "emptyDir": {}}),
            4 if !placed => json!({"name": name, "image": {"reference": "huge:9"}}),
            _ => json!({"name": name, "persistentVolumeClaim": {"claimName": format!("{namespace}-claim-{}", random.between(0, CLAIMS - 1) * 2 % CLAIMS + at % 2)}}),
        });
    }
    json!(all)
}

/// Everything of storage in a cluster with these nodes.
pub fn objects(random: &mut Random, nodes: u64) -> Vec<Value> {
    let mut all = classes(random);
    all.push(json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": DRIVER},
        "spec": {"storageCapacity": random.percent(60)},
    }));
    for at in 0..nodes {
        if random.percent(70) {
            let mut driver = json!({"name": DRIVER, "nodeID": format!("id-{at}"), "topologyKeys": []});
            if random.percent(80) {
                driver["allocatable"] = json!({"count": random.between(0, 3)});
            }
            all.push(json!({
                "apiVersion": "storage.k8s.io/v1", "kind": "CSINode", "metadata": {"name": format!("node-{at}")},
                "spec": {"drivers": [driver]},
            }));
        }
    }
    for (at, zone) in ZONES.iter().enumerate() {
        if random.percent(70) {
            all.push(json!({
                "apiVersion": "storage.k8s.io/v1", "kind": "CSIStorageCapacity",
                "metadata": {"namespace": "default", "name": format!("capacity-{at}")},
                "storageClassName": random.pick(&["wait", "topology"]),
                "nodeTopology": {"matchLabels": {"topology.kubernetes.io/zone": zone}},
                "capacity": format!("{}Gi", random.between(1, 20)),
                "maximumVolumeSize": format!("{}Gi", random.between(1, 20)),
            }));
        }
    }
    for at in 0..random.between(2, 8) {
        all.push(volume(random, &format!("free-{at}"), at, nodes, None));
    }
    for namespace in NAMESPACES {
        for at in 0..CLAIMS {
            claim(random, namespace, at, nodes, &mut all);
        }
    }
    all
}

fn classes(random: &mut Random) -> Vec<Value> {
    let class = |name: &str, provisioner: &str, mode: &str| {
        json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name},
            "provisioner": provisioner, "volumeBindingMode": mode,
        })
    };
    let mut topology = class("topology", DRIVER, "WaitForFirstConsumer");
    topology["allowedTopologies"] = json!([{"matchLabelExpressions": [
        {"key": "topology.kubernetes.io/zone", "values": random.some(&ZONES, 70)},
    ]}]);
    vec![
        class("wait", DRIVER, "WaitForFirstConsumer"),
        class("now", DRIVER, "Immediate"),
        class("local", NO_PROVISIONER, "WaitForFirstConsumer"),
        topology,
    ]
}

/// A volume; one that nobody has claimed yet if there is no claim. Sizes differ, so that the
/// smallest that does is one and the same everywhere.
fn volume(random: &mut Random, name: &str, at: u64, nodes: u64, claim: Option<(&str, &str, &str)>) -> Value {
    let mut spec = json!({
        "capacity": {"storage": format!("{}Mi", 1024 + at * 700)},
        "accessModes": random.pick(&[vec!["ReadWriteOnce"], vec!["ReadWriteOnce", "ReadWriteMany"], vec!["ReadWriteOncePod"]]),
        "volumeMode": random.pick(&["Filesystem", "Filesystem", "Filesystem", "Block"]),
        "storageClassName": claim.map_or("local", |(_, _, class)| class),
    });
    if random.percent(60) {
        spec["csi"] = json!({"driver": DRIVER, "volumeHandle": name});
    } else {
        spec["local"] = json!({"path": "/x"});
    }
    let mut labels = json!({});
    match random.between(0, 4) {
        0 => labels["topology.kubernetes.io/zone"] = json!(random.pick(&["a", "b", "a__b"])),
        1 => labels["failure-domain.beta.kubernetes.io/zone"] = json!(random.pick(&ZONES)),
        2 => {
            let names: Vec<String> = (0..nodes)
                .filter(|_| random.percent(50))
                .map(|at| format!("node-{at}"))
                .collect();
            spec["nodeAffinity"] = json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": names},
            ]}]}});
        }
        _ => labels["kind"] = json!(random.pick(&["fast", "slow"])),
    }
    if let Some((namespace, claim, _)) = claim {
        spec["claimRef"] = json!({"namespace": namespace, "name": claim, "uid": format!("{namespace}-{claim}")});
    }
    let phase = if claim.is_some() {
        "Bound"
    } else {
        *random.pick(&["Available", "Available", "Released"])
    };
    json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": name, "uid": name, "labels": labels},
        "spec": spec, "status": {"phase": phase},
    })
}

fn claim(random: &mut Random, namespace: &str, at: u64, nodes: u64, all: &mut Vec<Value>) {
    // Some claims are not there yet.
    if random.percent(6) {
        return;
    }
    let name = format!("{namespace}-claim-{at}");
    let class = *random.pick(&[
        "wait", "wait", "local", "local", "topology", "topology", "now", "missing",
    ]);
    let mut metadata = json!({"namespace": namespace, "name": name, "uid": format!("{namespace}-{name}")});
    let mut spec = json!({
        "accessModes": [random.pick(&["ReadWriteOnce", "ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod"])],
        "volumeMode": random.pick(&["Filesystem", "Filesystem", "Filesystem", "Block"]),
        "resources": {"requests": {"storage": format!("{}Mi", 900 + at * 510)}},
        "storageClassName": class,
    });
    let mut phase = "Pending";
    match random.between(0, 9) {
        0..=4 => {
            let volume_name = format!("bound-{namespace}-{at}");
            spec["volumeName"] = json!(volume_name);
            metadata["annotations"] = json!({"pv.kubernetes.io/bind-completed": "yes"});
            phase = "Bound";
            if random.percent(95) {
                all.push(volume(random, &volume_name, at, nodes, Some((namespace, &name, class))));
            }
            if random.percent(25) {
                all.push(json!({
                    "apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment",
                    "metadata": {"name": format!("attached-{namespace}-{at}")},
                    "spec": {"attacher": DRIVER, "nodeName": format!("node-{}", random.between(0, nodes - 1)),
                        "source": {"persistentVolumeName": volume_name}},
                }));
            }
        }
        5 if class == "wait" || class == "topology" => {
            let node = format!("node-{}", random.between(0, nodes - 1));
            metadata["annotations"] = json!({"volume.kubernetes.io/selected-node": node});
        }
        6 if random.percent(20) => {
            phase = "Lost";
            spec["volumeName"] = json!("gone");
        }
        7 if random.percent(30) => {
            metadata["deletionTimestamp"] = json!("2026-02-01T00:00:00Z");
            metadata["finalizers"] = json!(["kubernetes.io/pvc-protection"]);
        }
        8 => spec["selector"] = json!({"matchLabels": {"kind": "fast"}}),
        _ => {}
    }
    all.push(json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec, "status": {"phase": phase},
    }));
}
