//! What a resource has besides itself.

mod agent;
mod binding;
mod eviction;
mod proxy;
mod scale;
mod stream;
mod token;

pub(crate) use agent::dial_agent;
pub(crate) use binding::bind;
pub(crate) use scale::admit_scale;

use crate::{
    encode::object_response,
    pipeline::{Call, RequestBody},
    registry::Row,
    verbs::{self, Part},
};
use http::{Request, Response};
use std::sync::Arc;
use strata_http::Body;
use strata_meta::Status;

/// Answers a request to a subresource that the row has, with a verb it has.
pub(crate) async fn serve(
    call: &mut Call,
    row: &Arc<Row>,
    request: Request<RequestBody>,
) -> Result<Response<Body>, Status> {
    let (sub, verb) = (call.info.subresource.clone(), call.info.verb);
    let part = match (row.resource.resource.as_str(), sub.as_str()) {
        (_, "status") => Some(Part::Status),
        ("namespaces", "finalize") => Some(Part::Finalize),
        ("pods", "ephemeralcontainers") => Some(Part::Member("spec.ephemeralContainers")),
        ("pods", "resize") => Some(Part::Resize),
        ("certificatesigningrequests", "approval") => Some(Part::Status),
        _ => None,
    };
    if let Some(part) = part {
        return match verb {
            "get" => {
                let object = verbs::find(row, &call.info.namespace, &call.info.name)?;
                let object = row.ready(&call.core, object).await?;
                Ok(object_response(200, row, &object, call.form()?, call.include_object()?))
            }
            "update" => verbs::update(call, row, part, request.into_body().into()).await,
            "patch" => verbs::patch(call, row, part, request.into_body().into()).await,
            _ => Err(Status::method_not_allowed()),
        };
    }
    match (row.resource.resource.as_str(), sub.as_str()) {
        (_, "scale") => scale::serve(call, row, request.into_body().into()).await,
        ("pods", "binding") => binding::serve(call, row, request.into_body().into()).await,
        ("pods", "eviction") => eviction::serve(call, row, request.into_body().into()).await,
        ("pods", "log" | "exec" | "attach" | "portforward") => stream::serve(call, row, request).await,
        ("pods" | "services" | "nodes", "proxy") => proxy::serve(call, row, request).await,
        ("serviceaccounts", "token") => token::serve(call, row, request.into_body().into()).await,
        _ => Ok(crate::pipeline::not_found()),
    }
}
