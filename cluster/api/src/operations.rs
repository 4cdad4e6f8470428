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
        "/debug/store/snapshot" => Some(Err(Status::method_not_allowed())),
        "/debug/flags/v" => Some(verbosity(call, request).await),
        path if path.trim_end_matches('/') == "/debug/flags" => Some(Ok(flags())),
        path => {
            let page = path.strip_prefix("/debug/api_priority_and_fairness/")?;
            let dump = call
                .core
                .flow
                .dump(page, !call.query.get("includeRequestDetails").is_empty())?;
            let mut response = text_response(200, dump);
            response.headers_mut().remove("x-content-type-options");
            Some(Ok(response))
        }
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

/// The page that lists what can be set.
fn flags() -> Response<Body> {
    let page = "<html>\n<head>\n<title>/debug/flags/</title>\n</head>\n<body>\n/debug/flags/<br>\n<br>\nflags:<br>\n<table>\n<tr>v<br>\n</table>\n<br>\nfull flags configurable<br>\n</body>\n</html>\n";
    let mut response = json_response(200, Body::full(page));
    let media = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, media);
    response
}

/// A number as upstream's logs take it, or a filter such as `info,strata_api=debug`. Nobody expects a Status here.
async fn verbosity(call: &Call, request: Request<RequestBody>) -> Result<Response<Body>, Status> {
    let plain = |code: u16, text: String| {
        let mut response = text_response(code, format!("{text}\n"));
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        response
    };
    if call.method != Method::PUT {
        return Ok(plain(406, "unsupported http method".into()));
    }
    let Some(set) = &call.core.log_filter else {
        return Ok(crate::pipeline::not_found());
    };
    let body = crate::codec::read_body(request.into_body().into()).await?;
    let asked = String::from_utf8_lossy(&body).into_owned();
    let is_filter = asked.contains('=') || LEVELS.iter().any(|level| asked.split(',').any(|part| part == *level));
    let filter = match asked.parse::<u32>() {
        Ok(0..=2) => "info",
        Ok(3..=7) => "debug",
        Ok(_) => "trace",
        Err(_) if is_filter => &asked,
        Err(_) => {
            return Ok(plain(
                400,
                format!("strconv.ParseUint: parsing {asked:?}: invalid syntax"),
            ));
        }
    };
    Ok(match set(filter) {
        Ok(()) => plain(200, format!("successfully set klog.logging.verbosity to {asked}")),
        Err(why) => plain(400, why),
    })
}

/// Words that make a text a filter.
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
