//! Every kind of the upstream API module, with every field filled, in both forms.

mod reference;

use serde_json::Value;
use std::path::Path;
use strata_meta::GroupVersion;
use strata_schema::{decode_value, protobuf};

#[test]
fn every_kind_has_the_same_bytes_and_json_as_upstream() {
    let Some(folder) = reference::module_folder("k8s.io/api@v0.36.3") else {
        return;
    };
    let mut differences = Vec::new();
    let mut compared = 0;
    let entries = std::fs::read_dir(folder.join("testdata/HEAD")).expect("test data");
    for path in entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "pb"))
    {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let bytes = std::fs::read(&path).expect("bytes");
        let json = std::fs::read(path.with_extension("json")).expect("JSON");
        let json: Value = serde_json::from_slice(&json).expect("JSON");
        compared += 1;
        // A watch event is no object: it has neither kind nor metadata.
        let Some(kind) = json["kind"].as_str() else {
            assert_eq!(name, "core.v1.WatchEvent");
            continue;
        };
        let gvk = GroupVersion::parse(json["apiVersion"].as_str().expect("a version"))
            .expect("valid")
            .kind(kind);
        match protobuf::decode_to_json(&bytes, None) {
            Ok(decoded) if decoded == json => {}
            Ok(decoded) => differences.push(format!("{name}: {}", first_difference("", &json, &decoded))),
            Err(error) => differences.push(format!("{name}: {error}")),
        }
        match protobuf::encode_from_json(&gvk, &json) {
            Ok(encoded) if encoded == bytes => {}
            Ok(encoded) => {
                let at = encoded.iter().zip(&bytes).position(|(a, b)| a != b);
                differences.push(format!(
                    "{name}: encoded {} bytes for {}, first difference at {at:?}",
                    encoded.len(),
                    bytes.len()
                ));
            }
            Err(error) => differences.push(format!("{name}: {error}")),
        }
        match decode_value(&gvk, json.clone()) {
            Ok(decoded) if decoded.value == json && decoded.strict.is_empty() => {}
            Ok(decoded) => differences.push(format!(
                "{name}: normalised: {} {:?}",
                first_difference("", &json, &decoded.value),
                decoded.strict
            )),
            Err(error) => differences.push(format!("{name}: {error}")),
        }
    }
    assert!(compared >= 185, "only {compared} kinds");
    assert!(
        differences.is_empty(),
        "{} differences:\n{}",
        differences.len(),
        differences.join("\n")
    );
}

fn first_difference(path: &str, theirs: &Value, ours: &Value) -> String {
    match (theirs, ours) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys()) {
                if a.get(key) != b.get(key) {
                    let null = Value::Null;
                    return first_difference(
                        &format!("{path}.{key}"),
                        a.get(key).unwrap_or(&null),
                        b.get(key).unwrap_or(&null),
                    );
                }
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            if let Some(at) = (0..a.len()).find(|at| a[*at] != b[*at]) {
                return first_difference(&format!("{path}[{at}]"), &a[at], &b[at]);
            }
        }
        _ => {}
    }
    format!("{path}: go {theirs}, ours {ours}")
}

/// What three releases back wrote reads as that release meant it: fields that are gone since are dropped.
#[test]
fn what_older_releases_wrote_is_read_and_written_as_upstream_does() {
    let Some(folder) = reference::module_folder("k8s.io/api@v0.36.3") else {
        return;
    };
    let read = |path: &Path| std::fs::read(path).ok();
    let (mut differences, mut compared) = (Vec::new(), 0);
    for release in ["v1.33.0", "v1.34.0", "v1.35.0"] {
        let entries = std::fs::read_dir(folder.join("testdata").join(release)).expect("test data");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        for path in paths.filter(|path| path.extension().is_some_and(|e| e == "pb")) {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let present = folder.join("testdata/HEAD").join(format!("{name}.pb")).exists();
            if name.ends_with(".after_roundtrip") || !present || name == "core.v1.WatchEvent" {
                continue;
            }
            compared += 1;
            let after = |extension: &str| path.with_file_name(format!("{name}.after_roundtrip.{extension}"));
            let bytes = read(&path).expect("bytes");
            let json: Value = serde_json::from_slice(&read(&path.with_extension("json")).expect("JSON")).expect("JSON");
            let wanted_json = read(&after("json")).map_or(json.clone(), |b| serde_json::from_slice(&b).expect("JSON"));
            let wanted_bytes = read(&after("pb")).unwrap_or_else(|| bytes.clone());
            let gvk = GroupVersion::parse(json["apiVersion"].as_str().expect("a version"))
                .expect("valid")
                .kind(json["kind"].as_str().expect("a kind"));
            let mut differ = |what: &str, why: String| differences.push(format!("{release} {name} {what}: {why}"));
            match decode_value(&gvk, json) {
                Ok(decoded) if decoded.value == wanted_json => {}
                Ok(decoded) => differ("JSON", first_difference("", &wanted_json, &decoded.value)),
                Err(error) => differ("JSON", error.to_string()),
            }
            match protobuf::decode_to_json(&bytes, None).and_then(|v| protobuf::encode_from_json(&gvk, &v)) {
                Ok(again) if again == wanted_bytes => {}
                Ok(again) => {
                    let shown = |b: &[u8]| protobuf::decode_to_json(b, None).unwrap_or_default();
                    differ("protobuf", first_difference("", &shown(&wanted_bytes), &shown(&again)));
                }
                Err(error) => differ("protobuf", error.to_string()),
            }
        }
    }
    assert!(compared >= 500, "only {compared} files");
    assert!(
        differences.is_empty(),
        "{} differences:\n{}",
        differences.len(),
        differences.join("\n")
    );
}

#[test]
fn damaged_bytes_are_refused() {
    let gvk = strata_meta::GroupVersionKind::new("", "v1", "Pod");
    let pod = serde_json::json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let whole = protobuf::encode_from_json(&gvk, &pod).expect("encoded");
    for end in 0..whole.len() {
        let _ = protobuf::decode_to_json(&whole[..end], Some(&gvk));
    }
    for at in 4..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0xff;
        let _ = protobuf::decode_to_json(&damaged, Some(&gvk));
    }
    assert!(protobuf::decode_to_json(b"k8s", None).is_err() && protobuf::decode_to_json(b"k8s\0", None).is_err());
}

#[test]
fn lists_and_watch_events_are_made_of_encoded_objects() {
    let pod = strata_meta::GroupVersionKind::new("", "v1", "Pod");
    let list = strata_meta::GroupVersionKind::new("", "v1", "PodList");
    let one = serde_json::json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}});
    let message = protobuf::encode_message(&pod, &one).expect("encoded");
    let bytes = protobuf::encode_list(
        &list,
        &serde_json::json!({"resourceVersion": "7"}),
        [message.as_slice()].into_iter(),
    )
    .expect("encoded");
    let decoded = protobuf::decode_to_json(&bytes, None).expect("decoded");
    assert_eq!(
        (&decoded["kind"], &decoded["metadata"]["resourceVersion"]),
        (&"PodList".into(), &"7".into())
    );
    assert_eq!(decoded["items"][0]["metadata"]["name"], "p");
    let object = protobuf::seal(&pod, &message);
    let frame = protobuf::watch_frame("ADDED", &object).expect("framed");
    assert_eq!(
        u32::from_be_bytes(frame[..4].try_into().expect("four bytes")) as usize,
        frame.len() - 4
    );
    assert!(frame.windows(object.len()).any(|window| window == object));
}
