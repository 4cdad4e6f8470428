//! Compares with answers that the upstream Go libraries gave (see `tests/golden/`): decoding,
//! defaults, strategic merge patches.

use serde::de::DeserializeOwned;
use serde_json::Value;
use strata_meta::{GroupVersion, GroupVersionKind};
use strata_schema::{Error, apply_defaults, decode, decode_value, identify, strategic_merge};

/// The answers of one subject.
fn answers<T: DeserializeOwned>(name: &str) -> Vec<T> {
    let path = format!("{}/../../tests/golden/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// `apps/v1 Deployment`.
fn parse_kind(text: &str) -> GroupVersionKind {
    let (version, kind) = text.split_once(' ').expect("version and kind");
    GroupVersion::parse(version).expect("valid").kind(kind)
}

/// Fails with every difference, so that one run shows them all.
fn report(differences: Vec<String>) {
    assert!(
        differences.is_empty(),
        "{} differences:\n{}",
        differences.len(),
        differences.join("\n")
    );
}

#[derive(serde::Deserialize)]
struct DecodeCase {
    kind: String,
    body: String,
    #[serde(default)]
    strict: Vec<String>,
    #[serde(default)]
    error: String,
    #[serde(default)]
    value: Value,
}

#[test]
fn bodies_decode_as_the_go_types_decode_them() {
    let mut differences = Vec::new();
    for case in answers::<DecodeCase>("decode.json") {
        let outcome =
            identify(case.body.as_bytes()).and_then(|_| decode(&parse_kind(&case.kind), case.body.as_bytes()));
        match outcome {
            Err(Error::Type(message) | Error::Syntax(message)) if message == case.error => {}
            Ok(decoded)
                if case.error.is_empty() && (&decoded.value, &decoded.strict) == (&case.value, &case.strict) => {}
            Err(other) => differences.push(format!(
                "{} {}\n  go   {}{}\n  ours {other}",
                case.kind, case.body, case.error, case.value
            )),
            Ok(ours) => differences.push(format!(
                "{} {}\n  go   {} {:?} {}\n  ours {} {:?}",
                case.kind, case.body, case.value, case.strict, case.error, ours.value, ours.strict
            )),
        }
    }
    report(differences);
}

#[derive(serde::Deserialize)]
struct StrategicCase {
    kind: String,
    original: Value,
    patch: Value,
    #[serde(default)]
    result: Value,
    #[serde(default)]
    error: String,
}

/// Where an error is about types, Go's sentence names Go's types.
fn says(error: &Error, sentence: &str) -> bool {
    let is_about_types = sentence.contains("type") && !sentence.starts_with("unknown patch type");
    is_about_types || error.to_string() == sentence
}

#[test]
fn strategic_patches_merge_as_the_go_library_merges_them() {
    let mut differences = Vec::new();
    for case in answers::<StrategicCase>("strategic.json") {
        let mut ours = case.original.clone();
        let outcome = strategic_merge(&parse_kind(&case.kind), &mut ours, &case.patch);
        match outcome {
            Ok(()) if case.error.is_empty() && ours == case.result => {}
            Err(error) if !case.error.is_empty() && says(&error, &case.error) => {}
            _ => differences.push(format!(
                "{} {}\n  on   {}\n  go   {} {}\n  ours {ours} {outcome:?}",
                case.kind, case.patch, case.original, case.result, case.error
            )),
        }
    }
    report(differences);
}

#[derive(serde::Deserialize)]
struct DefaultsCase {
    kind: String,
    object: Value,
    result: Value,
}

#[test]
fn objects_are_defaulted_as_upstream_defaults_them() {
    let mut differences = Vec::new();
    for case in answers::<DefaultsCase>("defaults.json") {
        let gvk = parse_kind(&case.kind);
        let mut ours = decode_value(&gvk, case.object.clone()).expect("valid").value;
        apply_defaults(&gvk, &mut ours);
        if ours != case.result {
            differences.push(format!(
                "{} {}\n  go   {}\n  ours {ours}",
                case.kind, case.object, case.result
            ));
        }
    }
    report(differences);
}
