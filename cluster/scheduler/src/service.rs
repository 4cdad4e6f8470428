//! The running scheduler: informers in front of the engine, writes behind it.

use crate::{
    configuration::Configuration,
    engine::{Action, Engine},
    inbox::{Bound, Inbox, Mail},
    informers::Informers,
    metrics::{Metrics, Outcome},
    report::{Report, Reporter},
    volume_writes::VolumeWriter,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};
use strata_client::{Client, EventRecorder};
use strata_metrics::Page;
use strata_task::{CancellationToken, DropGuard};
use tokio::{runtime::Handle, sync::oneshot, task::AbortHandle};

/// Bindings and reports on their way at a time; with more the engine waits.
const IN_FLIGHT: usize = 128;
/// As whom events are told.
const COMPONENT: &str = "default-scheduler";
/// Decisions between two looks into the inbox.
const DECISIONS_AT_ONCE: usize = 64;

/// How the scheduler runs.
#[derive(Clone)]
pub struct SchedulerOptions {
    /// As whom it reads and writes; upstream's is `system:kube-scheduler`.
    pub client: Client,
    /// Whose pods it places, and how.
    pub configuration: Configuration,
    /// The machine it runs on, for events.
    pub host: String,
}

impl SchedulerOptions {
    /// The default scheduler of a cluster.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            configuration: Configuration::default(),
            host: String::new(),
        }
    }
}

/// A running scheduler. Dropping it stops it; [`Scheduler::stopped`] waits for the end.
pub struct Scheduler {
    ended: oneshot::Receiver<()>,
    counters: Arc<Counters>,
    metrics: Arc<Metrics>,
    task: AbortHandle,
    _stop: DropGuard,
}

/// What a scheduler has done and holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Pods bound.
    pub scheduled: u64,
    /// Attempts that found no node.
    pub unschedulable: u64,
    /// Bindings that failed.
    pub errors: u64,
    /// Pods that wait to be tried.
    pub active: u64,
    /// Pods that wait for their backoff.
    pub backoff: u64,
    /// Pods that wait for a change of the cluster.
    pub parked: u64,
    /// Pods that wait for their scheduling gates.
    pub gated: u64,
}

#[derive(Default)]
struct Counters {
    scheduled: AtomicU64,
    unschedulable: AtomicU64,
    errors: AtomicU64,
    active: AtomicU64,
    backoff: AtomicU64,
    parked: AtomicU64,
    gated: AtomicU64,
}

impl Scheduler {
    /// Starts on the current tokio runtime. It places pods from when its first lists have come.
    pub fn start(options: SchedulerOptions, cancel: CancellationToken) -> Self {
        let stop = cancel.child_token();
        let counters = Arc::new(Counters::default());
        let metrics = Arc::new(Metrics::default());
        let (end, ended) = oneshot::channel();
        let task = tokio::spawn(run(options, stop.clone(), (counters.clone(), metrics.clone()), end)).abort_handle();
        Self {
            ended,
            counters,
            metrics,
            task,
            _stop: stop.drop_guard(),
        }
    }

    /// What it has done and holds.
    pub fn statistics(&self) -> Statistics {
        let Counters {
            scheduled,
            unschedulable,
            errors,
            active,
            backoff,
            parked,
            gated,
        } = &*self.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Statistics {
            scheduled: read(scheduled),
            unschedulable: read(unschedulable),
            errors: read(errors),
            active: read(active),
            backoff: read(backoff),
            parked: read(parked),
            gated: read(gated),
        }
    }

    /// Tells later on whether it has not ended.
    pub fn health(&self) -> impl Fn() -> bool + Send + Sync + use<> {
        let task = self.task.clone();
        move || !task.is_finished()
    }

    /// Puts what it measures on a page later on.
    pub fn shows(&self) -> impl Fn(&mut Page) + Send + Sync + use<> {
        let metrics = self.metrics.clone();
        move |page| metrics.show(page)
    }

    /// Waits until it has ended, after its token was cancelled.
    pub async fn stopped(self) {
        let Self { ended, _stop, .. } = self;
        // The sender is dropped when it ends, whichever way.
        let _ = ended.await;
    }
}

async fn run(
    options: SchedulerOptions,
    stop: CancellationToken,
    (counters, metrics): (Arc<Counters>, Arc<Metrics>),
    end: oneshot::Sender<()>,
) {
    let informers = Informers::start(&options.client, &stop);
    let inbox = Arc::new(Inbox::default());
    let claim_changes = informers.post_changes(&inbox);
    if stop.run_until_cancelled(informers.synced()).await.is_none() {
        return;
    }
    let reporter = Reporter {
        events: EventRecorder::new(options.client.clone(), COMPONENT, &options.host),
        volumes: VolumeWriter::new(options.client.clone(), &informers, claim_changes),
        client: options.client,
    };
    let desk = Desk {
        engine: Engine::new(&options.configuration),
        informers,
        inbox: inbox.clone(),
        reporter,
        runtime: Handle::current(),
        counters,
        metrics,
        in_flight: 0,
    };
    // A thread of its own: deciding is computing, which must not hold up the runtime.
    let thread = std::thread::Builder::new().name("scheduler".to_owned()).spawn(move || {
        desk.work();
        drop(end);
    });
    if let Err(error) = thread {
        tracing::error!(%error, "the scheduler has no thread and places nothing");
        return;
    }
    stop.cancelled().await;
    inbox.post(|mail| mail.stop = true);
}

/// The thread's side: mail in, actions out.
struct Desk {
    engine: Engine,
    informers: Informers,
    inbox: Arc<Inbox>,
    reporter: Reporter,
    runtime: Handle,
    counters: Arc<Counters>,
    metrics: Arc<Metrics>,
    in_flight: usize,
}

impl Desk {
    fn work(mut self) {
        let mut idle = false;
        loop {
            let full = self.in_flight >= IN_FLIGHT;
            // With everything in flight only an answer lets it go on.
            let until = if full { None } else { self.engine.next_wakeup() };
            let mail = self.inbox.take(idle || full, until);
            if mail.stop {
                return;
            }
            self.read(mail);
            idle = !self.decide();
            if idle || self.in_flight >= IN_FLIGHT {
                self.count();
            }
        }
    }

    fn read(&mut self, mut mail: Mail) {
        let now = Instant::now();
        self.informers.deliver(&mut mail, &mut self.engine, now);
        self.in_flight -= mail.reported;
        for Bound { uid, accepted, waited } in mail.bound {
            self.in_flight -= usize::from(!waited);
            if accepted {
                self.counters.scheduled.fetch_add(1, Ordering::Relaxed);
                self.engine.bound(&uid);
            } else {
                self.counters.errors.fetch_add(1, Ordering::Relaxed);
                self.engine.unbound(&uid, now);
            }
        }
        for uid in mail.evicted {
            self.engine.evicted(&uid, now);
        }
    }

    /// Decides about some pods; whether there may be more.
    fn decide(&mut self) -> bool {
        for _ in 0..DECISIONS_AT_ONCE {
            if self.in_flight >= IN_FLIGHT {
                return true;
            }
            let began = Instant::now();
            let Some(action) = self.engine.step(began) else {
                return false;
            };
            self.metrics.decided(began.elapsed());
            // Volumes may take minutes, in which other pods are placed.
            let waits = matches!(&action, Action::Bind { volumes, .. } if !volumes.is_empty());
            self.in_flight += usize::from(!waits);
            self.carry_out(action, began);
        }
        true
    }

    fn carry_out(&self, action: Action, began: Instant) {
        let (inbox, reporter, metrics) = (self.inbox.clone(), self.reporter.clone(), self.metrics.clone());
        match action {
            Action::Bind {
                pod,
                node,
                volumes,
                tried,
            } => {
                self.runtime.spawn(async move {
                    let accepted = reporter.place(&pod, &node, &volumes).await;
                    let outcome = if accepted {
                        metrics.placed(tried.after(began.elapsed()));
                        Outcome::Scheduled
                    } else {
                        Outcome::Error
                    };
                    metrics.attempted(&pod.scheduler_name, outcome, began.elapsed());
                    let (uid, waited) = (pod.object.uid.clone(), !volumes.is_empty());
                    inbox.post(|mail| {
                        mail.bound.push(Bound { uid, accepted, waited });
                    });
                });
            }
            Action::Report(report) => {
                self.refused(&report, 0, began);
                self.counters.unschedulable.fetch_add(1, Ordering::Relaxed);
                self.runtime.spawn(async move {
                    reporter.refuse(&report).await;
                    inbox.post(|mail| mail.reported += 1);
                });
            }
            Action::Preempt { report, preemption } => {
                self.refused(&report, preemption.victims.len(), began);
                self.counters.unschedulable.fetch_add(1, Ordering::Relaxed);
                self.runtime.spawn(async move {
                    reporter.refuse(&report).await;
                    reporter.preempt(&report.pod, &preemption).await;
                    inbox.post(|mail| {
                        mail.reported += 1;
                        mail.evicted.push(report.pod.object.uid.clone());
                    });
                });
            }
        }
    }

    fn refused(&self, report: &Report, victims: usize, began: Instant) {
        let outcome = if report.failed {
            Outcome::Error
        } else {
            self.metrics.preempted(victims);
            Outcome::Unschedulable
        };
        let profile = &report.pod.scheduler_name;
        self.metrics.attempted(profile, outcome, began.elapsed());
    }

    fn count(&self) {
        let lengths = self.engine.lengths();
        self.metrics.look_at(&self.engine, &lengths);
        let write = |counter: &AtomicU64, count: usize| counter.store(count as u64, Ordering::Relaxed);
        write(&self.counters.active, lengths.active);
        write(&self.counters.backoff, lengths.backoff);
        write(&self.counters.parked, lengths.unschedulable);
        write(&self.counters.gated, lengths.gated);
    }
}
