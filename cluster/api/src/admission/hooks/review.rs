//! admission.k8s.io AdmissionReview: the question and the answer.

use super::Hook;
use crate::{
    admission::{Request, matching::Form},
    json,
    registry::Row,
    schema::RowSchema,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use strata_auth::UserInfo;
use strata_meta::{GroupResource, GroupVersionKind, Status, Uid};
use strata_schema::structural::whole_numbers;

/// The review version a webhook and this server both know: the first of its list.
pub(super) fn version_of(hook: &Hook) -> Option<&'static str> {
    hook.versions.iter().find_map(|version| match version.as_str() {
        "v1" => Some("v1"),
        "v1beta1" => Some("v1beta1"),
        _ => None,
    })
}

/// An object in the form that a webhook or policy is shown it. Errors: 500 when it cannot be converted.
pub(in crate::admission) async fn shown(
    request: &Request<'_>,
    form: &Form,
    object: Option<&Value>,
) -> Result<Value, Status> {
    let Some(mut value) = object.cloned() else {
        return Ok(Value::Null);
    };
    let row = form.row.as_deref().unwrap_or(request.row);
    if request.is_own_kind() {
        value = moved(request, request.row, row, value).await?;
        if let Some(conversion) = row.conversion {
            (conversion.from_stored)(&mut value);
        }
    }
    json::set(&mut value, "apiVersion", form.kind.api_version());
    json::set(&mut value, "kind", form.kind.kind.as_str());
    Ok(value)
}

/// The same as a webhook is sent it.
pub(super) async fn sent(request: &Request<'_>, form: &Form, object: Option<&Value>) -> Result<Value, Status> {
    let mut value = shown(request, form, object).await?;
    if request.row.schema.is_custom() {
        whole_numbers(&mut value);
    }
    Ok(value)
}

/// A custom resource of one version as another has it; all else as it is.
async fn moved(request: &Request<'_>, from: &Row, to: &Row, mut value: Value) -> Result<Value, Status> {
    match to.schema.custom() {
        Some(custom) if from.gvk != to.gvk => {
            json::set(&mut value, "apiVersion", from.gvk.api_version());
            json::set(&mut value, "kind", from.gvk.kind.as_str());
            custom.converted(request.core, value).await
        }
        _ => Ok(value),
    }
}

/// What a webhook made of an object, back in the form the pipeline works with. Errors: a sentence.
pub(in crate::admission) async fn taken_back(
    request: &Request<'_>,
    form: &Form,
    value: Value,
) -> Result<Value, String> {
    let row: &Row = form.row.as_deref().unwrap_or(request.row);
    let kind = &form.kind;
    // Bodies of subresources are built-in kinds, whatever the row.
    let schema = match request.is_own_kind() {
        true => row.schema.clone(),
        false => RowSchema::Builtin,
    };
    let decoded = schema.decode_value(kind, value).map_err(|e| e.to_string())?;
    let mut value = decoded.value;
    schema.apply_defaults(kind, &mut value);
    if request.is_own_kind() {
        if let Some(conversion) = row.conversion {
            (conversion.to_stored)(&mut value);
        }
        value = moved(request, row, request.row, value).await.map_err(|s| s.message)?;
    }
    Ok(value)
}

fn kind_json(kind: &GroupVersionKind) -> Value {
    json!({"group": kind.group, "version": kind.version, "kind": kind.kind})
}

fn resource_json(resource: &GroupResource, version: &str) -> Value {
    json!({"group": resource.group, "version": version, "resource": resource.resource})
}

/// authentication.k8s.io/v1 UserInfo as reviews have it.
pub(in crate::admission) fn user_json(user: &UserInfo) -> Value {
    let mut info = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        json::set(&mut info, "uid", user.uid.as_str());
    }
    if !user.extra.is_empty() {
        json::set(&mut info, "extra", json!(user.extra));
    }
    info
}

/// The `request` of a review without its objects.
pub(in crate::admission) fn attributes(request: &Request<'_>, form: &Form) -> Value {
    let version = form.row.as_deref().map_or(&request.row.gvk.version, |r| &r.gvk.version);
    let mut member = json!({
        "kind": kind_json(&form.kind),
        "resource": resource_json(&form.resource, version),
        "requestKind": kind_json(&request.kind()),
        "requestResource": resource_json(&request.row.resource, &request.row.gvk.version),
        "operation": request.operation.as_str(),
        "userInfo": user_json(request.user),
        "dryRun": request.dry_run,
        "options": request.options(),
    });
    for (name, text) in [
        ("subResource", request.subresource),
        ("requestSubResource", request.subresource),
        ("name", request.name),
        ("namespace", request.rule_namespace()),
    ] {
        if !text.is_empty() {
            json::set(&mut member, name, text);
        }
    }
    member
}

/// The question.
pub(super) fn review(
    request: &Request<'_>,
    form: &Form,
    version: &str,
    uid: &Uid,
    (object, old): (Value, Value),
) -> Value {
    let mut member = attributes(request, form);
    json::set(&mut member, "uid", uid.as_str());
    json::set(&mut member, "object", object);
    json::set(&mut member, "oldObject", old);
    json!({"kind": "AdmissionReview", "apiVersion": format!("admission.k8s.io/{version}"), "request": member})
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    response: Option<Response>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    #[serde(default)]
    uid: String,
    #[serde(default)]
    allowed: bool,
    status: Option<Value>,
    patch: Option<String>,
    patch_type: Option<String>,
    audit_annotations: Option<BTreeMap<String, String>>,
    warnings: Option<Vec<String>>,
}

/// The answer, checked.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) allowed: bool,
    pub(super) result: Option<Value>,
    pub(super) patch: Vec<u8>,
    pub(super) patch_type: String,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) warnings: Vec<String>,
}

/// Reads an answer. Errors: a sentence as upstream words it.
pub(super) fn read(bytes: &[u8], version: &str, uid: &Uid, mutating: bool) -> Result<Answer, String> {
    let review: Review = serde_json::from_slice(bytes)
        .map_err(|e| format!("failed to call webhook: couldn't get version/kind; json parse error: {e}"))?;
    let invalid = |why: String| format!("received invalid webhook response: {why}");
    let response = review
        .response
        .ok_or_else(|| invalid("webhook response was absent".into()))?;
    let patch = response.patch.unwrap_or_default();
    if version == "v1" {
        check(&review.api_version, &review.kind, &response.uid, uid).map_err(invalid)?;
        check_patch(&patch, response.patch_type.as_deref(), mutating).map_err(invalid)?;
    }
    let patch = if mutating { patch } else { String::new() };
    let patch = STANDARD
        .decode(&patch)
        .map_err(|e| format!("failed to call webhook: illegal base64 data: {e}"))?;
    Ok(Answer {
        allowed: response.allowed,
        result: response.status.filter(|s| !s.is_null()),
        patch,
        // v1beta1 knew one type and did not ask for its name.
        patch_type: response.patch_type.unwrap_or_else(|| "JSONPatch".into()),
        annotations: response.audit_annotations.unwrap_or_default(),
        warnings: response.warnings.unwrap_or_default(),
    })
}

fn check(api_version: &str, kind: &str, stated: &str, uid: &Uid) -> Result<(), String> {
    if stated != uid.as_str() {
        return Err(format!("expected response.uid={:?}, got {stated:?}", uid.as_str()));
    }
    if (api_version, kind) != ("admission.k8s.io/v1", "AdmissionReview") {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        return Err(format!(
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {group}/{version}, Kind={kind}"
        ));
    }
    Ok(())
}

fn check_patch(patch: &str, patch_type: Option<&str>, mutating: bool) -> Result<(), String> {
    let why = match (mutating, patch.is_empty(), patch_type) {
        (false, false, _) => "validating webhook may not return response.patch",
        (false, true, Some(_)) => "validating webhook may not return response.patchType",
        (true, false, None) => "webhook returned response.patch but not response.patchType",
        (true, true, Some(_)) => "webhook returned response.patchType but not response.patch",
        (true, false, Some("")) => "webhook returned invalid response.patchType of \"\"",
        _ => return Ok(()),
    };
    Err(why.to_owned())
}

/// A refusal as the client sees it.
pub(super) fn denial(hook: &str, result: Option<Value>) -> Status {
    let denied = format!("admission webhook {hook:?} denied the request");
    let mut result = result.unwrap_or_else(|| json!({}));
    let code = json::int(&result, "code").unwrap_or(0);
    if code < 400 {
        json::set(&mut result, "code", 400);
    }
    if matches!(json::text(&result, "status"), "" | "Success") {
        json::set(&mut result, "status", "Failure");
    }
    let message = match (json::text(&result, "message"), json::text(&result, "reason")) {
        ("", "") => format!("{denied} without explanation"),
        ("", reason) => format!("{denied}: {reason}"),
        (message, _) => format!("{denied}: {message}"),
    };
    json::set(&mut result, "message", message.as_str());
    serde_json::from_value(result).unwrap_or_else(|_| {
        let mut status = Status::bad_request(message);
        status.reason = strata_meta::Reason::Unknown;
        status
    })
}
