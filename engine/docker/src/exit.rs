//! What follows when a container's process ends: cleaning up, noting it, restarting by policy, removing.

use crate::config::RestartPolicy;
use crate::daemon::Inner;
use crate::launch;
use crate::record::{Container, Record, Status, moment};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};
use strata_engine::{ContainerId, ContainerState, ContainerStatus, EngineEvent};
use tokio::sync::broadcast::error::RecvError;

/// First wait before a restart; doubled each time.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Who ran as long begins with the first wait again.
const HEALTHY_RUN: Duration = Duration::from_secs(10);

/// How a container ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub code: i32,
    pub oom_killed: bool,
    pub at: SystemTime,
}

impl From<ContainerStatus> for End {
    fn from(status: ContainerStatus) -> Self {
        Self {
            code: status.exit_code.unwrap_or(255),
            oom_killed: status.reason == "OOMKilled",
            at: status.finished_at.unwrap_or_else(SystemTime::now),
        }
    }
}

/// Hears of ends in the background, until the daemon goes.
pub(crate) fn follow(inner: &Arc<Inner>) {
    let mut events = inner.engine.events();
    let (stop, weak) = (inner.stop.clone(), Arc::downgrade(inner));
    tokio::spawn(async move {
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                () = stop.cancelled() => return,
            };
            let Some(inner) = Weak::upgrade(&weak) else { return };
            match event {
                Ok(EngineEvent::ContainerExited {
                    id,
                    exit_code,
                    oom_killed,
                    finished_at,
                    ..
                }) => {
                    let end = End {
                        code: exit_code,
                        oom_killed,
                        at: finished_at,
                    };
                    hear(&inner, &id, end);
                }
                Ok(EngineEvent::OomKilled { id, .. }) => {
                    if let Some(container) = inner.by_run(id.as_str()) {
                        inner.events.container(&container, "oom", &[]);
                    }
                }
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => {
                    for status in inner.engine.list_containers() {
                        if status.state == ContainerState::Exited {
                            let id = status.id.clone();
                            hear(&inner, &id, status.into());
                        }
                    }
                }
                Err(RecvError::Closed) => return,
            }
        }
    });
}

fn hear(inner: &Arc<Inner>, id: &ContainerId, end: End) {
    let Some(container) = inner.by_run(id.as_str()) else {
        return;
    };
    let (inner, id) = (Arc::clone(inner), id.clone());
    tokio::spawn(async move {
        let _turn = container.turn.lock().await;
        // A start that failed took it back already, and an end may be told twice.
        let current = container.lock().run.as_ref().map(|run| run.container.clone());
        if current.as_deref() == Some(id.as_str()) {
            ended(&inner, &container, &end).await;
        }
    });
}

/// Takes note of an end. The caller holds the container's turn, or is alone with it.
pub(crate) async fn ended(inner: &Arc<Inner>, container: &Arc<Container>, end: &End) {
    let finished = moment(end.at);
    let wait = restart_after(container, end);
    let removed = container.lock().host["AutoRemove"] == serde_json::json!(true) && wait.is_none();
    let note = |record: &mut Record| {
        record.state.status = if wait.is_some() {
            Status::Restarting
        } else {
            Status::Exited
        };
        record.state.exit_code = end.code;
        record.state.oom_killed = end.oom_killed;
        record.state.finished_at = Some(finished);
        record.state.pid = 0;
        if wait.is_some() {
            record.restart_count += 1;
        }
    };
    if let Err(error) = launch::tear_down(inner, container, note).await {
        tracing::error!(container = %container.id, %error, "could not record the end of a container");
    }
    container.phase.send_modify(|phase| phase.exits += 1);
    let code = end.code.to_string();
    let ran = ran_for(container, end.at).as_secs().to_string();
    inner
        .events
        .container(container, "die", &[("exitCode", code), ("execDuration", ran)]);
    if removed {
        if let Err(error) = crate::remove::remove(inner, container, true).await {
            tracing::warn!(container = %container.id, %error, "could not remove a container that ended");
        }
    } else if let Some(wait) = wait {
        restart_later(inner, container, wait);
    }
}

fn ran_for(container: &Container, end: SystemTime) -> Duration {
    let started = container.lock().state.started_at.clone();
    let started = started.and_then(|text| text.parse::<jiff::Timestamp>().ok());
    let started = started.map(SystemTime::from);
    started
        .and_then(|start| end.duration_since(start).ok())
        .unwrap_or(Duration::ZERO)
}

/// How long to wait before a restart, if there is to be one.
fn restart_after(container: &Container, end: &End) -> Option<Duration> {
    let record = container.record();
    let policy = record.typed_host().ok()?.restart_policy;
    let wanted = wants_restart(&policy, end.code, record.restart_count, record.stopped_by_hand);
    wanted.then(|| match ran_for(container, end.at) >= HEALTHY_RUN {
        true => FIRST_WAIT,
        false => back_off(record.restart_count),
    })
}

fn wants_restart(policy: &RestartPolicy, code: i32, restarts: u32, by_hand: bool) -> bool {
    if by_hand {
        return false;
    }
    match policy.name.as_str() {
        "always" | "unless-stopped" => true,
        "on-failure" => code != 0 && (policy.maximum_retry_count == 0 || restarts < policy.maximum_retry_count),
        _ => false,
    }
}

fn back_off(restarts: u32) -> Duration {
    FIRST_WAIT.saturating_mul(1 << restarts.min(10)).min(LONGEST_WAIT)
}

fn restart_later(inner: &Arc<Inner>, container: &Arc<Container>, wait: Duration) {
    let token = container.fresh_run();
    let (inner, container) = (Arc::clone(inner), Arc::clone(container));
    tokio::spawn(async move {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = token.cancelled() => return,
            () = inner.stop.cancelled() => return,
        }
        let _turn = container.turn.lock().await;
        if token.is_cancelled() || container.status() != Status::Restarting {
            return;
        }
        if let Err(error) = launch::start(&inner, &container).await {
            tracing::warn!(container = %container.id, %error, "could not restart a container");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_decide_about_restarts() {
        let policy = |name: &str, maximum_retry_count| RestartPolicy {
            name: name.into(),
            maximum_retry_count,
        };
        for (name, most, code, restarts, by_hand, expected) in [
            ("no", 0, 1, 0, false, false),
            ("", 0, 1, 0, false, false),
            ("always", 0, 0, 9, false, true),
            ("always", 0, 0, 0, true, false),
            ("unless-stopped", 0, 1, 0, false, true),
            ("on-failure", 0, 0, 0, false, false),
            ("on-failure", 0, 1, 50, false, true),
            ("on-failure", 3, 1, 2, false, true),
            ("on-failure", 3, 1, 3, false, false),
        ] {
            let wanted = wants_restart(&policy(name, most), code, restarts, by_hand);
            assert_eq!(wanted, expected, "{name} {most} {code} {restarts} {by_hand}");
        }
        assert_eq!(back_off(0), FIRST_WAIT);
        assert_eq!(back_off(40), LONGEST_WAIT);
    }
}
