//! Endpoint slices and endpoints: which pods stand behind a service.

mod legacy;
mod members;
mod mirror;
mod slices;
mod store;

use crate::{
    Error,
    context::Context,
    error::{During, namespace_is_terminating},
    expectations::{Expectations, LOOK_AGAIN},
    tracked::value,
    views::{Pod, Service},
};
use std::{sync::Arc, time::Duration};
use store::SliceStore;
use strata_client::{
    Change, Client, DeleteOptions, EventRecorder, EventType, Informer, ObjectReference, WorkQueue, resources::*,
};
use strata_meta::{Object, ObjectKey, Selector};

const SLICE_CONTROLLER: &str = "endpointslice-controller";
const ENDPOINTS_CONTROLLER: &str = "endpoint-controller";
const WORKERS: usize = 5;

pub(crate) fn start(context: &Arc<Context>) {
    let slices = context.objects(ENDPOINT_SLICES);
    let slice_controller = Arc::new(Slices {
        store: SliceStore::new(context.client(SLICE_CONTROLLER), &slices, |slice| {
            service_of(slice, slices::MANAGER).into_iter().map(index_key).collect()
        }),
        events: context.events(SLICE_CONTROLLER),
        queue: context.queue("endpoint_slice"),
        context: context.clone(),
    });
    slice_controller.follow(&slices);
    let queue = slice_controller.queue.clone();
    context.run(&queue, WORKERS, ready(context, slices.clone()), move |key| {
        slice_controller.clone().reconcile(key)
    });

    let endpoints = context.objects(ENDPOINTS);
    mirror::start(context, &slices, &endpoints);
    let endpoints_controller = Arc::new(Endpoints {
        client: context.client(ENDPOINTS_CONTROLLER),
        endpoints: endpoints.clone(),
        queue: context.queue("endpoint"),
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

/// Queues the service of a slice that somebody changed.
fn follow_slices(slices: &Informer<Arc<Object>>, queue: &WorkQueue<ObjectKey>, manager: &'static str) {
    let to = queue.clone();
    slices.on_change(move |change| {
        let slices = [&change.old, &change.new].into_iter().flatten();
        slices
            .filter_map(|slice| service_of(slice, manager))
            .for_each(|key| to.add(key));
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

/// The service that a slice belongs to, if the slice is of this manager.
fn service_of(slice: &Object, manager: &str) -> Option<ObjectKey> {
    let ours = slice.label(slices::MANAGED_BY) == Some(manager);
    let name = slice.label(slices::SERVICE_NAME).filter(|_| ours)?;
    Some(ObjectKey::new(slice.namespace(), name))
}

fn index_key(key: ObjectKey) -> Arc<str> {
    key.to_string().into()
}

struct Slices {
    store: SliceStore,
    events: EventRecorder,
    queue: WorkQueue<ObjectKey>,
    context: Arc<Context>,
}

impl Slices {
    fn follow(self: &Arc<Self>, slices: &Informer<Arc<Object>>) {
        follow_members(&self.context, &self.queue);
        follow_slices(slices, &self.queue, slices::MANAGER);
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
        let Some(present) = self.store.present(&key)? else {
            return Ok(Some(LOOK_AGAIN));
        };
        // The slices of a service that is gone or going go with it, by their owner reference.
        let Some(service) = self.context.services.get(&key).filter(|s| !s.deleting) else {
            self.store.forget(&key);
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
        for write in slices::plan(&service, &pods, &zone, present) {
            if let Err(error) = self.store.write(&key, write).await {
                let about = ObjectReference::of(&service);
                let message = format!("Error updating Endpoint Slices for Service {key}: {error}");
                self.events
                    .event(&about, EventType::Warning, "FailedToUpdateEndpointSlices", message);
                return Err(error);
            }
        }
        Ok(None)
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
