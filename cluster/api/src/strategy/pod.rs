//! Pod: graceful deletion, quality of service, and the columns people look at most.

use super::{Causes, CellContext, Column, Strategy, age, columns};
use crate::{
    cache::FieldPath,
    json,
    validate::{Field, pod as rules},
};
use serde_json::{Value, json};
use strata_meta::{Quantity, Time};

pub(super) struct Pod;

impl Strategy for Pod {
    fn counts_generation(&self) -> bool {
        true
    }

    fn returns_deleted(&self) -> bool {
        true
    }

    fn is_graceful(&self) -> bool {
        true
    }

    fn prepare_create(&self, object: &mut Value) {
        select_by_own_labels(object);
        let class = quality_of_service(object);
        json::set(object, "status", json!({"phase": "Pending", "qosClass": class}));
        if !json::list(object, "spec.schedulingGates").is_empty() {
            let gated = json!([{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                "lastProbeTime": null, "lastTransitionTime": Time::now(),
                "message": "Scheduling is blocked due to non-empty scheduling gates"}]);
            json::set(object, "status.conditions", gated);
        }
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        rules::pod(&Field::root(object), causes);
    }

    fn validate_create(&self, object: &Value, causes: &mut Causes) {
        rules::pod_create(&Field::root(object), causes);
    }

    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        json::copy(old, new, "metadata.ownerReferences");
        if json::text(new, "status.qosClass").is_empty() {
            json::copy(old, new, "status.qosClass");
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, causes: &mut Causes) {
        rules::pod_update(new, old, causes);
    }

    fn validate_subresource_update(&self, subresource: &str, new: &Value, old: &Value, causes: &mut Causes) {
        match subresource {
            "status" => rules::status_update(new, old, causes),
            "resize" => rules::resize(new, old, quality_of_service, causes),
            "ephemeralcontainers" => rules::ephemeral_containers_update(new, old, causes),
            _ => {}
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

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        // Whoever changes a pod is seldom a person.
        if old.is_some() {
            return Vec::new();
        }
        let name = crate::validate::host_name_warning(new, "the Pod's hostname");
        let rest = crate::validate::pod_warnings(&Field::root(new));
        name.into_iter().chain(rest).collect()
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
                let first = json::list(cx.object, "status.podIPs").first();
                columns::or_none(first.map_or(json::text(cx.object, "status.podIP"), |a| json::text(a, "ip")))
            }),
            columns::wide(
                "Node",
                "string",
                "NodeName is a request to schedule this pod onto a specific node.",
                |cx| columns::or_none(json::text(cx.object, "spec.nodeName")),
            ),
            columns::wide(
                "Nominated Node",
                "string",
                "The node that preemption made room on for this pod.",
                |cx| columns::or_none(json::text(cx.object, "status.nominatedNodeName")),
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

/// What `matchLabelKeys` and `mismatchLabelKeys` mean becomes part of the selectors (KEP-3633, KEP-3243).
fn select_by_own_labels(pod: &mut Value) {
    let labels = json::get(pod, "metadata.labels").cloned().unwrap_or(Value::Null);
    for kind in ["podAffinity", "podAntiAffinity"] {
        for list in [
            "requiredDuringSchedulingIgnoredDuringExecution",
            "preferredDuringSchedulingIgnoredDuringExecution",
        ] {
            for term in list_mut(pod, &format!("/spec/affinity/{kind}/{list}")) {
                let term = match list.starts_with("preferred") {
                    true => term.get_mut("podAffinityTerm"),
                    false => Some(term),
                };
                if let Some(term) = term {
                    extend_selector(term, &labels);
                }
            }
        }
    }
    for constraint in list_mut(pod, "/spec/topologySpreadConstraints") {
        extend_selector(constraint, &labels);
    }
}

fn list_mut<'v>(value: &'v mut Value, pointer: &str) -> impl Iterator<Item = &'v mut Value> {
    value
        .pointer_mut(pointer)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}

fn extend_selector(term: &mut Value, labels: &Value) {
    let mut new = Vec::new();
    for (keys, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        for key in json::list(term, keys).iter().filter_map(Value::as_str) {
            if let Some(value) = labels.get(key) {
                new.push(json!({"key": key, "operator": operator, "values": [value]}));
            }
        }
    }
    if new.is_empty() || json::get(term, "labelSelector").is_none() {
        return;
    }
    let expressions = json::object_mut(term, "labelSelector")
        .entry("matchExpressions")
        .or_insert_with(|| json!([]));
    if let Some(expressions) = expressions.as_array_mut() {
        expressions.extend(new);
    }
}

/// Guaranteed, Burstable or BestEffort (k8s.io/kubernetes/pkg/apis/core/v1/helper/qos).
pub(crate) fn quality_of_service(pod: &Value) -> &'static str {
    let positive = |container: &Value, list: &str, name: &str| -> Option<Quantity> {
        let value = json::get(container, &format!("resources.{list}"))?.get(name)?;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        text.parse::<Quantity>().ok().filter(|q| q.milli_value() > 0)
    };
    let (mut any, mut guaranteed) = (false, true);
    let own = ["spec.resources.requests", "spec.resources.limits"];
    let has_own = own.iter().any(|path| json::members(pod, path).next().is_some());
    let counted: Vec<&Value> = match json::get(pod, "spec") {
        // Where the pod has resources of its own they alone count (KEP-2837).
        Some(spec) if has_own => vec![spec],
        _ => {
            let containers = ["spec.containers", "spec.initContainers"];
            containers.iter().flat_map(|list| json::list(pod, list)).collect()
        }
    };
    for container in counted {
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

fn sidecars(pod: &Value) -> impl Iterator<Item = &str> {
    let containers = json::list(pod, "spec.initContainers").iter();
    containers
        .filter(|c| json::text(c, "restartPolicy") == "Always")
        .map(|c| json::text(c, "name"))
}

fn ready(cx: &CellContext<'_>) -> Value {
    let pod = cx.object;
    let running = |s: &&Value| json::flag(s, "ready") && json::get(s, "state.running").is_some();
    let mains = json::list(pod, "status.containerStatuses")
        .iter()
        .filter(running)
        .count();
    let started = |s: &&Value| {
        sidecars(pod).any(|name| name == json::text(s, "name")) && json::flag(s, "started") && json::flag(s, "ready")
    };
    let beside = json::list(pod, "status.initContainerStatuses")
        .iter()
        .filter(started)
        .count();
    let mains = if shows_containers(pod) { mains } else { 0 };
    let total = json::list(pod, "spec.containers").len() + sidecars(pod).count();
    format!("{}/{total}", mains + beside).into()
}

/// Whether the containers speak for the pod: its init containers are through.
fn shows_containers(pod: &Value) -> bool {
    let initialised = |c: &Value| json::text(c, "type") == "Initialized" && json::text(c, "status") == "True";
    init_reason(pod).is_none() || json::list(pod, "status.conditions").iter().any(initialised)
}

fn restarts(cx: &CellContext<'_>) -> Value {
    let pod = cx.object;
    let through = shows_containers(pod);
    let counts = |status: &&Value| !through || sidecars(pod).any(|name| name == json::text(status, "name"));
    let inits = json::list(pod, "status.initContainerStatuses").iter().filter(counts);
    let mains = json::list(pod, "status.containerStatuses").iter().filter(|_| through);
    let (mut total, mut last) = (0, "");
    for status in inits.chain(mains) {
        total += json::int(status, "restartCount").unwrap_or(0);
        last = last.max(json::text(status, "lastState.terminated.finishedAt"));
    }
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
    if let Some(why) = init_reason(pod) {
        reason = why;
    }
    if shows_containers(pod) {
        reason = containers_reason(pod, reason);
    }
    if json::get(pod, "metadata.deletionTimestamp").is_some() {
        if json::text(pod, "status.reason") == "NodeLost" {
            return "Unknown".into();
        }
        if !matches!(json::text(pod, "status.phase"), "Failed" | "Succeeded") {
            return "Terminating".into();
        }
    }
    reason
}

/// What the containers make of the reason: the first that has something to say.
fn containers_reason(pod: &Value, mut reason: String) -> String {
    let (mut running, mut failure) = (false, None);
    for status in json::list(pod, "status.containerStatuses").iter().rev() {
        match container_reason(status) {
            Some(why) => {
                if json::int(status, "state.terminated.exitCode").unwrap_or(0) != 0 {
                    failure = Some(why.clone());
                }
                reason = why;
            }
            None => running |= json::flag(status, "ready") && json::get(status, "state.running").is_some(),
        }
    }
    if reason != "Completed" {
        return reason;
    }
    let is_ready = |c: &Value| json::text(c, "type") == "Ready" && json::text(c, "status") == "True";
    let ready = json::list(pod, "status.conditions").iter().any(is_ready);
    match (running, ready, failure) {
        (true, true, _) => "Running".into(),
        (_, _, Some(failure)) => failure,
        (true, false, None) => "NotReady".into(),
        (false, _, None) => reason,
    }
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
                json!({"status": {"phase": "Running", "containerStatuses": [
                    {"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}},
                    {"ready": true, "state": {"running": {}}}], "conditions": [{"type": "Ready", "status": "False"}]}}),
                "NotReady",
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
