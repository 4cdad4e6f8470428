//! Commands that people and their tools use beyond the transcript, on one server.

use serde_json::Value;
use strata_e2e::{Kubectl, Server, eventually};

const APP: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: conf}
data: {color: blue}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  replicas: 1
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: strata.local/hello
        imagePullPolicy: IfNotPresent
        ports: [{containerPort: 8080}]
        readinessProbe: {httpGet: {path: /, port: 8080}}
";

#[test]
fn commands_beyond_the_transcript_work() {
    let server = Server::start(&[]);
    let k = server.kubectl();
    k.ok("wait --for=condition=Ready node --all --timeout=60s");
    applied_on_the_server(&k);
    revisions_are_kept(&k);
    dry_runs_leave_nothing(&k);
    finalizers_hold(&k);
    orphans_stay(&k);
    a_drained_node_is_empty(&k);
}

fn applied_on_the_server(k: &Kubectl) {
    k.apply(APP);
    assert!(k.apply(APP).lines().all(|line| line.ends_with("unchanged")));
    let began = std::time::Instant::now();
    k.ok("rollout status deployment app --timeout=60s");
    // The container listens a moment after it started; nobody waits a probe's period for that.
    assert!(began.elapsed().as_secs() < 8, "{:?}", began.elapsed());
    let server_side = |manifest: &str, flags: &str| {
        k.run_with_input(
            &format!("apply --server-side --field-manager=other {flags} -f -"),
            manifest,
        )
    };
    let green = APP.replace("blue", "green");
    server_side(APP, "--force-conflicts");
    let run = k.run_with_input("apply --server-side --field-manager=third -f -", &green);
    assert!(
        run.stderr.contains("conflict with") && run.stderr.contains(".data.color"),
        "{run:?}"
    );
    assert_eq!(server_side(&green, "").code, 0);
    assert_eq!(k.ok("get configmap conf -o jsonpath={.data.color}"), "green");
    let differ = k.run_with_input("diff -f -", APP);
    assert_eq!(differ.code, 1, "{}", differ.stderr);
    assert!(differ.stdout.contains("+  color: blue"), "{}", differ.stdout);
}

fn revisions_are_kept(k: &Kubectl) {
    k.ok("rollout pause deployment app");
    k.ok("set env deployment/app STEP=2");
    k.ok("set resources deployment/app --limits=memory=64Mi");
    k.ok("rollout resume deployment app");
    k.ok("rollout status deployment app --timeout=60s");
    let second = k.ok("rollout history deployment app --revision=2");
    assert!(second.contains("STEP") && second.contains("64Mi"), "{second}");
    k.ok("rollout undo deployment app --to-revision=1");
    k.ok("rollout status deployment app --timeout=60s");
    assert_eq!(
        k.ok("get deployment app -o jsonpath={.spec.template.spec.containers[0].env}"),
        ""
    );
    assert!(
        k.refused("rollout undo deployment app --to-revision=77")
            .contains("unable to find")
    );
}

fn dry_runs_leave_nothing(k: &Kubectl) {
    let made: Value = k.json("create configmap ghost --from-literal=a=b --dry-run=server");
    assert!(
        made["metadata"]["uid"].is_string() && made["metadata"]["resourceVersion"].is_null(),
        "{made}"
    );
    assert!(k.refused("get configmap ghost").contains("NotFound"));
}

fn finalizers_hold(k: &Kubectl) {
    k.ok("patch configmap conf --type=merge -p '{\"metadata\":{\"finalizers\":[\"example.com/hold\"]}}'");
    k.ok("delete configmap conf --wait=false");
    assert!(k.json("get configmap conf")["metadata"]["deletionTimestamp"].is_string());
    k.ok("patch configmap conf --type=json -p '[{\"op\":\"remove\",\"path\":\"/metadata/finalizers\"}]'");
    assert!(k.refused("get configmap conf").contains("NotFound"));
}

fn orphans_stay(k: &Kubectl) {
    let scale = k.ok("get deployment app --subresource=scale");
    assert!(scale.contains("DESIRED") && scale.contains("AVAILABLE"), "{scale}");
    k.ok("delete deployment app --cascade=orphan");
    assert!(k.ok("get replicasets -l app=app -o name").contains("app-"));
    k.ok("delete replicaset -l app=app --cascade=foreground");
    k.until("get pods -l app=app -o name", str::is_empty);
}

fn a_drained_node_is_empty(k: &Kubectl) {
    k.ok("run alone --image=strata.local/hello --image-pull-policy=IfNotPresent");
    k.ok("wait --for=condition=Ready pod/alone --timeout=60s");
    let node = k.ok("get nodes -o name");
    let drained = k.ok(&format!("drain {} --force --grace-period=1 --timeout=60s", node.trim()));
    assert!(drained.contains("pod/alone evicted"), "{drained}");
    k.ok(&format!("uncordon {}", node.trim()));
}

#[test]
fn a_user_signs_in_with_an_approved_certificate() {
    let server = Server::start(&["--no-node"]);
    let k = server.kubectl();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (key, request) = (path("key"), path("request"));
    let made = std::process::Command::new("openssl")
        .args([
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ])
        .args(["-subj", "/O=devs/CN=alice", "-keyout", &key, "-out", &request])
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let encoded = std::process::Command::new("base64").args(["-w0", &request]).output();
    let encoded = String::from_utf8(encoded.expect("base64 runs").stdout).expect("text");
    k.apply(&format!(
        "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {{name: alice}}\n\
         spec: {{request: {encoded}, signerName: kubernetes.io/kube-apiserver-client, usages: [client auth]}}\n"
    ));
    k.ok("certificate approve alice");
    let certificate = eventually("the certificate is signed", || {
        let text = k
            .ok("get csr alice -o 'go-template={{if .status.certificate}}{{base64decode .status.certificate}}{{end}}'");
        if text.is_empty() {
            Err("not yet".to_owned())
        } else {
            Ok(text)
        }
    });
    std::fs::write(path("certificate"), certificate).expect("a file");
    k.ok(&format!(
        "config set-credentials alice --client-key={key} --client-certificate={}",
        path("certificate")
    ));
    let who = k.ok("auth whoami --user=alice");
    assert!(
        who.contains("alice") && who.contains("[devs system:authenticated]"),
        "{who}"
    );
    assert!(
        k.refused("get pods --user=alice")
            .contains("User \"alice\" cannot list")
    );
}
