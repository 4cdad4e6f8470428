//! Storage objects that are deleted while they are used stay until they are not: claims of pods, bound volumes,
//! attribute classes that claims or volumes name.
//!
//! Admission gives each new one a finalizer (StorageObjectInUseProtection); here it is taken off, and given to those
//! that came without.

use crate::{
    Error,
    context::{Context, SHARED_INFORMERS},
    error::During,
    tracked::{Index, Tracked, value},
    views::{Pod, PodView},
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use strata_client::{Client, Informer, ListParams, Resource, Scope, WorkQueue, resources::*};
use strata_meta::{Object, ObjectKey};

const WORKERS: usize = 2;

/// One kind that is protected.
#[derive(Clone, Copy)]
struct Protected {
    resource: Resource,
    finalizer: &'static str,
    /// The service account that may write it.
    controller: &'static str,
}

const CLAIMS: Protected = Protected {
    resource: PERSISTENT_VOLUME_CLAIMS,
    finalizer: "kubernetes.io/pvc-protection",
    controller: "pvc-protection-controller",
};
const VOLUMES: Protected = Protected {
    resource: PERSISTENT_VOLUMES,
    finalizer: "kubernetes.io/pv-protection",
    controller: "pv-protection-controller",
};
const CLASSES: Protected = Protected {
    resource: VOLUME_ATTRIBUTES_CLASSES,
    finalizer: "kubernetes.io/vac-protection",
    controller: "volumeattributesclass-protection-controller",
};

/// What is read of all three.
#[derive(Default, Deserialize)]
#[serde(default)]
struct View {
    metadata: MetaView,
    spec: SpecView,
    status: StatusView,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct MetaView {
    finalizers: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct SpecView {
    volume_attributes_class_name: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct StatusView {
    phase: String,
    current_volume_attributes_class_name: Option<String>,
    modify_volume_status: Option<ModifyView>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ModifyView {
    target_volume_attributes_class_name: String,
}

type Stored = Tracked<View>;

/// The attribute classes that a claim or volume names.
fn classes(stored: &Stored) -> Vec<Arc<str>> {
    let (spec, status) = (&stored.view.spec, &stored.view.status);
    let target = status.modify_volume_status.as_ref();
    let names = [
        spec.volume_attributes_class_name.as_deref(),
        status.current_volume_attributes_class_name.as_deref(),
        target.map(|modify| modify.target_volume_attributes_class_name.as_str()),
    ];
    let named = names.into_iter().flatten().filter(|name| !name.is_empty());
    named.map(Arc::from).collect()
}

/// What is to be done with an object's finalizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Add,
    /// Once it is not used.
    Remove,
}

fn step(stored: &Stored, finalizer: &str) -> Option<Step> {
    let held = stored.view.metadata.finalizers.iter().any(|f| f == finalizer);
    match (stored.deleting, held) {
        (true, true) => Some(Step::Remove),
        (false, false) => Some(Step::Add),
        _ => None,
    }
}

/// Whether a pod that has a node uses a claim; agents start none that uses a claim which is being deleted.
fn uses(pod: &Object, view: &PodView, claim: &Object) -> bool {
    let own = || !view.is_shut_down && claim.controller().is_some_and(|owner| owner.uid == pod.uid);
    let names = |used: &crate::views::PodClaim| *used.name == *claim.name() && (!used.ephemeral || own());
    !view.node.is_empty() && view.claims.iter().any(names)
}

/// How it is known whether an object is used.
enum Use {
    ByPods(Arc<Index<Pod>>),
    Bound,
    Named([Arc<Index<Stored>>; 2]),
}

struct Guard {
    kind: Protected,
    client: Client,
    objects: Informer<Stored>,
    by: Use,
}

pub(crate) fn start(context: &Arc<Context>) {
    let shared = context.client(SHARED_INFORMERS);
    let follow = |kind: Protected| -> Informer<Stored> {
        Informer::start_with(
            &shared,
            kind.resource,
            Scope::default(),
            context.cancel.clone(),
            Tracked::decode,
        )
    };
    let (claims, volumes, attributes) = (follow(CLAIMS), follow(VOLUMES), follow(CLASSES));
    let pods = Index::new(&context.pods, |pod| {
        let key = |name: &str| Arc::from(format!("{}/{name}", pod.namespace()));
        pod.view.claims.iter().map(|claim| key(&claim.name)).collect()
    });
    let by_class = [Index::new(&claims, classes), Index::new(&volumes, classes)];

    let queue = guard(context, CLAIMS, &claims, &[], Use::ByPods(pods));
    context.pods.on_change(move |change| {
        // A pod that has gone, ended or lost a volume may have been the last to use its claims.
        let used = change.old.iter().chain(&change.new).flat_map(|pod| &pod.view.claims);
        used.for_each(|claim| queue.add(ObjectKey::new(&change.key.namespace, &claim.name)));
    });
    guard(context, VOLUMES, &volumes, &[], Use::Bound);
    let queue = guard(
        context,
        CLASSES,
        &attributes,
        &[&claims, &volumes],
        Use::Named(by_class),
    );
    for users in [&claims, &volumes] {
        let queue = queue.clone();
        users.on_change(move |change| {
            let named = change.old.iter().flat_map(|old| classes(old));
            named.for_each(|name| queue.add(ObjectKey::new("", &name)));
        });
    }
}

/// Looks after the objects of one kind; the queue takes those that may not be used any longer.
fn guard(
    context: &Arc<Context>,
    kind: Protected,
    objects: &Informer<Stored>,
    users: &[&Informer<Stored>],
    by: Use,
) -> WorkQueue<ObjectKey> {
    let queue: WorkQueue<ObjectKey> = WorkQueue::new();
    let to = queue.clone();
    objects.on_change(move |change| {
        if change
            .new
            .as_ref()
            .is_some_and(|new| step(new, kind.finalizer).is_some())
        {
            to.add(change.key.clone());
        }
    });
    let guard = Arc::new(Guard {
        kind,
        client: context.client(kind.controller),
        objects: objects.clone(),
        by,
    });
    let pods = context.pods.clone();
    let followed: Vec<Informer<Stored>> = users.iter().copied().chain([objects]).cloned().collect();
    let ready = async move {
        pods.synced().await;
        for informer in followed {
            informer.synced().await;
        }
    };
    context.run(&queue, WORKERS, ready, move |key| guard.clone().reconcile(key));
    queue
}

impl Guard {
    async fn reconcile(self: Arc<Self>, key: ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(stored) = self.objects.get(&key) else {
            return Ok(None);
        };
        let finalizer = self.kind.finalizer;
        let mut wanted = value(&stored.object)?;
        let mut finalizers = stored.view.metadata.finalizers.clone();
        match step(&stored, finalizer) {
            None => return Ok(None),
            Some(Step::Remove) if self.is_used(&stored).await? => return Ok(None),
            Some(Step::Remove) => finalizers.retain(|f| f != finalizer),
            Some(Step::Add) => finalizers.push(finalizer.to_owned()),
        }
        wanted["metadata"]["finalizers"] = json!(finalizers);
        self.write(&key, &wanted).await
    }

    async fn write(&self, key: &ObjectKey, wanted: &Value) -> Result<Option<Duration>, Error> {
        let written = self
            .client
            .update(self.kind.resource, &key.namespace, &key.name, wanted);
        match written.await {
            Err(error) if !error.is_not_found() => Err(error).during(|| format!("protecting {key}")),
            _ => Ok(None),
        }
    }

    async fn is_used(&self, stored: &Stored) -> Result<bool, Error> {
        match &self.by {
            Use::Bound => Ok(stored.view.status.phase == "Bound"),
            Use::Named(by_class) => Ok(by_class.iter().any(|index| !index.get(stored.name()).is_empty())),
            Use::ByPods(pods) => {
                let known = pods.get(&stored.key.to_string());
                if known.iter().any(|pod| uses(pod, &pod.view, stored)) {
                    return Ok(true);
                }
                self.is_used_by_any(stored).await
            }
        }
    }

    /// The cache may be behind; only the server's word counts when a claim is let go.
    async fn is_used_by_any(&self, claim: &Stored) -> Result<bool, Error> {
        let listed = self
            .client
            .list(PODS, Some(claim.namespace()), ListParams::default())
            .await;
        for pod in listed
            .during(|| format!("listing the pods beside claim {}", claim.key))?
            .items
        {
            let view: PodView = crate::tracked::decode(&pod)?;
            if uses(&pod, &view, claim) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use strata_meta::{GroupVersionKind, Revision};

    fn object(kind: &str, value: &Value) -> Arc<Object> {
        let kind = Arc::new(GroupVersionKind::new("", "v1", kind));
        Arc::new(Object::from_value(kind, Revision(1), value).unwrap())
    }

    #[test]
    fn a_claim_is_used_by_pods_with_a_node_and_an_ephemeral_one_by_its_own_pod() {
        let owner = json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "1", "controller": true}]);
        let claim = object(
            "PersistentVolumeClaim",
            &json!({"metadata": {"name": "p-v", "namespace": "n", "ownerReferences": owner}}),
        );
        let case = |uid: &str, node: &str, volume: Value, grace: Option<i64>| {
            let deleted = grace.map(|_| "2026-01-01T00:00:00Z");
            let pod = json!({"metadata": {"name": "p", "namespace": "n", "uid": uid,
                "deletionTimestamp": deleted, "deletionGracePeriodSeconds": grace},
                "spec": {"nodeName": node, "volumes": [volume]}});
            let pod = object("Pod", &pod);
            uses(&pod, &pod.decode().unwrap(), &claim)
        };
        let named = || json!({"name": "x", "persistentVolumeClaim": {"claimName": "p-v"}});
        let ephemeral = || json!({"name": "v", "ephemeral": {}});
        assert!(case("2", "n1", named(), None));
        assert!(case("2", "n1", named(), Some(0)));
        assert!(!case("2", "", named(), None));
        assert!(!case("2", "n1", json!({"name": "x", "emptyDir": {}}), None));
        assert!(case("1", "n1", ephemeral(), None));
        assert!(case("1", "n1", ephemeral(), Some(30)));
        assert!(!case("1", "n1", ephemeral(), Some(0)));
        assert!(!case("2", "n1", ephemeral(), None));
    }

    #[test]
    fn finalizers_are_given_to_what_stays_and_taken_off_what_goes() {
        let case = |deleted: Option<&str>, finalizers: Value| {
            let value = json!({"metadata": {"name": "v", "deletionTimestamp": deleted, "finalizers": finalizers}});
            step(
                &Tracked::decode(&object("PersistentVolume", &value)).unwrap(),
                VOLUMES.finalizer,
            )
        };
        let now = Some("2026-01-01T00:00:00Z");
        assert_eq!(case(None, json!([])), Some(Step::Add));
        assert_eq!(case(None, json!([VOLUMES.finalizer])), None);
        assert_eq!(case(now, json!(["x", VOLUMES.finalizer])), Some(Step::Remove));
        assert_eq!(case(now, json!(["x"])), None);
    }
}
