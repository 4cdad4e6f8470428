//! How long the rules of custom resources take. Counted by the process and not by a server: who compiles a schema or
//! looks at an object knows of none.

use std::{sync::LazyLock, time::Instant};
use strata_metrics::{Buckets, Histogram, Kind, Page};

/// The bounds that Prometheus' libraries take unless told otherwise.
pub(crate) const DEFAULT: Buckets = Buckets::seconds(&[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]);

static COMPILED: LazyLock<Histogram> = LazyLock::new(|| Histogram::new(DEFAULT));
static EVALUATED: LazyLock<Histogram> = LazyLock::new(|| Histogram::new(DEFAULT));

/// The rules of one place of a schema have been compiled.
pub(crate) fn compiled(started: Instant) {
    COMPILED.took(started.elapsed());
}

/// The rules of one place of an object have been run.
pub(crate) fn evaluated(started: Instant) {
    EVALUATED.took(started.elapsed());
}

pub(super) fn show(page: &mut Page) {
    for (name, help, times) in [
        ("compilation", "Seconds to compile an expression.", &COMPILED),
        ("evaluation", "Seconds to evaluate an expression.", &EVALUATED),
    ] {
        let name = format!("apiserver_cel_{name}_duration_seconds");
        page.section(&name, Kind::Histogram, help).histogram(&[], times);
    }
}
