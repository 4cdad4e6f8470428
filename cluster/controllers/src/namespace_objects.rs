//! Objects that every namespace has: the default service account and the cluster's root
//! certificate. One engine, a row for each.

use crate::{
    Error,
    context::{Context, SHARED_INFORMERS},
    error::{During, namespace_is_terminating},
    tracked::{undecoded, value},
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use strata_client::{Client, Informer, Resource, Scope, WorkQueue, resources::*};
use strata_meta::{Object, ObjectKey};

const WORKERS: usize = 4;

struct Row {
    resource: Resource,
    controller: &'static str,
    name: &'static str,
    /// The member that must be as given, and its content; absent: only existence counts.
    content: Option<(&'static str, Value)>,
}

pub(crate) fn start(context: &Arc<Context>) {
    let mut rows = vec![Row {
        resource: SERVICE_ACCOUNTS,
        controller: "service-account-controller",
        name: "default",
        content: None,
    }];
    if !context.options.ca_pem.is_empty() {
        rows.push(Row {
            resource: CONFIG_MAPS,
            controller: "root-ca-cert-publisher",
            name: "kube-root-ca.crt",
            content: Some(("data", json!({"ca.crt": context.options.ca_pem}))),
        });
    }
    for row in rows {
        let scope = Scope {
            field_selector: format!("metadata.name={}", row.name),
            ..Scope::default()
        };
        let client = context.client(SHARED_INFORMERS);
        let objects = Informer::start_with(&client, row.resource, scope, context.cancel.clone(), undecoded);
        let queue = if row.content.is_none() {
            "serviceaccount"
        } else {
            "root_ca_cert_publisher"
        };
        let engine = Arc::new(Engine {
            client: context.client(row.controller),
            row,
            objects,
            namespaces: context.namespaces.clone(),
            queue: context.queue(queue),
        });
        engine.follow();
        let (objects, namespaces) = (engine.objects.clone(), engine.namespaces.clone());
        let ready = async move {
            objects.synced().await;
            namespaces.synced().await;
        };
        let queue = engine.queue.clone();
        context.run(&queue, WORKERS, ready, move |key| engine.clone().reconcile(key));
    }
}

struct Engine {
    row: Row,
    client: Client,
    objects: Informer<Arc<Object>>,
    namespaces: Informer<Arc<Object>>,
    queue: WorkQueue<ObjectKey>,
}

impl Engine {
    fn follow(&self) {
        let queue = self.queue.clone();
        self.namespaces.on_change(move |change| queue.add(change.key.clone()));
        let queue = self.queue.clone();
        self.objects
            .on_change(move |change| queue.add(ObjectKey::new("", &change.key.namespace)));
    }

    async fn reconcile(self: Arc<Self>, namespace: ObjectKey) -> Result<Option<Duration>, Error> {
        let wanted = self
            .namespaces
            .get(&namespace)
            .is_some_and(|namespace| !namespace.deleting);
        if !wanted {
            return Ok(None);
        }
        let namespace = &namespace.name;
        let key = ObjectKey::new(namespace, self.row.name);
        match (self.objects.get(&key), &self.row.content) {
            (None, content) => self.create(namespace, content.as_ref()).await?,
            (Some(object), Some((member, content))) => {
                let mut whole = value(&object)?;
                if whole[*member] != *content {
                    whole[*member] = content.clone();
                    let updated = self
                        .client
                        .update(self.row.resource, namespace, self.row.name, &whole)
                        .await;
                    updated.during(|| format!("restoring {key}"))?;
                }
            }
            (Some(_), None) => {}
        }
        Ok(None)
    }

    async fn create(&self, namespace: &str, content: Option<&(&'static str, Value)>) -> Result<(), Error> {
        let mut object = json!({"metadata": {"name": self.row.name, "namespace": namespace}});
        if let Some((member, content)) = content {
            object[*member] = content.clone();
        }
        match self.client.create(self.row.resource, namespace, &object).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_already_exists() || namespace_is_terminating(&error) => Ok(()),
            Err(error) => Err(error).during(|| format!("creating {namespace}/{}", self.row.name)),
        }
    }
}
