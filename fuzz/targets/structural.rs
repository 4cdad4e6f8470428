//! Schemas of CustomResourceDefinitions of any shape, and objects of any shape held to them.
//!
//! Input: the schema, the object and what the object was, a line of JSON each. A schema is refused or admitted; if
//! it is admitted, objects are pruned, defaulted, validated and run through its rules.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use strata_api::fuzzing::{definition, instance};

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(3, |byte| *byte == b'\n');
    let mut next = || serde_json::from_slice::<Value>(parts.next()?).ok();
    let Some(schema) = next() else { return };
    let (object, old) = (next(), next());
    let Ok(schema) = definition(&schema) else { return };
    let Some(object) = object.filter(Value::is_object) else { return };
    let _ = instance(&schema, &object, old.as_ref());
});
