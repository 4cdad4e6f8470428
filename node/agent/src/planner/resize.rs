//! What a change of resources asks of containers that run (KEP-1287).

use super::{Action, Instance, Observed, Plan};
use crate::{
    allocation::alike,
    pod::{Container, Pod, Resources},
    resources::pod_cgroup,
};
use strata_meta::Time;

/// What a change of resources asks of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: it has what it shall have, or will have it when it starts.
    Nothing,
    /// Other limits while it runs.
    Update,
    /// A restart.
    Restart,
}

/// What the difference between what a container shall have and what it has asks for.
pub fn need(container: &Container, instance: &Instance) -> Need {
    let Some(has) = instance.resources.as_ref().filter(|_| instance.is_running()) else {
        return Need::Nothing;
    };
    if alike(&container.resources, has) {
        return Need::Nothing;
    }
    let differs = |name: &str| {
        let of = |resources: &Resources| {
            (
                resources.requests.get(name).copied(),
                resources.limits.get(name).copied(),
            )
        };
        of(&container.resources) != of(has)
    };
    let restart = |policy: &crate::pod::ResizePolicy| {
        policy.restart_policy == "RestartContainer" && differs(&policy.resource_name)
    };
    if container.resize_policy.iter().any(restart) {
        Need::Restart
    } else {
        Need::Update
    }
}

/// Whether anything that runs does not have yet what it shall have.
pub fn in_progress(pod: &Pod, observed: &Observed) -> bool {
    let needs = |c: &Container| {
        let instance = observed.containers.get(&c.name);
        instance.is_some_and(|instance| need(c, instance) != Need::Nothing)
    };
    pod.lasting_containers().any(needs) || pod_differs(pod, observed)
}

fn pod_differs(pod: &Pod, observed: &Observed) -> bool {
    observed.pod_cgroup.is_some_and(|has| has != pod_cgroup(pod))
}

/// Adds what is to be done to a plan. The pod gets room before a container is started that needs it.
pub fn plan_resize(pod: &Pod, observed: &Observed, now: Time, plan: &mut Plan) {
    let update = |c: &Container| {
        let instance = observed.containers.get(&c.name);
        instance.is_some_and(|instance| !instance.busy && need(c, instance) == Need::Update)
    };
    let due = pod_differs(pod, observed) || pod.lasting_containers().any(update);
    let starts = |action: &Action| matches!(action, Action::Start { .. });
    if observed.resize.busy {
        plan.actions.retain(|action| !starts(action));
    } else if due {
        match observed.resize.not_before {
            Some(at) if at > now => plan.wake(at),
            _ => {
                plan.actions.retain(|action| !starts(action));
                plan.actions.push(Action::Resize);
            }
        }
    }
}
