//! What is counted of a FlowSchema's requests, under upstream's names.

use super::{
    classify::Schema,
    level::{self, Level, Refusal},
};
use std::{sync::Arc, time::Instant};
use strata_metrics::{Buckets, Counter, Gauge, Histogram, Instrument, Kind, Metric, Page};

const SECONDS: Buckets = Buckets::seconds(&[0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0]);
const SEATS: Buckets = Buckets::units(&[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 100.0]);
const WATCHERS: Buckets = Buckets::units(&[0.0, 1.0, 10.0, 100.0, 1000.0, 10000.0]);
const QUEUE: Buckets = Buckets::units(&[0.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0]);

/// What has become of a schema's requests.
pub(super) struct Counters {
    dispatched: Counter,
    rejected: [Counter; 3],
    /// Waits of those refused, and of those let in.
    waited: [Histogram; 2],
    /// How long requests ran, and watches until their first events were told.
    ran: [Histogram; 2],
    seats: Histogram,
    pub(super) watchers: Histogram,
    queue: Histogram,
    waiting: Gauge,
    waiting_seats: Gauge,
    running: Gauge,
    running_seats: Gauge,
}

impl Default for Counters {
    fn default() -> Self {
        let of = Histogram::new;
        Self {
            dispatched: Counter::default(),
            rejected: Default::default(),
            waited: [of(SECONDS), of(SECONDS)],
            ran: [of(SECONDS), of(SECONDS)],
            seats: of(SEATS),
            watchers: of(WATCHERS),
            queue: of(QUEUE),
            waiting: Gauge::default(),
            waiting_seats: Gauge::default(),
            running: Gauge::default(),
            running_seats: Gauge::default(),
        }
    }
}

impl Counters {
    /// Requests let in, refused at once, and refused after a wait.
    pub(super) fn outcomes(&self) -> [u64; 3] {
        let of = |refusal: Refusal| self.rejected[refusal as usize].get();
        [
            self.dispatched.get(),
            of(Refusal::QueueFull) + of(Refusal::ConcurrencyLimit),
            of(Refusal::TimeOut),
        ]
    }

    /// A request that asks for so many seats, now or later.
    pub(super) fn estimated(&self, seats: u32) {
        self.seats.observe(seats.into());
    }

    /// A request joins a queue that is then so long.
    pub(super) fn queued(self: &Arc<Self>, seats: u32, length: usize) -> Waiting {
        #[expect(clippy::cast_precision_loss, reason = "a length falls into a bucket")]
        self.queue.observe(length as f64);
        self.waiting.add(1);
        self.waiting_seats.add(seats.into());
        Waiting(self.clone(), seats)
    }

    /// A request that is refused, having come at a moment.
    pub(super) fn refused(&self, why: Refusal, came: Instant) {
        self.rejected[why as usize].inc();
        self.waited[0].took(came.elapsed());
    }

    /// A request is let in that had to ask for seats at a moment; nobody asks in a level that lets everything through.
    pub(super) fn let_in(self: &Arc<Self>, seats: u32, is_watch: bool, came: Option<Instant>) -> Running {
        let since = Instant::now();
        self.dispatched.inc();
        if let Some(came) = came {
            self.waited[1].took(since - came);
        }
        self.running.add(1);
        self.running_seats.add(seats.into());
        Running {
            counters: self.clone(),
            seats,
            is_watch,
            since,
        }
    }
}

/// A request in a queue.
pub(super) struct Waiting(Arc<Counters>, u32);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.add(-1);
        self.0.waiting_seats.add(-i64::from(self.1));
    }
}

/// A request that is let in.
pub(super) struct Running {
    counters: Arc<Counters>,
    seats: u32,
    is_watch: bool,
    since: Instant,
}

impl Running {
    /// The same with another number of seats.
    pub(super) fn widen(&mut self, seats: u32) {
        let more = i64::from(seats) - i64::from(self.seats);
        self.counters.running_seats.add(more);
        self.seats = seats;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let counters = &self.counters;
        counters.running.add(-1);
        counters.running_seats.add(-i64::from(self.seats));
        counters.ran[usize::from(self.is_watch)].took(self.since.elapsed());
    }
}

const PREFIX: &str = "apiserver_flowcontrol_";

/// A series of each schema: a name, what is measured, and how it is read.
type Row<M> = (&'static str, &'static str, fn(&Counters) -> &M);

const COUNTERS: [Row<Counter>; 1] = [("dispatched_requests_total", "Requests whose turn came.", |c| {
    &c.dispatched
})];
const GAUGES: [Row<Gauge>; 4] = [
    ("current_inqueue_requests", "Requests that wait for their turn.", |c| {
        &c.waiting
    }),
    ("current_inqueue_seats", "Seats that waiting requests ask for.", |c| {
        &c.waiting_seats
    }),
    ("current_executing_requests", "Requests that hold seats.", |c| {
        &c.running
    }),
    ("current_executing_seats", "Seats that are held.", |c| &c.running_seats),
];
const HISTOGRAMS: [Row<Histogram>; 3] = [
    ("work_estimated_seats", "Seats that requests ask for.", |c| &c.seats),
    ("watch_count_samples", "Watchers that a write will be told to.", |c| {
        &c.watchers
    }),
    (
        "request_queue_length_after_enqueue",
        "Requests in the queue that one is put into, itself among them.",
        |c| &c.queue,
    ),
];

/// Histograms of two kinds of requests: the label that tells them apart, and its values.
type Pair = (
    &'static str,
    &'static str,
    &'static str,
    [&'static str; 2],
    fn(&Counters) -> &[Histogram; 2],
);
const PAIRS: [Pair; 2] = [
    (
        "request_wait_duration_seconds",
        "Seconds from coming to being let through or refused.",
        "execute",
        ["false", "true"],
        |c| &c.waited,
    ),
    (
        "request_execution_seconds",
        "Seconds for which requests held their seats.",
        "type",
        ["regular", "watch"],
        |c| &c.ran,
    ),
];

/// Shows what is counted by schema and by level.
pub(super) fn show(levels: &[&Arc<Level>], schemas: &[Arc<Schema>], page: &mut Page) {
    for (name, help, read) in level::GAUGES {
        let name = format!("{PREFIX}{name}");
        let mut section = page.section(&name, Kind::Gauge, help);
        for level in levels {
            #[expect(clippy::cast_precision_loss, reason = "the text knows floats only")]
            section.sample(&[("priority_level", &level.name)], read(level) as f64);
        }
    }
    rows(&COUNTERS, schemas, page);
    rows(&GAUGES, schemas, page);
    for (name, help, read) in HISTOGRAMS {
        let name = format!("{PREFIX}{name}");
        let mut section = page.section(&name, Kind::Histogram, help);
        for schema in schemas.iter().filter(|schema| read(&schema.counters).count() > 0) {
            section.histogram(&labels(schema), read(&schema.counters));
        }
    }
    for (name, help, label, values, read) in PAIRS {
        let name = format!("{PREFIX}{name}");
        let mut section = page.section(&name, Kind::Histogram, help);
        for schema in schemas {
            for (value, histogram) in values.iter().zip(read(&schema.counters)) {
                if histogram.count() > 0 {
                    let labels = labels(schema);
                    let all = [(label, *value), labels[0], labels[1]];
                    section.histogram(&sorted(all), histogram);
                }
            }
        }
    }
    let name = format!("{PREFIX}rejected_requests_total");
    let help = "Requests that were turned away.";
    let mut section = page.section(&name, Kind::Counter, help);
    for schema in schemas {
        let reasons = ["queue-full", "concurrency-limit", "time-out"];
        for (reason, counter) in reasons.iter().zip(&schema.counters.rejected) {
            if counter.get() > 0 {
                let labels = labels(schema);
                counter.show(&mut section, &[labels[0], labels[1], ("reason", reason)]);
            }
        }
    }
}

fn rows<M: Metric + Instrument>(rows: &[Row<M>], schemas: &[Arc<Schema>], page: &mut Page) {
    for (name, help, read) in rows {
        let name = format!("{PREFIX}{name}");
        let mut section = page.section(&name, M::KIND, help);
        for schema in schemas {
            // Of what has never been asked for upstream shows nothing.
            if schema.counters.seats.count() > 0 || schema.counters.dispatched.get() > 0 {
                read(&schema.counters).show(&mut section, &labels(schema));
            }
        }
    }
}

fn labels(schema: &Schema) -> [(&str, &str); 2] {
    [("flow_schema", &schema.name), ("priority_level", &schema.level.name)]
}

fn sorted<'l>(mut labels: [(&'l str, &'l str); 3]) -> [(&'l str, &'l str); 3] {
    labels.sort_unstable();
    labels
}
