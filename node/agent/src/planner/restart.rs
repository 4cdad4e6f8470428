//! Whether an ended container runs again: by its own rules, its own policy, then its pod's (KEP-5307).

use super::{Instance, Observed, Phase};
use crate::pod::{Container, Pod};

/// What becomes of a container that was ended although its pod goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Again {
    /// What its policy says of its exit code.
    #[default]
    ByPolicy,
    /// It runs again after the usual pause.
    AfterPause,
    /// It runs again at once: it did nothing wrong.
    AtOnce,
}

/// Whether an ended container runs again.
pub fn restarts(pod: &Pod, container: &Container, code: i32) -> bool {
    let initializes = pod.spec.init_containers.iter().any(|c| c.name == container.name);
    if container.restart_policy.is_some() && matching_rule(container, code).is_some() {
        return true;
    }
    match container.restart_policy.as_deref().unwrap_or(&pod.spec.restart_policy) {
        // An init container that ended well has done its work, whatever the policy.
        _ if initializes && !container.is_sidecar() && code == 0 => false,
        "Never" => false,
        "OnFailure" => code != 0,
        _ => true,
    }
}

/// The action of the first rule that is for an exit code.
fn matching_rule(container: &Container, code: i32) -> Option<&str> {
    let matches = |rule: &&crate::pod::RestartRule| match rule.exit_codes.operator.as_str() {
        "In" => rule.exit_codes.values.contains(&code),
        "NotIn" => !rule.exit_codes.values.contains(&code),
        _ => false,
    };
    let rule = container.restart_policy_rules.iter().find(matches)?;
    Some(rule.action.as_str())
}

/// Whether the end of a container asks for all of the pod's to be begun anew.
pub fn all_restart(pod: &Pod, observed: &Observed) -> bool {
    pod.lasting_containers().any(|container| {
        let exit = observed.containers.get(&container.name).and_then(Instance::exit);
        exit.is_some_and(|exit| matching_rule(container, exit.code) == Some("RestartAllContainers"))
    })
}

/// Whether a container of the pod may ask for that.
pub fn all_could_restart(pod: &Pod) -> bool {
    let mut rules = pod.lasting_containers().flat_map(|c| &c.restart_policy_rules);
    rules.any(|rule| rule.action == "RestartAllContainers")
}

/// The phase that follows from what is observed (upstream `getPhase`).
pub fn phase(pod: &Pod, observed: &Observed) -> Phase {
    if observed.ended.is_some() {
        return Phase::Failed;
    }
    let again = |container: &Container, instance: &Instance, code: i32| {
        instance.again != Again::ByPolicy || restarts(pod, container, code)
    };
    for init in pod.spec.init_containers.iter().filter(|c| !c.is_sidecar()) {
        match observed.containers.get(&init.name).map(|i| (i, i.exit())) {
            Some((_, Some(exit))) if exit.code == 0 => {}
            Some((instance, Some(exit))) if !again(init, instance, exit.code) => return Phase::Failed,
            // A pod that has begun once is not pending because all is begun anew.
            Some((instance, None)) if instance.anew => return Phase::Running,
            _ => return Phase::Pending,
        }
    }
    let mut ends = Vec::new();
    let mut goes_on = false;
    for container in &pod.spec.containers {
        let Some(instance) = observed.containers.get(&container.name) else {
            return Phase::Pending;
        };
        match instance.exit() {
            Some(exit) => {
                goes_on |= again(container, instance, exit.code);
                ends.push(exit.code);
            }
            None if !instance.is_running() && instance.last.is_none() => return Phase::Pending,
            None => goes_on = true,
        }
    }
    match goes_on {
        true => Phase::Running,
        false if ends.iter().all(|code| *code == 0) => Phase::Succeeded,
        false => Phase::Failed,
    }
}
