//! How long a job waits before it replaces a pod that failed.

use super::pod::JobPod;
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use strata_meta::{Time, Uid};

/// Upstream's first and longest waits.
const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(600);

/// Failures of a job's pods in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// Since the last success.
    pub failures: i32,
    pub last: Option<Time>,
}

impl Record {
    /// The record after these pods have ended.
    pub fn after<'a>(
        self,
        succeeded: impl Iterator<Item = &'a JobPod>,
        failed: impl Iterator<Item = &'a JobPod>,
    ) -> Self {
        let success = succeeded.map(|pod| pod.finished).max();
        let before = match success {
            Some(_) => Self::default(),
            None => self,
        };
        let later = |time: &Time| success.is_none_or(|success| *time > success);
        failed
            .map(|pod| pod.finished)
            .filter(later)
            .fold(before, |record, time| Self {
                failures: record.failures.saturating_add(1),
                // What failed earlier is in the record already.
                last: match (success, record.failures == before.failures) {
                    (None, true) => Some(time),
                    _ => record.last.max(Some(time)),
                },
            })
    }

    /// How long to wait yet. `now` is since 1970.
    pub fn left(self, now: Duration) -> Duration {
        match self.last {
            Some(last) => left(self.failures, last, now),
            None => Duration::ZERO,
        }
    }
}

/// How long the index of a pod that failed waits yet.
pub(super) fn left_of_index(failed: &JobPod, now: Duration) -> Duration {
    left(failed.all_failures().saturating_add(1), failed.finished, now)
}

fn left(failures: i32, last: Time, now: Duration) -> Duration {
    if failures <= 0 {
        return Duration::ZERO;
    }
    let doublings = u32::try_from(failures - 1).unwrap_or(u32::MAX);
    let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
    let wait = FIRST.saturating_mul(factor).min(LONGEST);
    let last = Duration::from_secs(u64::try_from(last.as_second()).unwrap_or(0));
    // A clock that was set back does not make the wait longer than it is.
    wait.saturating_sub(now.saturating_sub(last))
}

/// The records of all jobs that are running. They begin anew when the process does.
#[derive(Default)]
pub(super) struct Records(Mutex<HashMap<Uid, Record>>);

impl Records {
    pub fn get(&self, job: &Uid) -> Record {
        self.lock().get(job).copied().unwrap_or_default()
    }

    pub fn set(&self, job: &Uid, record: Record) {
        match record == Record::default() {
            true => self.forget(job),
            false => drop(self.lock().insert(job.clone(), record)),
        }
    }

    pub fn forget(&self, job: &Uid) {
        self.lock().remove(job);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Uid, Record>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_ten_minutes_and_pass() {
        let last = Time::from_second(1_000);
        let at = |seconds: u64| Duration::from_secs(seconds);
        for (failures, now, expected) in [
            (0, 1_000, 0),
            (1, 1_000, 10),
            (1, 1_004, 6),
            (2, 1_000, 20),
            (3, 1_000, 40),
            (7, 1_000, 600),
            (40, 1_000, 600),
            (1, 1_010, 0),
            (1, 999, 10),
        ] {
            let record = Record {
                failures,
                last: Some(last),
            };
            assert_eq!(record.left(at(now)), at(expected), "{failures} at {now}");
        }
        assert_eq!(Record::default().left(at(5)), Duration::ZERO);
    }
}
