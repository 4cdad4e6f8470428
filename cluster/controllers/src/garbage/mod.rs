//! The garbage collector: deletes what lost its owners, in the order that was asked for.
//!
//! `graph` keeps who owns whom and says what a change makes worth looking at; `decide` says
//! what an object needs; `execute` does it.

mod decide;
mod execute;
mod graph;

use crate::{
    context::{Context, SHARED_INFORMERS},
    tracked::undecoded,
};
use graph::{Graph, Seen};
use serde::Deserialize;
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};
use strata_client::{
    Change, Client, EventRecorder, Informer, Resource, Scope, WorkQueue,
    discovery::{Served, discover},
    resources::*,
};
use strata_meta::{Object, Uid};
use strata_task::Backoff;

const CONTROLLER: &str = "generic-garbage-collector";
const WORKERS: usize = 20;
/// A resource that cannot be listed does not hold the others back for longer (as upstream).
const SYNC_DEADLINE: Duration = Duration::from_secs(30);
/// Definitions often come several at a time.
const SETTLE: Duration = Duration::from_millis(500);

/// One thing to look at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Work {
    /// An object that may have to go.
    Delete(Uid),
    /// An object whose dependents are to be let go.
    Orphan(Uid),
    /// Resources may have come or gone.
    Discover,
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delete(uid) => write!(f, "owners of {uid}"),
            Self::Orphan(uid) => write!(f, "dependents of {uid}"),
            Self::Discover => f.write_str("resources"),
        }
    }
}

pub(crate) fn start(context: &Arc<Context>) {
    let definitions = context.objects(CUSTOM_RESOURCE_DEFINITIONS);
    let collector = Arc::new(Collector {
        client: context.client(CONTROLLER),
        events: context.events(CONTROLLER),
        graph: Mutex::default(),
        followed: Mutex::default(),
        queue: context.queue("garbage_collector_attempt_to_delete"),
        definitions,
        context: context.clone(),
    });
    let queue = collector.queue.clone();
    collector
        .definitions
        .on_change(move |_| queue.add_after(Work::Discover, SETTLE));
    let first = collector.clone();
    let ready = async move { first.follow_all().await };
    let queue = collector.queue.clone();
    context.run(&queue, WORKERS, ready, move |work| collector.clone().work(work));
}

struct Collector {
    client: Client,
    events: EventRecorder,
    graph: Mutex<Graph>,
    /// The caches behind the graph.
    followed: Mutex<HashMap<Resource, Informer<Arc<Object>>>>,
    queue: WorkQueue<Work>,
    /// Tells when other resources are served.
    definitions: Informer<Arc<Object>>,
    context: Arc<Context>,
}

impl Collector {
    /// Follows everything that is served, and waits until the graph is complete.
    async fn follow_all(self: &Arc<Self>) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        while let Err(error) = self.discover().await {
            tracing::debug!(%error, "garbage collector cannot discover resources yet");
            tokio::time::sleep(backoff.next()).await;
        }
        let informers: Vec<_> = self
            .followed
            .lock()
            .expect("no holder panics")
            .values()
            .cloned()
            .collect();
        let all = futures::future::join_all(informers.iter().map(Informer::synced));
        if tokio::time::timeout(SYNC_DEADLINE, all).await.is_err() {
            tracing::warn!("garbage collector starts without having seen every resource");
        }
    }

    /// Starts following what is new and stops following what is gone.
    async fn discover(self: &Arc<Self>) -> Result<(), strata_client::Error> {
        let discovered = discover(&self.client).await?;
        let failed = |resource: &Resource| discovered.failures.iter().any(|(gv, _)| *gv == resource.api_version());
        let served: Vec<Resource> = discovered
            .resources
            .iter()
            .filter(|s| is_collected(s))
            .map(|s| s.resource)
            .collect();
        let mut followed = self.followed.lock().expect("no holder panics");
        followed.retain(|resource, _| served.contains(resource) || failed(resource));
        for resource in served {
            followed.entry(resource).or_insert_with(|| self.follow(resource));
        }
        Ok(())
    }

    fn follow(self: &Arc<Self>, resource: Resource) -> Informer<Arc<Object>> {
        let client = self.context.client(SHARED_INFORMERS);
        let cancel = self.context.cancel.clone();
        let informer = Informer::start_with(&client, resource, Scope::default(), cancel, undecoded);
        let collector = Arc::downgrade(self);
        informer.on_change(move |change| {
            if let Some(collector) = collector.upgrade() {
                collector.changed(resource, change);
            }
        });
        informer
    }

    fn changed(&self, resource: Resource, change: &Change<Arc<Object>>) {
        let mut graph = self.graph.lock().expect("no holder panics");
        let work = match (&change.old, &change.new) {
            (_, Some(new)) => graph.observe(seen(resource, new)),
            (Some(old), None) => graph.gone(&old.uid),
            (None, None) => Vec::new(),
        };
        drop(graph);
        work.into_iter().for_each(|work| self.queue.add(work));
    }
}

/// Events come and go by themselves, in great numbers.
fn is_collected(served: &Served) -> bool {
    let resource = served.resource;
    let is_event = resource == EVENTS || resource == EVENTS_V1;
    !is_event && ["delete", "list", "watch"].iter().all(|verb| served.can(verb))
}

fn seen(resource: Resource, object: &Object) -> Seen {
    // Finalizers matter from when the object is being deleted.
    let finalizers = if object.deleting {
        finalizers(object)
    } else {
        Vec::new()
    };
    Seen {
        identity: graph::Identity {
            resource: Some(resource),
            api_version: resource.api_version(),
            kind: resource.kind.to_owned(),
            key: object.key.clone(),
        },
        uid: object.uid.clone(),
        owners: object.owners.to_vec(),
        deleting: object.deleting,
        foreground: finalizers.iter().any(|f| f == decide::FOREGROUND),
        orphan: finalizers.iter().any(|f| f == decide::ORPHAN),
    }
}

/// The finalizers of an object.
fn finalizers(object: &Object) -> Vec<String> {
    #[derive(Deserialize)]
    struct Wire {
        metadata: Meta,
    }
    #[derive(Deserialize)]
    struct Meta {
        #[serde(default)]
        finalizers: Option<Vec<String>>,
    }
    // It decoded when it was made an Object, so its metadata is well formed.
    object
        .decode::<Wire>()
        .ok()
        .and_then(|wire| wire.metadata.finalizers)
        .unwrap_or_default()
}
