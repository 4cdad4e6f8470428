//! What is wrong with a definition's spec. Places are named as upstream names them: what all versions say
//! alike stands at the top (`spec.validation`, `spec.subresources`, `spec.additionalPrinterColumns`).

use super::{follow, internal, schema};
use crate::{
    json,
    strategy::{Causes, client_config},
    validate::Field,
};
use serde_json::Value;
use strata_meta::{
    StatusCause,
    names::{dns1035_label, dns1123_subdomain},
};
use strata_schema::structural::{Kind, Structural, compiled_pattern};

const COLUMN_TYPES: &[&str] = &["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: &[&str] = &[
    "byte",
    "date",
    "date-time",
    "double",
    "float",
    "int32",
    "int64",
    "password",
];
/// Fields that selectors may name, of one version.
const MAX_SELECTABLE: usize = 8;
/// What approves a kind in a group of the community.
const APPROVAL: &str = "api-approved.kubernetes.io";

/// Problems of a definition, new or changed.
pub(super) fn validate(object: &Value, old: Option<&Value>, causes: &mut Causes) {
    let root = Field::root(object);
    let spec = root.at("spec");
    group(&spec.at("group"), causes);
    spec.at("scope").needs_one_of(causes, &["Cluster", "Namespaced"]);
    versions(&spec, old, causes);
    spec.at("names.plural").needs(causes);
    spec.at("names.singular").needs(causes);
    spec.at("names.kind").needs(causes);
    spec.at("names.listKind").needs(causes);
    names(&spec.at("names"), causes);
    conversion(&spec, causes);
    if let Some(old) = old {
        unchanged(&spec, old, causes);
    }
    names(&root.at("status.acceptedNames"), causes);
    stored_versions(&root, causes);
    approval(object, old, causes);
    let preserve = spec.at("preserveUnknownFields");
    if preserve.flag() && !old.is_some_and(|o| json::flag(o, "spec.preserveUnknownFields")) {
        causes.push(preserve.invalid(
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        ));
    }
}

fn group(group: &Field<'_>, causes: &mut Causes) {
    if group.is_empty() {
        causes.push(group.required(""));
        return;
    }
    let problems = dns1123_subdomain(group.text());
    if !problems.is_empty() {
        causes.push(group.invalid(problems.join(",")));
    } else if !group.text().contains('.') {
        causes.push(group.invalid("should be a domain with at least one dot"));
    }
}

/// What every version says alike, if there is any and all say it.
fn common<'v>(versions: &[Field<'v>], path: &str) -> Option<&'v Value> {
    let first = versions.first()?.at(path);
    let alike = first.is_set() && !first.is_empty() || first.value().is_object();
    (alike && versions.iter().all(|v| v.at(path).value() == first.value())).then(|| first.value())
}

fn versions(spec: &Field<'_>, old: Option<&Value>, causes: &mut Causes) {
    let versions: Vec<Field<'_>> = spec.at("versions").items().collect();
    for version in &versions {
        let schema = version.at("schema.openAPIV3Schema");
        if !schema.is_set() && old.is_none_or(all_have_schemas) {
            causes.push(schema.required(""));
        }
    }
    let alike = (
        common(&versions, "schema").is_some(),
        common(&versions, "subresources").is_some(),
        common(&versions, "additionalPrinterColumns").is_some(),
        common(&versions, "selectableFields").is_some(),
    );
    let mut patterns = 0;
    for (at, version) in versions.iter().enumerate() {
        let name = version.at("name");
        let problems = dns1035_label(name.text());
        if !problems.is_empty() {
            causes.push(name.invalid(problems.join(",")));
        }
        deprecation(version, causes);
        let top = |alike: bool, field: Field<'_>, name: &str| match (alike, at) {
            (false, _) => field.path().to_owned(),
            _ => format!("{}.{name}", spec.path()),
        };
        if !(alike.0 && at > 0) {
            let path = top(alike.0, version.at("schema"), "validation");
            let status = version.at("subresources.status").is_set();
            schema::validate(
                &version.at("schema").named(path),
                status,
                unchanged_schema(version, old),
                &mut patterns,
                causes,
            );
        }
        if !(alike.1 && at > 0) {
            let path = top(alike.1, version.at("subresources"), "subresources");
            scale(&version.at("subresources"), &path, causes);
        }
        if !(alike.2 && at > 0) {
            let path = top(
                alike.2,
                version.at("additionalPrinterColumns"),
                "additionalPrinterColumns",
            );
            for (i, entry) in version.at("additionalPrinterColumns").items().enumerate() {
                column(&entry.named(format!("{path}[{i}]")), causes);
            }
        }
        if !(alike.3 && at > 0) {
            let path = top(alike.3, version.at("selectableFields"), "selectableFields");
            selectable(version, &path, alike, causes);
        }
    }
    if let Some(first) = versions.first().map(|v| json::text(v.value(), "name"))
        && !dns1035_label(first).is_empty()
        && !first.is_empty()
    {
        // Upstream also has the name where it stood when there was but one version.
        let why = dns1035_label(first).join(",");
        causes.push(spec.at("version").invalid_as(first, why));
    }
    counts(spec, &versions, alike, causes);
}

fn unchanged_schema(version: &Field<'_>, old: Option<&Value>) -> bool {
    let Some(old) = old else { return false };
    let before = json::list(old, "spec.versions");
    let before = before.iter().find(|v| v.get("name") == version.value().get("name"));
    before.is_some_and(|v| v.get("schema") == version.value().get("schema"))
}

fn all_have_schemas(definition: &Value) -> bool {
    let mut versions = json::list(definition, "spec.versions").iter();
    versions.all(|v| json::get(v, "schema.openAPIV3Schema").is_some())
}

fn counts(spec: &Field<'_>, versions: &[Field<'_>], alike: internal::Alike, causes: &mut Causes) {
    let list = spec.at("versions");
    let shown = internal::versions(list.value().as_array().map_or(&[][..], Vec::as_slice), alike);
    let mut names: Vec<&str> = versions.iter().map(|v| json::text(v.value(), "name")).collect();
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    if names.len() != all {
        causes.push(list.invalid_shown(&shown, "must contain unique version names"));
    }
    if versions.iter().filter(|v| v.at("storage").flag()).count() != 1 {
        causes.push(list.invalid_shown(&shown, "must have exactly one version marked as storage version"));
    }
}

fn deprecation(version: &Field<'_>, causes: &mut Causes) {
    let warning = version.at("deprecationWarning");
    if !warning.is_set() {
        return;
    }
    if !version.at("deprecated").flag() {
        causes.push(warning.invalid("can only be set for deprecated versions"));
        return;
    }
    let text = warning.text();
    if text.len() > 256 {
        causes.push(warning.invalid("must be <= 256 characters long"));
    }
    if text.is_empty() {
        causes.push(warning.invalid("must not be an empty string"));
    }
    let printable = |c: char| {
        let mut room = [0; 4];
        let text: &str = c.encode_utf8(&mut room);
        compiled_pattern(r"^[\p{L}\p{M}\p{N}\p{P}\p{S} ]$").is_ok_and(|regex| regex.is_match(text))
    };
    if let Some((at, _)) = text.char_indices().find(|(_, c)| !printable(*c)) {
        causes.push(warning.invalid(format_args!(
            "must only contain printable UTF-8 characters; non-printable character found at index {at}"
        )));
    }
}

fn simple_path(field: &Field<'_>, causes: &mut Causes) -> bool {
    if field.text().starts_with('.') {
        return true;
    }
    causes.push(field.invalid("must be a simple json path starting with ."));
    false
}

fn scale(subresources: &Field<'_>, path: &str, causes: &mut Causes) {
    let scale = subresources.at("scale");
    if !scale.is_set() {
        return;
    }
    for (name, below, needed) in [
        ("specReplicasPath", ".spec.", true),
        ("statusReplicasPath", ".status.", true),
        ("labelSelectorPath", "", false),
    ] {
        let field = scale.at(name).named(format!("{path}.scale.{name}"));
        let text = field.text();
        if text.is_empty() {
            if needed {
                causes.push(field.required(""));
            }
        } else if simple_path(&field, causes) {
            if needed && !text.starts_with(below) {
                let part = below.trim_end_matches('.');
                causes.push(field.invalid(format_args!("should be a json path under {part}")));
            } else if !needed && !text.starts_with(".spec.") && !text.starts_with(".status.") {
                causes.push(field.invalid("should be a json path under either .spec or .status"));
            }
        }
    }
}

fn column(column: &Field<'_>, causes: &mut Causes) {
    column.at("name").needs(causes);
    let list = COLUMN_TYPES.join(",");
    let kind = column.at("type");
    if kind.is_empty() {
        causes.push(kind.required(&format!("must be one of {list}")));
    } else if !COLUMN_TYPES.contains(&kind.text()) {
        causes.push(kind.invalid(format_args!("must be one of {list}")));
    }
    let format = column.at("format");
    if !format.is_empty() && !COLUMN_FORMATS.contains(&format.text()) {
        causes.push(format.invalid(format_args!("must be one of {}", COLUMN_FORMATS.join(","))));
    }
    let path = column.at("jsonPath").named(format!("{}.JSONPath", column.path()));
    if path.is_empty() {
        causes.push(path.required(""));
    } else {
        simple_path(&path, causes);
    }
}

fn selectable(version: &Field<'_>, path: &str, alike: internal::Alike, causes: &mut Causes) {
    if version.at("selectableFields").is_empty() {
        return;
    }
    // Upstream looks for the schema beside the fields: both at the top, or both in the version.
    let schema = json::get(version.value(), "schema.openAPIV3Schema");
    let Some(schema) = schema.filter(|_| alike.0 == alike.3) else {
        let why = match alike.3 {
            true => "may only be set when validations.schema is included",
            false => "may only be set when `version.schema.openAPIV3Schema` is not included",
        };
        return causes.push(StatusCause::invalid(path, "", why));
    };
    let schema = Structural::parse(schema);
    let mut seen: Vec<String> = Vec::new();
    for (i, entry) in version.at("selectableFields").items().enumerate() {
        let field = entry.at("jsonPath").named(format!("{path}[{i}].jsonPath"));
        let text = json::text(entry.value(), "jsonPath");
        if text.is_empty() {
            causes.push(field.required(""));
            continue;
        }
        let place = match follow(&schema, text, false) {
            Ok(place) => place,
            Err(why) => {
                causes.push(field.invalid(format_args!("is an invalid path: {why}")));
                continue;
            }
        };
        if place.root == "metadata" {
            causes.push(field.invalid("must not point to fields in metadata"));
        }
        if !place
            .schema
            .is_some_and(|s| matches!(s.kind, Kind::String | Kind::Boolean | Kind::Integer))
        {
            causes.push(field.invalid(
                "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.",
            ));
        }
        match seen.contains(&place.path) {
            true => causes.push(field.duplicate()),
            false => seen.push(place.path),
        }
    }
    if seen.len() > MAX_SELECTABLE {
        let field = version.at("selectableFields").named(path);
        causes.push(field.too_many(MAX_SELECTABLE));
    }
}

/// Problems of names, wanted or accepted.
pub(super) fn names(names: &Field<'_>, causes: &mut Causes) {
    let joined = |field: &Field<'_>, causes: &mut Causes| {
        let problems = dns1035_label(field.text());
        if !field.is_empty() && !problems.is_empty() {
            causes.push(field.invalid(problems.join(",")));
        }
    };
    joined(&names.at("plural"), causes);
    joined(&names.at("singular"), causes);
    for name in ["kind", "listKind"] {
        let field = names.at(name);
        let problems = dns1035_label(&field.text().to_lowercase());
        if !field.is_empty() && !problems.is_empty() {
            causes.push(field.invalid(format_args!(
                "may have mixed case, but should otherwise match: {}",
                problems.join(",")
            )));
        }
    }
    names.at("shortNames").items().for_each(|field| joined(&field, causes));
    let list = names.at("listKind");
    if !list.is_empty() && list.text() == names.at("kind").text() {
        causes.push(list.invalid("kind and listKind may not be the same"));
    }
    names.at("categories").items().for_each(|field| joined(&field, causes));
}

fn conversion(spec: &Field<'_>, causes: &mut Causes) {
    let conversion = spec.at("conversion");
    if !conversion.is_set() {
        return;
    }
    let strategy = conversion.at("strategy");
    strategy.needs_one_of(causes, &["None", "Webhook"]);
    let config = conversion
        .at("webhook.clientConfig")
        .named("spec.conversion.webhookClientConfig");
    let reviews = conversion
        .at("webhook.conversionReviewVersions")
        .named("spec.conversion.conversionReviewVersions");
    if strategy.text() != "Webhook" {
        if config.is_set() {
            causes.push(config.forbidden("should not be set when strategy is not set to Webhook"));
        }
        if !reviews.is_empty() {
            causes.push(reviews.forbidden("should not be set when strategy is not set to Webhook"));
        }
        return;
    }
    if !config.is_set() {
        causes.push(config.required("required when strategy is set to Webhook"));
    } else {
        client_config(&config, causes);
    }
    if spec.at("preserveUnknownFields").flag() {
        causes.push(strategy.invalid("must be None if spec.preserveUnknownFields is true"));
    }
    review_versions(&reviews, causes);
}

fn review_versions(reviews: &Field<'_>, causes: &mut Causes) {
    if reviews.is_empty() {
        causes.push(reviews.required(""));
        return;
    }
    let mut seen = Vec::new();
    for review in reviews.items() {
        let text = review.value().as_str().unwrap_or("");
        if seen.contains(&text) {
            causes.push(review.invalid("duplicate version"));
            continue;
        }
        seen.push(text);
        review.problems(causes, dns1035_label(text));
    }
    if !seen.iter().any(|v| matches!(*v, "v1" | "v1beta1")) {
        causes.push(reviews.invalid("must include at least one of v1, v1beta1"));
    }
}

fn unchanged(spec: &Field<'_>, old: &Value, causes: &mut Causes) {
    let before = Field::root(old);
    let before = before.at("spec");
    let mut conditions = json::list(old, "status.conditions").iter();
    if conditions.any(|c| json::text(c, "type") == "Established" && json::text(c, "status") == "True") {
        for name in ["scope", "names.kind"] {
            spec.at(name).unchanged(causes, &before.at(name));
        }
    }
    for name in ["group", "names.plural"] {
        spec.at(name).unchanged(causes, &before.at(name));
    }
}

fn stored_versions(root: &Field<'_>, causes: &mut Causes) {
    let stored = root.at("status.storedVersions");
    if stored.is_empty() {
        let shown = if stored.is_set() { "[]" } else { "null" };
        causes.push(stored.invalid_shown(shown, "must have at least one stored version"));
        return;
    }
    let versions: Vec<Field<'_>> = root.at("spec.versions").items().collect();
    let holds = |name: &str| stored.items().any(|s| s.value().as_str() == Some(name));
    for version in versions.iter().filter(|v| v.at("storage").flag()) {
        let name = json::text(version.value(), "name");
        if !holds(name) {
            causes.push(stored.invalid(format_args!("must have the storage version {name}")));
        }
    }
    for entry in stored.items() {
        let name = entry.value().as_str().unwrap_or("");
        if !versions.iter().any(|v| json::text(v.value(), "name") == name) {
            causes.push(entry.invalid(format_args!("missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions")));
        }
    }
}

#[derive(PartialEq)]
enum Approval {
    Missing,
    Invalid,
    Given,
}

fn approval_of(definition: &Value) -> Approval {
    let annotations = json::get(definition, "metadata.annotations");
    let text = annotations
        .and_then(|a| a.get(APPROVAL))
        .and_then(Value::as_str)
        .unwrap_or("");
    let url = text
        .split_once("://")
        .is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty());
    match text {
        "" => Approval::Missing,
        text if text.starts_with("unapproved") || url => Approval::Given,
        _ => Approval::Invalid,
    }
}

/// What the condition KubernetesAPIApprovalPolicyConformant says of a definition, status, reason and message; `None`
/// where nobody's approval is needed.
pub(in crate::extension) fn conformance(definition: &Value) -> Option<(&'static str, &'static str, String)> {
    if !is_community(json::text(definition, "spec.group")) {
        return None;
    }
    let annotations = json::get(definition, "metadata.annotations");
    let text = annotations
        .and_then(|a| a.get(APPROVAL))
        .and_then(Value::as_str)
        .unwrap_or("");
    Some(match approval_of(definition) {
        Approval::Missing => ("False", "MissingAnnotation", missing_approval()),
        Approval::Invalid => ("False", "InvalidAnnotation", invalid_approval()),
        Approval::Given if text.starts_with("unapproved") => {
            ("False", "UnapprovedAnnotation", format!("not approved: {text:?}"))
        }
        Approval::Given => ("True", "ApprovedAnnotation", format!("approved in {text}")),
    })
}

/// Whether a group is the community's.
fn is_community(group: &str) -> bool {
    let mut known = ["k8s.io", "kubernetes.io"].iter();
    known.any(|known| group == *known || group.ends_with(&format!(".{known}")))
}

fn missing_approval() -> String {
    format!(
        "protected groups must have approval annotation {APPROVAL:?}, see https://github.com/kubernetes/enhancements/pull/1111"
    )
}

fn invalid_approval() -> String {
    format!(
        "protected groups must have approval annotation {APPROVAL:?} with either a URL or a reason starting with \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111"
    )
}

fn approval(object: &Value, old: Option<&Value>, causes: &mut Causes) {
    let group = json::text(object, "spec.group");
    let state = approval_of(object);
    if !is_community(group) || old.map(approval_of).as_ref() == Some(&state) {
        return;
    }
    let field = format!("metadata.annotations[{APPROVAL}]");
    match state {
        Approval::Given => {}
        Approval::Missing => causes.push(StatusCause::required(&field, &missing_approval())),
        Approval::Invalid => {
            let annotations = json::get(object, "metadata.annotations");
            let text = annotations
                .and_then(|a| a.get(APPROVAL))
                .and_then(Value::as_str)
                .unwrap_or("");
            causes.push(StatusCause::invalid(&field, text, invalid_approval()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn kinds_of_the_community_say_who_approved_them() {
        for (group, said, wanted) in [
            ("example.com", "", None),
            ("ak8s.io", "", None),
            ("x.k8s.io", "", Some(("False", "MissingAnnotation"))),
            ("x.k8s.io", "yes", Some(("False", "InvalidAnnotation"))),
            ("k8s.io", "unapproved, a trial", Some(("False", "UnapprovedAnnotation"))),
            ("x.kubernetes.io", "https://a.b/c", Some(("True", "ApprovedAnnotation"))),
        ] {
            let definition =
                json!({"spec": {"group": group}, "metadata": {"annotations": {"api-approved.kubernetes.io": said}}});
            let found = conformance(&definition).map(|(holds, reason, _)| (holds, reason));
            assert_eq!(found, wanted, "{group} {said}");
        }
    }
}
