//! What clients and work queues count, under client-go's names.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};
use strata_metrics::{Buckets, Counter, Family, Histogram, Kind, Page};

/// Upstream's bounds of the times of work queues: from ten nanoseconds, each ten times the one before as floats are
/// multiplied, because dashboards compare them as texts.
const QUEUE: Buckets = Buckets::seconds(&[
    1e-8,
    1e-7,
    1e-6,
    9.999999999999999e-6,
    9.999999999999999e-5,
    1e-3,
    0.01,
    0.1,
    1.0,
    10.0,
]);
const REQUEST: Buckets = Buckets::seconds(&[0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0]);
const SIZE: Buckets = Buckets::units(&[
    64.0,
    256.0,
    512.0,
    1024.0,
    4096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
]);

/// Counters that clients and work queues share.
pub struct ClientMetrics {
    adds: Family<1, Counter>,
    retries: Family<1, Counter>,
    queued: Family<1, Histogram>,
    worked: Family<1, Histogram>,
    queues: Mutex<Vec<(String, Weak<dyn Watched>)>>,
    requests: Family<3, Counter>,
    latency: Family<2, Histogram>,
    sent: Family<2, Histogram>,
    received: Family<2, Histogram>,
}

/// What a queue shows of itself when it is asked.
pub(crate) trait Watched: Send + Sync {
    /// Keys that wait.
    fn depth(&self) -> usize;
    /// For how long keys have been worked on: all together, and the longest.
    fn running(&self) -> (Duration, Duration);
}

/// What one queue counts in.
pub(crate) struct QueueSeries {
    pub(crate) adds: Arc<Counter>,
    pub(crate) retries: Arc<Counter>,
    pub(crate) queued: Arc<Histogram>,
    pub(crate) worked: Arc<Histogram>,
}

impl Default for ClientMetrics {
    fn default() -> Self {
        let [verb, host] = ["verb", "host"];
        Self {
            adds: Family::counters("workqueue_adds_total", "Keys that were added.", ["name"]),
            retries: Family::counters(
                "workqueue_retries_total",
                "Keys that were added again after a failure.",
                ["name"],
            ),
            queued: Family::histograms(
                "workqueue_queue_duration_seconds",
                "How long keys waited.",
                ["name"],
                QUEUE,
            ),
            worked: Family::histograms(
                "workqueue_work_duration_seconds",
                "How long work on keys took.",
                ["name"],
                QUEUE,
            ),
            queues: Mutex::default(),
            requests: Family::counters(
                "rest_client_requests_total",
                "Requests that were sent.",
                ["code", "method", "host"],
            ),
            latency: Family::histograms(
                "rest_client_request_duration_seconds",
                "How long requests took.",
                [verb, host],
                REQUEST,
            ),
            sent: Family::histograms(
                "rest_client_request_size_bytes",
                "Bytes that were sent.",
                [verb, host],
                SIZE,
            ),
            received: Family::histograms(
                "rest_client_response_size_bytes",
                "Bytes that were received.",
                [verb, host],
                SIZE,
            ),
        }
    }
}

impl ClientMetrics {
    /// What a queue of a name counts in.
    pub(crate) fn queue(&self, name: &str) -> QueueSeries {
        QueueSeries {
            adds: self.adds.kept([name]),
            retries: self.retries.kept([name]),
            queued: self.queued.kept([name]),
            worked: self.worked.kept([name]),
        }
    }

    /// A queue that is to be asked.
    pub(crate) fn watch(&self, name: &str, queue: Weak<dyn Watched>) {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.retain(|(_, queue)| queue.strong_count() > 0);
        queues.push((name.to_owned(), queue));
    }

    /// A request was answered; `code` is `<error>` when it was not.
    #[expect(clippy::cast_precision_loss, reason = "sizes fall into buckets")]
    pub(crate) fn asked(&self, method: &str, host: &str, code: &str, took: Duration, (sent, received): (usize, usize)) {
        self.requests.with([code, method, host]).inc();
        let labels = [method, host];
        self.latency.with(labels).took(took);
        self.sent.with(labels).observe(sent as f64);
        self.received.with(labels).observe(received as f64);
    }

    /// Adds all to a page.
    pub fn show(&self, page: &mut Page) {
        self.adds.show(page);
        self.retries.show(page);
        self.queued.show(page);
        self.worked.show(page);
        self.requests.show(page);
        self.latency.show(page);
        self.sent.show(page);
        self.received.show(page);
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (name, queue) in &queues {
            let Some(queue) = queue.upgrade() else { continue };
            let (all, longest) = queue.running();
            #[expect(clippy::cast_precision_loss, reason = "the text knows floats only")]
            for (family, help, value) in [
                ("workqueue_depth", "Keys that wait now.", queue.depth() as f64),
                (
                    "workqueue_unfinished_work_seconds",
                    "Seconds that the keys being worked on have taken.",
                    all.as_secs_f64(),
                ),
                (
                    "workqueue_longest_running_processor_seconds",
                    "Seconds that the key worked on longest has taken.",
                    longest.as_secs_f64(),
                ),
            ] {
                page.section(family, Kind::Gauge, help).sample(&[("name", name)], value);
            }
        }
    }
}
