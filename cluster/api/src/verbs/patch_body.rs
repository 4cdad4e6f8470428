//! The bodies of patches: what they say, and what field validation says of them.

use super::repeats::{self, Repeat};
use crate::{
    codec::{FieldValidation, unsupported_media},
    jsonpatch,
    schema::{RowSchema, no_such_patch},
};
use serde_json::{Map, Value, value::RawValue};
use strata_meta::{GroupVersionKind, Reason, Status};
use strata_schema::{kind_word, structural::go_float};

/// Operations of one JSON patch (upstream's limit).
const MAX_OPERATIONS: usize = 10_000;
/// The members of an operation.
const MEMBERS: [&str; 4] = ["from", "op", "path", "value"];
/// Upstream's sentence for whatever a merge patch cannot be.
const NO_PATCH: &str = "Invalid JSON Patch";

/// What kind of patch a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PatchKind {
    Json,
    Merge,
    Strategic,
}

impl PatchKind {
    /// By media type. Errors: 415.
    pub(super) fn of(media: &str, schema: &RowSchema) -> Result<Self, Status> {
        match media {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/strategic-merge-patch+json" if schema.is_custom() => Err(no_such_patch()),
            "application/strategic-merge-patch+json" => Ok(Self::Strategic),
            _ if schema.is_custom() => Err(no_such_patch()),
            _ => Err(unsupported_media(&[
                "application/json-patch+json",
                "application/merge-patch+json",
                "application/strategic-merge-patch+json",
                "application/apply-patch+yaml",
            ])),
        }
    }
}

/// A patch that was read.
pub(super) struct PatchBody {
    patch: Patch,
    /// What strict field validation objects to in the patch itself.
    pub(super) strict: Vec<String>,
    /// Keys that repeat in what it makes.
    pub(super) repeats: Vec<Repeat>,
}

enum Patch {
    Json(Vec<jsonpatch::Operation>),
    Merge(Map<String, Value>),
    /// It takes the place of the object, which no validation but a lenient one lets it try.
    Instead(Value),
    Strategic(Value),
}

impl PatchBody {
    /// Reads a body. Errors: 400 and 413, told when there is an object to be patched.
    pub(super) fn read(kind: PatchKind, bytes: &[u8], validation: FieldValidation) -> Result<Self, Status> {
        let lenient = validation == FieldValidation::Ignore;
        let prefix = if lenient || kind == PatchKind::Strategic {
            ""
        } else {
            "error decoding patch: "
        };
        let refused = |why: &str| Status::bad_request(format_args!("{prefix}{why}"));
        let decoded = strata_schema::decode_untyped(bytes).map_err(|error| match kind {
            PatchKind::Merge if lenient => Status::bad_request(NO_PATCH),
            _ => refused(&error.to_string()),
        })?;
        let (value, mut strict) = (decoded.value, decoded.strict);
        let is_object = matches!(value, Value::Object(_) | Value::Null);
        let patch = match kind {
            PatchKind::Json => {
                let list = if lenient {
                    "jsonpatch.Patch"
                } else {
                    "[]handlers.jsonPatchOp"
                };
                let operations = operations(bytes, value, list, lenient, &mut strict).map_err(|why| refused(&why))?;
                check_count(operations.len())?;
                Patch::Json(operations)
            }
            PatchKind::Merge if lenient && value.is_array() => Patch::Instead(value),
            PatchKind::Merge if lenient && !value.is_object() => return Err(Status::bad_request(NO_PATCH)),
            _ if !is_object => {
                let found = kind_word(&value);
                let why = format!("json: cannot unmarshal {found} into Go value of type map[string]interface {{}}");
                return Err(refused(&why));
            }
            PatchKind::Merge => match value {
                Value::Object(members) => Patch::Merge(members),
                _ => return Err(Status::bad_request(NO_PATCH)),
            },
            PatchKind::Strategic if value.is_null() => Patch::Strategic(Value::Object(Map::new())),
            PatchKind::Strategic => Patch::Strategic(value),
        };
        if lenient {
            strict.clear();
        }
        let repeats = match &patch {
            Patch::Json(operations) if !strict.is_empty() => repeats::of_outcome(operations, &strict),
            _ => Vec::new(),
        };
        Ok(Self { patch, strict, repeats })
    }

    /// The object as the patch makes it. Errors: 400, 422 and 500 as upstream interprets what fails.
    pub(super) fn apply(&self, schema: &RowSchema, gvk: &GroupVersionKind, old: &Value) -> Result<Value, Status> {
        let mut new = old.clone();
        match &self.patch {
            Patch::Json(patch) => {
                jsonpatch::apply(&mut new, patch).map_err(|why| {
                    // Upstream: 422 without causes, whatever failed in the patch.
                    let mut status = Status::failure(
                        Reason::Invalid,
                        "the server rejected our request due to an error in our request",
                    );
                    tracing::debug!(%why, "a JSON patch does not apply");
                    status.details = Some(Box::default());
                    status
                })?;
            }
            Patch::Merge(patch) => match &mut new {
                Value::Object(members) => merge(members, patch),
                _ => return Err(Status::bad_request("Invalid JSON Document")),
            },
            Patch::Instead(value) => new.clone_from(value),
            Patch::Strategic(patch) => schema.strategic_merge(gvk, &mut new, patch)?,
        }
        Ok(new)
    }

    /// Whether it is a strategic merge, whose outcome upstream converts rather than decodes.
    pub(super) fn is_strategic(&self) -> bool {
        matches!(self.patch, Patch::Strategic(_))
    }

    /// What a refusal of the outcome shows: the outcome, or for a strategic merge the patch as Go prints it.
    pub(super) fn shown(&self, new: &Value) -> String {
        match &self.patch {
            Patch::Strategic(patch) => go_text(patch),
            _ => new.to_string(),
        }
    }
}

/// What a patch made of something.
pub(crate) struct Patched {
    /// The outcome.
    pub(crate) value: Value,
    /// What a refusal of it shows.
    pub(crate) shown: String,
    /// Whether it is converted rather than decoded.
    pub(crate) converts: bool,
}

/// Applies the patch of a request to a value of a built-in kind that is not a stored object, though it may stand for
/// one of another `schema`; what strict validation objects to in the
/// patch itself is added to `strict`.
pub(crate) fn patch_value(
    gvk: &GroupVersionKind,
    schema: &RowSchema,
    media: &str,
    (bytes, validation): (&[u8], FieldValidation),
    old: &Value,
    strict: &mut Vec<String>,
) -> Result<Patched, Status> {
    let kind = PatchKind::of(media.split(';').next().unwrap_or("").trim(), schema)?;
    let mut body = PatchBody::read(kind, bytes, validation)?;
    strict.append(&mut body.strict);
    let value = body.apply(&RowSchema::Builtin, gvk, old)?;
    Ok(Patched {
        shown: body.shown(&value),
        converts: body.is_strategic(),
        value,
    })
}

fn check_count(count: usize) -> Result<(), Status> {
    if count <= MAX_OPERATIONS {
        return Ok(());
    }
    let why = format!(
        "Request entity too large: The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {count}"
    );
    Err(Status::failure(Reason::RequestEntityTooLarge, why))
}

/// The operations of a JSON patch. Errors: a sentence.
fn operations(
    bytes: &[u8],
    value: Value,
    list_type: &str,
    lenient: bool,
    strict: &mut Vec<String>,
) -> Result<Vec<jsonpatch::Operation>, String> {
    let items = match value {
        Value::Array(items) => items,
        Value::Null => return Ok(Vec::new()),
        other => {
            let found = kind_word(&other);
            return Err(format!(
                "json: cannot unmarshal {found} into Go value of type {list_type}"
            ));
        }
    };
    if lenient {
        check_items(&items, "jsonpatch.Operation")?;
    } else {
        check_items(&items, "handlers.jsonPatchOp")?;
        check_members(&items)?;
        *strict = objections(bytes, &items);
    }
    Ok(items.into_iter().map(jsonpatch::Operation::from_value).collect())
}

fn check_items(items: &[Value], item_type: &str) -> Result<(), String> {
    match items.iter().find(|item| !item.is_object() && !item.is_null()) {
        None => Ok(()),
        Some(other) => {
            let found = kind_word(other);
            Err(format!(
                "json: cannot unmarshal {found} into Go value of type {item_type}"
            ))
        }
    }
}

/// Where text is wanted there is text.
fn check_members(items: &[Value]) -> Result<(), String> {
    for item in items {
        for name in ["from", "op", "path"] {
            if let Some(other) = item.get(name).filter(|v| !v.is_string() && !v.is_null()) {
                let found = kind_word(other);
                return Err(format!(
                    "json: cannot unmarshal {found} into Go struct field jsonPatchOp.{name} of type string"
                ));
            }
        }
    }
    Ok(())
}

/// Keys that an operation repeats or that mean nothing there, operation by operation.
fn objections(bytes: &[u8], items: &[Value]) -> Vec<String> {
    let mut all = Vec::new();
    // What was read as a list once is read as one again.
    let Ok(raw) = serde_json::from_slice::<Vec<&RawValue>>(bytes) else {
        return all;
    };
    for (at, (item, raw)) in items.iter().zip(raw).enumerate() {
        let within = |path: &str| format!("[{at}].{path}");
        let repeated = strata_schema::decode_untyped(raw.get().as_bytes()).map_or_else(|_| Vec::new(), |d| d.strict);
        for objection in repeated {
            // `duplicate field "path"`.
            let path = objection.split('"').nth(1).unwrap_or_default();
            all.push(format!("json patch duplicate field {:?}", within(path)));
        }
        let names = item.as_object().into_iter().flatten().map(|(name, _)| name);
        for name in names.filter(|name| !MEMBERS.contains(&name.as_str())) {
            all.push(format!("json patch unknown field {:?}", within(name)));
        }
    }
    all
}

/// JSON Merge Patch as upstream's library has it: RFC 7386, but nulls go from within lists as well where they are new.
fn merge(members: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (name, wanted) in patch {
        match (members.get_mut(name), wanted) {
            (_, Value::Null) => drop(members.remove(name)),
            (Some(Value::Object(below)), Value::Object(patch)) => merge(below, patch),
            (Some(present @ Value::Object(_)), wanted) => present.clone_from(wanted),
            (_, wanted) => {
                let mut wanted = wanted.clone();
                drop_nulls(&mut wanted);
                members.insert(name.clone(), wanted);
            }
        }
    }
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// A value as Go's `%+v` prints it.
fn go_text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Array(list) => format!("[{}]", list.iter().map(go_text).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let pairs: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{}", go_text(v))).collect();
            format!("map[{}]", pairs.join(" "))
        }
        Value::Number(number) if number.is_f64() => go_float(number.as_f64().unwrap_or(f64::NAN)),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(kind: PatchKind, text: &str, validation: FieldValidation) -> Result<PatchBody, String> {
        PatchBody::read(kind, text.as_bytes(), validation).map_err(|status| status.message)
    }

    #[test]
    fn keys_that_repeat_in_a_patch_are_told_with_their_place() {
        use FieldValidation::{Ignore, Strict, Warn};
        let merge = r#"{"data": {"a": "1", "a": "2"}, "x": [{"y": 1, "y": 2}]}"#;
        let told = vec![r#"duplicate field "data.a""#, r#"duplicate field "x[0].y""#];
        for kind in [PatchKind::Merge, PatchKind::Strategic] {
            for validation in [Strict, Warn] {
                assert_eq!(read(kind, merge, validation).expect("a patch").strict, told);
            }
            assert!(read(kind, merge, Ignore).expect("a patch").strict.is_empty());
        }
        let list = r#"[{"op": "add", "op": "test", "path": "/a", "value": {"b": 1, "b": 2}, "more": 1}, {"c": 1}]"#;
        let told = vec![
            r#"json patch duplicate field "[0].op""#,
            r#"json patch duplicate field "[0].value.b""#,
            r#"json patch unknown field "[0].more""#,
            r#"json patch unknown field "[1].c""#,
        ];
        assert_eq!(read(PatchKind::Json, list, Warn).expect("a patch").strict, told);
    }

    #[test]
    fn floating_numbers_are_printed_as_go_does() {
        for (float, text) in [
            (2.0, "2"),
            (2.5, "2.5"),
            (123_456.5, "123456.5"),
            (1e6, "1e+06"),
            (3e9, "3e+09"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-1.25e-100, "-1.25e-100"),
        ] {
            assert_eq!(go_float(float), text);
        }
    }

    #[test]
    fn what_is_no_patch_is_refused_in_the_words_of_its_kind() {
        use FieldValidation::{Ignore, Warn};
        let object = "json: cannot unmarshal array into Go value of type map[string]interface {}";
        let list = "json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp";
        for (kind, text, validation, why) in [
            (PatchKind::Merge, "[]", Warn, format!("error decoding patch: {object}")),
            (PatchKind::Merge, "1", Ignore, NO_PATCH.to_owned()),
            (PatchKind::Merge, "null", Warn, NO_PATCH.to_owned()),
            (PatchKind::Strategic, "[]", Warn, object.to_owned()),
            (PatchKind::Json, "{}", Warn, format!("error decoding patch: {list}")),
        ] {
            assert_eq!(
                read(kind, text, validation).err().as_deref(),
                Some(why.as_str()),
                "{text}"
            );
        }
        assert!(read(PatchKind::Json, "null", Warn).is_ok());
        let many = serde_json::to_string(&vec![json!({"op": "test"}); MAX_OPERATIONS + 1]).expect("JSON");
        let why = read(PatchKind::Json, &many, Warn).err().expect("too many");
        assert!(why.ends_with("is 10000, got 10001"), "{why}");
    }

    #[test]
    fn a_merge_takes_nulls_out_of_what_is_new_and_leaves_them_in_lists_that_replace_an_object() {
        let mut members = json!({"a": {"b": 1, "c": 2}, "l": [1], "o": {"p": 1}});
        let patch = json!({"a": {"b": null, "n": {"x": null, "y": 1}}, "l": [{"z": null}, null], "o": [{"z": null}]});
        let (Value::Object(members), Value::Object(patch)) = (&mut members, &patch) else {
            unreachable!("both are objects");
        };
        merge(members, patch);
        let merged = json!({"a": {"c": 2, "n": {"y": 1}}, "l": [{}, null], "o": [{"z": null}]});
        assert_eq!(Value::Object(members.clone()), merged);
    }
}
