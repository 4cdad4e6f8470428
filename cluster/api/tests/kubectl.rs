//! What a person with kubectl sees.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::sync::Arc;
use strata_store::{LogOptions, LogStore};
use support::TestServer;

const APP: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  replicas: 2
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec:
      containers:
      - {name: c, image: 'busybox:1'}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: cfg}
data: {a: '1'}
";

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_made_read_changed_and_removed() {
    let server = TestServer::start().await.with_account().await;
    assert_eq!(
        server.ok("create configmap c --from-literal=a=1").await,
        "configmap/c created\n"
    );
    assert_eq!(server.ok("get configmap c -o jsonpath={.data.a}").await, "1");
    let again = server.kubectl("create configmap c").await;
    assert_eq!(
        again.err,
        "error: failed to create configmap: configmaps \"c\" already exists\n"
    );
    server.ok("label configmap c tier=front").await;
    server.ok("annotate configmap c note=x").await;
    assert_eq!(server.ok("get configmap -l tier=front -o name").await, "configmap/c\n");
    let table = server.ok("get configmap c").await;
    assert!(table.starts_with("NAME   DATA   AGE\nc      1 "), "{table}");
    server
        .ok("patch configmap c --type=json -p [{\"op\":\"replace\",\"path\":\"/data/a\",\"value\":\"2\"}]")
        .await;
    server
        .ok("patch configmap c --type=merge -p {\"data\":{\"b\":\"3\"}}")
        .await;
    assert_eq!(
        server.ok("get configmap c -o jsonpath={.data}").await,
        r#"{"a":"2","b":"3"}"#
    );
    assert_eq!(server.ok("delete configmap c").await, "configmap \"c\" deleted\n");
    let gone = server.kubectl("get configmap c").await;
    assert_eq!(gone.err, "Error from server (NotFound): configmaps \"c\" not found\n");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn apply_is_idempotent_and_sees_changes() {
    let server = TestServer::start().await.with_account().await;
    let first = server.feed("apply -f -", APP).await;
    assert_eq!(
        first.out, "deployment.apps/app created\nconfigmap/cfg created\n",
        "{first:?}"
    );
    let second = server.feed("apply -f -", APP).await;
    assert_eq!(
        second.out, "deployment.apps/app unchanged\nconfigmap/cfg unchanged\n",
        "{second:?}"
    );
    let changed = server
        .feed("apply -f -", &APP.replace("replicas: 2", "replicas: 3"))
        .await;
    assert_eq!(
        changed.out, "deployment.apps/app configured\nconfigmap/cfg unchanged\n",
        "{changed:?}"
    );
    let dry = server
        .feed("apply --dry-run=server -f -", &APP.replace("busybox:1", "busybox:2"))
        .await;
    assert_eq!(
        dry.out, "deployment.apps/app configured (server dry run)\nconfigmap/cfg unchanged (server dry run)\n",
        "{dry:?}"
    );
    let image = "jsonpath={.spec.replicas}{.spec.template.spec.containers[0].image}";
    assert_eq!(server.ok(&format!("get deployment app -o {image}")).await, "3busybox:1");
    server.ok("scale deployment app --replicas=5").await;
    server.ok("set image deployment/app c=busybox:9").await;
    assert_eq!(server.ok(&format!("get deployment app -o {image}")).await, "5busybox:9");
    assert_eq!(
        server.ok("get deployment app -o jsonpath={.metadata.generation}").await,
        "4"
    );
    let deleted = server.feed("delete -f -", APP).await;
    assert!(deleted.ok, "{deleted:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn discovery_and_explain_tell_what_is_served() {
    let server = TestServer::start().await;
    let resources = server.ok("api-resources").await;
    for line in [
        "deployments                         deploy",
        "pods                                po",
    ] {
        assert!(resources.contains(line), "{resources}");
    }
    assert!(
        server
            .ok("explain deployment.spec.replicas")
            .await
            .contains("FIELD: replicas <integer>")
    );
    let older = server
        .ok("explain --output=plaintext-openapiv2 deployment.spec.replicas")
        .await;
    assert!(older.contains("FIELD:    replicas <integer>"), "{older}");
    assert!(server.ok("version").await.contains("Server Version: v1.36.3+strata"));
    assert!(
        server
            .ok("api-versions")
            .await
            .contains("rbac.authorization.k8s.io/v1\n")
    );
    for path in ["/healthz", "/livez", "/readyz"] {
        assert_eq!(server.ok(&format!("get --raw {path}")).await, "ok");
    }
    assert!(
        server
            .ok("get --raw /readyz?verbose")
            .await
            .ends_with("readyz check passed\n")
    );
    assert!(
        server
            .ok("get --raw /metrics")
            .await
            .contains("apiserver_request_total{")
    );
    assert!(server.ok("get --raw /openid/v1/jwks").await.contains("\"kty\":\"EC\""));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_stays_until_it_is_finalized() {
    let server = TestServer::start().await;
    server.ok("create namespace n").await;
    server.ok("delete namespace n --wait=false").await;
    assert_eq!(
        server.ok("get namespace n -o jsonpath={.status.phase}").await,
        "Terminating"
    );
    let refused = server.kubectl("create configmap c -n n").await;
    assert!(
        refused
            .err
            .contains("unable to create new content in namespace n because it is being terminated"),
        "{refused:?}"
    );
    let kept = server.kubectl("delete namespace kube-system").await;
    assert!(
        kept.err
            .contains("namespaces \"kube-system\" is forbidden: this namespace may not be deleted"),
        "{kept:?}"
    );
    let final_state = r#"{"kind":"Namespace","apiVersion":"v1","metadata":{"name":"n"},"spec":{"finalizers":[]}}"#;
    let said = server
        .feed("replace --raw /api/v1/namespaces/n/finalize -f -", final_state)
        .await;
    assert!(said.ok, "{said:?}");
    assert!(server.kubectl("get namespace n").await.err.contains("NotFound"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_may_do_what_rbac_grants() {
    let server = TestServer::start().await.with_account().await;
    server.ok("create serviceaccount bob").await;
    server
        .ok("create role reader --verb=get,list --resource=configmaps")
        .await;
    server
        .ok("create rolebinding bob --role=reader --serviceaccount=default:bob")
        .await;
    let as_bob = "--as=system:serviceaccount:default:bob";
    assert_eq!(
        server.ok(&format!("auth can-i list configmaps {as_bob}")).await,
        "yes\n"
    );
    assert_eq!(
        server
            .kubectl(&format!("auth can-i create configmaps {as_bob}"))
            .await
            .out,
        "no\n"
    );
    let refused = server.kubectl(&format!("get secrets {as_bob}")).await;
    assert_eq!(
        refused.err,
        "Error from server (Forbidden): secrets is forbidden: User \"system:serviceaccount:default:bob\" cannot list resource \"secrets\" in API group \"\" in the namespace \"default\"\n"
    );
    let token = server.ok("create token bob").await;
    let with = |words: &str| {
        format!(
            "--token={} --server={} --certificate-authority={} --kubeconfig=/dev/null {words}",
            token.trim(),
            server.url(),
            server.directory.path().join("ca.crt").display()
        )
    };
    std::fs::write(server.directory.path().join("ca.crt"), server.ca.ca_pem()).unwrap();
    server.ok(&with("get configmaps")).await;
    assert!(
        server
            .kubectl(&with("auth whoami"))
            .await
            .out
            .contains("system:serviceaccount:default:bob")
    );
    server.ok("delete serviceaccount bob").await;
    let late = server.kubectl(&with("get configmaps")).await;
    assert!(late.err.contains("Unauthorized"), "{late:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watching_shows_changes_as_they_happen() {
    let server = Arc::new(TestServer::start().await);
    let watcher = server.clone();
    let watching = tokio::spawn(async move {
        watcher
            .kubectl("get configmaps --watch --request-timeout=2s -o name")
            .await
    });
    let client = server.client();
    let maps = strata_client::resources::CONFIG_MAPS;
    for i in 0..3 {
        let map = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("w{i}")}});
        client.create(maps, "default", &map).await.unwrap();
    }
    let said = watching.await.unwrap();
    for i in 0..3 {
        assert!(said.out.contains(&format!("configmap/w{i}\n")), "{said:?}");
    }
    server.api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Arc::new(LogStore::open(directory.path(), LogOptions::default()).unwrap());
    let server = TestServer::over(open()).await;
    server.ok("create configmap kept --from-literal=a=1").await;
    server.ok("create service clusterip web --tcp=80").await;
    let address = server.ok("get service web -o jsonpath={.spec.clusterIP}").await;
    let revision = server
        .ok("get configmap kept -o jsonpath={.metadata.resourceVersion}")
        .await;
    server.stop().await;
    let server = TestServer::over(open()).await;
    let kept = "get configmap kept -o jsonpath={.data.a}{.metadata.resourceVersion}";
    assert_eq!(server.ok(kept).await, format!("1{revision}"));
    let taken = server
        .kubectl(&format!(
            "create service clusterip other --tcp=80 --clusterip={address}"
        ))
        .await;
    assert!(taken.err.contains("provided IP is already allocated"), "{taken:?}");
    server.stop().await;
}
