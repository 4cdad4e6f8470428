//! A real API server with the real controllers, each as the identity it has in a cluster.

#![allow(dead_code)]

use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use strata_api::{ApiOptions, ApiServer};
use strata_auth::{ClusterCa, TokenIssuer, UserInfo};
use strata_client::{Client, Informer, Patch, Resource, Scope, resources::*};
use strata_controllers::{Controllers, ControllersOptions, SHARED_INFORMERS};
use strata_meta::{Object, Time};
use strata_store::MemoryStore;
use strata_task::CancellationToken;
use tokio::sync::Notify;

pub const DEADLINE: Duration = Duration::from_secs(30);

pub struct Cluster {
    pub api: Arc<ApiServer>,
    pub client: Client,
    pub ca: ClusterCa,
    controllers: Option<Controllers>,
    _directory: tempfile::TempDir,
    pub cancel: CancellationToken,
}

impl Cluster {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut ControllersOptions)) -> Self {
        strata_http::install_crypto();
        let directory = tempfile::tempdir().unwrap();
        let ca = ClusterCa::open_or_create(directory.path()).unwrap();
        let issuer = TokenIssuer::open_or_create(directory.path(), "https://kubernetes.default.svc").unwrap();
        let advertise = "127.0.0.1:6443".parse().unwrap();
        let options = ApiOptions::new(
            Arc::new(MemoryStore::new()),
            Arc::new(issuer),
            ca.ca_pem().to_owned(),
            advertise,
        );
        let api = Arc::new(ApiServer::start(options).await.unwrap());
        let identities = api.clone();
        let client_for = move |name: &str| identities.client(identity(name));
        let mut options = ControllersOptions::new(Arc::new(client_for));
        options.ca_pem = ca.ca_pem().to_owned();
        change(&mut options);
        let cancel = CancellationToken::new();
        let controllers = Controllers::start(options, cancel.clone()).unwrap();
        let client = api.client(UserInfo::new("admin", &["system:masters"]));
        Self {
            api,
            client,
            ca,
            controllers: Some(controllers),
            _directory: directory,
            cancel,
        }
    }

    /// A namespace whose default service account is there, so that pods are admitted.
    pub async fn namespace(&self, name: &str) {
        self.client
            .create(NAMESPACES, "", &json!({"metadata": {"name": name}}))
            .await
            .unwrap();
        self.until(SERVICE_ACCOUNTS, name, "the default account", |all| has(all, "default"))
            .await;
    }

    /// Waits until what is in a namespace (or the cluster) is as the predicate wants it.
    pub async fn until(
        &self,
        resource: Resource,
        namespace: &str,
        what: &str,
        is: impl Fn(&[Value]) -> bool,
    ) -> Vec<Value> {
        let namespace = (!namespace.is_empty()).then(|| namespace.to_owned());
        let scope = Scope {
            namespace,
            ..Scope::default()
        };
        let informer = Informer::<Value>::start(&self.client, resource, scope, self.cancel.clone());
        let changed = Arc::new(Notify::new());
        let notify = changed.clone();
        informer.on_change(move |_| notify.notify_one());
        informer.synced().await;
        let now = || -> Vec<Value> { informer.list().iter().map(|(_, value)| (**value).clone()).collect() };
        let wait = async {
            loop {
                let all = now();
                if is(&all) {
                    return all;
                }
                changed.notified().await;
            }
        };
        match tokio::time::timeout(DEADLINE, wait).await {
            Ok(all) => all,
            Err(_) => panic!("{what}: not in {DEADLINE:?}; there is {:#}", json!(now())),
        }
    }

    /// Waits for one object.
    pub async fn until_one(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
        is: impl Fn(&Value) -> bool,
    ) -> Value {
        let named = |value: &&Value| value["metadata"]["name"] == name;
        let what = format!("{} {namespace}/{name}", resource.plural);
        let all = self
            .until(resource, namespace, &what, |all| {
                all.iter().find(named).is_some_and(&is)
            })
            .await;
        all.iter().find(named).unwrap().clone()
    }

    /// What a node agent would tell of a pod that runs and is ready.
    pub async fn run_pod(&self, pod: &Value, ip: &str) {
        let (namespace, name) = (text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["name"]));
        let ready = json!({"type": "Ready", "status": "True", "lastTransitionTime": Time::now()});
        let status = json!({"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [ready]});
        let patch = Patch::Strategic(json!({"status": status}));
        self.client
            .patch(PODS, &namespace, &name, Some("status"), patch)
            .await
            .unwrap();
    }

    /// A node that reports to be ready now.
    pub async fn node(&self, name: &str, ip: &str) -> Arc<Object> {
        let node = json!({"metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": "z1"}}});
        self.client.create(NODES, "", &node).await.unwrap();
        self.report(name, ip).await
    }

    pub async fn report(&self, name: &str, ip: &str) -> Arc<Object> {
        let ready = json!({"type": "Ready", "status": "True", "reason": "KubeletReady",
            "lastHeartbeatTime": Time::now(), "lastTransitionTime": Time::now()});
        let status = json!({"conditions": [ready], "addresses": [{"type": "InternalIP", "address": ip}]});
        let patch = Patch::Strategic(json!({"status": status}));
        self.client.patch(NODES, "", name, Some("status"), patch).await.unwrap()
    }

    pub async fn stop(mut self) {
        let controllers = self.controllers.take().unwrap();
        tokio::time::timeout(DEADLINE, controllers.stop())
            .await
            .expect("controllers end");
        self.api.stop().await;
    }
}

fn identity(controller: &str) -> UserInfo {
    match controller {
        SHARED_INFORMERS => UserInfo::new("system:kube-controller-manager", &["system:authenticated"]),
        name => UserInfo::new(
            format!("system:serviceaccount:kube-system:{name}"),
            &[
                "system:serviceaccounts",
                "system:serviceaccounts:kube-system",
                "system:authenticated",
            ],
        ),
    }
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

pub fn has(all: &[Value], name: &str) -> bool {
    all.iter().any(|value| value["metadata"]["name"] == name)
}

pub fn deployment(name: &str, replicas: i32, image: &str) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template(name, image)},
    })
}

pub fn template(app: &str, image: &str) -> Value {
    json!({"metadata": {"labels": {"app": app}}, "spec": {"containers": [{"name": "c", "image": image,
        "ports": [{"name": "http", "containerPort": 8080}]}]}})
}
