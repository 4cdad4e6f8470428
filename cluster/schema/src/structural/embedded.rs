//! Embedded resources: they say what they are.

use super::{Flags, Path, Structural};
use serde_json::Value;
use strata_meta::StatusCause;

/// What is asked of an embedded ObjectMeta; the path is where it stands.
pub type CheckMetadata<'c> = &'c dyn Fn(&Value, &str, &mut Vec<StatusCause>);

impl Structural {
    /// Problems of embedded resources. `check` looks at each one's metadata.
    pub fn check_embedded(&self, value: &Value, check: CheckMetadata<'_>, causes: &mut Vec<StatusCause>) {
        walk(self, value, &Path::ROOT, true, check, causes);
    }
}

fn check_type(value: Option<&Value>, name: &str, field: &str, causes: &mut Vec<StatusCause>) {
    let Some(value) = value else {
        return causes.push(StatusCause::required(field, ""));
    };
    let Some(text) = value.as_str() else {
        return causes.push(StatusCause::invalid(field, super::Shown(value), "must be a string"));
    };
    if text.is_empty() {
        causes.push(StatusCause::invalid(field, text, "must not be empty"));
    } else if name == "apiVersion" && text.matches('/').count() > 1 {
        let why = format!("unexpected GroupVersion string: {text}");
        causes.push(StatusCause::invalid(field, text, why));
    } else if name == "kind" {
        let problems = strata_meta::names::dns1035_label(&text.to_lowercase());
        if !problems.is_empty() {
            let why = format!(
                "may have mixed case, but should otherwise match: {}",
                problems.join(",")
            );
            causes.push(StatusCause::invalid(field, text, why));
        }
    }
}

fn walk(
    schema: &Structural,
    value: &Value,
    path: &Path<'_>,
    root: bool,
    check: CheckMetadata<'_>,
    causes: &mut Vec<StatusCause>,
) {
    match value {
        Value::Object(map) => {
            if schema.is(Flags::EMBEDDED) && !root {
                for name in ["apiVersion", "kind"] {
                    check_type(map.get(name), name, &format!("{path}.{name}"), causes);
                }
                if let Some(metadata) = map.get("metadata") {
                    check(metadata, &format!("{path}.metadata"), causes);
                }
            }
            for (name, member) in map {
                let here = match path.is_root() || schema.property(name).is_some() {
                    true => path.member(name),
                    false => path.key(name),
                };
                if let Some(below) = schema.member(name) {
                    walk(below, member, &here, false, check, causes);
                }
            }
        }
        Value::Array(items) => {
            let Some(below) = schema.items.as_deref() else { return };
            for (at, item) in items.iter().enumerate() {
                walk(below, item, &path.item(at), false, check, causes);
            }
        }
        _ => {}
    }
}
