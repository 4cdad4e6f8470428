//! From two samples of what has been used to what is used.

use std::{collections::BTreeMap, time::Duration};
use strata_meta::{GoDuration, Quantity, Time};
use tokio::time::Instant;

/// A container that has run for less has no rate of its own yet.
const LEAST_MILLIS: i64 = 1000;

/// What a node said at one moment.
#[derive(Debug)]
pub(super) struct Sample {
    /// When it was asked.
    pub(super) taken: Instant,
    /// The node itself.
    pub(super) node: Option<Point>,
    /// By namespace and name, then by container.
    pub(super) pods: BTreeMap<(String, String), BTreeMap<String, Point>>,
}

/// What has been used up to a moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Point {
    /// The moment, in milliseconds since 1970.
    pub(super) at_millis: i64,
    /// When counting began; 0 when that is not known.
    pub(super) started_millis: i64,
    /// Seconds of processor time.
    pub(super) cpu_seconds: f64,
    /// Bytes in use.
    pub(super) memory: u64,
}

/// What is used.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rate {
    /// The end of the window, in milliseconds since 1970.
    pub(super) at_millis: i64,
    window_millis: i64,
    /// Cores.
    cores: f64,
    /// Bytes.
    pub(super) memory: u64,
}

impl Rate {
    /// Between two points; `None` if they are not in order or what is counted has begun anew.
    pub(super) fn between(before: &Point, now: &Point) -> Option<Self> {
        let window = now.at_millis - before.at_millis;
        let used = now.cpu_seconds - before.cpu_seconds;
        (window > 0 && used >= 0.0 && now.started_millis <= before.at_millis).then(|| Self {
            at_millis: now.at_millis,
            window_millis: window,
            cores: used * 1000.0 / window as f64,
            memory: now.memory,
        })
    }

    /// Of a container: against its earlier point, or against its start when it is younger than that.
    pub(super) fn of_container(before: Option<&Point>, now: &Point) -> Option<Self> {
        let known = before.and_then(|before| Self::between(before, now));
        known.or_else(|| {
            let old_enough = now.started_millis > 0 && now.at_millis - now.started_millis >= LEAST_MILLIS;
            let start = Point {
                at_millis: now.started_millis,
                started_millis: now.started_millis,
                ..Point::default()
            };
            Self::between(&start, now).filter(|_| old_enough)
        })
    }

    /// Cores, to the billionth.
    pub(super) fn cpu(&self) -> Quantity {
        let nanos = (self.cores * 1e9) as u64;
        let text = format!("{nanos}n");
        text.parse().unwrap_or_else(|_| Quantity::from_units(0))
    }

    /// The end of the window.
    pub(super) fn time(&self) -> Time {
        Time::from_second(self.at_millis.div_euclid(1000))
    }

    /// The window, as Go writes durations.
    pub(super) fn window(&self) -> String {
        GoDuration::from(Duration::from_millis(self.window_millis.unsigned_abs())).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(at_millis: i64, started_millis: i64, cpu_seconds: f64) -> Point {
        Point {
            at_millis,
            started_millis,
            cpu_seconds,
            memory: 7,
        }
    }

    #[test]
    fn a_rate_is_what_was_used_in_the_window() {
        let rate = Rate::between(&point(1000, 0, 1.0), &point(3500, 0, 1.5)).expect("in order");
        assert_eq!((rate.cpu().to_string(), rate.window()), ("200m".into(), "2.5s".into()));
        assert_eq!(rate.time(), Time::from_second(3));
        assert!(Rate::between(&point(1000, 0, 1.0), &point(1000, 0, 1.5)).is_none());
        assert!(Rate::between(&point(1000, 0, 2.0), &point(2000, 0, 1.5)).is_none());
    }

    #[test]
    fn a_container_that_began_anew_is_counted_from_its_start() {
        let before = point(10_000, 1000, 50.0);
        let now = point(20_000, 15_000, 1.0);
        let rate = Rate::of_container(Some(&before), &now).expect("old enough");
        assert_eq!((rate.cpu().to_string(), rate.window()), ("200m".into(), "5s".into()));
        assert!(Rate::of_container(None, &point(20_000, 19_500, 1.0)).is_none());
        assert!(Rate::of_container(None, &point(20_000, 0, 1.0)).is_none());
    }
}
