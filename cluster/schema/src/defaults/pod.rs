//! Defaults of pods, their containers and volumes.

use super::hooks::{inner, items, set_absent, set_unset, text, unset};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use strata_meta::Quantity;

type Object = Map<String, Value>;

/// `core/v1.Pod`.
pub(super) fn pod(object: &mut Object) {
    let Some(spec) = inner(object, "spec") else { return };
    let on_host = spec.get("hostNetwork") == Some(&Value::Bool(true));
    for list in ["containers", "initContainers"] {
        for container in items(spec, list) {
            requests_from_limits(container);
            if on_host {
                host_ports(container);
            }
        }
    }
    if spec.get("resources").is_some_and(Value::is_object) {
        pod_limits(spec);
        pod_requests(spec);
    }
    set_absent(spec, "enableServiceLinks", true);
}

fn requests_from_limits(container: &mut Object) {
    let Some(resources) = inner(container, "resources") else {
        return;
    };
    let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else {
        return;
    };
    set_absent(resources, "requests", json!({}));
    if let Some(requests) = inner(resources, "requests") {
        for (name, amount) in limits {
            requests.entry(name).or_insert(amount);
        }
    }
}

fn host_ports(container: &mut Object) {
    for port in items(container, "ports") {
        if port.get("hostPort").is_none_or(|p| p.is_null() || *p == 0)
            && let Some(number) = port.get("containerPort").cloned()
        {
            port.insert("hostPort".to_owned(), number);
        }
    }
}

/// Huge page limits of the pod are the sum of its containers' (KEP-2837).
fn pod_limits(spec: &mut Object) {
    let total = aggregate(spec, "limits");
    let Some(resources) = inner(spec, "resources") else {
        return;
    };
    if unset(resources, "limits") && unset(resources, "requests") {
        return;
    }
    for (name, amount) in total.into_iter().filter(|(name, _)| name.starts_with("hugepages-")) {
        if resources.get("requests").and_then(|r| r.get(&name)).is_none() {
            set_absent(resources, "limits", json!({}));
            if let Some(limits) = inner(resources, "limits") {
                limits.entry(name).or_insert(amount.to_string().into());
            }
        }
    }
}

/// Requests of the pod are its containers', or else its own limits (KEP-2837).
fn pod_requests(spec: &mut Object) {
    let total = aggregate(spec, "requests");
    let Some(resources) = inner(spec, "resources") else {
        return;
    };
    let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else {
        return;
    };
    let mut requests = resources
        .get("requests")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    for name in ["cpu", "memory"] {
        if let Some(amount) = total.get(name) {
            requests.entry(name).or_insert(amount.to_string().into());
        }
    }
    for (name, amount) in limits {
        if matches!(name.as_str(), "cpu" | "memory") || name.starts_with("hugepages-") {
            requests.entry(name).or_insert(amount);
        }
    }
    if !requests.is_empty() {
        resources.insert("requests".to_owned(), Value::Object(requests));
    }
}

/// What the containers need together: the sum of those that run side by side, or the most that
/// one init container needs beside the sidecars started before it.
fn aggregate(spec: &mut Object, of: &str) -> BTreeMap<String, Quantity> {
    let mut total: BTreeMap<String, Quantity> = BTreeMap::new();
    let mut sidecars: BTreeMap<String, Quantity> = BTreeMap::new();
    let mut peak: BTreeMap<String, Quantity> = BTreeMap::new();
    for container in items(spec, "containers") {
        add(&mut total, &amounts(container, of));
    }
    for container in items(spec, "initContainers") {
        let needed = amounts(container, of);
        if text(container, "restartPolicy") == "Always" {
            add(&mut total, &needed);
            add(&mut sidecars, &needed);
        } else {
            let mut moment = sidecars.clone();
            add(&mut moment, &needed);
            raise(&mut peak, &moment);
        }
    }
    raise(&mut total, &peak);
    total
}

fn amounts(container: &Object, of: &str) -> BTreeMap<String, Quantity> {
    let list = container
        .get("resources")
        .and_then(|r| r.get(of))
        .and_then(Value::as_object);
    let parse = |amount: &Value| amount.as_str().and_then(|text| text.parse().ok());
    list.into_iter()
        .flatten()
        .filter_map(|(name, amount)| Some((name.clone(), parse(amount)?)))
        .collect()
}

fn add(to: &mut BTreeMap<String, Quantity>, amounts: &BTreeMap<String, Quantity>) {
    for (name, amount) in amounts {
        to.entry(name.clone())
            .and_modify(|sum| *sum = sum.plus(*amount))
            .or_insert(*amount);
    }
}

fn raise(to: &mut BTreeMap<String, Quantity>, amounts: &BTreeMap<String, Quantity>) {
    for (name, amount) in amounts {
        to.entry(name.clone())
            .and_modify(|most| *most = (*most).max(*amount))
            .or_insert(*amount);
    }
}

/// `core/v1.Container` and `core/v1.EphemeralContainer`.
pub(super) fn container(object: &mut Object) {
    let policy = pull_policy(text(object, "image"));
    set_unset(object, "imagePullPolicy", policy);
}

/// `core/v1.Volume`: without a source it is an empty directory.
pub(super) fn volume(object: &mut Object) {
    if object.iter().all(|(name, source)| name == "name" || source.is_null()) {
        object.insert("emptyDir".to_owned(), json!({}));
    }
    if let Some(image) = inner(object, "image") {
        let policy = pull_policy(text(image, "reference"));
        set_unset(image, "pullPolicy", policy);
    }
}

/// An image whose tag is `latest`, said or implied, is always pulled.
fn pull_policy(reference: &str) -> &'static str {
    let (name, digest) = reference
        .split_once('@')
        .map_or((reference, None), |(name, digest)| (name, Some(digest)));
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    let (repository, tag) = match name[last..].find(':') {
        Some(colon) => (&name[..last + colon], Some(&name[last + colon + 1..])),
        None => (name, None),
    };
    let path = repository.split_once('/').map_or(repository, |(first, rest)| {
        let host = first.contains(['.', ':']) || first == "localhost";
        if host { rest } else { repository }
    });
    let named = if path.len() < repository.len() {
        path
    } else {
        repository
    };
    // The longest name that upstream's parser of references takes.
    let valid =
        named.len() <= 255 && !path.is_empty() && !path.contains(|c: char| c.is_ascii_uppercase() || c.is_whitespace());
    match (valid, tag, digest) {
        (true, Some("latest"), _) | (true, None, None) => "Always",
        _ => "IfNotPresent",
    }
}

#[cfg(test)]
mod tests {
    use super::pull_policy;

    #[test]
    fn the_latest_tag_is_always_pulled() {
        let cases = [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1", "IfNotPresent"),
            ("localhost:5000/nginx", "Always"),
            ("localhost:5000/nginx:1", "IfNotPresent"),
            ("r.io/a/b@sha256:00", "IfNotPresent"),
            ("r.io/a/b:latest@sha256:00", "Always"),
            ("Nginx", "IfNotPresent"),
            ("", "IfNotPresent"),
        ];
        for (image, policy) in cases {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }
}
