//! How long a node whose daemon failed waits for the next one.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use strata_meta::Uid;
use tokio::time::Instant;

/// Upstream's first and longest waits.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// A set at a generation, and a node.
type Key = (Uid, i64, String);

/// The waits of failing daemons; one that went well for twice the longest wait is forgotten.
#[derive(Default)]
pub(super) struct Backoff(Mutex<HashMap<Key, (Instant, Duration)>>);

impl Backoff {
    /// None: delete the failed pod now, and wait longer the next time. Else how long to wait.
    pub fn next(&self, key: Key, now: Instant) -> Option<Duration> {
        let mut waits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waits.retain(|_, (since, _)| now.duration_since(*since) < 2 * LONGEST);
        let last = waits.get(&key).copied();
        if let Some((since, wait)) = last {
            let left = wait.saturating_sub(now.duration_since(since));
            if !left.is_zero() {
                return Some(left);
            }
        }
        let wait = last.map_or(FIRST, |(_, wait)| (wait * 2).min(LONGEST));
        waits.insert(key, (now, wait));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_wait_twice_as_long_each_time_until_all_is_well() {
        let (backoff, mut now) = (Backoff::default(), Instant::now());
        let key = || (Uid::from("set"), 1, "node".to_owned());
        assert_eq!(backoff.next(key(), now), None);
        for wait in [1, 2, 4] {
            assert_eq!(backoff.next(key(), now), Some(Duration::from_secs(wait)));
            now += Duration::from_secs(wait);
            assert_eq!(backoff.next(key(), now), None);
        }
        now += 2 * LONGEST;
        assert_eq!(backoff.next(key(), now), None);
        assert_eq!(backoff.next(key(), now), Some(FIRST), "forgotten");
    }
}
