//! What docker's API has and this engine has not: building, swarms, plugins, searching. Each says so.

use crate::call::{Call, ok};
use crate::daemon::Inner;
use crate::error::{Answer, ApiError};
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::json;
use std::sync::Arc;
use strata_http::Body;

/// `POST /build`
pub(crate) async fn build(_: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    // Clients send the whole context before they look at the answer.
    let mut body = call.request.into_body();
    while let Some(frame) = body.frame().await {
        frame.map_err(|error| ApiError::invalid(error.to_string()))?;
    }
    Err(ApiError::new(
        StatusCode::NOT_IMPLEMENTED,
        "images are not built here: build with buildah or docker buildx and load or push the result, or use commit",
    ))
}

/// `POST /build/prune`: nothing is built here, so nothing of it is kept.
pub(crate) async fn prune_builds(_: Arc<Inner>, _: Call) -> Answer<Response<Body>> {
    ok(&json!({"CachesDeleted": null, "SpaceReclaimed": 0}))
}

/// Requests about swarms, their nodes, services, secrets and configurations.
pub(crate) async fn swarm(_: Arc<Inner>, _: Call) -> Answer<Response<Body>> {
    Err(ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "This node is not a swarm manager. Swarms are not supported here",
    ))
}

/// `GET /plugins`
pub(crate) async fn plugins(_: Arc<Inner>, _: Call) -> Answer<Response<Body>> {
    ok(&json!([]))
}

/// `GET /images/search`
pub(crate) async fn search(_: Arc<Inner>, _: Call) -> Answer<Response<Body>> {
    Err(ApiError::unsupported("searching registries for images"))
}
