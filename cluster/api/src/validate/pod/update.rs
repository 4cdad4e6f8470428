//! What may change in a pod once it is made.

use super::Causes;
use crate::{json, validate::Field};
use serde_json::Value;
use strata_meta::StatusCause;

const CHANGEABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// A change of the pod itself.
pub(crate) fn pod_update(new: &Value, old: &Value, causes: &mut Causes) {
    let (after, before) = (Field::root(new).at("spec"), Field::root(old).at("spec"));
    for list in ["containers", "initContainers"] {
        let (now, was) = (after.at(list), before.at(list));
        if now.len() != was.len() {
            causes.push(now.forbidden("pod updates may not add or remove containers"));
            return;
        }
        for container in now.items() {
            let image = container.at("image");
            if image.is_empty() {
                causes.push(image.required(""));
            }
        }
    }
    deadline(&after, &before, causes);
    tolerations(&after, &before, causes);
    gates(&after, &before, causes);
    let mut allowed = new.clone();
    take_back(&mut allowed, old, causes);
    if !json::same(&allowed, old, "spec") {
        let changes = differences(&allowed, old);
        causes.push(StatusCause::forbidden("spec", &format!("{CHANGEABLE}\n{changes}")));
    }
}

fn deadline(after: &Field<'_>, before: &Field<'_>, causes: &mut Causes) {
    let field = after.at("activeDeadlineSeconds");
    match (field.int(), before.at("activeDeadlineSeconds").int()) {
        (None, Some(_)) => {
            causes.push(field.invalid_as(Value::Null, "must not update from a positive integer to nil value"));
        }
        (Some(now), _) if !(0..=i64::from(i32::MAX)).contains(&now) => {
            causes.push(field.invalid("must be between 0 and 2147483647, inclusive"));
        }
        (Some(now), Some(was)) if was < now => {
            causes.push(field.invalid("must be less than or equal to previous value"));
        }
        _ => {}
    }
}

fn tolerations(after: &Field<'_>, before: &Field<'_>, causes: &mut Causes) {
    let bare = |field: &Field<'_>| {
        let mut value = field.value().clone();
        json::remove(&mut value, "tolerationSeconds");
        value
    };
    let list = after.at("tolerations");
    let now: Vec<Value> = list.items().map(|t| bare(&t)).collect();
    for old in before.at("tolerations").items() {
        if !now.contains(&bare(&old)) {
            causes.push(list.forbidden("existing toleration can not be modified except its tolerationSeconds"));
        }
    }
}

fn gates(after: &Field<'_>, before: &Field<'_>, causes: &mut Causes) {
    let was: Vec<&str> = before
        .at("schedulingGates")
        .items()
        .map(|g| g.at("name").text())
        .collect();
    for gate in after.at("schedulingGates").items() {
        let name = gate.at("name");
        if !was.contains(&name.text()) {
            let why = format!(
                "only deletion is allowed, but found new scheduling gate '{}'",
                name.text()
            );
            causes.push(name.forbidden(&why));
        }
    }
}

/// Makes the parts that may change what they were.
fn take_back(pod: &mut Value, old: &Value, causes: &mut Causes) {
    for list in ["containers", "initContainers"] {
        let was = json::list(old, &format!("spec.{list}"));
        for (container, old) in list_mut(pod, list).zip(was) {
            json::copy(old, container, "image");
        }
    }
    for member in ["spec.activeDeadlineSeconds", "spec.schedulingGates", "spec.tolerations"] {
        json::copy(old, pod, member);
    }
    let grace = "spec.terminationGracePeriodSeconds";
    if json::int(old, grace).is_some_and(|n| n < 0) && json::int(pod, grace) == Some(1) {
        json::copy(old, pod, grace);
    }
    if json::list(old, "spec.schedulingGates").is_empty() {
        return;
    }
    // A pod that is held back may still be narrowed (KEP-3838).
    let selector = Field::root(pod).at("spec.nodeSelector");
    let only_added =
        json::members(old, "spec.nodeSelector").all(|(key, value)| selector.value().get(key) == Some(value));
    if !only_added {
        let why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        causes.push(selector.invalid_as(selector.value().clone(), why));
    }
    json::copy(old, pod, "spec.nodeSelector");
    let required = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution";
    let was = json::get(old, required).cloned();
    let now = Field::root(pod).at(required);
    if let Some(was) = was
        && now.at("nodeSelectorTerms").len() != json::list(&was, "nodeSelectorTerms").len()
    {
        let terms = now.at("nodeSelectorTerms");
        causes.push(terms.invalid_as(
            terms.value().clone(),
            "no additions/deletions to non-empty NodeSelectorTerms list are allowed",
        ));
    }
    json::copy(old, pod, "spec.affinity.nodeAffinity");
    if json::get(old, "spec.affinity").is_none() {
        json::remove(pod, "spec.affinity");
    }
}

fn list_mut<'v>(pod: &'v mut Value, list: &str) -> impl Iterator<Item = &'v mut Value> {
    let list = pod
        .get_mut("spec")
        .and_then(|s| s.get_mut(list))
        .and_then(Value::as_array_mut);
    list.into_iter().flatten()
}

/// The members of the spec that differ, a line each, before and after.
fn differences(new: &Value, old: &Value) -> String {
    const MOST: usize = 20;
    let empty = serde_json::Map::new();
    let (now, was) = (
        json::get(new, "spec").and_then(Value::as_object).unwrap_or(&empty),
        json::get(old, "spec").and_then(Value::as_object).unwrap_or(&empty),
    );
    let mut names: Vec<&String> = now.keys().chain(was.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let mut lines = Vec::new();
    for name in names {
        if json::equal(now.get(name), was.get(name)) {
            continue;
        }
        let shown = |value: Option<&Value>| value.map_or("<absent>".to_owned(), Value::to_string);
        lines.push(format!("- {name}: {}", shown(was.get(name))));
        lines.push(format!("+ {name}: {}", shown(now.get(name))));
        if lines.len() >= MOST {
            break;
        }
    }
    lines.join("\n") + "\n"
}

/// A change through `/ephemeralcontainers`: they are added, never changed or removed.
pub(crate) fn ephemeral_containers_update(new: &Value, old: &Value, causes: &mut Causes) {
    const FIELD: &str = "spec.ephemeralContainers";
    if json::members(new, "metadata.annotations").any(|(key, _)| key == "kubernetes.io/config.mirror") {
        *causes = vec![StatusCause::forbidden(
            "[]",
            "static pods do not support ephemeral containers",
        )];
        return;
    }
    let now = json::list(new, FIELD);
    for was in json::list(old, FIELD) {
        let name = json::text(was, "name");
        match now.iter().find(|c| json::text(c, "name") == name) {
            None => {
                let why = format!("existing ephemeral containers {name:?} may not be removed\n");
                causes.push(StatusCause::forbidden(FIELD, &why));
            }
            Some(same) if !json::equal(Some(same), Some(was)) => {
                let why = format!("existing ephemeral containers {name:?} may not be changed\n");
                causes.push(StatusCause::forbidden(FIELD, &why));
            }
            Some(_) => {}
        }
    }
}

/// A change through `/status`.
pub(crate) fn status_update(new: &Value, old: &Value, causes: &mut Causes) {
    let (now, was) = (Field::root(new), Field::root(old));
    let nominated = now.at("status.nominatedNodeName");
    nominated.if_text(causes, strata_meta::names::dns1123_subdomain);
    for address in now.at("status.podIPs").items() {
        let ip = address.at("ip").named(address.path());
        ip.problems(causes, crate::validate::formats::ip(ip.text()));
    }
    let (host, hosts) = (now.at("status.hostIP"), now.at("status.hostIPs"));
    if let Some(first) = hosts.items().next().map(|address| address.at("ip"))
        && first.text() != host.text()
    {
        causes.push(first.invalid("must be equal to `hostIP`"));
    }
    for address in hosts.items() {
        let ip = address.at("ip").named(address.path());
        ip.problems(causes, crate::validate::formats::ip(ip.text()));
    }
    let class = now.at("status.qosClass");
    if !was.at("status.qosClass").is_empty() {
        class.unchanged(causes, &was.at("status.qosClass"));
    }
    let policy = now.at("spec.restartPolicy").text();
    if policy == "Always" {
        return;
    }
    for status in now.at("status.containerStatuses").items() {
        let name = status.at("name").text();
        let own_policy = now
            .at("spec.containers")
            .items()
            .any(|c| c.at("name").text() == name && c.at("restartPolicy").is_set());
        let before = was
            .at("status.containerStatuses")
            .items()
            .find(|s| s.at("name").text() == name);
        let Some(ended) = before.map(|s| s.at("state.terminated")).filter(Field::is_set) else {
            continue;
        };
        if own_policy || (policy == "OnFailure" && ended.at("exitCode").int() != Some(0)) {
            continue;
        }
        if !status.at("state.terminated").is_set() {
            causes.push(
                status
                    .at("state")
                    .forbidden("may not be transitioned to non-terminated state"),
            );
        }
    }
}
