//! Server-side apply of any object onto any object of a built-in or a custom kind.
//!
//! Input: a byte for kind, force and manager, then the live object and the configuration, a line of JSON each.
//! Whoever applies the same twice changes nothing, and managed fields come back as they were written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use std::sync::{Arc, OnceLock};
use strata_meta::{GroupVersionKind, Time};
use strata_schema::{
    apply::{self, BuiltinKind, CustomKind, Filter, Kind, Write},
    apply_defaults,
    structural::{Structural, whole_numbers},
};

fn kinds() -> &'static [Box<dyn Kind>] {
    static KINDS: OnceLock<Vec<Box<dyn Kind>>> = OnceLock::new();
    KINDS.get_or_init(|| {
        let scalars = json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}});
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "set": scalars,
            "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a", "b"],
                "items": {"type": "object", "required": ["a"], "properties": {"a": {"type": "string"},
                    "b": {"type": "integer", "default": 1}, "set": scalars}}},
            "atomic": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": {"type": "string"}},
            "list": {"type": "array", "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            "any": {"x-kubernetes-preserve-unknown-fields": true},
            "either": {"x-kubernetes-int-or-string": true},
        }}}});
        let custom = GroupVersionKind::new("example.com", "v1", "Thing");
        let builtin = |group: &str, kind: &str| -> Box<dyn Kind> {
            Box::new(BuiltinKind::new(&GroupVersionKind::new(group, "v1", kind)).expect("known"))
        };
        let custom = CustomKind::new(&custom, &Arc::new(Structural::parse(&schema)), Vec::new());
        vec![builtin("", "Pod"), builtin("apps", "Deployment"), builtin("", "Service"), Box::new(custom)]
    })
}

fn managed(object: &Value) -> &Value {
    &object["metadata"]["managedFields"]
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else { return };
    let mut parts = rest.splitn(2, |byte| *byte == b'\n');
    let mut next = || serde_json::from_slice::<Value>(parts.next()?).ok().filter(Value::is_object);
    let (Some(live), Some(config)) = (next(), next()) else { return };
    let kind = &*kinds()[usize::from(choice & 3)];
    let manager = if choice & 4 == 0 { "fuzz" } else { "kubectl" };
    let (force, filter, now) = (choice & 8 != 0, Filter::without(&[&["status"]]), Time::from_second(0));
    let write = Write { kind, manager, subresource: "", filter: &filter, now };
    let complete = |mut object: Value| {
        apply_defaults(kind.gvk(), &mut object);
        // As the store gives it back.
        kind.normalise(object).map(|mut object| {
            whole_numbers(&mut object);
            object
        })
    };
    let Ok(live) = complete(live) else { return };
    // Whatever entries an object has, they were let in.
    if apply::check_entries(managed(&live)).is_err() {
        return;
    }
    let live = match apply::update(&write, None, live) {
        Ok(live) | Err((_, live)) => live,
    };
    apply::check_entries(managed(&live)).expect("entries that were written are read");
    for before in [None, Some(&live)] {
        let Ok(new) = apply::apply(&write, before, &config, force).and_then(|new| {
            complete(new).map_err(apply::ApplyError::Invalid)
        }) else {
            continue;
        };
        apply::check_entries(managed(&new)).expect("entries that were written are read");
        // An object that nobody manages gets a manager for what it has when it is applied to.
        if managed(&new).is_null() {
            continue;
        }
        let again = apply::apply(&write, Some(&new), &config, false).expect("who applied may apply again");
        let again = complete(again).expect("what was in form stays in form");
        assert_eq!(again, new, "applying the same again changes nothing");
        if let Ok(updated) = apply::update(&write, Some(&new), new.clone()) {
            assert_eq!(updated, new, "writing what is there changes nothing");
        }
    }
});
