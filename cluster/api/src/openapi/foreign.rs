//! What other servers say of their own groups and versions, kept compressed.

use crate::encode::gzip;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use strata_meta::{GroupVersion, Status};

/// A group and version as its server describes it.
pub(crate) struct Described {
    /// Changes with the v3 document, by the server's own word.
    pub(crate) hash: String,
    v3: Bytes,
    v2: Option<Bytes>,
}

impl Described {
    /// From the v3 document and, if there is one, the server's whole v2 document. Errors: why they cannot be kept.
    pub(crate) fn new(hash: String, v3: &[u8], v2: Option<&Value>, version: &GroupVersion) -> Result<Self, String> {
        let compress = |bytes: &[u8]| gzip::compress(bytes).map(Bytes::from).map_err(|e| e.to_string());
        let v2 = v2.map(|whole| part(whole, &format!("/apis/{}/{}/", version.group, version.version)).to_string());
        Ok(Self {
            hash,
            v3: compress(v3)?,
            v2: v2.map(|text| compress(text.as_bytes())).transpose()?,
        })
    }

    /// The v3 document. Errors: 500.
    pub(super) fn v3(&self) -> Result<Vec<u8>, Status> {
        gzip::expand(&self.v3).map_err(Status::internal)
    }

    /// The group and version's part of the v2 document. Errors: 500.
    pub(super) fn v2(&self) -> Result<Option<Value>, Status> {
        let Some(compressed) = &self.v2 else {
            return Ok(None);
        };
        let text = gzip::expand(compressed).map_err(Status::internal)?;
        serde_json::from_slice(&text).map(Some).map_err(Status::internal)
    }
}

/// The paths below a prefix, and what they lead to.
fn part(whole: &Value, prefix: &str) -> Value {
    let paths = whole["paths"].as_object().into_iter().flatten();
    let paths: Map<String, Value> = paths
        .filter(|(path, _)| path.starts_with(prefix))
        .map(|(path, item)| (path.clone(), item.clone()))
        .collect();
    let mut waiting: Vec<&Value> = paths.values().collect();
    let mut found = BTreeSet::new();
    while let Some(value) = waiting.pop() {
        match value {
            Value::Array(items) => waiting.extend(items),
            Value::Object(members) => {
                waiting.extend(members.values());
                let target = members.get("$ref").and_then(Value::as_str);
                if let Some(target) = target
                    && found.insert(target)
                    && let Some(definition) = target.strip_prefix('#').and_then(|at| whole.pointer(at))
                {
                    waiting.push(definition);
                }
            }
            _ => {}
        }
    }
    let kept = |member: &str| -> Map<String, Value> {
        let start = format!("#/{member}/");
        let names = found.iter().filter_map(|target| target.strip_prefix(start.as_str()));
        names
            .filter_map(|name| Some((name.to_owned(), whole[member].get(name)?.clone())))
            .collect()
    };
    json!({"paths": paths, "definitions": kept("definitions"), "parameters": kept("parameters")})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_group_and_versions_own_part_is_kept() {
        let whole = json!({
            "paths": {
                "/apis/a/v1/x": {"get": {"schema": {"$ref": "#/definitions/X"}}, "parameters": [{"$ref": "#/parameters/p"}]},
                "/apis/a/v2/y": {"get": {"schema": {"$ref": "#/definitions/Y"}}},
            },
            "definitions": {"X": {"properties": {"z": {"$ref": "#/definitions/Z"}}}, "Y": {}, "Z": {"items": {"$ref": "#/definitions/X"}}},
            "parameters": {"p": {"name": "p"}, "q": {"name": "q"}},
        });
        let kept = part(&whole, "/apis/a/v1/");
        let names = |member: &str| {
            kept[member]
                .as_object()
                .expect("an object")
                .keys()
                .cloned()
                .collect::<Vec<_>>()
        };
        assert_eq!(names("paths"), ["/apis/a/v1/x"]);
        assert_eq!(
            (names("definitions"), names("parameters")),
            (vec!["X".into(), "Z".into()], vec!["p".to_owned()])
        );
    }
}
