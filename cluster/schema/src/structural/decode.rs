//! Decoding of bodies of custom resources.

use super::{Flags, Path, Structural};
use crate::{Decoded, Error, decode::floating_numbers, decode_untyped, decode_value};
use serde_json::Value;
use strata_meta::GroupVersionKind;

impl Structural {
    /// Decodes a body. Errors: no JSON, or metadata that is none.
    pub fn decode(&self, gvk: &GroupVersionKind, bytes: &[u8]) -> Result<Decoded, Error> {
        let decoded = decode_untyped(bytes)?;
        let mut found = self.decode_value(gvk, decoded.value)?;
        found.strict.splice(0..0, decoded.strict);
        Ok(found)
    }

    /// Types the metadata of embedded resources. Errors: a sentence that begins with the place.
    pub fn read_embedded(&self, value: &mut Value) -> Result<(), String> {
        let read = coerce_embedded(self, value, &Path::ROOT, true, &mut Vec::new());
        read.map_err(|error| error.to_string())
    }

    /// Decodes an object that is JSON already. Errors: metadata that is none.
    pub fn decode_value(&self, gvk: &GroupVersionKind, mut value: Value) -> Result<Decoded, Error> {
        let strict = self.coerce(gvk, &mut value)?;
        Ok(Decoded { value, strict })
    }

    /// Brings an object into form: metadata typed, everything undeclared dropped. What was dropped is
    /// told as strict field validation says it. Errors: metadata that is none.
    pub fn coerce(&self, gvk: &GroupVersionKind, value: &mut Value) -> Result<Vec<String>, Error> {
        let Value::Object(map) = value else {
            return Err(Error::Type(format!(
                "json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
                crate::decode::kind_word(value)
            )));
        };
        map.insert("apiVersion".into(), gvk.api_version().into());
        map.insert("kind".into(), gvk.kind.as_str().into());
        // What is whole but written as floating stays so until it is stored: rules for integers tell the two apart.
        floating_numbers(value);
        let mut strict = Vec::new();
        if let Some(metadata) = value.get_mut("metadata") {
            strict.extend(decode_embedded_metadata(metadata)?);
        }
        strict.extend(
            self.prune(value)
                .into_iter()
                .map(|path| format!("unknown field {path:?}")),
        );
        self.prune_nulls(value);
        let mut unknown = Vec::new();
        coerce_embedded(self, value, &Path::ROOT, true, &mut unknown)?;
        unknown.sort();
        strict.extend(unknown);
        Ok(strict)
    }
}

/// Brings an ObjectMeta into form; what was dropped, as strict field validation says it. Errors: a member
/// that cannot be read.
pub fn decode_embedded_metadata(metadata: &mut Value) -> Result<Vec<String>, Error> {
    let kind = GroupVersionKind::new("meta.k8s.io", "v1", "PartialObjectMetadata");
    let decoded = decode_value(&kind, serde_json::json!({"metadata": metadata.take()}));
    // Upstream reads the metadata by itself.
    let mut decoded = decoded.map_err(|error| match error {
        Error::Type(why) => Error::Type(
            why.replace("Go struct field ObjectMeta.metadata.", "Go struct field ObjectMeta.")
                .replace("Go struct field PartialObjectMetadata.metadata of", "Go value of"),
        ),
        other => other,
    })?;
    *metadata = decoded.value["metadata"].take();
    if metadata.is_null() {
        *metadata = serde_json::json!({});
    }
    Ok(decoded.strict)
}

/// Types the metadata of embedded resources.
fn coerce_embedded(
    schema: &Structural,
    value: &mut Value,
    path: &Path<'_>,
    root: bool,
    unknown: &mut Vec<String>,
) -> Result<(), Error> {
    match value {
        Value::Object(map) => {
            let embedded = schema.is(Flags::EMBEDDED) && !root;
            for (name, member) in map.iter_mut() {
                let here = path.member(name);
                match name.as_str() {
                    "apiVersion" | "kind" if embedded && !member.is_string() => {
                        return Err(Error::Type(format!(
                            "{here}: Invalid value: {member}: must be a string"
                        )));
                    }
                    "metadata" if embedded => {
                        let shown = member.clone();
                        let found = decode_embedded_metadata(member).map_err(|why| {
                            Error::Type(format!("{here}: Invalid value: {:?}: {why}", super::Shown(&shown)))
                        })?;
                        let prefix = format!("unknown field \"{path}.metadata.");
                        unknown.extend(
                            found
                                .iter()
                                .map(|u| u.replacen("unknown field \"metadata.", &prefix, 1)),
                        );
                    }
                    _ => {}
                }
                if let Some(below) = schema.member(name) {
                    coerce_embedded(below, member, &here, false, unknown)?;
                }
            }
        }
        Value::Array(items) => {
            let Some(below) = schema.items.as_deref() else {
                return Ok(());
            };
            for (at, item) in items.iter_mut().enumerate() {
                coerce_embedded(below, item, &path.item(at), false, unknown)?;
            }
        }
        _ => {}
    }
    Ok(())
}
