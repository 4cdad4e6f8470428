//! Compares the OpenAPI v3 documents with the published ones.

mod reference;

use serde_json::Value;
use std::collections::BTreeSet;
use strata_meta::GroupVersion;
use strata_schema::{Schema, openapi_v3};

/// What the published documents do not have, or ours do not.
const IGNORED: &[&str] = &[
    "description",
    "enum",
    "x-kubernetes-unions",
    "x-kubernetes-group-version-kind",
];

/// A schema without what is ignored, and with lone references as they are written without siblings.
fn reduced(value: &Value, properties: bool) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members
                .iter()
                .filter(|(name, _)| properties || !IGNORED.contains(&name.as_str()));
            let mut kept: serde_json::Map<String, Value> = kept
                .map(|(name, member)| (name.clone(), reduced(member, name == "properties")))
                .collect();
            if kept.len() == 1
                && !properties
                && let Some(Value::Array(all)) = kept.get("allOf")
            {
                kept = all[0].as_object().expect("a reference").clone();
            }
            Value::Object(kept)
        }
        Value::Array(items) => Value::Array(items.iter().map(|item| reduced(item, false)).collect()),
        other => other.clone(),
    }
}

/// Path, method, action and kind of each operation that is not a watch of old.
fn operations(document: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item
            .as_object()
            .expect("operations")
            .iter()
            .filter(|(name, _)| *name != "parameters")
        {
            let kind = &operation["x-kubernetes-group-version-kind"];
            if !path.contains("/watch/") && !kind.is_null() {
                found.insert(format!("{method} {path} {} {kind}", operation["x-kubernetes-action"]));
            }
        }
    }
    found
}

#[test]
fn documents_say_what_the_published_ones_say() {
    let Some(folder) = reference::module_folder("k8s.io/kubernetes@v1.36.3") else {
        return;
    };
    let mut versions: Vec<GroupVersion> = Schema::builtin()
        .kinds()
        .iter()
        .map(|kind| kind.group_version())
        .collect();
    versions.dedup();
    // One of its types is another version's by another name, which the table does not keep apart.
    versions.retain(|version| version.to_string() != "admissionregistration.k8s.io/v1alpha1");
    let mut differences = Vec::new();
    for version in versions {
        let name = match version.group.is_empty() {
            true => format!("api__{}_openapi.json", version.version),
            false => format!("apis__{}__{}_openapi.json", version.group, version.version),
        };
        let published = std::fs::read(folder.join("api/openapi-spec/v3").join(&name)).expect("published");
        let published: Value = serde_json::from_slice(&published).expect("JSON");
        let ours = openapi_v3(&version).expect("served");
        for difference in operations(&published).symmetric_difference(&operations(&ours)) {
            differences.push(format!("{version}: {difference}"));
        }
        let ours = ours["components"]["schemas"].as_object().expect("schemas");
        for (name, schema) in published["components"]["schemas"].as_object().expect("schemas") {
            let theirs = reduced(schema, false);
            match ours.get(name).map(|schema| reduced(schema, false)) {
                Some(ours) if ours == theirs => {}
                Some(ours) => differences.push(format!("{version}: {name}\n  go   {theirs}\n  ours {ours}")),
                None => differences.push(format!("{version}: {name} is missing")),
            }
        }
    }
    assert!(
        differences.is_empty(),
        "{} differences:\n{}",
        differences.len(),
        differences.join("\n")
    );
}
