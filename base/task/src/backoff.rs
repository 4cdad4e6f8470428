//! Exponential backoff with jitter.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

/// Doubling waits between retries, each shortened by up to a quarter so that many
/// clients that failed together do not come back together.
#[derive(Clone, Debug)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    current: Duration,
}

impl Backoff {
    /// The first wait is about `initial`; none is longer than `max`.
    pub fn new(initial: Duration, max: Duration) -> Self {
        Self {
            initial,
            max,
            current: initial.min(max),
        }
    }

    /// How long to wait now; the next wait is twice as long.
    #[allow(clippy::should_implement_trait)] // never ends, and a caller that iterated over it would be wrong
    pub fn next(&mut self) -> Duration {
        let wait = self.current;
        self.current = wait.saturating_mul(2).min(self.max);
        wait.mul_f64(1.0 - 0.25 * random_fraction())
    }

    /// Begins again with `initial`, after a success.
    pub fn reset(&mut self) {
        self.current = self.initial.min(self.max);
    }
}

/// In `[0, 1)`; the standard library's keyed hasher is seeded by the kernel once a process.
fn random_fraction() -> f64 {
    let bits = RandomState::new().build_hasher().finish();
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_maximum_and_start_over() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(350));
        for expected in [100, 200, 350, 350] {
            let wait = backoff.next().as_secs_f64() * 1000.0;
            assert!(
                wait <= f64::from(expected) && wait >= f64::from(expected) * 0.75,
                "{wait} for {expected}"
            );
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(100));
    }
}
