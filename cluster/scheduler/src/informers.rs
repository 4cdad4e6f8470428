//! What the scheduler follows, and how a change reaches the engine.

use crate::{
    budgets::Budget,
    engine::Engine,
    inbox::{Inbox, Mail},
    node::Node,
    pod::Pod,
    storage::{Attachment, Capacity, Claim, Class, CsiNode, Driver, Volume},
    workloads::{MapSelector, SetSelector, Workload},
};
use std::{collections::BTreeMap, sync::Arc, time::Instant};
use strata_client::{
    Client, Informer, Resource, Scope,
    resources::{
        CSI_DRIVERS, CSI_NODES, CSI_STORAGE_CAPACITIES, NAMESPACES, NODES, PERSISTENT_VOLUME_CLAIMS,
        PERSISTENT_VOLUMES, POD_DISRUPTION_BUDGETS, PODS, REPLICA_SETS, REPLICATION_CONTROLLERS, SERVICES,
        STATEFUL_SETS, STORAGE_CLASSES, VOLUME_ATTACHMENTS,
    },
};
use strata_meta::{Object, ObjectError, ObjectKey};
use strata_task::CancellationToken;
use tokio::sync::watch;

/// Kinds of storage other than claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum StorageKind {
    Volume,
    Class,
    Driver,
    Node,
    Capacity,
    Attachment,
}

pub(crate) struct Informers {
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    namespaces: Informer<NamespaceLabels>,
    services: Informer<MapSelector>,
    replication_controllers: Informer<MapSelector>,
    replica_sets: Informer<SetSelector>,
    stateful_sets: Informer<SetSelector>,
    budgets: Informer<Budget>,
    pub claims: Informer<Claim>,
    pub volumes: Informer<Volume>,
    classes: Informer<Class>,
    drivers: Informer<Driver>,
    csi_nodes: Informer<CsiNode>,
    capacities: Informer<Capacity>,
    attachments: Informer<Attachment>,
}

struct NamespaceLabels(BTreeMap<String, String>);

impl NamespaceLabels {
    fn read(object: &Arc<Object>) -> Result<Self, ObjectError> {
        let labels = object.labels.iter();
        Ok(Self(
            labels
                .map(|(key, value)| (key.to_string(), value.to_string()))
                .collect(),
        ))
    }
}

impl Informers {
    pub fn start(client: &Client, cancel: &CancellationToken) -> Self {
        fn follow<T: Send + Sync + 'static>(
            client: &Client,
            resource: Resource,
            cancel: &CancellationToken,
            read: fn(&Arc<Object>) -> Result<T, ObjectError>,
        ) -> Informer<T> {
            Informer::start_with(client, resource, Scope::default(), cancel.clone(), read)
        }
        Self {
            pods: follow(client, PODS, cancel, Pod::read),
            nodes: follow(client, NODES, cancel, Node::read),
            namespaces: follow(client, NAMESPACES, cancel, NamespaceLabels::read),
            services: follow(client, SERVICES, cancel, MapSelector::read),
            replication_controllers: follow(client, REPLICATION_CONTROLLERS, cancel, MapSelector::read),
            replica_sets: follow(client, REPLICA_SETS, cancel, SetSelector::read),
            stateful_sets: follow(client, STATEFUL_SETS, cancel, SetSelector::read),
            budgets: follow(client, POD_DISRUPTION_BUDGETS, cancel, Budget::read),
            claims: follow(client, PERSISTENT_VOLUME_CLAIMS, cancel, Claim::read),
            volumes: follow(client, PERSISTENT_VOLUMES, cancel, Volume::read),
            classes: follow(client, STORAGE_CLASSES, cancel, Class::read),
            drivers: follow(client, CSI_DRIVERS, cancel, Driver::read),
            csi_nodes: follow(client, CSI_NODES, cancel, CsiNode::read),
            capacities: follow(client, CSI_STORAGE_CAPACITIES, cancel, Capacity::read),
            attachments: follow(client, VOLUME_ATTACHMENTS, cancel, Attachment::read),
        }
    }

    /// Posts the names of what changes. What is returned changes after a claim's change was posted.
    pub fn post_changes(&self, inbox: &Arc<Inbox>) -> watch::Receiver<()> {
        fn post<T: Send + Sync + 'static>(
            informer: &Informer<T>,
            inbox: &Arc<Inbox>,
            write: impl Fn(&mut Mail, ObjectKey) + Send + Sync + 'static,
        ) {
            let inbox = inbox.clone();
            informer.on_change(move |change| inbox.post(|mail| write(mail, change.key.clone())));
        }
        let workload = |kind| move |mail: &mut Mail, key| mail.workloads.add((kind, key));
        let storage = |kind| move |mail: &mut Mail, key| mail.storage.add((kind, key));
        post(&self.nodes, inbox, |mail, key| mail.nodes.add(key));
        post(&self.namespaces, inbox, |mail, key| mail.namespaces.add(key));
        post(&self.services, inbox, workload(Workload::Service));
        let controllers = &self.replication_controllers;
        post(controllers, inbox, workload(Workload::ReplicationController));
        post(&self.replica_sets, inbox, workload(Workload::ReplicaSet));
        post(&self.stateful_sets, inbox, workload(Workload::StatefulSet));
        post(&self.budgets, inbox, |mail, key| mail.budgets.add(key));
        post(&self.claims, inbox, |mail, key| mail.claims.add(key));
        post(&self.volumes, inbox, storage(StorageKind::Volume));
        post(&self.classes, inbox, storage(StorageKind::Class));
        post(&self.drivers, inbox, storage(StorageKind::Driver));
        post(&self.csi_nodes, inbox, storage(StorageKind::Node));
        post(&self.capacities, inbox, storage(StorageKind::Capacity));
        post(&self.attachments, inbox, storage(StorageKind::Attachment));
        post(&self.pods, inbox, |mail, key| mail.pods.add(key));
        let (changed, changes) = watch::channel(());
        self.claims.on_change(move |_| {
            changed.send_replace(());
        });
        changes
    }

    pub async fn synced(&self) {
        self.nodes.synced().await;
        self.namespaces.synced().await;
        self.services.synced().await;
        self.replication_controllers.synced().await;
        self.replica_sets.synced().await;
        self.stateful_sets.synced().await;
        self.budgets.synced().await;
        self.claims.synced().await;
        self.volumes.synced().await;
        self.classes.synced().await;
        self.drivers.synced().await;
        self.csi_nodes.synced().await;
        self.capacities.synced().await;
        self.attachments.synced().await;
        self.pods.synced().await;
    }

    /// Brings the engine up to date with everything that changed.
    pub fn deliver(&self, mail: &mut Mail, engine: &mut Engine, now: Instant) {
        for (kind, key) in std::mem::take(&mut mail.workloads).into_order() {
            let selector = match kind {
                Workload::Service => self.services.get(&key).and_then(|read| read.0.clone()),
                Workload::ReplicationController => {
                    self.replication_controllers.get(&key).and_then(|read| read.0.clone())
                }
                Workload::ReplicaSet => self.replica_sets.get(&key).and_then(|read| read.0.clone()),
                Workload::StatefulSet => self.stateful_sets.get(&key).and_then(|read| read.0.clone()),
            };
            engine.set_workload(kind, &key, selector);
        }
        for key in std::mem::take(&mut mail.budgets).into_order() {
            engine.set_budget(&key, self.budgets.get(&key));
        }
        for (kind, key) in std::mem::take(&mut mail.storage).into_order() {
            engine.set_storage(now, |storage| match kind {
                StorageKind::Volume => storage.set_volume(&key.name, self.volumes.get(&key)),
                StorageKind::Class => put(&mut storage.classes, &key.name, self.classes.get(&key)),
                StorageKind::Driver => put(&mut storage.drivers, &key.name, self.drivers.get(&key)),
                StorageKind::Node => put(&mut storage.nodes, &key.name, self.csi_nodes.get(&key)),
                StorageKind::Capacity => put(&mut storage.capacities, &key, self.capacities.get(&key)),
                StorageKind::Attachment => storage.set_attachment(&key.name, self.attachments.get(&key)),
            });
        }
        for key in std::mem::take(&mut mail.claims).into_order() {
            engine.set_claim(&key, self.claims.get(&key), now);
        }
        for key in std::mem::take(&mut mail.namespaces).into_order() {
            let labels = self.namespaces.get(&key).map(|labels| labels.0.clone());
            engine.set_namespace(&key.name, labels, now);
        }
        for key in std::mem::take(&mut mail.nodes).into_order() {
            engine.set_node(&key.name, self.nodes.get(&key), now);
        }
        for key in std::mem::take(&mut mail.pods).into_order() {
            engine.set_pod(&key, self.pods.get(&key), now);
        }
    }
}

fn put<K: Clone + Eq + std::hash::Hash, V>(into: &mut std::collections::HashMap<K, V>, key: &K, value: Option<V>) {
    match value {
        Some(value) => into.insert(key.clone(), value),
        None => into.remove(key),
    };
}
