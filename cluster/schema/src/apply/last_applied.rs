//! What kubectl's client-side apply left: the annotation with the configuration it applied last.

use super::compare::{compare, field_set};
use super::node::Node;
use super::set::Set;
use super::validate;
use serde_json::Value;

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Upstream's limit of all annotations of an object.
const ANNOTATIONS_LIMIT: usize = 256 * 1024;

/// What was applied and is unchanged since; `None` if there is no configuration of this version.
pub(super) fn unchanged(node: &dyn Node, version: &str, live: &Value) -> Option<Set> {
    let text = live["metadata"]["annotations"].get(LAST_APPLIED)?.as_str()?;
    let last: Value = serde_json::from_str(text).ok()?;
    if last["apiVersion"].as_str()? != version || validate::problems(node, &last).is_some() {
        return None;
    }
    let found = compare(node, &last, live).ok()?;
    let mut set = field_set(node, &last).ok()?;
    for changed in [&found.modified, &found.added, &found.removed] {
        set.subtract(changed);
    }
    Some(set)
}

/// Brings the annotation, if there is one, to the configuration that is applied now.
pub(super) fn renew(object: &mut Value, config: &Value) {
    let annotations = object.pointer_mut("/metadata/annotations");
    let Some(annotations) = annotations.and_then(Value::as_object_mut) else {
        return;
    };
    let present = annotations.get(LAST_APPLIED).and_then(Value::as_str);
    if present.is_none_or(str::is_empty) {
        return;
    }
    let mut config = config.clone();
    if let Some(metadata) = config.get_mut("metadata").and_then(Value::as_object_mut) {
        let own = metadata.get_mut("annotations").and_then(Value::as_object_mut);
        let left = own.map(|own| {
            own.remove(LAST_APPLIED);
            own.len()
        });
        if left == Some(0) {
            metadata.remove("annotations");
        }
    }
    annotations.insert(LAST_APPLIED.to_owned(), format!("{}\n", go_json(&config)).into());
    let length = |value: &Value| value.as_str().map_or(0, str::len);
    let size: usize = annotations.iter().map(|(name, value)| name.len() + length(value)).sum();
    if size > ANNOTATIONS_LIMIT {
        annotations.remove(LAST_APPLIED);
    }
}

/// JSON as Go's encoder writes it, with what HTML could read escaped.
fn go_json(value: &Value) -> String {
    let json = value.to_string();
    if !json.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        return json;
    }
    json.chars()
        .map(|c| match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => format!("\\u{:04x}", u32::from(c)),
            other => other.to_string(),
        })
        .collect()
}
