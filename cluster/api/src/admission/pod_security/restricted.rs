//! Checks of the restricted level that have no counterpart in the baseline.

use super::checks::{Violation, has_own_users, is_windows, name, named, plural, quoted, setters, those, violation};
use crate::json;
use serde_json::Value;
use std::collections::BTreeSet;

pub(super) fn privilege_escalation(pod: &Value) -> Option<Violation> {
    let path = "securityContext.allowPrivilegeEscalation";
    let names = named(pod, |c| json::get(c, path) != Some(&Value::Bool(false)));
    if names.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must set securityContext.allowPrivilegeEscalation=false",
        those(&names)
    );
    violation("allowPrivilegeEscalation != false", detail)
}

pub(super) fn privilege_escalation_linux(pod: &Value) -> Option<Violation> {
    if is_windows(pod) {
        None
    } else {
        privilege_escalation(pod)
    }
}

/// Volumes that anybody may have.
const VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

pub(super) fn restricted_volumes(pod: &Value) -> Option<Violation> {
    let (mut names, mut kinds) = (Vec::new(), BTreeSet::new());
    for volume in json::list(pod, "spec.volumes") {
        if VOLUMES.iter().any(|kind| json::get(volume, kind).is_some()) {
            continue;
        }
        names.push(name(volume));
        let own = volume.as_object().into_iter().flatten();
        let kind = own
            .filter(|(k, v)| *k != "name" && !v.is_null())
            .map(|(k, _)| k.clone())
            .next();
        kinds.insert(kind.unwrap_or_else(|| "unknown".into()));
    }
    if names.is_empty() {
        return None;
    }
    let detail = format!(
        "{} {} {} {} {}",
        plural(names.len(), "volume", "volumes"),
        quoted(&names),
        plural(names.len(), "uses", "use"),
        plural(kinds.len(), "restricted volume type", "restricted volume types"),
        quoted(&kinds)
    );
    violation("restricted volume types", detail)
}

pub(super) fn non_root(pod: &Value) -> Option<Violation> {
    let of = |at: &Value, path: &str| json::get(at, path).and_then(Value::as_bool);
    let of_pod = of(pod, "spec.securityContext.runAsNonRoot");
    let container = |c: &Value| of(c, "securityContext.runAsNonRoot");
    let who = setters(of_pod == Some(false), &named(pod, |c| container(c) == Some(false)));
    if !who.is_empty() {
        let detail = format!("{who} must not set securityContext.runAsNonRoot=false");
        return violation("runAsNonRoot != true", detail);
    }
    let silent = named(pod, |c| container(c).is_none());
    if of_pod == Some(true) || silent.is_empty() {
        return None;
    }
    let detail = format!("pod or {} must set securityContext.runAsNonRoot=true", those(&silent));
    violation("runAsNonRoot != true", detail)
}

pub(super) fn non_root_users(pod: &Value) -> Option<Violation> {
    if has_own_users(pod) { None } else { non_root(pod) }
}

pub(super) fn run_as_user(pod: &Value) -> Option<Violation> {
    let pod_does = json::int(pod, "spec.securityContext.runAsUser") == Some(0);
    let names = named(pod, |c| json::int(c, "securityContext.runAsUser") == Some(0));
    let who = setters(pod_does, &names);
    if who.is_empty() {
        return None;
    }
    violation("runAsUser=0", format!("{who} must not set runAsUser=0"))
}

pub(super) fn run_as_user_users(pod: &Value) -> Option<Violation> {
    if has_own_users(pod) { None } else { run_as_user(pod) }
}
