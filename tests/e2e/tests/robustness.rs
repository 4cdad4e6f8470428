//! What goes wrong on a node does not spread, and what is deleted goes.

use std::{net::TcpListener, time::Instant};
use strata_e2e::{Registry, Server, build_busybox};

fn pod(name: &str, image: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  \
         containers:\n  - name: c\n    image: {image}\n{more}---\n"
    )
}

#[test]
fn trouble_of_some_pods_is_not_that_of_others_and_ends_with_them() {
    let registry = Registry::start();
    let image = build_busybox().push(&registry, "busybox:1");
    // Connections are taken by the kernel, and nobody ever answers.
    let silent = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let silent = format!("localhost:{}/x:1", silent.local_addr().expect("its number").port());
    let server = Server::start(&[]);
    let k = server.kubectl();
    let stuck: String = (0..6).map(|i| pod(&format!("stuck{i}"), &silent, "")).collect();
    let forever = "    command: [sleep, '1000']\n";
    let missing = format!(
        "{forever}    volumeMounts: [{{name: v, mountPath: /v}}]\n  volumes: [{{name: v, secret: {{secretName: none}}}}]\n"
    );
    let hungry =
        "    command: [sh, -c, 'tail /dev/zero']\n    resources: {limits: {memory: 20Mi}}\n  restartPolicy: Never\n";
    let slow = "    command: [sh, -c, 'trap \"\" TERM; while :; do sleep 1; done']\n    \
                lifecycle: {preStop: {exec: {command: [sleep, '100']}}}\n";
    let sick = format!(
        "{forever}    livenessProbe: {{exec: {{command: ['false']}}, periodSeconds: 1, failureThreshold: 1}}\n"
    );
    k.apply(&stuck);
    k.until("get events --field-selector reason=Pulling", |out| {
        out.matches(&silent).count() >= 4
    });
    k.apply(
        &[
            pod("missing", &image, &missing),
            pod("hungry", &image, hungry),
            pod("slow", &image, slow),
            pod("sick", &image, &sick),
        ]
        .concat(),
    );
    k.ok("wait --for=condition=Ready pod/slow --timeout=30s");
    k.until(
        "get pod hungry -o jsonpath={.status.containerStatuses[0].state.terminated.reason}",
        |out| out == "OOMKilled",
    );
    k.until(
        "get pod sick -o jsonpath={.status.containerStatuses[0].restartCount}",
        |out| out != "0",
    );
    let began = Instant::now();
    k.ok("delete pod --all --timeout=30s");
    assert!(began.elapsed().as_secs() < 20, "deleting took {:?}", began.elapsed());
    let logs = server.data_dir().join("logs");
    let left = std::fs::read_dir(logs).expect("the folder of logs").count();
    assert_eq!(left, 0, "logs of pods that are gone");
}
