//! Servers: restarted, side by side, in the way of each other, and given bad input.

use std::process::Command;
use strata_e2e::{Server, binary};

#[test]
fn a_killed_server_finds_its_containers_running() {
    let mut server = Server::start(&[]);
    let k = server.kubectl();
    k.ok("create deployment web --image=strata.local/hello:latest --replicas=2");
    k.ok("rollout status deployment web --timeout=60s");
    k.until("get pods --no-headers", |out| out.lines().count() == 2);
    let ids = "get pods -o jsonpath={.items[*].status.containerStatuses[0].containerID}";
    let before = k.ok(ids);
    server.kill();
    server.launch();
    k.ok("wait --for=condition=Ready node --all --timeout=60s");
    k.until(ids, |out| out == before);
    k.ok("wait --for=condition=Available deployment/web --timeout=60s");
    assert_eq!(
        k.ok("get pods -o jsonpath={.items[*].status.containerStatuses[0].restartCount}"),
        "0 0"
    );
    assert_eq!(server.stop(), 0, "SIGTERM is a clean end");
}

#[test]
fn two_servers_run_side_by_side() {
    let (one, two) = (Server::start(&[]), Server::start(&["--node-name", "second"]));
    for server in [&one, &two] {
        let k = server.kubectl();
        k.ok("run web --image=strata.local/hello --image-pull-policy=IfNotPresent --port=8080");
        k.ok("wait --for=condition=Ready pod/web --timeout=60s");
    }
    let ip = |s: &Server| s.kubectl().ok("get pod web -o jsonpath={.status.podIP}");
    assert_ne!(ip(&one), ip(&two));
}

#[test]
fn a_server_that_cannot_start_says_why_in_one_line() {
    let server = Server::start(&["--no-node"]);
    let other = tempfile::tempdir().expect("a temporary folder");
    let start = |data: &std::path::Path, port: u16| {
        let run = Command::new(binary())
            .args([
                "--log",
                "error",
                "server",
                "--no-node",
                "--port",
                &port.to_string(),
                "--data-dir",
            ])
            .arg(data)
            .output()
            .expect("the binary runs");
        assert_eq!(run.status.code(), Some(1));
        String::from_utf8_lossy(&run.stderr).into_owned()
    };
    let port_taken = start(other.path(), server.port());
    assert!(
        port_taken.contains("in use") && port_taken.lines().count() == 1,
        "{port_taken}"
    );
    let data_taken = start(&server.data_dir(), strata_e2e::free_port());
    assert!(
        data_taken.contains("a server is running on") && data_taken.lines().count() == 1,
        "{data_taken}"
    );
}

#[test]
fn bad_input_is_refused_as_upstream_refuses_it() {
    let server = Server::start(&["--no-node"]);
    let k = server.kubectl();
    let refuse = |manifest: &str, sentence: &str| {
        let run = k.run_with_input("create -f -", manifest);
        assert_ne!(run.code, 0, "{manifest}");
        assert!(run.stderr.contains(sentence), "{sentence:?} is not in {}", run.stderr);
    };
    refuse(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: Bad_Name}\n",
        "a lowercase RFC 1123 subdomain must consist of",
    );
    refuse(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: []}\n",
        "spec.containers: Required value",
    );
    refuse(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: a, image: x, foo: 1}]}\n",
        "unknown field \"spec.containers[0].foo\"",
    );
    refuse(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {replicas: many}\n",
        "cannot unmarshal string into Go struct field",
    );
    refuse(
        "apiVersion: v1\nkind: Nothing\nmetadata: {name: nothing}\n",
        "no matches for kind \"Nothing\"",
    );
    k.ok("create configmap c --from-literal=a=1");
    assert!(k.refused("create configmap c").contains("already exists"));
    assert!(
        k.refused("get configmap none")
            .contains("configmaps \"none\" not found")
    );
    let stale = k.run_with_input(
        "replace -f -",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, resourceVersion: \"1\"}\n",
    );
    assert!(
        stale.stderr.contains("the object has been modified"),
        "{}",
        stale.stderr
    );
    let anonymous = k.run("get pods --as=system:anonymous");
    assert!(
        anonymous.stderr.contains("is forbidden") && anonymous.stderr.contains("User \"system:anonymous\""),
        "{}",
        anonymous.stderr
    );
    assert_eq!(k.ok("get configmap c -o jsonpath={.data.a}"), "1");
}
