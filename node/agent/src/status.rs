//! The status of a pod as the API shows it, made of what is observed. Pure.

use crate::{
    planner::{self, Ended, Instance, Observed, Phase, State},
    pod::{Container, Pod},
    requests, resources,
};
use serde_json::{Map, Value, json};
use strata_meta::{Time, Uid};

/// What a status needs beyond the pod and its observation.
pub struct Context<'a> {
    /// The node's addresses.
    pub host_ips: &'a [String],
    /// The moment of the report.
    pub now: Time,
}

/// Conditions that are there only as long as a change of resources is not at its end.
const RESIZE_CONDITIONS: [&str; 2] = ["PodResizePending", "PodResizeInProgress"];

/// Conditions the agent owns; all others are left as they are.
const OWN_CONDITIONS: [&str; 8] = [
    "AllContainersRestarting",
    RESIZE_CONDITIONS[0],
    RESIZE_CONDITIONS[1],
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
];

/// Why a container waits that has not been made yet.
const CREATING: &str = "ContainerCreating";

/// The status of a pod (core/v1 PodStatus).
pub fn pod_status(pod: &Pod, observed: &Observed, context: &Context<'_>) -> Value {
    if let Some(ended) = observed.ended.as_ref().filter(|ended| ended.refused) {
        return refused(pod, ended, context);
    }
    let phase = reported_phase(pod, observed);
    let statuses = |containers: &[Container]| -> Vec<Value> {
        containers.iter().map(|c| container_status(pod, c, observed)).collect()
    };
    let mut status = json!({
        "phase": phase.as_str(),
        "conditions": conditions(pod, observed, phase, context.now),
        "qosClass": resources::qos_class(pod).as_str(),
        "startTime": pod.status.start_time.unwrap_or(context.now),
        "observedGeneration": pod.metadata.generation,
        "containerStatuses": statuses(&pod.spec.containers),
    });
    let fields = status.as_object_mut().expect("made as an object above");
    if !pod.spec.init_containers.is_empty() {
        fields.insert(
            "initContainerStatuses".into(),
            statuses(&pod.spec.init_containers).into(),
        );
    }
    let requests = requests::pod_requests(pod);
    let limits = requests::pod_limits(pod);
    fields.insert(
        "resources".into(),
        json!(crate::pod::Resources {
            limits,
            requests: requests.clone()
        }),
    );
    if !requests.is_empty() {
        fields.insert("allocatedResources".into(), json!(requests));
    }
    if !pod.spec.ephemeral_containers.is_empty() {
        fields.insert(
            "ephemeralContainerStatuses".into(),
            statuses(&pod.spec.ephemeral_containers).into(),
        );
    }
    let (reason, message) = match &observed.ended {
        Some(ended) => (ended.reason.as_str(), ended.message.as_str()),
        None => (pod.status.reason.as_str(), pod.status.message.as_str()),
    };
    for (name, text) in [("reason", reason), ("message", message)] {
        if !text.is_empty() {
            fields.insert(name.into(), text.into());
        }
    }
    add_addresses(fields, pod, observed, context);
    status
}

/// A pod that was never begun has no containers to tell of (upstream `rejectPod`).
fn refused(pod: &Pod, ended: &Ended, context: &Context<'_>) -> Value {
    json!({
        "phase": Phase::Failed.as_str(),
        "reason": ended.reason,
        "message": ended.message,
        "qosClass": resources::qos_class(pod).as_str(),
        "startTime": pod.status.start_time.unwrap_or(context.now),
        "observedGeneration": pod.metadata.generation,
    })
}

/// The condition of a pod that the node ends through no fault of its own.
pub fn disruption_target(pod: &Pod, ended: &planner::Ended) -> Map<String, Value> {
    let condition = json!({
        "type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet", "message": ended.message,
        "lastProbeTime": null, "lastTransitionTime": Time::now(), "observedGeneration": pod.metadata.generation,
    });
    match condition {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// Whether a condition is the one that [`disruption_target`] makes.
pub fn is_disruption(condition: &Map<String, Value>) -> bool {
    let has = |key: &str, value: &str| condition.get(key).and_then(Value::as_str) == Some(value);
    has("type", "DisruptionTarget") && has("reason", "TerminationByKubelet")
}

/// A phase that has been reported as final stays; Running never goes back to Pending.
fn reported_phase(pod: &Pod, observed: &Observed) -> Phase {
    match pod.status.phase.as_str() {
        "Succeeded" => Phase::Succeeded,
        "Failed" => Phase::Failed,
        _ => planner::phase(pod, observed),
    }
}

fn add_addresses(fields: &mut Map<String, Value>, pod: &Pod, observed: &Observed, context: &Context<'_>) {
    let list = |ips: &[String]| -> Value { ips.iter().map(|ip| json!({ "ip": ip })).collect::<Vec<_>>().into() };
    if let Some(first) = context.host_ips.first() {
        fields.insert("hostIP".into(), first.as_str().into());
        fields.insert("hostIPs".into(), list(context.host_ips));
    }
    let ip = match &observed.sandbox {
        Some(_) if pod.spec.host_network => context.host_ips.first().cloned(),
        Some(sandbox) if !sandbox.ip.is_empty() => Some(sandbox.ip.clone()),
        // A finished pod keeps the address it had, as upstream reports it.
        _ => Some(pod.status.pod_ip.clone()).filter(|ip| !ip.is_empty()),
    };
    if let Some(ip) = ip {
        fields.insert("podIPs".into(), list(std::slice::from_ref(&ip)));
        fields.insert("podIP".into(), ip.into());
    }
}

fn container_status(pod: &Pod, container: &Container, observed: &Observed) -> Value {
    let is_init = pod.spec.init_containers.iter().any(|c| c.name == container.name);
    let instance = observed.containers.get(&container.name);
    let fallback = Instance::waiting(CREATING);
    let instance = instance.unwrap_or(&fallback);
    let (state, last) = states(pod, container, instance);
    let mut status = json!({
        "name": container.name,
        "state": state,
        "lastState": last,
        "ready": is_ready(container, is_init, instance),
        "restartCount": instance.attempt,
        "image": if instance.resolved.0.is_empty() { &container.image } else { &instance.resolved.0 },
        "imageID": instance.resolved.1,
        "started": instance.is_running() && instance.started,
    });
    if pod.lasting_containers().any(|c| c.name == container.name) {
        // What runs has what it was given; all else will have what it shall have.
        let has = instance.resources.as_ref().filter(|_| instance.is_running());
        status["resources"] = json!(has.unwrap_or(&container.resources));
        if !container.resources.requests.is_empty() {
            status["allocatedResources"] = json!(container.resources.requests);
        }
    }
    if !instance.id.is_empty() {
        status["containerID"] = container_id(&instance.id).into();
    }
    status
}

fn container_id(id: &str) -> String {
    format!("strata://{id}")
}

/// The states now and before. A container that waits for its restart shows its last end as
/// such and CrashLoopBackOff (or nothing yet) as its state.
fn states(pod: &Pod, container: &Container, instance: &Instance) -> (Value, Value) {
    let last = match &instance.last {
        Some((id, exit)) => terminated(id, exit),
        None => json!({}),
    };
    match &instance.state {
        // Upstream's word for all that has not been made, where there are init containers.
        State::Waiting { reason, message } if reason == CREATING && !pod.spec.init_containers.is_empty() => {
            (waiting("PodInitializing", message), last)
        }
        State::Waiting { reason, message } => (waiting(reason, message), last),
        State::Running { since } => (json!({"running": {"startedAt": since}}), last),
        State::Exited(exit) => {
            let again = planner::restarts(pod, container, exit.code) && !pod.is_deleting();
            let again = again && instance.again != planner::Again::AtOnce;
            let pause = planner::restart_pause(instance.attempt + 1);
            if again && !pause.is_zero() {
                let message = format!(
                    "back-off {} restarting failed container={} pod={}_{}({})",
                    go_duration(pause.as_secs()),
                    container.name,
                    pod.metadata.name,
                    pod.metadata.namespace,
                    pod.metadata.uid
                );
                (waiting("CrashLoopBackOff", &message), terminated(&instance.id, exit))
            } else {
                (terminated(&instance.id, exit), last)
            }
        }
    }
}

/// Seconds as Go prints a duration: `10s`, `1m20s`, `5m0s`.
pub fn go_duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        _ => format!("{}h{}m{}s", seconds / 3600, seconds / 60 % 60, seconds % 60),
    }
}

fn waiting(reason: &str, message: &str) -> Value {
    if message.is_empty() {
        json!({"waiting": {"reason": reason}})
    } else {
        json!({"waiting": {"reason": reason, "message": message}})
    }
}

fn terminated(id: &str, exit: &planner::Exit) -> Value {
    let mut state = json!({
        "exitCode": exit.code, "reason": exit.reason, "finishedAt": exit.finished,
        "startedAt": exit.started, "containerID": container_id(id),
    });
    if !exit.message.is_empty() {
        state["message"] = exit.message.as_str().into();
    }
    json!({ "terminated": state })
}

/// Whether a container counts as ready.
pub fn is_ready(container: &Container, is_init: bool, instance: &Instance) -> bool {
    let initializes = is_init && !container.is_sidecar();
    match instance.exit() {
        // An init container is ready once it has done its work.
        Some(exit) => initializes && exit.code == 0,
        None if initializes => false,
        None => instance.is_running() && instance.started && instance.ready,
    }
}

fn initialized(pod: &Pod, observed: &Observed) -> bool {
    pod.spec.init_containers.iter().all(|c| {
        observed.containers.get(&c.name).is_some_and(|i| {
            if c.is_sidecar() {
                i.started || i.attempt > 0
            } else {
                i.exit().is_some_and(|exit| exit.code == 0)
            }
        })
    })
}

struct Condition {
    kind: &'static str,
    holds: bool,
    reason: &'static str,
    message: String,
}

impl Condition {
    fn holding(kind: &'static str) -> Self {
        Self {
            kind,
            holds: true,
            reason: "",
            message: String::new(),
        }
    }

    fn missing(kind: &'static str, reason: &'static str, message: String) -> Self {
        Self {
            kind,
            holds: false,
            reason,
            message,
        }
    }
}

fn conditions(pod: &Pod, observed: &Observed, phase: Phase, now: Time) -> Vec<Value> {
    let has_sandbox = observed.sandbox.as_ref().is_some_and(|s| s.ready);
    let sandbox = Condition {
        holds: has_sandbox,
        ..Condition::holding("PodReadyToStartContainers")
    };
    let containers = containers_ready(pod, observed, phase);
    let ready = pod_ready(pod, &containers);
    let mut all = vec![sandbox, initialized_condition(pod, observed, phase), ready, containers];
    all.push(Condition::holding("PodScheduled"));
    if planner::all_could_restart(pod) {
        all.push(all_restarting(pod, observed, phase));
    }
    let mut all: Vec<Value> = all.into_iter().map(|c| render(pod, c, now)).collect();
    if phase == Phase::Pending || phase == Phase::Running {
        all.extend(resize_conditions(pod, observed, now));
    }
    let disruption = pod.status.conditions.iter().filter(|c| is_disruption(c));
    all.extend(disruption.cloned().map(Value::Object));
    all
}

fn all_restarting(pod: &Pod, observed: &Observed, phase: Phase) -> Condition {
    const KIND: &str = "AllContainersRestarting";
    match phase {
        Phase::Succeeded => Condition::missing(KIND, "PodCompleted", String::new()),
        Phase::Failed => Condition::missing(KIND, "PodFailed", String::new()),
        _ if planner::all_restart(pod, observed) => Condition {
            reason: "RestartAllContainersStarted",
            message: "container exited with restart policy rule".into(),
            ..Condition::holding(KIND)
        },
        _ => Condition::missing(KIND, "", String::new()),
    }
}

/// What becomes of a change of resources (KEP-1287); there are none where there is no change.
fn resize_conditions(pod: &Pod, observed: &Observed, now: Time) -> Vec<Value> {
    let [pending_kind, progress_kind] = RESIZE_CONDITIONS;
    let pending = pod.pending_resize.as_ref().map(|pending| {
        let condition = Condition {
            reason: "Deferred",
            message: pending.message.clone(),
            ..Condition::holding(pending_kind)
        };
        (condition, pending.generation)
    });
    let progress = observed.resize.generation.map(|generation| {
        let condition = match &observed.resize.error {
            None => Condition::holding(progress_kind),
            Some(why) => Condition {
                reason: "Error",
                message: why.clone(),
                ..Condition::holding(progress_kind)
            },
        };
        (condition, generation)
    });
    let render = |(condition, generation): (Condition, i64)| {
        let mut value = render(pod, condition, now);
        value["observedGeneration"] = generation.into();
        value
    };
    pending.into_iter().chain(progress).map(render).collect()
}

fn initialized_condition(pod: &Pod, observed: &Observed, phase: Phase) -> Condition {
    if initialized(pod, observed) || phase == Phase::Running {
        return Condition::holding("Initialized");
    }
    if phase == Phase::Succeeded {
        return Condition {
            reason: "PodCompleted",
            ..Condition::holding("Initialized")
        };
    }
    let incomplete = unready_names(pod.spec.init_containers.iter(), true, observed);
    let message = format!("containers with incomplete status: [{incomplete}]");
    Condition::missing("Initialized", "ContainersNotInitialized", message)
}

fn containers_ready(pod: &Pod, observed: &Observed, phase: Phase) -> Condition {
    match phase {
        Phase::Succeeded => return Condition::missing("ContainersReady", "PodCompleted", String::new()),
        Phase::Failed => return Condition::missing("ContainersReady", "PodFailed", String::new()),
        Phase::Pending | Phase::Running => {}
    }
    let sidecars = pod.spec.init_containers.iter().filter(|c| c.is_sidecar());
    let names = unready_names(sidecars.chain(&pod.spec.containers), false, observed);
    if names.is_empty() {
        Condition::holding("ContainersReady")
    } else {
        let message = format!("containers with unready status: [{names}]");
        Condition::missing("ContainersReady", "ContainersNotReady", message)
    }
}

fn unready_names<'a>(containers: impl Iterator<Item = &'a Container>, is_init: bool, observed: &Observed) -> String {
    let ready = |c: &&Container| {
        observed
            .containers
            .get(&c.name)
            .is_some_and(|i| is_ready(c, is_init, i))
    };
    containers
        .filter(|c| !ready(c))
        .map(|c| c.name.as_str())
        .collect::<Vec<_>>()
        .join(" ")
}

fn pod_ready(pod: &Pod, containers: &Condition) -> Condition {
    if !containers.holds {
        return Condition::missing("Ready", containers.reason, containers.message.clone());
    }
    let gate_holds = |gate: &str| {
        pod.status.conditions.iter().any(|c| {
            c.get("type").and_then(Value::as_str) == Some(gate)
                && c.get("status").and_then(Value::as_str) == Some("True")
        })
    };
    for gate in &pod.spec.readiness_gates {
        if !gate_holds(&gate.condition_type) {
            let message = format!(
                "corresponding condition of pod readiness gate {:?} does not exist.",
                gate.condition_type
            );
            return Condition::missing("Ready", "ReadinessGatesNotReady", message);
        }
    }
    Condition::holding("Ready")
}

fn render(pod: &Pod, condition: Condition, now: Time) -> Value {
    let status = if condition.holds { "True" } else { "False" };
    let before = pod
        .status
        .conditions
        .iter()
        .find(|c| c.get("type").and_then(Value::as_str) == Some(condition.kind));
    let same = before.filter(|c| c.get("status").and_then(Value::as_str) == Some(status));
    let since = same
        .and_then(|c| c.get("lastTransitionTime").cloned())
        .unwrap_or_else(|| json!(now));
    let mut value = json!({
        "type": condition.kind, "status": status, "lastProbeTime": null, "lastTransitionTime": since,
        "observedGeneration": pod.metadata.generation,
    });
    if !condition.reason.is_empty() {
        value["reason"] = condition.reason.into();
    }
    if !condition.message.is_empty() {
        value["message"] = condition.message.into();
    }
    value
}

/// Conditions of others, which a patch must not lose.
pub fn is_own_condition(kind: &str) -> bool {
    OWN_CONDITIONS.contains(&kind)
}

/// The patch that makes the API show this status (strategic: conditions merge by type, so
/// those of others stay; address lists are replaced).
pub fn status_patch(pod: &Pod, uid: &Uid, mut status: Value) -> Value {
    if let Some(ips) = status.get_mut("podIPs").and_then(Value::as_array_mut) {
        ips.insert(0, json!({"$patch": "replace"}));
    }
    if let Some(conditions) = status.get_mut("conditions").and_then(Value::as_array_mut) {
        for kind in RESIZE_CONDITIONS.into_iter().filter(|_| pod.metadata.generation > 1) {
            if !conditions.iter().any(|c| c["type"] == kind) {
                conditions.push(json!({"$patch": "delete", "type": kind}));
            }
        }
    }
    json!({"metadata": {"uid": uid}, "status": status})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::{Exit, SandboxState};

    fn pod() -> Pod {
        let value = json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": {"restartPolicy": "Always",
            "containers": [{"name": "a", "image": "x"}]}});
        serde_json::from_value(value).expect("pod")
    }

    fn observed(instance: Instance) -> Observed {
        Observed {
            sandbox: Some(SandboxState {
                id: "s".into(),
                attempt: 0,
                ready: true,
                ip: "10.1.0.9".into(),
            }),
            containers: [("a".to_owned(), instance)].into(),
            ..Observed::default()
        }
    }

    fn context() -> Context<'static> {
        Context {
            host_ips: &[],
            now: Time::from_second(100),
        }
    }

    fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
        let list = status["conditions"].as_array().expect("list");
        list.iter().find(|c| c["type"] == kind).expect(kind)
    }

    #[test]
    fn a_running_ready_pod_says_so() {
        let instance = Instance {
            id: "c1".into(),
            state: State::Running {
                since: Time::from_second(90),
            },
            started: true,
            ready: true,
            ..Instance::waiting("")
        };
        let status = pod_status(&pod(), &observed(instance), &context());
        assert_eq!(status["phase"], "Running");
        assert_eq!(status["podIP"], "10.1.0.9");
        assert_eq!(condition(&status, "Ready")["status"], "True");
        let container = &status["containerStatuses"][0];
        assert_eq!(container["containerID"], "strata://c1");
        assert_eq!(
            (&container["ready"], &container["started"]),
            (&json!(true), &json!(true))
        );
    }

    #[test]
    fn a_container_that_keeps_failing_backs_off_and_shows_its_last_end() {
        let instance = Instance {
            id: "c1".into(),
            attempt: 2,
            state: State::Exited(Exit {
                code: 1,
                reason: "Error".into(),
                message: String::new(),
                started: None,
                finished: Time::from_second(99),
            }),
            ..Instance::waiting("")
        };
        let status = pod_status(&pod(), &observed(instance), &context());
        let container = &status["containerStatuses"][0];
        assert_eq!(container["state"]["waiting"]["reason"], "CrashLoopBackOff");
        let message = container["state"]["waiting"]["message"].as_str().expect("text");
        assert!(
            message.starts_with("back-off 20s restarting failed container=a pod=p_n(u)"),
            "{message}"
        );
        assert_eq!(container["lastState"]["terminated"]["exitCode"], 1);
        assert_eq!(container["restartCount"], 2);
        assert_eq!(condition(&status, "Ready")["reason"], "ContainersNotReady");
    }

    #[test]
    fn a_condition_that_stays_keeps_its_time() {
        let mut pod = pod();
        let before = json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": "1970-01-01T00:00:07Z"});
        pod.status.conditions = vec![before.as_object().expect("object").clone()];
        let status = pod_status(&pod, &Observed::default(), &context());
        assert_eq!(
            condition(&status, "PodScheduled")["lastTransitionTime"],
            "1970-01-01T00:00:07Z"
        );
        assert_eq!(
            condition(&status, "Ready")["lastTransitionTime"],
            "1970-01-01T00:01:40Z"
        );
        assert_eq!(
            status["containerStatuses"][0]["state"]["waiting"]["reason"],
            "ContainerCreating"
        );
    }

    #[test]
    fn durations_print_as_go_does() {
        assert_eq!([10, 80, 300].map(go_duration), ["10s", "1m20s", "5m0s"]);
    }
}
