//! Who sends a request over the network.

use crate::core::Core;
use http::{HeaderMap, HeaderValue, header::SEC_WEBSOCKET_PROTOCOL};
use std::sync::Arc;
use strata_auth::{Authenticator, Notes, Unauthenticated, UserInfo};
use strata_http::Peer;

/// Pages that cannot set headers say their token among the subprotocols, which others are told.
pub(crate) fn forget_token(headers: &mut HeaderMap) {
    let Some(offered) = headers.get(SEC_WEBSOCKET_PROTOCOL).and_then(|v| v.to_str().ok()) else {
        return;
    };
    let others: Vec<&str> = offered
        .split(',')
        .map(str::trim)
        .filter(|protocol| !protocol.starts_with("base64url.bearer.authorization.k8s.io."))
        .collect();
    match HeaderValue::from_str(&others.join(", ")) {
        Ok(left) if !left.is_empty() => drop(headers.insert(SEC_WEBSOCKET_PROTOCOL, left)),
        _ => drop(headers.remove(SEC_WEBSOCKET_PROTOCOL)),
    }
}

/// Who sends a request; those who know tokens besides the server are asked when it does not know one.
pub(crate) async fn authenticate(
    core: &Core,
    headers: &HeaderMap,
    peer: &Peer,
    notes: &mut Notes,
) -> Result<Arc<UserInfo>, Unauthenticated> {
    let refused = match core.authenticator.authenticate(headers, peer, notes) {
        Err(refused @ Unauthenticated::Token(_)) if core.outside.knows_tokens() => refused,
        known => return known,
    };
    let Ok(Some(token)) = Authenticator::bearer_token(headers) else {
        return Err(refused);
    };
    match core.outside.token(core, &token, core.authenticator.audiences()).await {
        Ok((user, _)) => Ok(user),
        Err(why) => {
            tracing::debug!(why, "nobody else knows the token");
            Err(refused)
        }
    }
}
