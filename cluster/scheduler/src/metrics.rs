//! What the scheduler measures, under upstream's names.

use crate::{engine::Engine, queue::Lengths};
use std::time::Duration;
use strata_metrics::{Buckets, Counter, Family, Gauge, Histogram, Kind, Page};

const ATTEMPT: Buckets = Buckets::seconds(&[
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384,
]);
const SLI: Buckets = Buckets::seconds(&[
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68, 655.36,
    1310.72, 2621.44, 5242.88,
]);
const VICTIMS: Buckets = Buckets::units(&[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]);
const ATTEMPTS: Buckets = Buckets::units(&[1.0, 2.0, 4.0, 8.0, 16.0]);
/// More attempts than these are told as one label.
const MANY_ATTEMPTS: u32 = 15;

/// Counters of one scheduler.
pub(crate) struct Metrics {
    attempts: Family<2, Counter>,
    attempt_seconds: Family<2, Histogram>,
    algorithm_seconds: Histogram,
    sli_seconds: Family<1, Histogram>,
    pod_attempts: Histogram,
    preemption_attempts: Counter,
    preemption_victims: Histogram,
    pending: Family<1, Gauge>,
    cached: Family<1, Gauge>,
    unschedulable: Family<2, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            attempts: Family::counters(
                "scheduler_schedule_attempts_total",
                "Attempts to place pods by their result: scheduled, unschedulable, or error for what could not be judged or written.",
                ["profile", "result"],
            ),
            attempt_seconds: Family::histograms(
                "scheduler_scheduling_attempt_duration_seconds",
                "How long attempts took, with the binding.",
                ["profile", "result"],
                ATTEMPT,
            ),
            algorithm_seconds: Histogram::new(ATTEMPT),
            sli_seconds: Family::histograms(
                "scheduler_pod_scheduling_sli_duration_seconds",
                "How long pods that were placed had waited since they came, by the number of attempts.",
                ["attempts"],
                SLI,
            ),
            pod_attempts: Histogram::new(ATTEMPTS),
            preemption_attempts: Counter::default(),
            preemption_victims: Histogram::new(VICTIMS),
            pending: Family::gauges(
                "scheduler_pending_pods",
                "Pods that wait, by the queue they are in.",
                ["queue"],
            ),
            cached: Family::gauges(
                "scheduler_cache_size",
                "What the scheduler knows, by its kind.",
                ["type"],
            ),
            unschedulable: Family::gauges(
                "scheduler_unschedulable_pods",
                "Pods that fit nowhere, by each plugin that says so.",
                ["plugin", "profile"],
            ),
        }
    }
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Scheduled,
    Unschedulable,
    Error,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Unschedulable => "unschedulable",
            Self::Error => "error",
        }
    }
}

/// How often a pod was tried, and for how long it has waited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tried {
    pub attempts: u32,
    pub waited: Duration,
}

impl Tried {
    /// The same, later: the binding is waited for too.
    pub fn after(self, took: Duration) -> Self {
        Self {
            waited: self.waited + took,
            ..self
        }
    }
}

impl Metrics {
    pub fn attempted(&self, profile: &str, outcome: Outcome, took: Duration) {
        let labels = [profile, outcome.name()];
        self.attempts.with(labels).inc();
        self.attempt_seconds.with(labels).took(took);
    }

    pub fn decided(&self, took: Duration) {
        self.algorithm_seconds.took(took);
    }

    /// A pod was placed.
    pub fn placed(&self, tried: Tried) {
        let label = if tried.attempts >= MANY_ATTEMPTS {
            format!("{MANY_ATTEMPTS}+")
        } else {
            tried.attempts.to_string()
        };
        self.sli_seconds.with([&*label]).took(tried.waited);
        self.pod_attempts.observe(f64::from(tried.attempts));
    }

    /// Preemption was tried, and found so many victims.
    pub fn preempted(&self, victims: usize) {
        self.preemption_attempts.inc();
        if victims > 0 {
            self.preemption_victims.observe(victims as f64);
        }
    }

    /// Reads the gauges off.
    pub fn look_at(&self, engine: &Engine, lengths: &Lengths) {
        let set = |gauge: &Gauge, count: usize| gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        set(self.pending.with(["active"]), lengths.active);
        set(self.pending.with(["backoff"]), lengths.backoff);
        set(self.pending.with(["unschedulable"]), lengths.unschedulable);
        set(self.pending.with(["gated"]), lengths.gated);
        let (nodes, pods, assumed) = engine.sizes();
        set(self.cached.with(["nodes"]), nodes);
        set(self.cached.with(["pods"]), pods);
        set(self.cached.with(["assumed_pods"]), assumed);
        self.unschedulable.each(|_, gauge| gauge.set(0));
        for (profile, plugin, count) in engine.rejected() {
            set(self.unschedulable.with([plugin, &*profile]), count);
        }
    }

    /// Puts everything on a page.
    pub fn show(&self, page: &mut Page) {
        self.attempts.show(page);
        self.attempt_seconds.show(page);
        self.sli_seconds.show(page);
        self.pending.show(page);
        self.cached.show(page);
        self.unschedulable.show(page);
        let mut histogram = |name: &str, help: &str, of: &Histogram| {
            page.section(name, Kind::Histogram, help).histogram(&[], of);
        };
        histogram(
            "scheduler_scheduling_algorithm_duration_seconds",
            "How long decisions took.",
            &self.algorithm_seconds,
        );
        histogram(
            "scheduler_pod_scheduling_attempts",
            "Attempts that pods needed that were placed.",
            &self.pod_attempts,
        );
        histogram(
            "scheduler_preemption_victims",
            "Pods chosen to make room for another.",
            &self.preemption_victims,
        );
        let name = "scheduler_preemption_attempts_total";
        let mut section = page.section(name, Kind::Counter, "How often room was sought by removing pods.");
        section.sample(&[], self.preemption_attempts.get() as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_upstreams_names() {
        let metrics = Metrics::default();
        metrics.attempted("default-scheduler", Outcome::Scheduled, Duration::from_millis(3));
        metrics.placed(Tried {
            attempts: 20,
            waited: Duration::from_secs(2),
        });
        metrics.preempted(2);
        let mut page = Page::default();
        metrics.show(&mut page);
        let text = page.finish();
        for line in [
            "scheduler_schedule_attempts_total{profile=\"default-scheduler\",result=\"scheduled\"} 1",
            "scheduler_pod_scheduling_sli_duration_seconds_count{attempts=\"15+\"} 1",
            "scheduler_preemption_attempts_total 1",
            "scheduler_preemption_victims_sum 2",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
