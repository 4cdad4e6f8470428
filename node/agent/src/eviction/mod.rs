//! A node that runs short of something: pods go before the kernel chooses, and the node says so.
//!
//! `threshold.rs` decides what the node is short of, `rank.rs` who goes, `limits.rs` who holds more than
//! allowed; `observe.rs` and `usage.rs` look; this file acts.

mod limits;
mod observe;
mod rank;
mod threshold;
mod usage;

pub use observe::{Disk, PodsMemory, Processes};
pub use threshold::{Pressure, Signal, Threshold, thresholds};
use usage::pod_use;
pub use usage::volumes;

use crate::{
    admission::Refusal,
    context::{Context, node_reference, pod_reference},
    orders::{self, Order},
    planner::Ended,
    pod::Pod,
    resources::{self, Qos},
};
use rank::Candidate;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use strata_client::{EventType, Informer};
use strata_image::CollectPolicy;
use strata_meta::{Uid, placement::Taint};
use strata_task::CancellationToken;
use threshold::{History, Observations};

/// Between two looks (upstream: evictionMonitoringPeriod).
const PERIOD: Duration = Duration::from_secs(10);
/// How long an evicted pod may take to go before the next one is chosen (upstream: podCleanupTimeout).
const CLEANUP: Duration = Duration::from_secs(30);
/// Grace of a pod that must go at once, in seconds.
const IMMEDIATE: u64 = 1;
/// A pod whose files take long to count is looked at so many times more seldom.
const WALK_SHARE: u32 = 20;

/// Whether pressure on the node forbids a pod to begin here (upstream's admission handler); why, if so.
pub fn refuses(pressures: &[Pressure], pod: &Pod) -> Option<Refusal> {
    if pressures.is_empty() || pod.is_critical() {
        return None;
    }
    let taint = Taint {
        key: "node.kubernetes.io/memory-pressure".into(),
        effect: "NoSchedule".into(),
        ..Taint::default()
    };
    if pressures == [Pressure::Memory]
        && (resources::qos_class(pod) != Qos::BestEffort || taint.tolerated_by(&pod.spec.tolerations))
    {
        return None;
    }
    let names: Vec<&str> = pressures.iter().map(|p| p.as_str()).collect();
    Some(Refusal {
        reason: "Evicted".into(),
        message: format!("The node had condition: [{}]. ", names.join(" ")),
        by_labels: false,
    })
}

/// Watches a node and evicts its pods.
pub struct Evictor {
    context: Arc<Context>,
    pods: Informer<Pod>,
    thresholds: Vec<Threshold>,
    history: History,
    /// Pods that were told to go.
    told: HashMap<Uid, Instant>,
    /// When a pod's files are counted next.
    next_walk: HashMap<Uid, Instant>,
    /// Whether images have a disk of their own.
    apart: bool,
}

impl Evictor {
    /// Of the pods that informer shows.
    pub fn new(context: Arc<Context>, pods: Informer<Pod>, thresholds: Vec<Threshold>) -> Self {
        let options = &context.options;
        let apart = observe::apart(&options.pods_dir, &options.image_dir);
        Self {
            pods,
            thresholds,
            history: History::default(),
            told: HashMap::new(),
            next_walk: HashMap::new(),
            apart,
            context,
        }
    }

    /// Runs until cancelled.
    pub async fn run(mut self, cancel: CancellationToken) {
        let isolation = self.context.options.configuration.local_storage_capacity_isolation;
        if self.thresholds.is_empty() && !isolation {
            return;
        }
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let gone = cancel.run_until_cancelled(self.look()).await;
            match gone {
                None => return,
                Some(evicted) if !evicted.is_empty() => {
                    if cancel
                        .run_until_cancelled(orders::gone(&self.context.options.engine, &evicted, CLEANUP))
                        .await
                        .is_none()
                    {
                        return;
                    }
                    ticks.reset_immediately();
                }
                Some(_) => {}
            }
        }
    }

    /// One look; the pods that were told to go.
    async fn look(&mut self) -> Vec<Uid> {
        let now = Instant::now();
        let active = self.active();
        let observations = self.observe().await;
        let transition = self
            .context
            .options
            .configuration
            .eviction_pressure_transition_period
            .get();
        let verdict = self.history.look(&self.thresholds, &observations, transition, now);
        let pressures = verdict.pressures.clone();
        self.context.state.send_if_modified(|state| {
            let changed = state.pressures != pressures;
            state.pressures = pressures;
            changed
        });
        if self.context.options.configuration.local_storage_capacity_isolation {
            let gone = self.enforce_limits(&active).await;
            if !gone.is_empty() {
                return gone;
            }
        }
        let Some(threshold) = verdict.thresholds.first().copied() else {
            return Vec::new();
        };
        let resource = threshold.signal.resource();
        let message = format!("Attempting to reclaim {resource}");
        let about = node_reference(&self.context);
        self.context
            .events
            .event(&about, EventType::Warning, "EvictionThresholdMet", message);
        if self.reclaim(threshold).await {
            return Vec::new();
        }
        self.evict_one(active, &threshold, &observations)
            .await
            .into_iter()
            .collect()
    }

    /// Pods that have not ended and were not told to.
    fn active(&mut self) -> Vec<Arc<Pod>> {
        let all: Vec<Arc<Pod>> = self.pods.list().into_iter().map(|(_, pod)| pod).collect();
        let known = |uid: &Uid| all.iter().any(|pod| pod.metadata.uid == *uid);
        self.told.retain(|uid, _| known(uid));
        self.next_walk.retain(|uid, _| known(uid));
        let told = &self.told;
        all.iter()
            .filter(|pod| !pod.is_finished() && !told.contains_key(&pod.metadata.uid))
            .cloned()
            .collect()
    }

    async fn observe(&self) -> Observations {
        let options = &self.context.options;
        let pods = if self
            .thresholds
            .iter()
            .any(|t| t.signal == Signal::AllocatableMemoryAvailable)
        {
            let used = options
                .engine
                .cgroup_usage(&crate::cgroups::root(&options.cgroup_root))
                .await;
            let used = used.ok().map(|stats| stats.memory_working_set);
            let limit = crate::cgroups::memory_of_pods(&options.configuration, &self.context.facts);
            used.map(|used| PodsMemory { used, limit })
        } else {
            None
        };
        let (pods_dir, image_dir) = (options.pods_dir.clone(), options.image_dir.clone());
        let looked = tokio::task::spawn_blocking(move || observe::observe(&pods_dir, &image_dir, pods));
        looked.await.unwrap_or_else(|_| Observations::new())
    }

    async fn enforce_limits(&mut self, active: &[Arc<Pod>]) -> Vec<Uid> {
        let mut gone = Vec::new();
        for pod in active.iter().filter(|pod| limits::is_limited(pod)) {
            let began = Instant::now();
            let uid = &pod.metadata.uid;
            if self.next_walk.get(uid).is_some_and(|at| *at > began) {
                continue;
            }
            let used = pod_use(&self.context, pod, true).await;
            let took = began.elapsed();
            self.next_walk.insert(uid.clone(), began + took * WALK_SHARE);
            if let Some(message) = limits::violation(pod, &used, self.apart)
                && self.evict(pod, message, IMMEDIATE, false).await
            {
                gone.push(uid.clone());
            }
        }
        gone
    }

    /// Makes room without ending a pod, if that is possible; whether it was enough.
    async fn reclaim(&self, threshold: Threshold) -> bool {
        let of_images = matches!(threshold.signal, Signal::ImageFsAvailable | Signal::ImageFsInodesFree);
        if threshold.signal.pressure() != Pressure::Disk || (self.apart && !of_images) {
            return false;
        }
        let store = self.context.options.images.clone();
        let everything = CollectPolicy {
            high_percent: 0,
            low_percent: 0,
            minimum_age: Duration::ZERO,
            maximum_age: None,
        };
        let done = tokio::task::spawn_blocking(move || store.collect(&everything)).await;
        match done {
            Ok(Ok(done)) => {
                tracing::info!(images = ?done.removed.untagged, freed = done.removed.freed, "removed unused images, for the disk is full")
            }
            Ok(Err(error)) => tracing::warn!(%error, "unused images could not be removed"),
            Err(error) => tracing::warn!(%error, "removing unused images ended early"),
        }
        !threshold::any_met(&self.thresholds, &self.observe().await)
    }

    async fn evict_one(&mut self, active: Vec<Arc<Pod>>, why: &Threshold, observations: &Observations) -> Option<Uid> {
        let disks = why.signal.pressure() == Pressure::Disk;
        let mut candidates = Vec::new();
        for pod in active {
            let used = pod_use(&self.context, &pod, disks).await;
            // Only what has begun here can be made to give anything back.
            if !used.containers.is_empty() {
                candidates.push(Candidate { pod, used });
            }
        }
        rank::rank(why.signal, self.apart, &mut candidates);
        for candidate in candidates {
            let longest = u64::from(self.context.options.configuration.eviction_max_pod_grace_period);
            let own = candidate.pod.spec.termination_grace_period_seconds;
            let grace = match why.grace.is_zero() {
                true => IMMEDIATE,
                false => own.map_or(longest, |own| longest.min(own.max(0).unsigned_abs())),
            };
            let message = rank::message(why, observations, &candidate);
            if self.evict(&candidate.pod, message, grace, true).await {
                return Some(candidate.pod.metadata.uid.clone());
            }
        }
        tracing::warn!(resource = why.signal.resource(), "short, and no pod can be evicted");
        None
    }

    /// Tells a pod to go; not one that the system cannot do without.
    async fn evict(&mut self, pod: &Arc<Pod>, message: String, grace: u64, disruption: bool) -> bool {
        if pod.is_critical() {
            return false;
        }
        let about = pod_reference(pod);
        self.context
            .events
            .event(&about, EventType::Warning, "Evicted", message.clone());
        tracing::info!(pod = pod.full_name(), why = message.trim_end(), "evicting a pod");
        let ended = Ended {
            reason: "Evicted".into(),
            message,
            grace_seconds: Some(grace),
            disruption,
            ..Ended::default()
        };
        let uid = pod.metadata.uid.clone();
        self.told.insert(uid.clone(), Instant::now());
        self.context.orders.send(Order { uid, ended }).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pressure_keeps_out_those_whom_it_concerns() {
        let pod = |spec: serde_json::Value| -> Pod { serde_json::from_value(json!({ "spec": spec })).expect("a pod") };
        let best_effort = pod(json!({"containers": [{"name": "c"}]}));
        let request = json!({"requests": {"memory": "1Mi"}});
        let burstable = pod(json!({"containers": [{"name": "c", "resources": request}]}));
        let tolerant = json!([{"key": "node.kubernetes.io/memory-pressure", "operator": "Exists"}]);
        let tolerant = pod(json!({"containers": [{"name": "c"}], "tolerations": tolerant}));
        let critical = pod(json!({"containers": [{"name": "c"}], "priority": 2_000_000_000}));
        let (memory, disk) = ([Pressure::Memory], [Pressure::Disk]);
        assert!(refuses(&[], &best_effort).is_none());
        let told = refuses(&memory, &best_effort).expect("refused");
        assert_eq!(told.message, "The node had condition: [MemoryPressure]. ");
        assert!(refuses(&memory, &burstable).is_none() && refuses(&memory, &tolerant).is_none());
        assert!(refuses(&disk, &burstable).is_some() && refuses(&disk, &tolerant).is_some());
        assert!(refuses(&disk, &critical).is_none());
    }
}
