//! The protobuf form of objects, made once for everybody who asks.

use super::Negotiated;
use crate::{alias::internal_metadata, registry::Row};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use strata_meta::{GroupVersion, GroupVersionKind, Object, Reason, Revision, Status};
use strata_schema::protobuf;

/// The object's own message, without the envelope; kept with the object.
pub(crate) fn message(row: &Row, object: &Arc<Object>) -> Result<Bytes, Status> {
    let view = row.view(object)?;
    view.protobuf(|object| {
        let value = object.to_value().map_err(Status::internal)?;
        let message = protobuf::encode_message(&row.gvk, &value).map_err(Status::internal)?;
        Ok(message.into())
    })
}

/// An object as it is sent alone.
pub(crate) fn whole(row: &Row, object: &Arc<Object>) -> Result<Vec<u8>, Status> {
    Ok(protobuf::seal(&row.gvk, &message(row, object)?))
}

/// The message of an object's PartialObjectMetadata.
pub(crate) fn partial_message(object: &Object) -> Result<Vec<u8>, Status> {
    let metadata = match internal_metadata(object)? {
        Some(metadata) => metadata,
        None => {
            let mut value = object.to_value().map_err(Status::internal)?;
            value.get_mut("metadata").map_or(Value::Null, Value::take)
        }
    };
    let partial = json!({"metadata": metadata});
    protobuf::encode_message(&meta("v1", "PartialObjectMetadata"), &partial).map_err(Status::internal)
}

/// An object's PartialObjectMetadata as it is sent alone.
pub(crate) fn partial(object: &Object, form: Negotiated) -> Result<Vec<u8>, Status> {
    let gvk = meta(form.meta_version, "PartialObjectMetadata");
    Ok(protobuf::seal(&gvk, &partial_message(object)?))
}

/// A kind of meta.k8s.io. Both versions have the same messages.
pub(crate) fn meta(version: &str, kind: &str) -> GroupVersionKind {
    GroupVersionKind::new("meta.k8s.io", version, kind)
}

/// What is no stored object, by what it says it is. Errors: 500 for kinds without that form.
pub(crate) fn of_value(value: &Value) -> Result<Vec<u8>, Status> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or("");
    let (version, kind) = (text("apiVersion"), text("kind"));
    // The oldest documents of discovery name no version.
    let gvk = match GroupVersion::parse(version).filter(|_| !version.is_empty()) {
        Some(version) => version.kind(kind),
        None => GroupVersionKind::new("", "v1", kind),
    };
    let unencodable = |_| {
        let type_name = format!(
            "object {kind} does not implement the protobuf marshalling interface and cannot be encoded to a protobuf message"
        );
        Status::failure(Reason::NotAcceptable, type_name)
    };
    let message = protobuf::encode_message(&gvk, value).map_err(unencodable)?;
    let named = if version.is_empty() {
        GroupVersionKind::new("", "", kind)
    } else {
        gvk
    };
    Ok(protobuf::seal(&named, &message))
}

/// A failure.
pub(crate) fn of_status(status: &Status) -> Result<Vec<u8>, Status> {
    of_value(&serde_json::to_value(status).map_err(Status::internal)?)
}

/// The metadata of a list as a value.
pub(crate) fn list_meta(meta: &super::ListMeta) -> Value {
    let mut members = Map::new();
    if meta.revision != Revision(0) {
        members.insert("resourceVersion".into(), json!(meta.revision.to_string()));
    }
    if !meta.continue_token.is_empty() {
        members.insert("continue".into(), json!(meta.continue_token));
    }
    if let Some(remaining) = meta.remaining {
        members.insert("remainingItemCount".into(), json!(remaining));
    }
    Value::Object(members)
}
