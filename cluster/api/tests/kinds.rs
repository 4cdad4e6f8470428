//! Kinds as a person at kubectl meets them: what is refused, what is filled in, what tables say.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use serde_json::{Value, json};
use support::TestServer;

async fn object(server: &TestServer, what: &str) -> Value {
    serde_json::from_str(&server.ok(&format!("get {what} -o json")).await).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_manifests_are_refused_in_upstreams_words() {
    let server = TestServer::start().await.with_account().await;
    for (manifest, sentence) in [
        (
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "c"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}}),
            "The Deployment \"web\" is invalid: spec.template.metadata.labels: Invalid value: {\"a\":\"c\"}: `selector` does not match template `labels`\n",
        ),
        (
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}}),
            "The Pod \"p\" is invalid: spec.containers[0].image: Required value\n",
        ),
        (
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": [{"port": 99_999}]}}),
            "The Service \"s\" is invalid: \n* spec.ports[0].port: Invalid value: 99999: must be between 1 and 65535, inclusive\n* spec.ports[0].targetPort: Invalid value: 99999: must be between 1 and 65535, inclusive\n",
        ),
    ] {
        let said = server.feed("create -f -", &manifest.to_string()).await;
        assert!(!said.ok, "{manifest}");
        assert_eq!(said.err, sentence);
    }
    assert_eq!(server.ok("get pods,deployments -o name").await, "");
    let said = server.kubectl("get configmaps --field-selector spec.x=1").await;
    assert!(
        said.err
            .contains("\"spec.x\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""),
        "{said:?}"
    );
    let said = server.kubectl("get pods --field-selector spec.x=1").await;
    assert!(said.err.contains("field label not supported: spec.x"), "{said:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_fills_in_what_it_decides() {
    let server = TestServer::start().await.with_account().await;
    server.ok("create job once --image=i:1").await;
    let job = object(&server, "job once").await;
    assert_eq!(
        job["spec"]["selector"]["matchLabels"]["batch.kubernetes.io/controller-uid"],
        job["metadata"]["uid"]
    );
    assert_eq!(job["spec"]["template"]["metadata"]["labels"]["job-name"], "once");
    server.ok("create secret generic keys --from-literal=a=b").await;
    server.ok("create service clusterip web --tcp=80:80").await;
    let patch = ["patch", "service", "web", "-p", r#"{"spec":{"type":"NodePort"}}"#];
    assert!(server.kubectl_with(&patch, "").await.ok);
    let node_port = object(&server, "service web").await["spec"]["ports"][0]["nodePort"].clone();
    assert!(node_port.is_i64(), "{node_port}");
    let patch = ["patch", "service", "web", "-p", r#"{"spec":{"type":"ClusterIP"}}"#];
    let said = server.kubectl_with(&patch, "").await;
    assert!(said.ok, "{said:?}");
    let service = object(&server, "service web").await;
    assert!(service["spec"]["ports"][0].get("nodePort").is_none(), "{service}");
    assert!(service["spec"].get("externalTrafficPolicy").is_none(), "{service}");
    for (list, heading) in [
        ("jobs", "NAME STATUS COMPLETIONS DURATION AGE"),
        ("secrets", "NAME TYPE DATA AGE"),
        ("services", "NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE"),
        ("serviceaccounts", "NAME AGE"),
    ] {
        let table = server.ok(&format!("get {list}")).await;
        let first: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
        assert_eq!(first.join(" "), heading);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_asked_for_approved_and_listed() {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let server = TestServer::start().await;
    let der = STANDARD.encode([0x30u8; 40]);
    let pem = format!("-----BEGIN CERTIFICATE REQUEST-----\n{der}\n-----END CERTIFICATE REQUEST-----\n");
    let manifest = json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": "join"},
        "spec": {"request": STANDARD.encode(pem), "signerName": "kubernetes.io/kube-apiserver-client-kubelet", "usages": ["client auth"],
            "username": "somebody-else", "groups": ["system:masters"]},
        "status": {"conditions": [{"type": "Approved", "status": "True"}]}});
    let said = server.feed("create -f -", &manifest.to_string()).await;
    assert!(said.ok, "{said:?}");
    let request = object(&server, "csr join").await;
    assert_eq!(request["spec"]["username"], "admin");
    assert!(
        request["status"].get("conditions").is_none_or(|c| c == &json!([])),
        "{request}"
    );
    let line = server.ok("get csr --no-headers").await;
    let cells: Vec<&str> = line.split_whitespace().skip(2).collect();
    assert_eq!(
        cells,
        [
            "kubernetes.io/kube-apiserver-client-kubelet",
            "admin",
            "<none>",
            "Pending"
        ]
    );
    server.ok("certificate approve join").await;
    assert!(server.ok("get csr join").await.trim_end().ends_with("Approved"));
    // Nobody approves or denies through the status.
    let denied = r#"[{"op": "add", "path": "/status/conditions/-", "value": {"type": "Denied", "status": "True"}}]"#;
    let words = [
        "patch",
        "csr",
        "join",
        "--subresource=status",
        "--type=json",
        "-p",
        denied,
    ];
    let said = server.kubectl_with(&words, "").await;
    for sentence in [
        "mutually exclusive",
        "updates may not add a condition of type \"Denied\"",
    ] {
        assert!(!said.ok && said.err.contains(sentence), "{said:?}");
    }
    server.stop().await;
}
