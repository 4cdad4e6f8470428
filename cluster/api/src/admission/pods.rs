//! Priority and DefaultTolerationSeconds.

use super::{Operation, Request};
use crate::json;
use serde_json::{Value, json};
use strata_meta::Status;

/// Classes that exist without being stored yet: a server that is starting must admit its own pods.
const SYSTEM: [(&str, i64); 2] = [
    ("system-cluster-critical", 2_000_000_000),
    ("system-node-critical", 2_000_001_000),
];

/// Turns the name of a priority class into a number.
pub(super) fn priority(request: &Request<'_>, pod: &mut Value, old: Option<&Value>) -> Result<(), Status> {
    if !request.is("", "pods") {
        return Ok(());
    }
    if request.operation == Operation::Update {
        // What was settled at the start stays; anything else validation refuses.
        for member in ["spec.priority", "spec.preemptionPolicy"] {
            if let (None, Some(old)) = (json::get(pod, member), old) {
                json::copy(old, pod, member);
            }
        }
        return Ok(());
    }
    let classes = request.core.resource("scheduling.k8s.io", "priorityclasses");
    let name = json::text(pod, "spec.priorityClassName").to_owned();
    let (value, policy) = if name.is_empty() {
        match default_class(request) {
            Some(class) => {
                json::set(pod, "spec.priorityClassName", json::text(&class, "metadata.name"));
                read(&class)
            }
            None => (0, "PreemptLowerPriority".to_owned()),
        }
    } else if let Some(class) = classes.get("", &name) {
        read(&class.to_value().map_err(Status::internal)?)
    } else if let Some((_, value)) = SYSTEM.iter().find(|(n, _)| *n == name) {
        (*value, "PreemptLowerPriority".to_owned())
    } else {
        return Err(request.forbidden_object(Some(pod), format_args!("no PriorityClass with name {name} was found")));
    };
    let stated = json::int(pod, "spec.priority");
    if stated.is_some_and(|s| s != value) {
        let stated = stated.unwrap_or(0);
        return Err(request.forbidden_object(Some(pod), format_args!(
            "the integer value of priority ({stated}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name"
        )));
    }
    json::set(pod, "spec.priority", value);
    let stated = json::text(pod, "spec.preemptionPolicy");
    if !stated.is_empty() && stated != policy {
        let why = format!(
            "the string value of PreemptionPolicy ({stated}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
        );
        return Err(request.forbidden_object(Some(pod), why));
    }
    json::set(pod, "spec.preemptionPolicy", policy);
    Ok(())
}

/// The class that pods without one get: of several, by a race, the lowest.
fn default_class(request: &Request<'_>) -> Option<Value> {
    let classes = request.core.resource("scheduling.k8s.io", "priorityclasses");
    classes
        .objects(None)
        .filter_map(|o| o.to_value().ok())
        .filter(|c| json::flag(c, "globalDefault"))
        .min_by_key(|c| json::int(c, "value"))
}

/// There is one default class at most.
pub(super) fn one_default(request: &Request<'_>, new: Option<&Value>, _old: Option<&Value>) -> Result<(), Status> {
    let Some(class) = new.filter(|class| json::flag(class, "globalDefault")) else {
        return Ok(());
    };
    let written = matches!(request.operation, Operation::Create | Operation::Update);
    if !request.is("scheduling.k8s.io", "priorityclasses") || !written {
        return Ok(());
    }
    let Some(default) = default_class(request) else {
        return Ok(());
    };
    let name = json::text(&default, "metadata.name");
    if request.operation == Operation::Update && name == json::text(class, "metadata.name") {
        return Ok(());
    }
    Err(request.forbidden_object(
        new,
        format_args!("PriorityClass {name} is already marked as default. Only one default can exist"),
    ))
}

fn read(class: &Value) -> (i64, String) {
    let policy = match json::text(class, "preemptionPolicy") {
        "" => "PreemptLowerPriority",
        policy => policy,
    };
    (json::int(class, "value").unwrap_or(0), policy.to_owned())
}

/// Pods stay five minutes on a node that is not ready or not reachable.
pub(super) fn default_tolerations(request: &Request<'_>, pod: &mut Value, _old: Option<&Value>) -> Result<(), Status> {
    if !request.is("", "pods") || request.operation == Operation::Delete {
        return Ok(());
    }
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerated = json::list(pod, "spec.tolerations").iter().any(|t| {
            let (own, effect) = (json::text(t, "key"), json::text(t, "effect"));
            (own == key || own.is_empty()) && (effect == "NoExecute" || effect.is_empty())
        });
        if tolerated {
            continue;
        }
        let list = json::object_mut(pod, "spec")
            .entry("tolerations")
            .or_insert_with(|| json!([]));
        if let Some(list) = list.as_array_mut() {
            list.push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}));
        }
    }
    Ok(())
}
