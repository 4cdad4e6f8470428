//! Webhooks that hang, talk nonsense or call back: whoever has nothing to do with them does not notice.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::{StreamExt, future::BoxFuture, stream};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use strata_client::{Client, ClientAuth, HttpsConfig, Resource, resources::*};
use strata_http::{Body, BoxError, Handler, Peer};
use support::beside::Beside;
use tokio::sync::watch;

const fn configuration(plural: &'static str, kind: &'static str) -> Resource {
    Resource::new("admissionregistration.k8s.io", "v1", plural, kind, false)
}
const VALIDATING: Resource = configuration("validatingwebhookconfigurations", "ValidatingWebhookConfiguration");
const MUTATING: Resource = configuration("mutatingwebhookconfigurations", "MutatingWebhookConfiguration");

/// A webhook that misbehaves by path.
#[derive(Clone)]
struct Hook {
    /// Calls going on.
    inside: watch::Sender<usize>,
    /// Whether those that hang may go.
    released: watch::Sender<bool>,
    calls: Arc<AtomicUsize>,
    /// With what it calls back.
    client: Arc<OnceLock<Client>>,
}

struct Inside(watch::Sender<usize>);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

fn answer(response: Value) -> Response<Body> {
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    Response::new(Body::full(review.to_string()))
}

impl Handler for Hook {
    fn call(&self, request: Request<Incoming>, _peer: Peer) -> BoxFuture<'static, Response<Body>> {
        let hook = self.clone();
        Box::pin(async move {
            hook.inside.send_modify(|count| *count += 1);
            let _inside = Inside(hook.inside.clone());
            let number = hook.calls.fetch_add(1, Ordering::Relaxed);
            let path = request.uri().path().to_owned();
            let bytes = request.into_body().collect().await.unwrap().to_bytes();
            let review: Value = serde_json::from_slice(&bytes).unwrap();
            let uid = review["request"]["uid"].clone();
            hook.misbehave(&path, &uid, number).await
        })
    }
}

impl Hook {
    async fn misbehave(&self, path: &str, uid: &Value, number: usize) -> Response<Body> {
        let patch = |text: &str| json!({"uid": uid, "allowed": true, "patchType": "JSONPatch", "patch": text});
        match path {
            "/hang" => {
                let mut released = self.released.subscribe();
                let _ = released.wait_for(|released| *released).await;
                answer(json!({"uid": uid, "allowed": false}))
            }
            "/stranger" => answer(json!({"uid": "another", "allowed": true})),
            "/other-kind" => Response::new(Body::full(json!({"apiVersion": "v1", "kind": "Pod"}).to_string())),
            "/html" => Response::new(Body::full("<html>")),
            "/empty" => Response::new(Body::empty()),
            "/endless" => {
                let piece = Bytes::from(vec![b' '; 1 << 16]);
                Response::new(Body::stream(stream::repeat_with(move || {
                    Ok::<_, BoxError>(piece.clone())
                })))
            }
            "/trickle" => {
                let drops = stream::unfold((), |()| async {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    Some((Ok::<_, BoxError>(Bytes::from_static(b" ")), ()))
                });
                Response::new(Body::stream(drops.boxed()))
            }
            "/redirect" => {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = http::StatusCode::TEMPORARY_REDIRECT;
                response.headers_mut().insert("location", "/redirect".parse().unwrap());
                response
            }
            "/no-base64" => answer(patch("~~~")),
            "/no-patch" => answer(patch(&STANDARD.encode("{\"op\": 1}"))),
            "/no-place" => answer(patch(&STANDARD.encode(r#"[{"op": "remove", "path": "/data/none"}]"#))),
            "/bomb" => {
                let copy = |at: usize| json!({"op": "copy", "from": "/data", "path": format!("/data/{}", at % 2)});
                let all: Vec<Value> = (0..64).map(copy).collect();
                answer(patch(&STANDARD.encode(Value::from(all).to_string())))
            }
            "/back" => {
                let client = self.client.get().unwrap();
                let map = json!({"metadata": {"name": format!("back-{number}")}});
                // What comes of it does not matter: the call itself asks this webhook again.
                let _ = client.create(CONFIG_MAPS, "default", &map).await;
                answer(json!({"uid": uid, "allowed": true}))
            }
            _ => answer(json!({"uid": uid, "allowed": true})),
        }
    }
}

type Bench = Beside<Hook>;

impl Hook {
    fn new() -> Self {
        Self {
            inside: watch::Sender::new(0),
            released: watch::Sender::new(false),
            calls: Arc::default(),
            client: Arc::default(),
        }
    }
}

impl Bench {
    /// One webhook about a resource.
    async fn configure(&self, resource: Resource, path: &str, about: &str, extra: Value) {
        let mut hook = json!({
            "name": "hostile.example.com",
            "clientConfig": self.place(path),
            "rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": [about]}],
            "sideEffects": "None", "admissionReviewVersions": ["v1"], "timeoutSeconds": 1,
        });
        for (key, value) in extra.as_object().into_iter().flatten() {
            hook[key] = value.clone();
        }
        let object = json!({"metadata": {"name": "hostile"}, "webhooks": [hook]});
        self.client.create(resource, "", &object).await.unwrap();
    }

    async fn forget(&self, resource: Resource) {
        self.client
            .delete(resource, "", "hostile", Default::default())
            .await
            .unwrap();
    }

    async fn make(&self, resource: Resource, name: &str) -> Result<(), String> {
        let object = match resource.plural {
            "services" => json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 443}]}}),
            _ => json!({"metadata": {"name": name}, "data": {"a": "Yg=="}}),
        };
        let made = self.client.create(resource, "default", &object).await;
        made.map(drop).map_err(|e| e.to_string())
    }

    /// A client over the network, with a certificate.
    fn remote(&self, user: &str, groups: &[&str]) -> Client {
        let leaf = self.server.ca.issue_client(user, groups).unwrap();
        let config = HttpsConfig {
            server: self.server.url(),
            ca_pem: self.server.ca.ca_pem().into(),
            auth: ClientAuth::Certificate {
                cert_pem: leaf.cert_pem.into(),
                key_pem: leaf.key_pem.into(),
            },
        };
        Client::https(config).unwrap()
    }

    /// Waits until so many calls hang in the webhook.
    async fn hanging(&self, count: usize) {
        let mut inside = self.hook.inside.subscribe();
        let all = inside.wait_for(|inside| *inside >= count);
        tokio::time::timeout(Duration::from_secs(60), all)
            .await
            .expect("they arrive")
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_refused_or_passed_over_as_the_policy_says() {
    let bench = Bench::start(Hook::new()).await;
    for (resource, path, expected) in [
        (VALIDATING, "/hang", "context deadline exceeded"),
        (VALIDATING, "/stranger", "expected response.uid="),
        (VALIDATING, "/other-kind", "webhook response was absent"),
        (VALIDATING, "/html", "failed to call webhook"),
        (VALIDATING, "/empty", "failed to call webhook"),
        (VALIDATING, "/endless", "failed to call webhook"),
        (VALIDATING, "/trickle", "context deadline exceeded"),
        (VALIDATING, "/redirect", "failed to call webhook"),
        (VALIDATING, "/no-place", "may not return response.patch"),
        (MUTATING, "/no-base64", "illegal base64"),
        (MUTATING, "/no-patch", "undecodable patch"),
    ] {
        let began = Instant::now();
        bench.configure(resource, path, "configmaps", json!({})).await;
        let why = bench.make(CONFIG_MAPS, "x").await.unwrap_err();
        assert!(
            why.contains("failed calling webhook \"hostile.example.com\""),
            "{path}: {why}"
        );
        assert!(why.contains(expected), "{path}: {why}");
        bench.forget(resource).await;
        let open = json!({"failurePolicy": "Ignore"});
        bench.configure(resource, path, "configmaps", open).await;
        let name = format!("open{}", path.replace('/', "-"));
        bench.make(CONFIG_MAPS, &name).await.unwrap();
        bench.forget(resource).await;
        assert!(began.elapsed() < Duration::from_secs(20), "{path}");
    }
    let closed = json!({"clientConfig": {"url": "https://127.0.0.1:1/"}});
    bench.configure(VALIDATING, "/", "configmaps", closed).await;
    let why = bench.make(CONFIG_MAPS, "x").await.unwrap_err();
    let expected = "Post \"https://127.0.0.1:1/?timeout=1s\": dial tcp 127.0.0.1:1: connect: connection refused";
    assert!(why.contains(expected), "{why}");
    bench.forget(VALIDATING).await;
    // A patch that does not apply is the object's fault as much as the webhook's: no policy passes it over.
    for (path, expected) in [("/no-place", "Internal error"), ("/bomb", "exceeding the limit")] {
        bench
            .configure(MUTATING, path, "configmaps", json!({"failurePolicy": "Ignore"}))
            .await;
        let why = bench.make(CONFIG_MAPS, "x").await.unwrap_err();
        assert!(why.contains(expected), "{path}: {why}");
        bench.forget(MUTATING).await;
    }
    bench.make(CONFIG_MAPS, "x").await.unwrap();
    bench.stop().await;
}

/// Requests held up by a hanging webhook: more than one level has seats, more than the server has turns.
const HELD_UP: usize = 230;

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_hangs_holds_up_nobody_else() {
    let bench = Bench::start(Hook::new()).await;
    let binding = json!({"metadata": {"name": "everybody"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io",
        "kind": "ClusterRole", "name": "cluster-admin"}, "subjects": [
            {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice"},
            {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}]});
    bench.client.create(CLUSTER_ROLE_BINDINGS, "", &binding).await.unwrap();
    // The server makes config maps of its own in other namespaces, at some time after it was started.
    let here = json!({"matchLabels": {"kubernetes.io/metadata.name": "default"}});
    let patient = json!({"timeoutSeconds": 30, "namespaceSelector": here});
    bench.configure(VALIDATING, "/hang", "configmaps", patient).await;
    // Alice shares a level with Bob; the superuser's requests are bounded by the server's turns alone.
    for (hurt, other) in [
        (bench.remote("alice", &[]), bench.remote("bob", &[])),
        (
            bench.remote("root", &["system:masters"]),
            bench.remote("admin", &["system:masters"]),
        ),
    ] {
        let writes: Vec<_> = (0..HELD_UP)
            .map(|n| {
                let client = hurt.clone();
                tokio::spawn(async move {
                    let map = json!({"metadata": {"name": format!("held-{n}")}});
                    client.create(CONFIG_MAPS, "default", &map).await
                })
            })
            .collect();
        bench.hanging(HELD_UP).await;
        for n in 0..50 {
            let name = format!("free-{n}");
            let secret = json!({"metadata": {"name": name}});
            other.create(SECRETS, "default", &secret).await.unwrap();
            other.get(SECRETS, "default", &name).await.unwrap();
            other
                .delete(SECRETS, "default", &name, Default::default())
                .await
                .unwrap();
        }
        assert_eq!(
            *bench.hook.inside.borrow(),
            HELD_UP,
            "nobody had to wait until a hanging call was over"
        );
        assert!(writes.iter().all(|write| !write.is_finished()));
        bench.hook.released.send_replace(true);
        for write in writes {
            let why = write.await.unwrap().unwrap_err().to_string();
            assert!(why.contains("denied the request"), "{why}");
        }
        bench.hook.released.send_replace(false);
    }
    bench.forget(VALIDATING).await;
    bench.make(CONFIG_MAPS, "late").await.unwrap();
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_calls_back_comes_to_an_end() {
    let bench = Bench::start(Hook::new()).await;
    bench
        .hook
        .client
        .set(bench.remote("loop", &["system:masters"]))
        .ok()
        .unwrap();
    bench
        .configure(VALIDATING, "/back", "configmaps", json!({"timeoutSeconds": 2}))
        .await;
    let first = {
        let client = bench.client.clone();
        tokio::spawn(async move {
            let map = json!({"metadata": {"name": "first"}});
            client.create(CONFIG_MAPS, "default", &map).await
        })
    };
    bench.hanging(20).await;
    for n in 0..50 {
        bench.make(SECRETS, &format!("free-{n}")).await.unwrap();
    }
    let why = first.await.unwrap().unwrap_err().to_string();
    assert!(why.contains("context deadline exceeded"), "{why}");
    bench.forget(VALIDATING).await;
    let mut inside = bench.hook.inside.subscribe();
    let none = inside.wait_for(|inside| *inside == 0);
    tokio::time::timeout(Duration::from_secs(60), none)
        .await
        .expect("the chain ends")
        .unwrap();
    bench.make(CONFIG_MAPS, "late").await.unwrap();
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_on_everything_that_cannot_be_reached_can_be_removed() {
    let bench = Bench::start(Hook::new()).await;
    // Nothing listens there: its own endpoints would have to be made first, and making them asks it.
    let nowhere = json!({"clientConfig": {"service": {"namespace": "default", "name": "hook"}}});
    for resource in [MUTATING, VALIDATING] {
        bench.configure(resource, "/", "*/*", nowhere.clone()).await;
        for (kind, name) in [(CONFIG_MAPS, "x"), (SERVICES, "hook"), (SECRETS, "y")] {
            let why = bench.make(kind, name).await.unwrap_err();
            assert!(why.contains("failed calling webhook"), "{why}");
        }
        bench.forget(resource).await;
        bench.make(CONFIG_MAPS, &resource.plural[..8]).await.unwrap();
    }
    bench.stop().await;
}
