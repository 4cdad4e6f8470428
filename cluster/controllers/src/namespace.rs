//! Deletes what is in a namespace that is being deleted, then lets it go.

use crate::{
    Error, conditions,
    context::Context,
    error::During,
    tracked::{decode, value},
    views::Condition,
};
use serde::Deserialize;
use serde_json::json;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use strata_client::{
    Client, DeleteOptions, Informer, ListParams, Propagation, Resource, WorkQueue,
    discovery::{Served, discover},
    resources::*,
};
use strata_meta::{Object, ObjectKey, Time};

const CONTROLLER: &str = "namespace-controller";
const WORKERS: usize = 4;
/// The finalizer that this controller stands for.
const FINALIZER: &str = "kubernetes";
/// Objects that wait for their own finalizers are looked at again after this.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

pub(crate) fn start(context: &Arc<Context>) {
    let controller = Arc::new(Controller {
        client: context.client(CONTROLLER),
        namespaces: context.namespaces.clone(),
        queue: context.queue("namespace"),
        context: context.clone(),
    });
    let queue = controller.queue.clone();
    let to = queue.clone();
    context.namespaces.on_change(move |change| {
        if change.new.as_ref().is_some_and(|namespace| namespace.deleting) {
            to.add(change.key.clone());
        }
    });
    let (to, namespaces) = (queue.clone(), context.namespaces.clone());
    context.pods.on_change(move |change| {
        let namespace = ObjectKey::new("", &change.key.namespace);
        if change.new.is_none() && namespaces.get(&namespace).is_some_and(|n| n.deleting) {
            to.add(namespace);
        }
    });
    let namespaces = context.namespaces.clone();
    let ready = async move { namespaces.synced().await };
    context.run(&queue, WORKERS, ready, move |key| controller.clone().reconcile(key));
}

struct Controller {
    client: Client,
    namespaces: Informer<Arc<Object>>,
    queue: WorkQueue<ObjectKey>,
    context: Arc<Context>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Namespace {
    spec: Spec,
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Spec {
    finalizers: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    phase: String,
    conditions: Vec<Condition>,
}

/// What one pass found.
#[derive(Default)]
struct Found {
    discovery: Vec<String>,
    deletion: Vec<String>,
    remaining: BTreeMap<String, usize>,
    finalizers: BTreeMap<String, usize>,
    /// Seconds that pods may still take.
    pods_may_take: i64,
}

impl Found {
    fn is_empty(&self) -> bool {
        self.discovery.is_empty() && self.deletion.is_empty() && self.remaining.is_empty()
    }
}

impl Controller {
    async fn reconcile(self: Arc<Self>, key: ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(object) = self.namespaces.get(&key).filter(|o| o.deleting) else {
            return Ok(None);
        };
        let namespace: Namespace = decode(&object)?;
        if !namespace.spec.finalizers.iter().any(|f| f == FINALIZER) {
            return Ok(None);
        }
        let found = self.empty(&key.name).await?;
        let mut conditions = namespace.status.conditions.clone();
        describe(&mut conditions, &found, self.context.now());
        let told = namespace.status.phase == "Terminating" && conditions == namespace.status.conditions;
        let mut latest = (*object).clone();
        if !told && !found.is_empty() {
            let mut whole = value(&object)?;
            whole["status"] = json!({"phase": "Terminating", "conditions": conditions});
            match self.client.update_status(NAMESPACES, "", &key.name, &whole).await {
                Ok(updated) => latest = updated,
                Err(error) if error.is_not_found() => return Ok(None),
                Err(error) => return Err(error).during(|| format!("writing the status of namespace {key}")),
            }
        }
        if found.is_empty() {
            return self.finalize(&latest, namespace).await.map(|()| None);
        }
        match found.pods_may_take {
            0 => Ok(Some(LOOK_AGAIN)),
            seconds => Ok(Some(Duration::from_secs(u64::try_from(seconds / 2 + 1).unwrap_or(1)))),
        }
    }

    /// Deletes everything once; pods first, and nothing else while some remain, because they
    /// may need the rest to end properly.
    async fn empty(&self, namespace: &str) -> Result<Found, Error> {
        let mut found = Found::default();
        let discovered = discover(&self.client)
            .await
            .during(|| "discovering resources".to_owned())?;
        found.discovery = discovered
            .failures
            .into_iter()
            .map(|(what, why)| format!("{what}: {why}"))
            .collect();
        let deletable = |s: &Served| s.resource.namespaced && s.can("delete") && s.can("list");
        let (pods, others): (Vec<Served>, Vec<Served>) = discovered
            .resources
            .into_iter()
            .filter(deletable)
            .partition(|s| s.resource == PODS);
        for served in &pods {
            self.delete_all(served, namespace, &mut found).await;
        }
        if found.remaining.is_empty() {
            for served in &others {
                self.delete_all(served, namespace, &mut found).await;
            }
        }
        Ok(found)
    }

    async fn delete_all(&self, served: &Served, namespace: &str, found: &mut Found) {
        if let Err(error) = self.try_delete_all(served, namespace, found).await {
            found
                .deletion
                .push(format!("{}: {error}", served.resource.group_resource()));
        }
    }

    async fn try_delete_all(
        &self,
        served: &Served,
        namespace: &str,
        found: &mut Found,
    ) -> Result<(), strata_client::Error> {
        let resource = served.resource;
        if self.list(resource, namespace).await?.is_empty() {
            return Ok(());
        }
        let options = DeleteOptions {
            propagation: Some(Propagation::Background),
            ..DeleteOptions::default()
        };
        if served.can("deletecollection") {
            self.client
                .delete_collection(resource, namespace, ListParams::default(), options)
                .await?;
        } else {
            for object in self.list(resource, namespace).await? {
                match self
                    .client
                    .delete(resource, namespace, object.name(), options.clone())
                    .await
                {
                    Err(error) if !error.is_not_found() => return Err(error),
                    _ => {}
                }
            }
        }
        for object in self.list(resource, namespace).await? {
            found.note(resource, &object);
        }
        Ok(())
    }

    async fn list(&self, resource: Resource, namespace: &str) -> Result<Vec<Arc<Object>>, strata_client::Error> {
        match self.client.list(resource, Some(namespace), ListParams::default()).await {
            Ok(list) => Ok(list.items),
            // It went away since discovery.
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    async fn finalize(&self, object: &Object, namespace: Namespace) -> Result<(), Error> {
        let left: Vec<&String> = namespace.spec.finalizers.iter().filter(|f| *f != FINALIZER).collect();
        let mut whole = value(object)?;
        whole["spec"]["finalizers"] = json!(left);
        match self
            .client
            .update_subresource(NAMESPACES, "", object.name(), "finalize", &whole)
            .await
        {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error).during(|| format!("finalizing namespace {}", object.key)),
        }
    }
}

impl Found {
    fn note(&mut self, resource: Resource, object: &Object) {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Wire {
            metadata: strata_meta::ObjectMeta,
        }
        *self.remaining.entry(resource.group_resource().to_string()).or_default() += 1;
        let metadata = object.decode::<Wire>().map(|w| w.metadata).unwrap_or_else(|error| {
            tracing::debug!(key = %object.key, %error, "object without readable metadata");
            Default::default()
        });
        for finalizer in metadata.finalizers {
            *self.finalizers.entry(finalizer).or_default() += 1;
        }
        if resource == PODS {
            self.pods_may_take = self
                .pods_may_take
                .max(metadata.deletion_grace_period_seconds.unwrap_or(0));
        }
    }
}

/// Upstream's conditions about what holds the namespace back.
fn describe(conditions: &mut Vec<Condition>, found: &Found, now: Time) {
    let list = |counts: &BTreeMap<String, usize>, unit: &str| {
        let parts: Vec<String> = counts
            .iter()
            .map(|(name, n)| format!("{name} {unit} {n} resource instances"))
            .collect();
        parts.join(", ")
    };
    let mut state = |type_: &str, problem: Option<String>, reason: &str, good: (&str, &str)| {
        let new = match problem {
            Some(message) => conditions::condition(type_, "True", reason, message, now),
            None => conditions::condition(type_, "False", good.0, good.1, now),
        };
        let current = conditions::find(conditions, type_);
        let changed =
            current.is_none_or(|c| (&c.status, &c.reason, &c.message) != (&new.status, &new.reason, &new.message));
        if changed {
            let since = current
                .filter(|c| c.status == new.status)
                .and_then(|c| c.last_transition_time);
            conditions::remove(conditions, type_);
            conditions.push(Condition {
                last_transition_time: since.or(new.last_transition_time),
                ..new
            });
        }
    };
    let discovery = (!found.discovery.is_empty()).then(|| {
        format!(
            "Discovery failed for some groups, {} failing: {}",
            found.discovery.len(),
            found.discovery.join(", ")
        )
    });
    state(
        "NamespaceDeletionDiscoveryFailure",
        discovery,
        "DiscoveryFailed",
        ("ResourcesDiscovered", "All resources successfully discovered"),
    );
    state(
        "NamespaceDeletionGroupVersionParsingFailure",
        None,
        "GroupVersionParsingFailed",
        ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
    );
    let deletion = (!found.deletion.is_empty()).then(|| {
        format!(
            "Failed to delete all resource types, {} remaining: {}",
            found.deletion.len(),
            found.deletion.join(", ")
        )
    });
    state(
        "NamespaceDeletionContentFailure",
        deletion,
        "ContentDeletionFailed",
        (
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
    );
    let remaining = (!found.remaining.is_empty())
        .then(|| format!("Some resources are remaining: {}", list(&found.remaining, "has")));
    state(
        "NamespaceContentRemaining",
        remaining,
        "SomeResourcesRemain",
        ("ContentRemoved", "All content successfully removed"),
    );
    let finalizers = (!found.finalizers.is_empty()).then(|| {
        format!(
            "Some content in the namespace has finalizers remaining: {}",
            list(&found.finalizers, "in")
        )
    });
    state(
        "NamespaceFinalizersRemaining",
        finalizers,
        "SomeFinalizersRemain",
        ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_tell_what_remains_and_keep_their_transition() {
        let mut conditions = Vec::new();
        let mut found = Found::default();
        found.remaining.insert("pods".into(), 2);
        found.finalizers.insert("example.com/hold".into(), 1);
        let first = Time::from_second(100);
        describe(&mut conditions, &found, first);
        let get = |conditions: &[Condition], type_: &str| conditions::find(conditions, type_).cloned().unwrap();
        let remaining = get(&conditions, "NamespaceContentRemaining");
        assert_eq!(
            (remaining.status.as_str(), remaining.message.as_str()),
            ("True", "Some resources are remaining: pods has 2 resource instances")
        );
        assert_eq!(
            get(&conditions, "NamespaceFinalizersRemaining").reason,
            "SomeFinalizersRemain"
        );
        assert_eq!(get(&conditions, "NamespaceDeletionDiscoveryFailure").status, "False");
        let before = conditions.clone();
        describe(&mut conditions, &found, Time::from_second(200));
        assert_eq!(conditions, before, "nothing changed, nothing to write");
        found.remaining.insert("pods".into(), 1);
        describe(&mut conditions, &found, Time::from_second(300));
        assert_eq!(
            get(&conditions, "NamespaceContentRemaining").last_transition_time,
            Some(first)
        );
    }
}
