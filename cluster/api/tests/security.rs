//! Who may act as whom, and who decides: a real server, the real kubectl, a real authorization webhook.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use std::{
    path::Path,
    sync::{Arc, Mutex},
};
use strata_auth::{ClusterCa, kubeconfig};
use strata_http::{Body, Handler, Peer};
use strata_store::MemoryStore;
use strata_task::CancellationToken;
use support::{TestServer, beside::listen};

const ROLES: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: constrained}
rules:
- {apiGroups: [authentication.k8s.io], resources: [users], resourceNames: [alice], verbs: ["impersonate:user-info"]}
- {apiGroups: [authentication.k8s.io], resources: [groups], resourceNames: [devs], verbs: ["impersonate:user-info"]}
- {apiGroups: [""], resources: [configmaps], verbs: ["impersonate-on:user-info:list"]}
- {apiGroups: [authentication.k8s.io], resources: [nodes], verbs: ["impersonate:arbitrary-node"]}
- {apiGroups: [""], resources: [nodes], verbs: ["impersonate-on:arbitrary-node:get"]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: legacy}
rules:
- {apiGroups: [""], resources: [users], resourceNames: [alice], verbs: [impersonate]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: reader}
rules: [{apiGroups: [""], resources: [configmaps], verbs: [list, get]}]
"#;

/// Writes a kubeconfig of a user; the words that make kubectl use it.
fn identity(server: &TestServer, name: &str) -> String {
    let leaf = server.ca.issue_client(name, &[]).unwrap();
    let path = server.directory.path().join(name);
    std::fs::write(&path, kubeconfig(&server.url(), server.ca.ca_pem(), &leaf, name)).unwrap();
    format!("--kubeconfig {}", path.display())
}

#[tokio::test]
async fn acting_as_somebody_else_is_constrained_to_whom_and_to_what() {
    let server = TestServer::start().await;
    assert!(server.feed("apply -f -", ROLES).await.ok);
    for (role, user) in [("constrained", "bob"), ("legacy", "carol"), ("reader", "alice")] {
        server
            .ok(&format!(
                "create clusterrolebinding {user} --clusterrole={role} --user={user}"
            ))
            .await;
    }
    let (bob, carol) = (identity(&server, "bob"), identity(&server, "carol"));
    server.ok(&format!("get configmaps --as alice {bob}")).await;
    server
        .ok(&format!("get configmaps --as alice --as-group devs {bob}"))
        .await;
    server.ok(&format!("get configmaps --as alice {carol}")).await;
    let why = [
        (
            "get configmap x --as alice",
            "cannot impersonate-on:user-info:get resource \"configmaps\"",
        ),
        (
            "get configmaps --as mallory",
            "cannot impersonate:user-info resource \"users\" in API group \"authentication.k8s.io\"",
        ),
        (
            "get configmaps --as alice --as-group system:masters",
            "impersonating the system:masters group is not allowed",
        ),
        (
            "get configmaps --as alice --as-uid 7",
            "cannot impersonate:user-info resource \"uids\"",
        ),
        (
            "get configmaps --as system:serviceaccount:n:a",
            "cannot impersonate-on:serviceaccount:list",
        ),
    ];
    for (words, sentence) in why {
        let said = server.kubectl(&format!("{words} {bob}")).await;
        assert!(!said.ok && said.err.contains(sentence), "{words}: {said:?}");
    }
    // A node's groups are its own: the node authorizer is asked, and knows no such node.
    let said = server.kubectl(&format!("get node n1 --as system:node:n1 {bob}")).await;
    assert!(said.err.contains("nodes \"n1\" not found"), "{said:?}");
    let said = server.kubectl(&format!("get configmaps --as mallory {carol}")).await;
    assert!(!said.ok, "{said:?}");
}

/// Decides by the user's name, and remembers what it was asked.
#[derive(Clone, Default)]
struct Judge(Arc<Mutex<Vec<Value>>>);

impl Handler for Judge {
    fn call(&self, request: Request<Incoming>, _peer: Peer) -> BoxFuture<'static, Response<Body>> {
        let asked = self.0.clone();
        Box::pin(async move {
            let bytes = request.into_body().collect().await.unwrap().to_bytes();
            let review: Value = serde_json::from_slice(&bytes).unwrap();
            asked.lock().unwrap().push(review.clone());
            let status = match review["spec"]["user"].as_str() {
                Some("yes") => json!({"allowed": true}),
                Some("no") => json!({"allowed": false, "denied": true, "reason": "not you"}),
                Some("broken") => return Response::builder().status(400).body(Body::empty()).unwrap(),
                _ => json!({"allowed": false}),
            };
            let answer =
                json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "status": status});
            Response::new(Body::full(answer.to_string()))
        })
    }
}

async fn judge(folder: &Path, cancel: &CancellationToken) -> Judge {
    strata_http::install_crypto();
    let ca = ClusterCa::open_or_create(folder).unwrap();
    let judge = Judge::default();
    let url = format!("https://{}/", listen(&ca, judge.clone(), cancel).await);
    let client = ca.issue_client("kube-apiserver", &[]).unwrap();
    std::fs::write(
        folder.join("judge.kubeconfig"),
        kubeconfig(&url, ca.ca_pem(), &client, "c"),
    )
    .unwrap();
    judge
}

#[tokio::test]
async fn webhooks_decide_where_the_configuration_puts_them() {
    let folder = tempfile::tempdir().unwrap();
    let cancel = CancellationToken::new();
    let judge = judge(folder.path(), &cancel).await;
    let path = folder.path().join("authorization.yaml");
    let text = format!(
        r#"
apiVersion: apiserver.config.k8s.io/v1
kind: AuthorizationConfiguration
authorizers:
- type: Webhook
  name: judge.example
  webhook:
    timeout: 3s
    subjectAccessReviewVersion: v1
    matchConditionSubjectAccessReviewVersion: v1
    failurePolicy: Deny
    connectionInfo: {{type: KubeConfigFile, kubeConfigFile: {}}}
    matchConditions:
    - expression: "request.user in ['yes', 'no', 'broken', 'reader']"
- {{type: RBAC, name: rbac}}
"#,
        folder.path().join("judge.kubeconfig").display()
    );
    std::fs::write(&path, text).unwrap();
    let server = TestServer::with(Arc::new(MemoryStore::new()), |options| {
        options.outside.authorization = Some(path);
    })
    .await;
    assert!(server.feed("apply -f -", ROLES).await.ok);
    for user in ["no", "reader", "other", "broken"] {
        server
            .ok(&format!(
                "create clusterrolebinding {user} --clusterrole=reader --user={user}"
            ))
            .await;
    }
    let list = async |user: &str| {
        let identity = identity(&server, user);
        server.kubectl(&format!("get configmaps -l a=b {identity}")).await
    };
    assert!(list("yes").await.ok, "the webhook allows it");
    assert!(list("reader").await.ok, "the webhook has no opinion, RBAC allows it");
    assert!(list("other").await.ok, "the webhook is not asked");
    let said = list("no").await;
    assert!(said.err.contains("not you"), "the webhook outweighs RBAC: {said:?}");
    assert!(!list("broken").await.ok, "failure is a no");
    let asked = judge.0.lock().unwrap().clone();
    let about = |user: &str| {
        asked
            .iter()
            .filter(|r| r["spec"]["user"] == user)
            .cloned()
            .collect::<Vec<_>>()
    };
    assert!(about("other").is_empty() && about("admin").is_empty());
    let listed = about("yes");
    let listed = listed
        .iter()
        .find(|r| r["spec"]["resourceAttributes"]["verb"] == "list")
        .unwrap();
    let labels = &listed["spec"]["resourceAttributes"]["labelSelector"];
    assert_eq!(
        labels,
        &json!({"requirements": [{"key": "a", "operator": "In", "values": ["b"]}]})
    );
    // Reviews of access ask the same.
    let said = server.kubectl("auth can-i list configmaps --as yes").await;
    assert_eq!(said.out.trim(), "yes", "{said:?}");
    let metrics = server.ok("get --raw /metrics").await;
    assert!(metrics.contains("decision=\"denied\",name=\"judge.example\",type=\"Webhook\""));
    cancel.cancel();
}

const ASKING: &str = r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: asking}
spec:
  matchConstraints:
    resourceRules:
    - {operations: [CREATE], apiGroups: [""], apiVersions: [v1], resources: [configmaps]}
  matchConditions:
  - {name: asked-first, expression: "authorizer.path('/first').check('get').reason() != 'not you'"}
  validations:
  - expression: "!authorizer.group('example.com').resource('laundry').check('launder').allowed()"
    message: who may launder may not
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: asking}
spec: {policyName: asking, validationActions: [Deny]}
"#;

#[tokio::test]
async fn what_expressions_ask_is_put_to_webhooks_too() {
    let folder = tempfile::tempdir().unwrap();
    let cancel = CancellationToken::new();
    let judge = judge(folder.path(), &cancel).await;
    let text = std::fs::read_to_string(folder.path().join("judge.kubeconfig")).unwrap();
    let server = TestServer::with(Arc::new(MemoryStore::new()), |options| {
        options.outside.authorization_webhook = Some(text);
        options.longest_token = Some(3600);
    })
    .await;
    let said = server.feed("apply -f -", ASKING).await;
    assert!(said.ok, "{said:?}");
    let verbs = || -> Vec<String> {
        let asked = judge.0.lock().unwrap();
        let attributes = asked.iter().flat_map(|review| {
            let spec = &review["spec"];
            [
                spec["resourceAttributes"]["verb"].clone(),
                spec["nonResourceAttributes"]["path"].clone(),
            ]
        });
        attributes.filter_map(|text| text.as_str().map(str::to_owned)).collect()
    };
    // RBAC would not let this one launder; the webhook does.
    let said = server
        .kubectl(&format!("create configmap a {}", identity(&server, "yes")))
        .await;
    assert!(said.err.contains("who may launder may not"), "{said:?}");
    for question in ["/first", "launder"] {
        let asked = verbs();
        assert_eq!(asked.iter().filter(|verb| *verb == question).count(), 1, "{asked:?}");
    }
    server
        .ok("create clusterrole writer --verb=create,get --resource=configmaps")
        .await;
    server
        .ok("create clusterrolebinding other --clusterrole=writer --user=other")
        .await;
    let said = server
        .kubectl(&format!("create configmap b {}", identity(&server, "other")))
        .await;
    assert!(said.ok, "{said:?}");
    server.ok("create serviceaccount robot").await;
    let said = server.ok("create token robot --duration 2h -o json").await;
    assert!(said.contains("\"expirationSeconds\": 3600"), "{said}");
    cancel.cancel();
}
