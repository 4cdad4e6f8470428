//! Kinds that bound what others do: ResourceQuota, LimitRange, PodDisruptionBudget, PriorityClass,
//! HorizontalPodAutoscaler; and the small ones that are watched all the time: Lease, ServiceAccount.

use super::{
    Causes, CellContext, columns,
    row::{ROW, Row},
};
use crate::{
    json,
    validate::{
        Field,
        formats::{at_most_all, count_or_percent, label_selector},
        pod::{amount, resource_name},
    },
};
use serde_json::Value;
use strata_meta::names;

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
    validate: |object, causes| {
        let spec = Field::root(object).at("spec");
        let seconds = spec.at("leaseDurationSeconds");
        if seconds.int().is_some_and(|n| n <= 0) {
            causes.push(seconds.invalid("must be greater than 0"));
        }
        spec.at("leaseTransitions").not_negative(causes);
        let preferred = spec.at("preferredHolder");
        if !preferred.is_empty() && spec.at("strategy").is_empty() {
            causes.push(preferred.forbidden("may only be specified if `strategy` is defined"));
        }
    },
    ..ROW
};

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
        columns::wide(
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
        root.at("preemptionPolicy").if_one_of(causes, &policies);
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

pub(super) static DISRUPTION_BUDGETS: Row = Row {
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
    ..ROW
};

pub(super) static AUTOSCALERS: Row = Row {
    columns: &[
        columns::NAME,
        columns::column("Reference", "string", "What is scaled.", |cx| {
            let part = |path| json::text(cx.object, path);
            format!(
                "{}/{}",
                part("spec.scaleTargetRef.kind"),
                part("spec.scaleTargetRef.name")
            )
            .into()
        }),
        columns::column("Targets", "string", "What is measured, and what it should be.", targets),
        columns::column("MinPods", "string", "The fewest pods.", |cx| {
            match json::int(cx.object, "spec.minReplicas") {
                Some(n) => n.to_string().into(),
                None => "<unset>".into(),
            }
        }),
        columns::column("MaxPods", "string", "The most pods.", |cx| {
            columns::count(cx, "spec.maxReplicas")
        }),
        columns::column("Replicas", "string", "How many there are.", |cx| {
            columns::count(cx, "status.currentReplicas")
        }),
        columns::AGE,
    ],
    validate: autoscaler,
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
            let counted = name.starts_with("count/") && names::qualified_name(&name.replacen('/', ".", 1)).is_empty();
            let classed = name.contains(".storageclass.storage.k8s.io/");
            if !counted && !classed {
                resource_name(name, &value, causes);
            }
            amount(name, &value, causes);
        }
        let scopes = [
            "BestEffort",
            "CrossNamespacePodAffinity",
            "NotBestEffort",
            "NotTerminating",
            "PriorityClass",
            "Terminating",
            "VolumeAttributesClass",
        ];
        let list = spec.at("scopes");
        for scope in list.items().filter(|s| !scopes.contains(&s.text())) {
            let why = "unsupported scope";
            causes.push(list.named(list.path()).invalid_as(scope.text(), why));
        }
        let has = |name: &str| list.items().any(|s| s.text() == name);
        if has("BestEffort") && has("NotBestEffort") || has("Terminating") && has("NotTerminating") {
            causes.push(list.invalid("conflicting scopes"));
        }
    },
    validate_update: |new, old, causes| {
        let (now, was) = (Field::root(new), Field::root(old));
        now.at("spec.scopes").unchanged(causes, &was.at("spec.scopes"));
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

/// k8s.io/kubernetes/pkg/printers/internalversion `formatHPAMetrics`.
fn targets(cx: &CellContext<'_>) -> Value {
    const MOST: usize = 2;
    let current = json::list(cx.object, "status.currentMetrics");
    let text = |value: Option<&Value>| value.map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
    let unknown = || "<unknown>".to_owned();
    let shown = |(i, metric): (usize, &Value)| {
        let (kind, member) = match json::text(metric, "type") {
            "External" => ("", "external"),
            "Pods" => ("", "pods"),
            "Object" => ("", "object"),
            "Resource" => (json::text(metric, "resource.name"), "resource"),
            "ContainerResource" => (json::text(metric, "containerResource.name"), "containerResource"),
            _ => return "<unknown type>".to_owned(),
        };
        let target = |name: &str| json::get(metric, &format!("{member}.target.{name}"));
        let now = |name: &str| {
            text(
                current
                    .get(i)
                    .and_then(|c| json::get(c, &format!("{member}.current.{name}"))),
            )
        };
        let colon = if kind.is_empty() {
            String::new()
        } else {
            format!("{kind}: ")
        };
        if let Some(average) = text(target("averageValue")) {
            let mark = if matches!(member, "external" | "object") {
                " (avg)"
            } else {
                ""
            };
            return format!("{colon}{}/{average}{mark}", now("averageValue").unwrap_or_else(unknown));
        }
        if kind.is_empty() {
            let wanted = text(target("value")).unwrap_or_default();
            return format!("{}/{wanted}", now("value").unwrap_or_else(unknown));
        }
        let percent = |value: Option<String>| value.map(|v| format!("{v}%"));
        let wanted = percent(text(target("averageUtilization"))).unwrap_or_else(|| "<auto>".to_owned());
        format!(
            "{colon}{}/{wanted}",
            percent(now("averageUtilization")).unwrap_or_else(unknown)
        )
    };
    let texts: Vec<String> = json::list(cx.object, "spec.metrics")
        .iter()
        .enumerate()
        .map(shown)
        .collect();
    if texts.is_empty() {
        return "<none>".into();
    }
    let joined = texts[..texts.len().min(MOST)].join(", ");
    match texts.len().saturating_sub(MOST) {
        0 => joined.into(),
        more => format!("{joined} + {more} more...").into(),
    }
}

fn autoscaler(object: &Value, causes: &mut Causes) {
    let spec = Field::root(object).at("spec");
    let (least, most) = (spec.at("minReplicas"), spec.at("maxReplicas"));
    if least.int().is_some_and(|n| n < 1) {
        causes.push(least.invalid("must be greater than or equal to 1"));
    }
    let most_number = most.int().unwrap_or(0);
    if most_number < 1 {
        causes.push(most.invalid_as(most_number, "must be greater than 0"));
    }
    if least.int().is_some_and(|n| most_number < n) {
        causes.push(most.invalid_as(most_number, "must be greater than or equal to `minReplicas`"));
    }
    for name in ["kind", "name"] {
        spec.at("scaleTargetRef")
            .at(name)
            .needs_text(causes, names::path_segment);
    }
    for metric in spec.at("metrics").items() {
        let kinds = ["ContainerResource", "External", "Object", "Pods", "Resource"];
        let kind = metric.at("type");
        if kind.is_empty() {
            causes.push(kind.required("must specify a metric source type"));
            continue;
        }
        kind.if_one_of(causes, &kinds);
        let member = match kind.text() {
            "ContainerResource" => "containerResource",
            "External" => "external",
            "Object" => "object",
            "Pods" => "pods",
            _ => "resource",
        };
        let source = metric.at(member);
        if !source.is_set() {
            let why = "must populate information for the given metric source";
            causes.push(source.required(why));
        }
    }
}

fn limit_range(object: &Value, causes: &mut Causes) {
    let mut seen = Vec::new();
    for (i, limit) in Field::root(object).at("spec.limits").items().enumerate() {
        let limit = limit.named(format!("spec.limits[{i}]"));
        let kind = limit.at("type");
        kind.needs(causes);
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
