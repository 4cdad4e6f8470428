//! The rules of custom resources.

use super::{Custom, PrinterColumn, expressions::evaluate};
use crate::{
    json,
    strategy::{Causes, Strategy},
    validate,
};
use serde_json::Value;
use strata_meta::StatusCause;
use strata_schema::structural::go_float;

/// The rules of one version of a definition.
pub(super) struct CustomStrategy(pub(super) Custom);

/// Causes after which expressions are not looked at: the object is not what they were written for.
const BLOCKING: &[&str] = &[
    "FieldValueNotFound",
    "FieldValueRequired",
    "FieldValueTooLong",
    "FieldValueTooMany",
    "FieldValueTypeInvalid",
];

/// Finalizers that need no domain.
const FINALIZERS: &[&str] = &["orphan", "foregroundDeletion", "kubernetes"];

impl CustomStrategy {
    fn check(&self, new: &Value, old: Option<&Value>, causes: &mut Causes) {
        let schema = self.0.structural();
        let known = causes.len();
        self.check_type(new, causes);
        if causes.len() > known {
            return;
        }
        schema.validate(new, old, causes);
        self.check_scale(new, true, causes);
        let metadata = |value: &Value, path: &str, causes: &mut Causes| {
            let holder = serde_json::json!({"metadata": value});
            let found = validate::metadata(&holder, true, validate::NameRule::PathSegment);
            // An embedded object need not have a name.
            let found = found.into_iter().filter(|c| c.reason != "FieldValueRequired");
            causes.extend(found.map(|cause| StatusCause {
                field: cause.field.replacen("metadata", path, 1),
                ..cause
            }));
        };
        schema.check_embedded(new, &metadata, causes);
        self.check_lists(new, old, causes);
        self.check_expressions(new, old, known, causes);
    }

    /// The status alone is held to its schema, and shown without what leads there.
    fn check_status(&self, new: &Value, old: &Value, causes: &mut Causes) {
        let known = causes.len();
        self.check_type(new, causes);
        if causes.len() > known {
            return;
        }
        if let (Some(schema), Some(status)) = (self.0.structural().property("status"), new.get("status")) {
            let mut found = Vec::new();
            schema.validate(status, old.get("status"), &mut found);
            causes.extend(found.into_iter().map(|cause| StatusCause {
                field: match cause.field.as_str() {
                    "<nil>" => "status".to_owned(),
                    below if below.starts_with('[') => format!("status{below}"),
                    below => format!("status.{below}"),
                },
                ..cause
            }));
        }
        self.check_scale(new, false, causes);
        self.check_lists(new, Some(old), causes);
        self.check_expressions(new, Some(old), known, causes);
    }

    /// Where items stood twice before, they may again.
    fn check_lists(&self, new: &Value, old: Option<&Value>, causes: &mut Causes) {
        let schema = self.0.structural();
        let mut before = Vec::new();
        if let Some(old) = old {
            schema.duplicates(old, &mut before);
        }
        if before.is_empty() {
            schema.duplicates(new, causes);
        }
    }

    fn check_expressions(&self, new: &Value, old: Option<&Value>, known: usize, causes: &mut Causes) {
        use strata_schema::structural::Flags;
        if !self.0.structural().is(Flags::EXPRESSIONS) {
            return;
        }
        if causes[known..].iter().any(|c| BLOCKING.contains(&c.reason.as_str())) {
            causes.push(StatusCause {
                reason: "FieldValueInvalid".into(),
                message: "Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation".into(),
                field: "<nil>".into(),
            });
            return;
        }
        evaluate(self.0.compiled(), self.0.structural(), new, old, causes);
    }

    /// What an object says it is.
    fn check_type(&self, new: &Value, causes: &mut Causes) {
        let gvk = &self.0.version().gvk;
        for (field, wanted) in [("kind", gvk.kind.clone()), ("apiVersion", gvk.api_version())] {
            let found = json::text(new, field);
            if found != wanted {
                causes.push(StatusCause::invalid(field, found, format_args!("must be {wanted}")));
            }
        }
    }

    fn check_scale(&self, new: &Value, spec: bool, causes: &mut Causes) {
        let Some(scale) = &self.0.version().scale else { return };
        for (path, wanted) in [(&scale.spec, spec), (&scale.status, true)] {
            let Some(found) = member(new, path).filter(|_| wanted) else {
                continue;
            };
            let why = match found.as_i64() {
                Some(n) if n < 0 => (n, "should be a non-negative integer".to_owned()),
                Some(n) if i32::try_from(n).is_err() => (n, format!("should be less than or equal to {}", i32::MAX)),
                Some(_) => continue,
                None => (0, accessor_error(path, found, "int64")),
            };
            causes.push(StatusCause::invalid(path, why.0, why.1));
        }
        if let Some(found) = member(new, &scale.selector).filter(|f| !scale.selector.is_empty() && !f.is_string()) {
            let why = accessor_error(&scale.selector, found, "string");
            causes.push(StatusCause::invalid(&scale.selector, "", why));
        }
    }
}

/// What a simple path such as `.spec.replicas` leads to.
fn member<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    json::get(value, path.trim_start_matches('.'))
}

/// As the words of Go's accessors have it.
fn accessor_error(path: &str, found: &Value, wanted: &str) -> String {
    let kind = match found {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.as_i64().is_some() => "int64",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    };
    let shown = match found {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => go_float(number.as_f64().unwrap_or(f64::NAN)),
        other => other.to_string(),
    };
    format!("{path} accessor error: {shown} is of the type {kind}, expected {wanted}")
}

impl Strategy for CustomStrategy {
    fn counts_generation(&self) -> bool {
        true
    }

    /// Everything but metadata counts, the status only where it is not written apart.
    fn changed(&self, new: &Value, old: &Value) -> bool {
        let members = |value: &Value| {
            let map = value.as_object().into_iter().flatten();
            map.filter(|(name, _)| *name != "metadata")
                .map(|(name, member)| (name.clone(), member.clone()))
                .collect::<std::collections::BTreeMap<_, _>>()
        };
        members(new) != members(old)
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn prepare_create(&self, object: &mut Value) {
        if self.0.version().status {
            json::remove(object, "status");
        }
    }

    fn validate_create(&self, object: &Value, causes: &mut Causes) {
        self.check(object, None, causes);
    }

    fn validate_update(&self, new: &Value, old: &Value, causes: &mut Causes) {
        self.check(new, Some(old), causes);
    }

    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        let written = json::get(new, "metadata.managedFields").cloned();
        let revision = json::get(new, "metadata.resourceVersion").cloned();
        json::copy(old, new, "metadata");
        for (path, member) in [
            ("metadata.managedFields", written),
            ("metadata.resourceVersion", revision),
        ] {
            match member {
                Some(member) => json::set(new, path, member),
                None => drop(json::remove(new, path)),
            }
        }
    }

    fn validate_status_update(&self, new: &Value, old: &Value, causes: &mut Causes) {
        self.check_status(new, old, causes);
    }

    /// Finalizers that came and name no domain.
    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let list = |value| json::list(value, "metadata.finalizers");
        let before = old.map_or(&[][..], list);
        let fresh = list(new)
            .iter()
            .filter(|f| !before.contains(f))
            .filter_map(Value::as_str);
        let bare = fresh.filter(|f| !f.contains('/') && !FINALIZERS.contains(f));
        bare.map(|finalizer| {
            let path = if finalizer.contains('.') { " including a path (/)" } else { "" };
            format!(
                "metadata.finalizers: {finalizer:?}: prefer a domain-qualified finalizer name{path} to avoid accidental conflicts with other finalizer writers"
            )
        })
        .collect()
    }

    fn printed(&self) -> Option<&[PrinterColumn]> {
        Some(&self.0.version().columns)
    }
}
