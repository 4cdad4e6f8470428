//! Requests and limits.

use super::Causes;
use crate::validate::Field;
use strata_meta::{Quantity, names};

/// Names without a domain that a container may use.
fn is_container_resource(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage") || is_huge_page(name)
}

fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Whether a name is one that nodes advertise through plugins, counted in whole units.
fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") && names::qualified_name(&format!("requests.{name}")).is_empty()
}

/// Resources that are known without a domain anywhere (containers, quotas, limits).
const STANDARD: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "storage",
    "requests.storage",
    "services.nodeports",
    "services.loadbalancers",
];

/// Whether a name is one that a container may ask for as an extended resource.
pub(crate) fn is_extended_resource(name: &str) -> bool {
    is_extended(name)
}

/// Whether a quota counts or sums the resource by a name of its own.
pub(crate) fn is_standard_quota_resource(name: &str) -> bool {
    is_huge_page(name)
        || name.starts_with("requests.hugepages-")
        || STANDARD.contains(&name) && !matches!(name, "storage")
}

/// What every resource's name must be.
pub(crate) fn resource_name(name: &str, field: &Field<'_>, causes: &mut Causes) -> bool {
    let problems = names::qualified_name(name);
    if !problems.is_empty() {
        causes.extend(problems.iter().map(|why| field.invalid_as(name, why)));
        return false;
    }
    let known =
        name.contains('/') || STANDARD.contains(&name) || is_huge_page(name) || name.starts_with("requests.hugepages-");
    if !known {
        causes.push(field.invalid_as(name, "must be a standard resource type or fully qualified"));
    }
    known
}

/// The name of a resource that a container asks for.
pub(crate) fn container_resource_name(name: &str, field: &Field<'_>, causes: &mut Causes) {
    resource_name(name, field, causes);
    if !name.contains('/') {
        if !is_container_resource(name) {
            causes.push(field.invalid_as(name, "must be a standard resource for containers"));
        }
    } else if !is_native(name) && !is_extended(name) {
        causes.push(field.invalid_as(name, "doesn't follow extended resource name standard"));
    }
}

/// The amount of a resource.
pub(crate) fn amount(name: &str, field: &Field<'_>, causes: &mut Causes) {
    let Some(quantity) = field.quantity() else { return };
    if quantity.is_negative() {
        causes.push(field.invalid_as(quantity.to_string(), "must be greater than or equal to 0"));
    }
    if is_whole(name) && quantity.milli_value() % 1000 != 0 {
        causes.push(field.invalid_as(quantity.to_string(), "must be an integer"));
    }
}

fn is_whole(name: &str) -> bool {
    is_extended(name)
        || matches!(
            name,
            "pods"
                | "resourcequotas"
                | "services"
                | "replicationcontrollers"
                | "secrets"
                | "configmaps"
                | "persistentvolumeclaims"
                | "services.nodeports"
                | "services.loadbalancers"
        )
        || name.starts_with("count/")
}

/// `resources` of a container.
pub(super) fn container(spec: &Field<'_>, resources: &Field<'_>, causes: &mut Causes) {
    requirements(resources, container_resource_name, causes);
    let known: Vec<&str> = spec
        .at("resourceClaims")
        .items()
        .map(|c| c.at("name").text())
        .filter(|name| !name.is_empty())
        .collect();
    let mut seen = Vec::new();
    for claim in resources.at("claims").items() {
        let name = claim.at("name");
        if name.is_empty() {
            causes.push(claim.required(""));
            continue;
        }
        let key = (name.text(), claim.at("request").text());
        if seen.contains(&key) {
            causes.push(claim.duplicate_as(name.text()));
        }
        seen.push(key);
        if !known.contains(&name.text()) {
            let why = match known.as_slice() {
                [] => "must be one of the names in pod.spec.resourceClaims which is empty".to_owned(),
                known => format!(
                    "must be one of the names in pod.spec.resourceClaims: {}",
                    known.join(", ")
                ),
            };
            causes.push(claim.not_found_because(name.text(), why));
        }
    }
}

/// `spec.resources` of a pod (KEP-2837).
pub(super) fn pod_level(spec: &Field<'_>, causes: &mut Causes) {
    let resources = spec.at("resources");
    if !resources.is_set() {
        return;
    }
    if resources.at("claims").is_set() {
        causes.push(
            resources
                .at("claims")
                .forbidden("claims may not be set for Resources at pod-level"),
        );
    }
    let name_rule = |name: &str, field: &Field<'_>, causes: &mut Causes| {
        if resource_name(name, field, causes) && !matches!(name, "cpu" | "memory") && !is_huge_page(name) {
            let known = ["cpu", "hugepages-", "memory"];
            causes.push(field.named(field.path()).not_supported(&known));
        }
    };
    requirements(&resources, name_rule, causes);
    for (list, checked) in [("requests", (|_| true) as fn(&str) -> bool), ("limits", is_huge_page)] {
        for (name, own) in resources.at(list).entries().filter(|(name, _)| checked(name)) {
            let sum = aggregate(spec, list, name);
            if own.quantity().is_some_and(|most| sum > most) {
                let why = format!("must be greater than or equal to aggregate container {list} of {sum}");
                causes.push(own.named(format!("{}.{list}[{name}]", resources.path())).invalid(why));
            }
        }
    }
    for (name, limit) in resources.at("limits").entries() {
        let Some(most) = limit.quantity() else { continue };
        for (i, container) in spec.at("containers").items().enumerate() {
            let own = container.at("resources.limits").key(name);
            if own.quantity().is_some_and(|q| q > most) {
                let path = format!("{}.containers[{i}][{name}].limits", resources.path());
                causes.push(
                    own.named(path)
                        .invalid(format_args!("must be less than or equal to pod limits of {most}")),
                );
            }
        }
    }
}

/// What the containers of a pod ask for together: those that run side by side, or the greediest initial one.
fn aggregate(spec: &Field<'_>, list: &str, name: &str) -> Quantity {
    let amount = |container: &Field<'_>| {
        let amount = container.at("resources").at(list).key(name).quantity();
        amount.unwrap_or_else(|| Quantity::from_units(0))
    };
    let mut together = spec
        .at("containers")
        .items()
        .fold(Quantity::from_units(0), |sum, container| sum.plus(amount(&container)));
    let (mut sidecars, mut initial) = (Quantity::from_units(0), Quantity::from_units(0));
    for container in spec.at("initContainers").items() {
        let own = amount(&container);
        let at_once = sidecars.plus(own);
        if container.at("restartPolicy").text() == "Always" {
            together = together.plus(own);
            sidecars = at_once;
        }
        initial = initial.max(at_once);
    }
    together.max(initial)
}

fn requirements(resources: &Field<'_>, name_rule: impl Fn(&str, &Field<'_>, &mut Causes), causes: &mut Causes) {
    let (limits, requests) = (resources.at("limits"), resources.at("requests"));
    let mut huge = false;
    let mut computes = false;
    for (name, field) in limits.entries() {
        one(name, &field, &name_rule, causes);
        huge |= is_huge_page(name);
        computes |= matches!(name, "cpu" | "memory");
    }
    for (name, field) in requests.entries() {
        one(name, &field, &name_rule, causes);
        huge |= is_huge_page(name);
        computes |= matches!(name, "cpu" | "memory");
        compare(
            name,
            field.quantity(),
            limits.key(name).quantity(),
            &limits,
            &requests,
            causes,
        );
    }
    if huge && !computes {
        causes.push(resources.forbidden("HugePages require cpu or memory"));
    }
}

fn one(name: &str, field: &Field<'_>, name_rule: impl Fn(&str, &Field<'_>, &mut Causes), causes: &mut Causes) {
    name_rule(name, field, causes);
    amount(name, field, causes);
    let Some(size) = name.strip_prefix("hugepages-").and_then(|s| s.parse::<Quantity>().ok()) else {
        return;
    };
    if let Some(quantity) = field.quantity()
        && size.value() > 0
        && quantity.value() % size.value() != 0
    {
        let why = format!("quantity must be an integer multiple of the page size of {name}");
        causes.push(field.invalid_as(quantity.to_string(), why));
    }
}

fn compare(
    name: &str,
    request: Option<Quantity>,
    limit: Option<Quantity>,
    limits: &Field<'_>,
    requests: &Field<'_>,
    causes: &mut Causes,
) {
    let overcommits = is_native(name) && !is_huge_page(name);
    match (request, limit) {
        (Some(request), Some(limit)) if request != limit && !overcommits => {
            let why = format!("must be equal to {name} limit of {limit}");
            causes.push(requests.invalid_as(request.to_string(), why));
        }
        (Some(request), Some(limit)) if request > limit => {
            let why = format!("must be less than or equal to {name} limit of {limit}");
            causes.push(requests.invalid_as(request.to_string(), why));
        }
        (Some(_), None) if !overcommits => {
            causes.push(limits.required("Limit must be set for non overcommitable resources"));
        }
        _ => {}
    }
}
