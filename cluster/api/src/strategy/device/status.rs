//! What a claim got: its allocation, who uses it, what drivers say of the devices.

use super::{
    claim::{configuration, raw_object, reference, references},
    each, each_once, immutable, internal,
    slice::pool_name,
};
use crate::{
    json,
    strategy::Causes,
    validate::{Field, pod::node_selector, status::conditions, storage::csi_driver},
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, net::IpAddr};
use strata_meta::names;

const RESERVED_MAX: usize = 256;
const RESULTS_MAX: usize = 32;
/// Those of the class and those of the claim.
const CONFIG_MAX: usize = 64;
const BINDING_MAX: usize = 4;
const CONDITIONS_MAX: usize = 8;
const DATA_MAX: usize = 10 << 10;
const ADDRESSES_MAX: usize = 16;

/// What a device is known by: driver, pool, name, share.
fn identity(device: &Value) -> [&str; 4] {
    ["driver", "pool", "device", "shareID"].map(|name| json::text(device, name))
}

/// As upstream's messages show it.
fn shown(device: &Value) -> String {
    let [driver, pool, device, share] = identity(device).map(|text| json!(text));
    format!("{{\"Driver\":{driver},\"Pool\":{pool},\"Device\":{device},\"ShareID\":{share}}}")
}

fn allocated(claim: &Value) -> BTreeSet<[&str; 4]> {
    let results = json::list(claim, "status.allocation.devices.results");
    results.iter().map(identity).collect()
}

/// What drivers said of devices that are no longer allocated is forgotten.
pub(super) fn forget_released(new: &mut Value, old: &Value) {
    let gone: BTreeSet<[String; 4]> = {
        let now = allocated(new);
        let gone = allocated(old).into_iter().filter(|device| !now.contains(device));
        gone.map(|device| device.map(str::to_owned)).collect()
    };
    let Some(devices) = new.pointer_mut("/status/devices").and_then(Value::as_array_mut) else {
        return;
    };
    devices.retain(|device| !gone.contains(&identity(device).map(str::to_owned)));
    if devices.is_empty() {
        json::remove(new, "status.devices");
    }
}

/// Problems of a claim's status.
pub(super) fn judge(new: &Value, old: &Value, causes: &mut Causes) {
    let (status, was) = (Field::root(new).at("status"), Field::root(old).at("status"));
    let (reserved, allocation) = (status.at("reservedFor"), status.at("allocation"));
    let uid = |consumer: &Field<'_>| consumer.at("uid").text().to_owned();
    each_once(&reserved, RESERVED_MAX, uid, causes, |consumer, causes| {
        ["resource", "name", "uid"]
            .iter()
            .for_each(|name| consumer.at(name).needs(causes));
    });
    let devices = status.at("devices");
    let known = allocated(new);
    each(&devices, usize::MAX, causes, |device, causes| {
        device_status(device, &known, causes)
    });
    let mut seen = BTreeSet::new();
    for device in devices.items() {
        if !seen.insert(identity(device.value())) {
            causes.push(device.duplicate_shown(shown(device.value())));
        }
    }
    if !reserved.is_empty() && !allocation.is_set() {
        causes.push(reserved.forbidden("may not be specified when `allocated` is not set"));
    } else if json::get(new, "metadata.deletionTimestamp").is_some() {
        let before = json::list(old, "status.reservedFor");
        let added = json::list(new, "status.reservedFor")
            .iter()
            .any(|c| !before.contains(c));
        if added {
            let why = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
            causes.push(reserved.forbidden(why));
        }
    }
    if was.at("allocation").is_set() && allocation.is_set() {
        immutable(&allocation, &was.at("allocation"), internal::allocation, causes);
    } else if allocation.is_set() {
        let requests = Field::root(new).at("spec.devices.requests");
        allocation_result(&requests, &allocation, causes);
    }
}

fn allocation_result(requests: &Field<'_>, allocation: &Field<'_>, causes: &mut Causes) {
    each(
        &allocation.at("devices.results"),
        RESULTS_MAX,
        causes,
        |result, causes| {
            reference(requests, &result.at("request"), causes);
            csi_driver(&result.at("driver"), causes);
            pool_name(&result.at("pool"), causes);
            result.at("device").fits(causes, names::dns1123_label);
            binding_conditions(result, causes);
            share_id(&result.at("shareID"), causes);
        },
    );
    each(
        &allocation.at("devices.config"),
        CONFIG_MAX,
        causes,
        |config, causes| {
            config.at("source").needs_one_of(causes, &["FromClaim", "FromClass"]);
            references(requests, &config.at("requests"), causes);
            configuration(config, causes);
        },
    );
    let selector = allocation.at("nodeSelector");
    if selector.is_set() {
        node_selector(&selector, causes);
    }
}

fn device_status(device: &Field<'_>, known: &BTreeSet<[&str; 4]>, causes: &mut Causes) {
    csi_driver(&device.at("driver"), causes);
    pool_name(&device.at("pool"), causes);
    device.at("device").fits(causes, names::dns1123_label);
    share_id(&device.at("shareID"), causes);
    if !known.contains(&identity(device.value())) {
        let shown = shown(device.value());
        causes.push(device.invalid_shown(shown, "must be an allocated device in the claim"));
    }
    let list = device.at("conditions");
    if list.len() > CONDITIONS_MAX {
        causes.push(list.too_many(CONDITIONS_MAX));
    }
    conditions(&list, causes);
    let data = device.at("data");
    if data.is_set() {
        raw_object(&data, DATA_MAX, causes);
    }
    let network = device.at("networkData");
    for (name, most) in [("interfaceName", 256), ("hardwareAddress", 128)] {
        if network.at(name).text().len() > most {
            causes.push(network.at(name).too_long(most));
        }
    }
    let text = |address: &Field<'_>| address.text().to_owned();
    each_once(&network.at("ips"), ADDRESSES_MAX, text, causes, interface_address);
}

/// An identifier as RFC 4122 writes it.
fn share_id(field: &Field<'_>, causes: &mut Causes) {
    if !field.is_set() {
        return;
    }
    let text = field.text();
    if let Err(why) = uuid(text) {
        causes.push(field.invalid_as(text, format_args!("error validating uid: {why}")));
    } else if text.len() != 36 || text != text.to_lowercase() {
        let why = "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal characters";
        causes.push(field.invalid_as(text, why));
    }
}

/// Errors: why a text is no UUID in any of its forms.
fn uuid(text: &str) -> Result<(), String> {
    let plain = |digits: &str| digits.bytes().all(|b| b.is_ascii_hexdigit());
    let inner = match text.len() {
        32 if plain(text) => return Ok(()),
        36 => text,
        45 => {
            let (prefix, rest) = text.split_at_checked(9).ok_or("invalid UUID format")?;
            if !prefix.eq_ignore_ascii_case("urn:uuid:") {
                return Err(format!("invalid urn prefix: {prefix:?}"));
            }
            rest
        }
        38 => match text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(inner) => inner,
            None => return Err("invalid bracketed UUID format".to_owned()),
        },
        32 => return Err("invalid UUID format".to_owned()),
        length => return Err(format!("invalid UUID length: {length}")),
    };
    let fits = inner.bytes().enumerate().all(|(at, byte)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    });
    if fits {
        Ok(())
    } else {
        Err("invalid UUID format".to_owned())
    }
}

/// An address with the length of its network.
fn interface_address(field: &Field<'_>, causes: &mut Causes) {
    let parsed = field.text().split_once('/').and_then(|(address, bits)| {
        let address = sloppy(address)?;
        let bits: u8 = bits.parse().ok()?;
        (bits <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, bits))
    });
    let Some((address, bits)) = parsed else {
        causes.push(field.invalid("must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)"));
        return;
    };
    let canonical = match address.to_canonical() {
        IpAddr::V4(short) if address.is_ipv6() && bits >= 96 => format!("{short}/{}", bits - 96),
        address => format!("{address}/{bits}"),
    };
    if canonical != field.text() {
        causes.push(field.invalid(format_args!("must be in canonical form ({canonical:?})")));
    }
}

/// An address; numbers may begin with zeros, as they could once.
fn sloppy(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        return text.parse().ok();
    }
    let numbers = text.split('.').map(|number| match number.trim_start_matches('0') {
        "" if !number.is_empty() => "0",
        rest => rest,
    });
    numbers.collect::<Vec<_>>().join(".").parse().ok()
}

/// Conditions that hold up the use of a device, and those that end it.
pub(super) fn binding_conditions(device: &Field<'_>, causes: &mut Causes) {
    let (wanted, failed) = (device.at("bindingConditions"), device.at("bindingFailureConditions"));
    for list in [&wanted, &failed] {
        each(list, BINDING_MAX, causes, |name, causes| {
            name.fits(causes, names::qualified_name)
        });
    }
    let mut names = BTreeSet::new();
    for name in wanted.items() {
        if !names.insert(name.text()) {
            causes.push(name.duplicate());
        }
    }
    let mut failures = BTreeSet::new();
    for name in failed.items() {
        if !failures.insert(name.text()) {
            causes.push(name.duplicate());
        }
        if names.contains(name.text()) {
            causes.push(name.invalid("bindingFailureConditions must not overlap with bindingConditions"));
        }
    }
    if wanted.is_empty() != failed.is_empty() {
        let why = match wanted.is_empty() {
            true => "bindingConditions are required to use bindingFailureConditions",
            false => "bindingFailureConditions are required to use bindingConditions",
        };
        let missing = if wanted.is_empty() { &wanted } else { &failed };
        causes.push(missing.invalid_as(missing.value().clone(), why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_released_devices_is_forgotten() {
        let device = |name: &str| json!({"driver": "d", "pool": "p", "device": name});
        let claim = |allocated: &[&str], told: &[&str]| {
            let list = |names: &[&str]| names.iter().map(|name| device(name)).collect::<Vec<_>>();
            json!({"status": {"allocation": {"devices": {"results": list(allocated)}}, "devices": list(told)}})
        };
        let mut new = claim(&["a"], &["a", "b"]);
        forget_released(&mut new, &claim(&["a", "b"], &[]));
        assert_eq!(new["status"]["devices"], json!([device("a")]));
        let mut new = claim(&[], &["b"]);
        forget_released(&mut new, &claim(&["b"], &[]));
        assert!(new["status"].get("devices").is_none());
    }

    #[test]
    fn uids_and_addresses_are_in_their_normal_form() {
        for (text, count) in [
            ("01234567-89ab-cdef-0123-456789abcdef", 0),
            ("01234567-89AB-cdef-0123-456789abcdef", 1),
            ("urn:uuid:01234567-89ab-cdef-0123-456789abcdef", 1),
            ("x", 1),
        ] {
            let (value, mut causes) = (Value::from(text), Vec::new());
            share_id(&Field::root(&value), &mut causes);
            assert_eq!(causes.len(), count, "{text}");
        }
        for (text, count) in [
            ("10.0.0.1/24", 0),
            ("::1/64", 0),
            ("0::1/64", 1),
            ("10.0.0.1", 1),
            ("::ffff:1.2.3.4/120", 1),
            ("010.0.0.1/8", 1),
            ("10.0.0/8", 1),
        ] {
            let (value, mut causes) = (Value::from(text), Vec::new());
            interface_address(&Field::root(&value), &mut causes);
            assert_eq!(causes.len(), count, "{text}");
        }
    }
}
