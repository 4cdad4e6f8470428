//! Probes: whether a container has started, lives and serves.

use crate::{
    handler::{self, Target},
    planner::Unhealthy,
    pod::Probe,
    tries::Tried,
};
use std::time::Duration;
use strata_task::CancellationToken;
use tokio::{sync::mpsc, time::Instant};

/// What a probe found out, told when it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The startup probe has passed.
    Started,
    /// The readiness probe's answer.
    Ready(bool),
    /// The startup or liveness probe has given up.
    Unhealthy(Unhealthy),
    /// One try failed; which probe and why, for an event.
    Failed(&'static str, String),
}

/// A probe's rhythm, with upstream's defaults for what is not set.
#[derive(Clone, Copy, Debug)]
struct Rhythm {
    delay: Duration,
    period: Duration,
    timeout: Duration,
    successes: u32,
    failures: u32,
}

impl From<&Probe> for Rhythm {
    fn from(probe: &Probe) -> Self {
        let or = |value: u32, default: u32| if value == 0 { default } else { value };
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let exact = &probe.exact;
        Self {
            delay: exact.delay().unwrap_or(seconds(probe.initial_delay_seconds)),
            period: exact.period().unwrap_or(seconds(or(probe.period_seconds, 10))),
            timeout: exact.timeout().unwrap_or(seconds(or(probe.timeout_seconds, 1))),
            successes: or(probe.success_threshold, 1),
            failures: or(probe.failure_threshold, 3),
        }
    }
}

/// Counts tries in a row and says when they decide.
#[derive(Debug, Default)]
struct Tally {
    same: u32,
    last: Option<bool>,
}

impl Tally {
    /// Takes a try; `Some` once enough tries in a row agree.
    fn decide(&mut self, success: bool, rhythm: &Rhythm) -> Option<bool> {
        self.same = if self.last == Some(success) {
            self.same.saturating_add(1)
        } else {
            1
        };
        self.last = Some(success);
        let needed = if success { rhythm.successes } else { rhythm.failures };
        (self.same >= needed).then_some(success)
    }
}

/// Runs the probes of one container until it is cancelled: startup first, then the other two.
pub async fn run(
    target: Target,
    tried: Tried,
    started: Instant,
    cancel: CancellationToken,
    findings: mpsc::Sender<Finding>,
) {
    let (target, tried) = (&target, &tried);
    let all = async {
        if let Some(probe) = &target.container.startup_probe
            && !startup((target, tried), probe, started, &findings).await
        {
            return;
        }
        let tell_started = findings.send(Finding::Started).await;
        if tell_started.is_err() {
            return;
        }
        let liveness = async {
            if let Some(probe) = &target.container.liveness_probe {
                liveness((target, tried), probe, started, &findings).await;
            }
        };
        let readiness = async {
            match &target.container.readiness_probe {
                Some(probe) => readiness((target, tried), probe, started, &findings).await,
                None => {
                    // The receiver is gone only when the pod is, and then nobody needs to know.
                    let _ = findings.send(Finding::Ready(true)).await;
                }
            }
        };
        tokio::join!(liveness, readiness);
    };
    tokio::select! {
        () = cancel.cancelled() => {}
        () = all => {}
    }
}

/// Where a probe acts and what its tries are counted in.
type At<'p> = (&'p Target, &'p Tried);

async fn startup(at: At<'_>, probe: &Probe, started: Instant, findings: &mpsc::Sender<Finding>) -> bool {
    let target = at.0;
    let verdict = until_decided(at, probe, "Startup", started, findings).await;
    if let Err(why) = &verdict {
        tracing::debug!(container = %target.id, why, "startup probe gave up");
        let _ = findings.send(given_up(target, probe, "startup")).await;
    }
    verdict.is_ok()
}

async fn until_decided(
    (target, tried): At<'_>,
    probe: &Probe,
    name: &'static str,
    started: Instant,
    findings: &mpsc::Sender<Finding>,
) -> Result<(), String> {
    let rhythm = Rhythm::from(probe);
    let mut tally = Tally::default();
    let mut next = started + rhythm.delay;
    loop {
        tokio::time::sleep_until(next).await;
        let result = handler::run(target, &probe.handler, rhythm.timeout).await;
        tried.count(name, result.is_ok());
        let decision = tally.decide(result.is_ok(), &rhythm);
        if let Err(why) = &result {
            let _ = findings.send(Finding::Failed(name, why.clone())).await;
        }
        match decision {
            Some(true) => return Ok(()),
            Some(false) => return result,
            None => next = Instant::now().max(next + rhythm.period),
        }
    }
}

async fn liveness(at: At<'_>, probe: &Probe, started: Instant, findings: &mpsc::Sender<Finding>) {
    let target = at.0;
    let mut from = started;
    while until_decided(at, probe, "Liveness", from, findings).await.is_ok() {
        let rhythm = Rhythm::from(probe);
        // A success is no news; the next round begins a period later.
        from = (Instant::now() + rhythm.period)
            .checked_sub(rhythm.delay)
            .unwrap_or_else(Instant::now);
    }
    let _ = findings.send(given_up(target, probe, "liveness")).await;
}

fn given_up(target: &Target, probe: &Probe, name: &str) -> Finding {
    let grace = probe.termination_grace_period_seconds;
    Finding::Unhealthy(Unhealthy {
        why: format!(
            "Container {} failed {name} probe, will be restarted",
            target.container.name
        ),
        grace: grace.map(|seconds| seconds.max(0).unsigned_abs()),
    })
}

/// While a container has not served yet it is asked again this soon, then twice as late each time up
/// to the probe's period: most begin to listen milliseconds after they start, and ten seconds (the
/// default period) until a rollout may go on would be for nothing. Such extra tries are not told.
const EAGER_PAUSE: Duration = Duration::from_millis(100);

async fn readiness((target, tried): At<'_>, probe: &Probe, started: Instant, findings: &mpsc::Sender<Finding>) {
    let rhythm = Rhythm::from(probe);
    let mut tally = Tally::default();
    let (mut told, mut served) = (false, false);
    let mut due = started + rhythm.delay;
    let (mut next, mut pause) = (due, EAGER_PAUSE);
    loop {
        tokio::time::sleep_until(next).await;
        let result = handler::run(target, &probe.handler, rhythm.timeout).await;
        let decision = tally.decide(result.is_ok(), &rhythm);
        served |= result.is_ok();
        let regular = next >= due;
        if regular || result.is_ok() {
            tried.count("Readiness", result.is_ok());
        }
        if let Err(why) = result
            && regular
            && findings.send(Finding::Failed("Readiness", why)).await.is_err()
        {
            return;
        }
        if let Some(ready) = decision
            && ready != told
        {
            told = ready;
            if findings.send(Finding::Ready(ready)).await.is_err() {
                return;
            }
        }
        if regular {
            due = Instant::now().max(due + rhythm.period);
        }
        next = if served { due } else { due.min(Instant::now() + pause) };
        pause = pause.saturating_mul(2).min(rhythm.period);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_in_a_row_decide() {
        let rhythm = Rhythm {
            delay: Duration::ZERO,
            period: Duration::ZERO,
            timeout: Duration::ZERO,
            successes: 2,
            failures: 3,
        };
        let mut tally = Tally::default();
        let decisions: Vec<_> = [true, false, true, true, false, false, false, true]
            .into_iter()
            .map(|success| tally.decide(success, &rhythm))
            .collect();
        assert_eq!(decisions, [None, None, None, Some(true), None, None, Some(false), None]);
    }
}
