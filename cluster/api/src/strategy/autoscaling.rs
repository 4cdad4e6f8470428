//! HorizontalPodAutoscaler, as stored in v2 (k8s.io/kubernetes/pkg/apis/autoscaling/validation).

use super::{
    Causes, CellContext, columns,
    row::{ROW, Row},
};
use crate::{
    json,
    validate::{Field, pod::container_resource_name},
};
use serde_json::Value;
use strata_meta::names;

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
    validate_create: |object, causes| {
        let spec = Field::root(object).at("spec");
        autoscaler(&spec, scales_core(&spec), causes);
    },
    validate_update: |new, old, causes| {
        let (spec, was) = (Field::root(new).at("spec"), Field::root(old).at("spec"));
        let same = |name: &str| spec.at("scaleTargetRef").at(name).text() == was.at("scaleTargetRef").at(name).text();
        let group = (!same("apiVersion") || !same("kind"))
            .then(|| scales_core(&spec))
            .flatten();
        autoscaler(&spec, group, causes);
    },
    validate_status: |new, _, causes| {
        for name in ["currentReplicas", "desiredReplicas"] {
            Field::root(new).at("status").at(name).not_negative(causes);
        }
    },
    ..ROW
};

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

/// Whether the target may be of the core group: its only kind that scales.
fn scales_core(spec: &Field<'_>) -> Option<bool> {
    Some(spec.at("scaleTargetRef.kind").text() == "ReplicationController")
}

/// A reference to what is scaled or measured; `core` says whether the core group is allowed, or
/// that nobody looks at the group.
fn reference(target: &Field<'_>, core: Option<bool>, causes: &mut Causes) {
    for name in ["kind", "name"] {
        target.at(name).needs_text(causes, names::path_segment);
    }
    let (version, Some(core)) = (target.at("apiVersion"), core) else {
        return;
    };
    let text = version.text();
    if text.matches('/').count() > 1 {
        let why = format!("unexpected GroupVersion string: {text}");
        causes.push(version.invalid_as(text, why));
    } else if !core && text.split_once('/').is_none_or(|(group, _)| group.is_empty()) {
        causes.push(version.invalid_as(text, "apiVersion must specify API group"));
    }
}

fn autoscaler(spec: &Field<'_>, core: Option<bool>, causes: &mut Causes) {
    let (least, most) = (spec.at("minReplicas"), spec.at("maxReplicas"));
    if least.int().is_some_and(|n| n < 1) {
        causes.push(least.invalid("must be greater than or equal to 1"));
    }
    let number = most.int().unwrap_or(0);
    match number {
        0 => causes.push(most.required("must be set and greater than 0")),
        n if n < 0 => causes.push(most.invalid("must be greater than or equal to 1")),
        _ => {}
    }
    if least.int().is_some_and(|n| number < n) {
        causes.push(most.invalid_as(number, "must be greater than or equal to `minReplicas`"));
    }
    reference(&spec.at("scaleTargetRef"), core, causes);
    let metrics = spec.at("metrics");
    for metric in metrics.items() {
        metric_spec(&metric, causes);
    }
    let from_outside = |m: Field<'_>| matches!(m.at("type").text(), "Object" | "External");
    if least.int() == Some(0) && !metrics.items().any(from_outside) {
        let why = "must specify at least one Object or External metric to support scaling to zero replicas";
        causes.push(metrics.forbidden(why));
    }
    for rules in ["scaleUp", "scaleDown"] {
        let rules = spec.at("behavior").at(rules);
        if rules.is_set() {
            scaling_rules(&rules, causes);
        }
    }
}

type Check = fn(&Field<'_>, &mut Causes);

/// Kinds of metric: the type, the member that describes it, and its rules.
const METRICS: &[(&str, &str, Check)] = &[
    ("Object", "object", |source, causes| {
        reference(&source.at("describedObject"), Some(true), causes);
        measured(source, causes);
        needs_either(source, "must set either a target value or averageValue", causes);
    }),
    ("External", "external", |source, causes| {
        measured(source, causes);
        needs_either(
            source,
            "must set either a target value for metric or a per-pod target",
            causes,
        );
        let value = source.at("target.value");
        if value.is_set() && source.at("target.averageValue").is_set() {
            causes.push(value.forbidden("may not set both a target value for metric and a per-pod target"));
        }
    }),
    ("Pods", "pods", |source, causes| {
        measured(source, causes);
        let average = source.at("target.averageValue");
        if !average.is_set() {
            causes.push(average.required("must specify a positive target averageValue"));
        }
    }),
    ("Resource", "resource", |source, causes| {
        if source.at("name").is_empty() {
            causes.push(source.at("name").required("must specify a resource name"));
        }
        utilization(source, causes);
    }),
    ("ContainerResource", "containerResource", |source, causes| {
        let (name, container) = (source.at("name"), source.at("container"));
        if name.is_empty() {
            causes.push(name.required("must specify a resource name"));
        } else {
            container_resource_name(name.text(), &name, causes);
        }
        if container.is_empty() {
            causes.push(container.required("must specify a container"));
        } else {
            container.problems(causes, names::dns1123_label(container.text()));
        }
        utilization(source, causes);
    }),
];

fn metric_spec(metric: &Field<'_>, causes: &mut Causes) {
    const TYPES: &[&str] = &["ContainerResource", "External", "Object", "Pods", "Resource"];
    let kind = metric.at("type");
    if kind.is_empty() {
        causes.push(kind.required("must specify a metric source type"));
    }
    let known = TYPES.contains(&kind.text());
    if !known {
        causes.push(kind.not_supported(TYPES));
    }
    let given: Vec<_> = METRICS
        .iter()
        .filter(|(_, member, _)| metric.at(member).is_set())
        .collect();
    if let Some((_, member, rules)) = given.first() {
        rules(&metric.at(member), causes);
    }
    match METRICS.iter().find(|(name, ..)| *name == kind.text()) {
        Some((_, member, _)) if !metric.at(member).is_set() => {
            let why = "must populate information for the given metric source";
            causes.push(metric.at(member).required(why));
        }
        Some(_) => {}
        None => causes.push(kind.not_supported(TYPES)),
    }
    if given.len() != 1 {
        for (_, member, _) in given.iter().filter(|(name, ..)| *name != kind.text()) {
            causes.push(
                metric
                    .at(member)
                    .forbidden("must populate the given metric source only"),
            );
        }
    }
}

fn measured(source: &Field<'_>, causes: &mut Causes) {
    let name = source.at("metric.name");
    if name.is_empty() {
        causes.push(name.required("must specify a metric name"));
    } else {
        name.problems(causes, names::path_segment(name.text()));
    }
    metric_target(&source.at("target"), causes);
}

fn metric_target(target: &Field<'_>, causes: &mut Causes) {
    let kind = target.at("type");
    if kind.is_empty() {
        causes.push(kind.required("must specify a metric target type"));
    }
    if !matches!(kind.text(), "Utilization" | "Value" | "AverageValue") {
        causes.push(kind.invalid_as(kind.text(), "must be either Utilization, Value, or AverageValue"));
    }
    for name in ["value", "averageValue"] {
        let amount = target.at(name);
        if let Some(quantity) = amount.quantity().filter(|q| q.is_negative() || q.is_zero()) {
            causes.push(amount.invalid_as(quantity.to_string(), "must be positive"));
        }
    }
    let percent = target.at("averageUtilization");
    if percent.int().is_some_and(|n| n < 1) {
        causes.push(percent.invalid("must be greater than 0"));
    }
}

fn needs_either(source: &Field<'_>, why: &str, causes: &mut Causes) {
    if !source.at("target.value").is_set() && !source.at("target.averageValue").is_set() {
        causes.push(source.at("target.averageValue").required(why));
    }
}

fn utilization(source: &Field<'_>, causes: &mut Causes) {
    metric_target(&source.at("target"), causes);
    let (percent, value) = (source.at("target.averageUtilization"), source.at("target.averageValue"));
    match (percent.is_set(), value.is_set()) {
        (false, false) => {
            causes.push(percent.required("must set either a target raw value or a target utilization"));
        }
        (true, true) => {
            causes.push(value.forbidden("may not set both a target raw value and a target utilization"));
        }
        _ => {}
    }
}

fn scaling_rules(rules: &Field<'_>, causes: &mut Causes) {
    let window = rules.at("stabilizationWindowSeconds");
    match window.int() {
        Some(n) if n < 0 => causes.push(window.invalid("must be greater than or equal to zero")),
        Some(n) if n > 3600 => causes.push(window.invalid("must be less than or equal to 3600")),
        _ => {}
    }
    rules.at("selectPolicy").if_one_of(causes, &["Disabled", "Max", "Min"]);
    let policies = rules.at("policies");
    if policies.is_empty() {
        causes.push(policies.required("must specify at least one Policy"));
    }
    for policy in policies.items() {
        let kind = policy.at("type");
        if !matches!(kind.text(), "Pods" | "Percent") {
            causes.push(kind.not_supported(&["Percent", "Pods"]));
        }
        for name in ["value", "periodSeconds"] {
            let number = policy.at(name);
            let n = number.int().unwrap_or(0);
            if n <= 0 {
                causes.push(number.invalid_as(n, "must be greater than zero"));
            }
            if name == "periodSeconds" && n > 1800 {
                causes.push(number.invalid("must be less than or equal to 1800"));
            }
        }
    }
    let tolerance = rules.at("tolerance");
    if let Some(amount) = tolerance.quantity().filter(|q| q.is_negative()) {
        causes.push(tolerance.invalid_as(amount.to_string(), "must be greater than or equal to 0"));
    }
}
