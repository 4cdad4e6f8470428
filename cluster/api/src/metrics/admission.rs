//! Admission: how long steps, plugins, webhooks and policies take, and what comes of asking them.

use crate::admission::{Operation, Step, plugins};
use std::time::Duration;
use strata_metrics::{Buckets, Counter, Family, Histogram, Kind, Page};

const STEPS: Buckets = Buckets::seconds(&[0.005, 0.025, 0.1, 0.5, 1.0, 2.5]);
const WEBHOOKS: Buckets = Buckets::seconds(&[0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0]);
const CONDITIONS: Buckets = Buckets::seconds(&[0.001, 0.005, 0.01, 0.025, 0.1, 0.2, 0.25]);
const CHECKS: Buckets = Buckets::seconds(&[0.000_000_5, 0.001, 0.01, 0.1, 1.0]);
const CONVERSIONS: Buckets = Buckets::seconds(&[
    0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0,
]);
/// Codes beyond this are shown as this.
const LAST_CODE: i64 = 600;
const OPERATIONS: [&str; 4] = ["CREATE", "UPDATE", "DELETE", "CONNECT"];

/// How long something took, by operation and whether it refused.
struct Timed([[Histogram; 2]; 4]);

impl Timed {
    fn new() -> Self {
        Self(std::array::from_fn(|_| [Histogram::new(STEPS), Histogram::new(STEPS)]))
    }

    fn of(&self, operation: Operation, rejected: bool) -> &Histogram {
        &self.0[operation as usize][usize::from(rejected)]
    }

    fn each(&self, mut visit: impl FnMut(&str, &str, &Histogram)) {
        for (operation, pair) in OPERATIONS.iter().zip(&self.0) {
            for (rejected, histogram) in ["false", "true"].iter().zip(pair) {
                if histogram.count() > 0 {
                    visit(operation, rejected, histogram);
                }
            }
        }
    }
}

/// Counters of admission.
pub(crate) struct Admission {
    /// Admit, then validate.
    steps: [Timed; 2],
    /// As [`plugins`].
    plugins: Vec<Timed>,
    webhooks: Family<4, Histogram>,
    webhook_requests: Family<5, Counter>,
    rejections: Family<5, Counter>,
    failed_open: Family<2, Counter>,
    condition_errors: Family<4, Counter>,
    condition_exclusions: Family<4, Counter>,
    condition_times: Family<4, Histogram>,
    validating: (Family<4, Counter>, Family<4, Histogram>),
    mutating: (Family<3, Counter>, Family<3, Histogram>),
    conversions: (Family<2, Counter>, Family<2, Histogram>),
    pod_security: Family<7, Counter>,
}

/// How asking a webhook ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// It said yes.
    Allowed,
    /// It said no, with a code.
    Denied(i64),
    /// It gave no answer, and whether that refuses the request.
    Failed {
        /// Whether the request is refused for it.
        rejected: bool,
        /// The code of its answer, 0 without.
        code: i64,
    },
    /// What it answered could not be done.
    Internal,
}

/// What a webhook or policy is named and does, for its match conditions.
#[derive(Clone, Copy)]
pub(crate) struct Conditioned<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    /// `webhook` or `policy`.
    pub(crate) kind: &'static str,
    /// `admit` or `validate`.
    pub(crate) step: &'static str,
    /// What is being done.
    pub(crate) operation: Operation,
}

impl Admission {
    pub(super) fn new() -> Self {
        let [name, step, operation, rejected] = ["name", "type", "operation", "rejected"];
        Self {
            steps: [Timed::new(), Timed::new()],
            plugins: plugins().map(|_| Timed::new()).collect(),
            webhooks: Family::histograms(
                "apiserver_admission_webhook_admission_duration_seconds",
                "How long webhooks took.",
                [name, step, operation, rejected],
                WEBHOOKS,
            ),
            webhook_requests: Family::counters(
                "apiserver_admission_webhook_request_total",
                "How webhooks answered.",
                [name, step, operation, "code", rejected],
            ),
            rejections: Family::counters(
                "apiserver_admission_webhook_rejection_count",
                "Requests refused because of a webhook.",
                [name, step, operation, "error_type", "rejection_code"],
            ),
            failed_open: Family::counters(
                "apiserver_admission_webhook_fail_open_count",
                "Webhooks that failed without the request being refused.",
                [name, step],
            ),
            condition_errors: Family::counters(
                "apiserver_admission_match_condition_evaluation_errors_total",
                "Match conditions that failed.",
                [name, "kind", step, operation],
            ),
            condition_exclusions: Family::counters(
                "apiserver_admission_match_condition_exclusions_total",
                "Requests that match conditions left out.",
                [name, "kind", step, operation],
            ),
            condition_times: Family::histograms(
                "apiserver_admission_match_condition_evaluation_seconds",
                "How long match conditions took.",
                [name, "kind", step, operation],
                CONDITIONS,
            ),
            validating: validating_policies(),
            mutating: mutating_policies(),
            conversions: conversions(),
            pod_security: pod_security(),
        }
    }

    /// One plugin was asked; `at` is its place among [`plugins`].
    pub(crate) fn plugin(&self, at: usize, operation: Operation, rejected: bool, took: Duration) {
        if let Some(timed) = self.plugins.get(at) {
            timed.of(operation, rejected).took(took);
        }
    }

    /// All plugins of a step were asked.
    pub(crate) fn step(&self, step: Step, operation: Operation, rejected: bool, took: Duration) {
        self.steps[step as usize].of(operation, rejected).took(took);
    }

    /// A webhook was asked; `step` is `admit` or `validating`.
    pub(crate) fn webhook(&self, name: &str, step: &str, operation: Operation, asked: Asked, took: Duration) {
        let operation = operation.as_str();
        let (rejected, code, error) = match asked {
            Asked::Allowed => (false, 200, ""),
            Asked::Denied(code) => (true, code, "no_error"),
            Asked::Failed { rejected, code } => (rejected, code, "calling_webhook_error"),
            Asked::Internal => (true, 0, "apiserver_internal_error"),
        };
        let code = code.min(LAST_CODE).to_string();
        if rejected {
            self.rejections.with([name, step, operation, error, &code]).inc();
        }
        let rejected = if rejected { "true" } else { "false" };
        self.webhook_requests
            .with([name, step, operation, &code, rejected])
            .inc();
        self.webhooks.with([name, step, operation, rejected]).took(took);
        if matches!(asked, Asked::Failed { rejected: false, .. }) {
            self.failed_open.with([name, step]).inc();
        }
    }

    /// Match conditions were evaluated: whether they hold, or failed.
    pub(crate) fn conditions(&self, of: Conditioned<'_>, outcome: Result<bool, ()>, took: Duration) {
        let labels = [of.name, of.kind, of.step, of.operation.as_str()];
        self.condition_times.with(labels).took(took);
        match outcome {
            Ok(true) => {}
            Ok(false) => self.condition_exclusions.with(labels).inc(),
            Err(()) => self.condition_errors.with(labels).inc(),
        }
    }

    /// A validating policy was evaluated for a binding.
    pub(crate) fn validated(&self, (policy, binding): (&str, &str), error: &str, action: &str, took: Duration) {
        let labels = [policy, binding, error, action];
        self.validating.0.with(labels).inc();
        self.validating.1.with(labels).took(took);
    }

    /// A mutation of a policy was evaluated for a binding.
    pub(crate) fn mutated(&self, (policy, binding): (&str, &str), error: &str, took: Duration) {
        let labels = [policy, binding, error];
        self.mutating.0.with(labels).inc();
        self.mutating.1.with(labels).took(took);
    }

    /// A conversion webhook was asked; `failure` is empty when it converted.
    pub(crate) fn converted(&self, failure: &str, took: Duration) {
        let labels = [if failure.is_empty() { "success" } else { "failure" }, failure];
        self.conversions.0.with(labels).inc();
        self.conversions.1.with(labels).took(took);
    }

    /// A pod or a template was held against a security level.
    pub(crate) fn pod_security(&self, labels: [&str; 7]) {
        self.pod_security.with(labels).inc();
    }

    pub(super) fn show(&self, page: &mut Page) {
        self.pod_security.show(page);
        for (step, timed) in ["admit", "validate"].iter().zip(&self.steps) {
            timed.each(|operation, rejected, histogram| {
                let labels = [("type", *step), ("operation", operation), ("rejected", rejected)];
                let help = "How long all plugins of a step took.";
                let name = "apiserver_admission_step_admission_duration_seconds";
                page.section(name, Kind::Histogram, help).histogram(&labels, histogram);
                let name = "apiserver_admission_step_admission_duration_seconds_summary";
                page.section(name, Kind::Summary, help)
                    .summary(&labels, histogram.sum(), histogram.count());
            });
        }
        for ((plugin, step), timed) in plugins().zip(&self.plugins).filter(|((name, _), _)| !name.is_empty()) {
            timed.each(|operation, rejected, histogram| {
                let labels = [
                    ("name", plugin),
                    ("type", step.as_str()),
                    ("operation", operation),
                    ("rejected", rejected),
                ];
                let name = "apiserver_admission_controller_admission_duration_seconds";
                page.section(name, Kind::Histogram, "How long plugins took.")
                    .histogram(&labels, histogram);
            });
        }
        self.webhooks.show(page);
        self.webhook_requests.show(page);
        self.rejections.show(page);
        self.failed_open.show(page);
        self.condition_errors.show(page);
        self.condition_exclusions.show(page);
        self.condition_times.show(page);
        self.validating.0.show(page);
        self.validating.1.show(page);
        self.mutating.0.show(page);
        self.mutating.1.show(page);
        self.conversions.0.show(page);
        self.conversions.1.show(page);
    }
}

const CHECK: &str = "How often policies were asked.";
const TIME: &str = "How long policies took.";

fn validating_policies() -> (Family<4, Counter>, Family<4, Histogram>) {
    let labels = ["policy", "policy_binding", "error_type", "enforcement_action"];
    (
        Family::counters("apiserver_validating_admission_policy_check_total", CHECK, labels),
        Family::histograms(
            "apiserver_validating_admission_policy_check_duration_seconds",
            TIME,
            labels,
            CHECKS,
        ),
    )
}

fn mutating_policies() -> (Family<3, Counter>, Family<3, Histogram>) {
    let labels = ["policy", "policy_binding", "error_type"];
    (
        Family::counters("apiserver_mutating_admission_policy_check_total", CHECK, labels),
        Family::histograms(
            "apiserver_mutating_admission_policy_check_duration_seconds",
            TIME,
            labels,
            CHECKS,
        ),
    )
}

fn conversions() -> (Family<2, Counter>, Family<2, Histogram>) {
    let labels = ["result", "failure_type"];
    (
        Family::counters(
            "apiserver_conversion_webhook_request_total",
            "How conversion webhooks answered.",
            labels,
        ),
        Family::histograms(
            "apiserver_conversion_webhook_duration_seconds",
            "How long conversion webhooks took.",
            labels,
            CONVERSIONS,
        ),
    )
}

fn pod_security() -> Family<7, Counter> {
    Family::counters(
        "pod_security_evaluations_total",
        "Pods and templates that were held against a security level.",
        [
            "decision",
            "policy_level",
            "policy_version",
            "mode",
            "request_operation",
            "resource",
            "subresource",
        ],
    )
}
