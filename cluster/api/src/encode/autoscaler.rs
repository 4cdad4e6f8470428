//! autoscaling/v1 of a HorizontalPodAutoscaler: what only v2 has fields for is kept in annotations, in upstream's form,
//! so that a client of v1 that reads and writes an object loses nothing of it.

use super::conversion::Conversion;
use crate::json;
use serde_json::{Map, Value, json};
use strata_meta::GroupVersionKind;

pub(super) static V1: Conversion = Conversion {
    from_stored: to_v1,
    to_stored: from_v1,
    settles: true,
};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
/// All that conversion drops.
const ANNOTATIONS: [&str; 6] = [
    METRICS,
    CURRENT,
    CONDITIONS,
    BEHAVIOR,
    "autoscaling.alpha.kubernetes.io/scale-down-tolerance",
    "autoscaling.alpha.kubernetes.io/scale-up-tolerance",
];
/// What v2 and v1 call the member of each type of metric.
const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
    ("External", "external"),
];
/// Percent of the CPU without any target, as v2 defaults it.
const DEFAULT: i64 = 80;

/// Members in an order, as Go writes a struct; those without a value are left out.
struct Ordered(String);

impl Ordered {
    fn new() -> Self {
        Self(String::new())
    }

    fn with(mut self, name: &str, text: Option<String>) -> Self {
        if let Some(text) = text {
            if !self.0.is_empty() {
                self.0.push(',');
            }
            self.0.push_str(&format!("\"{name}\":{text}"));
        }
        self
    }

    fn text(self) -> String {
        format!("{{{}}}", self.0)
    }
}

fn listed(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

fn member(of: &Value, path: &str) -> Option<String> {
    json::get(of, path)
        .filter(|value| !value.is_null())
        .map(Value::to_string)
}

/// A member that is always shown.
fn shown(of: &Value, path: &str, otherwise: &str) -> Option<String> {
    Some(member(of, path).unwrap_or_else(|| otherwise.to_owned()))
}

fn selector(of: &Value) -> Option<String> {
    let selector = json::get(of, "metric.selector")?;
    let terms = json::get(selector, "matchExpressions").and_then(Value::as_array);
    let terms = terms.map(|terms| {
        listed(terms.iter().map(|term| {
            let term = |name: &str| member(term, name);
            let ordered = Ordered::new()
                .with("key", term("key"))
                .with("operator", term("operator"));
            ordered.with("values", term("values")).text()
        }))
    });
    let ordered = Ordered::new().with("matchLabels", member(selector, "matchLabels"));
    Some(ordered.with("matchExpressions", terms).text())
}

fn described(of: &Value) -> Option<String> {
    let at = |name: &str| member(of, &format!("describedObject.{name}"));
    let ordered = Ordered::new()
        .with("kind", shown(of, "describedObject.kind", "\"\""))
        .with("name", shown(of, "describedObject.name", "\"\""));
    Some(ordered.with("apiVersion", at("apiVersion")).text())
}

/// A metric of v2, wanted or current, as v1 writes it. `at` is where v2 has the value, `word` what v1 puts before it.
fn metric_text(metric: &Value, (at, word): (&str, &str)) -> String {
    const NOTHING: &str = "\"0\"";
    let is_current = at == "current";
    let value = |of: &Value, name: &str| member(of, &format!("{at}.{name}"));
    let certain = |of: &Value, name: &str| shown(of, &format!("{at}.{name}"), NOTHING);
    let when_current = |of: &Value, name: &str| if is_current { certain(of, name) } else { value(of, name) };
    let name = |of: &Value| shown(of, "metric.name", "\"\"");
    let source = |kind: &str, of: &Value| match kind {
        "object" => Ordered::new()
            .with("target", described(of))
            .with("metricName", name(of))
            .with(&format!("{word}Value"), certain(of, "value"))
            .with("selector", selector(of))
            .with("averageValue", value(of, "averageValue")),
        "pods" => Ordered::new()
            .with("metricName", name(of))
            .with(&format!("{word}AverageValue"), certain(of, "averageValue"))
            .with("selector", selector(of)),
        "external" => Ordered::new()
            .with("metricName", name(of))
            .with("metricSelector", selector(of))
            .with(&format!("{word}Value"), when_current(of, "value"))
            .with(&format!("{word}AverageValue"), value(of, "averageValue")),
        _ => {
            let container = (kind == "containerResource").then(|| shown(of, "container", "\"\""));
            Ordered::new()
                .with("name", shown(of, "name", "\"\""))
                .with(&format!("{word}AverageUtilization"), value(of, "averageUtilization"))
                .with(&format!("{word}AverageValue"), when_current(of, "averageValue"))
                .with("container", container.flatten())
        }
    };
    let mut ordered = Ordered::new().with("type", shown(metric, "type", "\"\""));
    for (_, kind) in SOURCES {
        ordered = ordered.with(kind, json::get(metric, kind).map(|of| source(kind, of).text()));
    }
    ordered.text()
}

/// A metric that v1 wrote, as v2 has it.
fn metric_of(text: &Value, (at, word): (&str, &str)) -> Value {
    let is_current = at == "current";
    let mut metric = json!({"type": json::text(text, "type")});
    for (_, kind) in SOURCES {
        let Some(of) = json::get(text, kind) else { continue };
        let take = |name: &str| json::get(of, name).cloned();
        let mut value = Map::new();
        let mut put = |name: &str, found: Option<Value>| drop(found.map(|found| value.insert(name.to_owned(), found)));
        let (plain, average) = (take(&format!("{word}Value")), take(&format!("{word}AverageValue")));
        let target = match kind {
            "object" => {
                let average = take("averageValue");
                let is_zero = plain.as_ref().is_some_and(|plain| plain == "0");
                let kind = if average.is_none() { "Value" } else { "AverageValue" };
                put("value", plain.filter(|_| is_current || average.is_none() || !is_zero));
                put("averageValue", average);
                kind
            }
            "pods" => {
                put("averageValue", average);
                "AverageValue"
            }
            "external" => {
                let kind = if plain.is_none() { "AverageValue" } else { "Value" };
                put("value", plain);
                put("averageValue", average);
                kind
            }
            _ => {
                let percent = take(&format!("{word}AverageUtilization"));
                let kind = if percent.is_none() {
                    "AverageValue"
                } else {
                    "Utilization"
                };
                put("averageValue", average);
                put("averageUtilization", percent);
                kind
            }
        };
        if !is_current {
            put("type", Some(json!(target)));
        }
        let mut source = json!({ at: value });
        if kind.ends_with("esource") {
            for name in ["name", "container"] {
                if let Some(found) = take(name) {
                    source[name] = found;
                }
            }
        } else {
            source["metric"] = json!({"name": json::text(of, "metricName")});
            let selector = take("selector").or_else(|| take("metricSelector"));
            if let Some(selector) = selector {
                source["metric"]["selector"] = selector;
            }
            if kind == "object" {
                source["describedObject"] = take("target").unwrap_or_else(|| json!({}));
            }
        }
        metric[kind] = source;
    }
    metric
}

const WANTED: (&str, &str) = ("target", "target");
const SEEN: (&str, &str) = ("current", "current");

fn is_cpu(metric: &Value) -> bool {
    json::text(metric, "type") == "Resource" && json::text(metric, "resource.name") == "cpu"
}

fn cpu_percent(metric: &Value, at: &str) -> Option<i64> {
    let percent = json::int(metric, &format!("resource.{at}.averageUtilization"));
    percent.filter(|_| is_cpu(metric))
}

/// Behaviour as upstream writes down its own type.
fn behavior_text(behavior: &Value) -> String {
    let rules = |name: &str| match json::get(behavior, name) {
        None => "null".to_owned(),
        Some(rules) => {
            let policies = json::get(rules, "policies").and_then(Value::as_array).map(|list| {
                listed(list.iter().map(|policy| {
                    let ordered = Ordered::new().with("Type", shown(policy, "type", "\"\""));
                    let ordered = ordered.with("Value", shown(policy, "value", "0"));
                    ordered
                        .with("PeriodSeconds", shown(policy, "periodSeconds", "0"))
                        .text()
                }))
            });
            Ordered::new()
                .with(
                    "StabilizationWindowSeconds",
                    shown(rules, "stabilizationWindowSeconds", "null"),
                )
                .with("SelectPolicy", shown(rules, "selectPolicy", "null"))
                .with("Policies", Some(policies.unwrap_or_else(|| "null".to_owned())))
                .with("Tolerance", shown(rules, "tolerance", "null"))
                .text()
        }
    };
    let ordered = Ordered::new().with("ScaleUp", Some(rules("scaleUp")));
    ordered.with("ScaleDown", Some(rules("scaleDown"))).text()
}

/// The other way round. Go reads names of members in any case.
fn uncapitalised(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            const NAMES: [&str; 9] = [
                "scaleUp",
                "scaleDown",
                "stabilizationWindowSeconds",
                "selectPolicy",
                "policies",
                "tolerance",
                "type",
                "value",
                "periodSeconds",
            ];
            let named = members.into_iter().filter(|(_, member)| !member.is_null());
            let named = named.filter_map(|(name, member)| {
                let known = NAMES.iter().find(|known| known.eq_ignore_ascii_case(&name))?;
                Some(((*known).to_owned(), uncapitalised(member)))
            });
            Value::Object(named.collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(uncapitalised).collect()),
        other => other,
    }
}

fn take_annotations(value: &mut Value) -> Vec<(&'static str, String)> {
    let Some(Value::Object(annotations)) = value.pointer_mut("/metadata/annotations") else {
        return Vec::new();
    };
    let taken = ANNOTATIONS
        .into_iter()
        .filter_map(|name| match annotations.remove(name)? {
            Value::String(text) => Some((name, text)),
            _ => None,
        });
    let taken = taken.collect();
    if annotations.is_empty() {
        json::remove(value, "metadata.annotations");
    }
    taken
}

fn to_v1(value: &mut Value) {
    take_annotations(value);
    let metrics = json::list(value, "spec.metrics");
    let percent = metrics.iter().find_map(|metric| cpu_percent(metric, "target"));
    let others: Vec<_> = metrics
        .iter()
        .filter(|metric| cpu_percent(metric, "target").is_none())
        .collect();
    let others = (!others.is_empty()).then(|| listed(others.into_iter().map(|metric| metric_text(metric, WANTED))));
    let current = json::list(value, "status.currentMetrics");
    let current_percent = current.iter().rev().find_map(|metric| cpu_percent(metric, "current"));
    let current = (!current.is_empty()).then(|| listed(current.iter().map(|metric| metric_text(metric, SEEN))));
    let conditions = json::list(value, "status.conditions");
    let conditions = (!conditions.is_empty()).then(|| {
        listed(conditions.iter().map(|condition| {
            let of = |name: &str| member(condition, name);
            Ordered::new()
                .with("type", shown(condition, "type", "\"\""))
                .with("status", shown(condition, "status", "\"\""))
                .with("lastTransitionTime", shown(condition, "lastTransitionTime", "null"))
                .with("reason", of("reason"))
                .with("message", of("message"))
                .text()
        }))
    });
    let behavior = json::get(value, "spec.behavior").map(behavior_text);
    for path in [
        "spec.metrics",
        "spec.behavior",
        "status.currentMetrics",
        "status.conditions",
    ] {
        json::remove(value, path);
    }
    for (name, text) in [
        (METRICS, others),
        (CURRENT, current),
        (CONDITIONS, conditions),
        (BEHAVIOR, behavior),
    ] {
        if let Some(text) = text {
            let metadata = json::object_mut(value, "metadata");
            let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
            annotations[name] = Value::String(text);
        }
    }
    if let Some(percent) = percent {
        json::set(value, "spec.targetCPUUtilizationPercentage", percent);
    }
    if json::get(value, "status").is_some() {
        if let Some(percent) = current_percent {
            json::set(value, "status.currentCPUUtilizationPercentage", percent);
        }
        json::set_default(value, "status.currentReplicas", 0);
        json::set_default(value, "status.desiredReplicas", 0);
    }
}

/// What an annotation says, if v2 has it in that form at a path.
fn believed(path: &str, text: &str, read: impl Fn(Value) -> Value) -> Option<Value> {
    let said = read(serde_json::from_str(text).ok()?);
    let mut whole = json!({});
    json::set(&mut whole, path, said);
    strata_schema::normalise(&v2(), &mut whole).ok()?;
    json::get(&whole, path).cloned()
}

fn v2() -> GroupVersionKind {
    GroupVersionKind::new("autoscaling", "v2", "HorizontalPodAutoscaler")
}

fn from_v1(value: &mut Value) {
    let kept = take_annotations(value);
    let text = |name: &str| {
        kept.iter()
            .find(|(found, _)| *found == name)
            .map(|(_, text)| text.as_str())
    };
    let read_all = |said: Value, way| match said {
        Value::Array(list) => list.iter().map(|metric| metric_of(metric, way)).collect(),
        other => other,
    };
    let cpu = |at: &str, value: Value| json!({"type": "Resource", "resource": {"name": "cpu", at: value}});
    let mut metrics = match text(METRICS).and_then(|t| believed("spec.metrics", t, |said| read_all(said, WANTED))) {
        Some(Value::Array(metrics)) => metrics,
        _ => Vec::new(),
    };
    let percent = json::remove(value, "spec.targetCPUUtilizationPercentage");
    let percent = percent.or_else(|| metrics.is_empty().then(|| json!(DEFAULT)));
    if let Some(Value::Number(percent)) = percent {
        metrics.push(cpu(
            "target",
            json!({"type": "Utilization", "averageUtilization": percent}),
        ));
    }
    json::set(value, "spec.metrics", metrics);
    if let Some(behavior) = text(BEHAVIOR).and_then(|t| believed("spec.behavior", t, uncapitalised))
        && behavior.as_object().is_some_and(|members| !members.is_empty())
    {
        json::set(value, "spec.behavior", behavior);
    }
    let percent = json::remove(value, "status.currentCPUUtilizationPercentage");
    let current = text(CURRENT).and_then(|t| believed("status.currentMetrics", t, |said| read_all(said, SEEN)));
    if let Some(current) = current {
        json::set(value, "status.currentMetrics", current);
    } else if let Some(Value::Number(percent)) = percent {
        let current = [cpu("current", json!({"averageUtilization": percent}))];
        json::set(value, "status.currentMetrics", json!(current));
    }
    if let Some(conditions) = text(CONDITIONS).and_then(|t| believed("status.conditions", t, |said| said)) {
        json::set(value, "status.conditions", conditions);
    }
    settle(value);
}

/// Brings it into the form of v2; what it says it is stays.
fn settle(value: &mut Value) {
    let stated = ["apiVersion", "kind"].map(|name| (name, value.get(name).cloned()));
    let mut settled = value.clone();
    if strata_schema::normalise(&v2(), &mut settled).is_ok() {
        *value = settled;
        for (name, text) in stated {
            match text {
                Some(text) => value[name] = text,
                None => drop(json::remove(value, name)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored() -> Value {
        json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "h", "annotations": {"mine": "kept"}},
            "spec": {
                "scaleTargetRef": {"kind": "Deployment", "name": "d"}, "maxReplicas": 3,
                "metrics": [
                    {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "100Mi"}}},
                    {"type": "Object", "object": {"describedObject": {"kind": "Service", "name": "s"},
                        "metric": {"name": "q", "selector": {"matchLabels": {"a": "b"}}}, "target": {"type": "Value", "value": "5"}}},
                    {"type": "External", "external": {"metric": {"name": "e"}, "target": {"type": "AverageValue", "averageValue": "2"}}},
                    {"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "c", "target": {"type": "Utilization", "averageUtilization": 7}}},
                    {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}},
                ],
                "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60, "selectPolicy": "Max",
                    "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]}},
            },
            "status": {"currentReplicas": 1, "desiredReplicas": 2,
                "currentMetrics": [{"type": "Pods", "pods": {"metric": {"name": "p"}, "current": {"averageValue": "3"}}}],
                "conditions": [{"type": "AbleToScale", "status": "True", "lastTransitionTime": "2024-01-01T00:00:00Z", "reason": "r", "message": "m"}]},
        })
    }

    #[test]
    fn nothing_is_lost_on_the_way_through_v1() {
        let mut value = stored();
        to_v1(&mut value);
        assert_eq!(value["spec"]["targetCPUUtilizationPercentage"], 50);
        assert_eq!(json::get(&value, "spec.metrics"), None);
        let annotation = |name: &str| {
            value["metadata"]["annotations"][name]
                .as_str()
                .expect("text")
                .to_owned()
        };
        assert!(annotation(METRICS).starts_with(
            r#"[{"type":"Resource","resource":{"name":"memory","targetAverageValue":"100Mi"}},{"type":"Object","object":{"target":{"kind":"Service","name":"s"},"metricName":"q","targetValue":"5","selector":{"matchLabels":{"a":"b"}}}}"#
        ));
        let rules = r#"{"ScaleUp":null,"ScaleDown":{"StabilizationWindowSeconds":60,"SelectPolicy":"Max","Policies":[{"Type":"Percent","Value":100,"PeriodSeconds":15}],"Tolerance":null}}"#;
        assert_eq!(annotation(BEHAVIOR), rules);
        from_v1(&mut value);
        let mut wanted = stored();
        settle(&mut wanted);
        assert_eq!(value, wanted);
    }

    #[test]
    fn nonsense_in_annotations_is_passed_over() {
        let mut value = json!({"metadata": {"name": "h", "annotations": {METRICS: "nonsense", BEHAVIOR: "[1]",
            CURRENT: "{\"a\": 1}", CONDITIONS: "[{\"type\": 1}]"}}, "spec": {"maxReplicas": 1}});
        from_v1(&mut value);
        assert_eq!(json::get(&value, "metadata.annotations"), None);
        let percent = "spec.metrics.0.resource.target.averageUtilization";
        let metrics = json::list(&value, "spec.metrics");
        assert_eq!(metrics.len(), 1, "{percent}");
        assert_eq!(cpu_percent(&metrics[0], "target"), Some(DEFAULT));
        assert_eq!(json::get(&value, "spec.behavior"), None);
    }
}
