//! patch: JSON, merge and strategic merge patches, and server-side apply.

use super::{
    Change, Part, WriteOptions, apply::apply_patch, apply_change, field_manager, update::check_patched_address,
};
use crate::{
    codec::{decode_patched, invalid_options, read_body, unsupported_media},
    encode::object_response,
    json, jsonpatch,
    pipeline::Call,
    registry::Row,
    schema::RowSchema,
};
use http::{Response, header::CONTENT_TYPE};
use serde_json::Value;
use std::sync::Arc;
use strata_http::Body;
use strata_meta::{GroupVersionKind, Reason, Status, StatusCause};

/// Operations of one JSON patch (upstream's limit).
const MAX_OPERATIONS: usize = 10_000;

enum Patch {
    Json(Vec<jsonpatch::Operation>),
    Merge(Value),
    Strategic(Value),
}

/// Changes an object.
pub(crate) async fn patch(call: &mut Call, row: &Arc<Row>, part: Part, body: Body) -> Result<Response<Body>, Status> {
    let form = call.form()?;
    let options = WriteOptions::read(call, "PatchOptions")?;
    let media = call
        .headers
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("");
    let media = media.split(';').next().unwrap_or("").trim().to_owned();
    let bytes = read_body(body).await?;
    if media == "application/apply-patch+yaml" {
        return apply_patch(call, row, part, &bytes).await;
    }
    if !call.query.get("force").is_empty() {
        let cause = StatusCause::forbidden("force", "may not be specified for non-apply patch");
        return Err(invalid_options("PatchOptions", cause));
    }
    let patch = read_patch(&media, &bytes)?;
    let manager = field_manager(call);
    let (namespace, name) = (call.info.namespace.clone(), call.info.name.clone());
    let change = Change {
        core: &call.core,
        user: &call.user,
        row,
        namespace: &namespace,
        name: &name,
        part,
        subresource: &call.info.subresource,
        dry_run: options.dry_run,
        demands_revision: false,
        manager: Some(&manager),
    };
    let patched = apply_change(&change, &mut call.warnings, |old, said| {
        let present = json::text(old, "metadata.resourceVersion").to_owned();
        let mut new = apply(&row.schema, &row.gvk, &patch, old)?;
        let whole = new.as_object().is_some_and(|m| m.contains_key("metadata"));
        if !whole {
            return Err(Status::bad_request("the patched object has no metadata"));
        }
        let shown = patch.shown(&new);
        // A patch that says nothing of the revision applies to whatever is there.
        if json::text(&new, "metadata.resourceVersion") == present {
            json::remove(&mut new, "metadata.resourceVersion");
        }
        let decoded = decode_patched(&row.schema, &row.gvk, new, options.validation, said);
        let mut new = decoded.map_err(|status| patch.undecodable(&shown, status))?;
        check_patched_address(row, &mut new, &namespace, &name)?;
        row.schema.apply_defaults(&row.gvk, &mut new);
        Ok(new)
    })
    .await?;
    Ok(object_response(200, row, &patched, form, call.include_object()?))
}

impl Patch {
    fn undecodable(&self, shown: &str, mut status: Status) -> Status {
        if let (Self::Strategic(_), Some(why)) = (self, unconverted(&status.message)) {
            status.message = why;
        }
        undecodable(shown, status)
    }

    /// What a refusal of the outcome shows: the outcome, or for a strategic merge the patch as Go prints it.
    fn shown(&self, new: &Value) -> String {
        match self {
            Self::Json(_) | Self::Merge(_) => new.to_string(),
            Self::Strategic(patch) => go_text(patch),
        }
    }
}

/// What upstream's converter says of a text where a number belongs: it is not Go's decoder that reads such a patch.
fn unconverted(why: &str) -> Option<String> {
    let (_, found) = why.split_once("json: cannot unmarshal string into Go ")?;
    let kind = found.rsplit(" of type ").next()?;
    kind.starts_with("int").then(|| format!("unrecognized type: {kind}"))
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
        other => other.to_string(),
    }
}

/// Upstream reports what a patch made undecodable as an invalid patch of nothing in particular.
fn undecodable(shown: &str, status: Status) -> Status {
    let why = match status.message.split_once(" cannot be handled as a ") {
        Some((_, rest)) => rest.split_once(": ").map_or(rest, |(_, why)| why),
        None => &status.message,
    };
    let nothing = strata_meta::GroupKind {
        group: String::new(),
        kind: String::new(),
    };
    Status::invalid(&nothing, "", vec![StatusCause::invalid("patch", shown, why)])
}

/// Applies the patch of a request to a value that is not a stored object.
pub(crate) fn patch_value(
    gvk: &GroupVersionKind,
    headers: &http::HeaderMap,
    bytes: &[u8],
    old: &Value,
) -> Result<Value, Status> {
    let media = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    apply(
        &RowSchema::Builtin,
        gvk,
        &read_patch(media.split(';').next().unwrap_or("").trim(), bytes)?,
        old,
    )
}

/// What stands where a list of operations should.
fn no_list(value: &Value) -> Option<&'static str> {
    match value {
        Value::Object(_) => Some("object"),
        Value::String(_) => Some("string"),
        Value::Number(_) => Some("number"),
        Value::Bool(_) => Some("bool"),
        Value::Array(_) | Value::Null => None,
    }
}

fn read_patch(media: &str, bytes: &[u8]) -> Result<Patch, Status> {
    let decode_error = |e: serde_json::Error| {
        let why = strata_schema::syntax_error(bytes).unwrap_or_else(|| e.to_string());
        Status::bad_request(format_args!("error decoding patch: {why}"))
    };
    let object = |bytes: &[u8]| -> Result<Value, Status> {
        let value: Value = serde_json::from_slice(bytes).map_err(decode_error)?;
        if value.is_object() {
            Ok(value)
        } else {
            Err(Status::bad_request(
                "error decoding patch: json: cannot unmarshal into Go value of type map[string]interface {}",
            ))
        }
    };
    match media {
        "application/json-patch+json" => {
            let patch: Value = serde_json::from_slice(bytes).map_err(decode_error)?;
            if let Some(kind) = no_list(&patch) {
                return Err(Status::bad_request(format_args!(
                    "error decoding patch: json: cannot unmarshal {kind} into Go value of type []handlers.jsonPatchOp"
                )));
            }
            let patch: Vec<jsonpatch::Operation> = serde_json::from_value(patch).map_err(decode_error)?;
            if patch.len() > MAX_OPERATIONS {
                let why = format!(
                    "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
                    patch.len()
                );
                return Err(Status::failure(Reason::RequestEntityTooLarge, why));
            }
            Ok(Patch::Json(patch))
        }
        "application/merge-patch+json" => object(bytes).map(Patch::Merge),
        "application/strategic-merge-patch+json" => object(bytes).map(Patch::Strategic),
        _ => Err(unsupported_media(&[
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/strategic-merge-patch+json",
            "application/apply-patch+yaml",
        ])),
    }
}

fn apply(schema: &RowSchema, gvk: &GroupVersionKind, patch: &Patch, old: &Value) -> Result<Value, Status> {
    let mut new = old.clone();
    match patch {
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
        Patch::Merge(patch) => json_patch::merge(&mut new, patch),
        Patch::Strategic(patch) => schema.strategic_merge(gvk, &mut new, patch)?,
    }
    Ok(new)
}
