//! The outcomes of health checks.

use strata_metrics::{Counter, Family, Gauge, Page};

/// Counts what checks said.
pub(crate) struct Health {
    last: Family<2, Gauge>,
    total: Family<3, Counter>,
}

impl Health {
    pub(super) fn new() -> Self {
        Self {
            last: Family::gauges(
                "kubernetes_healthcheck",
                "Whether a health check passed at its last run.",
                ["name", "type"],
            ),
            total: Family::counters(
                "kubernetes_healthchecks_total",
                "Runs of health checks.",
                ["name", "status", "type"],
            ),
        }
    }

    /// A check of an endpoint was made.
    pub(crate) fn observe(&self, name: &str, endpoint: &str, ok: bool) {
        self.last.with([name, endpoint]).set(i64::from(ok));
        let status = if ok { "success" } else { "error" };
        self.total.with([name, status, endpoint]).inc();
    }

    pub(super) fn show(&self, page: &mut Page) {
        self.last.show(page);
        self.total.show(page);
    }
}
