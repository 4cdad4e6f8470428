//! Passing a request on to another server, upgrades included.

use crate::{Body, BoxedIo, Connection, Error};
use futures::future::BoxFuture;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Version,
    header::{AUTHORIZATION, CONNECTION, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE},
};
use hyper_util::rt::TokioIo;
use std::future::ready;
use tokio_util::sync::CancellationToken;

/// Bytes held in each direction of an upgraded connection.
const COPY_BUFFER: usize = 32 << 10;

/// Sends a request over a connection and gives back the answer.
///
/// The request's URI must be rewritten already to what the other server expects (path and query); without a `Host` it
/// gets `localhost`. What is meant for this hop only is removed both ways, and so are the caller's credentials and
/// impersonation headers: the connection says who asks. After an upgrade both sides are joined, each half closing on
/// its own, until both are closed or `cancel` says so.
pub fn forward<B: Into<Body>>(
    mut request: Request<B>,
    upstream: BoxedIo,
    cancel: CancellationToken,
) -> BoxFuture<'static, Result<Response<Body>, Error>> {
    let upgrade = upgrade_of(request.headers());
    let inbound = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
    let (mut parts, body) = request.into_parts();
    remove_hop_headers(&mut parts.headers);
    parts.headers.remove(AUTHORIZATION);
    remove_impersonation(&mut parts.headers);
    if let Some(protocol) = &upgrade {
        parts.headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        parts.headers.insert(UPGRADE, protocol.clone());
    }
    if !parts.headers.contains_key(HOST) {
        parts.headers.insert(HOST, HeaderValue::from_static("localhost"));
    }
    parts.version = Version::HTTP_11;
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).parse();
    let Ok(uri) = path else {
        return Box::pin(ready(Err(Error::Request("bad path".into()))));
    };
    parts.uri = uri;
    let request = Request::from_parts(parts, body.into());
    Box::pin(async move {
        let mut response = Connection::http1(upstream).await?.send(request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            remove_hop_headers(response.headers_mut());
            return Ok(response.map(Body::wrap));
        }
        let Some(inbound) = inbound else {
            return Err(Error::Request(
                "the other server switched protocols without being asked".into(),
            ));
        };
        let outbound = hyper::upgrade::on(&mut response);
        tokio::spawn(async move {
            tokio::select! {
                () = cancel.cancelled() => {}
                result = join(inbound, outbound) => if let Err(error) = result {
                    tracing::debug!(%error, "proxied connection ended");
                }
            }
        });
        Ok(response.map(|_| Body::empty()))
    })
}

async fn join(inbound: hyper::upgrade::OnUpgrade, outbound: hyper::upgrade::OnUpgrade) -> Result<(), Error> {
    let mut outbound = TokioIo::new(outbound.await?);
    let mut inbound = TokioIo::new(inbound.await?);
    tokio::io::copy_bidirectional_with_sizes(&mut inbound, &mut outbound, COPY_BUFFER, COPY_BUFFER).await?;
    Ok(())
}

/// The protocol a request asks to switch to.
fn upgrade_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let protocol = headers.get(UPGRADE)?;
    crate::websocket::list(headers, CONNECTION.as_str())
        .any(|token| token.eq_ignore_ascii_case("upgrade"))
        .then(|| protocol.clone())
}

/// RFC 9110 section 7.6.1.
pub fn remove_hop_headers(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = crate::websocket::list(headers, CONNECTION.as_str())
        .filter_map(|token| token.parse().ok())
        .collect();
    let keeps_trailers = crate::websocket::list(headers, TE.as_str()).any(|token| token == "trailers");
    for name in named {
        headers.remove(name);
    }
    for name in [CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
    for name in [
        "keep-alive",
        "proxy-connection",
        "proxy-authenticate",
        "proxy-authorization",
    ] {
        headers.remove(name);
    }
    if keeps_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Takes away what names somebody else to be: whoever asks has been decided by then.
pub fn remove_impersonation(headers: &mut HeaderMap) {
    let names: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("impersonate-"))
        .cloned()
        .collect();
    for name in names {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests;
