//! PodSecurity: the Pod Security Standards that a namespace's labels ask for (k8s.io/pod-security-admission).
//!
//! Pods that violate the enforced level are refused; pods and what makes pods are warned about the others.

mod checks;
mod levels;
mod policy;
mod restricted;

use super::{Operation, Request};
use crate::json;
use policy::{Level, Policy, Standard};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashSet},
    time::{Duration, Instant},
};
use strata_meta::{Status, StatusCause};

/// Pods of a namespace that are looked at when its level is raised, and for how long (upstream's limits).
const PODS_CHECKED: usize = 3000;
const TIME_CHECKED: Duration = Duration::from_secs(1);

/// Asked about namespaces, pods and what makes pods.
pub(super) fn validate(request: &Request<'_>, new: Option<&Value>, old: Option<&Value>) -> Result<(), Status> {
    let written = matches!(request.operation, Operation::Create | Operation::Update);
    let Some(new) = new.filter(|_| written) else {
        return Ok(());
    };
    let resource = &request.row.resource;
    match (resource.group.as_str(), resource.resource.as_str(), request.subresource) {
        ("", "namespaces", "") => namespace(request, new, old),
        ("", "pods", "" | "ephemeralcontainers" | "resize") => pod(request, new, old),
        (_, _, "") => match template_of(&resource.group, &resource.resource, new) {
            Some(template) => evaluate(request, template, false, true),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

/// The template of what makes pods.
fn template_of<'v>(group: &str, resource: &str, object: &'v Value) -> Option<&'v Value> {
    let path = match (group, resource) {
        ("", "replicationcontrollers")
        | ("apps", "replicasets" | "deployments" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => "spec.template",
        ("", "podtemplates") => "template",
        ("batch", "cronjobs") => "spec.jobTemplate.spec.template",
        _ => return None,
    };
    json::get(object, path)
}

fn pod(request: &Request<'_>, new: &Value, old: Option<&Value>) -> Result<(), Status> {
    let old = old.filter(|_| request.operation == Operation::Update);
    let matters = old.is_none_or(|old| is_significant(new, old));
    evaluate(request, new, true, matters)
}

/// Whether containers came or images changed.
fn is_significant(new: &Value, old: &Value) -> bool {
    let images = |pod: &Value, list: &str| -> Vec<(String, String)> {
        let pair = |c: &Value| (json::text(c, "name").to_owned(), json::text(c, "image").to_owned());
        json::list(pod, list).iter().map(pair).collect()
    };
    let changed = |list: &str| {
        let (new, old) = (images(new, list), images(old, list));
        new.len() != old.len() || new.iter().zip(&old).any(|(a, b)| a.1 != b.1)
    };
    let before = images(old, "spec.ephemeralContainers");
    changed("spec.containers")
        || changed("spec.initContainers")
        || images(new, "spec.ephemeralContainers")
            .iter()
            .any(|c| !before.contains(c))
}

/// Evaluates a pod or a template against the policy of its namespace. One that changes nothing that matters is only
/// counted where everything goes.
fn evaluate(request: &Request<'_>, pod: &Value, enforce: bool, matters: bool) -> Result<(), Status> {
    let Some(namespace) = request.core.resource("", "namespaces").get("", request.namespace) else {
        return Ok(());
    };
    let (policy, problems) = Policy::read(|key| namespace.label(key));
    let count = |decision: &str, level: &str, mode: &str| {
        // What is evaluated only to be told about has no operation of its own.
        let operation = request.operation.as_str().to_lowercase();
        let resource = if request.is_row("", "pods") {
            "pod"
        } else {
            "controller"
        };
        let (level, version) = level.split_once(':').unwrap_or((level, "latest"));
        let labels = [
            decision,
            level,
            version,
            mode,
            &operation,
            resource,
            request.subresource,
        ];
        request.core.metrics.admission.pod_security(labels);
    };
    if problems.is_empty() && policy.is_privileged() {
        if enforce {
            let shown = policy.enforce.to_string();
            count("allow", &shown, "enforce");
            request.annotate("pod-security.kubernetes.io/enforce-policy", shown);
        }
        return Ok(());
    }
    if !matters {
        return Ok(());
    }
    let mut allowed = true;
    let mut refusal = Ok(());
    if enforce {
        let shown = policy.enforce.to_string();
        request.annotate("pod-security.kubernetes.io/enforce-policy", shown.as_str());
        let violations = checks::violations(policy.enforce, pod);
        let decision = if violations.is_empty() { "allow" } else { "deny" };
        count(decision, &shown, "enforce");
        if !violations.is_empty() {
            allowed = false;
            let why = format!("violates PodSecurity {shown:?}: {}", checks::details(&violations));
            refusal = Err(request.forbidden_object(Some(pod), why));
        }
    }
    let audited = checks::violations(policy.audit, pod);
    if !audited.is_empty() {
        let shown = policy.audit.to_string();
        count("deny", &shown, "audit");
        let note = format!("would violate PodSecurity {shown:?}: {}", checks::details(&audited));
        request.annotate("pod-security.kubernetes.io/audit-violations", note);
    }
    if allowed {
        let warned = checks::violations(policy.warn, pod);
        if !warned.is_empty() {
            let shown = policy.warn.to_string();
            count("deny", &shown, "warn");
            request.warn(format!(
                "would violate PodSecurity {shown:?}: {}",
                checks::details(&warned)
            ));
        }
    }
    refusal
}

fn namespace(request: &Request<'_>, new: &Value, old: Option<&Value>) -> Result<(), Status> {
    let read = |object: &Value| {
        let labels = json::get(object, "metadata.labels").cloned().unwrap_or_default();
        Policy::read(|key| labels.get(key).and_then(Value::as_str))
    };
    let (policy, problems) = read(new);
    let (before, known) = old.map(read).unzip();
    if !problems.is_empty() && known.as_ref() != Some(&problems) {
        let causes = problems
            .iter()
            .map(|(key, value, why)| StatusCause::invalid(&format!("metadata.labels[{key}]"), value.as_str(), why));
        let name = json::text(new, "metadata.name");
        return Err(Status::invalid(&request.row.group_kind(), name, causes.collect()));
    }
    let Some(before) = before.filter(|_| request.operation == Operation::Update) else {
        return Ok(());
    };
    let looser = policy.enforce.version == before.enforce.version && policy.enforce.level <= before.enforce.level;
    if policy.enforce == before.enforce || policy.enforce.level == Level::Privileged || looser {
        return Ok(());
    }
    warn_of_pods(request, json::text(new, "metadata.name"), policy.enforce)
}

/// Says which pods of a namespace would not be let in any more.
fn warn_of_pods(request: &Request<'_>, namespace: &str, standard: Standard) -> Result<(), Status> {
    let began = Instant::now();
    // One pod of each controller first.
    let (mut first, mut rest, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for pod in request.core.resource("", "pods").objects(Some(namespace)) {
        let again = pod.controller().is_some_and(|owner| !seen.insert(owner.uid.clone()));
        if again { rest.push(pod) } else { first.push(pod) }
    }
    first.extend(rest);
    let total = first.len();
    let mut checked = 0;
    let mut found: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for pod in first.into_iter().take(PODS_CHECKED) {
        let value = pod.to_value().map_err(Status::internal)?;
        checked += 1;
        let violations = checks::violations(standard, &value);
        if !violations.is_empty() {
            let entry = found.entry(checks::reasons(&violations)).or_default();
            if entry.1 == 0 || pod.name() < entry.0.as_str() {
                entry.0 = pod.name().to_owned();
            }
            entry.1 += 1;
        }
        if began.elapsed() > TIME_CHECKED {
            break;
        }
    }
    if checked < total {
        request.warn(format!(
            "new PodSecurity enforce level only checked against the first {checked} of {total} existing pods"
        ));
    }
    if !found.is_empty() {
        let shown = standard.to_string();
        request.warn(format!(
            "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level {shown:?}"
        ));
    }
    let mut lines: Vec<String> = found
        .into_iter()
        .map(|(reason, (name, count))| match count {
            1 => format!("{name}: {reason}"),
            2 => format!("{name} (and 1 other pod): {reason}"),
            n => format!("{name} (and {} other pods): {reason}", n - 1),
        })
        .collect();
    lines.sort();
    lines.into_iter().for_each(|line| request.warn(line));
    Ok(())
}

#[cfg(test)]
mod tests;
