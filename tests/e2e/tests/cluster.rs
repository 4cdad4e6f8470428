//! Throwaway clusters of several nodes.

use std::fs;
use strata_e2e::{Cluster, Registry, build_busybox};

/// What of ours is on the machine: links and cgroups.
fn traces() -> Vec<String> {
    let mut found = Vec::new();
    for folder in [
        "/sys/class/net",
        "/sys/fs/cgroup",
        "/sys/fs/cgroup/memory",
        "/sys/fs/cgroup/unified",
    ] {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("strata") {
                found.push(format!("{folder}/{name}"));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn three_nodes_share_services_and_leave_nothing_behind() {
    let before = traces();
    let registry = Registry::start();
    let image = build_busybox().push(&registry, "busybox:1");
    let cluster = Cluster::create("trio", 3, &["--forward", &registry.port().to_string()]);
    let k = cluster.kubectl();
    let nodes = k.ok("get nodes -o wide");
    assert_eq!(nodes.matches(" Ready ").count(), 3, "{nodes}");
    k.ok("create deployment web --image=strata.local/hello:latest --replicas=6");
    k.ok("expose deployment web --port=80 --target-port=8080");
    k.ok("rollout status deployment web --timeout=60s");
    let spread = k.ok("get pods -l app=web -o jsonpath={.items[*].spec.nodeName}");
    for node in ["trio-1", "trio-2", "trio-3"] {
        assert!(spread.contains(node), "{spread}");
    }
    k.ok(&format!("run client --image={image} --restart=Never --command -- sh -c 'for i in 1 2 3 4 5 6 7 8 9 10 11 12; do wget -qO- http://web.default.svc.cluster.local; done'"));
    k.until("get pod client -o jsonpath={.status.phase}", |out| {
        out == "Succeeded" || out == "Failed"
    });
    let logs = k.ok("logs client");
    assert_eq!(logs.matches("hello from web").count(), 12, "{logs}");
    cluster.delete();
    assert_eq!(traces(), before);
}
