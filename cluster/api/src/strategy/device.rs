//! Dynamic resource allocation: ResourceClaim, ResourceClaimTemplate, DeviceClass, ResourceSlice
//! (k8s.io/kubernetes/pkg/apis/resource/validation). Selectors' CEL is not compiled here.

use super::{
    Causes, columns,
    row::{ROW, Row},
};
use crate::{
    json,
    validate::{
        Field,
        formats::{annotations, c_identifier, labels},
        pod::{is_extended_resource, node_selector},
        storage::csi_driver,
    },
};
use serde_json::{Value, json};
use strata_meta::{Time, names};

const REQUESTS_MAX: usize = 32;
const ALLOCATED: &str =
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";

pub(super) static CLAIMS: Row = Row {
    returns_deleted: true,
    columns: &[
        columns::NAME,
        columns::column("State", "string", "What has become of the claim.", |cx| {
            claim_state(cx.object).into()
        }),
        columns::AGE,
    ],
    validate_create: |object, causes| claim(&Field::root(object).at("spec.devices"), causes),
    validate_update: immutable_spec,
    validate_status: claim_status,
    ..ROW
};

/// What of its metadata a claim gets from elsewhere than its template.
const TEMPLATE_METADATA: [&str; 12] = [
    "name",
    "generateName",
    "namespace",
    "selfLink",
    "uid",
    "resourceVersion",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "ownerReferences",
    "finalizers",
    "managedFields",
];

pub(super) static TEMPLATES: Row = Row {
    returns_deleted: true,
    columns: &[columns::NAME, columns::AGE],
    validate_create: |object, causes| {
        let spec = Field::root(object).at("spec");
        for name in TEMPLATE_METADATA {
            let member = spec.at("metadata").at(name);
            if !member.is_empty() {
                causes.push(member.forbidden("cannot be set"));
            }
        }
        labels(&spec.at("metadata.labels"), causes);
        annotations(&spec.at("metadata.annotations"), causes);
        claim(&spec.at("spec.devices"), causes);
    },
    validate_update: immutable_spec,
    ..ROW
};

pub(super) static CLASSES: Row = Row {
    returns_deleted: true,
    counts: true,
    columns: &[columns::NAME, columns::AGE],
    validate: |object, causes| {
        let spec = Field::root(object).at("spec");
        selectors(&spec.at("selectors"), causes);
        let config = spec.at("config");
        if config.len() > REQUESTS_MAX {
            causes.push(config.too_many(REQUESTS_MAX));
        }
        for entry in config.items() {
            configuration(&entry, causes);
        }
        let name = spec.at("extendedResourceName");
        if name.is_set() && !is_extended_resource(name.text()) {
            causes.push(name.invalid("must be a valid extended resource name"));
        }
    },
    ..ROW
};

pub(super) static SLICES: Row = Row {
    returns_deleted: true,
    counts: true,
    fields: &[super::row::field("spec.nodeName"), super::row::field("spec.driver")],
    columns: &[
        columns::NAME,
        columns::column("Node", "string", "The node that has the devices.", |cx| {
            columns::or_unset(json::text(cx.object, "spec.nodeName"))
        }),
        columns::column("Driver", "string", "Who drives them.", |cx| {
            columns::text(cx, "spec.driver")
        }),
        columns::column("Pool", "string", "The pool they are part of.", |cx| {
            columns::text(cx, "spec.pool.name")
        }),
        columns::AGE,
    ],
    prepare_create: date_taints,
    prepare_update: |new, _| date_taints(new),
    validate: slice,
    validate_update: |new, old, causes| {
        let (now, was) = (Field::root(new).at("spec"), Field::root(old).at("spec"));
        for name in ["pool.name", "driver", "nodeName"] {
            now.at(name).unchanged(causes, &was.at(name));
        }
    },
    ..ROW
};

fn claim_state(claim: &Value) -> String {
    let mut states = Vec::new();
    if json::get(claim, "metadata.deletionTimestamp").is_some() {
        states.push("deleted");
    }
    match json::get(claim, "status.allocation") {
        None => {
            if json::get(claim, "metadata.deletionTimestamp").is_none() {
                states.push("pending");
            }
        }
        Some(_) => {
            states.push("allocated");
            if !json::list(claim, "status.reservedFor").is_empty() {
                states.push("reserved");
            }
        }
    }
    states.join(",")
}

fn immutable_spec(new: &Value, old: &Value, causes: &mut Causes) {
    let (now, was) = (Field::root(new).at("spec"), Field::root(old).at("spec"));
    now.unchanged(causes, &was);
}

/// Taints get the moment they were seen first.
fn date_taints(slice: &mut Value) {
    let devices = slice.pointer_mut("/spec/devices").and_then(Value::as_array_mut);
    for device in devices.into_iter().flatten() {
        let taints = device.get_mut("taints").and_then(Value::as_array_mut);
        for taint in taints.into_iter().flatten() {
            json::set_default(taint, "timeAdded", json!(Time::now()));
        }
    }
}

/// A set: bounded, and nothing twice.
fn no_repeats<'v>(list: &Field<'v>, most: usize, key: impl Fn(&Field<'v>) -> &'v str, causes: &mut Causes) {
    if list.len() > most {
        causes.push(list.too_many(most));
    }
    let mut seen = Vec::new();
    for entry in list.items() {
        let name = key(&entry);
        if seen.contains(&name) {
            causes.push(entry.duplicate_as(name));
        }
        seen.push(name);
    }
}

fn claim(devices: &Field<'_>, causes: &mut Causes) {
    let requests = devices.at("requests");
    for request in requests.items() {
        device_request(&request, causes);
    }
    no_repeats(&requests, REQUESTS_MAX, |r| r.at("name").text(), causes);
    let constraints = devices.at("constraints");
    if constraints.len() > REQUESTS_MAX {
        causes.push(constraints.too_many(REQUESTS_MAX));
    }
    for constraint in constraints.items() {
        references(&requests, &constraint.at("requests"), causes);
        let (same, different) = (constraint.at("matchAttribute"), constraint.at("distinctAttribute"));
        if same.is_set() {
            qualified(&same, true, causes);
        } else if different.is_set() {
            qualified(&different, true, causes);
        } else {
            let why =
                "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set";
            causes.push(constraint.required(why));
        }
    }
    let config = devices.at("config");
    if config.len() > REQUESTS_MAX {
        causes.push(config.too_many(REQUESTS_MAX));
    }
    for entry in config.items() {
        references(&requests, &entry.at("requests"), causes);
        configuration(&entry, causes);
    }
}

fn device_request(request: &Field<'_>, causes: &mut Causes) {
    const CHOICES_MAX: usize = 8;
    request.at("name").fits(causes, names::dns1123_label);
    let (exactly, first) = (request.at("exactly"), request.at("firstAvailable"));
    const ONE: &str = "exactly one of `exactly` or `firstAvailable` is required";
    match (exactly.is_set(), first.is_empty()) {
        (false, true) => causes.push(request.required(ONE)),
        (true, false) => {
            let why = format!("{ONE}, but multiple fields are set");
            causes.push(request.invalid_as(Value::Null, why));
        }
        (true, true) => asked(&exactly, causes),
        (false, false) => {
            for choice in first.items() {
                choice.at("name").fits(causes, names::dns1123_label);
                asked(&choice, causes);
            }
            no_repeats(&first, CHOICES_MAX, |r| r.at("name").text(), causes);
        }
    }
}

/// What a request or one of its choices asks for.
fn asked(request: &Field<'_>, causes: &mut Causes) {
    request
        .at("deviceClassName")
        .needs_text(causes, names::dns1123_subdomain);
    selectors(&request.at("selectors"), causes);
    let (mode, count) = (request.at("allocationMode"), request.at("count"));
    let number = count.int().unwrap_or(0);
    match mode.text() {
        "All" if number != 0 => {
            causes.push(count.invalid("must not be specified when allocationMode is 'All'"));
        }
        "All" => {}
        "ExactCount" if number <= 0 => causes.push(count.invalid_as(number, "must be greater than zero")),
        "ExactCount" => {}
        _ => causes.push(mode.not_supported(&["All", "ExactCount"])),
    }
    for toleration in request.at("tolerations").items() {
        device_toleration(&toleration, causes);
    }
}

fn device_toleration(toleration: &Field<'_>, causes: &mut Causes) {
    let (key, operator) = (toleration.at("key"), toleration.at("operator"));
    let (value, effect) = (toleration.at("value"), toleration.at("effect"));
    key.if_text(causes, names::qualified_name);
    match operator.text() {
        "Exists" => {
            if !value.is_empty() {
                causes.push(value.invalid("must be empty for operator `Exists`"));
            }
        }
        "Equal" => {
            value.fits(causes, names::label_value);
        }
        "" => causes.push(operator.required("")),
        _ => causes.push(operator.not_supported(&["Equal", "Exists"])),
    }
    if !effect.is_empty() {
        effect.if_one_of(causes, &["NoExecute", "NoSchedule", "None"]);
    }
}

fn selectors(list: &Field<'_>, causes: &mut Causes) {
    const LONGEST: usize = 10 << 10;
    if list.len() > REQUESTS_MAX {
        causes.push(list.too_many(REQUESTS_MAX));
    }
    for selector in list.items() {
        let cel = selector.at("cel");
        if !cel.is_set() {
            causes.push(cel.required(""));
        } else if cel.at("expression").text().len() > LONGEST {
            causes.push(cel.at("expression").too_long(LONGEST));
        }
    }
}

/// Names of requests, or of a request and one of its choices.
fn references(requests: &Field<'_>, list: &Field<'_>, causes: &mut Causes) {
    for reference in list.items() {
        let parts: Vec<&str> = reference.text().split('/').collect();
        if parts.len() > 2 {
            causes.push(reference.invalid(ALLOCATED));
            continue;
        }
        for part in &parts {
            let problems = names::dns1123_label(part);
            causes.extend(problems.iter().map(|why| reference.invalid_as(*part, why)));
        }
        let named = |list: &Field<'_>, name: &str| list.items().any(|r| r.at("name").text() == name);
        let request = requests.items().find(|r| r.at("name").text() == parts[0]);
        let known = request.is_some_and(|r| parts.get(1).is_none_or(|sub| named(&r.at("firstAvailable"), sub)));
        if !known {
            causes.push(reference.invalid_as(reference.text(), ALLOCATED));
        }
    }
    no_repeats(list, REQUESTS_MAX, |r| r.text(), causes);
}

fn configuration(entry: &Field<'_>, causes: &mut Causes) {
    const LONGEST: usize = 10 << 10;
    let opaque = entry.at("opaque");
    if !opaque.is_set() {
        causes.push(opaque.required(""));
        return;
    }
    csi_driver(&opaque.at("driver"), causes);
    let parameters = opaque.at("parameters");
    if !parameters.is_set() {
        causes.push(parameters.required(""));
    } else if parameters.value().to_string().len() > LONGEST {
        causes.push(parameters.too_long(LONGEST));
    } else if !parameters.value().is_object() {
        causes.push(parameters.invalid_as("<value omitted>", "must be a valid JSON object"));
    }
}

/// The name of an attribute or capacity: an identifier, perhaps behind a domain.
fn qualified(name: &Field<'_>, needs_domain: bool, causes: &mut Causes) {
    let text = name.text();
    let (domain, id) = match text.split_once('/') {
        Some((domain, id)) => (Some(domain), id),
        None => (None, text),
    };
    if let Some(domain) = domain {
        if domain.is_empty() {
            causes.push(name.required("the domain must not be empty"));
        } else {
            csi_like_domain(name, domain, causes);
        }
    }
    if domain.is_some() && id.is_empty() {
        causes.push(name.required("the name must not be empty"));
    } else {
        if id.len() > 32 {
            causes.push(name.too_long(32));
        }
        let problems = c_identifier(id);
        causes.extend(problems.iter().map(|why| name.invalid_as(id, why)));
    }
    if needs_domain && domain.is_none() {
        causes.push(name.invalid_as(
            text,
            "a fully qualified name must be a domain and a name separated by a slash",
        ));
    }
}

fn csi_like_domain(name: &Field<'_>, domain: &str, causes: &mut Causes) {
    if domain.len() > 63 {
        causes.push(name.too_long(63));
    }
    let problems = names::dns1123_subdomain(domain);
    causes.extend(problems.iter().map(|why| name.invalid_as(domain, why)));
}

fn slice(object: &Value, causes: &mut Causes) {
    let spec = Field::root(object).at("spec");
    csi_driver(&spec.at("driver"), causes);
    let pool = spec.at("pool");
    pool_name(&pool.at("name"), causes);
    let count = pool.at("resourceSliceCount");
    if count.int().unwrap_or(0) <= 0 {
        causes.push(count.invalid_as(count.int().unwrap_or(0), "must be greater than zero"));
    }
    let generation = pool.at("generation");
    if generation.int().is_some_and(|n| n < 0) {
        causes.push(generation.invalid("must be greater than or equal to zero"));
    }
    where_devices_are(&spec, causes);
    let (devices, counters) = (spec.at("devices"), spec.at("sharedCounters"));
    if devices.is_set() && counters.is_set() {
        causes.push(spec.invalid_as("", "only one of `sharedCounters` or `devices` is allowed"));
    }
    for device in devices.items() {
        slice_device(&device, causes);
    }
    let advanced = |d: Field<'_>| !d.at("taints").is_empty() || !d.at("consumesCounters").is_empty();
    let most = if devices.items().any(advanced) { 64 } else { 128 };
    no_repeats(&devices, most, |d| d.at("name").text(), causes);
    for set in counters.items() {
        set.at("name").needs_text(causes, names::dns1123_label);
        let list = set.at("counters");
        list.needs(causes);
        for (name, counter) in list.entries() {
            causes.extend(
                names::dns1123_label(name)
                    .iter()
                    .map(|why| counter.named(list.path()).invalid_as(name, why)),
            );
        }
    }
    no_repeats(&counters, 8, |set| set.at("name").text(), causes);
}

fn pool_name(name: &Field<'_>, causes: &mut Causes) {
    if name.is_empty() {
        causes.push(name.required(""));
        return;
    }
    if name.text().len() > 253 {
        causes.push(name.too_long(253));
    }
    for part in name.text().split('/') {
        causes.extend(
            names::dns1123_subdomain(part)
                .iter()
                .map(|why| name.invalid_as(part, why)),
        );
    }
}

fn where_devices_are(spec: &Field<'_>, causes: &mut Causes) {
    let mut given = Vec::new();
    let (node, selector) = (spec.at("nodeName"), spec.at("nodeSelector"));
    if node.is_set() && node.is_empty() {
        causes.push(node.invalid("must be either unset or set to a non-empty string"));
    } else if node.is_set() {
        given.push("`nodeName`");
        node.problems(causes, names::dns1123_subdomain(node.text()));
    }
    if selector.is_set() {
        given.push("`nodeSelector`");
        node_selector(&selector, causes);
        let terms = selector.at("nodeSelectorTerms");
        if terms.len() != 1 {
            causes.push(terms.invalid("must have exactly one node selector term"));
        }
    }
    for (name, shown) in [
        ("allNodes", "`allNodes`"),
        ("perDeviceNodeSelection", "`perDeviceNodeSelection`"),
    ] {
        let flag = spec.at(name);
        if flag.flag() {
            given.push(shown);
        } else if flag.is_set() {
            causes.push(flag.invalid("must be either unset or set to true"));
        }
    }
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    match given.len() {
        0 => causes.push(spec.required(ONE)),
        1 => {}
        _ => {
            let shown = format!("{{{}}}", given.join(", "));
            causes.push(spec.invalid_as(shown, format_args!("{ONE}, but multiple fields are set")));
        }
    }
}

fn slice_device(device: &Field<'_>, causes: &mut Causes) {
    const MOST: usize = 32;
    device.at("name").fits(causes, names::dns1123_label);
    let (attributes, capacity) = (device.at("attributes"), device.at("capacity"));
    let total = attributes.len() + capacity.len();
    if total > MOST {
        let why = format!("the total number of attributes and capacities must not exceed {MOST}");
        causes.push(device.invalid_as(total, why));
    }
    for (key, attribute) in attributes.entries() {
        let name = Value::from(key);
        qualified(&Field::root(&name).named(attributes.path()), false, causes);
        attribute_value(&attribute, causes);
    }
    for (key, _) in capacity.entries() {
        let name = Value::from(key);
        qualified(&Field::root(&name).named(capacity.path()), false, causes);
    }
    let taints = device.at("taints");
    if taints.len() > 16 {
        causes.push(taints.too_many(16));
    }
    for taint in taints.items() {
        let (key, effect) = (taint.at("key"), taint.at("effect"));
        key.fits(causes, names::qualified_name);
        taint.at("value").fits(causes, names::label_value);
        effect.needs_one_of(causes, &["NoExecute", "NoSchedule", "None"]);
    }
}

fn attribute_value(attribute: &Field<'_>, causes: &mut Causes) {
    const LONGEST: usize = 64;
    let kinds = [
        "bool", "int", "string", "version", "bools", "ints", "strings", "versions",
    ];
    let given = kinds.iter().filter(|kind| attribute.at(kind).is_set()).count();
    for (name, versions) in [("string", false), ("version", true)] {
        let value = attribute.at(name);
        if versions && value.is_set() && !is_version(value.text()) {
            causes.push(value.invalid("must be a string compatible with semver.org spec 2.0.0"));
        }
        if value.text().len() > LONGEST {
            causes.push(value.too_long(LONGEST));
        }
    }
    if given != 1 {
        let shown = if given == 0 {
            Value::from("")
        } else {
            attribute.value().clone()
        };
        causes.push(attribute.invalid_as(shown, "exactly one value must be specified"));
    }
}

/// semver.org 2.0.0.
fn is_version(text: &str) -> bool {
    let numeric = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) && (part == "0" || !part.starts_with('0'))
    };
    let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let (text, build) = text.split_once('+').map_or((text, None), |(t, b)| (t, Some(b)));
    let (core, release) = text.split_once('-').map_or((text, None), |(t, r)| (t, Some(r)));
    let identifier = |part: &str| word(part) && (numeric(part) || !part.bytes().all(|b| b.is_ascii_digit()));
    core.split('.').count() == 3
        && core.split('.').all(numeric)
        && release.is_none_or(|r| r.split('.').all(identifier))
        && build.is_none_or(|b| b.split('.').all(word))
}

fn claim_status(new: &Value, old: &Value, causes: &mut Causes) {
    const RESERVED_MAX: usize = 256;
    let (status, was) = (Field::root(new).at("status"), Field::root(old).at("status"));
    let (reserved, allocation) = (status.at("reservedFor"), status.at("allocation"));
    for consumer in reserved.items() {
        for name in ["resource", "name", "uid"] {
            consumer.at(name).needs(causes);
        }
    }
    no_repeats(&reserved, RESERVED_MAX, |c| c.at("uid").text(), causes);
    if !reserved.is_empty() && !allocation.is_set() {
        causes.push(reserved.forbidden("may not be specified when `allocated` is not set"));
    } else if json::get(new, "metadata.deletionTimestamp").is_some() {
        let before = json::list(old, "status.reservedFor");
        if json::list(new, "status.reservedFor")
            .iter()
            .any(|c| !before.contains(c))
        {
            let why = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
            causes.push(reserved.forbidden(why));
        }
    }
    if was.at("allocation").is_set() && allocation.is_set() {
        allocation.unchanged(causes, &was.at("allocation"));
    } else if allocation.is_set() {
        let requests = Field::root(new).at("spec.devices.requests");
        for result in allocation.at("devices.results").items() {
            let name = json!([result.at("request").text()]);
            let path = result.at("request").path().to_owned();
            let mut problems = Vec::new();
            references(&requests, &Field::root(&name), &mut problems);
            causes.extend(problems.into_iter().map(|cause| strata_meta::StatusCause {
                field: path.clone(),
                ..cause
            }));
            csi_driver(&result.at("driver"), causes);
            pool_name(&result.at("pool"), causes);
            result.at("device").fits(causes, names::dns1123_label);
        }
        let selector = allocation.at("nodeSelector");
        if selector.is_set() {
            node_selector(&selector, causes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_version;

    #[test]
    fn versions_are_semantic() {
        for good in ["1.2.3", "0.0.1-alpha.1+b.7", "1.0.0+build"] {
            assert!(is_version(good), "{good}");
        }
        for bad in ["1.2", "01.2.3", "1.2.3-", "1.2.3-01", "v1.2.3", ""] {
            assert!(!is_version(bad), "{bad}");
        }
    }
}
