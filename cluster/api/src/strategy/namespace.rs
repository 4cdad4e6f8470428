//! Namespace: goes only when its own finalizers, in the spec, are gone too.

use super::{Causes, Column, Strategy, columns};
use crate::{
    cache::FieldPath,
    json,
    validate::{Field, NameRule},
};
use serde_json::{Value, json};
use strata_meta::names;

pub(super) struct Namespace;

impl Strategy for Namespace {
    fn name_rule(&self) -> NameRule {
        NameRule::Label
    }

    fn prepare_create(&self, object: &mut Value) {
        json::set(object, "status", json!({"phase": "Active"}));
        let finalizers = json::object_mut(object, "spec")
            .entry("finalizers")
            .or_insert_with(|| json!([]));
        if let Some(list) = finalizers.as_array_mut()
            && !list.iter().any(|f| f == "kubernetes")
        {
            list.push(json!("kubernetes"));
        }
        label_name(object);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        json::copy(old, new, "spec.finalizers");
        label_name(new);
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let list = Field::root(object).at("spec.finalizers");
        // Upstream names the list.
        finalizers(list.items().map(|finalizer| finalizer.named(list.path())), causes);
    }

    fn validate_subresource_update(&self, subresource: &str, new: &Value, old: &Value, causes: &mut Causes) {
        match subresource {
            "finalize" => finalizers(Field::root(new).at("spec.finalizers").items(), causes),
            _ => self.validate_status_update(new, old, causes),
        }
    }

    fn validate_status_update(&self, new: &Value, _old: &Value, causes: &mut Causes) {
        let deleting = json::get(new, "metadata.deletionTimestamp").is_some();
        let phase = json::text(new, "status.phase");
        let wanted = if deleting { "Terminating" } else { "Active" };
        if phase != wanted {
            let why = if deleting {
                "may only be 'Terminating' if `deletionTimestamp` is not empty"
            } else {
                "may only be 'Active' if `deletionTimestamp` is empty"
            };
            causes.push(strata_meta::StatusCause::invalid("status.Phase", phase, why));
        }
    }

    fn marks_only(&self) -> bool {
        true
    }

    fn prepare_delete(&self, object: &mut Value) {
        json::set(object, "status.phase", "Terminating");
    }

    fn may_go(&self, object: &Value) -> bool {
        json::list(object, "spec.finalizers").is_empty()
    }

    fn selectable_fields(&self) -> &'static [FieldPath] {
        const FIELDS: &[FieldPath] = &[FieldPath::new("status.phase", "")];
        FIELDS
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            columns::NAME,
            columns::column("Status", "string", "The status of the namespace", |cx| {
                json::text(cx.object, "status.phase").into()
            }),
            columns::AGE,
        ];
        COLUMNS
    }
}

fn finalizers<'v>(list: impl Iterator<Item = Field<'v>>, causes: &mut Causes) {
    for finalizer in list {
        let bare = !finalizer.text().contains('/') && finalizer.text() != "kubernetes";
        finalizer.problems(causes, names::qualified_name(finalizer.text()));
        if bare {
            causes.push(finalizer.invalid("name is neither a standard finalizer name nor is it fully qualified"));
        }
    }
}

/// KEP-2161: every namespace carries its name as a label.
fn label_name(object: &mut Value) {
    let name = json::text(object, "metadata.name").to_owned();
    if !name.is_empty() {
        json::object_mut(object, "metadata.labels").insert("kubernetes.io/metadata.name".into(), name.into());
    }
}
