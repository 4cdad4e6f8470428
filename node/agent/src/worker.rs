//! One pod's worker: looks, plans, acts, reports. It owns everything that is known of its pod;
//! longer actions run beside it and send their results to its mailbox.

mod containers;
mod decided;
mod resize;

use crate::{
    admission::Refusal,
    allocation,
    context::{Context, pod_reference},
    planner::{self, Action, Ended, Observed, SandboxState},
    pod::Pod,
    probe::Finding,
    reporter::Reporter,
    resources::{self, Cgroup},
    slot::{Slot, Tracked},
    start::{self, ContainerUp, SandboxUp, StepError},
    status,
};
pub use resize::{Progress, Resized};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use strata_client::EventType;
use strata_engine::{ContainerId, ContainerStatus, SandboxId, SandboxStatus};
use strata_meta::Time;
use strata_task::CancellationToken;
use strata_volume::PodVolumes;
use tokio::{sync::mpsc, time::Instant};

/// Letters a worker may be behind; senders of more wait.
const MAILBOX: usize = 64;
/// Pause after a failed step, doubled up to [`planner::BACKOFF_MAX`].
const RETRY_FIRST: u64 = 10;
/// Pause after a failed sandbox or volume, which usually mends itself soon.
const SANDBOX_RETRY: i64 = 2;

/// What a worker is told.
pub enum Letter {
    /// The pod's newest specification.
    Pod(Arc<Pod>),
    /// The API no longer knows the pod.
    Gone,
    /// The node itself ends the pod.
    End(Ended),
    /// The mirror of a static pod is gone or shall go.
    Mirror,
    /// Something happened in the engine to this pod.
    Engine,
    /// Objects in the pod's volumes have changed.
    Refresh,
    /// A step has ended.
    Done(Step),
    /// A probe has found something out.
    Probe(String, ContainerId, Finding),
}

/// The end of a step that ran beside the worker.
pub enum Step {
    /// Volumes and sandbox are up, or why not.
    Sandbox(u32, Result<(SandboxUp, PodVolumes), StepError>),
    /// The sandbox is stopped.
    SandboxStopped,
    /// A container is up, or why not.
    Container(String, u32, Result<ContainerUp, StepError>),
    /// What runs has other resources, or why not.
    Resized(Result<Resized, String>),
    /// A container is down.
    Killed(String),
    /// Volumes are up to date.
    Refreshed(Result<PodVolumes, StepError>),
    /// Nothing of the pod is left, or why something is.
    Removed(Result<(), StepError>),
}

/// The way to a worker.
#[derive(Clone)]
pub struct Handle {
    letters: mpsc::Sender<Letter>,
    over: Arc<AtomicBool>,
}

impl Handle {
    /// Sends a letter; one to a worker that has finished is lost, as it should be.
    pub async fn send(&self, letter: Letter) {
        let _ = self.letters.send(letter).await;
    }

    /// Whether the pod has run to its end, or its worker has finished: it takes up no room any more.
    pub fn is_over(&self) -> bool {
        self.is_finished() || self.over.load(Ordering::Acquire)
    }

    /// Whether the worker has finished.
    pub fn is_finished(&self) -> bool {
        self.letters.is_closed()
    }
}

struct Worker {
    context: Arc<Context>,
    pod: Arc<Pod>,
    mailbox: mpsc::Receiver<Letter>,
    letters: mpsc::Sender<Letter>,
    slots: BTreeMap<String, Slot>,
    sandbox: Option<Sandbox>,
    pod_cgroup: Option<Cgroup>,
    resize: Progress,
    volumes: Option<PodVolumes>,
    ended: Option<Ended>,
    over: bool,
    ending: CancellationToken,
    busy: bool,
    /// What the volumes show has changed since they were written.
    stale: bool,
    /// The volumes are being written.
    refreshing: bool,
    retry_at: Option<Time>,
    reporter: Reporter,
    told_over: Arc<AtomicBool>,
    gone: bool,
    finished: bool,
}

struct Sandbox {
    id: SandboxId,
    attempt: u32,
    ip: String,
    stopped: bool,
}

/// What the engine knew of a pod before its worker began.
#[derive(Default)]
pub struct Found {
    /// Its sandboxes.
    pub sandboxes: Vec<SandboxStatus>,
    /// Its containers.
    pub containers: Vec<ContainerStatus>,
    /// Why the node does not take it.
    pub refused: Option<Refusal>,
    /// Whether it begins here and now.
    pub begins: bool,
}

/// Starts the worker of a pod.
pub fn spawn(context: Arc<Context>, pod: Arc<Pod>, found: Found, cancel: CancellationToken) -> Handle {
    let (letters, mailbox) = mpsc::channel(MAILBOX);
    let handle = Handle {
        letters: letters.clone(),
        over: Arc::default(),
    };
    let reporter = Reporter::new(context.options.client.clone(), &pod);
    let mut worker = Worker {
        context,
        pod,
        mailbox,
        letters,
        slots: BTreeMap::new(),
        sandbox: None,
        pod_cgroup: None,
        resize: Progress::default(),
        volumes: None,
        ended: None,
        over: false,
        ending: CancellationToken::new(),
        busy: false,
        stale: false,
        refreshing: false,
        retry_at: None,
        reporter,
        told_over: handle.over.clone(),
        gone: false,
        finished: false,
    };
    tokio::spawn(async move {
        let mut found = found;
        if found.begins && found.refused.is_none() {
            found.refused = worker.set_aside().await.err();
        }
        worker.adopt(found);
        tokio::select! {
            () = cancel.cancelled() => {}
            () = worker.run() => {}
        }
        let context = worker.context.clone();
        drop(worker);
        context.room.notify_one();
    });
    handle
}

impl Worker {
    /// Takes over what ran before the agent was restarted.
    fn adopt(&mut self, found: Found) {
        self.over = self.pod.is_finished();
        self.ended = found.refused.map(|refusal| Ended {
            reason: refusal.reason,
            message: format!("Pod was rejected: {}", refusal.message),
            refused: true,
            ..Ended::default()
        });
        let before = allocation::as_reported(&self.pod);
        self.pod_cgroup = (!found.sandboxes.is_empty()).then(|| resources::pod_cgroup(&before));
        // Volumes and ports of what runs are looked at again, not only those of what starts.
        self.stale = !found.sandboxes.is_empty();
        let newest = found.sandboxes.into_iter().max_by_key(|s| s.attempt);
        self.sandbox = newest.map(|s| Sandbox {
            id: s.id,
            attempt: s.attempt,
            ip: s.ip.map(|ip| ip.to_string()).unwrap_or_default(),
            stopped: false,
        });
        let mut containers = found.containers;
        containers.sort_by_key(|c| c.attempt);
        for status in containers {
            let slot = self.slots.entry(status.name.clone()).or_default();
            slot.attempt = status.attempt;
            let container = before.all_containers().find(|c| c.name == status.name);
            let resources = container.map(|c| c.resources.clone()).unwrap_or_default();
            let tracked = Tracked::of(&status, (status.image.clone(), status.image_id.clone()), resources);
            if let Some(old) = slot.current.replace(tracked) {
                slot.last = old.exit.clone().map(|exit| (old.id.to_string(), exit));
            }
        }
        let running: Vec<String> = self.slots.keys().cloned().collect();
        for name in running {
            self.start_probes(&name);
        }
    }

    async fn run(&mut self) {
        while !self.finished {
            let wake = self.turn();
            let deadline = wake.map(|at| Instant::now() + until(at));
            let letter = tokio::select! {
                letter = self.mailbox.recv() => letter,
                () = sleep_until(deadline) => continue,
            };
            let Some(letter) = letter else { return };
            self.read(letter);
            // What has piled up is read before the next turn.
            while let Ok(letter) = self.mailbox.try_recv() {
                self.read(letter);
            }
        }
    }

    /// One turn: look, plan, report, act. Returns when time alone asks for the next.
    fn turn(&mut self) -> Option<Time> {
        let now = Time::now();
        self.check_deadline(now);
        if self.pod.is_deleting() || self.ended.is_some() {
            self.ending.cancel();
        }
        let mut observed = self.observe();
        self.follow_resize(&mut observed);
        if let Some(at) = self.retry_at
            && at > now
            && !self.pod.is_deleting()
        {
            self.report(&observed, now);
            return Some(at);
        }
        let plan = planner::plan(&self.pod, &observed, now);
        let running = observed.containers.values().any(|c| c.is_running() || c.busy);
        let over = self.over || self.ended.is_some() || planner::has_completed(&self.pod, &observed);
        if over && !running && !self.told_over.swap(true, Ordering::AcqRel) {
            self.context.room.notify_one();
        }
        self.report(&observed, now);
        // This changes what the next look sees, and nobody else will ask for it.
        let renewed = plan.actions.contains(&Action::Renew).then_some(now);
        for action in plan.actions {
            self.act(action);
        }
        let refresh_at = self.volumes.as_ref().and_then(|v| v.refresh_at);
        if self.stale || refresh_at.is_some_and(|at| at <= now) {
            self.refresh();
        }
        [renewed, plan.wake_at, self.deadline(), refresh_at]
            .into_iter()
            .flatten()
            .min()
    }

    fn deadline(&self) -> Option<Time> {
        let seconds = self.pod.spec.active_deadline_seconds?;
        let over = self.ended.is_some() || self.pod.is_finished();
        (!over).then(|| self.reporter.start_time().plus_seconds(seconds))
    }

    fn check_deadline(&mut self, now: Time) {
        if self.deadline().is_some_and(|at| at <= now) {
            self.ended = Some(Ended {
                reason: "DeadlineExceeded".into(),
                message: "Pod was active on the node longer than the specified deadline".into(),
                ..Ended::default()
            });
        }
    }

    fn observe(&mut self) -> Observed {
        let engine = &self.context.options.engine;
        let dir = self.context.volumes.pod_dir(&self.pod.metadata.uid);
        let mut containers = BTreeMap::new();
        for container in self.pod.all_containers() {
            let Some(slot) = self.slots.get_mut(&container.name) else {
                continue;
            };
            let Some(mut instance) = slot.instance() else { continue };
            if slot.error.is_none()
                && let Some(tracked) = &mut slot.current
            {
                instance.state = tracked.state(engine, container, &dir);
            }
            containers.insert(container.name.clone(), instance);
        }
        let ready = |s: &Sandbox| {
            let state = engine.sandbox(&s.id).map(|status| status.state);
            !s.stopped && matches!(state, Ok(strata_engine::SandboxState::Ready))
        };
        Observed {
            sandbox: self.sandbox.as_ref().map(|s| SandboxState {
                id: s.id.to_string(),
                attempt: s.attempt,
                ready: ready(s),
                ip: s.ip.clone(),
            }),
            containers,
            ended: self.ended.clone(),
            busy: self.busy,
            over: self.over,
            pod_cgroup: self.pod_cgroup,
            resize: self.resize.clone(),
        }
    }

    fn report(&mut self, observed: &Observed, now: Time) {
        if self.gone {
            return;
        }
        let context = status::Context {
            host_ips: &self.context.facts.ips,
            now,
        };
        self.reporter.report(&self.pod, observed, &context);
    }

    fn read(&mut self, letter: Letter) {
        match letter {
            Letter::Pod(pod) => {
                self.note_resize(&pod);
                self.stale |= pod.shows_otherwise(&self.pod);
                self.pod = pod;
                if let Some(ended) = self.ended.clone() {
                    self.end(ended);
                }
                self.retry_at = self.retry_at.filter(|_| !self.pod.is_deleting());
            }
            Letter::Mirror => self.reporter.again(),
            Letter::Gone => {
                // Of a static pod it is the manifest that is gone; the API still has its mirror.
                self.gone = !self.pod.is_static();
                let mut pod = (*self.pod).clone();
                pod.metadata.deletion_timestamp.get_or_insert_with(Time::now);
                self.pod = Arc::new(pod);
            }
            Letter::End(ended) => self.end(ended),
            Letter::Engine => {}
            Letter::Refresh => self.stale = true,
            Letter::Done(step) => self.done(step),
            Letter::Probe(name, id, finding) => self.found_out(&name, &id, finding),
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::RunSandbox { attempt } => self.run_sandbox(attempt),
            Action::Start { container, attempt } => self.start_container(container, attempt),
            Action::Kill {
                container,
                reason,
                grace,
                again,
            } => self.kill_container(container, (reason, grace), again),
            Action::Resize => self.resize(),
            Action::Renew => self.renew(),
            Action::StopSandbox => self.stop_sandbox(),
            Action::Finish => self.finish(),
        }
    }

    /// Runs a step beside the worker; its result comes as a letter.
    fn beside(&self, step: impl Future<Output = Step> + Send + 'static) {
        let letters = self.letters.clone();
        tokio::spawn(async move {
            let result = step.await;
            // A worker that has ended no longer cares.
            let _ = letters.send(Letter::Done(result)).await;
        });
    }

    fn run_sandbox(&mut self, attempt: u32) {
        self.busy = true;
        let (context, pod) = (self.context.clone(), self.pod.clone());
        let old = self.sandbox.take().map(|s| s.id);
        self.beside(async move {
            if let Some(old) = old {
                start::withdraw_ports(&context, &old).await;
                if let Err(error) = start::gone(context.options.engine.remove_sandbox(&old).await) {
                    tracing::warn!(sandbox = %old, %error, "removing an ended sandbox failed");
                }
            }
            let result = async {
                // The address is needed by volumes only through the downward API, which refreshes.
                let (sandbox, volumes) = tokio::join!(
                    start::run_sandbox(&context, &pod, attempt),
                    start::set_up_volumes(&context, &pod, "")
                );
                let sandbox = sandbox?;
                match volumes {
                    Ok(volumes) => Ok((sandbox, volumes)),
                    Err(e) => {
                        start::withdraw_ports(&context, &sandbox.id).await;
                        let removed = start::gone(context.options.engine.remove_sandbox(&sandbox.id).await);
                        if let Err(error) = removed {
                            tracing::warn!(sandbox = %sandbox.id, %error, "removing a sandbox without volumes failed");
                        }
                        Err(e)
                    }
                }
            };
            Step::Sandbox(attempt, result.await)
        });
    }

    fn stop_sandbox(&mut self) {
        let Some(sandbox) = &self.sandbox else { return };
        self.busy = true;
        let (context, id) = (self.context.clone(), sandbox.id.clone());
        self.beside(async move {
            start::withdraw_ports(&context, &id).await;
            if let Err(error) = start::gone(context.options.engine.stop_sandbox(&id).await) {
                tracing::warn!(sandbox = %id, %error, "stopping a sandbox failed");
            }
            Step::SandboxStopped
        });
    }

    fn finish(&mut self) {
        self.busy = true;
        let (context, uid) = (self.context.clone(), self.pod.metadata.uid.clone());
        self.beside(async move { Step::Removed(start::remove_everything(&context, &uid).await) });
    }

    fn refresh(&mut self) {
        let waits = self.busy || self.refreshing;
        let Some(sandbox) = self.sandbox.as_ref().filter(|_| !waits) else {
            return;
        };
        let first = self.volumes.is_none();
        if let Some(volumes) = &mut self.volumes {
            volumes.refresh_at = None;
        }
        let (id, ip) = (sandbox.id.clone(), sandbox.ip.clone());
        self.busy = first;
        (self.stale, self.refreshing) = (false, true);
        let (context, pod) = (self.context.clone(), self.pod.clone());
        self.beside(async move {
            // An agent that was started anew.
            let adopted = match first {
                true => start::adopt(&context, &pod, &id, &ip).await,
                false => Ok(()),
            };
            Step::Refreshed(match adopted {
                Ok(()) => start::set_up_volumes(&context, &pod, &ip).await,
                Err(error) => Err(error),
            })
        });
    }

    fn done(&mut self, step: Step) {
        match step {
            Step::Sandbox(attempt, Ok((up, volumes))) => {
                self.busy = false;
                self.retry_at = None;
                self.sandbox = Some(Sandbox {
                    id: up.id,
                    attempt,
                    ip: up.ip,
                    stopped: false,
                });
                self.volumes = Some(volumes);
                self.pod_cgroup = Some(resources::pod_cgroup(&self.pod));
            }
            Step::Sandbox(_, Err(error)) => {
                self.busy = false;
                tracing::debug!(
                    pod = self.pod.full_name(),
                    error = error.message,
                    "sandbox did not come up"
                );
                self.retry_at = Some(Time::now().plus_seconds(SANDBOX_RETRY));
            }
            Step::SandboxStopped => {
                self.busy = false;
                match &mut self.sandbox {
                    Some(sandbox) if !self.pod.is_deleting() => sandbox.stopped = true,
                    sandbox => *sandbox = None,
                }
            }
            Step::Container(name, attempt, result) => self.container_done(&name, attempt, result),
            Step::Resized(result) => self.resized(result),
            Step::Killed(name) => {
                if let Some(slot) = self.slots.get_mut(&name) {
                    slot.busy = false;
                }
            }
            Step::Refreshed(result) => self.refreshed(result),
            Step::Removed(result) => self.removed(result),
        }
    }

    fn removed(&mut self, result: Result<(), StepError>) {
        match result {
            Ok(()) => {
                self.finished = true;
                if !self.gone {
                    self.reporter.delete(&self.pod);
                }
            }
            Err(error) => {
                self.busy = false;
                tracing::warn!(
                    pod = self.pod.full_name(),
                    error = error.message,
                    "removing a pod failed, trying again"
                );
                let message = format!("error killing pod: {}", error.message);
                self.context
                    .events
                    .event(&pod_reference(&self.pod), EventType::Warning, "FailedKillPod", message);
                let letters = self.letters.clone();
                self.busy = true;
                let (context, uid) = (self.context.clone(), self.pod.metadata.uid.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_secs(SANDBOX_RETRY.unsigned_abs())).await;
                    let again = start::remove_everything(&context, &uid).await;
                    let _ = letters.send(Letter::Done(Step::Removed(again))).await;
                });
            }
        }
    }
}

fn until(at: Time) -> Duration {
    // Times are whole seconds: a little late is right, a little early would spin.
    let seconds = at.as_second() - Time::now().as_second();
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).max(Duration::from_millis(50))
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
