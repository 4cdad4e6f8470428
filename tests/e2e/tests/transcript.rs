//! What a person coming from k3s, kind or minikube types, on one server.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
    time::Duration,
};
use strata_e2e::{Kubectl, Registry, Server, build_busybox, build_nginx, eventually};

/// Asks an HTTP server for `/`; the whole answer.
fn get(address: &str) -> Result<String, String> {
    let text = |e: std::io::Error| e.to_string();
    let mut stream = TcpStream::connect(address).map_err(text)?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(text)?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").map_err(text)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(text)?;
    if answer.contains(" 200 ") {
        Ok(answer)
    } else {
        Err(answer)
    }
}

#[test]
fn the_usual_commands_work_on_a_deployment() {
    let registry = Registry::start();
    let (one, two) = {
        let nginx = build_nginx();
        (nginx.push(&registry, "nginx:1"), nginx.push(&registry, "nginx:2"))
    };
    let server = Server::start(&[]);
    let k = server.kubectl();
    assert!(k.ok("version").contains("v1.36.3"));
    assert!(k.ok("api-resources").contains("deployments"));
    k.ok("wait --for=condition=Ready node --all --timeout=60s");

    k.ok(&format!("create deployment my-nginx --image={one} --replicas=3"));
    k.ok("rollout status deployment my-nginx --timeout=60s");
    let pods = k.ok("get pods -A -o wide");
    assert_eq!(pods.matches("Running").count(), 3, "{pods}");
    watch(&k, &one);
    expose(&k);
    scale_and_roll(&k, &two);
    change(&k);
    k.ok("delete deployment,service my-nginx");
    k.until("get pods", |out| out.is_empty());
}

fn expose(k: &Kubectl) {
    k.ok("expose deployment my-nginx --type=LoadBalancer --port=8080 --target-port=80");
    let service = k.json("get service my-nginx");
    let address = service["spec"]["clusterIP"]
        .as_str()
        .expect("a cluster address")
        .to_owned();
    let answer = eventually("the cluster address answers", || get(&format!("{address}:8080")));
    assert!(answer.contains("nginx in strata"));
    let node_port = service["spec"]["ports"][0]["nodePort"].as_u64().expect("a node port");
    let ip = k.ok("get nodes -o jsonpath={.items[0].status.addresses[?(@.type==\"InternalIP\")].address}");
    eventually("the node port answers", || get(&format!("{ip}:{node_port}")));
    let external = k.until(
        "get service my-nginx -o jsonpath={.status.loadBalancer.ingress[0].ip}",
        |out| !out.is_empty(),
    );
    eventually("the load balancer's address answers", || {
        get(&format!("{external}:8080"))
    });
}

fn scale_and_roll(k: &Kubectl, two: &str) {
    k.ok("scale deployment my-nginx --replicas=2");
    k.until("get deployment my-nginx -o jsonpath={.status.replicas}", |out| {
        out == "2"
    });
    k.ok(&format!("set image deployment/my-nginx nginx={two}"));
    k.ok("rollout status deployment my-nginx --timeout=60s");
    assert!(
        k.ok("get deployment my-nginx -o jsonpath={.spec.template.spec.containers[0].image}")
            .ends_with("nginx:2")
    );
    assert!(k.ok("rollout history deployment my-nginx").lines().count() >= 4);
    k.ok("rollout undo deployment my-nginx");
    k.ok("rollout status deployment my-nginx --timeout=60s");
    assert!(
        k.ok("get deployment my-nginx -o jsonpath={.spec.template.spec.containers[0].image}")
            .ends_with("nginx:1")
    );
    k.ok("rollout restart deployment my-nginx");
    k.ok("rollout status deployment my-nginx --timeout=60s");
}

fn change(k: &Kubectl) {
    k.ok("label deployment my-nginx tier=front");
    k.ok("annotate deployment my-nginx note=here");
    k.ok("patch deployment my-nginx -p '{\"spec\":{\"minReadySeconds\":1}}'");
    let object = k.json("get deployment my-nginx");
    assert_eq!(object["metadata"]["labels"]["tier"], "front");
    assert_eq!(object["metadata"]["annotations"]["note"], "here");
    assert_eq!(object["spec"]["minReadySeconds"], 1);
    let described = k.ok("describe deployment my-nginx");
    assert!(described.contains("ScalingReplicaSet"), "{described}");
    assert!(k.ok("get events").contains("Scheduled"));
    let edited = k
        .command("edit deployment my-nginx")
        .env(
            "KUBE_EDITOR",
            "sed -i 's/replicas: 2$/replicas: 1/;s/tier: front/tier: back/'",
        )
        .output()
        .expect("kubectl is on the PATH");
    assert!(edited.status.success(), "{}", String::from_utf8_lossy(&edited.stderr));
    let object = k.json("get deployment my-nginx");
    assert_eq!(object["spec"]["replicas"], 1);
    assert_eq!(object["metadata"]["labels"]["tier"], "back");
}

/// `get -w` shows a pod that comes, its changes, and that it goes.
fn watch(k: &Kubectl, image: &str) {
    let mut child = k.spawn("get pods -A -w");
    k.ok(&format!("run seen --image={image} --restart=Never"));
    let reader = BufReader::new(child.stdout.take().expect("piped"));
    let mut lines = reader.lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("seen") && line.contains("Running")));
    k.ok("delete pod seen --grace-period=1");
    child.kill().expect("a child can be killed");
    child.wait().expect("a child can be waited for");
}

#[test]
fn a_pod_can_be_watched_entered_and_copied_from() {
    let registry = Registry::start();
    let image = build_busybox().push(&registry, "busybox:1");
    let server = Server::start(&[]);
    let k = server.kubectl();
    k.apply(&format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: box, labels: {{app: box}}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: box
    image: {image}
    command: [sh, -c, "echo one; echo two >&2; trap exit TERM; i=0; while true; do echo tick $i; i=$((i+1)); sleep 0.2; done"]
"#
    ));
    k.ok("wait --for=condition=Ready pod/box --timeout=60s");
    let logs = k.until("logs box", |out| out.contains("tick 0"));
    assert!(logs.starts_with("one\n") && logs.contains("two\n"), "{logs}");
    assert_eq!(k.ok("logs box --tail=1").lines().count(), 1);
    follow(&k);
    assert_eq!(k.ok("exec box -- sh -c 'echo out; exit 0'"), "out\n");
    let failed = k.run("exec box -- sh -c 'exit 7'");
    assert_eq!(failed.code, 7, "{}", failed.stderr);
    let piped = k.run_with_input("exec -i box -- sh -c 'wc -c'", &"x".repeat(100_000));
    assert_eq!(piped.stdout.trim(), "100000", "{}", piped.stderr);
    let terminal = k.run_with_input("exec -it box -- sh -c 'echo term'", "");
    assert!(terminal.stdout.contains("term"), "{}", terminal.stderr);
    in_a_terminal(&k);
    k.ok("exec box -- sh -c 'echo copied > /tmp/file'");
    let local = tempfile::tempdir().expect("a temporary folder");
    k.ok(&format!("cp box:/tmp/file {}/file", local.path().display()));
    assert_eq!(
        std::fs::read_to_string(local.path().join("file")).expect("the copy"),
        "copied\n"
    );
    k.ok(&format!("cp {}/file box:/tmp/back", local.path().display()));
    assert_eq!(k.ok("exec box -- cat /tmp/back"), "copied\n");
    k.ok("delete pod box");
    assert!(k.refused("get pod box").contains("NotFound"));
}

/// `exec -it` from a real terminal, made by script(1), whose size the container's terminal soon has.
fn in_a_terminal(k: &Kubectl) {
    let output = Command::new("script")
        .args([
            "-qec",
            "stty rows 33 cols 99; kubectl exec -it box -- sh -c 'tty; until stty size 2>&-; do :; done'",
            "/dev/null",
        ])
        .env("KUBECONFIG", k.kubeconfig())
        .stdin(Stdio::null())
        .output()
        .expect("script runs");
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(shown.contains("/dev/pts/") && shown.contains("33 99"), "{shown}");
}

#[test]
fn the_log_of_a_pod_that_never_stops_writing_ends_where_it_was() {
    let registry = Registry::start();
    let image = build_busybox().push(&registry, "busybox:1");
    let server = Server::start(&[]);
    let k = server.kubectl();
    k.ok(&format!(
        "run chatter --image={image} --command -- sh -c 'while :; do echo line; done'"
    ));
    k.ok("wait --for=condition=Ready pod/chatter --timeout=60s");
    k.until("logs chatter --limit-bytes=4", |out| out == "line");
    assert!(k.ok("logs chatter --request-timeout=30s").lines().count() > 10);
    k.ok("delete pod chatter --grace-period=0 --force");
}

fn follow(k: &Kubectl) {
    let mut child = k.spawn("logs -f box --since=1s");
    let reader = BufReader::new(child.stdout.take().expect("piped"));
    let ticks = reader
        .lines()
        .map_while(Result::ok)
        .filter(|line| line.starts_with("tick"))
        .take(3)
        .count();
    child.kill().expect("a child can be killed");
    child.wait().expect("a child can be waited for");
    assert_eq!(ticks, 3, "logs -f shows lines as they are written");
}

#[test]
fn port_forward_reaches_a_pod() {
    let server = Server::start(&[]);
    let k = server.kubectl();
    k.ok("run web --image=strata.local/hello --image-pull-policy=IfNotPresent");
    k.ok("wait --for=condition=Ready pod/web --timeout=60s");
    let mut child = k.spawn("port-forward pod/web :8080");
    let mut line = String::new();
    let mut reader = BufReader::new(child.stdout.take().expect("piped"));
    reader.read_line(&mut line).expect("a line");
    let port = line
        .split("127.0.0.1:")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .unwrap_or_default()
        .to_owned();
    let answers: Vec<_> = (0..3).map(|_| get(&format!("127.0.0.1:{port}"))).collect();
    child.kill().expect("a child can be killed");
    child.wait().expect("a child can be waited for");
    for answer in answers {
        assert!(
            answer.as_ref().is_ok_and(|a| a.contains("hello from web")),
            "{line} {answer:?}"
        );
    }
}
