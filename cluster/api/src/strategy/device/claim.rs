//! What a claim asks for, and the configurations of claims and classes.

use super::{REQUESTS_MAX, each, each_once, selector::selectors};
use crate::{
    strategy::Causes,
    validate::{Field, formats::c_identifier, storage::csi_driver},
};
use serde_json::Value;
use strata_meta::names;

/// Alternatives of one request.
const CHOICES_MAX: usize = 8;
/// Bytes of a driver's parameters.
const PARAMETERS_MAX: usize = 10 << 10;
const IS_REQUEST: &str =
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";

/// `spec.devices` of a claim.
pub(super) fn devices(devices: &Field<'_>, causes: &mut Causes) {
    let requests = devices.at("requests");
    let name = |request: &Field<'_>| request.at("name").text().to_owned();
    each_once(&requests, REQUESTS_MAX, name, causes, request);
    each(&devices.at("constraints"), REQUESTS_MAX, causes, |entry, causes| {
        constraint(&requests, entry, causes);
    });
    each(&devices.at("config"), REQUESTS_MAX, causes, |entry, causes| {
        references(&requests, &entry.at("requests"), causes);
        configuration(entry, causes);
    });
}

fn request(request: &Field<'_>, causes: &mut Causes) {
    const ONE: &str = "exactly one of `exactly` or `firstAvailable` is required";
    request.at("name").fits(causes, names::dns1123_label);
    let (exactly, first) = (request.at("exactly"), request.at("firstAvailable"));
    match (exactly.is_set(), !first.is_empty()) {
        (false, false) => causes.push(request.required(ONE)),
        (true, true) => {
            let why = format!("{ONE}, but multiple fields are set");
            causes.push(request.invalid_as(Value::Null, why));
        }
        (true, false) => asked(&exactly, causes),
        (false, true) => {
            let name = |choice: &Field<'_>| choice.at("name").text().to_owned();
            each_once(&first, CHOICES_MAX, name, causes, |choice, causes| {
                choice.at("name").fits(causes, names::dns1123_label);
                asked(choice, causes);
            });
        }
    }
}

/// What a request or one of its choices asks for.
fn asked(request: &Field<'_>, causes: &mut Causes) {
    let class = request.at("deviceClassName");
    class.needs_text(causes, names::dns1123_subdomain);
    selectors(&request.at("selectors"), causes);
    let (mode, count) = (request.at("allocationMode"), request.at("count"));
    let number = count.int().unwrap_or(0);
    match mode.text() {
        "All" if number != 0 => causes.push(count.invalid("must not be specified when allocationMode is 'All'")),
        "ExactCount" if number <= 0 => causes.push(count.invalid_as(number, "must be greater than zero")),
        "All" | "ExactCount" => {}
        _ => causes.push(mode.not_supported(&["All", "ExactCount"])),
    }
    for entry in request.at("tolerations").items() {
        toleration(&entry, causes);
    }
}

fn toleration(toleration: &Field<'_>, causes: &mut Causes) {
    let (key, operator) = (toleration.at("key"), toleration.at("operator"));
    let (value, effect) = (toleration.at("value"), toleration.at("effect"));
    key.if_text(causes, names::qualified_name);
    match operator.text() {
        "Exists" if !value.is_empty() => causes.push(value.invalid("must be empty for operator `Exists`")),
        "Exists" => {}
        "Equal" => value.fits(causes, names::label_value),
        "" => causes.push(operator.required("")),
        _ => causes.push(operator.not_supported(&["Equal", "Exists"])),
    }
    if !effect.is_empty() {
        effect.if_one_of(causes, &["NoExecute", "NoSchedule", "None"]);
    }
}

fn constraint(requests: &Field<'_>, constraint: &Field<'_>, causes: &mut Causes) {
    references(requests, &constraint.at("requests"), causes);
    let (same, different) = (constraint.at("matchAttribute"), constraint.at("distinctAttribute"));
    if same.is_set() {
        fully_qualified(&same, causes);
    } else if different.is_set() {
        fully_qualified(&different, causes);
    } else {
        let why = "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set";
        causes.push(constraint.required(why));
    }
}

/// Names of requests, or of a request and one of its choices.
pub(super) fn references(requests: &Field<'_>, list: &Field<'_>, causes: &mut Causes) {
    let name = |name: &Field<'_>| name.text().to_owned();
    each_once(list, REQUESTS_MAX, name, causes, |name, causes| {
        reference(requests, name, causes);
    });
}

/// The name of a request, or of a request and one of its choices.
pub(super) fn reference(requests: &Field<'_>, reference: &Field<'_>, causes: &mut Causes) {
    let parts: Vec<&str> = reference.text().split('/').collect();
    let unknown = || reference.invalid_as(reference.text(), IS_REQUEST);
    if parts.len() > 2 {
        causes.push(unknown());
        return;
    }
    for part in &parts {
        let problems = names::dns1123_label(part);
        causes.extend(problems.iter().map(|why| reference.invalid_as(*part, why)));
    }
    let named = |list: &Field<'_>, name: &str| list.items().any(|r| r.at("name").text() == name);
    let request = requests.items().find(|r| r.at("name").text() == parts[0]);
    let known = request.is_some_and(|r| parts.get(1).is_none_or(|sub| named(&r.at("firstAvailable"), sub)));
    if !known {
        causes.push(unknown());
    }
}

/// A driver's parameters.
pub(super) fn configuration(entry: &Field<'_>, causes: &mut Causes) {
    let opaque = entry.at("opaque");
    if !opaque.is_set() {
        causes.push(opaque.required(""));
        return;
    }
    csi_driver(&opaque.at("driver"), causes);
    raw_object(&opaque.at("parameters"), PARAMETERS_MAX, causes);
}

/// Any JSON object that is not too long.
pub(super) fn raw_object(raw: &Field<'_>, most: usize, causes: &mut Causes) {
    if !raw.is_set() {
        causes.push(raw.required(""));
    } else if raw.value().to_string().len() > most {
        causes.push(raw.too_long(most));
    } else if !raw.value().is_object() {
        causes.push(raw.invalid_as("<value omitted>", "must be a valid JSON object"));
    }
}

/// The name of an attribute or capacity: an identifier, perhaps behind a domain. As upstream, what has more than one
/// slash is let pass.
pub(super) fn qualified(name: &Field<'_>, causes: &mut Causes) {
    let parts: Vec<Value> = name.text().split('/').map(Value::from).collect();
    match parts.as_slice() {
        [id] => identifier(name, id, causes),
        [domain, id] => {
            if domain == "" {
                causes.push(name.invalid_as("", "the domain must not be empty"));
            } else {
                csi_driver(&Field::root(domain).named(name.path()), causes);
            }
            if id == "" {
                causes.push(name.invalid_as("", "the name must not be empty"));
            } else {
                identifier(name, id, causes);
            }
        }
        _ => {}
    }
}

fn identifier(name: &Field<'_>, id: &Value, causes: &mut Causes) {
    const LONGEST: usize = 32;
    let text = id.as_str().unwrap_or("");
    if text.len() > LONGEST {
        causes.push(name.too_long(LONGEST));
    }
    causes.extend(c_identifier(text).iter().map(|why| name.invalid_as(text, why)));
}

fn fully_qualified(name: &Field<'_>, causes: &mut Causes) {
    qualified(name, causes);
    if !name.text().contains('/') {
        let why = "a fully qualified name must be a domain and a name separated by a slash";
        causes.push(name.invalid_as(name.text(), why));
    }
}
