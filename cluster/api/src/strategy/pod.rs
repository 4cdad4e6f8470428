//! Pod: graceful deletion, quality of service, and the columns people look at most.

use super::{Causes, CellContext, Column, Strategy, age, columns};
use crate::{cache::FieldPath, json};
use serde_json::{Value, json};
use strata_meta::{Quantity, StatusCause};

pub(super) struct Pod;

impl Strategy for Pod {
    fn counts_generation(&self) -> bool {
        true
    }

    fn returns_deleted(&self) -> bool {
        true
    }

    fn prepare_create(&self, object: &mut Value) {
        let class = quality_of_service(object);
        json::set(object, "status", json!({"phase": "Pending", "qosClass": class}));
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        if json::list(object, "spec.containers").is_empty() {
            causes.push(StatusCause::required("spec.containers", ""));
        }
    }

    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        json::copy(old, new, "metadata.ownerReferences");
        if json::text(new, "status.qosClass").is_empty() {
            json::copy(old, new, "status.qosClass");
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, causes: &mut Causes) {
        let (mut before, mut after) = (old.clone(), new.clone());
        for pod in [&mut before, &mut after] {
            strip_mutable(pod);
        }
        // Tolerations may be added, never changed.
        let kept = json::list(new, "spec.tolerations");
        if json::list(old, "spec.tolerations").iter().all(|t| kept.contains(t)) {
            json::remove(&mut before, "spec.tolerations");
            json::remove(&mut after, "spec.tolerations");
        }
        if !json::same(&after, &before, "spec") {
            let why = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
            causes.push(StatusCause::forbidden("spec", why));
        }
    }

    fn grace_period(&self, object: &Value, asked: Option<i64>) -> i64 {
        let period = asked
            .or_else(|| json::int(object, "spec.terminationGracePeriodSeconds"))
            .unwrap_or(30);
        // Nobody runs it, or it has finished: there is nothing to wait for.
        if json::text(object, "spec.nodeName").is_empty()
            || matches!(json::text(object, "status.phase"), "Failed" | "Succeeded")
        {
            return 0;
        }
        if period < 0 { 1 } else { period }
    }

    fn selectable_fields(&self) -> &'static [FieldPath] {
        const FIELDS: &[FieldPath] = &[
            FieldPath::new("spec.nodeName", ""),
            FieldPath::new("spec.restartPolicy", ""),
            FieldPath::new("spec.schedulerName", ""),
            FieldPath::new("spec.serviceAccountName", ""),
            FieldPath::new("spec.hostNetwork", "false"),
            FieldPath::new("status.phase", ""),
            FieldPath::new("status.podIP", ""),
            FieldPath::new("status.nominatedNodeName", ""),
        ];
        FIELDS
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            columns::NAME,
            columns::column(
                "Ready",
                "string",
                "The aggregate readiness state of this pod for accepting traffic.",
                ready,
            ),
            columns::column(
                "Status",
                "string",
                "The aggregate status of the containers in this pod.",
                |cx| status_text(cx.object).into(),
            ),
            columns::column(
                "Restarts",
                "string",
                "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted.",
                restarts,
            ),
            columns::AGE,
            columns::wide("IP", "string", "IP address allocated to the pod.", |cx| {
                or_none(json::text(cx.object, "status.podIP"))
            }),
            columns::wide(
                "Node",
                "string",
                "NodeName is a request to schedule this pod onto a specific node.",
                |cx| or_none(json::text(cx.object, "spec.nodeName")),
            ),
            columns::wide(
                "Nominated Node",
                "string",
                "The node that preemption made room on for this pod.",
                |cx| or_none(json::text(cx.object, "status.nominatedNodeName")),
            ),
            columns::wide(
                "Readiness Gates",
                "string",
                "Conditions that count for readiness besides the containers'.",
                gates,
            ),
        ];
        COLUMNS
    }
}

fn strip_mutable(pod: &mut Value) {
    for field in [
        "spec.activeDeadlineSeconds",
        "spec.terminationGracePeriodSeconds",
        "spec.schedulingGates",
    ] {
        json::remove(pod, field);
    }
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        let containers = pod
            .get_mut("spec")
            .and_then(|s| s.get_mut(list))
            .and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
            container.remove("image");
        }
    }
}

fn or_none(text: &str) -> Value {
    if text.is_empty() { "<none>" } else { text }.into()
}

/// Guaranteed, Burstable or BestEffort (k8s.io/kubernetes/pkg/apis/core/v1/helper/qos).
pub(crate) fn quality_of_service(pod: &Value) -> &'static str {
    let positive = |container: &Value, list: &str, name: &str| -> Option<Quantity> {
        let value = json::get(container, &format!("resources.{list}"))?.get(name)?;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        text.parse::<Quantity>().ok().filter(|q| q.milli_value() > 0)
    };
    let (mut any, mut guaranteed) = (false, true);
    let containers = ["spec.containers", "spec.initContainers"];
    for container in containers.iter().flat_map(|list| json::list(pod, list)) {
        for name in ["cpu", "memory"] {
            let (request, limit) = (
                positive(container, "requests", name),
                positive(container, "limits", name),
            );
            any |= request.is_some() || limit.is_some();
            // An absent request is the limit.
            let same = request
                .as_ref()
                .is_none_or(|r| limit.as_ref().is_some_and(|l| r.milli_value() == l.milli_value()));
            guaranteed &= limit.is_some() && same;
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

fn ready(cx: &CellContext<'_>) -> Value {
    let statuses = json::list(cx.object, "status.containerStatuses");
    let ready = statuses
        .iter()
        .filter(|s| json::flag(s, "ready") && json::get(s, "state.running").is_some())
        .count();
    let total = json::list(cx.object, "spec.containers").len();
    format!("{ready}/{total}").into()
}

fn restarts(cx: &CellContext<'_>) -> Value {
    let statuses = json::list(cx.object, "status.containerStatuses");
    let total: i64 = statuses.iter().filter_map(|s| json::int(s, "restartCount")).sum();
    let last = statuses
        .iter()
        .map(|s| json::text(s, "lastState.terminated.finishedAt"))
        .max()
        .unwrap_or("");
    if total == 0 || last.is_empty() {
        return total.to_string().into();
    }
    format!("{total} ({} ago)", age(last, cx.now)).into()
}

fn gates(cx: &CellContext<'_>) -> Value {
    let gates = json::list(cx.object, "spec.readinessGates");
    if gates.is_empty() {
        return "<none>".into();
    }
    let conditions = json::list(cx.object, "status.conditions");
    let held = |gate: &&Value| {
        let wanted = json::text(gate, "conditionType");
        conditions
            .iter()
            .any(|c| json::text(c, "type") == wanted && json::text(c, "status") == "True")
    };
    format!("{}/{}", gates.iter().filter(held).count(), gates.len()).into()
}

/// What the STATUS column says (k8s.io/kubernetes/pkg/printers/internalversion `printPod`).
fn status_text(pod: &Value) -> String {
    let mut reason = json::text(pod, "status.phase").to_owned();
    if !json::text(pod, "status.reason").is_empty() {
        reason = json::text(pod, "status.reason").to_owned();
    }
    let gated = json::list(pod, "status.conditions")
        .iter()
        .any(|c| json::text(c, "type") == "PodScheduled" && json::text(c, "reason") == "SchedulingGated");
    if gated {
        reason = "SchedulingGated".into();
    }
    let initialising = init_reason(pod);
    let initialised = initialising.is_none();
    if let Some(why) = initialising {
        reason = why;
    } else {
        let mut running = false;
        for status in json::list(pod, "status.containerStatuses").iter().rev() {
            match container_reason(status) {
                Some(why) => reason = why,
                None => running |= json::flag(status, "ready") && json::get(status, "state.running").is_some(),
            }
        }
        if reason == "Completed" && running {
            let is_ready = |c: &Value| json::text(c, "type") == "Ready" && json::text(c, "status") == "True";
            let ready = json::list(pod, "status.conditions").iter().any(is_ready);
            reason = if ready { "Running" } else { "NotReady" }.into();
        }
    }
    if json::get(pod, "metadata.deletionTimestamp").is_some() {
        if json::text(pod, "status.reason") == "NodeLost" {
            return "Unknown".into();
        }
        if initialised || !matches!(json::text(pod, "status.phase"), "Failed" | "Succeeded") {
            return "Terminating".into();
        }
    }
    reason
}

fn container_reason(status: &Value) -> Option<String> {
    let waiting = json::text(status, "state.waiting.reason");
    if !waiting.is_empty() {
        return Some(waiting.to_owned());
    }
    let terminated = json::get(status, "state.terminated")?;
    let reason = json::text(terminated, "reason");
    if !reason.is_empty() {
        return Some(reason.to_owned());
    }
    Some(match json::int(terminated, "signal").unwrap_or(0) {
        0 => format!("ExitCode:{}", json::int(terminated, "exitCode").unwrap_or(0)),
        signal => format!("Signal:{signal}"),
    })
}

/// What the init containers say while they are not through.
fn init_reason(pod: &Value) -> Option<String> {
    let specs = json::list(pod, "spec.initContainers");
    for (i, status) in json::list(pod, "status.initContainerStatuses").iter().enumerate() {
        let sidecar = specs
            .iter()
            .any(|s| json::text(s, "name") == json::text(status, "name") && json::text(s, "restartPolicy") == "Always");
        if json::get(status, "state.terminated").is_some_and(|t| json::int(t, "exitCode") == Some(0)) {
            continue;
        }
        if sidecar && json::flag(status, "started") {
            continue;
        }
        if json::get(status, "state.terminated").is_some() {
            return container_reason(status).map(|why| format!("Init:{why}"));
        }
        let waiting = json::text(status, "state.waiting.reason");
        if !waiting.is_empty() && waiting != "PodInitializing" {
            return Some(format!("Init:{waiting}"));
        }
        return Some(format!("Init:{i}/{}", specs.len()));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_follow_requests_and_limits() {
        let pod = |resources: Value| json!({"spec": {"containers": [{"resources": resources}]}});
        for (resources, class) in [
            (json!({}), "BestEffort"),
            (json!({"requests": {"cpu": "0"}}), "BestEffort"),
            (json!({"requests": {"cpu": "1"}}), "Burstable"),
            (json!({"limits": {"cpu": "1"}}), "Burstable"),
            (json!({"limits": {"cpu": "1", "memory": "1Gi"}}), "Guaranteed"),
            (
                json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}}),
                "Guaranteed",
            ),
            (
                json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}),
                "Burstable",
            ),
        ] {
            assert_eq!(quality_of_service(&pod(resources.clone())), class, "{resources}");
        }
    }

    #[test]
    fn the_status_column_says_what_kubectl_users_expect() {
        for (pod, text) in [
            (json!({"status": {"phase": "Pending"}}), "Pending"),
            (
                json!({"status": {"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull"}}}]}}),
                "ErrImagePull",
            ),
            (
                json!({"status": {"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 3}}}]}}),
                "ExitCode:3",
            ),
            (
                json!({"metadata": {"deletionTimestamp": "x"}, "status": {"phase": "Running"}}),
                "Terminating",
            ),
            (
                json!({"spec": {"initContainers": [{"name": "a"}, {"name": "b"}]}, "status": {"phase": "Pending",
                    "initContainerStatuses": [{"name": "a", "state": {"terminated": {"exitCode": 0}}}, {"name": "b", "state": {"running": {}}}]}}),
                "Init:1/2",
            ),
        ] {
            assert_eq!(status_text(&pod), text, "{pod}");
        }
    }
}
