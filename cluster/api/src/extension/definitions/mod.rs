//! The rules of CustomResourceDefinition objects themselves.

mod defaults;
pub(in crate::extension) mod internal;
mod path;
mod schema;
mod spec;

pub(in crate::extension) use path::follow;
pub(in crate::extension) use schema::{MAX_PATTERNS, TOO_MANY_PATTERNS, below};
pub(in crate::extension) use spec::conformance;

use super::{controller::set_condition, terminate::FINALIZER};
use crate::{
    json,
    strategy::{Causes, Column, NAME_COLUMN, Strategy},
    validate::Field,
};
use serde_json::{Value, json};
use strata_meta::StatusCause;
use strata_schema::structural::supports_format;

/// CustomResourceDefinition.
pub(crate) struct CustomResourceDefinition;

/// Puts the storage version among those that have been stored.
fn record_stored_version(object: &mut Value) {
    let storage = json::list(object, "spec.versions")
        .iter()
        .find(|v| json::flag(v, "storage"))
        .map(|v| json::text(v, "name").to_owned());
    let mut stored = json::list(object, "status.storedVersions").to_vec();
    if let Some(name) = storage
        && !stored.iter().any(|v| *v == name)
    {
        stored.push(json!(name));
        json::set(object, "status.storedVersions", stored);
    }
}

fn tidy_defaults(object: &mut Value) {
    let versions = object.pointer_mut("/spec/versions").and_then(Value::as_array_mut);
    for version in versions.into_iter().flatten() {
        if let Some(schema) = version.pointer_mut("/schema/openAPIV3Schema") {
            defaults::tidy(schema);
        }
    }
}

impl Strategy for CustomResourceDefinition {
    fn counts_generation(&self) -> bool {
        true
    }

    fn marks_only(&self) -> bool {
        true
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn prepare_create(&self, object: &mut Value) {
        json::set(
            object,
            "status",
            json!({"acceptedNames": {"kind": "", "plural": ""}, "conditions": null}),
        );
        record_stored_version(object);
        tidy_defaults(object);
    }

    fn prepare_update(&self, new: &mut Value, _old: &Value) {
        record_stored_version(new);
        tidy_defaults(new);
    }

    fn validate_create(&self, object: &Value, causes: &mut Causes) {
        let required = format!(
            "{}.{}",
            json::text(object, "spec.names.plural"),
            json::text(object, "spec.group")
        );
        let name = json::text(object, "metadata.name");
        if name != required && !name.is_empty() {
            causes.push(StatusCause::invalid(
                "metadata.name",
                name,
                "must be spec.names.plural+\".\"+spec.group",
            ));
        }
        spec::validate(object, None, causes);
    }

    fn validate_update(&self, new: &Value, old: &Value, causes: &mut Causes) {
        spec::validate(new, Some(old), causes);
    }

    fn validate_status_update(&self, new: &Value, _old: &Value, causes: &mut Causes) {
        spec::names(&Field::root(new).at("status.acceptedNames"), causes);
    }

    fn prepare_delete(&self, object: &mut Value) {
        let mut finalizers = json::list(object, "metadata.finalizers").to_vec();
        if !finalizers.iter().any(|f| f == FINALIZER) {
            finalizers.push(json!(FINALIZER));
            json::set(object, "metadata.finalizers", finalizers);
        }
        set_condition(
            &mut object["status"],
            "Terminating",
            "True",
            "InstanceDeletionPending",
            "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
        );
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let mut known = Vec::new();
        if let Some(old) = old {
            formats(old, &mut known);
        }
        let mut found = Vec::new();
        formats(new, &mut found);
        let fresh = found.into_iter().filter(|format| !known.contains(format));
        fresh.map(|format| format!("unrecognized format {format:?}")).collect()
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME_COLUMN, crate::strategy::CREATED_AT_COLUMN];
        COLUMNS
    }
}

/// Formats of a definition's schemas that nobody checks.
fn formats(definition: &Value, found: &mut Vec<String>) {
    for version in json::list(definition, "spec.versions") {
        if let Some(schema) = json::get(version, "schema.openAPIV3Schema") {
            unknown_formats(schema, found);
        }
    }
}

fn unknown_formats(schema: &Value, found: &mut Vec<String>) {
    let (kind, format) = (json::text(schema, "type"), json::text(schema, "format"));
    if !format.is_empty() && !supports_format(kind, format) {
        found.push(format.to_owned());
    }
    for (_, below) in schema::below(schema) {
        unknown_formats(below, found);
    }
}
