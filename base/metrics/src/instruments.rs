//! What is counted with: a number that grows, one that goes up and down, and a distribution.

use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::Duration,
};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Up or down by so many.
    pub fn add(&self, change: i64) {
        self.0.fetch_add(change, Ordering::Relaxed);
    }

    /// To a value.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of a histogram, and how finely its sum is kept.
#[derive(Clone, Copy, Debug)]
pub struct Buckets {
    bounds: &'static [f64],
    /// Parts of a unit that the sum is kept in.
    parts: f64,
}

impl Buckets {
    /// Of durations: the sum is kept in nanoseconds, and lasts 584 years.
    pub const fn seconds(bounds: &'static [f64]) -> Self {
        Self { bounds, parts: 1e9 }
    }

    /// Of whole numbers, such as bytes.
    pub const fn units(bounds: &'static [f64]) -> Self {
        Self { bounds, parts: 1.0 }
    }
}

/// How often values fell between bounds, and their sum: two atomic additions for each.
#[derive(Debug)]
pub struct Histogram {
    buckets: Buckets,
    /// One for each bound, and one for what is beyond them all.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    /// An empty one.
    pub fn new(buckets: Buckets) -> Self {
        Self {
            buckets,
            counts: (0..=buckets.bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    /// Takes note of a value; what is below zero counts as zero.
    pub fn observe(&self, value: f64) {
        let value = value.max(0.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative, and `as` saturates"
        )]
        let parts = (value * self.buckets.parts) as u64;
        self.note(value, parts);
    }

    /// Takes note of how long something took.
    pub fn took(&self, time: Duration) {
        self.observe(time.as_secs_f64());
    }

    fn note(&self, value: f64, parts: u64) {
        let bounds = self.buckets.bounds;
        let at = bounds.iter().position(|bound| value <= *bound).unwrap_or(bounds.len());
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(parts, Ordering::Relaxed);
    }

    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|c| c.load(Ordering::Relaxed)).sum()
    }

    /// The sum of the values.
    #[expect(clippy::cast_precision_loss, reason = "what is shown is a float anyway")]
    pub fn sum(&self) -> f64 {
        self.sum.load(Ordering::Relaxed) as f64 / self.buckets.parts
    }

    /// Each bound, with how many values were at most that; the last is infinite.
    pub fn cumulated(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let bounds = self.buckets.bounds.iter().copied().chain([f64::INFINITY]);
        bounds.zip(&self.counts).scan(0, |total, (bound, count)| {
            *total += count.load(Ordering::Relaxed);
            Some((bound, *total))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_counts_in_every_bucket_that_reaches_it() {
        let histogram = Histogram::new(Buckets::seconds(&[0.1, 1.0]));
        for value in [0.05, 0.1, 0.5, 3.0, -1.0] {
            histogram.observe(value);
        }
        let seen: Vec<(f64, u64)> = histogram.cumulated().collect();
        assert_eq!(seen, [(0.1, 3), (1.0, 4), (f64::INFINITY, 5)]);
        assert!((histogram.sum() - 3.65).abs() < 1e-6);
        assert_eq!(histogram.count(), 5);
    }
}
