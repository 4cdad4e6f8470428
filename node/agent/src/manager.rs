//! The pods of this node: a worker for each, fed from the API and from the engine.

mod own;

use crate::{
    admission::{self, OwnNode, Refusal},
    allocation::{self, PendingResize},
    container::POD_UID,
    context::{Context, pod_reference},
    eviction,
    pod::Pod,
    shutdown, start,
    statics::{self, mirror},
    worker::{self, Found, Handle, Letter},
};
use own::Statics;
use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};
use strata_client::{EventType, Informer, resources};
use strata_engine::{Engine, EngineEvent, SandboxId};
use strata_meta::{ObjectKey, Uid};
use strata_task::CancellationToken;
use tokio::sync::{broadcast, mpsc};

/// Changes of pods that wait to be passed on. An informer must not block, so a full queue
/// means that the manager looks at all pods instead.
const CHANGES: usize = 4096;

/// How often directories of pods that nobody knows are looked for.
const ORPHANS_EVERY: Duration = Duration::from_secs(120);

/// The pods of this node.
pub struct PodManager {
    context: Arc<Context>,
    pods: Informer<Pod>,
    workers: HashMap<Uid, Handle>,
    found: HashMap<Uid, Found>,
    /// The pods that this node has taken.
    taken: HashMap<Uid, Arc<Pod>>,
    /// Those that ask for other resources than they have, and since when.
    pending: HashMap<Uid, (ObjectKey, Instant)>,
    statics: Statics,
    /// Whether the manifests of static pods have been read (or there are none).
    statics_known: bool,
    cancel: CancellationToken,
}

enum Change {
    Present(Arc<Pod>),
    Gone(Uid),
    /// A mirror of a static pod is there, or no longer.
    Mirror(Arc<Pod>, bool),
}

impl PodManager {
    /// A manager of the pods that informer shows.
    pub fn new(context: Arc<Context>, pods: Informer<Pod>, cancel: CancellationToken) -> Self {
        Self {
            context,
            pods,
            workers: HashMap::new(),
            found: HashMap::new(),
            taken: HashMap::new(),
            pending: HashMap::new(),
            statics: Statics::default(),
            statics_known: false,
            cancel,
        }
    }

    /// Runs until cancelled. `refresh` tells which pods' objects changed.
    pub async fn run(mut self, mut refresh: mpsc::Receiver<Uid>) {
        let engine = self.context.options.engine.clone();
        let Some(mut orders) = self.context.orders.receiver() else {
            return;
        };
        let mut events = engine.events();
        self.find_running();
        let mut manifests = self.follow_manifests();
        match &mut manifests {
            // These run whether or not there is an API.
            Some(manifests) => {
                let first = self.cancel.clone().run_until_cancelled_owned(manifests.recv()).await;
                let Some(Some(first)) = first else { return };
                self.set_statics(first).await;
            }
            None => self.statics_known = true,
        }
        // An informer that is cancelled before its first list never has one.
        if self.cancel.run_until_cancelled(self.pods.synced()).await.is_none() {
            return;
        }
        self.context.local_volumes.restore().await;
        for (_, pod) in self.pods.list() {
            // What runs already was taken by an earlier agent.
            if self.found.contains_key(&pod.metadata.uid) && !pod.is_finished() {
                self.taken
                    .insert(pod.metadata.uid.clone(), allocation::as_reported(&pod));
            }
        }
        let (sender, mut changes) = mpsc::channel(CHANGES);
        self.pods.on_change(move |change| {
            let replaced = match (&change.old, &change.new) {
                (Some(old), Some(new)) => (old.metadata.uid != new.metadata.uid).then_some(old),
                (Some(old), None) => Some(old),
                (None, _) => None,
            };
            let gone = replaced.map(|pod| match mirror::is_mirror(pod) {
                true => Change::Mirror(pod.clone(), true),
                false => Change::Gone(pod.metadata.uid.clone()),
            });
            let present = change.new.clone().map(|pod| match mirror::is_mirror(&pod) {
                true => Change::Mirror(pod, false),
                false => Change::Present(pod),
            });
            for letter in gone.into_iter().chain(present) {
                if sender.try_send(letter).is_err() {
                    tracing::error!("more pod changes than can be queued; the next look at all pods catches up");
                }
            }
        });
        // The replay above has put every pod of the API before whatever comes next.
        while let Ok(change) = changes.try_recv() {
            self.pass(change).await;
        }
        self.remove_orphans().await;
        let mut orphans = tokio::time::interval(ORPHANS_EVERY);
        orphans.tick().await;
        loop {
            tokio::select! {
                () = self.cancel.cancelled() => return,
                Some(change) = changes.recv() => self.pass(change).await,
                Some(order) = orders.recv() => self.tell(&order.uid, Letter::End(order.ended)).await,
                () = self.context.room.notified() => {
                    self.start_statics().await;
                    self.resize_pending().await;
                }
                Some(pods) = next(&mut manifests) => self.set_statics(pods).await,
                Some(uid) = refresh.recv() => self.tell(&uid, Letter::Refresh).await,
                event = events.recv() => match event {
                    Ok(event) => self.engine_event(&engine, &event).await,
                    Err(broadcast::error::RecvError::Lagged(_)) => self.wake_all().await,
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                _ = orphans.tick() => {
                    self.look_at_all().await;
                    self.resize_pending().await;
                    self.remove_orphans().await;
                }
            }
        }
    }

    /// Sorts what runs on the node by pod.
    fn find_running(&mut self) {
        let engine = &self.context.options.engine;
        for sandbox in engine.list_sandboxes() {
            let uid = Uid::from(sandbox.uid.as_str());
            self.found.entry(uid).or_default().sandboxes.push(sandbox);
        }
        for container in engine.list_containers() {
            if let Some(uid) = container.labels.get(POD_UID) {
                let uid = Uid::from(uid.as_str());
                self.found.entry(uid).or_default().containers.push(container);
            }
        }
    }

    /// The node's own pods, if there is a folder of their manifests.
    fn follow_manifests(&self) -> Option<mpsc::Receiver<Vec<Arc<Pod>>>> {
        let folder = self.context.options.static_pods.clone()?;
        let (sender, receiver) = mpsc::channel(1);
        let node = self.context.options.node_name.clone();
        tokio::spawn(statics::follow(folder, node, sender, self.cancel.clone()));
        Some(receiver)
    }

    async fn pass(&mut self, change: Change) {
        match change {
            Change::Mirror(pod, gone) => self.mirror(&pod, gone).await,
            Change::Gone(uid) => {
                self.taken.remove(&uid);
                self.pending.remove(&uid);
                self.context.room.notify_one();
                self.tell(&uid, Letter::Gone).await;
            }
            Change::Present(pod) => {
                let uid = pod.metadata.uid.clone();
                match self.workers.get(&uid) {
                    Some(worker) if worker.is_finished() => {}
                    Some(worker) => {
                        let worker = worker.clone();
                        worker.send(Letter::Pod(self.allocate(pod))).await;
                    }
                    None => {
                        let mut found = self.found.remove(&uid).unwrap_or_default();
                        let begun = !found.sandboxes.is_empty() || !found.containers.is_empty();
                        if !begun && !pod.is_finished() && !pod.is_deleting() {
                            found.refused = self.take(&pod).await.err();
                            found.begins = true;
                        }
                        let pod = if begun { self.allocate(pod) } else { pod };
                        let worker = worker::spawn(self.context.clone(), pod, found, self.cancel.child_token());
                        self.workers.insert(uid, worker);
                    }
                }
            }
        }
    }

    /// Takes a pod beside those that are here, or says why not.
    async fn take(&mut self, pod: &Arc<Pod>) -> Result<(), Refusal> {
        let others = self.others(&pod.metadata.uid);
        let pressed = {
            let state = self.context.state.borrow();
            let leaving = state.shutting_down.then(shutdown::refusal);
            leaving.or_else(|| eviction::refuses(&state.pressures, pod))
        };
        let mut verdict = match pressed {
            Some(refusal) => Err(refusal),
            None => admission::admit(pod, &others, self.node()?.as_ref()),
        };
        if verdict.as_ref().is_err_and(|refusal| refusal.by_labels) {
            // Labels may have come with the pod, and what is followed may be a moment behind.
            verdict = admission::admit(pod, &others, &self.newest_node().await?);
        }
        match &verdict {
            Ok(()) => drop(self.taken.insert(pod.metadata.uid.clone(), pod.clone())),
            Err(refusal) => {
                let about = pod_reference(pod);
                self.context.events.event(
                    &about,
                    EventType::Warning,
                    refusal.reason.clone(),
                    refusal.message.clone(),
                );
            }
        }
        verdict
    }

    /// Gives a pod the resources that it asks for, or leaves it those it has.
    fn allocate(&mut self, pod: Arc<Pod>) -> Arc<Pod> {
        let uid = pod.metadata.uid.clone();
        let Some(has) = self.taken.get(&uid).cloned() else {
            return pod;
        };
        if !allocation::differs(&pod, &has) {
            self.pending.remove(&uid);
            self.taken.insert(uid, pod.clone());
            return pod;
        }
        let mut kept = allocation::with_resources_of(&pod, &has);
        if pod.is_deleting() || pod.is_finished() {
            return Arc::new(kept);
        }
        let generation = pod.metadata.generation;
        let others = self.others(&uid);
        let verdict = self.node().and_then(|node| admission::admit(&pod, &others, &node));
        let about = pod_reference(&pod);
        let events = &self.context.events;
        match verdict {
            Ok(()) => {
                let message = allocation::describe("Pod resize started", &pod, generation, "");
                events.event(&about, EventType::Normal, "ResizeStarted", message);
                self.pending.remove(&uid);
                self.taken.insert(uid, pod.clone());
                // What this one gives back may be what another waits for.
                self.context.room.notify_one();
                pod
            }
            Err(refusal) => {
                let pending = PendingResize {
                    message: refusal.message,
                    generation,
                };
                let told = has.pending_resize.as_ref().map(|p| p.generation) == Some(generation);
                if !told {
                    let message = allocation::describe("Pod resize Deferred", &pod, generation, &pending.message);
                    events.event(&about, EventType::Warning, "ResizeDeferred", message);
                }
                let key = ObjectKey::new(&pod.metadata.namespace, &pod.metadata.name);
                self.pending.entry(uid.clone()).or_insert((key, Instant::now()));
                kept.pending_resize = Some(pending);
                let kept = Arc::new(kept);
                self.taken.insert(uid, kept.clone());
                kept
            }
        }
    }

    /// Looks again at the changes of resources that there was no room for, in upstream's order: what asks for
    /// no more, priority, class, then what has waited longest.
    async fn resize_pending(&mut self) {
        let mut waiting = Vec::new();
        for (uid, (key, since)) in &self.pending {
            let (Some(pod), Some(has)) = (self.pods.get(key), self.taken.get(uid)) else {
                continue;
            };
            if pod.metadata.uid == *uid {
                let more = allocation::asks_for_more(&pod, has);
                let priority = Reverse(pod.spec.priority.unwrap_or(0));
                let class = crate::resources::qos_class(&pod) != crate::resources::Qos::Guaranteed;
                waiting.push(((more, priority, class, *since), pod));
            }
        }
        waiting.sort_by_key(|(order, _)| *order);
        for (_, pod) in waiting {
            let uid = pod.metadata.uid.clone();
            let before = self.taken.get(&uid).cloned();
            let now = self.allocate(pod);
            let changed = before
                .is_none_or(|before| before.pending_resize != now.pending_resize || allocation::differs(&before, &now));
            if changed {
                self.tell(&uid, Letter::Pod(now)).await;
            }
        }
    }

    /// The pods that take up room, as they were taken; one whose work is done takes none.
    fn others(&mut self, uid: &Uid) -> Vec<Arc<Pod>> {
        let workers = &self.workers;
        self.taken
            .retain(|uid, pod| !pod.is_finished() && workers.get(uid).is_none_or(|worker| !worker.is_over()));
        let others = self.taken.iter().filter(|(other, _)| *other != uid);
        others.map(|(_, pod)| pod.clone()).collect()
    }

    fn node(&self) -> Result<Arc<OwnNode>, Refusal> {
        let key = ObjectKey::new("", &self.context.options.node_name);
        match self.context.node.get(&key) {
            Some(node) if node.allocatable.is_empty() => self.with_status((*node).clone()).map(Arc::new),
            Some(node) => Ok(node),
            None => self.expected_node().map(Arc::new),
        }
    }

    async fn newest_node(&self) -> Result<OwnNode, Refusal> {
        let options = &self.context.options;
        let object = options.client.get(resources::NODES, "", &options.node_name).await;
        let node = OwnNode::of(&object.map_err(Refusal::unknown_node)?).map_err(Refusal::unknown_node)?;
        self.with_status(node)
    }

    /// A node that has been registered and whose status has not been written yet has what that will say.
    fn with_status(&self, mut node: OwnNode) -> Result<OwnNode, Refusal> {
        if node.allocatable.is_empty() {
            node.allocatable = self.expected_node()?.allocatable;
        }
        Ok(node)
    }

    fn expected_node(&self) -> Result<OwnNode, Refusal> {
        OwnNode::expected(&self.context.options, &self.context.facts).map_err(Refusal::unknown_node)
    }

    async fn tell(&self, uid: &Uid, letter: Letter) {
        if let Some(worker) = self.workers.get(uid) {
            worker.send(letter).await;
        }
    }

    async fn wake_all(&self) {
        for worker in self.workers.values() {
            worker.send(Letter::Engine).await;
        }
    }

    async fn look_at_all(&mut self) {
        let api = self.pods.list().into_iter().map(|(_, pod)| pod);
        let mut present: Vec<Arc<Pod>> = api.filter(|pod| !mirror::is_mirror(pod)).collect();
        let own = self.statics.all().filter(|(uid, _)| self.workers.contains_key(*uid));
        present.extend(own.map(|(_, pod)| pod.clone()));
        let known: HashSet<Uid> = present.iter().map(|pod| pod.metadata.uid.clone()).collect();
        let gone: Vec<Uid> = self
            .workers
            .keys()
            .filter(|uid| !known.contains(*uid))
            .cloned()
            .collect();
        for uid in gone {
            self.pass(Change::Gone(uid)).await;
        }
        for pod in present {
            self.pass(Change::Present(pod)).await;
        }
        self.workers
            .retain(|uid, worker| known.contains(uid) || !worker.is_finished());
    }

    async fn engine_event(&self, engine: &Engine, event: &EngineEvent) {
        let sandbox: &SandboxId = match event {
            EngineEvent::ContainerStarted { .. } => return,
            EngineEvent::ContainerExited { sandbox_id, .. }
            | EngineEvent::OomKilled { sandbox_id, .. }
            | EngineEvent::SandboxExited { sandbox_id } => sandbox_id,
        };
        match engine.sandbox(sandbox) {
            Ok(status) => self.tell(&Uid::from(status.uid.as_str()), Letter::Engine).await,
            Err(_) => self.wake_all().await,
        }
    }

    /// Ends what belongs to pods that the API does not know.
    async fn remove_orphans(&mut self) {
        let mut orphans: HashSet<Uid> = self.found.drain().map(|(uid, _)| uid).collect();
        orphans.extend(self.context.volumes.known_pods());
        let mut known: HashSet<Uid> = self
            .pods
            .list()
            .iter()
            .map(|(_, pod)| pod.metadata.uid.clone())
            .collect();
        known.extend(self.statics.all().map(|(uid, _)| uid.clone()));
        for uid in orphans {
            if known.contains(&uid) || self.workers.get(&uid).is_some_and(|w| !w.is_finished()) {
                continue;
            }
            let context = self.context.clone();
            tokio::spawn(async move {
                tracing::info!(pod = %uid, "removing what is left of a pod that no longer exists");
                if let Err(error) = start::remove_everything(&context, &uid).await {
                    tracing::warn!(pod = %uid, error = error.message, "removing an orphaned pod failed");
                }
            });
        }
    }
}

async fn next(manifests: &mut Option<mpsc::Receiver<Vec<Arc<Pod>>>>) -> Option<Vec<Arc<Pod>>> {
    match manifests {
        Some(manifests) => manifests.recv().await,
        None => std::future::pending().await,
    }
}
