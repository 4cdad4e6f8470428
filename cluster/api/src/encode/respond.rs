//! Answers.

use super::{ListMeta, Media, Negotiated, Shape, negotiate::not_acceptable, write_partial, write_table};
use crate::{json, registry::Row};
use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use serde_json::Value;
use std::{iter, sync::Arc};
use strata_http::Body;
use strata_meta::{GroupVersion, Object, Reason, Status};
use strata_schema::protobuf;

/// Bytes of a type with a code.
fn response(code: u16, media: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(media));
    response
}

/// A line of text.
pub(crate) fn text_response(code: u16, text: impl Into<Bytes>) -> Response<Body> {
    response(code, "text/plain; charset=utf-8", Body::full(text))
}

/// JSON that is encoded already.
pub(crate) fn json_response(code: u16, body: Body) -> Response<Body> {
    response(code, "application/json", body)
}

/// A JSON value in the negotiated encoding.
pub(crate) fn value_response(code: u16, value: &Value, form: Negotiated) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(bytes) => encoded_response(code, bytes, form),
        Err(error) => status_response(&Status::internal(error)),
    }
}

/// Encoded JSON, re-encoded when the client asked for another form.
fn encoded_response(code: u16, mut bytes: Vec<u8>, form: Negotiated) -> Response<Body> {
    if form.media == Media::Json && !form.pretty {
        bytes.push(b'\n');
        return json_response(code, Body::full(bytes));
    }
    let value: Value = match serde_json::from_slice(&bytes) {
        Ok(value) => value,
        Err(error) => return status_response(&Status::internal(error)),
    };
    match form.media {
        Media::Json => {
            let text = format!("{value:#}\n");
            json_response(code, Body::full(text))
        }
        Media::Protobuf => match protobuf_of(&value) {
            Ok(bytes) => response(code, protobuf::MEDIA_TYPE, Body::full(bytes)),
            Err(status) => status_response(&status),
        },
        Media::Yaml => match serde_saphyr::to_string(&value) {
            Ok(text) => response(code, "application/yaml", Body::full(text)),
            Err(error) => status_response(&Status::internal(error)),
        },
    }
}

/// An object or list in protobuf form, by what it says it is. Errors: 406 for kinds without that form.
fn protobuf_of(value: &Value) -> Result<Vec<u8>, Status> {
    let version = GroupVersion::parse(json::text(value, "apiVersion")).ok_or_else(not_acceptable)?;
    let gvk = version.kind(json::text(value, "kind"));
    protobuf::encode_from_json(&gvk, value).map_err(|_| not_acceptable())
}

/// One object in the negotiated form.
pub(crate) fn object_response(
    code: u16,
    row: &Row,
    object: &Arc<Object>,
    form: Negotiated,
    include: &str,
) -> Response<Body> {
    let encode = || -> Result<Vec<u8>, Status> {
        let mut out = Vec::new();
        match form.shape {
            Shape::Object => row.view(object)?.write_json(&mut out, true),
            Shape::Partial => write_partial(&mut out, object, form.meta_version, true)?,
            Shape::Table => {
                let meta = ListMeta {
                    revision: object.revision,
                    ..ListMeta::default()
                };
                out = write_table(row, &meta, form, include, iter::once(object.clone()))?;
            }
        }
        Ok(out)
    };
    match encode() {
        Ok(bytes) => encoded_response(code, bytes, form),
        Err(status) => status_response(&status),
    }
}

/// A failure, or a success about nothing in particular.
pub(crate) fn status_response(status: &Status) -> Response<Body> {
    let mut response = match serde_json::to_vec(status) {
        Ok(mut bytes) => {
            bytes.push(b'\n');
            json_response(status.code, Body::full(bytes))
        }
        Err(error) => text_response(500, error.to_string()),
    };
    let seconds = status.details.as_ref().map_or(0, |d| d.retry_after_seconds);
    if seconds > 0
        && matches!(
            status.reason,
            Reason::TooManyRequests | Reason::ServerTimeout | Reason::Timeout | Reason::ServiceUnavailable
        )
    {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
