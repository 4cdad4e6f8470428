//! When a cron job's next job is due: pure decisions on its schedule and the time.

use super::types::CronJob;
use serde_json::{Value, json};
use std::time::Duration;
use strata_cron::Schedule;
use strata_meta::{ObjectMeta, Time};

/// After the scheduled time, so that clocks that differ a little do not make it early; as upstream.
const AFTER: Duration = Duration::from_millis(100);
/// More missed starts than this are worth a warning.
const MANY: i64 = 100;
/// Where a job keeps the time it was made for.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// How many starts were missed, roughly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missed {
    None,
    Few,
    Many,
}

/// The latest time that a job was due.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Recent {
    /// From when on was looked.
    earliest: i64,
    pub due: Option<i64>,
    pub missed: Missed,
}

/// The schedule's own fault.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("time difference between two schedules is less than 1 second")]
pub(super) struct NeverDue;

/// When a job was due last. With `by_deadline`, starts that are too late already do not count.
pub(super) fn recent(job: &CronJob, now: i64, schedule: &Schedule, by_deadline: bool) -> Result<Recent, NeverDue> {
    let since = job.status.last_schedule_time.or(job.metadata.creation_timestamp);
    let mut earliest = since.map_or(0, |time| time.as_second());
    if let Some(deadline) = job.spec.starting_deadline_seconds.filter(|_| by_deadline) {
        earliest = earliest.max(now.saturating_sub(deadline));
    }
    let found = |due, missed| Ok(Recent { earliest, due, missed });
    let first = schedule.next(earliest).ok_or(NeverDue)?;
    if now < first {
        return found(None, Missed::None);
    }
    let second = schedule.next(first).ok_or(NeverDue)?;
    if now < second {
        return found(Some(first), Missed::None);
    }
    let period = second - first;
    if period < 1 {
        return Err(NeverDue);
    }
    // Counted as if all periods were as long as the first, so that years that were missed cost nothing.
    let missed = (now - first) / period + 1;
    let from = first + (missed - 2) * period;
    let times = std::iter::successors(schedule.next(from), |due| schedule.next(*due));
    let due = times.take_while(|due| *due <= now).last();
    found(due, if missed > MANY { Missed::Many } else { Missed::Few })
}

/// How long until the next job is due. `now` is since 1970.
pub(super) fn until_next(job: &CronJob, now: Duration, schedule: &Schedule) -> Option<Duration> {
    let second = seconds(now);
    let from = match recent(job, second, schedule, false) {
        Ok(Recent { due: Some(due), .. }) => due,
        Ok(Recent {
            earliest,
            missed: Missed::None,
            ..
        }) => earliest,
        _ => second,
    };
    let due = Duration::from_secs(u64::try_from(schedule.next(from)?).ok()?);
    Some((due + AFTER).saturating_sub(now).max(AFTER))
}

/// Whether the time to start a job has passed.
pub(super) fn is_too_late(job: &CronJob, due: i64, now: Duration) -> bool {
    let Some(deadline) = job.spec.starting_deadline_seconds else {
        return false;
    };
    let last = u64::try_from(due.saturating_add(deadline)).unwrap_or(0);
    Duration::from_secs(last) < now
}

/// The job for a time: its name tells the time, so that none is made twice.
pub(super) fn job_name(job: &CronJob, due: i64) -> String {
    format!("{}-{}", job.metadata.name, due / 60)
}

/// That job. `zone` is for people who read the annotation.
pub(super) fn job_for(job: &CronJob, owner: Value, due: i64, shown: &str) -> Value {
    let template = &job.spec.job_template;
    let ObjectMeta {
        labels, annotations, ..
    } = &template.metadata;
    let mut annotations = annotations.clone();
    annotations.insert(SCHEDULED.into(), shown.into());
    json!({
        "metadata": {
            "name": job_name(job, due),
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [owner],
        },
        "spec": template.spec,
    })
}

/// Which finished jobs are too many: the oldest, by when they started and by name.
pub(super) fn surplus<T>(mut finished: Vec<(Option<Time>, String, T)>, limit: Option<i32>) -> Vec<T> {
    let Some(limit) = limit else { return Vec::new() };
    let count = finished.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    finished.sort_by(|a, b| {
        let key = |(start, name, _): &(Option<Time>, String, T)| (start.is_none(), *start, name.clone());
        key(a).cmp(&key(b))
    });
    finished.into_iter().take(count).map(|(_, _, job)| job).collect()
}

/// Whole seconds since 1970.
pub(super) fn seconds(now: Duration) -> i64 {
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        Time::parse(text).unwrap().as_second()
    }

    fn job(last: Option<&str>, deadline: Option<i64>) -> CronJob {
        serde_json::from_value(json!({
            "metadata": {"name": "hello", "creationTimestamp": "2016-05-19T09:50:00Z"},
            "spec": {"schedule": "0 * * * *", "startingDeadlineSeconds": deadline},
            "status": {"lastScheduleTime": last},
        }))
        .unwrap()
    }

    #[test]
    fn the_latest_start_that_was_missed_is_the_one_that_is_due() {
        let hourly = Schedule::parse("0 * * * *").unwrap();
        for (last, deadline, now, due, missed) in [
            (None, None, "2016-05-19T09:59:59Z", None, Missed::None),
            (
                None,
                None,
                "2016-05-19T10:00:00Z",
                Some("2016-05-19T10:00:00Z"),
                Missed::None,
            ),
            (
                Some("2016-05-19T10:00:00Z"),
                None,
                "2016-05-19T10:59:00Z",
                None,
                Missed::None,
            ),
            (
                Some("2016-05-19T10:00:00Z"),
                None,
                "2016-05-19T13:30:00Z",
                Some("2016-05-19T13:00:00Z"),
                Missed::Few,
            ),
            (
                None,
                None,
                "2016-05-24T10:00:01Z",
                Some("2016-05-24T10:00:00Z"),
                Missed::Many,
            ),
            (
                None,
                Some(600),
                "2016-05-24T10:05:00Z",
                Some("2016-05-24T10:00:00Z"),
                Missed::None,
            ),
            (None, Some(60), "2016-05-24T10:05:00Z", None, Missed::None),
        ] {
            let found = recent(&job(last, deadline), at(now), &hourly, true).unwrap();
            assert_eq!(
                (found.due, found.missed),
                (due.map(at), missed),
                "{last:?} {deadline:?} {now}"
            );
        }
        let never = Schedule::parse("59 23 31 2 *").unwrap();
        assert_eq!(
            recent(&job(None, None), at("2016-05-24T10:00:01Z"), &never, true),
            Err(NeverDue)
        );
    }

    #[test]
    fn the_next_start_is_waited_for_and_a_little_longer() {
        let hourly = Schedule::parse("0 * * * *").unwrap();
        let now = Duration::from_millis(u64::try_from(at("2016-05-19T10:59:58Z")).unwrap() * 1000 + 500);
        let wait = until_next(&job(Some("2016-05-19T10:00:00Z"), None), now, &hourly);
        assert_eq!(wait, Some(Duration::from_millis(1600)));
        assert!(!is_too_late(&job(None, Some(3599)), at("2016-05-19T10:00:00Z"), now));
        assert!(is_too_late(&job(None, Some(3598)), at("2016-05-19T10:00:00Z"), now));
        assert_eq!(job_name(&job(None, None), at("2016-05-19T10:00:00Z")), "hello-24394200");
    }

    #[test]
    fn the_oldest_finished_jobs_go_first() {
        let jobs = || {
            let start = |second| Some(Time::from_second(second));
            vec![
                (None, "new".into(), 4),
                (start(5), "b".into(), 2),
                (start(5), "a".into(), 1),
                (start(9), "c".into(), 3),
            ]
        };
        assert_eq!(surplus(jobs(), Some(1)), [1, 2, 3]);
        assert_eq!(surplus(jobs(), Some(0)), [1, 2, 3, 4]);
        assert!(surplus(jobs(), None).is_empty());
    }
}
