//! Protobuf bodies: what decodes is coded again and decodes to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strata_meta::GroupVersionKind;
use strata_schema::protobuf;

fuzz_target!(|data: &[u8]| {
    let _ = protobuf::open(data);
    let _ = protobuf::decode_to_json(data, None);
    for (group, version, kind) in [("", "v1", "Pod"), ("apps", "v1", "Deployment"), ("", "v1", "Secret")] {
        let gvk = GroupVersionKind::new(group, version, kind);
        let Ok(value) = protobuf::decode_message(&gvk, data) else { continue };
        let Ok(coded) = protobuf::encode_message(&gvk, &value) else { continue };
        let again = protobuf::decode_message(&gvk, &coded).expect("what was coded decodes");
        assert_eq!(value, again);
    }
});
