//! What becomes of a pod's containers: started, failed, found healthy or not.

use super::{Letter, RETRY_FIRST, SANDBOX_RETRY, Step, Worker};
use crate::pod::Container;
use crate::{
    container::POD_UID,
    context::container_reference,
    planner::{self, Again, Exit},
    pod::Pod,
    probe::{self, Finding},
    slot::Tracked,
    start::{self, ContainerUp, SandboxUp, StepError, Wanted},
    status::go_duration,
    timing,
};
use std::sync::Arc;
use strata_client::EventType;
use strata_engine::ContainerId;
use strata_meta::Time;
use tokio::{sync::mpsc, time::Instant};

impl Worker {
    pub(super) fn container_done(&mut self, name: &str, attempt: u32, result: Result<ContainerUp, StepError>) {
        let engine = self.context.options.engine.clone();
        let Some(slot) = self.slots.get_mut(name) else { return };
        slot.busy = false;
        match result {
            Ok(up) => {
                slot.error = None;
                slot.not_before = None;
                slot.failures = 0;
                let container = self.pod.all_containers().find(|c| c.name == name);
                let image = container.map(|c| c.image.clone()).unwrap_or_default();
                let mut tracked = Tracked::new(up.id, attempt, image, up.image);
                tracked.resources = up.resources;
                (slot.again, slot.anew) = (Again::ByPolicy, false);
                if let Some(why) = up.failed {
                    tracked.exit = Some(start_error(why));
                }
                if let Some(old) = slot.current.replace(tracked) {
                    slot.last = old.exit.clone().map(|exit| (old.id.to_string(), exit));
                    remove_older(engine, name.to_owned(), self.pod.clone(), attempt);
                }
                self.start_probes(name);
            }
            Err(error) => {
                slot.failures += 1;
                let pause = backoff(slot.failures);
                slot.not_before = Some(Time::now().plus_seconds(i64::try_from(pause).unwrap_or(i64::MAX)));
                slot.error = Some(error);
                // The back-off is what the status shows from the second look on.
                if slot.failures > 1 {
                    self.show_back_off(name, pause);
                }
            }
        }
    }

    pub(super) fn start_container(&mut self, name: String, attempt: u32) {
        let (Some(sandbox), Some(volumes)) = (&self.sandbox, &self.volumes) else {
            // After a restart of the agent the sandbox is there and the volumes are not known.
            self.refresh();
            return;
        };
        let Some(container) = self.pod.all_containers().find(|c| c.name == name).cloned() else {
            return;
        };
        let up = SandboxUp {
            id: sandbox.id.clone(),
            ip: sandbox.ip.clone(),
        };
        let target = self.target_of(&container);
        let slot = self.slots.entry(name.clone()).or_default();
        slot.busy = true;
        slot.attempt = attempt;
        let (context, pod, volumes) = (self.context.clone(), self.pod.clone(), volumes.clone());
        let ending = self.ending.clone();
        self.beside(async move {
            let wanted = Wanted {
                container: &container,
                attempt,
                target,
            };
            let result = start::start_container(&context, &pod, wanted, &up, &volumes, &ending).await;
            Step::Container(name, attempt, result)
        });
    }

    pub(super) fn kill_container(&mut self, name: String, (reason, grace): (String, Option<u64>), again: Again) {
        let Some(container) = self.pod.all_containers().find(|c| c.name == name).cloned() else {
            return;
        };
        let Some(slot) = self.slots.get_mut(&name) else { return };
        let Some(tracked) = &slot.current else { return };
        slot.busy = true;
        slot.again = again;
        tracked.probes.cancel();
        let id = tracked.id.clone();
        let ip = self.sandbox.as_ref().map(|s| s.ip.clone()).unwrap_or_default();
        let (context, pod) = (self.context.clone(), self.pod.clone());
        self.beside(async move {
            start::stop_container(&context, &pod, &container, &id, &ip, (&reason, grace)).await;
            Step::Killed(name)
        });
    }

    pub(super) fn refreshed(&mut self, result: Result<strata_volume::PodVolumes, StepError>) {
        let first = self.volumes.is_none();
        self.busy = self.busy && !first;
        self.refreshing = false;
        match result {
            Ok(volumes) => self.volumes = Some(volumes),
            Err(_) if first => {
                self.stale = true;
                self.retry_at = Some(Time::now().plus_seconds(SANDBOX_RETRY));
            }
            // The volumes keep what they have; the event has said why.
            Err(_) => {}
        }
    }

    /// All containers have ended so that all are begun anew, init containers first.
    pub(super) fn renew(&mut self) {
        for container in self.pod.lasting_containers() {
            let Some(slot) = self.slots.get_mut(&container.name) else {
                continue;
            };
            let Some(old) = slot.current.take() else { continue };
            let pause = planner::restart_pause(old.attempt + 1).as_secs();
            slot.attempt = old.attempt + 1;
            slot.anew = true;
            if let Some(exit) = old.exit.clone() {
                let pause = i64::try_from(pause).unwrap_or(i64::MAX);
                slot.not_before = Some(exit.finished.plus_seconds(pause));
                slot.last = Some((old.id.to_string(), exit));
            }
        }
    }

    fn show_back_off(&mut self, name: &str, pause: u64) {
        let Some(image) = self
            .pod
            .all_containers()
            .find(|c| c.name == name)
            .map(|c| c.image.clone())
        else {
            return;
        };
        let Some(error) = self.slots.get_mut(name).and_then(|slot| slot.error.as_mut()) else {
            return;
        };
        if error.reason == "ErrImagePull" {
            let message = format!("Back-off pulling image {image:?}");
            let about = container_reference(&self.pod, name);
            self.context
                .events
                .event(&about, EventType::Normal, "BackOff", message.clone());
            self.context
                .events
                .event(&about, EventType::Warning, "Failed", "Error: ImagePullBackOff");
            error.message = format!("{message}: ErrImagePull: {}", error.message);
            error.reason = "ImagePullBackOff".into();
        }
        tracing::debug!(
            pod = self.pod.full_name(),
            container = name,
            pause = go_duration(pause),
            "backing off"
        );
    }

    /// The container whose processes an ephemeral one sees: `None` if it asks for none, an empty id if its
    /// target does not run.
    pub(super) fn target_of(&self, container: &Container) -> Option<ContainerId> {
        let name = Some(container.target_container_name.as_str()).filter(|name| !name.is_empty())?;
        let current = self.slots.get(name).and_then(|slot| slot.current.as_ref());
        let running = current.filter(|tracked| tracked.exit.is_none());
        Some(running.map_or_else(|| ContainerId::from(""), |tracked| tracked.id.clone()))
    }

    pub(super) fn start_probes(&mut self, name: &str) {
        let Some(container) = self.pod.all_containers().find(|c| c.name == name) else {
            return;
        };
        let Some(tracked) = self.slots.get_mut(name).and_then(|slot| slot.current.as_mut()) else {
            return;
        };
        if tracked.exit.is_some() {
            return;
        }
        // What no probe asks is so from the start: nobody is to see it running and not ready.
        tracked.started = container.startup_probe.is_none();
        tracked.ready = tracked.started && container.readiness_probe.is_none();
        let ip = self.sandbox.as_ref().map(|s| s.ip.as_str()).unwrap_or_default();
        let refined = timing::refined(&self.pod, container).unwrap_or_else(|why| {
            let about = container_reference(&self.pod, name);
            self.context
                .events
                .event(&about, EventType::Warning, "InvalidProbeTiming", why);
            container.clone()
        });
        let target = start::target(&self.context, &tracked.id, &refined, ip);
        let (findings, mut found) = mpsc::channel(8);
        let meta = &self.pod.metadata;
        let tries = &self.context.tries;
        let tried = tries.begin(&meta.namespace, &meta.name, meta.uid.as_str(), name);
        let cancel = tracked.probes.clone();
        tokio::spawn(probe::run(target, tried, Instant::now(), cancel, findings));
        let (letters, name, id) = (self.letters.clone(), name.to_owned(), tracked.id.clone());
        tokio::spawn(async move {
            while let Some(finding) = found.recv().await {
                if letters
                    .send(Letter::Probe(name.clone(), id.clone(), finding))
                    .await
                    .is_err()
                {
                    return;
                }
            }
        });
    }

    pub(super) fn found_out(&mut self, name: &str, id: &ContainerId, finding: Finding) {
        let Some(tracked) = self.slots.get_mut(name).and_then(|slot| slot.current.as_mut()) else {
            return;
        };
        // Findings about an earlier instance come too late.
        if tracked.id != *id {
            return;
        }
        match finding {
            Finding::Started => tracked.started = true,
            Finding::Ready(ready) => tracked.ready = ready,
            Finding::Unhealthy(why) => tracked.unhealthy = Some(why),
            Finding::Failed(probe, why) => {
                let message = format!("{probe} probe failed: {why}");
                let about = container_reference(&self.pod, name);
                self.context
                    .events
                    .event(&about, EventType::Warning, "Unhealthy", message);
            }
        }
    }
}

/// An instance whose process could not be started (upstream: StartError, 128).
fn start_error(message: String) -> Exit {
    Exit {
        code: 128,
        reason: "StartError".into(),
        message,
        started: Some(Time::from_second(0)),
        finished: Time::now(),
    }
}

/// Removes the instances of a container that nobody can ask for any more: all but the newest two.
fn remove_older(engine: strata_engine::Engine, name: String, pod: Arc<Pod>, newest: u32) {
    tokio::spawn(async move {
        for status in engine.list_containers() {
            let mine = status.labels.get(POD_UID).map(String::as_str) == Some(pod.metadata.uid.as_str());
            if mine
                && status.name == name
                && status.attempt + 1 < newest
                && let Err(error) = start::gone(engine.remove_container(&status.id).await)
            {
                tracing::warn!(container = %status.id, %error, "removing an old container failed");
            }
        }
    });
}

fn backoff(failures: u32) -> u64 {
    (RETRY_FIRST << (failures - 1).min(10)).min(planner::BACKOFF_MAX.as_secs())
}
