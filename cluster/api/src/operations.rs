//! What an operator does to a running server: a backup of its store, another log level.

use crate::{
    encode::{json_response, text_response},
    pipeline::{Call, RequestBody},
};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header::CONTENT_TYPE};
use std::io;
use strata_http::{Body, BodySender};
use strata_meta::Status;
use tokio::runtime::Handle;

/// Chunks of a backup on their way to a client that reads slowly.
const CHUNKS: usize = 16;
const CHUNK_BYTES: usize = 64 << 10;

/// Answers if the path is one of these, which are open to those who may use these paths only.
pub(crate) async fn serve(call: &Call, request: Request<RequestBody>) -> Option<Result<Response<Body>, Status>> {
    match call.info.path.as_str() {
        "/debug/store/snapshot" if call.method == Method::GET => Some(Ok(snapshot(call))),
        "/debug/flags/v" if call.method == Method::PUT => Some(verbosity(call, request).await),
        "/debug/store/snapshot" | "/debug/flags/v" => Some(Err(Status::method_not_allowed())),
        _ => None,
    }
}

/// The state at one revision, as `strata store restore` reads it. A connection that breaks leaves a file that is refused.
fn snapshot(call: &Call) -> Response<Body> {
    let (sender, body) = Body::channel(CHUNKS);
    let store = call.core.store.clone();
    let out = io::BufWriter::with_capacity(CHUNK_BYTES, Chunks(sender, Handle::current()));
    tokio::spawn(async move {
        match store.snapshot(Box::new(out)).await {
            Ok(revision) => tracing::info!(revision = revision.0, "the store was backed up"),
            Err(error) => tracing::error!(%error, "backing up the store"),
        }
    });
    let mut response = json_response(200, body);
    let media = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(CONTENT_TYPE, media);
    response
}

/// Writes from a thread that may wait into a body.
struct Chunks(BodySender, Handle);

impl io::Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1.block_on(self.0.send(Bytes::copy_from_slice(bytes)))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A number as upstream's logs take it, or a filter such as `info,strata_api=debug`.
async fn verbosity(call: &Call, request: Request<RequestBody>) -> Result<Response<Body>, Status> {
    let Some(set) = &call.core.log_filter else {
        return Ok(crate::pipeline::not_found());
    };
    let body = crate::codec::read_body(request.into_body().into()).await?;
    let asked = String::from_utf8_lossy(&body).trim().to_owned();
    let filter = match asked.parse::<u8>() {
        Ok(0..=2) => "info",
        Ok(3..=7) => "debug",
        Ok(_) => "trace",
        Err(_) => &asked,
    };
    set(filter).map_err(|why| Status::bad_request(format_args!("failed set klog.logging.verbosity {asked}: {why}")))?;
    Ok(text_response(
        200,
        format!("successfully set klog.logging.verbosity to {asked}"),
    ))
}
