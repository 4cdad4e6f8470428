//! What a driver says it has: ResourceSlice.

use super::{capacity, claim::qualified, each, each_once, internal, status::binding_conditions};
use crate::{
    json,
    strategy::Causes,
    validate::{Field, pod::node_selector, storage::csi_driver},
};
use serde_json::Value;
use strata_meta::names;

/// Devices of a slice, and of one whose devices have taints or consume counters.
const DEVICES_MAX: [usize; 2] = [128, 64];
const COUNTER_SETS_MAX: usize = 8;
/// Counters of a set, or of what one device consumes of it.
const COUNTERS_MAX: usize = 32;
/// Sets that one device consumes of.
const CONSUMPTIONS_MAX: usize = 2;
/// Attributes and capacities of a device together.
const ATTRIBUTES_MAX: usize = 32;
/// Values of all attributes together.
const VALUES_MAX: usize = 48;
const TAINTS_MAX: usize = 16;
/// Bytes of an attribute's text.
const TEXT_MAX: usize = 64;

/// Problems of a slice; `old` is what it was.
pub(super) fn judge(object: &Value, old: Option<&Value>, causes: &mut Causes) {
    let spec = Field::root(object).at("spec");
    csi_driver(&spec.at("driver"), causes);
    pool(&spec.at("pool"), causes);
    if let Some(old) = old {
        let was = Field::root(old).at("spec");
        for name in ["pool.name", "driver", "nodeName"] {
            spec.at(name).unchanged(causes, &was.at(name));
        }
    }
    where_devices_are(&spec, causes);
    let (devices, counters) = (spec.at("devices"), spec.at("sharedCounters"));
    if devices.is_set() && counters.is_set() {
        causes.push(spec.invalid_as("", "only one of `sharedCounters` or `devices` is allowed"));
    }
    let name = |entry: &Field<'_>| entry.at("name").text().to_owned();
    let most = DEVICES_MAX[usize::from(devices.items().any(|device| is_advanced(&device)))];
    let of_device = spec.at("perDeviceNodeSelection").flag();
    each_once(&devices, most, name, causes, |entry, causes| {
        let was = old.and_then(|old| device_named(old, entry.at("name").text()));
        device(entry, was, of_device, causes);
    });
    each_once(&counters, COUNTER_SETS_MAX, name, causes, |set, causes| {
        set.at("name").needs_text(causes, names::dns1123_label);
        consumed(&set.at("counters"), causes);
    });
}

/// Sentences for the author.
pub(super) fn warnings(new: &Value, _: Option<&Value>) -> Vec<String> {
    let driver = json::text(new, "spec.driver");
    let said = driver != driver.to_lowercase();
    said.then(|| format!("spec.driver: driver names should be lowercase; {driver:?} contains uppercase characters"))
        .into_iter()
        .collect()
}

fn is_advanced(device: &Field<'_>) -> bool {
    let lists = ["bools", "ints", "strings", "versions"];
    let has_lists = |attribute: &Field<'_>| lists.iter().any(|name| attribute.at(name).is_set());
    !device.at("taints").is_empty()
        || !device.at("consumesCounters").is_empty()
        || device.at("attributes").entries().any(|(_, a)| has_lists(&a))
}

fn device_named<'v>(slice: &'v Value, name: &str) -> Option<&'v Value> {
    let devices = json::list(slice, "spec.devices");
    devices.iter().find(|device| json::text(device, "name") == name)
}

fn pool(pool: &Field<'_>, causes: &mut Causes) {
    pool_name(&pool.at("name"), causes);
    let (count, generation) = (pool.at("resourceSliceCount"), pool.at("generation"));
    if count.int().unwrap_or(0) <= 0 {
        causes.push(count.invalid_as(count.int().unwrap_or(0), "must be greater than zero"));
    }
    if generation.int().is_some_and(|n| n < 0) {
        causes.push(generation.invalid("must be greater than or equal to zero"));
    }
}

/// The name of a pool: subdomains between slashes.
pub(super) fn pool_name(name: &Field<'_>, causes: &mut Causes) {
    const LONGEST: usize = 253;
    if name.is_empty() {
        causes.push(name.required(""));
        return;
    }
    if name.text().len() > LONGEST {
        causes.push(name.too_long(LONGEST));
    }
    for part in name.text().split('/') {
        let problems = names::dns1123_subdomain(part);
        causes.extend(problems.iter().map(|why| name.invalid_as(part, why)));
    }
}

/// The name of a node, or of none.
fn node_name(name: &Field<'_>, why: &str, given: &mut Vec<&str>, causes: &mut Causes) {
    if name.is_set() && name.is_empty() {
        causes.push(name.invalid(why));
    } else if name.is_set() {
        given.push("`nodeName`");
        name.problems(causes, names::dns1123_subdomain(name.text()));
    }
}

/// A flag that may be true or absent.
fn only_true<'s>(flag: &Field<'_>, shown: &'s str, given: &mut Vec<&'s str>, causes: &mut Causes) {
    if flag.flag() {
        given.push(shown);
    } else if flag.is_set() {
        causes.push(flag.invalid("must be either unset or set to true"));
    }
}

/// How those of which there must be one are shown.
fn together(given: &[&str]) -> String {
    format!("{{{}}}", given.join(", "))
}

fn where_devices_are(spec: &Field<'_>, causes: &mut Causes) {
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    let mut given = Vec::new();
    let unset = "must be either unset or set to a non-empty string";
    node_name(&spec.at("nodeName"), unset, &mut given, causes);
    let selector = spec.at("nodeSelector");
    if selector.is_set() {
        given.push("`nodeSelector`");
        node_selector(&selector, causes);
        let terms = selector.at("nodeSelectorTerms");
        if terms.len() != 1 {
            let shown = internal::terms(terms.value());
            causes.push(terms.invalid_shown(shown, "must have exactly one node selector term"));
        }
    }
    only_true(&spec.at("allNodes"), "`allNodes`", &mut given, causes);
    let each = spec.at("perDeviceNodeSelection");
    only_true(&each, "`perDeviceNodeSelection`", &mut given, causes);
    match given.len() {
        0 => causes.push(spec.required(ONE)),
        1 => {}
        _ => causes.push(spec.invalid_as(together(&given), format_args!("{ONE}, but multiple fields are set"))),
    }
}

fn device(device: &Field<'_>, old: Option<&Value>, chooses_nodes: bool, causes: &mut Causes) {
    device.at("name").fits(causes, names::dns1123_label);
    let (attributes, capacities) = (device.at("attributes"), device.at("capacity"));
    let total = attributes.len() + capacities.len();
    if total > ATTRIBUTES_MAX {
        let why = format!("the total number of attributes and capacities must not exceed {ATTRIBUTES_MAX}");
        causes.push(device.invalid_as(total, why));
    }
    let values: usize = attributes.entries().map(|(_, attribute)| values_of(&attribute)).sum();
    if values > VALUES_MAX {
        let why = format!("the total number of attribute values must not exceed {VALUES_MAX}");
        causes.push(device.invalid_as(values, why));
    }
    named(&attributes, causes, attribute_value);
    let shared = device.at("allowMultipleAllocations").flag();
    named(&capacities, causes, |entry, causes| {
        capacity::judge(entry, shared, causes)
    });
    let taints = device.at("taints");
    if old.is_none_or(|old| !json::equal(old.get("taints"), Some(taints.value()))) {
        each(&taints, TAINTS_MAX, causes, taint);
    }
    let set = |entry: &Field<'_>| entry.at("counterSet").text().to_owned();
    let consumes = device.at("consumesCounters");
    each_once(&consumes, CONSUMPTIONS_MAX, set, causes, |entry, causes| {
        entry.at("counterSet").needs_text(causes, names::dns1123_label);
        consumed(&entry.at("counters"), causes);
    });
    where_device_is(device, chooses_nodes, causes);
    binding_conditions(device, causes);
}

/// Entries by names that may have a domain.
fn named(map: &Field<'_>, causes: &mut Causes, judge: impl Fn(&Field<'_>, &mut Causes)) {
    for (key, entry) in map.entries() {
        let name = Value::from(key);
        qualified(&Field::root(&name).named(map.path()), causes);
        let place = format!("{}[{}]", map.path(), cut(key));
        judge(&entry.named(place), causes);
    }
}

/// A key as a path shows it: the middle of a long one is left out.
fn cut(key: &str) -> String {
    // A domain, a slash and a name.
    const MOST: usize = 96;
    let rest = MOST - "...".len();
    if key.len() <= MOST || !key.is_ascii() {
        return key.to_owned();
    }
    format!("{}...{}", &key[..rest.div_ceil(2)], &key[key.len() - rest / 2..])
}

/// Counters by their names.
fn consumed(counters: &Field<'_>, causes: &mut Causes) {
    if counters.is_empty() {
        causes.push(counters.required(""));
    } else if counters.len() > COUNTERS_MAX {
        causes.push(counters.too_many(COUNTERS_MAX));
    } else {
        for (name, _) in counters.entries() {
            let problems = names::dns1123_label(name);
            causes.extend(problems.iter().map(|why| counters.invalid_as(name, why)));
        }
    }
}

fn where_device_is(device: &Field<'_>, chooses: bool, causes: &mut Causes) {
    let (name, selector, all) = (device.at("nodeName"), device.at("nodeSelector"), device.at("allNodes"));
    if !chooses {
        if name.is_set() || selector.is_set() || all.is_set() {
            let why = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
            causes.push(device.invalid_as(Value::Null, why));
        }
        return;
    }
    let mut given = Vec::new();
    node_name(&name, "must not be empty", &mut given, causes);
    if selector.is_set() {
        given.push("`nodeSelector`");
        node_selector(&selector, causes);
    }
    only_true(&all, "`allNodes`", &mut given, causes);
    let one = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    match given.len() {
        0 => causes.push(device.required(one)),
        1 => {}
        _ => causes.push(device.invalid_as(together(&given), one)),
    }
}

/// A taint of a device.
fn taint(taint: &Field<'_>, causes: &mut Causes) {
    let (key, effect) = (taint.at("key"), taint.at("effect"));
    key.fits(causes, names::qualified_name);
    taint.at("value").if_text(causes, names::label_value);
    effect.needs_one_of(causes, &["NoExecute", "NoSchedule", "None"]);
}

/// How many values an attribute has.
fn values_of(attribute: &Field<'_>) -> usize {
    let lists = ["bools", "ints", "strings", "versions"];
    let listed: usize = lists.iter().map(|name| attribute.at(name).len()).sum();
    listed.max(1)
}

fn attribute_value(attribute: &Field<'_>, causes: &mut Causes) {
    let kinds = ["int", "bool", "string", "version"];
    let mut given = kinds.iter().filter(|kind| attribute.at(kind).is_set()).count();
    short(&attribute.at("string"), causes);
    if attribute.at("version").is_set() {
        version(&attribute.at("version"), causes);
    }
    for name in ["bools", "ints", "strings", "versions"] {
        let list = attribute.at(name);
        if !list.is_set() {
            continue;
        }
        given += 1;
        if list.is_empty() {
            causes.push(list.invalid("must not be empty if specified"));
        }
        match name {
            "strings" => list.items().for_each(|item| short(&item, causes)),
            "versions" => list.items().for_each(|item| version(&item, causes)),
            _ => {}
        }
    }
    match given {
        0 => causes.push(attribute.invalid_as("", "exactly one value must be specified")),
        1 => {}
        _ => {
            let shown = internal::attribute(attribute.value());
            causes.push(attribute.invalid_shown(shown, "exactly one value must be specified"));
        }
    }
}

fn short(text: &Field<'_>, causes: &mut Causes) {
    if text.text().len() > TEXT_MAX {
        causes.push(text.too_long(TEXT_MAX));
    }
}

fn version(text: &Field<'_>, causes: &mut Causes) {
    if !is_version(text.text()) {
        causes.push(text.invalid("must be a string compatible with semver.org spec 2.0.0"));
    }
    short(text, causes);
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
