//! The plain SPDY upgrade of older clients.

use crate::{
    Body, Error,
    spdy::Session,
    websocket::{asks_for, list, refuse, switching},
};
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;

const STREAM_PROTOCOL: &str = "x-stream-protocol-version";
const ACCEPTED_PROTOCOLS: &str = "x-accepted-stream-protocol-versions";

/// Whether a request asks for SPDY.
pub(crate) fn is_spdy(headers: &HeaderMap) -> bool {
    asks_for(headers, "spdy/3.1")
}

/// The response, the protocol chosen, and the session once the response is sent.
pub(crate) type Accepted = (Response<Body>, String, BoxFuture<'static, Result<Session, Error>>);

/// Accepts the first of the client's protocols that is among `protocols`; of a client that names none, the last.
pub(crate) fn accept_spdy<B>(request: &mut Request<B>, protocols: &[&str]) -> Result<Accepted, Box<Response<Body>>> {
    if !is_spdy(request.headers()) {
        return Err(refuse(StatusCode::BAD_REQUEST, "missing upgrade headers in request"));
    }
    let offered: Vec<&str> = list(request.headers(), STREAM_PROTOCOL).collect();
    let chosen = if offered.is_empty() {
        protocols.last().copied()
    } else {
        offered.iter().copied().find(|offer| protocols.contains(offer))
    };
    let Some(protocol) = chosen.map(str::to_owned) else {
        let mut response = refuse(StatusCode::FORBIDDEN, "no protocol in common");
        for protocol in protocols {
            if let Ok(value) = HeaderValue::from_str(protocol) {
                response.headers_mut().append(ACCEPTED_PROTOCOLS, value);
            }
        }
        return Err(response);
    };
    let mut response = switching("SPDY/3.1");
    if let Ok(value) = HeaderValue::from_str(&protocol) {
        response.headers_mut().insert(STREAM_PROTOCOL, value);
    }
    let upgrade = hyper::upgrade::on(request);
    let session = Box::pin(async move { Session::server(TokioIo::new(upgrade.await?)) });
    Ok((response, protocol, session))
}
