//! YAML bodies: anchors, aliases, merge keys, tags, documents, repeated keys.
//!
//! What is read is, printed as JSON, read as the same; and it is not out of proportion to the text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// Values in a document; a text of eight kilobytes that makes more of itself is a bomb.
fn count(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(count).sum::<usize>(),
        Value::Object(members) => 1 + members.iter().map(|(name, v)| name.len() + count(v)).sum::<usize>(),
        Value::String(text) => 1 + text.len(),
        _ => 1,
    }
}

fuzz_target!(|data: &[u8]| {
    if let Some(value) = strata_api::fuzzing::yaml(data) {
        assert!(count(&value) < 40_000_000, "{} bytes say {} values", data.len(), count(&value));
    }
});
