//! Prometheus text under upstream's names.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

/// Upper bounds of the request duration histogram, in seconds (a subset of upstream's, with the same name).
const BUCKETS: [f64; 14] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 5.0, 15.0, 60.0,
];

/// Counters of the server.
#[derive(Default)]
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<Labels, Counters>>,
    /// Requests being answered, by kind: readOnly, mutating.
    pub(crate) reads: AtomicI64,
    /// See `reads`.
    pub(crate) writes: AtomicI64,
    /// Watches and other long requests being answered.
    pub(crate) long_running: AtomicI64,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Labels {
    verb: &'static str,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
}

#[derive(Default)]
struct Counters {
    codes: BTreeMap<u16, u64>,
    buckets: [u64; BUCKETS.len()],
    seconds: f64,
    count: u64,
}

impl Metrics {
    /// One request has been answered.
    pub(crate) fn record(&self, info: &crate::request::RequestInfo, served: bool, code: u16, took: Duration) {
        // Paths and resources that are not served must not become labels without bound.
        let named = info.is_resource && served;
        let text = |s: &str| if named { s.to_owned() } else { String::new() };
        let labels = Labels {
            verb: upper(info.verb),
            group: text(&info.group),
            version: text(&info.version),
            resource: text(&info.resource),
            subresource: text(&info.subresource),
            scope: match (named, info.name.is_empty(), info.namespace.is_empty()) {
                (false, ..) => "",
                (_, false, _) => "resource",
                (_, true, false) => "namespace",
                (_, true, true) => "cluster",
            },
        };
        let seconds = took.as_secs_f64();
        let mut requests = self.requests.lock().expect("no panic under this lock");
        let counters = requests.entry(labels).or_default();
        *counters.codes.entry(code).or_default() += 1;
        if !info.is_long_running() {
            if let Some(bucket) = BUCKETS.iter().position(|b| seconds <= *b) {
                counters.buckets[bucket] += 1;
            }
            counters.seconds += seconds;
            counters.count += 1;
        }
    }

    /// The exposition text; `objects` are the stored objects by resource.
    pub(crate) fn render(&self, objects: &[(String, usize, usize)]) -> String {
        let mut out = String::with_capacity(16 << 10);
        let requests = self.requests.lock().expect("no panic under this lock");
        out.push_str("# TYPE apiserver_request_total counter\n");
        for (labels, counters) in requests.iter() {
            for (code, n) in &counters.codes {
                let _ = writeln!(out, "apiserver_request_total{{{labels},code=\"{code}\"}} {n}");
            }
        }
        out.push_str("# TYPE apiserver_request_duration_seconds histogram\n");
        for (labels, counters) in requests.iter().filter(|(_, c)| c.count > 0) {
            let mut total = 0;
            for (bound, n) in BUCKETS.iter().zip(counters.buckets) {
                total += n;
                let _ = writeln!(
                    out,
                    "apiserver_request_duration_seconds_bucket{{{labels},le=\"{bound}\"}} {total}"
                );
            }
            let _ = writeln!(
                out,
                "apiserver_request_duration_seconds_bucket{{{labels},le=\"+Inf\"}} {}",
                counters.count
            );
            let _ = writeln!(
                out,
                "apiserver_request_duration_seconds_sum{{{labels}}} {}",
                counters.seconds
            );
            let _ = writeln!(
                out,
                "apiserver_request_duration_seconds_count{{{labels}}} {}",
                counters.count
            );
        }
        drop(requests);
        out.push_str("# TYPE apiserver_current_inflight_requests gauge\n");
        for (kind, n) in [("readOnly", &self.reads), ("mutating", &self.writes)] {
            let n = n.load(Ordering::Relaxed);
            let _ = writeln!(
                out,
                "apiserver_current_inflight_requests{{request_kind=\"{kind}\"}} {n}"
            );
        }
        let long = self.long_running.load(Ordering::Relaxed);
        let _ = writeln!(
            out,
            "# TYPE apiserver_longrunning_requests gauge\napiserver_longrunning_requests {long}"
        );
        out.push_str("# TYPE apiserver_storage_objects gauge\n");
        for (resource, count, _) in objects {
            let _ = writeln!(out, "apiserver_storage_objects{{resource=\"{resource}\"}} {count}");
        }
        out.push_str("# TYPE apiserver_registered_watchers gauge\n");
        for (resource, _, watchers) in objects.iter().filter(|o| o.2 > 0) {
            let _ = writeln!(
                out,
                "apiserver_registered_watchers{{resource=\"{resource}\"}} {watchers}"
            );
        }
        out
    }
}

impl std::fmt::Display for Labels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "verb=\"{}\",group=\"{}\",version=\"{}\",resource=\"{}\",subresource=\"{}\",scope=\"{}\"",
            self.verb, self.group, self.version, self.resource, self.subresource, self.scope
        )
    }
}

fn upper(verb: &str) -> &'static str {
    match verb {
        "get" | "head" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" | "post" => "POST",
        "update" | "put" => "PUT",
        "patch" => "PATCH",
        "delete" => "DELETE",
        "deletecollection" => "DELETECOLLECTION",
        _ => "OTHER",
    }
}
