//! Passing a request on to an extension API server, with the caller's identity in headers.

use super::Remote;
use crate::{
    core::Core,
    encode::text_response,
    pipeline::{Call, RequestBody},
    webhook::dial_service,
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response,
    header::{HOST, InvalidHeaderValue},
};
use std::{fmt::Write as _, sync::Arc};
use strata_auth::UserInfo;
use strata_http::{Body, BoxedIo, proxy};
use strata_meta::Status;

/// Answers with what the other server says. Errors: none of its own; what cannot be reached is 503, as upstream says it.
pub(crate) async fn forward(
    call: &Call,
    remote: &Remote,
    request: Request<RequestBody>,
) -> Result<Response<Body>, Status> {
    if !remote.available {
        return Ok(unavailable());
    }
    let upstream = match connect(&call.core, remote).await {
        Ok(io) => io,
        Err(why) => {
            tracing::warn!(service = remote.name, why, "an extension API server cannot be reached");
            return Ok(unavailable());
        }
    };
    let mut request = request;
    let headers = request.headers_mut();
    identify(headers, &call.user).map_err(Status::internal)?;
    let host = format!("{}:{}", remote.server_name(), remote.port);
    headers.insert(HOST, HeaderValue::from_str(&host).map_err(Status::internal)?);
    match proxy::forward(request, upstream, call.core.cancel.clone()).await {
        Ok(response) => Ok(response),
        Err(why) => Ok(text_response(503, format!("error trying to reach service: {why}\n"))),
    }
}

fn unavailable() -> Response<Body> {
    text_response(503, "service unavailable\n")
}

/// A TLS connection to one of the service's endpoints.
pub(super) async fn connect(core: &Arc<Core>, remote: &Remote) -> Result<BoxedIo, String> {
    let tls = remote.tls.as_ref().map_err(Clone::clone)?;
    let io = dial_service(core, &remote.namespace, &remote.service, remote.port).await?;
    let stream = tls.connect(io, &remote.server_name()).await;
    stream.map(|s| Box::new(s) as BoxedIo).map_err(|e| e.to_string())
}

/// Says who asks, and takes away whatever the caller says about that.
pub(super) fn identify(headers: &mut HeaderMap, user: &UserInfo) -> Result<(), InvalidHeaderValue> {
    let foreign: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("x-remote-"))
        .cloned()
        .collect();
    for name in foreign {
        headers.remove(name);
    }
    headers.insert("x-remote-user", HeaderValue::from_bytes(user.name.as_bytes())?);
    if !user.uid.is_empty() {
        headers.insert("x-remote-uid", HeaderValue::from_bytes(user.uid.as_bytes())?);
    }
    for group in &user.groups {
        headers.append("x-remote-group", HeaderValue::from_bytes(group.as_bytes())?);
    }
    for (key, values) in &user.extra {
        let Ok(name) = HeaderName::from_bytes(format!("x-remote-extra-{}", escape(key)).as_bytes()) else {
            continue;
        };
        for value in values {
            headers.append(name.clone(), HeaderValue::from_bytes(value.as_bytes())?);
        }
    }
    Ok(())
}

/// Header names hold what RFC 7230 calls a token; the rest, and the per cent sign itself, is escaped.
fn escape(key: &str) -> String {
    key.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => out.push(byte.into()),
            b'!' | b'#' | b'$' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~' => {
                out.push(byte.into());
            }
            _ => drop(write!(out, "%{byte:02X}")),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callers_own_claims_are_replaced() {
        let mut headers = HeaderMap::new();
        headers.insert("x-remote-user", HeaderValue::from_static("root"));
        headers.insert("x-remote-extra-more", HeaderValue::from_static("x"));
        let mut user = UserInfo::new("alice", &["a", "b"]);
        user.extra.insert("example.com/key".into(), vec!["v".into()]);
        identify(&mut headers, &user).expect("plain names");
        assert_eq!(headers["x-remote-user"], "alice");
        assert!(!headers.contains_key("x-remote-extra-more"));
        let groups: Vec<_> = headers.get_all("x-remote-group").iter().collect();
        assert_eq!(groups, ["a", "b", "system:authenticated"]);
        assert_eq!(headers["x-remote-extra-example.com%2fkey"], "v");
    }
}
