//! exec, attach and port-forward: an upgraded connection of the API server joined to the engine.

use crate::{context::Context, pod::Container, query::Query, server::Refusal};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use std::sync::Arc;
use strata_engine::{ContainerId, SandboxId};
use strata_http::Body;

/// Runs a command in a container.
pub async fn exec(
    _: &Arc<Context>,
    _: Request<Incoming>,
    _: ContainerId,
    _: &Query,
) -> Result<Response<Body>, Refusal> {
    Err((StatusCode::NOT_IMPLEMENTED, "exec".into()))
}

/// Joins the streams of a running container.
pub async fn attach(
    _: &Arc<Context>,
    _: Request<Incoming>,
    _: ContainerId,
    _: &Query,
    _: Option<Container>,
) -> Result<Response<Body>, Refusal> {
    Err((StatusCode::NOT_IMPLEMENTED, "attach".into()))
}

/// Joins connections to ports of a pod.
pub async fn port_forward(
    _: &Arc<Context>,
    _: Request<Incoming>,
    _: SandboxId,
    _: &Query,
) -> Result<Response<Body>, Refusal> {
    Err((StatusCode::NOT_IMPLEMENTED, "portforward".into()))
}
