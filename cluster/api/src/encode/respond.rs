//! Answers.

use super::{ListMeta, Media, Negotiated, PLAIN, Shape, gzip, negotiate, protobuf, write_partial, write_table};
use crate::registry::Row;
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use serde_json::Value;
use std::{iter, sync::Arc};
use strata_http::Body;
use strata_meta::{Object, Reason, Status};

/// Bytes of a type with a code.
pub(super) fn response(code: u16, media: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(media));
    response
}

/// A line of text.
pub(crate) fn text_response(code: u16, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = response(code, "text/plain; charset=utf-8", Body::full(text));
    response
        .headers_mut()
        .insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

/// JSON that is encoded already.
pub(crate) fn json_response(code: u16, body: Body) -> Response<Body> {
    response(code, "application/json", body)
}

/// A JSON value in the negotiated encoding.
pub(crate) fn value_response(code: u16, value: &Value, form: Negotiated) -> Response<Body> {
    if form.media == Media::Protobuf {
        return match protobuf::of_value(value) {
            Ok(bytes) => bytes_response(code, strata_schema::protobuf::MEDIA_TYPE, bytes, form),
            Err(status) => status_response(&status),
        };
    }
    match serde_json::to_vec(value) {
        Ok(bytes) => encoded_response(code, bytes, form),
        Err(error) => status_response(&Status::internal(error)),
    }
}

/// Encoded JSON, re-encoded when the client asked for another text.
pub(super) fn encoded_response(code: u16, mut bytes: Vec<u8>, form: Negotiated) -> Response<Body> {
    if form.media == Media::Json && !form.pretty {
        if bytes.last() != Some(&b'\n') {
            bytes.push(b'\n');
        }
        return bytes_response(code, "application/json", bytes, form);
    }
    let value: Value = match serde_json::from_slice(&bytes) {
        Ok(value) => value,
        Err(error) => return status_response(&Status::internal(error)),
    };
    match form.media {
        Media::Json => bytes_response(code, "application/json", format!("{value:#}\n").into(), form),
        Media::Protobuf => value_response(code, &value, form),
        Media::Yaml => match serde_saphyr::to_string(&value) {
            Ok(text) => bytes_response(code, "application/yaml", text.into(), form),
            Err(error) => status_response(&Status::internal(error)),
        },
    }
}

/// A whole body, compressed when it is long and the client reads that.
pub(crate) fn bytes_response(code: u16, media: &'static str, bytes: Vec<u8>, form: Negotiated) -> Response<Body> {
    if !form.gzip || bytes.len() <= gzip::THRESHOLD {
        return response(code, media, Body::full(bytes));
    }
    match gzip::compress(&bytes) {
        Ok(short) => {
            let mut response = response(code, media, Body::full(short));
            gzip::mark(&mut response);
            response
        }
        Err(error) => status_response(&Status::internal(error)),
    }
}

/// One object in the negotiated form.
pub(crate) fn object_response(
    code: u16,
    row: &Row,
    object: &Arc<Object>,
    form: Negotiated,
    include: &str,
) -> Response<Body> {
    match object_bytes(row, object, form, include) {
        Ok(bytes) if form.media == Media::Protobuf => {
            bytes_response(code, strata_schema::protobuf::MEDIA_TYPE, bytes, form)
        }
        Ok(bytes) => encoded_response(code, bytes, form),
        Err(status) => {
            let mut refused = status_response(&status);
            refused.extensions_mut().insert(crate::audit::Unlogged);
            refused
        }
    }
}

fn object_bytes(row: &Row, object: &Arc<Object>, form: Negotiated, include: &str) -> Result<Vec<u8>, Status> {
    let mut out = Vec::new();
    match (form.shape, form.media) {
        (Shape::Object, Media::Protobuf) => return protobuf::whole(row, object),
        (Shape::Object, _) => row.view(object)?.write_json(&mut out, true),
        (Shape::Partial, Media::Protobuf) => return protobuf::partial(object, form),
        (Shape::Partial, _) => write_partial(&mut out, object, form.meta_version, true)?,
        (Shape::PartialList, _) => {
            let why = format_args!(
                "you requested PartialObjectMetadataList, but the requested object is not a list ({})",
                row.go_type(&row.gvk.kind)
            );
            return Err(Status::failure(Reason::NotAcceptable, why));
        }
        (Shape::Table, _) => {
            let meta = ListMeta {
                revision: object.revision,
                ..ListMeta::default()
            };
            out = write_table(row, &meta, form, include, iter::once(object.clone()))?;
        }
    }
    Ok(out)
}

/// A failure as the client wants it encoded; as indented JSON when it wants what there is not.
pub(crate) fn failure_response(status: &Status, headers: &HeaderMap) -> Response<Body> {
    let plain = status_response(status);
    let Ok(form) = negotiate(headers, None, PLAIN) else {
        let mut plain = plain;
        plain.extensions_mut().insert(crate::audit::Unlogged);
        return plain;
    };
    let (media, body) = match form.media {
        Media::Json => return plain,
        Media::Yaml => match serde_saphyr::to_string(status) {
            Ok(text) => ("application/yaml", text.into_bytes()),
            Err(_) => return plain,
        },
        Media::Protobuf => match protobuf::of_status(status) {
            Ok(bytes) => (strata_schema::protobuf::MEDIA_TYPE, bytes),
            Err(_) => return plain,
        },
    };
    let mut encoded = response(status.code, media, Body::full(body));
    if let Some(seconds) = plain.headers().get(RETRY_AFTER) {
        encoded.headers_mut().insert(RETRY_AFTER, seconds.clone());
    }
    encoded
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
