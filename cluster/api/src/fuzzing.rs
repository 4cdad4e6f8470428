//! What anybody may send, without a server around it: entry points of the fuzz targets.
//!
//! Each takes bytes or JSON as a client may choose them, and panics when something that always holds does not.

use crate::{
    codec::FieldValidation,
    extension::{CustomResourceDefinition, run_rules},
    request::{Query, RequestInfo},
    schema::RowSchema,
    strategy::{Causes, Strategy},
    verbs::{self, Page},
    yaml,
};
use http::Method;
use serde_json::{Value, json};
use std::sync::Arc;
use strata_meta::GroupVersionKind;
use strata_schema::structural::Structural;

/// Reads a YAML body. What it says, written as JSON, is read as the same.
pub fn yaml(bytes: &[u8]) -> Option<Value> {
    let document = yaml::read(bytes).ok()?;
    let _ = document.strict_error();
    let text = printable(&document.value.to_string());
    let again = yaml::read(text.as_bytes()).expect("JSON is YAML");
    assert_eq!(again.value, document.value, "what was read is what was written");
    assert!(again.strict_error().is_none(), "no key repeats any more");
    Some(document.value)
}

/// JSON with what YAML wants escaped as escapes: controls beyond ASCII and other characters that are not printable
/// (YAML 1.2, section 5.1). In JSON they stand in strings only.
fn printable(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for char in json.chars() {
        match char {
            '\u{7f}'..='\u{9f}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                text.push_str(&format!("\\u{:04x}", u32::from(char)));
            }
            char => text.push(char),
        }
    }
    text
}

/// Applies a patch of a media type to an object of a kind. The outcome is as deep as decoders read at most.
pub fn patch(gvk: &GroupVersionKind, media: &'static str, bytes: &[u8], old: &Value) -> Option<Value> {
    let body = (bytes, FieldValidation::Warn);
    let new = verbs::patch_value(gvk, &RowSchema::Builtin, media, body, old, &mut Vec::new())
        .ok()?
        .value;
    let text = new.to_string();
    let again: Value = serde_json::from_str(&text).expect("what a patch made is JSON that can be read");
    assert_eq!(again, new, "what was read is what was written");
    Some(new)
}

/// Reads a path and query as a request, as the options of a list or watch, and its continue token, which comes back.
pub fn address(text: &str) {
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    let query = Query::parse(query);
    for method in [Method::GET, Method::POST, Method::DELETE] {
        let _ = RequestInfo::new(&method, &Query::decode_path(path), &query);
    }
    for watch in [false, true] {
        let _ = verbs::check_list_options(&query, watch);
    }
    if let Ok(page) = Page::decode(query.get("continue"), None) {
        assert_eq!(Page::decode(&page.encode(None), None).expect("own token"), page);
    }
}

/// Whether a schema may be that of a CustomResourceDefinition; what is wrong with it.
pub fn definition(schema: &Value) -> Result<Arc<Structural>, Vec<String>> {
    let mut definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
        },
    });
    CustomResourceDefinition.prepare_create(&mut definition);
    let mut causes = Causes::new();
    CustomResourceDefinition.validate_create(&definition, &mut causes);
    if causes.is_empty() {
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        return Ok(Arc::new(Structural::parse(schema)));
    }
    Err(causes
        .into_iter()
        .map(|c| format!("{}: {}", c.field, c.message))
        .collect())
}

/// Takes an object into a schema's form and checks it, as on a write that changes `old`; what is wrong with it.
pub fn instance(schema: &Arc<Structural>, object: &Value, old: Option<&Value>) -> Option<Vec<String>> {
    let gvk = GroupVersionKind::new("example.com", "v1", "Thing");
    let mut new = schema.decode_value(&gvk, object.clone()).ok()?.value;
    schema.apply_defaults(&mut new);
    let mut stable = schema
        .decode_value(&gvk, new.clone())
        .expect("what was decoded decodes")
        .value;
    schema.apply_defaults(&mut stable);
    assert_eq!(stable, new, "a form that was reached is kept");
    let mut causes = Causes::new();
    schema.validate(&new, old, &mut causes);
    schema.duplicates(&new, &mut causes);
    run_rules(schema, &new, old, &mut causes);
    Some(
        causes
            .into_iter()
            .map(|c| format!("{}: {}", c.field, c.message))
            .collect(),
    )
}

#[cfg(test)]
mod tests;
