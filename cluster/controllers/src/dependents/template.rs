//! Pod templates: compared, named, made into pods.

use crate::claim;
use serde::Deserialize;
use serde_json::{Value, json};
use std::fmt::Write as _;
use strata_meta::{Object, ObjectMeta};

/// The label by which a deployment's replica sets tell their templates apart.
pub(crate) const HASH_LABEL: &str = "pod-template-hash";

/// core/v1 PodTemplateSpec.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Template {
    pub metadata: ObjectMeta,
    pub spec: Value,
}

/// The pod that a template stands for, with a name of the server's choice.
pub(crate) fn pod_of(owner: &Object, template: &Template) -> Value {
    let mut metadata = json!({
        "generateName": format!("{}-", owner.name()),
        "ownerReferences": [claim::reference(owner)],
    });
    if !template.metadata.labels.is_empty() {
        metadata["labels"] = json!(template.metadata.labels);
    }
    if !template.metadata.annotations.is_empty() {
        metadata["annotations"] = json!(template.metadata.annotations);
    }
    if !template.metadata.finalizers.is_empty() {
        metadata["finalizers"] = json!(template.metadata.finalizers);
    }
    json!({"metadata": metadata, "spec": template.spec})
}

/// Whether two templates are the same but for the label that holds their hash.
pub(crate) fn equal(a: &Value, b: &Value) -> bool {
    canonical(a) == canonical(b)
}

/// A short name of a template that stays the same as long as the template does; `collisions`
/// makes another one when two templates have the same. Upstream's alphabet, which spells no
/// words; another hash than upstream's, which depends on how Go prints its types.
pub(crate) fn hash(template: &Value, collisions: Option<i32>) -> String {
    let mut text = canonical(template);
    if let Some(count) = collisions {
        write!(text, "/{count}").expect("writing to a String cannot fail");
    }
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let digits = fnv32a(text.as_bytes()).to_string();
    digits
        .bytes()
        .map(|digit| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()]))
        .collect()
}

/// The FNV-1a hash of 32 bits (draft-eastlake-fnv).
fn fnv32a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

/// The template as text: members sorted, without those that mean nothing, without the hash.
fn canonical(template: &Value) -> String {
    let mut template = template.clone();
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(HASH_LABEL);
    }
    let mut out = String::new();
    write_canonical(&mut out, &template, &mut Vec::new());
    out
}

fn write_canonical(out: &mut String, value: &Value, path: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            out.push('{');
            let mut members: Vec<_> = map.iter().filter(|(_, v)| !is_nothing(v)).collect();
            members.sort_by_key(|(name, _)| name.as_str());
            for (name, member) in members {
                // An empty map of labels or annotations is none; an empty object elsewhere, such
                // as `emptyDir: {}`, means something.
                let empty = member.as_object().is_some_and(serde_json::Map::is_empty);
                if empty && path.last().is_none_or(|p| p == "metadata") {
                    continue;
                }
                write!(out, "{name:?}:").expect("writing to a String cannot fail");
                path.push(name.clone());
                write_canonical(out, member, path);
                path.pop();
                out.push(',');
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for item in items {
                write_canonical(out, item, path);
                out.push(',');
            }
            out.push(']');
        }
        scalar => write!(out, "{scalar}").expect("writing to a String cannot fail"),
    }
}

fn is_nothing(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_label_and_empty_members_make_no_difference() {
        let a = json!({"metadata": {"labels": {"app": "x"}, "creationTimestamp": null}, "spec": {"b": 1, "a": [{"c": {}}]}});
        let b = json!({"spec": {"a": [{"c": {}}], "b": 1, "z": []},
            "metadata": {"labels": {"app": "x", "pod-template-hash": "h"}, "annotations": {}}});
        assert!(equal(&a, &b));
        assert_eq!(hash(&a, None), hash(&b, None));
        assert!(!equal(
            &a,
            &json!({"metadata": {"labels": {"app": "x"}}, "spec": {"b": 1, "a": [{}]}})
        ));
    }

    #[test]
    fn hashes_do_not_change_between_versions() {
        let template = json!({"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "a"}]}});
        assert_eq!(hash(&template, None), "559fffb87");
        assert_ne!(hash(&template, Some(1)), hash(&template, None));
    }
}
