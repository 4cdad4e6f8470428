//! The store as upstream's metrics of etcd know it, and the cache in front of it.

use super::requests::LATENCY;
use crate::{
    cache::{RING_MAX, ResourceCache},
    core::Core,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use strata_metrics::{Counter, Family, Histogram, Kind, Page};

/// Objects whose sizes are added up at most; of more, the size is estimated from these.
const MEASURED: usize = 1000;
/// Upstream shows so many digits of a revision.
const REVISION_DIGITS: u64 = 1_000_000_000_000_000;

/// Counters of the store.
pub(crate) struct Storage {
    durations: Family<3, Histogram>,
    errors: Family<3, Counter>,
    watched: Family<3, Histogram>,
    lists: Family<4, Histogram>,
}

/// What a resource's cache has seen.
#[derive(Default)]
pub(crate) struct Seen {
    /// Changes that came from the store.
    pub(crate) received: Counter,
    /// Changes that were handed to watchers, once for each.
    pub(crate) dispatched: Counter,
    /// Objects that watches began with.
    pub(crate) initial: Counter,
    /// Watchers that were cut off for being slow.
    pub(crate) terminated: Counter,
    /// Lists.
    pub(crate) lists: Counter,
    /// Lists of the newest state.
    pub(crate) newest: Counter,
    /// Objects that lists looked at.
    pub(crate) fetched: Counter,
    /// Objects that lists answered with.
    pub(crate) returned: Counter,
}

impl Storage {
    pub(super) fn new() -> Self {
        let [operation, group, version, resource] = ["operation", "group", "version", "resource"];
        Self {
            durations: Family::histograms(
                "etcd_request_duration_seconds",
                "How long the store took.",
                [operation, group, resource],
                LATENCY,
            ),
            errors: Family::counters(
                "etcd_request_errors_total",
                "Requests that the store refused.",
                [operation, group, resource],
            ),
            watched: Family::histograms(
                "apiserver_watch_events_sizes",
                "Bytes of the events that watchers were told.",
                [group, version, resource],
                strata_metrics::Buckets::units(&[
                    1024.0, 2048.0, 4096.0, 8192.0, 16_384.0, 32_768.0, 65_536.0, 131_072.0,
                ]),
            ),
            lists: Family::histograms(
                "apiserver_watch_list_duration_seconds",
                "How long it took until watchers that began with a list had it.",
                [group, version, resource, "scope"],
                strata_metrics::Buckets::seconds(&[
                    0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0,
                ]),
            ),
        }
    }

    /// The store was asked to write.
    pub(crate) fn asked(&self, operation: &str, resource: &ResourceCache, failed: bool, took: Duration) {
        let (group, resource) = resource.group_resource();
        self.durations.with([operation, group, resource]).took(took);
        if failed {
            self.errors.with([operation, group, resource]).inc();
        }
    }

    /// What the events of a kind of watch are counted in.
    pub(crate) fn watched(&self, group: &str, version: &str, resource: &str) -> Arc<Histogram> {
        self.watched.kept([group, version, resource])
    }

    /// A watcher that began with a list has it.
    pub(crate) fn listed(&self, [group, version, resource]: [&str; 3], scope: &str, took: Duration) {
        self.lists.with([group, version, resource, scope]).took(took);
    }

    #[expect(clippy::cast_precision_loss, reason = "the text knows floats only")]
    pub(super) fn show(&self, core: &Core, page: &mut Page) {
        self.durations.each(|labels, histogram| {
            page.section("etcd_requests_total", Kind::Counter, "Requests to the store.")
                .sample(labels, histogram.count() as f64);
        });
        self.durations.show(page);
        self.errors.show(page);
        self.watched.each(|labels, histogram| {
            let help = "Events that watchers were told.";
            page.section("apiserver_watch_events_total", Kind::Counter, help)
                .sample(labels, histogram.count() as f64);
        });
        self.watched.show(page);
        self.lists.show(page);
        let status = core.store.status();
        let help = "Bytes of the store's files.";
        page.section("apiserver_storage_size_bytes", Kind::Gauge, help)
            .sample(&[("storage_cluster_id", "strata-0")], status.disk_bytes as f64);
        show_resources(core, page);
    }
}

/// What is known of each stored resource.
fn show_resources(core: &Core, page: &mut Page) {
    let mut caches: BTreeMap<String, Arc<ResourceCache>> = BTreeMap::new();
    for row in core.registry.rows().iter() {
        if let Some(cache) = &row.cache {
            caches.insert(cache.prefix().to_owned(), cache.clone());
        }
    }
    let applied = core.cache.progress().applied().0 % REVISION_DIGITS;
    for cache in caches.values() {
        show_objects(cache, applied, page);
        show_seen(cache, page);
    }
}

#[expect(clippy::cast_precision_loss, reason = "the text knows floats only")]
fn show_objects(cache: &ResourceCache, applied: u64, page: &mut Page) {
    let (group, resource) = cache.group_resource();
    let len = cache.len();
    let labels = [("group", group), ("resource", resource)];
    for (name, help, value) in [
        ("apiserver_resource_objects", "Stored objects.", len as f64),
        (
            "apiserver_resource_size_estimate_bytes",
            "Bytes of stored objects, by estimate.",
            size(cache, len),
        ),
        (
            "apiserver_watch_cache_resource_version",
            "The revision that the cache shows.",
            applied as f64,
        ),
    ] {
        page.section(name, Kind::Gauge, help).sample(&labels, value);
    }
    let help = "Events that the cache keeps for watches that begin in the past.";
    page.section("watch_cache_capacity", Kind::Gauge, help)
        .sample(&labels, RING_MAX as f64);
    let newest = cache.seen().newest.get();
    if newest > 0 {
        let labels = [("fallback", "false"), labels[0], labels[1], ("success", "true")];
        let help = "Lists of the newest state that the cache answered.";
        page.section("apiserver_watch_cache_consistent_read_total", Kind::Counter, help)
            .sample(&labels, newest as f64);
    }
    let named = match group {
        "" => resource.to_owned(),
        group => format!("{resource}.{group}"),
    };
    let help = "Stored objects, under the name before apiserver_resource_objects.";
    page.section("apiserver_storage_objects", Kind::Gauge, help)
        .sample(&[("resource", &named)], len as f64);
    let watchers = cache.watchers();
    if watchers > 0 {
        let kind = cache.kind();
        let labels = [
            ("group", group),
            ("version", kind.version.as_str()),
            ("kind", kind.kind.as_str()),
        ];
        page.section("apiserver_registered_watchers", Kind::Gauge, "Watchers now.")
            .sample(&labels, watchers as f64);
    }
}

/// A counter of a cache: its name, what it means, and which it is.
type Row = (&'static str, &'static str, fn(&Seen) -> &Counter);
const SEEN: [Row; 6] = [
    (
        "apiserver_storage_events_received_total",
        "Changes that came from the store.",
        |seen| &seen.received,
    ),
    (
        "apiserver_watch_cache_events_received_total",
        "Changes that came into the cache.",
        |seen| &seen.received,
    ),
    (
        "apiserver_watch_cache_events_dispatched_total",
        "Changes that were handed to watchers.",
        |seen| &seen.dispatched,
    ),
    (
        "apiserver_init_events_total",
        "Objects that watches began with.",
        |seen| &seen.initial,
    ),
    (
        "apiserver_terminated_watchers_total",
        "Watchers that were cut off for being slow.",
        |seen| &seen.terminated,
    ),
    (
        "apiserver_cache_list_returned_objects_total",
        "Objects that lists answered with.",
        |seen| &seen.returned,
    ),
];
/// Those that tell indexes apart, of which there is none.
const INDEXED: [Row; 2] = [
    ("apiserver_cache_list_total", "Lists.", |seen| &seen.lists),
    (
        "apiserver_cache_list_fetched_objects_total",
        "Objects that lists looked at.",
        |seen| &seen.fetched,
    ),
];

#[expect(clippy::cast_precision_loss, reason = "the text knows floats only")]
fn show_seen(cache: &ResourceCache, page: &mut Page) {
    let (group, resource) = cache.group_resource();
    let labels = [("group", group), ("resource", resource), ("index", "")];
    for (rows, labels) in [(&SEEN[..], &labels[..2]), (&INDEXED[..], &labels[..])] {
        for (name, help, of) in rows {
            let count = of(cache.seen()).get();
            if count > 0 {
                page.section(name, Kind::Counter, help).sample(labels, count as f64);
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn size(cache: &ResourceCache, len: usize) -> f64 {
    let mut count = 0_usize;
    let mut sum = 0_usize;
    for object in cache.objects(None).take(MEASURED) {
        count += 1;
        sum += object.body().len();
    }
    match count {
        0 => 0.0,
        _ => sum as f64 / count as f64 * len as f64,
    }
}
