//! Dynamic resource allocation: ResourceClaim, ResourceClaimTemplate, DeviceClass, ResourceSlice
//! (k8s.io/kubernetes/pkg/apis/resource/validation).

mod capacity;
mod claim;
mod internal;
mod selector;
mod slice;
mod status;

use super::{
    Causes, columns,
    row::{ROW, Row, field},
};
use crate::{
    json,
    validate::{
        Field,
        formats::{annotations, labels},
        pod::is_extended_resource,
    },
};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use strata_meta::Time;

/// Entries of a list of requests, constraints, configurations or selectors.
const REQUESTS_MAX: usize = 32;

pub(super) static CLAIMS: Row = Row {
    returns_deleted: true,
    columns: &[
        columns::NAME,
        columns::column("State", "string", "What has become of the claim.", |cx| {
            claim_state(cx.object).into()
        }),
        columns::AGE,
    ],
    validate_create: |object, causes| claim::devices(&Field::root(object).at("spec.devices"), causes),
    validate_update: |new, old, causes| immutable_spec(new, old, internal::claim, causes),
    prepare_status: status::forget_released,
    validate_status: status::judge,
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
        claim::devices(&spec.at("spec.devices"), causes);
    },
    validate_update: |new, old, causes| immutable_spec(new, old, internal::template, causes),
    ..ROW
};

pub(super) static CLASSES: Row = Row {
    returns_deleted: true,
    counts: true,
    columns: &[columns::NAME, columns::AGE],
    validate: |object, causes| {
        let spec = Field::root(object).at("spec");
        selector::selectors(&spec.at("selectors"), causes);
        each(&spec.at("config"), REQUESTS_MAX, causes, claim::configuration);
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
    fields: &[field("spec.nodeName"), field("spec.driver")],
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
    validate_create: |object, causes| slice::judge(object, None, causes),
    validate_update: |new, old, causes| slice::judge(new, Some(old), causes),
    warnings: slice::warnings,
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

fn immutable_spec(new: &Value, old: &Value, shown: fn(&Value) -> String, causes: &mut Causes) {
    let (now, was) = (Field::root(new).at("spec"), Field::root(old).at("spec"));
    immutable(&now, &was, shown, causes);
}

/// What may not change is shown as upstream's internal types have it.
fn immutable(now: &Field<'_>, was: &Field<'_>, shown: fn(&Value) -> String, causes: &mut Causes) {
    if !json::equal(Some(now.value()), Some(was.value())) {
        causes.push(now.invalid_shown(shown(now.value()), "field is immutable"));
    }
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

/// A list whose entries are looked at where it is not too long. Tells whether they were.
fn each(list: &Field<'_>, most: usize, causes: &mut Causes, judge: impl Fn(&Field<'_>, &mut Causes)) -> bool {
    if list.len() > most {
        causes.push(list.too_many(most));
        return false;
    }
    for entry in list.items() {
        judge(&entry, causes);
    }
    true
}

/// A list in addition of which no two entries have the same key.
fn each_once(
    list: &Field<'_>,
    most: usize,
    key: impl Fn(&Field<'_>) -> String,
    causes: &mut Causes,
    judge: impl Fn(&Field<'_>, &mut Causes),
) {
    if !each(list, most, causes, judge) {
        return;
    }
    let mut seen = BTreeSet::new();
    for entry in list.items() {
        let name = key(&entry);
        if seen.contains(&name) {
            causes.push(entry.duplicate_as(name));
        } else {
            seen.insert(name);
        }
    }
}
