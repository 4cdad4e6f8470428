//! Server-side apply (KEP-555).

use super::{
    Change, Creation, Part, WriteOptions, apply_change, create_object, deadline::Deadline, find,
    options::field_manager, update::check_patched_address,
};
use crate::{
    codec::{FieldValidation, invalid_options},
    encode::object_response,
    json,
    pipeline::Call,
    registry::Row,
    tracking::{self, Tracked},
    yaml,
};
use http::Response;
use serde_json::Value;
use std::sync::Arc;
use strata_http::Body;
use strata_meta::{GroupVersionKind, Reason, Status, StatusCause, StatusDetails, Time};
use strata_schema::{
    apply::{self, ApplyError, Write},
    structural::whole_numbers,
};

/// Brings an object to what the caller's configuration says of it, or makes it.
pub(super) async fn apply_patch(
    call: &mut Call,
    row: &Arc<Row>,
    part: Part,
    bytes: &[u8],
) -> Result<Response<Body>, Status> {
    let form = call.form()?;
    let options = WriteOptions::read(call, "PatchOptions")?;
    let mut config = read_config(call, &row.gvk, bytes, options.validation)?;
    if row.schema.is_custom() {
        // As items of a set 1 and 1.0 are one.
        whole_numbers(&mut config);
    }
    let manager = field_manager(call);
    let force = call.query.is_true("force");
    let subresource = call.info.subresource.clone();
    let (namespace, name) = (call.info.namespace.clone(), call.info.name.clone());
    let tracked = Tracked::of(&call.core, row);
    let write = Write {
        kind: tracked.kind(),
        manager: &manager,
        subresource: &subresource,
        filter: tracking::filter(row, &subresource),
        now: Time::now(),
    };
    let complete = |mut new: Value| -> Result<Value, Status> {
        json::remove(&mut new, "metadata.resourceVersion");
        copy_revision(&config, &mut new);
        check_patched_address(row, &mut new, &namespace, &name)?;
        row.schema.apply_defaults(&row.gvk, &mut new);
        Ok(new)
    };
    let deadline = Deadline::begin();
    // The object may come and go between finding and writing it.
    loop {
        deadline.check()?;
        if find(row, &namespace, &name).is_err() && part == Part::Main {
            let uid = json::text(&config, "metadata.uid");
            if !uid.is_empty() {
                let why =
                    format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
                return Err(Status::conflict(&row.resource, &name, why));
            }
            let new = apply::apply(&write, None, &config, force).map_err(refused)?;
            if json::text(&config, "metadata.name").is_empty() {
                return Err(Status::bad_request(format_args!(
                    "the name of the object ({name} based on URL) was undeterminable: name must be provided"
                )));
            }
            let new = complete(new)?;
            let info = call.info.clone();
            call.core.authorize_create(&call.user, &info).await?;
            let creation = Creation {
                core: &call.core,
                user: &call.user,
                row,
                namespace: &namespace,
                manager: None,
                dry_run: options.dry_run,
            };
            match create_object(&creation, new, &mut call.warnings).await {
                Err(status) if status.is_already_exists() => continue,
                Err(status) => return Err(status),
                Ok(object) => return Ok(object_response(201, row, &object, form, call.include_object()?)),
            }
        }
        let change = Change {
            core: &call.core,
            user: &call.user,
            row,
            namespace: &namespace,
            name: &name,
            part,
            subresource: &subresource,
            dry_run: options.dry_run,
            demands_revision: false,
            manager: None,
        };
        let applied = apply_change(&change, &mut call.warnings, |old, _| {
            complete(apply::apply(&write, Some(old), &config, force).map_err(refused)?)
        });
        match applied.await {
            Err(status) if status.is_not_found() && part == Part::Main => {}
            Err(status) => return Err(status),
            Ok(object) => return Ok(object_response(200, row, &object, form, call.include_object()?)),
        }
    }
}

/// A configuration that names a revision holds for that one only.
fn copy_revision(config: &Value, new: &mut Value) {
    let stated = json::text(config, "metadata.resourceVersion");
    if !stated.is_empty() {
        json::set(new, "metadata.resourceVersion", stated);
    }
}

/// The configuration of an apply patch, which needs a name only where there is nothing yet. Errors: it has no manager, is
/// no YAML or something else.
pub(crate) fn read_config(
    call: &mut Call,
    gvk: &GroupVersionKind,
    bytes: &[u8],
    validation: FieldValidation,
) -> Result<Value, Status> {
    if call.query.get("fieldManager").is_empty() {
        let cause = StatusCause::required("fieldManager", "is required for apply patch");
        return Err(invalid_options("PatchOptions", cause));
    }
    crate::audit::patch(bytes);
    let document = yaml::read(bytes).map_err(|e| {
        Status::bad_request(format_args!(
            "error decoding YAML: error converting YAML to JSON: yaml: {e}"
        ))
    })?;
    match (validation, document.strict_error()) {
        (FieldValidation::Strict, Some(why)) => {
            return Err(Status::bad_request(format_args!(
                "error strict decoding YAML: error converting YAML to JSON: {why}"
            )));
        }
        (FieldValidation::Warn, Some(_)) => call.warnings.extend(document.repeated()),
        _ => {}
    }
    let config = document.value;
    if !config.is_object() {
        return Err(Status::bad_request(
            "error decoding YAML: the configuration is no object",
        ));
    }
    let (version, kind) = (json::text(&config, "apiVersion"), json::text(&config, "kind"));
    if version != gvk.api_version() || kind != gvk.kind {
        let slash = if version.contains('/') { "" } else { "/" };
        return Err(Status::bad_request(format_args!(
            "invalid object type: {slash}{version}, Kind={kind}"
        )));
    }
    let stated = json::text(&config, "metadata.name");
    if !stated.is_empty() && stated != call.info.name {
        return Err(Status::bad_request(format_args!(
            "the name of the object ({stated}) does not match the name on the URL ({})",
            call.info.name
        )));
    }
    Ok(config)
}

/// What a client is told of an apply that did not come about.
pub(crate) fn refused(error: ApplyError) -> Status {
    match error {
        ApplyError::BadRequest(why) => Status::bad_request(why),
        ApplyError::Invalid(why) => {
            let mut status = Status::failure(Reason::Unknown, why);
            status.code = 500;
            status
        }
        ApplyError::Conflict { message, causes } => {
            let mut status = Status::failure(Reason::Conflict, message);
            let cause = |c: apply::Conflict| StatusCause {
                reason: "FieldManagerConflict".into(),
                message: c.message,
                field: c.field,
            };
            status.details = Some(Box::new(StatusDetails {
                causes: causes.into_iter().map(cause).collect(),
                ..StatusDetails::default()
            }));
            status
        }
    }
}
