//! Endpoint slices and endpoints: which pods stand behind a service.

mod legacy;
mod members;
mod slices;

use crate::{
    Error,
    context::Context,
    error::{During, namespace_is_terminating},
    expectations::{Expectations, LOOK_AGAIN},
    tracked::{Index, decode, value},
    views::{Pod, Service},
};
use serde_json::json;
use slices::{Slice, Write};
use std::{sync::Arc, time::Duration};
use strata_client::{
    Change, Client, DeleteOptions, EventRecorder, EventType, Informer, ObjectReference, WorkQueue, resources::*,
};
use strata_meta::{Object, ObjectKey, Selector};

const SLICE_CONTROLLER: &str = "endpointslice-controller";
const ENDPOINTS_CONTROLLER: &str = "endpoint-controller";
const WORKERS: usize = 5;

pub(crate) fn start(context: &Arc<Context>) {
    let slices = context.objects(ENDPOINT_SLICES);
    let of_service = Index::new(&slices, |slice: &Arc<Object>| {
        service_of(slice).into_iter().map(index_key).collect()
    });
    let slice_controller = Arc::new(Slices {
        client: context.client(SLICE_CONTROLLER),
        events: context.events(SLICE_CONTROLLER),
        slices: slices.clone(),
        of_service,
        queue: WorkQueue::new(),
        writes: Expectations::default(),
        context: context.clone(),
    });
    slice_controller.follow();
    let queue = slice_controller.queue.clone();
    context.run(&queue, WORKERS, ready(context, slices), move |key| {
        slice_controller.clone().reconcile(key)
    });

    let endpoints = context.objects(ENDPOINTS);
    let endpoints_controller = Arc::new(Endpoints {
        client: context.client(ENDPOINTS_CONTROLLER),
        endpoints: endpoints.clone(),
        queue: WorkQueue::new(),
        writes: Expectations::default(),
        context: context.clone(),
    });
    endpoints_controller.follow();
    let queue = endpoints_controller.queue.clone();
    context.run(&queue, WORKERS, ready(context, endpoints), move |key| {
        endpoints_controller.clone().reconcile(key)
    });
}

fn ready(context: &Context, own: Informer<Arc<Object>>) -> impl Future<Output = ()> + Send + use<> {
    let (services, pods, nodes) = (context.services.clone(), context.pods.clone(), context.nodes.clone());
    async move {
        services.synced().await;
        pods.synced().await;
        nodes.synced().await;
        own.synced().await;
    }
}

/// Queues the services whose endpoints a change of pods or services may alter.
fn follow_members(context: &Arc<Context>, queue: &WorkQueue<ObjectKey>) {
    let to = queue.clone();
    context.services.on_change(move |change| to.add(change.key.clone()));
    let (to, services) = (queue.clone(), context.services.clone());
    context.pods.on_change(move |change| {
        if matters(change) {
            selecting(&services, change).into_iter().for_each(|key| to.add(key));
        }
    });
}

/// Whether anything changed that endpoints tell of.
fn matters(change: &Change<Pod>) -> bool {
    let (Some(old), Some(new)) = (&change.old, &change.new) else {
        return true;
    };
    let (a, b) = (&old.view, &new.view);
    old.labels != new.labels
        || a.ips != b.ips
        || a.ready != b.ready
        || a.phase != b.phase
        || a.node != b.node
        || a.deletion.is_some() != b.deletion.is_some()
        || a.hostname != b.hostname
        || a.ports != b.ports
}

fn selecting(services: &Informer<Service>, change: &Change<Pod>) -> Vec<ObjectKey> {
    let pods: Vec<_> = [&change.old, &change.new].into_iter().flatten().collect();
    let selects = |key: &ObjectKey, service: &Service| {
        key.namespace == change.key.namespace
            && selector(service).is_some_and(|s| pods.iter().any(|pod| s.matches_object(pod)))
    };
    services.select(selects).into_iter().map(|(key, _)| key).collect()
}

fn selector(service: &Service) -> Option<Selector> {
    match service.view.spec.selects_pods() {
        true => service.view.spec.selector.as_ref().map(Selector::from_map),
        false => None,
    }
}

/// The pods that a service selects, in the order of their names.
fn selected(context: &Context, service: &Service) -> Vec<Arc<Pod>> {
    let Some(selector) = selector(service) else {
        return Vec::new();
    };
    let mut pods = context.pods_by_namespace.get(service.namespace());
    pods.retain(|pod| selector.matches_object(pod));
    pods.sort_by(|a, b| a.key.cmp(&b.key));
    pods
}

/// The service that a slice of ours belongs to.
fn service_of(slice: &Object) -> Option<ObjectKey> {
    let ours = slice.label(slices::MANAGED_BY) == Some(slices::MANAGER);
    let name = slice.label(slices::SERVICE_NAME).filter(|_| ours)?;
    Some(ObjectKey::new(slice.namespace(), name))
}

fn index_key(key: ObjectKey) -> Arc<str> {
    key.to_string().into()
}

struct Slices {
    client: Client,
    events: EventRecorder,
    slices: Informer<Arc<Object>>,
    of_service: Arc<Index<Arc<Object>>>,
    queue: WorkQueue<ObjectKey>,
    writes: Expectations,
    context: Arc<Context>,
}

impl Slices {
    fn follow(self: &Arc<Self>) {
        follow_members(&self.context, &self.queue);
        let queue = self.queue.clone();
        self.slices.on_change(move |change| {
            let slices = [&change.old, &change.new].into_iter().flatten();
            slices
                .filter_map(|slice| service_of(slice))
                .for_each(|key| queue.add(key));
        });
        let (queue, services) = (self.queue.clone(), self.context.services.clone());
        self.context.nodes.on_change(move |change| {
            let zone =
                |n: &Option<Arc<crate::views::Node>>| n.as_ref().map(|n| n.label(slices::ZONE).map(str::to_owned));
            if zone(&change.old) != zone(&change.new) {
                services.list().into_iter().for_each(|(key, _)| queue.add(key));
            }
        });
    }

    async fn reconcile(self: Arc<Self>, key: ObjectKey) -> Result<Option<Duration>, Error> {
        let existing: Vec<Arc<Object>> = self
            .of_service
            .get(&key.to_string())
            .iter()
            .map(|slice| (**slice).clone())
            .collect();
        let gone = |uid: &strata_meta::Uid| !existing.iter().any(|slice| slice.uid == *uid);
        if !self.writes.are_met(&key, self.slices.revision(), gone) {
            return Ok(Some(LOOK_AGAIN));
        }
        // The slices of a service that is gone or going go with it, by their owner reference.
        let Some(service) = self.context.services.get(&key).filter(|s| !s.deleting) else {
            self.writes.forget(&key);
            return Ok(None);
        };
        if !service.view.spec.selects_pods() {
            return Ok(None);
        }
        let pods = selected(&self.context, &service);
        let zone = |node: &str| {
            let node = self.context.nodes.get(&ObjectKey::new("", node))?;
            node.label(slices::ZONE).map(str::to_owned)
        };
        let read = |slice: &Arc<Object>| Ok((slice.clone(), decode::<Slice>(slice)?));
        let present = existing
            .iter()
            .filter(|s| !s.deleting)
            .map(read)
            .collect::<Result<Vec<_>, Error>>()?;
        for write in slices::plan(&service, &pods, &zone, present) {
            if let Err(error) = self.write(&key, write).await {
                let about = ObjectReference::of(&service);
                let message = format!("Error updating Endpoint Slices for Service {key}: {error}");
                self.events
                    .event(&about, EventType::Warning, "FailedToUpdateEndpointSlices", message);
                return Err(error);
            }
        }
        Ok(None)
    }

    async fn write(&self, key: &ObjectKey, write: Write) -> Result<(), Error> {
        let namespace = &key.namespace;
        let written = match write {
            Write::Create(slice) => match self.client.create(ENDPOINT_SLICES, namespace, &json!(slice)).await {
                Err(error) if namespace_is_terminating(&error) => return Ok(()),
                result => result.during(|| "creating a slice".to_owned())?,
            },
            Write::Update(object, slice) => {
                let mut whole = value(&object)?;
                let wanted = json!(slice);
                for member in ["endpoints", "ports", "addressType"] {
                    whole[member] = wanted[member].clone();
                }
                whole["metadata"]["labels"] = wanted["metadata"]["labels"].clone();
                whole["metadata"]["ownerReferences"] = wanted["metadata"]["ownerReferences"].clone();
                let updated = self
                    .client
                    .update(ENDPOINT_SLICES, namespace, object.name(), &whole)
                    .await;
                updated.during(|| format!("changing slice {}", object.key))?
            }
            Write::Delete(object) => {
                self.writes.deleting(key, &object.uid);
                let options = DeleteOptions::only(&object.uid);
                return match self
                    .client
                    .delete(ENDPOINT_SLICES, namespace, object.name(), options)
                    .await
                {
                    Err(error) if !error.is_not_found() => {
                        self.writes.not_deleted(key, &object.uid);
                        Err(error).during(|| format!("deleting slice {}", object.key))
                    }
                    _ => Ok(()),
                };
            }
        };
        self.writes.wrote(key, written.revision);
        Ok(())
    }
}

struct Endpoints {
    client: Client,
    endpoints: Informer<Arc<Object>>,
    queue: WorkQueue<ObjectKey>,
    writes: Expectations,
    context: Arc<Context>,
}

impl Endpoints {
    fn follow(self: &Arc<Self>) {
        follow_members(&self.context, &self.queue);
        let queue = self.queue.clone();
        self.endpoints.on_change(move |change| queue.add(change.key.clone()));
    }

    async fn reconcile(self: Arc<Self>, key: ObjectKey) -> Result<Option<Duration>, Error> {
        if !self.writes.are_met(&key, self.endpoints.revision(), |_| true) {
            return Ok(Some(LOOK_AGAIN));
        }
        let present = self.endpoints.get(&key);
        let Some(service) = self.context.services.get(&key) else {
            self.writes.forget(&key);
            return match present {
                Some(endpoints) if endpoints.label(legacy::MANAGED_BY) == Some(legacy::MANAGER) => {
                    self.delete(&endpoints).await.map(|()| None)
                }
                _ => Ok(None),
            };
        };
        if !service.view.spec.selects_pods() || service.deleting {
            return Ok(None);
        }
        let pods = selected(&self.context, &service);
        let whole = present.as_ref().map(|o| value(o)).transpose()?;
        let Some(wanted) = legacy::plan(&service, &pods, whole) else {
            return Ok(None);
        };
        let written = match present {
            None => match self.client.create(ENDPOINTS, &key.namespace, &wanted).await {
                Err(error) if namespace_is_terminating(&error) => return Ok(None),
                result => result,
            },
            Some(_) => self.client.update(ENDPOINTS, &key.namespace, &key.name, &wanted).await,
        };
        let written = written.during(|| format!("writing endpoints {key}"))?;
        self.writes.wrote(&key, written.revision);
        Ok(None)
    }

    async fn delete(&self, endpoints: &Object) -> Result<(), Error> {
        let options = DeleteOptions::only(&endpoints.uid);
        match self
            .client
            .delete(ENDPOINTS, endpoints.namespace(), endpoints.name(), options)
            .await
        {
            Err(error) if !error.is_not_found() => {
                Err(error).during(|| format!("deleting endpoints {}", endpoints.key))
            }
            _ => Ok(()),
        }
    }
}
