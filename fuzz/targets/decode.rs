//! JSON bodies of built-in kinds: what decodes is coded in protobuf and comes back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strata_meta::GroupVersionKind;
use strata_schema::{apply_defaults, decode, decode_untyped, identify, normalise, protobuf, syntax_error};

const KINDS: [(&str, &str, &str); 6] = [
    ("", "v1", "Pod"),
    ("apps", "v1", "Deployment"),
    ("", "v1", "Service"),
    ("apiextensions.k8s.io", "v1", "CustomResourceDefinition"),
    ("autoscaling", "v2", "HorizontalPodAutoscaler"),
    ("networking.k8s.io", "v1", "Ingress"),
];

fuzz_target!(|data: &[u8]| {
    let Some((which, body)) = data.split_first() else { return };
    let (group, version, kind) = KINDS[usize::from(*which) % KINDS.len()];
    let gvk = GroupVersionKind::new(group, version, kind);
    let _ = identify(body);
    let _ = decode_untyped(body);
    let _ = syntax_error(body);
    let Ok(decoded) = decode(&gvk, body) else { return };
    let mut value = decoded.value;
    apply_defaults(&gvk, &mut value);
    if normalise(&gvk, &mut value).is_err() {
        return;
    }
    let Ok(message) = protobuf::encode_message(&gvk, &value) else { return };
    let again = protobuf::decode_message(&gvk, &message).expect("what was coded decodes");
    let twice = protobuf::encode_message(&gvk, &again).expect("what decoded is coded");
    assert_eq!(message, twice, "protobuf is stable");
});
