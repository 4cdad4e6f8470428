//! Kinds that are served in a version other than the stored one.

use crate::json;
use serde_json::{Value, json};
use strata_schema::KindInfo;

/// Changes a value in place from one version to the other. apiVersion and kind are the caller's.
pub(crate) struct Conversion {
    /// Stored to served.
    pub(crate) from_stored: fn(&mut Value),
    /// Served to stored.
    pub(crate) to_stored: fn(&mut Value),
}

static EVENT: Conversion = Conversion {
    from_stored: |value| {
        rename(value, EVENT_MEMBERS.iter().map(|(core, event)| (*core, *event)));
        for member in ["reportingController", "reportingInstance"] {
            if json::text(value, member).is_empty() {
                json::remove(value, member);
            }
        }
    },
    to_stored: |value| rename(value, EVENT_MEMBERS.iter().map(|(core, event)| (*event, *core))),
};

/// core/v1 Event and events.k8s.io/v1 Event name the same things differently.
const EVENT_MEMBERS: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn rename<'a>(value: &mut Value, pairs: impl Iterator<Item = (&'a str, &'a str)>) {
    let Some(map) = value.as_object_mut() else { return };
    for (from, to) in pairs {
        if let Some(member) = map.remove(from) {
            map.insert(to.to_owned(), member);
        }
    }
}

static AUTOSCALER_V1: Conversion = Conversion {
    from_stored: autoscaler_to_v1,
    to_stored: autoscaler_from_v1,
};

fn is_cpu_utilization(metric: &Value) -> bool {
    json::text(metric, "type") == "Resource" && json::text(metric, "resource.name") == "cpu"
}

fn autoscaler_to_v1(value: &mut Value) {
    for (list, path, from, to) in [
        (
            "spec.metrics",
            "resource.target.averageUtilization",
            "spec",
            "targetCPUUtilizationPercentage",
        ),
        (
            "status.currentMetrics",
            "resource.current.averageUtilization",
            "status",
            "currentCPUUtilizationPercentage",
        ),
    ] {
        let percent = json::list(value, list)
            .iter()
            .find(|m| is_cpu_utilization(m))
            .and_then(|m| json::int(m, path));
        if let Some(percent) = percent {
            json::set(value, &format!("{from}.{to}"), percent);
        }
        json::remove(value, list);
    }
    json::remove(value, "spec.behavior");
    json::remove(value, "status.conditions");
}

fn autoscaler_from_v1(value: &mut Value) {
    // Without any target it is 80 %, as v2 defaults it.
    let percent = json::remove(value, "spec.targetCPUUtilizationPercentage").unwrap_or_else(|| json!(80));
    if let Value::Number(percent) = percent {
        let target = json!({"type": "Utilization", "averageUtilization": percent});
        json::set(
            value,
            "spec.metrics",
            json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}]),
        );
    }
    if let Some(Value::Number(percent)) = json::remove(value, "status.currentCPUUtilizationPercentage") {
        let current = json!({"averageUtilization": percent});
        json::set(
            value,
            "status.currentMetrics",
            json!([{"type": "Resource", "resource": {"name": "cpu", "current": current}}]),
        );
    }
}

/// The conversion of a kind that is stored as another version.
pub(crate) fn conversion_for(kind: &KindInfo) -> Option<&'static Conversion> {
    if kind.storage == (kind.group, kind.version) {
        return None;
    }
    match kind.kind {
        "Event" => Some(&EVENT),
        "HorizontalPodAutoscaler" => Some(&AUTOSCALER_V1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions_come_back_to_where_they_began() {
        let stored = json!({"involvedObject": {"kind": "Pod"}, "message": "m", "count": 2, "reason": "r"});
        let mut event = stored.clone();
        (EVENT.from_stored)(&mut event);
        assert_eq!(
            event,
            json!({"regarding": {"kind": "Pod"}, "note": "m", "deprecatedCount": 2, "reason": "r"})
        );
        (EVENT.to_stored)(&mut event);
        assert_eq!(event, stored);

        let mut scaler = json!({"spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50}});
        (AUTOSCALER_V1.to_stored)(&mut scaler);
        assert_eq!(json::list(&scaler, "spec.metrics").len(), 1);
        (AUTOSCALER_V1.from_stored)(&mut scaler);
        assert_eq!(
            scaler,
            json!({"spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50}})
        );
    }
}
