//! Binds claims to persistent volumes, and says what became of volumes whose claim is gone.
//!
//! A binding is two references, each of which may be made by somebody else first: the volume's to the claim is
//! written before the claim's to the volume. What is to be done is decided in [`claims`] and [`volumes`] from what is
//! known; one worker does it, so that no volume is given away twice, and sees its own writes before the caches do.

mod choose;
mod claims;
mod ephemeral;
mod execute;
mod local;
mod types;
mod volumes;
mod written;

use crate::{
    Error,
    context::{Context, SHARED_INFORMERS},
    tracked::{Index, Tracked, decode},
    views::Pod,
};
use std::{fmt, sync::Arc, time::Duration};
use strata_client::{
    Client, EventRecorder, EventType, Informer, ObjectReference, Scope, WorkQueue,
    resources::{PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, STORAGE_CLASSES},
};
use strata_meta::{Object, ObjectKey};
use types::{Claim, ClassView, Volume};
use written::Written;

const CONTROLLER: &str = "persistent-volume-binder";
/// More would give one volume to two claims.
const WORKERS: usize = 1;

/// One thing to look at.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Work {
    Claim(ObjectKey),
    Volume(ObjectKey),
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim(key) => write!(f, "claim {key}"),
            Self::Volume(key) => write!(f, "volume {}", key.name),
        }
    }
}

struct Binder {
    client: Client,
    events: EventRecorder,
    queue: WorkQueue<Work>,
    claims: Written<Claim>,
    volumes: Written<Volume>,
    classes: Informer<Tracked<ClassView>>,
    /// By [`volume_keys`].
    volume_index: Arc<Index<Volume>>,
    /// By [`claim_keys`].
    claim_index: Arc<Index<Claim>>,
    /// Pods without a node, by the claims they name.
    waiting: Arc<Index<Pod>>,
}

/// Volumes are looked for by class and by the claim they are reserved for.
fn volume_keys(volume: &Volume) -> Vec<Arc<str>> {
    let mut keys = vec![of_class(volume.view.class())];
    if let Some(claim) = &volume.view.spec.claim_ref {
        keys.push(of_claim(&claim.namespace, &claim.name));
    }
    keys
}

/// Claims that are not bound by class, all by the volume they name.
fn claim_keys(claim: &Claim) -> Vec<Arc<str>> {
    let mut keys = Vec::new();
    if !claim.view.is_completed() {
        keys.push(of_class(claim.view.class()));
    }
    if !claim.view.spec.volume_name.is_empty() {
        keys.push(format!("volume/{}", claim.view.spec.volume_name).into());
    }
    keys
}

fn of_class(name: &str) -> Arc<str> {
    format!("class/{name}").into()
}

fn of_claim(namespace: &str, name: &str) -> Arc<str> {
    format!("claim/{namespace}/{name}").into()
}

/// The claims of a pod that has no node yet.
fn waits_for(pod: &Pod) -> Vec<Arc<str>> {
    if !pod.view.node.is_empty() || pod.view.phase.is_terminal() {
        return Vec::new();
    }
    let claims = pod.view.claims.iter();
    claims.map(|claim| of_claim(pod.namespace(), &claim.name)).collect()
}

pub(crate) fn start(context: &Arc<Context>) {
    let (shared, cancel) = (context.client(SHARED_INFORMERS), &context.cancel);
    let everywhere = Scope::default;
    let claims = Informer::start_with(
        &shared,
        PERSISTENT_VOLUME_CLAIMS,
        everywhere(),
        cancel.clone(),
        Tracked::decode,
    );
    let volumes = Informer::start_with(
        &shared,
        PERSISTENT_VOLUMES,
        everywhere(),
        cancel.clone(),
        Tracked::decode,
    );
    let classes = Informer::start_with(&shared, STORAGE_CLASSES, everywhere(), cancel.clone(), Tracked::decode);
    ephemeral::start(context, &claims);
    local::start(context, &claims, &volumes, &classes);
    let binder = Arc::new(Binder {
        client: context.client(CONTROLLER),
        events: EventRecorder::new(context.client(CONTROLLER), "persistentvolume-controller", ""),
        queue: context.queue("volumes"),
        volume_index: Index::new(&volumes, volume_keys),
        claim_index: Index::new(&claims, claim_keys),
        waiting: Index::new(&context.pods, waits_for),
        claims: Written::new(claims.clone()),
        volumes: Written::new(volumes.clone()),
        classes: classes.clone(),
    });
    binder.follow(context);
    let pods = context.pods.clone();
    let ready = async move {
        claims.synced().await;
        volumes.synced().await;
        classes.synced().await;
        pods.synced().await;
    };
    let queue = binder.queue.clone();
    context.run(&queue, WORKERS, ready, move |work| binder.clone().reconcile(work));
}

impl Binder {
    fn follow(self: &Arc<Self>, context: &Arc<Context>) {
        let binder = Arc::downgrade(self);
        self.claims.informer.on_change(move |change| {
            let Some(binder) = binder.upgrade() else { return };
            binder.queue.add(Work::Claim(change.key.clone()));
            // Its volume may be free, or be needed for what the claim has become.
            for claim in [&change.old, &change.new].into_iter().flatten() {
                let reserved = binder
                    .volume_index
                    .get(&of_claim(&change.key.namespace, &change.key.name));
                let named = ObjectKey::new("", &claim.view.spec.volume_name);
                let keys = reserved.iter().map(|volume| volume.key.clone()).chain([named]);
                keys.filter(|key| !key.name.is_empty())
                    .for_each(|key| binder.queue.add(Work::Volume(key)));
            }
        });
        let binder = Arc::downgrade(self);
        self.volumes.informer.on_change(move |change| {
            let Some(binder) = binder.upgrade() else { return };
            binder.queue.add(Work::Volume(change.key.clone()));
            for volume in [&change.old, &change.new].into_iter().flatten() {
                binder.enqueue_claims_for(volume);
            }
        });
        let binder = Arc::downgrade(self);
        self.classes.on_change(move |change| {
            let Some(binder) = binder.upgrade() else { return };
            for class in [change.key.name.as_ref(), ""] {
                binder.enqueue_claims_of(&of_class(class));
            }
        });
        let binder = Arc::downgrade(self);
        context.pods.on_change(move |change| {
            let Some(binder) = binder.upgrade() else { return };
            let Some(pod) = change.new.as_ref().filter(|_| change.old.is_none()) else {
                return;
            };
            if pod.view.node.is_empty() {
                let keys = pod.view.claims.iter().map(|c| ObjectKey::new(pod.namespace(), &c.name));
                keys.for_each(|key| binder.queue.add(Work::Claim(key)));
            }
        });
    }

    /// The claims that might be bound to a volume, or are.
    fn enqueue_claims_for(&self, volume: &Volume) {
        match &volume.view.spec.claim_ref {
            Some(claim) => self
                .queue
                .add(Work::Claim(ObjectKey::new(&claim.namespace, &claim.name))),
            None => self.enqueue_claims_of(&of_class(volume.view.class())),
        }
        self.enqueue_claims_of(&format!("volume/{}", volume.name()));
    }

    fn enqueue_claims_of(&self, key: &str) {
        for claim in self.claim_index.get(key) {
            self.queue.add(Work::Claim(claim.key.clone()));
        }
    }

    async fn reconcile(self: Arc<Self>, work: Work) -> Result<Option<Duration>, Error> {
        match work {
            Work::Claim(key) => {
                if let Some(claim) = self.claims.get(&key) {
                    self.claim(&claim).await?;
                }
            }
            Work::Volume(key) => {
                if let Some(volume) = self.volumes.get(&key) {
                    self.volume(&volume).await?;
                }
            }
        }
        Ok(None)
    }

    fn volume_named(&self, name: &str) -> Option<Arc<Volume>> {
        self.volumes.get(&ObjectKey::new("", name))
    }

    /// What is known that matters to a claim.
    fn known(&self, claim: &Claim) -> claims::Known {
        let reserved = of_claim(claim.namespace(), claim.name());
        let mut candidates = self.volume_index.get(&of_class(claim.view.class()));
        candidates.extend(self.volume_index.get(&reserved));
        candidates.sort_by(|a, b| a.key.cmp(&b.key));
        candidates.dedup_by(|a, b| a.key == b.key);
        let candidates = candidates
            .iter()
            .filter_map(|volume| self.volumes.get(&volume.key))
            .collect();
        let class = claim.view.class();
        let mut pods: Vec<String> = self
            .waiting
            .get(&reserved)
            .iter()
            .map(|pod| pod.name().to_owned())
            .collect();
        pods.sort();
        claims::Known {
            volume: self.volume_named(&claim.view.spec.volume_name),
            candidates,
            class: self.classes.get(&ObjectKey::new("", class)),
            default_class: self.default_class(),
            pods,
        }
    }

    /// The youngest of the classes that are marked as such.
    fn default_class(&self) -> Option<String> {
        let marked = self.classes.select(|_, class| class.view.is_default());
        let best = marked.into_iter().max_by(|(_, a), (_, b)| {
            let made = |class: &Tracked<ClassView>| class.view.metadata.creation_timestamp;
            made(a).cmp(&made(b)).then_with(|| b.name().cmp(a.name()))
        });
        best.map(|(key, _)| key.name.to_string())
    }

    fn tell(&self, about: &Object, event_type: EventType, reason: &str, message: impl Into<String>) {
        self.events
            .event(&ObjectReference::of(about), event_type, reason, message);
    }
}

/// What was written, decoded as the caches have it.
fn tracked<V: serde::de::DeserializeOwned>(object: Arc<Object>) -> Result<Tracked<V>, Error> {
    let view = decode(&object)?;
    Ok(Tracked { object, view })
}
