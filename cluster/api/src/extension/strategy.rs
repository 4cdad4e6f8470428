//! The rules of custom resources.

use super::{Custom, PrinterColumn, expressions::evaluate};
use crate::{
    json,
    strategy::{Causes, Strategy},
    validate,
};
use serde_json::Value;
use strata_meta::StatusCause;

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

impl CustomStrategy {
    fn check(&self, new: &Value, old: Option<&Value>, causes: &mut Causes) {
        let schema = self.0.structural();
        let known = causes.len();
        self.check_type(new, causes);
        schema.validate(new, old, causes);
        self.check_scale(new, causes);
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
        schema.duplicates(new, causes);
        self.check_expressions(new, old, known, causes);
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

    fn check_scale(&self, new: &Value, causes: &mut Causes) {
        let Some(scale) = &self.0.version().scale else { return };
        for (path, least) in [(&scale.spec, 0), (&scale.status, 0)] {
            let at = path.trim_start_matches('.');
            if let Some(found) = json::get(new, at) {
                match found.as_i64() {
                    Some(n) if n < least => {
                        causes.push(StatusCause::invalid(at, n, "should be a non-negative integer"))
                    }
                    Some(n) if i32::try_from(n).is_err() => causes.push(StatusCause::invalid(
                        at,
                        n,
                        format_args!("should be less than or equal to {}", i32::MAX),
                    )),
                    Some(_) => {}
                    None => causes.push(StatusCause::invalid(
                        at,
                        strata_schema::structural::Shown(found),
                        "should be an integer",
                    )),
                }
            }
        }
        let at = scale.selector.trim_start_matches('.');
        if let Some(found) = json::get(new, at).filter(|_| !at.is_empty())
            && found
                .as_str()
                .is_none_or(|text| strata_meta::Selector::parse(text).is_err())
        {
            let shown = strata_schema::structural::Shown(found);
            causes.push(StatusCause::invalid(at, shown, "is not a valid label selector"));
        }
    }
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
        self.check(new, Some(old), causes);
    }

    fn warnings(&self, _new: &Value, _old: Option<&Value>) -> Vec<String> {
        Vec::new()
    }

    fn printed(&self) -> Option<&[PrinterColumn]> {
        Some(&self.0.version().columns)
    }
}
