//! Brings what runs to the resources that the pod has by now.

use super::{Step, Worker};
use crate::{
    allocation::describe,
    container::engine_resources,
    context::{Context, pod_reference},
    planner::{Need, need, resize_in_progress},
    pod::{Pod, Resources},
    resources::{Cgroup, container_cgroup, pod_cgroup},
};
use strata_client::EventType;
use strata_engine::{ContainerId, SandboxId};
use strata_meta::Time;

/// Seconds until a change that failed is tried again.
const RETRY: i64 = 10;

/// How far a change of resources is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// It is being made.
    pub busy: bool,
    /// The generation that asks for it, as long as something does not have what it shall have.
    pub generation: Option<i64>,
    /// Why it could not be made the last time.
    pub error: Option<String>,
    /// Not to be tried again before this.
    pub not_before: Option<Time>,
}

/// What was done.
pub struct Resized {
    /// The pod's cgroup is like this now.
    cgroup: Cgroup,
    /// Which containers have which resources.
    containers: Vec<(String, ContainerId, Resources)>,
}

/// A container whose limits change while it runs.
struct Change {
    name: String,
    id: ContainerId,
    before: Option<i64>,
    cgroup: Cgroup,
    resources: Resources,
}

impl Worker {
    /// Takes note of a specification that comes after the present one.
    pub(super) fn note_resize(&mut self, next: &Pod) {
        if crate::allocation::differs(next, &self.pod) {
            self.resize.generation = Some(next.metadata.generation);
            (self.resize.error, self.resize.not_before) = (None, None);
        }
    }

    /// Tells when a change has come to its end.
    pub(super) fn follow_resize(&mut self, observed: &mut crate::planner::Observed) {
        if resize_in_progress(&self.pod, observed) {
            self.resize.generation.get_or_insert(self.pod.metadata.generation);
        } else if let Some(generation) = self.resize.generation.take() {
            self.resize = Progress::default();
            let message = describe("Pod resize completed", &self.pod, generation, "");
            let about = pod_reference(&self.pod);
            self.context
                .events
                .event(&about, EventType::Normal, "ResizeCompleted", message);
        }
        observed.resize = self.resize.clone();
    }

    pub(super) fn resize(&mut self) {
        let Some(sandbox) = self.sandbox.as_ref().map(|s| s.id.clone()) else {
            return;
        };
        let mut changes = Vec::new();
        for container in self.pod.lasting_containers() {
            let Some(slot) = self.slots.get(&container.name) else {
                continue;
            };
            let (Some(instance), Some(tracked)) = (slot.instance(), &slot.current) else {
                continue;
            };
            let runs = tracked.exit.is_none() && !slot.busy;
            if runs && need(container, &instance.as_running()) == Need::Update {
                let before = tracked.resources.limits.get("memory");
                changes.push(Change {
                    name: container.name.clone(),
                    id: tracked.id.clone(),
                    before: before.map(strata_meta::Quantity::value),
                    cgroup: container_cgroup(container),
                    resources: container.resources.clone(),
                });
            }
        }
        self.resize.busy = true;
        let before = self.pod_cgroup.unwrap_or_else(|| pod_cgroup(&self.pod));
        let (context, pod) = (self.context.clone(), self.pod.clone());
        self.beside(async move { Step::Resized(apply(&context, &pod, &sandbox, before, changes).await) });
    }

    pub(super) fn resized(&mut self, result: Result<Resized, String>) {
        self.resize.busy = false;
        match result {
            Ok(done) => {
                (self.resize.error, self.resize.not_before) = (None, None);
                self.pod_cgroup = Some(done.cgroup);
                for (name, id, resources) in done.containers {
                    let current = self.slots.get_mut(&name).and_then(|slot| slot.current.as_mut());
                    if let Some(tracked) = current.filter(|tracked| tracked.id == id) {
                        tracked.resources = resources;
                    }
                }
            }
            Err(why) => {
                self.resize.not_before = Some(Time::now().plus_seconds(RETRY));
                if self.resize.error.as_ref() != Some(&why) {
                    let generation = self.resize.generation.unwrap_or(self.pod.metadata.generation);
                    let message = describe("Pod resize error", &self.pod, generation, &why);
                    let about = pod_reference(&self.pod);
                    self.context
                        .events
                        .event(&about, EventType::Warning, "ResizeError", message);
                }
                self.resize.error = Some(why);
            }
        }
    }
}

/// The pod first as far as it grows, then its containers, then the pod as far as it shrinks: no container may
/// ever have more than its pod.
async fn apply(
    context: &Context,
    pod: &Pod,
    sandbox: &SandboxId,
    before: Cgroup,
    changes: Vec<Change>,
) -> Result<Resized, String> {
    let after = pod_cgroup(pod);
    check_memory(context, before, after, &changes).await?;
    let engine = &context.options.engine;
    let larger = |one: Option<i64>, other: Option<i64>| Some(one?.max(other?));
    let between = Cgroup {
        cpu_shares: before.cpu_shares.max(after.cpu_shares),
        cpu_quota: larger(before.cpu_quota, after.cpu_quota),
        memory_limit: larger(before.memory_limit, after.memory_limit),
    };
    let set = async |cgroup: Cgroup| {
        let memo = engine.sandbox_memo(sandbox)?;
        engine
            .update_sandbox(sandbox, memo, Some(engine_resources(cgroup)))
            .await
    };
    if between != before {
        set(between).await.map_err(|e| e.to_string())?;
    }
    let mut containers = Vec::new();
    for change in changes {
        let updated = engine
            .update_resources(&change.id, engine_resources(change.cgroup))
            .await;
        updated.map_err(|e| format!("container {:?}: {e}", change.name))?;
        containers.push((change.name, change.id, change.resources));
    }
    if after != between {
        set(after).await.map_err(|e| e.to_string())?;
    }
    Ok(Resized {
        cgroup: after,
        containers,
    })
}

/// A limit below what is used already would end the program that uses it.
async fn check_memory(context: &Context, before: Cgroup, after: Cgroup, changes: &[Change]) -> Result<(), String> {
    let falls =
        |before: Option<i64>, after: Option<i64>| after.filter(|after| before.is_none_or(|before| *after < before));
    let mut used = 0;
    let mut errors = Vec::new();
    for change in changes {
        let usage = context.options.engine.usage(&change.id).await;
        let usage = usage.map_err(|e| format!("unable to read memory usage of container {:?}: {e}", change.name))?;
        used += usage.memory_usage;
        if let Some(limit) = falls(change.before, change.cgroup.memory_limit)
            && usage.memory_usage >= limit.unsigned_abs()
        {
            errors.push(format!(
                "attempting to set container {:?} memory limit ({limit}) below current usage ({})",
                change.name, usage.memory_usage
            ));
        }
    }
    if let Some(limit) = falls(before.memory_limit, after.memory_limit)
        && used >= limit.unsigned_abs()
    {
        errors.insert(
            0,
            format!("attempting to set pod memory limit ({limit}) below current usage ({used})"),
        );
    }
    match errors.as_slice() {
        [] => Ok(()),
        [one] => Err(format!("cannot decrease memory limits: {one}")),
        all => Err(format!("cannot decrease memory limits: [{}]", all.join(", "))),
    }
}
