//! Figures from repeated measurements.

use std::time::Duration;

/// Measurements of one thing, in milliseconds, sorted.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// From durations in any order.
    pub fn new(durations: impl IntoIterator<Item = Duration>) -> Self {
        Self::from_numbers(durations.into_iter().map(|d| d.as_secs_f64() * 1e3))
    }

    /// From numbers in any order.
    pub fn from_numbers(numbers: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = numbers.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        Self(sorted)
    }

    /// The value below which that share of all lies; 0 without measurements.
    pub fn quantile(&self, share: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        let index = (last as f64 * share).round() as usize;
        self.0.get(index).copied().unwrap_or(0.0)
    }

    /// The middle.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The least: what noise of others has disturbed least.
    pub fn min(&self) -> f64 {
        self.quantile(0.0)
    }

    /// The most.
    pub fn max(&self) -> f64 {
        self.quantile(1.0)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// With three digits that matter.
pub fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_measured_values() {
        let samples = Samples::from_numbers([5.0, 1.0, 3.0, 2.0, 4.0]);
        assert_eq!((samples.min(), samples.median(), samples.max()), (1.0, 3.0, 5.0));
        assert_eq!(Samples::default().median(), 0.0);
    }

    #[test]
    fn short_keeps_three_digits() {
        assert_eq!(
            [0.1234, 1.234, 12.34, 1234.0].map(short),
            ["0.123", "1.23", "12.3", "1234"]
        );
    }
}
