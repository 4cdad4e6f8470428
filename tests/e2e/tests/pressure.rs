//! What becomes of pods when the node runs short, and of those that hold more than they may.

use strata_e2e::{Registry, Server, build_busybox};

/// Shows why a pod ended.
const WHY: &str = "-o jsonpath={.status.phase}:{.status.reason}:{.status.message}";

#[test]
fn a_pod_that_holds_more_than_it_may_is_evicted_alone() {
    let registry = Registry::start();
    let image = build_busybox().push(&registry, "busybox:1");
    let server = Server::start(&[]);
    let k = server.kubectl();
    let pod = |name: &str, volume: &str, limits: &str| {
        k.apply(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 300\n  containers:\n  \
             - name: c\n    image: {image}\n    command: [sh, -c, \"dd if=/dev/zero of=/v/full bs=1M count=6; trap : TERM; sleep 1000000\"]\n    \
             resources: {{limits: {{{limits}}}}}\n    volumeMounts: [{{name: v, mountPath: /v}}]\n  \
             volumes: [{{name: v, emptyDir: {{{volume}}}}}]\n"
        ));
    };
    pod("sized", "sizeLimit: 5Mi", "");
    pod("limited", "", "ephemeral-storage: 4Mi");
    pod("modest", "sizeLimit: 20Mi", "ephemeral-storage: 20Mi");
    pod("memory", "medium: Memory, sizeLimit: 7Mi", "");
    for (name, why) in [
        ("sized", "Usage of EmptyDir volume \"v\" exceeds the limit \"5Mi\". "),
        (
            "limited",
            "Pod ephemeral local storage usage exceeds the total limit of containers 4Mi. ",
        ),
    ] {
        let told = k.until(&format!("get pod {name} {WHY}"), |out| out.starts_with("Failed"));
        assert_eq!(told, format!("Failed:Evicted:{why}"));
    }
    for name in ["modest", "memory"] {
        assert_eq!(k.ok(&format!("get pod {name} {WHY}")), "Running::");
    }
    k.until("get events -o jsonpath={.items[*].reason}", |out| {
        out.contains("Evicted")
    });
}

#[test]
fn a_node_short_of_memory_says_so_evicts_and_takes_no_more_that_ask_for_none() {
    let registry = Registry::start();
    let image = build_busybox().push(&registry, "busybox:1");
    let folder = tempfile::tempdir().expect("a folder");
    let settings = folder.path().join("kubelet.yaml");
    // No machine has that much to spare: the threshold is met from the start.
    let soft = "evictionSoft: {memory.available: 100%}\nevictionSoftGracePeriod: {memory.available: 8s}";
    let text = format!("evictionHard: {{}}\n{soft}\nsystemReserved: {{cpu: 100m, memory: 64Mi}}\nmaxPods: 7\n");
    std::fs::write(&settings, text).expect("settings");
    let server = Server::start(&["--kubelet-config", settings.to_str().expect("a path")]);
    let k = server.kubectl();
    let busy = |name: &str, resources: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  tolerations: [{{operator: Exists}}]\n  containers:\n  \
             - {{name: c, image: {image}, command: [sleep, \"1000000\"], resources: {{{resources}}}}}\n"
        )
    };
    k.apply(&busy("asks", "requests: {memory: 64Mi}"));
    k.until(
        "get nodes -o jsonpath={.items[0].status.conditions[?(@.type==\"MemoryPressure\")].status}",
        |out| out == "True",
    );
    k.until("get nodes -o jsonpath={.items[0].spec.taints[*].key}", |out| {
        out.contains("node.kubernetes.io/memory-pressure")
    });
    let told = k.until(&format!("get pod asks {WHY}"), |out| out.starts_with("Failed"));
    assert!(
        told.starts_with("Failed:Evicted:The node was low on resource: memory. Threshold quantity: "),
        "{told}"
    );
    let condition = "get pod asks -o jsonpath={.status.conditions[?(@.type==\"DisruptionTarget\")].reason}";
    k.until(condition, |out| out == "TerminationByKubelet");
    let node = k.json("get nodes");
    let status = &node["items"][0]["status"];
    assert_eq!(status["allocatable"]["pods"], "7");
    assert_ne!(status["allocatable"]["memory"], status["capacity"]["memory"]);
}

#[test]
fn settings_that_mean_nothing_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = folder.path().join("kubelet.yaml");
    std::fs::write(&settings, "evictionHrad: {}\n").expect("settings");
    let run = std::process::Command::new(strata_e2e::binary())
        .args(["server", "--data-dir"])
        .arg(folder.path().join("data"))
        .args(["--port", "0", "--kubelet-config"])
        .arg(&settings)
        .output()
        .expect("the binary starts");
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(!run.status.success() && said.contains("evictionHrad"), "{said}");
}
