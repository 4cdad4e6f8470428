//! patch: JSON, merge and strategic merge patches, and server-side apply.

use super::{
    Change, Part, WriteOptions,
    apply::apply_patch,
    apply_change, field_manager,
    patch_body::{PatchBody, PatchKind},
    update::check_patched_address,
};
use crate::{
    codec::{check_patched, decode_patched, invalid_options, read_body},
    encode::object_response,
    json,
    pipeline::Call,
    registry::Row,
};
use http::{Response, header::CONTENT_TYPE};
use std::sync::Arc;
use strata_http::Body;
use strata_meta::{Status, StatusCause};

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
    let kind = PatchKind::of(&media, &row.schema)?;
    crate::audit::patch(&bytes);
    // A body that cannot be read is told of only when there is something to be patched.
    let body = PatchBody::read(kind, &bytes, options.validation);
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
        let patch = body.as_ref().map_err(Clone::clone)?;
        let mut new = patch.apply(&row.schema, &row.gvk, old)?;
        let shown = patch.shown(&new);
        if !patch.is_strategic() {
            let identified = check_patched(&row.schema, &row.gvk, &new, &shown);
            identified.map_err(|status| undecodable(&shown, status))?;
        }
        // A patch that says nothing of the revision applies to whatever is there.
        if json::text(&new, "metadata.resourceVersion") == present {
            json::remove(&mut new, "metadata.resourceVersion");
        }
        let (new, said_of) = (
            (new, patch.is_strategic()),
            (options.validation, &patch.strict[..], &patch.repeats[..]),
        );
        let decoded = decode_patched(&row.schema, &row.gvk, new, said_of, said);
        let mut new = decoded.map_err(|status| undecodable(&shown, status))?;
        check_patched_address(row, &mut new, &namespace, &name)?;
        row.schema.apply_defaults(&row.gvk, &mut new);
        Ok(new)
    })
    .await?;
    Ok(object_response(200, row, &patched, form, call.include_object()?))
}

/// Upstream reports what a patch made undecodable as an invalid patch of nothing in particular.
pub(crate) fn undecodable(shown: &str, status: Status) -> Status {
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
