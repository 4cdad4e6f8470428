//! The series of one name.

use crate::{Buckets, Counter, Gauge, Histogram, Kind, Page, Section, table::Table};
use std::sync::Arc;

/// What a family is made of.
pub trait Instrument: Send + Sync {
    /// What it takes to make one.
    type Settings: Copy + Send + Sync;
    /// One that has seen nothing.
    fn new(settings: Self::Settings) -> Self;
}

/// An instrument that is shown under its family's name.
pub trait Metric: Instrument {
    /// How the text names the type.
    const KIND: Kind;
    /// Shows what it has seen.
    fn show(&self, section: &mut Section<'_>, labels: &[(&str, &str)]);
}

impl Instrument for Counter {
    type Settings = ();
    fn new((): ()) -> Self {
        Self::default()
    }
}

impl Instrument for Gauge {
    type Settings = ();
    fn new((): ()) -> Self {
        Self::default()
    }
}

impl Instrument for Histogram {
    type Settings = Buckets;
    fn new(buckets: Buckets) -> Self {
        Self::new(buckets)
    }
}

#[expect(clippy::cast_precision_loss, reason = "the text knows floats only")]
impl Metric for Counter {
    const KIND: Kind = Kind::Counter;
    fn show(&self, section: &mut Section<'_>, labels: &[(&str, &str)]) {
        section.sample(labels, self.get() as f64);
    }
}

#[expect(clippy::cast_precision_loss, reason = "the text knows floats only")]
impl Metric for Gauge {
    const KIND: Kind = Kind::Gauge;
    fn show(&self, section: &mut Section<'_>, labels: &[(&str, &str)]) {
        section.sample(labels, self.get() as f64);
    }
}

impl Metric for Histogram {
    const KIND: Kind = Kind::Histogram;
    fn show(&self, section: &mut Section<'_>, labels: &[(&str, &str)]) {
        section.histogram(labels, self);
    }
}

/// Series of one name, told apart by the values of `N` labels. They are bounded: what finds no room any more counts in
/// one series with `overflow` for every label.
pub struct Family<const N: usize, M: Instrument> {
    name: &'static str,
    help: &'static str,
    labels: [&'static str; N],
    settings: M::Settings,
    table: Table<N, M>,
    overflow: Arc<M>,
    overflown: Counter,
}

impl<const N: usize> Family<N, Counter> {
    /// Of counters.
    pub fn counters(name: &'static str, help: &'static str, labels: [&'static str; N]) -> Self {
        Self::new(name, help, labels, ())
    }
}

impl<const N: usize> Family<N, Gauge> {
    /// Of gauges.
    pub fn gauges(name: &'static str, help: &'static str, labels: [&'static str; N]) -> Self {
        Self::new(name, help, labels, ())
    }
}

impl<const N: usize> Family<N, Histogram> {
    /// Of histograms.
    pub fn histograms(name: &'static str, help: &'static str, labels: [&'static str; N], buckets: Buckets) -> Self {
        Self::new(name, help, labels, buckets)
    }
}

impl<const N: usize, M: Instrument> Family<N, M> {
    /// Without series.
    pub fn new(name: &'static str, help: &'static str, labels: [&'static str; N], settings: M::Settings) -> Self {
        Self {
            name,
            help,
            labels,
            settings,
            table: Table::new(),
            overflow: Arc::new(M::new(settings)),
            overflown: Counter::default(),
        }
    }

    /// The series with these values, in the order of the labels.
    pub fn with(&self, values: [&str; N]) -> &M {
        self.found(values)
    }

    /// The same, to be kept by who uses it often.
    pub fn kept(&self, values: [&str; N]) -> Arc<M> {
        self.found(values).clone()
    }

    fn found(&self, values: [&str; N]) -> &Arc<M> {
        match self.table.get(values, || M::new(self.settings)) {
            Some(entry) => &entry.value,
            None => {
                self.overflown.inc();
                &self.overflow
            }
        }
    }

    /// Every series, for those who show them in a way of their own.
    pub fn each(&self, mut visit: impl FnMut(&[(&str, &str)], &M)) {
        let mut entries: Vec<_> = self.table.iter().collect();
        entries.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        for entry in entries {
            let mut at = 0;
            let pairs = self.labels.map(|name| {
                let value = &*entry.labels[at];
                at += 1;
                (name, value)
            });
            visit(&pairs, &entry.value);
        }
        if self.overflown.get() > 0 {
            visit(&self.labels.map(|name| (name, "overflow")), &self.overflow);
        }
    }
}

impl<const N: usize, M: Metric> Family<N, M> {
    /// Adds the family to a page, in the order of the labels' values.
    pub fn show(&self, page: &mut Page) {
        let mut section = page.section(self.name, M::KIND, self.help);
        self.each(|labels, metric| {
            metric.show(&mut section, labels);
        });
    }
}
