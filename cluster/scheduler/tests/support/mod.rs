//! An API server in this process with a scheduler beside it.

use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use strata_api::{ApiOptions, ApiServer};
use strata_auth::{ClusterCa, TokenIssuer, UserInfo};
use strata_client::{
    Client, DeleteOptions, Informer, Patch, Resource, Scope,
    meta::ObjectKey,
    resources::{EVENTS, NAMESPACES, NODES, PODS, SERVICE_ACCOUNTS},
};
use strata_scheduler::{Scheduler, SchedulerOptions};
use strata_store::{MemoryStore, Store};
use strata_task::CancellationToken;
use tokio::sync::watch;

const DEADLINE: Duration = Duration::from_secs(30);

pub struct TestCluster {
    pub admin: Client,
    pub scheduler: Scheduler,
    pub pods: Informer<Value>,
    changes: watch::Receiver<u64>,
    events: Informer<Value>,
    _api: ApiServer,
    _directory: tempfile::TempDir,
    _stop: strata_task::DropGuard,
}

impl TestCluster {
    pub async fn start() -> Self {
        Self::over(Arc::new(MemoryStore::new())).await
    }

    pub async fn over(store: Arc<dyn Store>) -> Self {
        strata_http::install_crypto();
        let directory = tempfile::tempdir().expect("temporary directory");
        let ca = ClusterCa::open_or_create(directory.path()).expect("authority");
        let issuer = TokenIssuer::open_or_create(directory.path(), "https://kubernetes.default.svc.cluster.local");
        let advertise = "10.1.2.3:6443".parse().expect("address");
        let options = ApiOptions::new(
            store,
            Arc::new(issuer.expect("issuer")),
            ca.ca_pem().to_owned(),
            advertise,
        );
        let api = ApiServer::start(options).await.expect("server");
        let admin = api.client(UserInfo::new("admin", &["system:masters"]));
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
        admin
            .create(SERVICE_ACCOUNTS, "default", &account)
            .await
            .expect("service account");
        let cancel = CancellationToken::new();
        let client = api.client(UserInfo::new("system:kube-scheduler", &["system:authenticated"]));
        let scheduler = Scheduler::start(SchedulerOptions::new(client), cancel.clone());
        let (ticks, changes) = watch::channel(0);
        let ticks = Arc::new(ticks);
        let follow = |resource| -> Informer<Value> {
            let informer = Informer::start(&admin, resource, Scope::default(), cancel.clone());
            let ticks = ticks.clone();
            informer.on_change(move |_| ticks.send_modify(|tick| *tick += 1));
            informer
        };
        Self {
            pods: follow(PODS),
            events: follow(EVENTS),
            changes,
            scheduler,
            admin,
            _api: api,
            _directory: directory,
            _stop: cancel.drop_guard(),
        }
    }

    pub async fn create(&self, resource: Resource, namespace: &str, object: Value) {
        let created = self.admin.create(resource, namespace, &object).await;
        created.unwrap_or_else(|error| panic!("{object}: {error}"));
    }

    pub async fn node(&self, name: &str, more: Value) {
        let mut node = json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "110"}},
        });
        merge(&mut node, &more);
        let taints = node["spec"]["taints"].clone();
        self.create(NODES, "", node).await;
        // A new node is tainted as not ready; its controller takes that away.
        let ready = Patch::Merge(json!({"spec": {"taints": taints}}));
        self.admin.patch(NODES, "", name, None, ready).await.expect("patch");
    }

    pub async fn pod(&self, name: &str, cpu: &str, spec: Value) {
        let mut pod = json!({
            "metadata": {"name": name},
            "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]},
        });
        merge(&mut pod["spec"], &spec);
        self.create(PODS, "default", pod).await;
    }

    pub async fn delete_pod(&self, name: &str) {
        let now = DeleteOptions {
            grace_period_seconds: Some(0),
            ..DeleteOptions::default()
        };
        self.admin.delete(PODS, "default", name, now).await.expect("delete");
    }

    /// Waits until a condition holds of what has been seen.
    pub async fn until<T>(&self, what: &str, mut holds: impl FnMut(&Self) -> Option<T>) -> T {
        let mut changes = self.changes.clone();
        let end = tokio::time::Instant::now() + DEADLINE;
        loop {
            changes.mark_unchanged();
            if let Some(found) = holds(self) {
                return found;
            }
            let changed = tokio::time::timeout_at(end, changes.changed()).await;
            changed
                .unwrap_or_else(|_| panic!("not within {DEADLINE:?}: {what}; {:?}", self.pods.list()))
                .expect("open");
        }
    }

    pub fn seen(&self, name: &str) -> Option<Arc<Value>> {
        self.pods.get(&ObjectKey::new("default", name))
    }

    pub async fn placed(&self, name: &str) -> String {
        let node = |cluster: &Self| Some(cluster.seen(name)?["spec"]["nodeName"].as_str()?.to_owned());
        self.until(&format!("{name} is placed"), node).await
    }

    /// Waits until an object is as it should be.
    pub async fn eventually(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
        holds: impl Fn(&Value) -> bool,
    ) -> Arc<Value> {
        let cancel = CancellationToken::new();
        let _stop = cancel.clone().drop_guard();
        let followed: Informer<Value> = Informer::start(&self.admin, resource, Scope::default(), cancel);
        let (ticks, mut changes) = watch::channel(());
        followed.on_change(move |_| {
            ticks.send_replace(());
        });
        let key = ObjectKey::new(namespace, name);
        let seen = async {
            loop {
                changes.mark_unchanged();
                if let Some(found) = followed.get(&key).filter(|object| holds(object)) {
                    return found;
                }
                changes.changed().await.expect("followed");
            }
        };
        let seen = tokio::time::timeout(DEADLINE, seen).await;
        seen.unwrap_or_else(|_| panic!("{key} is not as it should be: {:?}", followed.get(&key)))
    }

    /// The condition PodScheduled.
    pub async fn condition(&self, name: &str, status: &str) -> Value {
        let condition = |cluster: &Self| {
            let pod = cluster.seen(name)?;
            let conditions = pod["status"]["conditions"].as_array()?;
            let found = conditions.iter().find(|condition| condition["type"] == "PodScheduled");
            found.filter(|condition| condition["status"] == status).cloned()
        };
        self.until(&format!("{name} has PodScheduled={status}"), condition)
            .await
    }

    /// The message of an event about a pod.
    pub async fn event(&self, name: &str, reason: &str) -> String {
        self.event_with(name, reason, "").await
    }

    /// The message of an event about a pod that has these words in it.
    pub async fn event_with(&self, name: &str, reason: &str, words: &str) -> String {
        let event = |cluster: &Self| {
            let all = cluster.events.list();
            let of_pod = all.iter().filter(|(_, event)| event["involvedObject"]["name"] == name);
            let mut messages = of_pod
                .filter(|(_, event)| event["reason"] == reason)
                .filter_map(|(_, event)| event["message"].as_str());
            Some(messages.find(|message| message.contains(words))?.to_owned())
        };
        let what = format!("{name} has an event {reason} with {words:?}");
        self.until(&what, event).await
    }

    pub async fn namespace(&self, name: &str, labels: Value) {
        self.create(NAMESPACES, "", json!({"metadata": {"name": name, "labels": labels}}))
            .await;
        let account = json!({"metadata": {"name": "default"}});
        self.create(SERVICE_ACCOUNTS, name, account).await;
    }

    /// Seconds since a moment, for rates.
    pub fn seconds_since(start: SystemTime) -> f64 {
        start.elapsed().map_or(f64::NAN, |elapsed| elapsed.as_secs_f64())
    }
}

fn merge(into: &mut Value, more: &Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more.clone(),
    }
}
