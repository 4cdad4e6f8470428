//! Decides what is to be done about one pod: (wanted, observed) → actions. Pure.
//!
//! The rules follow upstream's `computePodActions`: init containers run one after another,
//! sidecars (KEP-753) stay beside the rest, the restart policy decides about ended ones, and
//! a pod that shall end loses its containers first, its sandbox then.

mod resize;
mod restart;

use crate::{
    pod::{Container, Pod, Resources},
    resources::Cgroup,
    worker::Progress,
};
pub use resize::{Need, in_progress as resize_in_progress, need};
pub use restart::{Again, all_could_restart, all_restart, phase, restarts};
use std::{collections::BTreeMap, time::Duration};
use strata_meta::Time;

/// First pause between a container's end and its restart.
pub const BACKOFF_FIRST: Duration = Duration::from_secs(10);
/// Longest pause.
pub const BACKOFF_MAX: Duration = Duration::from_secs(300);

/// What is known of a pod on this node.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The newest sandbox, if it still exists.
    pub sandbox: Option<SandboxState>,
    /// The newest instance of each container, by container name.
    pub containers: BTreeMap<String, Instance>,
    /// Why the pod shall end although the API does not ask for it.
    pub ended: Option<Ended>,
    /// Something is being done to the pod as a whole.
    pub busy: bool,
    /// The pod had ended for good before this agent saw it.
    pub over: bool,
    /// What the pod's cgroup was given.
    pub pod_cgroup: Option<Cgroup>,
    /// How far a change of resources is.
    pub resize: Progress,
}

/// Why the node itself ends a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Such as `DeadlineExceeded` or `Evicted`.
    pub reason: String,
    /// Sentence to the reason.
    pub message: String,
    /// It was never begun.
    pub refused: bool,
    /// Seconds it has, in place of what its specification says.
    pub grace_seconds: Option<u64>,
    /// Whether the pod itself is not to blame (condition DisruptionTarget).
    pub disruption: bool,
}

/// The newest sandbox of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxState {
    /// The engine's name for it.
    pub id: String,
    /// Which attempt it is, from 0.
    pub attempt: u32,
    /// Whether it can hold containers.
    pub ready: bool,
    /// The pod's address; empty in the node's network.
    pub ip: String,
}

/// What an instance of a container is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Not there; why, as the status will say.
    Waiting {
        /// Such as `ErrImagePull`.
        reason: String,
        /// Sentence to the reason.
        message: String,
    },
    /// Its process runs.
    Running {
        /// Since when.
        since: Time,
    },
    /// Its process has ended.
    Exited(Exit),
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Exit code, 128 + signal if a signal ended it.
    pub code: i32,
    /// `Completed`, `Error`, `OOMKilled`, `ContainerCannotRun`.
    pub reason: String,
    /// Termination message.
    pub message: String,
    /// When its process began.
    pub started: Option<Time>,
    /// When it ended.
    pub finished: Time,
}

/// Why a probe wants a container restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unhealthy {
    /// A sentence for the event.
    pub why: String,
    /// Seconds between the polite and the hard end, where the probe says.
    pub grace: Option<u64>,
}

/// The newest instance of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// The engine's name; empty while waiting.
    pub id: String,
    /// How many instances came before it.
    pub attempt: u32,
    /// What it does.
    pub state: State,
    /// How the instance before it ended.
    pub last: Option<(String, Exit)>,
    /// The image it was made of, as the pod named it.
    pub image: String,
    /// The image's name as the engine resolved it, and its identity.
    pub resolved: (String, String),
    /// Whether its startup probe has passed (or it has none).
    pub started: bool,
    /// Whether its readiness probe says so (or it has none and has started).
    pub ready: bool,
    /// Why a probe wants it restarted.
    pub unhealthy: Option<Unhealthy>,
    /// Being pulled, created, started or stopped; left alone meanwhile.
    pub busy: bool,
    /// Not to be tried again before this.
    pub not_before: Option<Time>,
    /// The resources it has.
    pub resources: Option<Resources>,
    /// What becomes of it after its end.
    pub again: Again,
    /// All of the pod is begun anew, and this one has not been since.
    pub anew: bool,
}

impl Instance {
    /// An instance that waits to be made.
    pub fn waiting(reason: &str) -> Self {
        Self {
            id: String::new(),
            attempt: 0,
            state: State::Waiting {
                reason: reason.to_owned(),
                message: String::new(),
            },
            last: None,
            image: String::new(),
            resolved: Default::default(),
            started: false,
            ready: false,
            unhealthy: None,
            busy: false,
            not_before: None,
            resources: None,
            again: Again::ByPolicy,
            anew: false,
        }
    }

    /// The same as if it ran.
    pub fn as_running(&self) -> Self {
        Self {
            state: State::Running { since: Time::now() },
            ..self.clone()
        }
    }

    /// Whether its process runs.
    pub fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    /// How it ended, if it did.
    pub fn exit(&self) -> Option<&Exit> {
        match &self.state {
            State::Exited(exit) => Some(exit),
            _ => None,
        }
    }
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make the sandbox (volumes first).
    RunSandbox {
        /// Which attempt it will be.
        attempt: u32,
    },
    /// Make and start an instance of a container.
    Start {
        /// The container.
        container: String,
        /// Which instance it will be.
        attempt: u32,
    },
    /// End the running instance of a container.
    Kill {
        /// The container.
        container: String,
        /// Why, for the event.
        reason: String,
        /// Seconds between the polite and the hard end, if not the pod's.
        grace: Option<u64>,
        /// What becomes of it then.
        again: Again,
    },
    /// Bring what runs to the resources that the pod has.
    Resize,
    /// All containers have ended so that all are begun anew.
    Renew,
    /// End and remove the sandbox, which no container needs any more.
    StopSandbox,
    /// Everything has stopped: clean up and let the API forget the pod.
    Finish,
}

/// What to do now, and when to look again if nothing happens before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In order; those of different containers are independent.
    pub actions: Vec<Action>,
    /// The next moment at which time alone changes the answer.
    pub wake_at: Option<Time>,
}

impl Plan {
    fn wake(&mut self, at: Time) {
        self.wake_at = Some(self.wake_at.map_or(at, |present| present.min(at)));
    }
}

/// The pause before instance `attempt` of a container may start, after the one before it ended.
///
/// The first restart is immediate, later ones double from 10 s up to 5 minutes.
pub fn restart_pause(attempt: u32) -> Duration {
    match attempt {
        0 | 1 => Duration::ZERO,
        n => BACKOFF_FIRST.saturating_mul(1u32 << (n - 2).min(10)).min(BACKOFF_MAX),
    }
}

/// What is to be done about a pod.
pub fn plan(pod: &Pod, observed: &Observed, now: Time) -> Plan {
    let mut plan = Plan::default();
    if observed.busy {
        return plan;
    }
    if pod.is_deleting() || observed.ended.is_some() {
        plan_end(pod, observed, &mut plan);
        return plan;
    }
    if observed.over || has_completed(pod, observed) {
        plan_rest(pod, observed, &mut plan);
        return plan;
    }
    match &observed.sandbox {
        Some(sandbox) if sandbox.ready && all_restart(pod, observed) => {
            kill_running(pod, observed, "", &mut plan);
            for action in &mut plan.actions {
                if let Action::Kill { grace, .. } = action {
                    *grace = Some(0);
                }
            }
            if plan.actions.is_empty() && !anything_busy(observed) {
                plan.actions.push(Action::Renew);
            }
        }
        Some(sandbox) if sandbox.ready => {
            plan_containers(pod, observed, now, &mut plan);
            resize::plan_resize(pod, observed, now, &mut plan);
        }
        Some(sandbox) => {
            // The sandbox died under its containers: they cannot go on without it.
            kill_running(pod, observed, "sandbox has ended", &mut plan);
            if plan.actions.is_empty() && !anything_busy(observed) {
                plan.actions.push(Action::RunSandbox {
                    attempt: sandbox.attempt + 1,
                });
            }
        }
        None => plan.actions.push(Action::RunSandbox { attempt: 0 }),
    }
    plan
}

fn anything_busy(observed: &Observed) -> bool {
    observed.containers.values().any(|c| c.busy)
}

/// Whether the pod has run to its end by its restart policy.
pub fn has_completed(pod: &Pod, observed: &Observed) -> bool {
    phase(pod, observed) == Phase::Succeeded || phase(pod, observed) == Phase::Failed
}

/// core/v1 PodPhase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not every container has been started once.
    Pending,
    /// At least one container runs or will run again.
    Running,
    /// All containers ended well and none will run again.
    Succeeded,
    /// All containers ended, one of them badly, and none will run again.
    Failed,
}

impl Phase {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }
}

/// A pod that shall end: containers, then sidecars in reverse, then the sandbox.
fn plan_end(pod: &Pod, observed: &Observed, plan: &mut Plan) {
    kill_running(pod, observed, "", plan);
    if !plan.actions.is_empty() || anything_busy(observed) {
        return;
    }
    match &observed.sandbox {
        Some(_) => plan.actions.push(Action::StopSandbox),
        None if pod.is_deleting() => plan.actions.push(Action::Finish),
        None => {}
    }
}

/// A pod that has completed keeps its ended containers (for their logs) and loses the rest.
fn plan_rest(pod: &Pod, observed: &Observed, plan: &mut Plan) {
    kill_running(pod, observed, "", plan);
    let ready = observed.sandbox.as_ref().is_some_and(|s| s.ready);
    if plan.actions.is_empty() && !anything_busy(observed) && ready {
        plan.actions.push(Action::StopSandbox);
    }
}

/// Ends the running containers that may end now: sidecars wait for the others, and for the
/// sidecars that were started after them.
fn kill_running(pod: &Pod, observed: &Observed, reason: &str, plan: &mut Plan) {
    let kill = |c: &Container| Action::Kill {
        container: c.name.clone(),
        reason: reason.to_owned(),
        grace: None,
        again: Again::ByPolicy,
    };
    let alive = |c: &&Container| {
        observed
            .containers
            .get(&c.name)
            .is_some_and(|i| i.is_running() || i.busy)
    };
    let idle = |c: &&Container| observed.containers.get(&c.name).is_some_and(|i| !i.busy);
    let ordinary = || {
        let inits = pod.spec.init_containers.iter().filter(|c| !c.is_sidecar());
        let others = pod.spec.containers.iter().chain(&pod.spec.ephemeral_containers);
        others.chain(inits)
    };
    if ordinary().any(|c| alive(&c)) {
        plan.actions.extend(ordinary().filter(alive).filter(idle).map(kill));
        return;
    }
    let last_sidecar = pod
        .spec
        .init_containers
        .iter()
        .rev()
        .filter(|c| c.is_sidecar())
        .find(alive);
    plan.actions.extend(last_sidecar.filter(idle).map(kill));
}

fn plan_containers(pod: &Pod, observed: &Observed, now: Time, plan: &mut Plan) {
    for container in &pod.spec.ephemeral_containers {
        plan_ephemeral(container, observed.containers.get(&container.name), now, plan);
    }
    let started_before = pod.spec.containers.iter().any(|c| {
        let instance = observed.containers.get(&c.name);
        instance.is_some_and(|i| !i.anew && (i.is_running() || i.exit().is_some() || i.last.is_some()))
    });
    for init in &pod.spec.init_containers {
        let instance = observed.containers.get(&init.name);
        let done = match instance {
            Some(i) if init.is_sidecar() => i.is_running() && i.started && i.unhealthy.is_none(),
            Some(i) => i.exit().is_some_and(|exit| exit.code == 0),
            None => false,
        };
        // Init containers of a pod whose containers have run are not run again.
        if !done && (!started_before || init.is_sidecar()) {
            plan_container(pod, init, instance, now, plan);
            if !started_before {
                return;
            }
        }
    }
    for container in &pod.spec.containers {
        plan_container(pod, container, observed.containers.get(&container.name), now, plan);
    }
}

/// One that was added to look at the pod is started once, whatever becomes of it.
fn plan_ephemeral(container: &Container, instance: Option<&Instance>, now: Time, plan: &mut Plan) {
    let due = match instance {
        None => true,
        Some(instance) => match (&instance.state, instance.not_before) {
            (State::Waiting { .. }, Some(at)) if !instance.busy && at > now => {
                plan.wake(at);
                false
            }
            (State::Waiting { .. }, _) => !instance.busy && instance.last.is_none(),
            _ => false,
        },
    };
    if due {
        plan.actions.push(Action::Start {
            container: container.name.clone(),
            attempt: 0,
        });
    }
}

fn plan_container(pod: &Pod, container: &Container, instance: Option<&Instance>, now: Time, plan: &mut Plan) {
    let name = container.name.clone();
    let Some(instance) = instance else {
        plan.actions.push(Action::Start {
            container: name,
            attempt: 0,
        });
        return;
    };
    if instance.busy {
        return;
    }
    let start_at = match &instance.state {
        State::Running { .. } => {
            if let Some((reason, grace, again)) = restart_reason(pod, container, instance) {
                plan.actions.push(Action::Kill {
                    container: name,
                    reason,
                    grace,
                    again,
                });
            }
            return;
        }
        State::Waiting { .. } => instance.not_before,
        State::Exited(exit) => {
            if instance.again == Again::ByPolicy && !restarts(pod, container, exit.code) {
                return;
            }
            let pause = match instance.again {
                Again::AtOnce => 0,
                _ => restart_pause(instance.attempt + 1).as_secs(),
            };
            let by_backoff = exit.finished.plus_seconds(i64::try_from(pause).unwrap_or(i64::MAX));
            Some(instance.not_before.map_or(by_backoff, |t| t.max(by_backoff)))
        }
    };
    match start_at {
        Some(at) if at > now => plan.wake(at),
        _ => plan.actions.push(Action::Start {
            container: name,
            attempt: next_attempt(instance),
        }),
    }
}

fn next_attempt(instance: &Instance) -> u32 {
    match instance.state {
        State::Exited(_) => instance.attempt + 1,
        _ => instance.attempt,
    }
}

fn restart_reason(pod: &Pod, container: &Container, instance: &Instance) -> Option<(String, Option<u64>, Again)> {
    let name = &container.name;
    if let Some(Unhealthy { why, grace }) = &instance.unhealthy {
        let never = container.restart_policy.as_deref().unwrap_or(&pod.spec.restart_policy) == "Never";
        let again = if never { Again::ByPolicy } else { Again::AfterPause };
        return Some((why.clone(), *grace, again));
    }
    if !instance.image.is_empty() && instance.image != container.image {
        let why = format!("Container {name} definition changed, will be restarted");
        return Some((why, None, Again::AtOnce));
    }
    let resize = need(container, instance) == Need::Restart;
    resize.then(|| (format!("Container {name} resize requires restart"), None, Again::AtOnce))
}

#[cfg(test)]
mod tests;
