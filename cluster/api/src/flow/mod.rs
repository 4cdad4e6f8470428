//! Priority and fairness: which requests go first when there are more than the server answers at a time (KEP-1040).
//!
//! A request is classified by FlowSchemas into a priority level and a flow. Each [`Level`] has seats; when they are
//! taken, requests wait in queues among which flows are spread, and are refused when the queues are full. What does
//! not have to wait costs a read of the configuration and an atomic addition.

mod bootstrap;
mod classify;
mod config;
mod counted;
mod dropped;
mod dump;
mod level;
mod parked;
mod share;

pub(crate) use bootstrap::maintain;
pub(crate) use level::{Level, Seats};
pub(crate) use parked::{holding, parked, take_seats};

use crate::{
    cache::ResourceCache,
    core::Core,
    encode::text_response,
    metrics::waits::{self, Layer},
    pipeline::Call,
    registry::Row,
};
use classify::Schema;
use counted::Running;
use dropped::Dropped;
use dump::About;
use http::{HeaderMap, HeaderValue, Response, header::RETRY_AFTER};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, RwLock},
    time::{Duration, Instant},
};
use strata_http::Body;
use strata_meta::WatchEvent;
use strata_metrics::Page;
use tokio::sync::{Notify, Semaphore};

/// Seats of the whole server: upstream's reads and writes in flight.
pub(crate) const SERVER_SEATS: u32 = 600;
/// How long a request may wait for its turn (upstream: a quarter of the request's time).
const QUEUE_TIMEOUT: Duration = Duration::from_secs(15);
/// Bytes of a list that cost a seat; it is streamed, so that no more than so many are there at once (upstream's numbers).
const BYTES_PER_SEAT: usize = 100_000;
const MOST_BYTES: usize = 1_000_000;
/// Objects that are looked at to know how large they are.
const SAMPLE: usize = 16;
/// Watchers of a write that cost a seat.
const WATCHERS_PER_SEAT: usize = 10;
/// A request never takes more than this, nor more than a part of its level's seats.
const MOST_LIST_SEATS: u32 = 100;
const MOST_SEATS: u32 = 10;
const MOST_SEATS_PER_MILLE: u32 = 150;
/// What the events of a write cost: one seat for this long for every ten watchers.
const EVENTS: Duration = Duration::from_millis(5);

/// The server's priority levels and who goes where.
pub(crate) struct Flow {
    config: RwLock<Arc<Config>>,
    objects: Mutex<config::Objects>,
    /// Told when objects have changed.
    pub(crate) changed: Notify,
    dropped: Dropped,
    /// Room for requests that wait for somebody outside.
    pub(crate) parking: Arc<Semaphore>,
}

/// One state of the configuration.
#[derive(Default)]
struct Config {
    /// In the order they are tried.
    schemas: Vec<Arc<Schema>>,
    levels: HashMap<String, Arc<Level>>,
}

/// Where a request belongs.
pub(crate) struct Admitted {
    schema: Arc<Schema>,
    /// Held until dropped.
    seats: Option<Seats>,
    /// Of a level that lets everything through, there are no seats to count by.
    _counted: Option<Running>,
    /// Seats held on after the answer.
    after: Option<(u32, Duration)>,
}

impl Flow {
    /// With the mandatory objects only.
    pub(crate) fn new() -> Self {
        let flow = Self {
            config: RwLock::default(),
            objects: Mutex::default(),
            changed: Notify::new(),
            dropped: Dropped::default(),
            parking: Arc::new(Semaphore::new(parked::PARKED)),
        };
        flow.rebuild();
        flow
    }

    /// A change of a FlowSchema or a PriorityLevelConfiguration.
    pub(crate) fn observe(&self, event: &WatchEvent) {
        let Some(object) = event.object() else { return };
        let gone = matches!(event, WatchEvent::Deleted(_));
        let body = match object.to_value() {
            Ok(value) => Some(value).filter(|_| !gone),
            Err(error) => return tracing::error!(%error, "a flow control object cannot be read and is not followed"),
        };
        let mut objects = self.objects.lock().expect("no panic under this lock");
        objects.set(&object.kind.kind, object.name(), body);
        drop(objects);
        self.rebuild();
        self.changed.notify_one();
    }

    fn rebuild(&self) {
        let objects = self.objects.lock().expect("no panic under this lock");
        let mut config = self.config.write().expect("no panic under this lock");
        *config = Arc::new(objects.config(&config));
        self.dropped.retain(|level| config.levels.contains_key(level));
    }

    fn config(&self) -> Arc<Config> {
        self.config.read().expect("no panic under this lock").clone()
    }

    /// Waits for the request's turn. Errors: the answer when there is no room, or not soon enough.
    pub(crate) async fn admit(&self, call: &Call, row: Option<&Row>) -> Result<Admitted, Box<Response<Body>>> {
        let config = self.config();
        let found = config
            .schemas
            .iter()
            .find(|schema| schema.matches(&call.user, &call.info));
        // The mandatory objects are always there, and match everything.
        let Some(schema) = found.cloned() else {
            return Err(Box::new(text_response(500, "no flow schema matches the request\n")));
        };
        let level = schema.level.clone();
        let (counters, is_watch) = (schema.counters.clone(), call.info.verb == "watch");
        if level.is_exempt() {
            counters.estimated(1);
            return Ok(Admitted {
                schema,
                seats: None,
                _counted: Some(counters.let_in(1, is_watch, None)),
                after: None,
            });
        }
        let (width, after) = width(call, row, &schema);
        counters.estimated(after.map_or(width, |(wide, _)| wide.max(width)));
        let about = Arc::new(About::new(&schema, call, width, after));
        let flow = schema.flow(&call.user, &call.info);
        let asked = Instant::now();
        match level.acquire(width, flow, QUEUE_TIMEOUT, &about, &counters).await {
            Ok(mut seats) => {
                waits::add(asked.elapsed());
                waits::took(Layer::Queue, asked.elapsed());
                seats.count(counters.let_in(width, is_watch, Some(asked)));
                Ok(Admitted {
                    schema,
                    seats: Some(seats),
                    _counted: None,
                    after,
                })
            }
            Err(refusal) => {
                counters.refused(refusal, asked);
                let mut response = too_many_requests(self.dropped.refuse(&level.name));
                schema.label(response.headers_mut());
                Err(Box::new(response))
            }
        }
    }

    /// Seats are lent to levels that want them by those that do not.
    pub(crate) fn rebalance(&self) {
        share::rebalance(self.config().levels.values());
    }

    /// Shows the levels and what has become of requests, under upstream's names.
    pub(crate) fn show(&self, page: &mut Page) {
        let config = self.config();
        let mut levels: Vec<&Arc<Level>> = config.levels.values().collect();
        levels.sort_by(|a, b| a.name.cmp(&b.name));
        counted::show(&levels, &config.schemas, page);
    }
}

/// What is told who finds no room: to come again after so many seconds.
pub(crate) fn too_many_requests(seconds: u64) -> Response<Body> {
    let mut response = text_response(429, "Too many requests, please try again later.\n");
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
}

/// The seats a request takes, and those it takes on after its answer.
fn width(call: &Call, row: Option<&Row>, schema: &Schema) -> (u32, Option<(u32, Duration)>) {
    let level = &schema.level;
    let Some(cache) = row.and_then(|row| row.cache.as_ref()) else {
        return (1, None);
    };
    let seats = |count: usize, each: usize| u32::try_from(count.div_ceil(each)).unwrap_or(u32::MAX);
    match call.info.verb {
        // A watch from a revision reads nothing but what comes.
        "watch"
            if !matches!(call.query.get("resourceVersion"), "" | "0") && !call.query.is_true("sendInitialEvents") =>
        {
            (1, None)
        }
        "list" | "watch" => {
            let limit = call.query.get("limit").parse::<usize>().ok().filter(|limit| *limit > 0);
            let objects = match call.info.name.is_empty() {
                true => limit.unwrap_or(usize::MAX).min(cache.len()),
                false => 1,
            };
            let bytes = objects.saturating_mul(average_bytes(cache)).min(MOST_BYTES);
            (
                seats(bytes, BYTES_PER_SEAT).clamp(1, level.widest(MOST_LIST_SEATS)),
                None,
            )
        }
        "create" | "update" | "patch" | "delete" if call.info.subresource != "token" => {
            let watchers = cache.watchers();
            #[expect(clippy::cast_precision_loss, reason = "a number falls into a bucket")]
            schema.counters.watchers.observe(watchers as f64);
            if watchers < WATCHERS_PER_SEAT {
                return (1, None);
            }
            let wanted = seats(watchers, WATCHERS_PER_SEAT);
            let wide = wanted.min(level.widest(MOST_SEATS));
            (1, Some((wide, EVENTS * wanted / wide)))
        }
        _ => (1, None),
    }
}

/// How large the objects of a resource are, by a few of them.
fn average_bytes(cache: &ResourceCache) -> usize {
    let (count, bytes) = cache.objects(None).take(SAMPLE).fold((0, 0), |(count, bytes), object| {
        (count + 1, bytes + object.body().len())
    });
    bytes.checked_div(count).unwrap_or(0)
}

impl Admitted {
    /// Tells the client how its request was classified.
    pub(crate) fn label(&self, headers: &mut HeaderMap) {
        self.schema.label(headers);
    }

    /// Whether the level lets everything through, so that other bounds hold.
    pub(crate) fn is_exempt(&self) -> bool {
        self.seats.is_none()
    }

    /// What is held while the request is answered.
    pub(crate) fn take_seats(&mut self) -> Option<Seats> {
        self.seats.take()
    }

    /// What was held.
    pub(crate) fn return_seats(&mut self, seats: Option<Seats>) {
        self.seats = seats;
    }

    /// Gives the seats back, those for the work after an answer when that is done.
    pub(crate) fn finish(mut self) {
        let (Some(seats), Some((wide, time))) = (self.seats.take(), self.after) else {
            return;
        };
        let seats = seats.widen(wide);
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            drop(seats);
        });
    }
}

/// A uid as a header; nobody's when it is none.
fn uid_header(uid: &str) -> HeaderValue {
    HeaderValue::from_str(uid).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Keeps the objects and the limits up to date until the server stops.
pub(crate) async fn keep(core: Arc<Core>) {
    let mut period = tokio::time::interval(share::PERIOD);
    loop {
        tokio::select! {
            () = core.cancel.cancelled() => return,
            () = core.flow.changed.notified() => bootstrap::conditions(&core).await,
            _ = period.tick() => core.flow.rebalance(),
        }
    }
}
