//! Looks at one object and does what it needs.

use super::{
    Collector, Work,
    decide::{self, Action, FOREGROUND, Item, ORPHAN, OwnerState},
    finalizers,
    graph::{Identity, Node},
};
use crate::{Error, claim, error::During};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use strata_client::{DeleteOptions, EventType, ListParams, ObjectReference, Patch, Propagation, Resource};
use strata_meta::{Object, ObjectKey, OwnerReference, Uid};

/// What exists but was not seen yet is looked for again after this.
const UNSEEN: Duration = Duration::from_millis(200);

impl Collector {
    pub(super) async fn work(self: Arc<Self>, work: Work) -> Result<Option<Duration>, Error> {
        match work {
            Work::Delete(uid) => self.attempt_delete(&uid).await,
            Work::Orphan(uid) => self.orphan(&uid).await.map(|()| None),
            Work::Discover => self
                .discover()
                .await
                .map(|()| None)
                .during(|| "discovering resources".to_owned()),
        }
    }

    fn node(&self, uid: &Uid) -> Option<Node> {
        self.graph.lock().expect("no holder panics").get(uid).cloned()
    }

    async fn attempt_delete(&self, uid: &Uid) -> Result<Option<Duration>, Error> {
        let Some(node) = self.node(uid) else { return Ok(None) };
        if node.deleting && !node.waits_for_dependents {
            return Ok(None);
        }
        let Some((resource, key)) = self.locate(&node.identity)? else {
            return Ok(None);
        };
        let Some(latest) = self.read(resource, &key).await?.filter(|latest| latest.uid == *uid) else {
            let work = self.graph.lock().expect("no holder panics").gone(uid);
            work.into_iter().for_each(|work| self.queue.add(work));
            return Ok(None);
        };
        if node.waits_for_dependents {
            return self.finish_foreground(uid, &node, resource, &latest).await;
        } else if !latest.deleting {
            self.collect(&node, resource, &latest).await?;
        }
        Ok((!node.observed).then_some(UNSEEN))
    }

    async fn collect(&self, node: &Node, resource: Resource, latest: &Object) -> Result<(), Error> {
        let mut owners = Vec::with_capacity(latest.owners.len());
        for owner in latest.owners.iter() {
            match self.state_of(owner, resource, latest).await? {
                Some(state) => owners.push((owner.clone(), state)),
                // An impossible reference; nothing may be concluded from it.
                None => return Ok(()),
            }
        }
        let waits = |uid: &Uid| self.node(uid).is_some_and(|n| n.waits_for_dependents);
        let action = decide::decide(&Item {
            owners: &owners,
            finalizers: &finalizers(latest),
            dependents: !node.dependents.is_empty(),
            dependent_waits: node.dependents.iter().any(waits),
        });
        match action {
            Action::Nothing => Ok(()),
            Action::Release(uids) => {
                let uids: Vec<&Uid> = uids.iter().collect();
                self.patch(resource, latest, claim::removal(latest, &uids)).await
            }
            Action::Delete { propagation, unblock } => {
                if unblock {
                    self.patch(resource, latest, unblocking(latest)).await?;
                }
                // The unblocking changed the version; the uid still protects another life.
                let version = (!unblock).then(|| latest.revision.to_string());
                self.delete(resource, latest, propagation, version).await
            }
        }
    }

    /// What became of an owner; `None` if the object can have no such owner.
    async fn state_of(
        &self,
        owner: &OwnerReference,
        resource: Resource,
        item: &Object,
    ) -> Result<Option<OwnerState>, Error> {
        let Some(of) = self.resource_of(&owner.api_version, &owner.kind) else {
            let what = format!("{} {}", owner.api_version, owner.kind);
            return Err(Error::Incomplete(format!(
                "{}: nothing serves its owner's kind {what}",
                item.key
            )));
        };
        if of.namespaced && !resource.namespaced {
            let message = format!(
                "ownerRef [{}/{}, name: {}, uid: {}] is of a namespaced kind",
                owner.api_version, owner.kind, owner.name, owner.uid
            );
            self.events.event(
                &ObjectReference::of(item),
                EventType::Warning,
                "OwnerRefInvalidNamespace",
                message,
            );
            return Ok(None);
        }
        let namespace = if of.namespaced { item.namespace() } else { "" };
        let found = self.read(of, &ObjectKey::new(namespace, &owner.name)).await?;
        Ok(Some(match found.filter(|found| found.uid == owner.uid) {
            None => OwnerState::Dangling,
            Some(found) if found.deleting && finalizers(&found).iter().any(|f| f == FOREGROUND) => OwnerState::Waiting,
            Some(_) => OwnerState::Solid,
        }))
    }

    /// Lets an object go whose dependents are gone, or sees to those that hold it back.
    async fn finish_foreground(
        &self,
        uid: &Uid,
        node: &Node,
        resource: Resource,
        latest: &Object,
    ) -> Result<Option<Duration>, Error> {
        let holds = |o: &OwnerReference| o.uid == *uid && o.block_owner_deletion == Some(true);
        let dependents = node.dependents.iter().filter_map(|d| Some((d, self.node(d)?)));
        let blocking: Vec<_> = dependents.filter(|(_, n)| n.owners.iter().any(holds)).collect();
        if blocking.is_empty() {
            let unseen = self.dependents_on_server(uid, node).await?;
            if unseen.iter().any(|(_, dependent)| dependent.owners.iter().any(holds)) {
                return Ok(Some(UNSEEN));
            }
            return self.remove_finalizer(resource, latest, FOREGROUND).await.map(|()| None);
        }
        for (dependent, _) in blocking.into_iter().filter(|(_, n)| !n.waits_for_dependents) {
            self.queue.add(Work::Delete(dependent.clone()));
        }
        Ok(None)
    }

    async fn orphan(&self, uid: &Uid) -> Result<(), Error> {
        let Some(node) = self.node(uid) else { return Ok(()) };
        for (resource, dependent) in self.dependents_on_server(uid, &node).await? {
            self.patch(resource, &dependent, claim::removal(&dependent, &[uid]))
                .await?;
        }
        let Some((resource, key)) = self.locate(&node.identity)? else {
            return Ok(());
        };
        match self.read(resource, &key).await?.filter(|latest| latest.uid == *uid) {
            Some(latest) => self.remove_finalizer(resource, &latest, ORPHAN).await,
            None => Ok(()),
        }
    }

    /// The graph may not have seen the youngest dependents yet, and what is missed here would be
    /// deleted instead of let go. So, rare as this is, the server is asked.
    async fn dependents_on_server(&self, uid: &Uid, node: &Node) -> Result<Vec<(Resource, Arc<Object>)>, Error> {
        let namespace = node.identity.key.namespace.as_ref();
        let mut resources: Vec<Resource> = self
            .followed
            .lock()
            .expect("no holder panics")
            .keys()
            .copied()
            .collect();
        // What lives in a namespace owns nothing outside of it.
        resources.retain(|resource| namespace.is_empty() || resource.namespaced);
        let mut dependents = Vec::new();
        for resource in resources {
            let within = Some(namespace).filter(|n| !n.is_empty());
            let listed = match self.client.list(resource, within, ListParams::default()).await {
                Err(error) if error.is_not_found() => continue,
                listed => listed.during(|| format!("listing {}", resource.plural))?,
            };
            let owned = listed
                .items
                .into_iter()
                .filter(|object| object.owners.iter().any(|o| o.uid == *uid));
            dependents.extend(owned.map(|object| (resource, object)));
        }
        Ok(dependents)
    }

    async fn remove_finalizer(&self, resource: Resource, object: &Object, finalizer: &str) -> Result<(), Error> {
        let all = finalizers(object);
        let left: Vec<&String> = all.iter().filter(|f| *f != finalizer).collect();
        if left.len() == all.len() {
            return Ok(());
        }
        let left = if left.is_empty() { Value::Null } else { json!(left) };
        let body = json!({"metadata": {"resourceVersion": object.revision.to_string(), "finalizers": left}});
        self.patch(resource, object, Patch::Merge(body)).await
    }

    /// Where to find an object; `None` if an owner that was heard of cannot be what it is said to be.
    fn locate(&self, identity: &Identity) -> Result<Option<(Resource, ObjectKey)>, Error> {
        if let Some(resource) = identity.resource {
            return Ok(Some((resource, identity.key.clone())));
        }
        let Some(resource) = self.resource_of(&identity.api_version, &identity.kind) else {
            let Identity { api_version, kind, .. } = identity;
            return Err(Error::Incomplete(format!(
                "{}: nothing serves {api_version} {kind}",
                identity.key
            )));
        };
        let namespace = if resource.namespaced {
            identity.key.namespace.as_ref()
        } else {
            ""
        };
        let impossible = resource.namespaced && namespace.is_empty();
        Ok((!impossible).then(|| (resource, ObjectKey::new(namespace, &identity.key.name))))
    }

    fn resource_of(&self, api_version: &str, kind: &str) -> Option<Resource> {
        let followed = self.followed.lock().expect("no holder panics");
        followed
            .keys()
            .find(|resource| resource.is_kind(api_version, kind))
            .copied()
    }

    async fn read(&self, resource: Resource, key: &ObjectKey) -> Result<Option<Arc<Object>>, Error> {
        match self.client.get(resource, &key.namespace, &key.name).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error).during(|| format!("reading {} {key}", resource.plural)),
        }
    }

    async fn patch(&self, resource: Resource, object: &Object, patch: Patch) -> Result<(), Error> {
        match self
            .client
            .patch(resource, object.namespace(), object.name(), None, patch)
            .await
        {
            Err(error) if !error.is_not_found() => {
                Err(error).during(|| format!("changing the metadata of {} {}", resource.plural, object.key))
            }
            _ => Ok(()),
        }
    }

    async fn delete(
        &self,
        resource: Resource,
        object: &Object,
        propagation: Propagation,
        resource_version: Option<String>,
    ) -> Result<(), Error> {
        tracing::debug!(resource = resource.plural, key = %object.key, ?propagation, "collecting an object without owners");
        let options = DeleteOptions {
            propagation: Some(propagation),
            resource_version,
            ..DeleteOptions::only(&object.uid)
        };
        match self
            .client
            .delete(resource, object.namespace(), object.name(), options)
            .await
        {
            Err(error) if !error.is_not_found() => {
                Err(error).during(|| format!("collecting {} {}", resource.plural, object.key))
            }
            _ => Ok(()),
        }
    }
}

/// Stops an object from holding its owners back.
fn unblocking(object: &Object) -> Patch {
    let owners: Vec<OwnerReference> = object
        .owners
        .iter()
        .map(|o| OwnerReference {
            block_owner_deletion: Some(false),
            ..o.clone()
        })
        .collect();
    Patch::Merge(json!({"metadata": {"resourceVersion": object.revision.to_string(), "ownerReferences": owners}}))
}
