//! Kinds that bound what others do: ResourceQuota, LimitRange, PodDisruptionBudget, PriorityClass;
//! and the small ones that are watched all the time: Lease, ServiceAccount.

use super::{
    Causes, CellContext, columns,
    row::{ROW, Row},
};
use crate::{
    json,
    validate::{
        Field, MetadataTurn,
        formats::{at_most_all, count_or_percent, label_selector, labels},
        pod::{amount, container_resource_name, is_standard_quota_resource, resource_name, tolerations},
    },
};
use serde_json::Value;
use std::collections::BTreeSet;
use strata_meta::{StatusCause, names};

pub(super) static LEASES: Row = Row {
    unconditional: false,
    create_on_update: true,
    columns: &[
        columns::NAME,
        columns::column("Holder", "string", "Who holds the lease.", |cx| {
            columns::text(cx, "spec.holderIdentity")
        }),
        columns::AGE,
    ],
    prepare_create: drop_gated_fields,
    prepare_update: |new, _| drop_gated_fields(new),
    validate: |object, causes| {
        let spec = Field::root(object).at("spec");
        let seconds = spec.at("leaseDurationSeconds");
        if seconds.int().is_some_and(|n| n <= 0) {
            causes.push(seconds.invalid("must be greater than 0"));
        }
        spec.at("leaseTransitions").not_negative(causes);
    },
    ..ROW
};

/// Coordinated leader election is behind a feature gate that is off by default.
fn drop_gated_fields(object: &mut Value) {
    for name in ["spec.strategy", "spec.preferredHolder"] {
        json::remove(object, name);
    }
}

pub(super) static SERVICE_ACCOUNTS: Row = Row {
    columns: &[columns::NAME, columns::AGE],
    returns_deleted: true,
    ..ROW
};

pub(super) static PRIORITY_CLASSES: Row = Row {
    counts: true,
    columns: &[
        columns::NAME,
        columns::column("Value", "integer", "The priority; higher goes first.", |cx| {
            columns::count(cx, "value")
        }),
        columns::column(
            "Global-Default",
            "boolean",
            "Whether pods without a class get it.",
            |cx| columns::flag(cx, "globalDefault"),
        ),
        columns::AGE,
        columns::column(
            "PreemptionPolicy",
            "string",
            "Whether its pods push others out.",
            |cx| columns::text(cx, "preemptionPolicy"),
        ),
    ],
    validate: |object, causes| {
        let root = Field::root(object);
        let (name, value) = (root.at("metadata.name"), root.at("value"));
        let system = [
            ("system-cluster-critical", 2_000_000_000),
            ("system-node-critical", 2_000_001_000),
        ];
        let known = system.iter().any(|(n, v)| *n == name.text() && value.int() == Some(*v));
        if name.text().starts_with("system-") && !known {
            let why = format!(
                "priority class names with 'system-' prefix are reserved for system use only. error: {} is not a known system priority class",
                name.text()
            );
            causes.push(name.forbidden(&why));
        } else if !known && value.int().is_some_and(|n| n > 1_000_000_000) {
            causes.push(value.forbidden("maximum allowed value of a user defined priority is 1000000000"));
        }
        let policies = ["PreemptLowerPriority", "Never"];
        let policy = root.at("preemptionPolicy");
        if policy.is_set() {
            policy.needs_one_of(causes, &policies);
        }
    },
    validate_update: |new, old, causes| {
        let (now, was) = (Field::root(new), Field::root(old));
        if now.at("value").int().unwrap_or(0) != was.at("value").int().unwrap_or(0) {
            causes.push(now.at("value").forbidden("may not be changed in an update."));
        }
        now.at("preemptionPolicy")
            .unchanged(causes, &was.at("preemptionPolicy"));
    },
    ..ROW
};

pub(super) static RUNTIME_CLASSES: Row = Row {
    unconditional: false,
    columns: &[
        columns::NAME,
        columns::column("Handler", "string", "Which runtime runs the pods.", |cx| {
            columns::text(cx, "handler")
        }),
        columns::AGE,
    ],
    validate: |object, causes| {
        let root = Field::root(object);
        root.at("handler").needs_text(causes, names::dns1123_label);
        let overhead = root.at("overhead.podFixed");
        for (name, value) in overhead.entries() {
            let value = value.named(format!("overhead.limits[{name}]"));
            container_resource_name(name, &value, causes);
            amount(name, &value, causes);
        }
        let scheduling = root.at("scheduling");
        labels(&scheduling.at("nodeSelector"), causes);
        let list = scheduling.at("tolerations");
        tolerations(&list, causes);
        let mut seen = Vec::new();
        for toleration in list.items() {
            let key = ["key", "operator", "value", "effect"].map(|name| toleration.at(name).text());
            if seen.contains(&key) {
                let cause = toleration.duplicate();
                let message = format!("Duplicate value: {}", go_toleration(&toleration));
                causes.push(StatusCause { message, ..cause });
            }
            seen.push(key);
        }
    },
    validate_update: |new, old, causes| {
        let (now, was) = (Field::root(new), Field::root(old));
        now.at("handler").unchanged(causes, &was.at("handler"));
    },
    ..ROW
};

/// A toleration as upstream prints it: by Go's names.
fn go_toleration(toleration: &Field<'_>) -> String {
    let text = |name: &str| Value::from(toleration.at(name).text());
    format!(
        "{{\"Key\":{},\"Operator\":{},\"Value\":{},\"Effect\":{},\"TolerationSeconds\":{}}}",
        text("key"),
        text("operator"),
        text("value"),
        text("effect"),
        toleration.at("tolerationSeconds").value()
    )
}

pub(super) static DISRUPTION_BUDGETS: Row = Row {
    metadata: MetadataTurn::Last,
    counts: true,
    unconditional: false,
    columns: &[
        columns::NAME,
        columns::column(
            "Min Available",
            "string",
            "The minimum number of pods that must be available.",
            |cx| count_text(cx, "spec.minAvailable"),
        ),
        columns::column(
            "Max Unavailable",
            "string",
            "The maximum number of pods that may be unavailable.",
            |cx| count_text(cx, "spec.maxUnavailable"),
        ),
        columns::column(
            "Allowed Disruptions",
            "integer",
            "Calculated number of pods that may be disrupted at this time.",
            |cx| columns::count(cx, "status.disruptionsAllowed"),
        ),
        columns::AGE,
    ],
    validate: |object, causes| {
        let spec = Field::root(object).at("spec");
        let both = ["minAvailable", "maxUnavailable"].map(|name| spec.at(name));
        if both.iter().all(Field::is_set) {
            causes.push(spec.invalid("minAvailable and maxUnavailable cannot be both set"));
        }
        for field in both.iter().filter(|f| f.is_set()) {
            count_or_percent(field, causes);
            at_most_all(field, causes);
        }
        label_selector(&spec.at("selector"), causes);
        let policies = ["AlwaysAllow", "IfHealthyBudget"];
        spec.at("unhealthyPodEvictionPolicy").if_one_of(causes, &policies);
    },
    validate_status: |new, _, causes| {
        let status = Field::root(new).at("status");
        crate::validate::status::conditions(&status.at("conditions"), causes);
        for name in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
            status.at(name).not_negative(causes);
        }
    },
    ..ROW
};

pub(super) static QUOTAS: Row = Row {
    returns_deleted: true,
    columns: &[
        columns::NAME,
        columns::column("Request", "string", "What is used of what may be requested.", |cx| {
            used(cx, false)
        }),
        columns::column("Limit", "string", "What is used of what limits may add up to.", |cx| {
            used(cx, true)
        }),
        columns::AGE,
    ],
    validate: |object, causes| {
        let spec = Field::root(object).at("spec");
        for (name, value) in spec.at("hard").entries() {
            quota_resource(name, &value, causes);
        }
        quota_scopes(&spec, causes);
        if spec.at("scopeSelector").is_set() {
            quota_selector(&spec, causes);
        }
    },
    validate_update: |new, old, causes| {
        let scopes = |quota: &Value| -> BTreeSet<String> {
            let list = json::list(quota, "spec.scopes").iter();
            list.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        if scopes(new) != scopes(old) {
            causes.push(Field::root(new).at("spec.scopes").invalid("field is immutable"));
        }
    },
    validate_status: |new, _, causes| {
        for list in ["status.hard", "status.used"] {
            for (name, value) in Field::root(new).at(list).entries() {
                quota_resource(name, &value, causes);
            }
        }
    },
    ..ROW
};

pub(super) static LIMIT_RANGES: Row = Row {
    create_on_update: true,
    validate: limit_range,
    ..ROW
};

fn count_text(cx: &CellContext<'_>, path: &str) -> Value {
    match json::get(cx.object, path) {
        None => "N/A".into(),
        Some(Value::String(text)) => text.as_str().into(),
        Some(other) => other.to_string().into(),
    }
}

fn used(cx: &CellContext<'_>, limits: bool) -> Value {
    let used = json::get(cx.object, "status.used");
    let shown = |name: &str, hard: &Value| {
        let amount = used.and_then(|u| u.get(name)).and_then(Value::as_str).unwrap_or("0");
        format!("{name}: {amount}/{}", hard.as_str().unwrap_or(""))
    };
    let hard = json::members(cx.object, "status.hard").filter(|(name, _)| name.starts_with("limits.") == limits);
    let texts: Vec<String> = hard.map(|(name, value)| shown(name, value)).collect();
    texts.join(", ").into()
}

fn quota_resource(name: &str, value: &Field<'_>, causes: &mut Causes) {
    let counted = name.starts_with("count/") && names::qualified_name(&name.replacen('/', ".", 1)).is_empty();
    let classed = name.contains(".storageclass.storage.k8s.io/");
    if !counted && !classed {
        resource_name(name, value, causes);
    }
    amount(name, value, causes);
}

const SCOPES: &[&str] = &[
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];

/// Whether a scope can be of a resource that quotas know by name.
fn scope_fits(scope: &str, resource: &str) -> bool {
    const COMPUTE: &[&str] = &[
        "cpu",
        "memory",
        "limits.cpu",
        "limits.memory",
        "requests.cpu",
        "requests.memory",
    ];
    match scope {
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => matches!(resource, "persistentvolumeclaims" | "requests.storage"),
        _ if SCOPES.contains(&scope) => resource == "pods" || COMPUTE.contains(&resource),
        _ => true,
    }
}

fn standard_resources<'v>(spec: &Field<'v>) -> Vec<&'v str> {
    let names = spec.at("hard").entries().map(|(name, _)| name);
    names.filter(|name| is_standard_quota_resource(name)).collect()
}

fn conflicting(has: impl Fn(&str) -> bool) -> usize {
    let pairs = [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")];
    pairs.iter().filter(|(a, b)| has(a) && has(b)).count()
}

fn quota_scopes(spec: &Field<'_>, causes: &mut Causes) {
    let list = spec.at("scopes");
    let resources = standard_resources(spec);
    for scope in list.items() {
        if !SCOPES.contains(&scope.text()) {
            causes.push(list.invalid("unsupported scope"));
        }
        for _ in resources.iter().filter(|name| !scope_fits(scope.text(), name)) {
            causes.push(list.invalid("unsupported scope applied to resource"));
        }
    }
    for _ in 0..conflicting(|name| list.items().any(|s| s.text() == name)) {
        causes.push(list.invalid("conflicting scopes"));
    }
}

fn quota_selector(spec: &Field<'_>, causes: &mut Causes) {
    let list = spec.at("scopeSelector.matchExpressions");
    let resources = standard_resources(spec);
    for entry in list.items() {
        // Upstream names the list.
        let at = |name: &str| entry.at(name).named(format!("{}.{name}", list.path()));
        let (scope, operator, values) = (at("scopeName"), at("operator"), at("values"));
        if !SCOPES.contains(&scope.text()) {
            causes.push(scope.invalid_as(scope.text(), "unsupported scope"));
        }
        for _ in resources.iter().filter(|name| !scope_fits(scope.text(), name)) {
            causes.push(list.invalid_shown(go_selector(&list), "unsupported scope applied to resource"));
        }
        let valued = matches!(scope.text(), "PriorityClass" | "VolumeAttributesClass");
        if SCOPES.contains(&scope.text()) && !valued && operator.text() != "Exists" {
            let why = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            causes.push(operator.invalid_as(operator.text(), why));
        }
        match operator.text() {
            "In" | "NotIn" if values.is_empty() => causes.push(
                values.required("must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"),
            ),
            "Exists" | "DoesNotExist" if !values.is_empty() => causes.push(
                values.invalid("must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"),
            ),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => causes.push(operator.invalid_as(other, "not a valid selector operator")),
        }
    }
    for _ in 0..conflicting(|name| list.items().any(|e| e.at("scopeName").text() == name)) {
        causes.push(
            spec.at("scopes")
                .invalid_as(spec.at("scopes").value().clone(), "conflicting scopes"),
        );
    }
}

/// A scope selector as upstream prints it: by Go's names.
fn go_selector(list: &Field<'_>) -> String {
    let entry = |entry: Field<'_>| {
        let text = |name: &str| Value::from(entry.at(name).text());
        format!(
            "{{\"ScopeName\":{},\"Operator\":{},\"Values\":{}}}",
            text("scopeName"),
            text("operator"),
            entry.at("values").value()
        )
    };
    let entries: Vec<String> = list.items().map(entry).collect();
    format!("{{\"MatchExpressions\":[{}]}}", entries.join(","))
}

fn limit_range(object: &Value, causes: &mut Causes) {
    let mut seen = Vec::new();
    for (i, limit) in Field::root(object).at("spec.limits").items().enumerate() {
        let limit = limit.named(format!("spec.limits[{i}]"));
        let kind = limit.at("type");
        let problems = names::qualified_name(kind.text());
        causes.extend(problems.iter().map(|why| kind.invalid_as(kind.text(), why)));
        if seen.contains(&kind.text()) {
            causes.push(kind.duplicate());
        }
        seen.push(kind.text());
        for list in ["max", "min", "default", "defaultRequest"] {
            for (name, value) in limit.at(list).entries() {
                resource_name(name, &value, causes);
            }
            if kind.text() == "Pod" && list.starts_with("default") && !limit.at(list).is_empty() {
                causes.push(limit.at(list).forbidden("may not be specified when `type` is 'Pod'"));
            }
        }
        let (least, most) = (limit.at("min"), limit.at("max"));
        for (name, value) in least.entries() {
            let (Some(low), Some(high)) = (value.quantity(), most.key(name).quantity()) else {
                continue;
            };
            if low > high {
                let why = format!("min value {low} is greater than max value {high}");
                causes.push(value.invalid_as(low.to_string(), why));
            }
        }
        for (name, value) in limit.at("defaultRequest").entries() {
            let (Some(request), Some(default)) = (value.quantity(), limit.at("default").key(name).quantity()) else {
                continue;
            };
            if request > default {
                let why = format!("default request value {request} is greater than default limit value {default}");
                causes.push(value.invalid_as(request.to_string(), why));
            }
        }
    }
}
