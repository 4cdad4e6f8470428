//! How documents are sent: which form, and what the headers say.

use crate::encode::{gzip, json_response, reads_gzip, subtype};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Response,
    header::{ACCEPT, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, EXPIRES, IF_NONE_MATCH, LOCATION, VARY},
};
use serde_json::Value;
use strata_http::Body;
use strata_meta::{Status, Time};
use strata_schema::Document;

/// How long an answer by hash may be kept, in seconds: a year.
const KEEP_SECONDS: i64 = 365 * 24 * 3600;

/// The form of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// application/json
    Json,
    /// gnostic's message of v2 or v3.
    Protobuf {
        /// Which.
        v3: bool,
    },
}

impl Encoding {
    /// What is asked of v2, by the name of now or of old, which is no valid media type.
    pub(super) fn of_v2(headers: &HeaderMap) -> Option<Self> {
        Self::of(
            headers,
            [
                "json",
                "com.github.proto-openapi.spec.v2@v1.0+protobuf",
                "com.github.proto-openapi.spec.v2.v1.0+protobuf",
            ],
            false,
        )
    }

    /// What is asked of v3.
    pub(super) fn of_v3(headers: &HeaderMap) -> Option<Self> {
        Self::of(
            headers,
            [
                "json",
                "com.github.proto-openapi.spec.v3.v1.0+protobuf",
                "com.github.proto-openapi.spec.v3@v1.0+protobuf",
            ],
            true,
        )
    }

    fn of(headers: &HeaderMap, served: [&'static str; 3], v3: bool) -> Option<Self> {
        let accept = headers.get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("");
        Some(match subtype(accept, &served)? {
            "json" => Self::Json,
            _ => Self::Protobuf { v3 },
        })
    }

    fn media(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Protobuf { v3: false } => "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
            Self::Protobuf { v3: true } => "application/com.github.proto-openapi.spec.v3.v1.0+protobuf",
        }
    }

    /// A document in this form. Errors: 500.
    pub(super) fn write(self, document: &Document<'_>) -> Result<Vec<u8>, Status> {
        let mut out = Vec::new();
        let written = match self {
            Self::Json => document.write_json(&mut out),
            Self::Protobuf { .. } => document.write_gnostic(&mut out),
        };
        written.map_err(Status::internal)?;
        Ok(out)
    }
}

/// The index of v3.
pub(super) fn index(index: &Value) -> Result<Response<Body>, Status> {
    let bytes = serde_json::to_vec(index).map_err(Status::internal)?;
    let mut response = json_response(200, Body::full(bytes));
    let media = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, media);
    Ok(response)
}

/// The document with a hash; 304 when the client has it. Errors: those of making it, 500.
pub(super) fn document(
    asked: &HeaderMap,
    hash: &str,
    encoding: Encoding,
    compressed: impl FnOnce() -> Result<Bytes, Status>,
) -> Result<Response<Body>, Status> {
    let text = |name| asked.get(name).and_then(|v| v.to_str().ok()).unwrap_or("");
    let tag = format!("\"{hash}\"");
    let known = text(IF_NONE_MATCH).split(',').map(str::trim);
    let mut response = if known.into_iter().any(|known| known == tag || known == "*") {
        bare(304, true)
    } else {
        let mut response = bare(200, true);
        let media = HeaderValue::from_static(encoding.media());
        response.headers_mut().insert(CONTENT_TYPE, media);
        let compressed = compressed()?;
        if reads_gzip(asked) {
            let gzip = HeaderValue::from_static("gzip");
            response.headers_mut().insert(CONTENT_ENCODING, gzip);
            *response.body_mut() = Body::full(compressed);
        } else {
            *response.body_mut() = Body::full(gzip::expand(&compressed).map_err(Status::internal)?);
        }
        response
    };
    response
        .headers_mut()
        .insert(ETAG, HeaderValue::from_str(&tag).map_err(Status::internal)?);
    Ok(response)
}

/// What is found by its hash never changes.
pub(super) fn keep(response: &mut Response<Body>) -> Result<(), Status> {
    let until = Time::now().plus_seconds(KEEP_SECONDS).http_date();
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
    headers.insert(EXPIRES, HeaderValue::from_str(&until).map_err(Status::internal)?);
    Ok(())
}

/// The document has another hash by now.
pub(super) fn elsewhere(target: &str, hash: &str, encoding: Encoding) -> Result<Response<Body>, Status> {
    let mut response = bare(301, true);
    let headers = response.headers_mut();
    headers.insert(LOCATION, HeaderValue::from_str(target).map_err(Status::internal)?);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(encoding.media()));
    let tag = HeaderValue::from_str(&format!("\"{hash}\"")).map_err(Status::internal)?;
    headers.insert(ETAG, tag);
    Ok(response)
}

/// An answer without a body; what is chosen by Accept says so.
pub(super) fn bare(code: u16, chosen: bool) -> Response<Body> {
    let mut response = json_response(code, Body::empty());
    let headers = response.headers_mut();
    headers.remove(CONTENT_TYPE);
    if chosen {
        headers.insert(VARY, HeaderValue::from_static("Accept"));
    }
    response
}

/// The v2 document says that it comes compressed, too.
pub(super) fn vary_by_coding(response: &mut Response<Body>) {
    let headers = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    headers.append(VARY, HeaderValue::from_static("Accept"));
}
