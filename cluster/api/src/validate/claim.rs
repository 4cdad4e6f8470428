//! What is asked of a volume: claims, and what volumes have in common with them.

use super::{Field, formats::label_selector};
use strata_meta::{StatusCause, names};

const ACCESS_MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

/// `spec.accessModes` of a volume or claim.
pub(crate) fn access_modes(modes: &Field<'_>, why: &str, causes: &mut Vec<StatusCause>) {
    if modes.is_empty() {
        causes.push(modes.required(why));
    }
    let (mut alone, mut others) = (false, false);
    for mode in modes.items() {
        mode.named(modes.path()).if_one_of(causes, ACCESS_MODES);
        alone |= mode.text() == "ReadWriteOncePod";
        others |= mode.text() != "ReadWriteOncePod" && ACCESS_MODES.contains(&mode.text());
    }
    if alone && others {
        causes.push(modes.forbidden("may not use ReadWriteOncePod with other access modes"));
    }
}

/// The spec of a claim.
pub(crate) fn claim_spec(spec: &Field<'_>, causes: &mut Vec<StatusCause>) {
    access_modes(&spec.at("accessModes"), "at least 1 access mode is required", causes);
    label_selector(&spec.at("selector"), causes);
    let storage = spec
        .at("resources.requests.storage")
        .named(format!("{}.resources[storage]", spec.path()));
    match storage.quantity() {
        None => causes.push(storage.required("")),
        Some(amount) if amount.is_zero() || amount.is_negative() => {
            causes.push(storage.invalid_as(amount.to_string(), "must be greater than zero"));
        }
        Some(_) => {}
    }
    spec.at("storageClassName").if_text(causes, names::dns1123_subdomain);
    spec.at("volumeMode").if_one_of(causes, &["Block", "Filesystem"]);
    for source in ["dataSource", "dataSourceRef"] {
        let field = spec.at(source);
        if !field.is_set() {
            continue;
        }
        field.at("name").needs(causes);
        field.at("kind").needs(causes);
        if !field.at("apiGroup").is_empty() {
            field.at("apiGroup").if_text(causes, names::dns1123_subdomain);
        }
        if field.at("apiGroup").is_empty() && field.at("kind").text() != "PersistentVolumeClaim" {
            causes.push(field.invalid_as(
                field.at("kind").text(),
                "must be 'PersistentVolumeClaim' when referencing the default apiGroup",
            ));
        }
    }
    let (source, reference) = (spec.at("dataSource"), spec.at("dataSourceRef"));
    let said = |field: &Field<'_>| ["apiGroup", "kind", "name"].map(|name| field.at(name).text().to_owned());
    if source.is_set() && reference.is_set() && said(&source) != said(&reference) {
        causes.push(spec.invalid_as(serde_json::json!({}), "must match dataSourceRef"));
    }
    spec.at("volumeAttributesClassName")
        .if_text(causes, names::dns1123_subdomain);
}
