//! LimitRanger: what containers, pods and claims ask for unless they say, and how little or much that may be.

use super::{Operation, Request};
use crate::json;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use strata_meta::{Quantity, Status};
use strata_quota::{
    Amounts,
    pod::{Total, total},
};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// New pods, resized pods and claims; nothing that is being deleted already.
fn applies(request: &Request<'_>, old: Option<&Value>) -> bool {
    let about = match (request.operation, request.subresource) {
        (Operation::Update, "resize") => request.is_row("", "pods"),
        (Operation::Create, "") => request.is_row("", "pods") || request.is_row("", "persistentvolumeclaims"),
        (Operation::Update, "") => request.is_row("", "persistentvolumeclaims"),
        _ => false,
    };
    about && old.is_none_or(|old| json::get(old, "metadata.deletionTimestamp").is_none())
}

fn limits_of(request: &Request<'_>) -> Result<Vec<Value>, Status> {
    let ranges = request
        .core
        .resource("", "limitranges")
        .objects(Some(request.namespace));
    let mut limits = Vec::new();
    for range in ranges {
        let range = range.to_value().map_err(Status::internal)?;
        limits.extend(json::list(&range, "spec.limits").iter().cloned());
    }
    Ok(limits)
}

/// Fills in what containers do not say.
pub(super) fn default(request: &Request<'_>, new: &mut Value, old: Option<&Value>) -> Result<(), Status> {
    if !applies(request, old) || !request.is_row("", "pods") {
        return Ok(());
    }
    let (mut requests, mut limits) = (Amounts::default(), Amounts::default());
    for limit in limits_of(request)? {
        if json::text(&limit, "type") == "Container" {
            for (name, amount) in Amounts::read(limit.get("defaultRequest")).iter() {
                requests.set(name, amount);
            }
            for (name, amount) in Amounts::read(limit.get("default")).iter() {
                limits.set(name, amount);
            }
        }
    }
    if requests.is_empty() && limits.is_empty() {
        return Ok(());
    }
    let mut set = Vec::new();
    for (list, what) in [("containers", "container"), ("initContainers", "init container")] {
        let containers = new
            .get_mut("spec")
            .and_then(|s| s.get_mut(list))
            .and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            fill(container, what, (&requests, &limits), &mut set);
        }
    }
    if !set.is_empty() {
        let note = format!("LimitRanger plugin set: {}", set.join("; "));
        json::object_mut(new, "metadata.annotations").insert(ANNOTATION.into(), json!(note));
    }
    Ok(())
}

fn fill(container: &mut Value, what: &str, (requests, limits): (&Amounts, &Amounts), set: &mut Vec<String>) {
    let container_name = json::text(container, "name").to_owned();
    for (member, word, defaults) in [("requests", "request", requests), ("limits", "limit", limits)] {
        let mut names = Vec::new();
        for (name, amount) in defaults.iter() {
            let present = json::object_mut(container, &format!("resources.{member}"));
            if !present.contains_key(name) {
                present.insert(name.to_owned(), json!(amount.to_string()));
                names.push(name.to_owned());
            }
        }
        if !names.is_empty() {
            set.push(format!("{} {word} for {what} {container_name}", names.join(", ")));
        }
    }
}

/// Refuses what is too little or too much.
pub(super) fn check(request: &Request<'_>, new: Option<&Value>, old: Option<&Value>) -> Result<(), Status> {
    let Some(object) = new.filter(|_| applies(request, old)) else {
        return Ok(());
    };
    let is_pod = request.is_row("", "pods");
    let mut problems: Vec<String> = Vec::new();
    for limit in limits_of(request)? {
        let kind = json::text(&limit, "type");
        match kind {
            "Container" if is_pod => {
                for list in ["spec.containers", "spec.initContainers"] {
                    for container in json::list(object, list) {
                        let asked = |which| Amounts::read(json::get(container, which));
                        let (requests, limits) = (asked("resources.requests"), asked("resources.limits"));
                        compare(&limit, kind, (&requests, &limits), &mut problems);
                    }
                }
            }
            "Pod" if is_pod => {
                let requests = total(object, "requests", Total::Spec);
                let limits = total(object, "limits", Total::Spec);
                compare(&limit, kind, (&requests, &limits), &mut problems);
            }
            "PersistentVolumeClaim" if !is_pod => {
                let requests = Amounts::read(json::get(object, "spec.resources.requests"));
                claim(&limit, kind, &requests, &mut problems);
            }
            _ => {}
        }
    }
    let mut seen = BTreeMap::new();
    problems.retain(|problem| seen.insert(problem.clone(), ()).is_none());
    match problems.as_slice() {
        [] => Ok(()),
        [only] => Err(request.forbidden_object(new, only)),
        many => Err(request.forbidden_object(new, format_args!("[{}]", many.join(", ")))),
    }
}

fn compare(limit: &Value, kind: &str, (requests, limits): (&Amounts, &Amounts), problems: &mut Vec<String>) {
    for (name, least) in Amounts::read(limit.get("min")).iter() {
        problems.extend(below(kind, name, least, requests.get(name), limits.get(name)));
    }
    for (name, most) in Amounts::read(limit.get("max")).iter() {
        let bound = format!("maximum {name} usage per {kind} is {most}");
        match (requests.get(name), limits.get(name)) {
            (_, None) => problems.push(format!("{bound}.  No limit is specified")),
            (_, Some(limit)) if limit > most => problems.push(format!("{bound}, but limit is {limit}")),
            (Some(request), _) if request > most => problems.push(format!("{bound}, but request is {request}")),
            _ => {}
        }
    }
    for (name, ratio) in Amounts::read(limit.get("maxLimitRequestRatio")).iter() {
        problems.extend(above_ratio(kind, name, ratio, requests.get(name), limits.get(name)));
    }
}

fn below(
    kind: &str,
    name: &str,
    least: Quantity,
    request: Option<Quantity>,
    limit: Option<Quantity>,
) -> Option<String> {
    let bound = format!("minimum {name} usage per {kind} is {least}");
    match (request, limit) {
        (None, _) => Some(format!("{bound}.  No request is specified")),
        (Some(request), _) if request < least => Some(format!("{bound}, but request is {request}")),
        (_, Some(limit)) if limit < least => Some(format!("{bound}, but limit is {limit}")),
        _ => None,
    }
}

#[expect(clippy::cast_precision_loss, reason = "upstream compares the ratio as a float")]
fn above_ratio(
    kind: &str,
    name: &str,
    ratio: Quantity,
    request: Option<Quantity>,
    limit: Option<Quantity>,
) -> Option<String> {
    let bound = format!("{name} max limit to request ratio per {kind} is {ratio}");
    let (Some(request), false) = (request, request.is_none_or(|q| q.is_zero())) else {
        return Some(format!("{bound}, but no request is specified or request is 0"));
    };
    let (Some(limit), false) = (limit, limit.is_none_or(|q| q.is_zero())) else {
        return Some(format!("{bound}, but no limit is specified or limit is 0"));
    };
    let observed = limit.milli_value() as f64 / request.milli_value() as f64;
    let most = ratio.milli_value() as f64 / 1000.0;
    (observed > most).then(|| format!("{bound}, but provided ratio is {observed:.6}"))
}

fn claim(limit: &Value, kind: &str, requests: &Amounts, problems: &mut Vec<String>) {
    for (name, least) in Amounts::read(limit.get("min")).iter() {
        problems.extend(below(kind, name, least, requests.get(name), None));
    }
    for (name, most) in Amounts::read(limit.get("max")).iter() {
        let bound = format!("maximum {name} usage per {kind} is {most}");
        match requests.get(name) {
            None => problems.push(format!("{bound}.  No request is specified")),
            Some(request) if request > most => problems.push(format!("{bound}, but request is {request}")),
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_worded_as_upstream_words_them() {
        let limit = json!({"min": {"cpu": "100m"}, "max": {"cpu": "1"}, "maxLimitRequestRatio": {"cpu": "2"}});
        for (requests, limits, expected) in [
            (json!({"cpu": "200m"}), json!({"cpu": "400m"}), vec![]),
            (
                json!({"cpu": "50m"}),
                json!({"cpu": "100m"}),
                vec!["minimum cpu usage per Container is 100m, but request is 50m"],
            ),
            (
                json!({"cpu": "500m"}),
                json!({"cpu": "1500m"}),
                vec![
                    "maximum cpu usage per Container is 1, but limit is 1500m",
                    "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000",
                ],
            ),
            (
                json!({"cpu": "500m"}),
                json!({}),
                vec![
                    "maximum cpu usage per Container is 1.  No limit is specified",
                    "cpu max limit to request ratio per Container is 2, but no limit is specified or limit is 0",
                ],
            ),
        ] {
            let mut problems = Vec::new();
            let amounts = |value: &Value| Amounts::read(Some(value));
            compare(
                &limit,
                "Container",
                (&amounts(&requests), &amounts(&limits)),
                &mut problems,
            );
            assert_eq!(problems, expected, "{requests} {limits}");
        }
    }

    #[test]
    fn containers_get_what_they_do_not_say() {
        let mut container = json!({"name": "c", "resources": {"limits": {"cpu": "1"}}});
        let amounts = |value: Value| Amounts::read(Some(&value));
        let (requests, limits) = (
            amounts(json!({"cpu": "100m"})),
            amounts(json!({"cpu": "2", "memory": "1Gi"})),
        );
        let mut set = Vec::new();
        fill(&mut container, "container", (&requests, &limits), &mut set);
        assert_eq!(
            container["resources"],
            json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "1", "memory": "1Gi"}})
        );
        assert_eq!(set, ["cpu request for container c", "memory limit for container c"]);
    }
}
