//! Health checks: a command that is run in a container again and again.

use crate::config::HealthConfig;
use crate::daemon::Inner;
use crate::error::Answer;
use crate::record::{Container, now};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// docker's defaults.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: u32 = 3;
/// Results kept.
const KEPT: usize = 5;
/// Bytes kept of a check's output.
const MAX_OUTPUT: usize = 4096;

/// What is known of a container's health.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Health {
    /// `starting`, `healthy` or `unhealthy`.
    pub status: String,
    pub failing_streak: u32,
    pub log: Vec<HealthResult>,
}

/// One check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct HealthResult {
    pub start: String,
    pub end: String,
    pub exit_code: i32,
    pub output: String,
}

impl Health {
    /// Takes note of a result; whether the status changed. Failures do not count while it starts.
    fn note(&mut self, result: HealthResult, retries: u32, starting: bool) -> bool {
        let before = self.status.clone();
        if result.exit_code == 0 {
            self.failing_streak = 0;
            self.status = "healthy".into();
        } else if !(starting && before == "starting") {
            self.failing_streak += 1;
            if self.failing_streak >= retries {
                self.status = "unhealthy".into();
            }
        }
        if self.log.len() == KEPT {
            self.log.remove(0);
        }
        self.log.push(result);
        before != self.status
    }
}

/// Whether there is a check at all.
pub(crate) fn is_on(check: &HealthConfig) -> bool {
    let kind = check.test.first().map(String::as_str);
    matches!(kind, Some("CMD" | "CMD-SHELL")) && check.test.len() > 1
}

/// The command of a check.
fn command(check: &HealthConfig, shell: &[String]) -> Vec<String> {
    let line = |rest: &[String]| {
        let usual = ["/bin/sh", "-c"].map(str::to_owned);
        let shell = if shell.is_empty() { &usual[..] } else { shell };
        shell.iter().cloned().chain(rest.first().cloned()).collect()
    };
    let (kind, rest) = check
        .test
        .split_first()
        .map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    match kind {
        "CMD" => rest.to_vec(),
        _ => line(rest),
    }
}

/// Begins to look after a container's health, until the run is over.
pub(crate) fn watch(
    inner: &Arc<Inner>,
    container: &Arc<Container>,
    check: HealthConfig,
    shell: Vec<String>,
    run: CancellationToken,
) -> Answer<()> {
    container.change(|record| {
        // What an earlier process of the daemon knew stays known.
        record.state.health.get_or_insert_with(|| Health {
            status: "starting".into(),
            ..Health::default()
        });
    })?;
    let (weak, container) = (Arc::downgrade(inner), Arc::clone(container));
    let stop = inner.stop.clone();
    tokio::spawn(async move {
        let work = async {
            let or = |nanos: i64, default: Duration| match u64::try_from(nanos) {
                Ok(0) | Err(_) => default,
                Ok(nanos) => Duration::from_nanos(nanos),
            };
            let began = Instant::now();
            let start_period = or(check.start_period, Duration::ZERO);
            loop {
                let health = container.lock().state.health.clone().unwrap_or_default();
                let starting = began.elapsed() < start_period;
                let interval = match starting && health.status == "starting" {
                    true => or(check.start_interval, START_INTERVAL),
                    false => or(check.interval, INTERVAL),
                };
                tokio::time::sleep(interval).await;
                let Some(inner) = weak.upgrade() else { return };
                let result = probe(&inner, &container, command(&check, &shell), or(check.timeout, TIMEOUT)).await;
                let retries = u32::try_from(check.retries).ok().filter(|tries| *tries > 0);
                let starting = began.elapsed() < start_period;
                let noted = container.change(|record| {
                    let health = record.state.health.get_or_insert_with(|| Health {
                        status: "starting".into(),
                        ..Health::default()
                    });
                    let changed = health.note(result, retries.unwrap_or(RETRIES), starting);
                    (changed, health.status.clone())
                });
                match noted {
                    Ok((true, status)) => {
                        let action = format!("health_status: {status}");
                        inner.events.container(&container, &action, &[]);
                    }
                    Ok((false, _)) => {}
                    Err(error) => tracing::warn!(container = %container.id, %error, "could not record health"),
                }
            }
        };
        tokio::select! {
            () = run.cancelled() => {}
            () = stop.cancelled() => {}
            () = work => {}
        }
    });
    Ok(())
}

async fn probe(inner: &Inner, container: &Container, command: Vec<String>, timeout: Duration) -> HealthResult {
    let start = now();
    let id = match crate::life::running(container) {
        Ok(id) => id,
        Err(error) => {
            return HealthResult {
                end: now(),
                start,
                exit_code: -1,
                output: error.message,
            };
        }
    };
    let (exit_code, output) = match inner.engine.exec_sync(&id, command, timeout).await {
        Ok(result) => {
            let mut all = result.stdout;
            all.extend(result.stderr);
            all.truncate(MAX_OUTPUT);
            (result.exit_code, String::from_utf8_lossy(&all).into_owned())
        }
        Err(strata_engine::Error::Timeout { after, .. }) => (-1, format!("Health check exceeded timeout ({after:?})")),
        Err(error) => (-1, error.to_string()),
    };
    HealthResult {
        start,
        end: now(),
        exit_code,
        output,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_changes_after_enough_failures_and_one_success() {
        let result = |exit_code| HealthResult {
            exit_code,
            ..HealthResult::default()
        };
        let mut health = Health {
            status: "starting".into(),
            ..Health::default()
        };
        assert!(!health.note(result(1), 2, true) && health.failing_streak == 0);
        assert!(!health.note(result(1), 2, false));
        assert!(health.note(result(1), 2, false) && health.status == "unhealthy");
        assert!(health.note(result(0), 2, false) && health.status == "healthy");
        for _ in 0..9 {
            health.note(result(0), 2, false);
        }
        assert_eq!(health.log.len(), KEPT);
    }

    #[test]
    fn commands_are_run_by_a_shell_unless_they_say_otherwise() {
        let check = |words: &[&str]| HealthConfig {
            test: words.iter().map(|word| (*word).to_owned()).collect(),
            ..HealthConfig::default()
        };
        assert_eq!(command(&check(&["CMD", "a", "b"]), &[]), ["a", "b"]);
        assert_eq!(command(&check(&["CMD-SHELL", "a b"]), &[]), ["/bin/sh", "-c", "a b"]);
        assert!(!is_on(&check(&["NONE"])) && !is_on(&check(&[])) && is_on(&check(&["CMD", "a"])));
    }
}
