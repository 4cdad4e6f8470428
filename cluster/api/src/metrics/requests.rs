//! Requests: how many, how they were answered, how long that took and how large the answers were.
//!
//! One search finds all that is counted about a kind of request; everything else is atomic additions.

use crate::{pipeline::Call, registry::Row, request::RequestInfo};
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};
use strata_metrics::{Buckets, Counter, Family, Gauge, Histogram, Instrument, Kind, Page};

/// Upstream's bounds of request durations.
pub(super) const LATENCY: Buckets = Buckets::seconds(&[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
]);
const SERVICE_LEVEL: Buckets = Buckets::seconds(&[
    0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0,
]);
const SIZES: Buckets = Buckets::units(&[1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9]);
/// Upstream's bounds: from 50 kB, each 100 kB more.
const BODIES: Buckets = Buckets::units(&[
    50e3, 150e3, 250e3, 350e3, 450e3, 550e3, 650e3, 750e3, 850e3, 950e3, 1050e3, 1150e3, 1250e3, 1350e3, 1450e3,
    1550e3, 1650e3, 1750e3, 1850e3, 1950e3, 2050e3, 2150e3, 2250e3, 2350e3, 2450e3, 2550e3, 2650e3, 2750e3, 2850e3,
    2950e3, 3050e3,
]);
/// Codes with a counter of their own; others share one.
const CODES: [u16; 32] = [
    200, 201, 202, 204, 206, 101, 301, 302, 304, 307, 400, 401, 403, 404, 405, 406, 408, 409, 410, 411, 412, 413, 415,
    416, 422, 426, 429, 500, 501, 502, 503, 504,
];
/// Paths besides resources that are told apart.
const PATHS: [&str; 8] = [
    "/healthz", "/livez", "/readyz", "/version", "/metrics", "/api", "/apis", "/openapi",
];

/// All that is counted about one kind of request.
pub(crate) struct Series {
    codes: [Counter; CODES.len()],
    other: Counter,
    latency: Histogram,
    /// Without waiting for webhooks and for the request's turn; of requests that are no trial.
    service_level: Histogram,
    sizes: Histogram,
}

impl Instrument for Series {
    type Settings = ();
    fn new((): ()) -> Self {
        Self {
            codes: Default::default(),
            other: Counter::default(),
            latency: Histogram::new(LATENCY),
            service_level: Histogram::new(SERVICE_LEVEL),
            sizes: Histogram::new(SIZES),
        }
    }
}

/// Counters of requests.
pub(crate) struct Requests {
    series: Family<8, Series>,
    long_running: Family<7, Gauge>,
    terminations: Family<8, Counter>,
    aborts: Family<6, Counter>,
    deprecated: Family<5, Gauge>,
    own: Family<4, Counter>,
    bodies: Family<3, Histogram>,
    executing: InFlight,
    waiting: InFlight,
}

/// Requests now, by whether they change something.
#[derive(Default)]
struct InFlight {
    reads: AtomicI64,
    writes: AtomicI64,
}

/// A request that is counted until this is dropped.
pub(crate) struct Counted<'m>(&'m AtomicI64);

impl InFlight {
    fn enter(&self, reads: bool) -> Counted<'_> {
        let gauge = if reads { &self.reads } else { &self.writes };
        gauge.fetch_add(1, Ordering::Relaxed);
        Counted(gauge)
    }

    fn show(&self, page: &mut Page, name: &str, help: &str) {
        let mut section = page.section(name, Kind::Gauge, help);
        for (kind, gauge) in [("mutating", &self.writes), ("readOnly", &self.reads)] {
            #[expect(clippy::cast_precision_loss, reason = "the text knows floats only")]
            section.sample(&[("request_kind", kind)], gauge.load(Ordering::Relaxed) as f64);
        }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A watch, log or stream that goes on: counted, and timed, until this is dropped.
pub(crate) struct Lasting {
    gauge: Arc<Gauge>,
    series: Arc<Series>,
    started: Instant,
}

impl Drop for Lasting {
    fn drop(&mut self) {
        self.gauge.add(-1);
        let took = self.started.elapsed();
        self.series.latency.took(took);
        self.series.service_level.took(took);
    }
}

/// What a request is counted under.
struct Labels<'a> {
    verb: &'static str,
    dry_run: &'static str,
    group: &'a str,
    version: &'a str,
    resource: &'a str,
    subresource: &'a str,
    scope: &'static str,
    component: &'static str,
}

impl<'a> Labels<'a> {
    /// `None` for what nothing serves: paths that anybody makes up are no labels.
    fn of(call: &'a Call, row: Option<&'a Row>) -> Option<Self> {
        let info = &call.info;
        let Some(row) = row else {
            let path = PATHS.iter().find(|path| {
                let rest = info.path.strip_prefix(**path);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            });
            return path.filter(|_| !info.is_resource).map(|path| Self {
                verb: method(call),
                dry_run: "",
                group: "",
                version: "",
                resource: "",
                subresource: path,
                scope: "",
                component: "",
            });
        };
        if !info.subresource.is_empty() && row.subresource(&info.subresource).is_none() {
            return None;
        }
        Some(Self {
            verb: verb(call),
            dry_run: dry_run(call),
            group: &info.group,
            version: &info.version,
            resource: &info.resource,
            subresource: &info.subresource,
            scope: scope(info),
            component: "apiserver",
        })
    }

    fn whole(&self) -> [&'a str; 8] {
        [
            self.verb,
            self.dry_run,
            self.group,
            self.version,
            self.resource,
            self.subresource,
            self.scope,
            self.component,
        ]
    }

    fn lasting(&self) -> [&'a str; 7] {
        let [verb, _, group, version, resource, subresource, scope, component] = self.whole();
        [verb, group, version, resource, subresource, scope, component]
    }
}

impl Requests {
    pub(super) fn new() -> Self {
        let [verb, dry_run] = ["verb", "dry_run"];
        let [group, version, resource, subresource] = ["group", "version", "resource", "subresource"];
        let [scope, component, code] = ["scope", "component", "code"];
        Self {
            series: Family::new(
                "apiserver_request_total",
                "Requests that were answered.",
                [verb, dry_run, group, version, resource, subresource, scope, component],
                (),
            ),
            long_running: Family::gauges(
                "apiserver_longrunning_requests",
                "Watches, logs and streams that are going on.",
                [verb, group, version, resource, subresource, scope, component],
            ),
            terminations: Family::counters(
                "apiserver_request_terminations_total",
                "Requests that the server ended or refused to protect itself.",
                [verb, group, version, resource, subresource, scope, component, code],
            ),
            aborts: Family::counters(
                "apiserver_request_aborts_total",
                "Requests that were cut off, possibly for taking too long.",
                [verb, group, version, resource, subresource, scope],
            ),
            deprecated: Family::gauges(
                "apiserver_requested_deprecated_apis",
                "Deprecated kinds that somebody asked for.",
                [group, version, resource, subresource, "removed_release"],
            ),
            own: Family::counters(
                "apiserver_selfrequest_total",
                "Requests of the server to itself.",
                [verb, group, resource, subresource],
            ),
            bodies: Family::histograms(
                "apiserver_request_body_size_bytes",
                "Bytes of the bodies of requests.",
                [group, resource, verb],
                BODIES,
            ),
            executing: InFlight::default(),
            waiting: InFlight::default(),
        }
    }

    /// The body of a request had so many bytes.
    fn sent(&self, call: &Call, row: Option<&Row>, bytes: Option<usize>) {
        let (Some(bytes), Some(row)) = (bytes, row) else { return };
        let verb = match call.info.verb {
            "deletecollection" => "delete_collection",
            verb @ ("create" | "update" | "patch" | "delete") => verb,
            _ => return,
        };
        let resource = &row.resource;
        #[expect(clippy::cast_precision_loss, reason = "a size falls into a bucket")]
        self.bodies
            .with([&resource.group, &resource.resource, verb])
            .observe(bytes as f64);
    }

    /// A request is being answered.
    pub(crate) fn executing(&self, reads: bool) -> Counted<'_> {
        self.executing.enter(reads)
    }

    /// A request waits for its turn.
    pub(crate) fn waiting(&self, reads: bool) -> Counted<'_> {
        self.waiting.enter(reads)
    }

    /// A long request begins.
    pub(crate) fn lasting(&self, call: &Call, row: Option<&Row>) -> Option<Lasting> {
        let labels = Labels::of(call, row)?;
        let gauge = self.long_running.kept(labels.lasting());
        gauge.add(1);
        Some(Lasting {
            gauge,
            series: self.series.kept(labels.whole()),
            started: Instant::now(),
        })
    }

    /// A request was ended by the server itself.
    pub(crate) fn terminated(&self, call: &Call, row: Option<&Row>, code: u16) {
        let Some(labels) = Labels::of(call, row) else { return };
        let [verb, group, version, resource, subresource, scope, component] = labels.lasting();
        let code = code.to_string();
        self.terminations
            .with([verb, group, version, resource, subresource, scope, component, &code])
            .inc();
        if code == "504" {
            self.aborts
                .with([verb, group, version, resource, subresource, scope])
                .inc();
        }
    }

    /// A request has been answered, with so many bytes to so many. Long ones are timed by [`Lasting`].
    pub(crate) fn answered(
        &self,
        call: &Call,
        row: Option<&Row>,
        code: u16,
        (size, sent): (u64, Option<usize>),
        (took, excluded): (Duration, Duration),
    ) {
        self.sent(call, row, sent);
        let Some(labels) = Labels::of(call, row) else { return };
        let series = self.series.with(labels.whole());
        match CODES.iter().position(|known| *known == code) {
            Some(at) => series.codes[at].inc(),
            None => series.other.inc(),
        }
        if call.info.is_long_running() {
            return;
        }
        series.latency.took(took);
        if labels.dry_run.is_empty() {
            series.service_level.took(took.saturating_sub(excluded));
        }
        if matches!(call.info.verb, "get" | "list") {
            #[expect(clippy::cast_precision_loss, reason = "a size falls into a bucket")]
            series.sizes.observe(size as f64);
        }
        if call.user.name == "system:apiserver" {
            self.own
                .with([labels.verb, labels.group, labels.resource, labels.subresource])
                .inc();
        }
        if row.is_some_and(|row| row.deprecation().is_some()) {
            self.deprecated
                .with([labels.group, labels.version, labels.resource, labels.subresource, ""])
                .set(1);
        }
    }

    pub(super) fn show(&self, page: &mut Page) {
        self.bodies.show(page);
        self.series.each(|labels, series| {
            let mut section = page.section("apiserver_request_total", Kind::Counter, "Requests that were answered.");
            let mut labels = labels.to_vec();
            let texts = CODES.map(|code| code.to_string());
            let known = texts.iter().map(String::as_str).zip(&series.codes);
            for (code, count) in known.chain([("other", &series.other)]).filter(|(_, c)| c.get() > 0) {
                labels.push(("code", code));
                #[expect(clippy::cast_precision_loss, reason = "the text knows floats only")]
                section.sample(&labels, count.get() as f64);
                labels.pop();
            }
            let (name, help) = ("apiserver_request_duration_seconds", "How long answers took.");
            histogram(page, (name, help), &labels, &series.latency);
            labels.retain(|(name, _)| *name != "dry_run");
            let (name, help) = (
                "apiserver_request_sli_duration_seconds",
                "How long answers took without waiting for webhooks and for the request's turn.",
            );
            histogram(page, (name, help), &labels, &series.service_level);
            let (name, help) = ("apiserver_response_sizes", "Bytes of the answers to reads.");
            histogram(page, (name, help), &labels, &series.sizes);
        });
        self.long_running.show(page);
        self.terminations.show(page);
        self.aborts.show(page);
        self.deprecated.show(page);
        self.own.show(page);
        self.executing.show(
            page,
            "apiserver_current_inflight_requests",
            "Requests being answered now.",
        );
        self.waiting.show(
            page,
            "apiserver_current_inqueue_requests",
            "Requests waiting for their turn now.",
        );
    }
}

fn histogram(page: &mut Page, (name, help): (&str, &str), labels: &[(&str, &str)], histogram: &Histogram) {
    if histogram.count() > 0 {
        page.section(name, Kind::Histogram, help).histogram(labels, histogram);
    }
}

/// Upstream's word for what a request does; connections have one of their own.
fn verb(call: &Call) -> &'static str {
    let info = &call.info;
    if matches!(
        info.subresource.as_str(),
        "log" | "exec" | "portforward" | "attach" | "proxy"
    ) {
        return "CONNECT";
    }
    match info.verb {
        "get" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" => "POST",
        "update" => "PUT",
        "patch" if is_apply(call) => "APPLY",
        "patch" => "PATCH",
        "delete" | "deletecollection" => "DELETE",
        _ => method(call),
    }
}

fn is_apply(call: &Call) -> bool {
    let media = call.headers.get(http::header::CONTENT_TYPE);
    media.is_some_and(|media| media.as_bytes() == b"application/apply-patch+yaml")
}

fn method(call: &Call) -> &'static str {
    match call.method {
        http::Method::GET | http::Method::HEAD => "GET",
        http::Method::POST => "POST",
        http::Method::PUT => "PUT",
        http::Method::PATCH => "PATCH",
        http::Method::DELETE => "DELETE",
        _ => "other",
    }
}

fn dry_run(call: &Call) -> &'static str {
    let mut wanted = call.query.all("dryRun").peekable();
    match (wanted.peek().is_some(), wanted.all(|what| what == "All")) {
        (false, _) => "",
        (true, true) => "All",
        (true, false) => "invalid",
    }
}

/// How far a request reaches, by its route.
fn scope(info: &RequestInfo) -> &'static str {
    match info.verb {
        "list" | "watch" | "deletecollection" if info.subresource.is_empty() => match info.namespace.as_str() {
            "" => "cluster",
            _ => "namespace",
        },
        _ => "resource",
    }
}
