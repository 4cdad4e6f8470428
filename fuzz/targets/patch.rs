//! Patches of the three kinds, of any shape, onto objects of any shape.
//!
//! Input: the object on a line of JSON, then the patch.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use strata_api::fuzzing::patch;
use strata_meta::GroupVersionKind;

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(2, |byte| *byte == b'\n');
    let (Some(original), Some(change)) = (parts.next(), parts.next()) else { return };
    let Ok(original) = serde_json::from_slice::<Value>(original) else { return };
    if change.trim_ascii_start().starts_with(b"[") {
        let gvk = GroupVersionKind::new("", "v1", "Pod");
        patch(&gvk, "application/json-patch+json", change, &original);
        return;
    }
    for (group, kind) in [("", "Pod"), ("apps", "Deployment"), ("", "Service")] {
        let gvk = GroupVersionKind::new(group, "v1", kind);
        patch(&gvk, "application/strategic-merge-patch+json", change, &original);
        patch(&gvk, "application/merge-patch+json", change, &original);
    }
});
