//! What `/resize` may change: cpu and memory, in the same class of service (KEP-1287, KEP-5419).

use super::Causes;
use crate::{json, validate::Field};
use serde_json::{Value, json};
use strata_meta::StatusCause;

/// The resources that may change.
const RESIZABLE: [&str; 2] = ["cpu", "memory"];
const ONLY: &str = "only cpu and memory resources are mutable";
/// The lists of containers that may be resized.
pub(crate) const LISTS: [&str; 2] = ["containers", "initContainers"];

/// Takes back what a resize may not touch. Where containers are others it is left for [`resize`] to refuse.
pub(crate) fn keep_resizable(new: &mut Value, old: &Value) {
    let counts_differ = |list: &&str| {
        let path = format!("spec.{list}");
        json::list(new, &path).len() != json::list(old, &path).len()
    };
    if LISTS.iter().any(counts_differ) {
        return;
    }
    let wanted = std::mem::replace(new, old.clone());
    for path in ["metadata.resourceVersion", "metadata.managedFields", "spec.resources"] {
        json::copy(&wanted, new, path);
    }
    for list in LISTS {
        let path = format!("spec.{list}");
        let (theirs, was) = (json::list(&wanted, &path), json::list(old, &path));
        if theirs.iter().zip(was).any(|(a, b)| a.get("name") != b.get("name")) {
            json::copy(&wanted, new, &path);
            continue;
        }
        let present = new["spec"].get_mut(list).and_then(Value::as_array_mut);
        for (container, theirs) in present.into_iter().flatten().zip(theirs) {
            json::copy(theirs, container, "resources");
            json::copy(theirs, container, "resizePolicy");
        }
    }
}

/// A change through `/resize`.
pub(crate) fn resize(new: &Value, old: &Value, class_of: fn(&Value) -> &'static str, causes: &mut Causes) {
    let root = Field::root(new);
    let spec = root.at("spec");
    let bare = |why: &str| StatusCause::forbidden("[]", why);
    let mirror = json::members(old, "metadata.annotations").any(|(key, _)| key == "kubernetes.io/config.mirror");
    if mirror {
        *causes = vec![bare("static pods cannot be resized")];
        return;
    }
    if json::text(old, "spec.os.name") == "windows" {
        *causes = vec![bare("windows pods cannot be resized")];
        return;
    }
    let class = match json::text(old, "status.qosClass") {
        "" => class_of(old),
        class => class,
    };
    if class_of(new) != class {
        let why = "Pod QOS Class may not change as a result of resizing";
        causes.push(spec.invalid_as(json::text(new, "status.qosClass"), why));
    }
    if !is_supported(old) {
        causes.push(spec.forbidden("Pod running on node without support for resize"));
    }
    let mut masked = new.clone();
    of_its_own(&mut masked, new, old, causes);
    if !json::list(old, "status.nodeAllocatableResourceClaimStatuses").is_empty() {
        causes.push(spec.forbidden("pods with node allocatable resource claims cannot be resized"));
    }
    if !same_containers(new, old, causes) {
        return;
    }
    let before = Field::root(old).at("spec");
    for list in ["initContainers", "containers"] {
        for (now, was) in spec.at(list).items().zip(before.at(list).items()) {
            kept(&now.at("resources"), &was.at("resources"), "resource", causes);
        }
    }
    masked_containers(&mut masked, old, causes);
    if causes.is_empty() && !same_but_for_empty(&masked["spec"], &old["spec"]) {
        causes.push(spec.forbidden(ONLY));
    }
}

/// A node that reports the resources of what runs can resize it; before anything runs nobody knows.
fn is_supported(pod: &Value) -> bool {
    let mut running = json::list(pod, "status.containerStatuses")
        .iter()
        .filter(|status| json::get(status, "state.running").is_some());
    running.next().is_none_or(|status| status.get("resources").is_some())
}

/// The pod's own resources; makes those of `masked` what they were.
fn of_its_own(masked: &mut Value, new: &Value, old: &Value, causes: &mut Causes) {
    let has = |pod: &Value| {
        let lists = ["spec.resources.requests", "spec.resources.limits"];
        lists.iter().any(|path| json::members(pod, path).next().is_some())
    };
    if !has(old) && !has(new) {
        return;
    }
    let root = Field::root(new);
    let (now, was) = (root.at("spec.resources"), Field::root(old).at("spec.resources"));
    if was.is_set() && !now.is_set() {
        causes.push(now.forbidden("pod-level resources cannot be removed"));
        return;
    }
    kept(&now, &was, "pod-level resource", causes);
    let before = json::get(old, "spec.resources");
    let mut own = now.value().clone();
    mask(&mut own, before.unwrap_or(&Value::Null));
    if !same_but_for_empty(&own, before.unwrap_or(&Value::Null)) {
        let why = "only cpu and memory resources are mutable at pod-level";
        causes.push(root.at("spec").forbidden(why));
    }
    match before {
        Some(_) => json::set(masked, "spec.resources", own),
        None => drop(json::remove(masked, "spec.resources")),
    }
}

/// Nothing that was asked for may be left out.
fn kept(now: &Field<'_>, was: &Field<'_>, what: &str, causes: &mut Causes) {
    for list in ["requests", "limits"] {
        let now = now.at(list);
        if was.at(list).entries().any(|(name, _)| !now.key(name).is_set()) {
            causes.push(now.forbidden(&format!("{what} {list} cannot be removed")));
        }
    }
}

fn same_containers(new: &Value, old: &Value, causes: &mut Causes) -> bool {
    let before = causes.len();
    let root = Field::root(new);
    for list in LISTS {
        let (now, was) = (root.at("spec").at(list), Field::root(old).at("spec").at(list));
        if now.len() != was.len() {
            causes.push(now.forbidden(&format!("{list} may not be added or removed on resize")));
            continue;
        }
        for (now, was) in now.items().zip(was.items()) {
            if now.at("name").text() != was.at("name").text() {
                let why = format!("{list} may not be renamed or reordered on resize");
                causes.push(now.at("name").forbidden(&why));
            }
        }
    }
    causes.len() == before
}

/// Containers differ in nothing but cpu and memory; afterwards not even in these.
fn masked_containers(masked: &mut Value, old: &Value, causes: &mut Causes) {
    let spec = Field::root(old).at("spec");
    for list in LISTS {
        let was = json::list(old, &format!("spec.{list}"));
        let present = masked["spec"].get_mut(list).and_then(Value::as_array_mut);
        for (at, (container, was)) in present.into_iter().flatten().zip(was).enumerate() {
            let changed = !same_but_for_empty(container, was);
            let mut resources = container["resources"].take();
            mask(&mut resources, &was["resources"]);
            json::remove(&mut resources, "claims");
            container["resources"] = resources;
            let path = spec.at(list).named(format!("spec.{list}[{at}]"));
            if !same_but_for_empty(container, was) {
                causes.push(match list {
                    "containers" => spec.forbidden(ONLY),
                    _ => path.forbidden("only cpu and memory resources for init or sidecar containers are mutable"),
                });
            }
            let restarts = |policy: &Value| json::text(policy, "restartPolicy") == "RestartContainer";
            let is_init = list == "initContainers" && json::text(was, "restartPolicy") != "Always";
            if is_init && changed {
                let policies = json::list(container, "resizePolicy").iter().filter(|p| restarts(p));
                let why = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
                causes.extend(policies.map(|_| path.forbidden(why)));
            }
        }
    }
}

/// Gives resources the cpu and memory that they had.
fn mask(resources: &mut Value, old: &Value) {
    if !resources.is_object() {
        *resources = json!({});
    }
    for list in ["requests", "limits"] {
        let amounts = json::object_mut(resources, list);
        for name in RESIZABLE {
            match old.get(list).and_then(|amounts| amounts.get(name)) {
                Some(amount) => drop(amounts.insert(name.to_owned(), amount.clone())),
                None => drop(amounts.remove(name)),
            }
        }
    }
}

/// Equal where nothing and an empty object or list are the same.
fn same_but_for_empty(a: &Value, b: &Value) -> bool {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::Object(members) => members.values().all(Value::is_null) || members.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    };
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => x
            .keys()
            .chain(y.keys())
            .all(|name| same_but_for_empty(&a[name], &b[name])),
        (Value::Array(x), Value::Array(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same_but_for_empty(x, y))
        }
        _ => json::equal(Some(a), Some(b)) || (is_empty_deep(a, &is_empty) && is_empty_deep(b, &is_empty)),
    }
}

fn is_empty_deep(value: &Value, is_empty: &impl Fn(&Value) -> bool) -> bool {
    match value {
        Value::Object(members) => members.values().all(|member| is_empty_deep(member, is_empty)),
        other => is_empty(other),
    }
}
