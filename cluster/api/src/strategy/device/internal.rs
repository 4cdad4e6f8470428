//! Claims as upstream's messages show them: its internal types, every member in declared order.

use serde_json::Value;

/// The members of a type: upstream's name, the name in JSON, what it is.
type Members = &'static [(&'static str, &'static str, Member)];

/// What kind of thing a member is.
#[derive(Clone, Copy)]
enum Member {
    /// Text that is never absent.
    Text,
    /// A number that is never absent.
    Number,
    /// Anything that is null where it is absent.
    Plain,
    /// A list of structs.
    List(Members),
    /// A struct that may be absent.
    Maybe(Members),
    /// A struct that is always there.
    Part(Members),
}

use Member::{List, Maybe, Number, Part, Plain, Text};

const OPAQUE: Members = &[("Driver", "driver", Text), ("Parameters", "parameters", Plain)];
const CONFIG: Members = &[("Requests", "requests", Plain), ("Opaque", "opaque", Maybe(OPAQUE))];
const CAPACITY: Members = &[("Requests", "requests", Plain)];
const TOLERATION: Members = &[
    ("Key", "key", Text),
    ("Operator", "operator", Text),
    ("Value", "value", Text),
    ("Effect", "effect", Text),
    ("TolerationSeconds", "tolerationSeconds", Plain),
];
const CEL: Members = &[("Expression", "expression", Text)];
const SELECTOR: Members = &[("CEL", "cel", Maybe(CEL))];
const EXACTLY: Members = &[
    ("DeviceClassName", "deviceClassName", Text),
    ("Selectors", "selectors", List(SELECTOR)),
    ("AllocationMode", "allocationMode", Text),
    ("Count", "count", Number),
    ("AdminAccess", "adminAccess", Plain),
    ("Tolerations", "tolerations", List(TOLERATION)),
    ("Capacity", "capacity", Maybe(CAPACITY)),
];
const CHOICE: Members = &[
    ("Name", "name", Text),
    ("DeviceClassName", "deviceClassName", Text),
    ("Selectors", "selectors", List(SELECTOR)),
    ("AllocationMode", "allocationMode", Text),
    ("Count", "count", Number),
    ("Tolerations", "tolerations", List(TOLERATION)),
    ("Capacity", "capacity", Maybe(CAPACITY)),
];
const REQUEST: Members = &[
    ("Name", "name", Text),
    ("Exactly", "exactly", Maybe(EXACTLY)),
    ("FirstAvailable", "firstAvailable", List(CHOICE)),
];
const CONSTRAINT: Members = &[
    ("Requests", "requests", Plain),
    ("MatchAttribute", "matchAttribute", Plain),
    ("DistinctAttribute", "distinctAttribute", Plain),
];
const DEVICES: Members = &[
    ("Requests", "requests", List(REQUEST)),
    ("Constraints", "constraints", List(CONSTRAINT)),
    ("Config", "config", List(CONFIG)),
];

const CLAIM_SPEC: Members = &[("Devices", "devices", Part(DEVICES))];
const TEMPLATE_SPEC: Members = &[("Spec", "spec", Part(CLAIM_SPEC))];

const RESULT: Members = &[
    ("Request", "request", Text),
    ("Driver", "driver", Text),
    ("Pool", "pool", Text),
    ("Device", "device", Text),
    ("AdminAccess", "adminAccess", Plain),
    ("Tolerations", "tolerations", List(TOLERATION)),
    ("BindingConditions", "bindingConditions", Plain),
    ("BindingFailureConditions", "bindingFailureConditions", Plain),
    ("ShareID", "shareID", Plain),
    ("ConsumedCapacity", "consumedCapacity", Plain),
];
const ALLOCATED_CONFIG: Members = &[
    ("Source", "source", Text),
    ("Requests", "requests", Plain),
    ("Opaque", "opaque", Maybe(OPAQUE)),
];
const ALLOCATED: Members = &[
    ("Results", "results", List(RESULT)),
    ("Config", "config", List(ALLOCATED_CONFIG)),
];
const REQUIREMENT: Members = &[
    ("Key", "key", Text),
    ("Operator", "operator", Text),
    ("Values", "values", Plain),
];
const TERM: Members = &[
    ("MatchExpressions", "matchExpressions", List(REQUIREMENT)),
    ("MatchFields", "matchFields", List(REQUIREMENT)),
];
const NODE_SELECTOR: Members = &[("NodeSelectorTerms", "nodeSelectorTerms", List(TERM))];

const ALLOCATION: Members = &[
    ("Devices", "devices", Part(ALLOCATED)),
    ("NodeSelector", "nodeSelector", Maybe(NODE_SELECTOR)),
    ("AllocationTimestamp", "allocationTimestamp", Plain),
];
const ATTRIBUTE: Members = &[
    ("IntValue", "int", Plain),
    ("BoolValue", "bool", Plain),
    ("StringValue", "string", Plain),
    ("VersionValue", "version", Plain),
    ("IntValues", "ints", Plain),
    ("BoolValues", "bools", Plain),
    ("StringValues", "strings", Plain),
    ("VersionValues", "versions", Plain),
];

/// The spec of a claim.
pub(super) fn claim(value: &Value) -> String {
    go_escaped(structure(value, CLAIM_SPEC))
}

/// The allocation of a claim.
pub(super) fn allocation(value: &Value) -> String {
    go_escaped(structure(value, ALLOCATION))
}

/// The value of an attribute.
pub(super) fn attribute(value: &Value) -> String {
    go_escaped(structure(value, ATTRIBUTE))
}

/// The spec of a template: what it has of metadata stands among its members.
pub(super) fn template(value: &Value) -> String {
    let metadata = ["labels", "annotations"].into_iter().filter_map(|name| {
        let found = value.get("metadata")?.get(name)?;
        found.as_object().filter(|map| !map.is_empty())?;
        Some(format!("{name:?}:{found},"))
    });
    let spec = structure(value, TEMPLATE_SPEC);
    let metadata: String = metadata.collect();
    go_escaped(format!("{{{metadata}{}", &spec[1..]))
}

/// The terms of a node selector.
pub(super) fn terms(value: &Value) -> String {
    go_escaped(member(value, List(TERM)))
}

fn structure(value: &Value, members: Members) -> String {
    let parts = members.iter().map(|(upstream, name, kind)| {
        let found = value.get(name).unwrap_or(&Value::Null);
        format!("{upstream:?}:{}", member(found, *kind))
    });
    format!("{{{}}}", parts.collect::<Vec<_>>().join(","))
}

fn member(value: &Value, kind: Member) -> String {
    match (kind, value) {
        (Text, Value::Null) => "\"\"".to_owned(),
        (Number, Value::Null) => "0".to_owned(),
        (List(members), Value::Array(items)) => {
            let items: Vec<String> = items.iter().map(|item| structure(item, members)).collect();
            format!("[{}]", items.join(","))
        }
        (Maybe(members), Value::Object(_)) | (Part(members), _) => structure(value, members),
        _ => value.to_string(),
    }
}

/// Go escapes what HTML would take for its own.
fn go_escaped(text: String) -> String {
    text.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn absent_members_are_shown_as_go_has_them() {
        let spec = json!({"devices": {"requests": [{"name": "a", "exactly": {"deviceClassName": "c",
            "selectors": [{"cel": {"expression": "1 < 2 && true"}}]}}]}});
        assert_eq!(
            claim(&spec),
            r#"{"Devices":{"Requests":[{"Name":"a","Exactly":{"DeviceClassName":"c","Selectors":[{"CEL":{"Expression":"1 \u003c 2 \u0026\u0026 true"}}],"AllocationMode":"","Count":0,"AdminAccess":null,"Tolerations":null,"Capacity":null},"FirstAvailable":null}],"Constraints":null,"Config":null}}"#
        );
    }
}
