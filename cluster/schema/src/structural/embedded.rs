//! Embedded resources: they say what they are.

use super::{Flags, Structural};
use serde_json::Value;
use strata_meta::StatusCause;

/// What is asked of an embedded ObjectMeta; the path is where it stands.
pub type CheckMetadata<'c> = &'c dyn Fn(&Value, &str, &mut Vec<StatusCause>);

impl Structural {
    /// Problems of embedded resources. `check` looks at each one's metadata.
    pub fn check_embedded(&self, value: &Value, check: CheckMetadata<'_>, causes: &mut Vec<StatusCause>) {
        walk(self, value, "", true, check, causes);
    }
}

fn walk(
    schema: &Structural,
    value: &Value,
    path: &str,
    root: bool,
    check: CheckMetadata<'_>,
    causes: &mut Vec<StatusCause>,
) {
    match value {
        Value::Object(map) => {
            if schema.is(Flags::EMBEDDED) && !root {
                for name in ["apiVersion", "kind"] {
                    if map.get(name).and_then(Value::as_str).is_none_or(str::is_empty) {
                        causes.push(StatusCause::required(&format!("{path}.{name}"), "must not be empty"));
                    }
                }
                if let Some(metadata) = map.get("metadata") {
                    check(metadata, &format!("{path}.metadata"), causes);
                }
            }
            for (name, member) in map {
                let here = match path {
                    "" => name.clone(),
                    _ if schema.property(name).is_some() => format!("{path}.{name}"),
                    _ => format!("{path}[{name}]"),
                };
                if let Some(below) = schema.member(name) {
                    walk(below, member, &here, false, check, causes);
                }
            }
        }
        Value::Array(items) => {
            let Some(below) = schema.items.as_deref() else { return };
            for (at, item) in items.iter().enumerate() {
                walk(below, item, &format!("{path}[{at}]"), false, check, causes);
            }
        }
        _ => {}
    }
}
