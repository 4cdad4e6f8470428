//! watch.

use super::{View, list_options, request_filter, select::stated_revision};
use crate::{
    cache::{Filter, Frame, ResourceCache, Start, Watch},
    core::Core,
    encode::FrameWriter,
    flow::take_seats,
    pipeline::{Call, RequestBody},
    registry::Row,
};
use bytes::Bytes;
use futures::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};
use http::{HeaderValue, Request, Response, header::CONTENT_TYPE};
use std::{pin::Pin, sync::Arc, time::Duration};
use strata_http::{
    Body, BoxError,
    websocket::{self, Encoding},
};
use strata_meta::{Revision, Status, Uid};
use strata_metrics::Histogram;
use tokio::{
    sync::oneshot,
    time::{Instant, Sleep, sleep, timeout},
};
use tokio_util::sync::WaitForCancellationFutureOwned;

/// Upstream's `--min-request-timeout`: watches end after one to two times this.
const WATCH_SECONDS: u64 = 1800;
/// A client that takes its first events slower than this holds no seats for them any more.
const LONGEST_BEGINNING: Duration = Duration::from_secs(15);
/// Frames that are ready together leave together, up to this size.
const PIECE: usize = 64 << 10;
/// Bytes that say how long a frame in protobuf is.
const LENGTH: usize = 4;

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
    // What has not happened yet is waited for by the watch itself.
    if let (Some(revision), Start::Initial { .. }) = (revision, start) {
        core.cache.progress().reach(revision).await?;
    }
    cache.watch(filter, start, bookmarks)
}

/// A stream of changes, over a WebSocket if the client asks for one.
pub(crate) async fn watch(
    call: &Call,
    row: &Arc<Row>,
    mut request: Request<RequestBody>,
) -> Result<Response<Body>, Status> {
    let form = call.stream_form()?;
    let filter = request_filter(row, &call.info, &call.query)?;
    list_options::check(&call.query, true)?;
    let initial = call.query.bool("sendInitialEvents");
    let revision = stated_revision(call.query.get("resourceVersion"))?;
    let bookmarks = call.query.is_true("allowWatchBookmarks");
    let seconds = call.query.get("timeoutSeconds").parse::<u64>().ok().filter(|s| *s > 0);
    let seconds = seconds.unwrap_or_else(|| WATCH_SECONDS + spread());
    row.can_be_listed()?;
    let cache = call.core.stored(row)?;
    let writer = FrameWriter::new(row.clone(), form, call.include_object()?);
    let media = HeaderValue::from_static(writer.media_type());
    let after = revision.filter(|_| initial != Some(true));
    let view = View::open(&call.core, row, cache, &filter, after).await?;
    let socket = websocket::is_upgrade(&call.headers);
    let scope = if call.info.namespace.is_empty() {
        "cluster"
    } else {
        "namespace"
    };
    let frames = match open_watch(&call.core, cache, filter, revision, initial, bookmarks).await {
        Ok(watch) => frames(call.core.clone(), (watch, view), writer, (seconds, scope), socket).boxed(),
        // Upstream opens the stream and says so in it.
        Err(status) => {
            let told = writer.error(&status);
            stream::once(async move { Ok(told) }).boxed()
        }
    };
    if socket {
        return Ok(over_socket(&mut request, frames, media == "application/json"));
    }
    let mut response = Response::new(Body::stream(frames));
    response.headers_mut().insert(CONTENT_TYPE, media);
    Ok(response)
}

/// Keeps the ends of many watches apart.
fn spread() -> u64 {
    let random = Uid::random();
    u64::from_str_radix(&random.as_str()[..4], 16).unwrap_or(0) % WATCH_SECONDS
}

struct Running {
    /// What its events are counted in.
    sizes: Arc<Histogram>,
    started: Instant,
    scope: &'static str,
    core: Arc<Core>,
    watch: Watch,
    view: View,
    writer: FrameWriter,
    /// What the request holds in its priority level until its first events are written.
    seats: Option<oneshot::Sender<()>>,
    /// Whether frames are sent one by one.
    alone: bool,
    // Asked for once: a timer and a place among those who wait, for each frame anew, cost more than the frame.
    deadline: Pin<Box<Sleep>>,
    cancelled: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// Frames as messages; those in protobuf need no length there.
fn over_socket(request: &mut Request<RequestBody>, frames: Frames, text: bool) -> Response<Body> {
    let accepted = match websocket::accept_any(request) {
        Ok(accepted) => accepted,
        Err(refusal) => return *refusal,
    };
    let (encoding, skipped) = match text {
        true => (Encoding::Text, 0),
        false => (Encoding::Binary, LENGTH),
    };
    let messages = frames.map(move |frame| frame.map(|frame| frame.slice(skipped.min(frame.len())..)));
    tokio::spawn(async move {
        let sent = match accepted.socket.await {
            Ok(socket) => websocket::send_all(socket, encoding, messages).await,
            Err(error) => Err(error),
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "a watch over WebSocket ended");
        }
    });
    accepted.response
}

/// What a watch sends.
type Frames = BoxStream<'static, Result<Bytes, BoxError>>;

fn frames(
    core: Arc<Core>,
    (watch, view): (Watch, View),
    writer: FrameWriter,
    (seconds, scope): (u64, &'static str),
    alone: bool,
) -> impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static {
    let gvk = &writer.row.gvk;
    let resource = &writer.row.resource.resource;
    let seats = seats_of(&watch);
    let running = Running {
        sizes: core.metrics.storage.watched(&gvk.group, &gvk.version, resource),
        started: Instant::now(),
        scope,
        cancelled: Box::pin(core.cancel.clone().cancelled_owned()),
        core,
        watch,
        view,
        writer,
        seats,
        alone,
        deadline: Box::pin(sleep(Duration::from_secs(seconds))),
    };
    stream::unfold(Some(Box::new(running)), |state| async move {
        let mut running = state?;
        // Whoever asks for more has written what there was.
        if !running.watch.is_beginning() {
            running.seats = None;
        }
        let frame = loop {
            let frame = match running.first() {
                Some(frame) => frame,
                None => tokio::select! {
                    frame = running.watch.next() => frame?,
                    () = &mut running.deadline => return None,
                    () = &mut running.cancelled => return None,
                },
            };
            if !running.writer.can_tell(&frame) {
                return None;
            }
            match running.view.pass(&running.core, &running.writer.row, frame).await {
                Ok(Some(frame)) => break frame,
                Ok(None) => {}
                Err(status) => return Some((Ok(running.writer.error(&status)), None)),
            }
        };
        match running.piece(frame) {
            Ok(bytes) => Some((Ok::<Bytes, BoxError>(bytes), Some(running))),
            Err(status) => Some((Ok(running.writer.error(&status)), None)),
        }
    })
}

/// Holds the seats of the request until the sender is dropped, if the watch has something to begin with.
fn seats_of(watch: &Watch) -> Option<oneshot::Sender<()>> {
    let seats = take_seats().filter(|_| watch.is_beginning())?;
    let (sender, over) = oneshot::channel();
    tokio::spawn(async move {
        // Dropped or too late: it is over.
        let _ = timeout(LONGEST_BEGINNING, over).await;
        drop(seats);
    });
    Some(sender)
}

impl Running {
    /// The next of the first events, for which seats are held; gives them back when nothing is there to tell.
    fn first(&mut self) -> Option<Frame> {
        self.seats.as_ref()?;
        let frame = self.watch.ready();
        if frame.is_none() {
            self.seats = None;
        }
        frame
    }

    /// A frame and those that are ready behind it.
    fn piece(&mut self, first: Frame) -> Result<Bytes, Status> {
        let bytes = self.frame(first)?;
        if self.alone || self.writer.row.converts_elsewhere() {
            return Ok(bytes);
        }
        let Some(second) = self.watch.ready() else {
            return Ok(bytes);
        };
        let mut piece = Vec::with_capacity(PIECE);
        piece.extend_from_slice(&bytes);
        piece.extend_from_slice(&self.frame(second)?);
        while piece.len() < PIECE {
            let Some(frame) = self.watch.ready() else { break };
            piece.extend_from_slice(&self.frame(frame)?);
        }
        Ok(piece.into())
    }

    fn frame(&mut self, frame: Frame) -> Result<Bytes, Status> {
        if matches!(frame, Frame::Bookmark { initial_end: true, .. }) {
            let row = &self.writer.row;
            let labels = [&*row.gvk.group, &*row.gvk.version, &*row.resource.resource];
            let storage = &self.core.metrics.storage;
            storage.listed(labels, self.scope, self.started.elapsed());
        }
        let bytes = self.writer.frame(frame)?;
        #[expect(clippy::cast_precision_loss, reason = "a size falls into a bucket")]
        self.sizes.observe(bytes.len() as f64);
        Ok(bytes)
    }
}
