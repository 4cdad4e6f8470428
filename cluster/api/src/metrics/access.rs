//! Who was believed, and what was allowed.

use std::time::{Duration, Instant};
use strata_metrics::{Buckets, Counter, Histogram, Kind, Page};

/// Upstream's bounds of both: from a millisecond, each the double of the one before.
const BOUNDS: Buckets = Buckets::seconds(&[
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384,
]);
const LIFETIMES: Buckets = Buckets::units(&[
    0.0,
    1800.0,
    3600.0,
    7200.0,
    21_600.0,
    43_200.0,
    86_400.0,
    172_800.0,
    345_600.0,
    604_800.0,
    2_592_000.0,
    7_776_000.0,
    15_552_000.0,
    31_104_000.0,
]);

/// Upstream's bounds of what a step takes before the next one is come to.
const STEPS: Buckets = Buckets::seconds(&[
    0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 5.0, 10.0, 15.0, 30.0,
]);

/// A step that a request passes before it is served.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Filter {
    /// Who asks.
    Authentication,
    /// As whom.
    Impersonation,
    /// When it is the request's turn.
    Turn,
    /// Whether it may be made.
    Authorization,
}

impl Filter {
    /// Upstream's names, in the order of the steps.
    const NAMES: [&str; 4] = [
        "authentication",
        "impersonation",
        "priorityandfairness",
        "authorization",
    ];
}

/// Counters of authentication and authorization.
pub(crate) struct Access {
    believed: Outcomes<2>,
    allowed: Outcomes<2>,
    /// By kind of name; names themselves are nobody's labels.
    users: [(&'static str, Counter); 7],
    /// What was left of the certificates that callers showed.
    certificates: Histogram,
    handshakes: Counter,
    /// What each step took.
    filters: [Histogram; Filter::NAMES.len()],
}

/// How often something came out how, and how long that took.
struct Outcomes<const N: usize> {
    names: [&'static str; N],
    times: [Histogram; N],
}

impl<const N: usize> Outcomes<N> {
    fn new(names: [&'static str; N]) -> Self {
        Self {
            names,
            times: names.map(|_| Histogram::new(BOUNDS)),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "the text knows floats only")]
    fn show(&self, page: &mut Page, (attempts, durations): (&str, &str), help: &str) {
        for (name, times) in self.names.iter().zip(&self.times).filter(|(_, t)| t.count() > 0) {
            let labels = [("result", *name)];
            let section = &mut page.section(attempts, Kind::Counter, help);
            section.sample(&labels, times.count() as f64);
            let section = &mut page.section(durations, Kind::Histogram, help);
            section.histogram(&labels, times);
        }
    }
}

impl Access {
    pub(super) fn new() -> Self {
        Self {
            believed: Outcomes::new(["success", "error"]),
            allowed: Outcomes::new(["allowed", "no-opinion"]),
            users: [
                "admin",
                "client",
                "kube_proxy",
                "kubelet",
                "system:serviceaccount:kube-system:default",
                "email_id",
                "other",
            ]
            .map(|name| (name, Counter::default())),
            certificates: Histogram::new(LIFETIMES),
            handshakes: Counter::default(),
            filters: Filter::NAMES.map(|_| Histogram::new(STEPS)),
        }
    }

    /// Somebody was believed, or not.
    pub(crate) fn authenticated(&self, name: Option<&str>, started: Instant) {
        let (at, took) = (usize::from(name.is_none()), started.elapsed());
        self.believed.times[at].took(took);
        self.passed(Filter::Authentication, took);
        let Some(name) = name else { return };
        let [known @ .., email, other] = &self.users;
        let counted = match known.iter().find(|(own, _)| *own == name) {
            Some(known) => known,
            None if name.contains('@') => email,
            None => other,
        };
        counted.1.inc();
    }

    /// A caller showed a certificate with so much left of its life, in seconds.
    #[expect(clippy::cast_precision_loss, reason = "a lifetime falls into a bucket")]
    pub(crate) fn certificate(&self, left: i64) {
        self.certificates.observe(left as f64);
    }

    /// A connection ended before TLS was agreed on.
    pub(crate) fn handshake_failed(&self) {
        self.handshakes.inc();
    }

    /// A request has come past a step.
    pub(crate) fn passed(&self, filter: Filter, took: Duration) {
        self.filters[filter as usize].took(took);
    }

    /// A request was allowed, or nobody allowed it.
    pub(crate) fn authorized(&self, allowed: bool, took: Duration) {
        self.passed(Filter::Authorization, took);
        self.allowed.times[usize::from(!allowed)].took(took);
    }

    #[expect(clippy::cast_precision_loss, reason = "the text knows floats only")]
    pub(super) fn show(&self, page: &mut Page) {
        let names = ("authentication_attempts", "authentication_duration_seconds");
        self.believed.show(page, names, "Whether callers were believed.");
        let names = ("authorization_attempts_total", "authorization_duration_seconds");
        self.allowed.show(page, names, "Whether requests were allowed.");
        let (name, help) = (
            "apiserver_request_filter_duration_seconds",
            "What each step takes that a request passes before it is served.",
        );
        for (filter, times) in Filter::NAMES.iter().zip(&self.filters).filter(|(_, t)| t.count() > 0) {
            page.section(name, Kind::Histogram, help)
                .histogram(&[("filter", filter)], times);
        }
        let help = "Requests by the kind of their caller's name.";
        let mut section = page.section("authenticated_user_requests", Kind::Counter, help);
        for (name, count) in self.users.iter().filter(|(_, count)| count.get() > 0) {
            section.sample(&[("username", name)], count.get() as f64);
        }
        let (name, help) = (
            "apiserver_tls_handshake_errors_total",
            "Connections that ended before TLS was agreed on.",
        );
        page.section(name, Kind::Counter, help)
            .sample(&[], self.handshakes.get() as f64);
        if self.certificates.count() > 0 {
            let (name, help) = (
                "apiserver_client_certificate_expiration_seconds",
                "What was left of the certificates that callers showed.",
            );
            page.section(name, Kind::Histogram, help)
                .histogram(&[], &self.certificates);
        }
    }
}
