//! Lists and watches as JSON over whatever carries a request, for servers that do not share objects.

use super::{WATCH_SILENCE, decode_list, frames::Frames, read, watch_path};
use crate::{Error, ListRequest, ObjectList, WatchRequest, client, request};
use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use http::{Method, Request, Response};
use strata_http::{Body, BoxError};
use strata_meta::WatchEvent;

/// Lists with one request. Errors: what `send` says, a refusal, an answer that is no list.
pub async fn list<F, B>(request: ListRequest, send: impl FnOnce(Request<Bytes>) -> F) -> Result<ObjectList, Error>
where
    F: Future<Output = Result<Response<B>, Error>>,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
{
    let path = request::list_path(request.resource, request.namespace.as_deref(), &request.params);
    let response = send(request::request(Method::GET, path, "", None)?).await?;
    let (parts, body) = response.into_parts();
    let body = client::successful(Response::from_parts(parts, read(body).await?))?;
    decode_list(request.resource.gvk(), &body)
}

/// Watches with one request. Errors: what `send` says, a refusal.
pub async fn watch<F>(
    request: WatchRequest,
    send: impl FnOnce(Request<Bytes>) -> F,
) -> Result<BoxStream<'static, Result<WatchEvent, Error>>, Error>
where
    F: Future<Output = Result<Response<Body>, Error>>,
{
    let response = send(request::request(Method::GET, watch_path(&request), "", None)?).await?;
    if !response.status().is_success() {
        let code = response.status();
        return Err(client::failure(code, &read(response.into_body()).await?).into());
    }
    Ok(Frames::new(response.into_body(), WATCH_SILENCE).into_stream().boxed())
}
