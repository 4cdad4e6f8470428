//! watch.

use super::{parse_revision, request_filter};
use crate::{
    cache::{Filter, Frame, ResourceCache, Start, Watch},
    codec::invalid_options,
    core::Core,
    encode::{Media, Negotiated, Shape, json_response, table_header, table_row, write_partial},
    pipeline::Call,
    registry::Row,
};
use bytes::Bytes;
use futures::stream;
use http::{HeaderValue, Response, header::CONTENT_TYPE};
use std::{sync::Arc, time::Duration};
use strata_http::{Body, BoxError};
use strata_meta::{Object, Revision, Status, StatusCause, Uid};
use strata_schema::protobuf;
use strata_task::CancellationToken;
use tokio::time::Instant;

/// Upstream's `--min-request-timeout`: watches end after one to two times this.
const WATCH_SECONDS: u64 = 1800;
/// Frames that are ready together leave together, up to this size.
const PIECE: usize = 64 << 10;

/// Starts a watch from a resourceVersion as the API means it.
pub(crate) async fn open_watch(
    core: &Core,
    cache: &ResourceCache,
    filter: Filter,
    revision: Option<Revision>,
    initial: Option<bool>,
    bookmarks: bool,
) -> Result<Watch, Status> {
    let start = match (initial, revision) {
        (Some(true), _) => Start::Initial {
            end_bookmark: bookmarks,
        },
        (None, None | Some(Revision(0))) => Start::Initial { end_bookmark: false },
        (Some(false), None | Some(Revision(0))) => Start::Now,
        (_, Some(revision)) => Start::After(revision),
    };
    if let Some(revision) = revision {
        core.cache.progress().reach(revision).await?;
    }
    cache.watch(filter, start, bookmarks)
}

fn initial_events(call: &Call) -> Result<Option<bool>, Status> {
    let initial = call.query.bool("sendInitialEvents");
    let matching = call.query.get("resourceVersionMatch");
    let forbidden = |field: &str, why: &str| Err(invalid_options("ListOptions", StatusCause::forbidden(field, why)));
    match (initial, matching) {
        (None, "") | (Some(_), "NotOlderThan") => Ok(initial),
        (None, _) => forbidden(
            "resourceVersionMatch",
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        ),
        (Some(_), "") => forbidden(
            "resourceVersionMatch",
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ),
        (Some(_), other) => Err(invalid_options(
            "ListOptions",
            StatusCause::not_supported("resourceVersionMatch", other, &["NotOlderThan"]),
        )),
    }
}

/// A stream of changes.
pub(crate) async fn watch(call: &Call, row: &Arc<Row>) -> Result<Response<Body>, Status> {
    let form = call.form()?;
    let filter = request_filter(row, &call.info, &call.query)?;
    let initial = initial_events(call)?;
    let revision = parse_revision(call.query.get("resourceVersion"))?;
    let bookmarks = call.query.is_true("allowWatchBookmarks");
    let seconds = call.query.get("timeoutSeconds").parse::<u64>().ok().filter(|s| *s > 0);
    let seconds = seconds.unwrap_or_else(|| WATCH_SECONDS + spread());
    let cache = call.core.stored(row)?;
    let writer = Writer {
        row: row.clone(),
        form,
        include: call.include_object().to_owned(),
        header_sent: false,
    };
    match open_watch(&call.core, cache, filter, revision, initial, bookmarks).await {
        Ok(watch) => {
            let body = stream_body(call.core.clone(), watch, writer, seconds);
            let mut response = json_response(200, body);
            if form.media == Media::Protobuf {
                let media = HeaderValue::from_static("application/vnd.kubernetes.protobuf;stream=watch");
                response.headers_mut().insert(CONTENT_TYPE, media);
            }
            Ok(response)
        }
        // Upstream opens the stream and says so in it.
        Err(status) if status.is_expired() => Ok(json_response(200, Body::full(error_frame(&status)))),
        Err(status) => Err(status),
    }
}

/// Keeps the ends of many watches apart.
fn spread() -> u64 {
    let random = Uid::random();
    u64::from_str_radix(&random.as_str()[..4], 16).unwrap_or(0) % WATCH_SECONDS
}

fn error_frame(status: &Status) -> Bytes {
    let mut out = br#"{"type":"ERROR","object":"#.to_vec();
    if serde_json::to_writer(&mut out, status).is_ok() {
        out.extend_from_slice(b"}\n");
    }
    out.into()
}

struct Running {
    core: Arc<Core>,
    watch: Watch,
    writer: Writer,
    deadline: Instant,
    cancel: CancellationToken,
}

fn stream_body(core: Arc<Core>, watch: Watch, writer: Writer, seconds: u64) -> Body {
    let running = Running {
        cancel: core.cancel.clone(),
        core,
        watch,
        writer,
        deadline: Instant::now() + Duration::from_secs(seconds),
    };
    Body::stream(stream::unfold(Some(running), |state| async move {
        let mut running = state?;
        let frame = tokio::select! {
            frame = running.watch.next() => frame?,
            () = tokio::time::sleep_until(running.deadline) => return None,
            () = running.cancel.cancelled() => return None,
        };
        let frame = match running.made_ready(frame).await {
            Ok(frame) => frame,
            Err(status) => return Some((Ok(error_frame(&status)), None)),
        };
        match running.piece(frame) {
            Ok(bytes) => Some((Ok::<Bytes, BoxError>(bytes), Some(running))),
            Err(status) => Some((Ok(error_frame(&status)), None)),
        }
    }))
}

impl Running {
    /// A frame whose object can be shown.
    async fn made_ready(&self, frame: Frame) -> Result<Frame, Status> {
        match frame {
            Frame::Event { kind, object, .. } if self.writer.row.converts_elsewhere() => {
                let object = self.writer.row.ready(&self.core, object).await?;
                let shared = None;
                Ok(Frame::Event { kind, object, shared })
            }
            other => Ok(other),
        }
    }

    /// A frame and those that are ready behind it.
    fn piece(&mut self, first: Frame) -> Result<Bytes, Status> {
        let bytes = self.writer.frame(first)?;
        if self.writer.row.converts_elsewhere() {
            return Ok(bytes);
        }
        let Some(second) = self.watch.ready() else {
            return Ok(bytes);
        };
        let mut piece = Vec::with_capacity(PIECE);
        piece.extend_from_slice(&bytes);
        piece.extend_from_slice(&self.writer.frame(second)?);
        while piece.len() < PIECE {
            let Some(frame) = self.watch.ready() else { break };
            piece.extend_from_slice(&self.writer.frame(frame)?);
        }
        Ok(piece.into())
    }
}

/// Encodes frames in the form the client asked for.
struct Writer {
    row: Arc<Row>,
    form: Negotiated,
    include: String,
    header_sent: bool,
}

impl Writer {
    fn frame(&mut self, frame: Frame) -> Result<Bytes, Status> {
        match (frame, self.form.media) {
            (frame, Media::Protobuf) => self.protobuf_frame(frame),
            (frame, _) => self.json_frame(frame),
        }
    }

    fn protobuf_frame(&mut self, frame: Frame) -> Result<Bytes, Status> {
        let (kind, value) = match frame {
            Frame::Event { kind, object, .. } => {
                let value = self.row.view(&object)?.to_value().map_err(Status::internal)?;
                (kind.as_str(), value)
            }
            Frame::Bookmark { revision, initial_end } => {
                let mut out = Vec::new();
                self.bookmark(&mut out, revision, initial_end)?;
                ("BOOKMARK", serde_json::from_slice(&out).map_err(Status::internal)?)
            }
        };
        let object = protobuf::encode_from_json(&self.row.gvk, &value).map_err(Status::internal)?;
        let frame = protobuf::watch_frame(kind, &object).map_err(Status::internal)?;
        Ok(frame.into())
    }

    fn json_frame(&mut self, frame: Frame) -> Result<Bytes, Status> {
        match frame {
            Frame::Event { kind, object, shared } => {
                if self.form.shape == Shape::Object && self.row.serves_stored(&object) {
                    return Ok(Frame::encode(kind, &object, shared.as_ref()));
                }
                self.wrapped(kind.as_str(), |writer, out| writer.object(out, &object))
            }
            Frame::Bookmark { revision, initial_end } => {
                self.wrapped("BOOKMARK", |writer, out| writer.bookmark(out, revision, initial_end))
            }
        }
    }

    fn wrapped(
        &mut self,
        kind: &str,
        write: impl FnOnce(&mut Self, &mut Vec<u8>) -> Result<(), Status>,
    ) -> Result<Bytes, Status> {
        let mut out = Vec::with_capacity(1024);
        out.extend_from_slice(br#"{"type":""#);
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(br#"","object":"#);
        write(self, &mut out)?;
        out.extend_from_slice(b"}\n");
        Ok(out.into())
    }

    fn object(&mut self, out: &mut Vec<u8>, object: &Arc<Object>) -> Result<(), Status> {
        match self.form.shape {
            Shape::Object => self.row.view(object)?.write_json(out, true),
            Shape::Partial => write_partial(out, object, self.form.meta_version, true)?,
            Shape::Table => {
                self.table_start(out, object.revision);
                table_row(out, &self.row, object, self.form, &self.include)?;
                out.extend_from_slice(b"]}");
            }
        }
        Ok(())
    }

    /// Columns stand in the first event only.
    fn table_start(&mut self, out: &mut Vec<u8>, revision: Revision) {
        let version = self.form.meta_version;
        let columns = if std::mem::replace(&mut self.header_sent, true) {
            r#""columnDefinitions":null"#.to_owned()
        } else {
            table_header(&self.row)
        };
        let head = format!(
            r#"{{"kind":"Table","apiVersion":"meta.k8s.io/{version}","metadata":{{"resourceVersion":"{revision}"}},{columns},"rows":["#
        );
        out.extend_from_slice(head.as_bytes());
    }

    fn bookmark(&mut self, out: &mut Vec<u8>, revision: Revision, initial_end: bool) -> Result<(), Status> {
        let annotations = if initial_end {
            r#","annotations":{"k8s.io/initial-events-end":"true"}"#
        } else {
            ""
        };
        let metadata =
            format!(r#""metadata":{{"resourceVersion":"{revision}"{annotations},"creationTimestamp":null}}"#);
        let gvk = &self.row.gvk;
        match self.form.shape {
            Shape::Object => {
                let (kind, version) = (&gvk.kind, gvk.api_version());
                out.extend_from_slice(format!(r#"{{"kind":"{kind}","apiVersion":"{version}",{metadata}}}"#).as_bytes());
            }
            Shape::Partial => {
                let version = self.form.meta_version;
                out.extend_from_slice(
                    format!(r#"{{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/{version}",{metadata}}}"#)
                        .as_bytes(),
                );
            }
            Shape::Table => {
                self.table_start(out, revision);
                let version = self.form.meta_version;
                let row = format!(
                    r#"{{"cells":[],"object":{{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/{version}",{metadata}}}}}]}}"#
                );
                out.extend_from_slice(row.as_bytes());
            }
        }
        Ok(())
    }
}
