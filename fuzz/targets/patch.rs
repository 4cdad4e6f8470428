//! Strategic merge patches of any shape onto objects of any shape, parted by a newline.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use strata_meta::GroupVersionKind;
use strata_schema::strategic_merge;

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(2, |byte| *byte == b'\n');
    let mut next = || serde_json::from_slice::<Value>(parts.next()?).ok();
    let (Some(original), Some(patch)) = (next(), next()) else { return };
    for (group, kind) in [("", "Pod"), ("apps", "Deployment"), ("", "Service")] {
        let gvk = GroupVersionKind::new(group, "v1", kind);
        let mut patched = original.clone();
        let _ = strategic_merge(&gvk, &mut patched, &patch);
    }
});
