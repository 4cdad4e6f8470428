//! The state of placement and every change to it. One thread owns it; it does no I/O.

use crate::{
    budgets::Budget,
    cluster::Cluster,
    configuration::{Configuration, Profile},
    cycle::{Decision, Framework, Refusal},
    framework::Event,
    metrics::Tried,
    node::Node,
    plugins::volume_binding,
    pod::Pod,
    preemption::{self, Preemption},
    queue::{Lengths, Queue},
    report::{Nomination, Report},
    storage::{Claim, Storage, VolumePlan},
    workloads::Workload,
};
use std::{
    cell::Cell,
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Instant,
};
use strata_meta::{ObjectKey, Selector, Uid};

pub(crate) struct Engine {
    profiles: Vec<(Profile, Framework)>,
    cluster: Cluster,
    queue: Queue,
    known: HashMap<ObjectKey, Arc<Pod>>,
    /// Placed by this engine; the API has not told of it yet.
    assumed: HashSet<Uid>,
    /// What is being done about the volumes of assumed pods.
    volumes: HashMap<Uid, VolumePlan>,
    /// Pods whose victims are being asked to go, and whether anything has happened since that
    /// may let them fit.
    evicting: HashMap<Uid, Cell<bool>>,
}

/// What is to be done about a pod.
pub(crate) enum Action {
    /// Bind it; answered by [`Engine::bound`] or [`Engine::unbound`].
    Bind {
        pod: Arc<Pod>,
        node: Arc<str>,
        /// What comes first.
        volumes: VolumePlan,
        tried: Tried,
    },
    /// Tell why it is not placed.
    Report(Report),
    /// Tell so, and remove the victims to make room; answered by [`Engine::evicted`].
    Preempt { report: Report, preemption: Preemption },
}

impl Engine {
    pub fn new(configuration: &Configuration) -> Self {
        let profiles = configuration.profiles.iter();
        Self {
            profiles: profiles.map(|profile| (profile.clone(), profile.framework())).collect(),
            cluster: Cluster::default(),
            queue: Queue::new(configuration.first_backoff, configuration.longest_backoff),
            known: HashMap::new(),
            assumed: HashSet::new(),
            volumes: HashMap::new(),
            evicting: HashMap::new(),
        }
    }

    pub fn lengths(&self) -> Lengths {
        self.queue.lengths()
    }

    /// How many nodes and placed pods there are, and how many of those the API has not told of yet.
    pub fn sizes(&self) -> (usize, usize, usize) {
        let pods = self.cluster.placed_count();
        (self.cluster.node_count(), pods, self.assumed.len())
    }

    /// How many pods fit nowhere, by profile and by plugin that says so.
    pub fn rejected(&self) -> Vec<(Box<str>, &'static str, usize)> {
        let mut counts: HashMap<(usize, &'static str), usize> = HashMap::new();
        for (pod, by) in self.queue.rejected() {
            if let Some(at) = self.profile(pod) {
                for plugin in self.profiles[at].1.names(by) {
                    *counts.entry((at, plugin)).or_default() += 1;
                }
            }
        }
        let named = counts.into_iter();
        named
            .map(|((at, plugin), count)| (self.profiles[at].0.name.clone(), plugin, count))
            .collect()
    }

    pub fn next_wakeup(&self) -> Option<Instant> {
        self.queue.next_wakeup()
    }

    /// Takes the present state of a node.
    pub fn set_node(&mut self, name: &str, node: Option<Arc<Node>>, now: Instant) {
        let old = self.cluster.node(name).and_then(|state| state.node.clone());
        self.cluster.set_node(name, node.clone());
        match (&old, &node) {
            (None, Some(new)) => self.wake(&Event::NodeAdded(new), now),
            (Some(old), Some(new)) if new.differs(old) => self.wake(&Event::NodeUpdated { old, new }, now),
            (Some(_), None) => self.wake(&Event::NodeRemoved, now),
            _ => {}
        }
    }

    /// Takes the present labels of a namespace.
    pub fn set_namespace(&mut self, name: &str, labels: Option<BTreeMap<String, String>>, now: Instant) {
        let old = match labels.clone() {
            Some(labels) => self.cluster.namespaces.insert(name.into(), labels),
            None => self.cluster.namespaces.remove(name),
        };
        if old != labels {
            self.wake(&Event::NamespaceRelabelled, now);
        }
    }

    pub fn set_workload(&mut self, kind: Workload, key: &ObjectKey, selector: Option<Selector>) {
        self.cluster.workloads.set(kind, key, selector);
    }

    /// Takes the present state of a pod.
    pub fn set_pod(&mut self, key: &ObjectKey, pod: Option<Arc<Pod>>, now: Instant) {
        let old = match &pod {
            Some(pod) => self.known.insert(key.clone(), pod.clone()),
            None => self.known.remove(key),
        };
        let same = |old: &&Arc<Pod>| pod.as_ref().is_none_or(|pod| pod.object.uid != old.object.uid);
        if let Some(gone) = old.as_ref().filter(same) {
            self.forget(&gone.object.uid, now);
        }
        let Some(pod) = pod else { return };
        let uid = pod.object.uid.clone();
        if pod.finished {
            self.forget(&uid, now);
        } else if !pod.node_name.is_empty() {
            self.pod_is_placed(pod, now);
        } else if !pod.deleting() && self.profile(&pod).is_some() {
            if !self.assumed.contains(&uid) {
                self.note_nomination(&pod);
                self.queue.set(pod, now);
            }
        } else {
            self.queue.remove(&uid);
            self.cluster.nominations.remove(&uid);
        }
    }

    /// Room that somebody else, or this scheduler in a former life, had made for the pod.
    fn note_nomination(&mut self, pod: &Arc<Pod>) {
        let nominations = &mut self.cluster.nominations;
        match (&pod.wish().nominated, nominations.node_of(&pod.object.uid).cloned()) {
            // What is known here is newer than what the API tells.
            (_, Some(node)) => nominations.set(pod.clone(), &node),
            (Some(node), None) if !self.queue.has_tried(&pod.object.uid) => nominations.set(pod.clone(), node),
            _ => {}
        }
    }

    fn pod_is_placed(&mut self, pod: Arc<Pod>, now: Instant) {
        let uid = &pod.object.uid;
        self.queue.remove(uid);
        self.assumed.remove(uid);
        self.cluster.nominations.remove(uid);
        let before = self.cluster.placed(uid).cloned();
        self.cluster.place(pod.clone());
        match before {
            None => self.wake(&Event::PodPlaced(&pod), now),
            Some(before) if before.node_name != pod.node_name || before.requests != pod.requests => {
                self.wake(&Event::PodFreed(&before), now);
            }
            Some(before) if before.deleting() != pod.deleting() || before.object.labels != pod.object.labels => {
                self.wake(&Event::PodRelabelled(&pod), now);
            }
            Some(_) => {}
        }
    }

    /// The pod uses nothing and waits for nothing.
    fn forget(&mut self, uid: &Uid, now: Instant) {
        self.queue.remove(uid);
        self.assumed.remove(uid);
        self.evicting.remove(uid);
        self.cluster.nominations.remove(uid);
        if let Some(freed) = self.cluster.remove(uid) {
            self.wake(&Event::PodFreed(&freed), now);
        }
    }

    fn wake(&mut self, event: &Event<'_>, now: Instant) {
        if self.queue.has_unschedulable() {
            let (profiles, cluster) = (&self.profiles, &self.cluster);
            let evicting = &self.evicting;
            self.queue.wake(now, |pod, by| {
                let mut framework = profiles
                    .iter()
                    .filter(|(profile, _)| profile.name == pod.scheduler_name);
                let helps = framework.any(|(_, framework)| framework.may_help(event, pod, by, cluster));
                let waits = evicting
                    .get(&pod.object.uid)
                    .inspect(|helped| helped.set(helped.get() || helps));
                helps && waits.is_none()
            });
        }
    }

    /// Decides about the next pod, if one is due.
    pub fn step(&mut self, now: Instant) -> Option<Action> {
        let pod = self.queue.pop(now)?;
        let at = self.profile(&pod)?;
        Some(match self.profiles[at].1.decide(&pod, &self.cluster) {
            Decision::Place(node) => self.place(pod, node, now, at),
            Decision::Refuse(refusal) => self.refuse(pod, refusal, now, at),
        })
    }

    /// Whose pod it is.
    fn profile(&self, pod: &Pod) -> Option<usize> {
        let mut profiles = self.profiles.iter();
        profiles.position(|(profile, _)| profile.name == pod.scheduler_name)
    }

    fn place(&mut self, pod: Arc<Pod>, node: Arc<str>, now: Instant, at: usize) -> Action {
        let uid = &pod.object.uid;
        let known = self.cluster.node(&node).and_then(|state| state.node.clone());
        let known = known.filter(|_| self.profiles[at].0.binds_volumes);
        let volumes = known.map_or_else(VolumePlan::default, |known| {
            volume_binding::plan(&pod, &self.cluster, &known)
        });
        if !volumes.is_empty() {
            self.cluster.storage.assume(&volumes, &node);
            self.volumes.insert(uid.clone(), volumes.clone());
        }
        self.cluster.nominations.remove(uid);
        self.assumed.insert(uid.clone());
        let placed = Arc::new(pod.placed_on(&node));
        self.cluster.place(placed.clone());
        self.wake(&Event::PodPlaced(&placed), now);
        let tried = self.queue.tried(uid, now);
        Action::Bind {
            pod,
            node,
            volumes,
            tried,
        }
    }

    fn refuse(&mut self, pod: Arc<Pod>, refusal: Refusal, now: Instant, at: usize) -> Action {
        let uid = pod.object.uid.clone();
        if refusal.failed {
            self.queue.retry(&uid, now);
            self.cluster.nominations.remove(&uid);
            return Action::Report(Report {
                pod,
                message: refusal.message,
                failed: true,
                nomination: Nomination::Clear,
            });
        }
        self.queue.reject(&uid, refusal.by, now);
        tracing::debug!(pod = %pod.object.key, by = ?self.profiles[at].1.names(refusal.by), "pod fits nowhere");
        let (profile, framework) = &self.profiles[at];
        if !profile.preempts {
            self.cluster.nominations.remove(&uid);
            return Action::Report(Report {
                pod,
                message: refusal.message,
                failed: false,
                nomination: Nomination::Clear,
            });
        }
        match preemption::plan(&pod, &refusal, framework, &self.cluster) {
            Ok(preemption) => {
                for other in &preemption.displaced {
                    self.cluster.nominations.remove(&other.object.uid);
                }
                self.cluster.nominations.set(pod.clone(), &preemption.node);
                self.evicting.insert(uid, Cell::new(false));
                let report = Report {
                    pod,
                    message: refusal.message,
                    failed: false,
                    nomination: Nomination::Set(preemption.node.clone()),
                };
                Action::Preempt { report, preemption }
            }
            Err(futile) => {
                let nomination = if futile.keeps_nomination {
                    Nomination::Keep
                } else {
                    self.cluster.nominations.remove(&uid);
                    Nomination::Clear
                };
                let message = format!("{} {}", refusal.message, futile.message).trim_end().to_owned();
                Action::Report(Report {
                    pod,
                    message,
                    failed: false,
                    nomination,
                })
            }
        }
    }

    /// The victims of a preemption for this pod have been asked to go. Until then it was not
    /// tried again, lest others be asked too.
    pub fn evicted(&mut self, uid: &Uid, now: Instant) {
        if self.evicting.remove(uid).is_some_and(|helped| helped.get()) {
            self.queue.wake(now, |pod, _| pod.object.uid == *uid);
        }
    }

    fn forget_volumes(&mut self, uid: &Uid) {
        if let Some(plan) = self.volumes.remove(uid) {
            self.cluster.storage.revert(&plan);
        }
    }

    pub fn set_budget(&mut self, key: &ObjectKey, budget: Option<Arc<Budget>>) {
        self.cluster.budgets.set(key, budget);
    }

    /// Takes the present state of a claim.
    pub fn set_claim(&mut self, key: &ObjectKey, claim: Option<Arc<Claim>>, now: Instant) {
        match claim {
            Some(claim) => self.cluster.storage.claims.insert(key.clone(), claim),
            None => self.cluster.storage.claims.remove(key),
        };
        self.wake(&Event::ClaimChanged(key), now);
    }

    /// Takes the present state of something else of storage.
    pub fn set_storage(&mut self, now: Instant, change: impl FnOnce(&mut Storage)) {
        change(&mut self.cluster.storage);
        self.wake(&Event::StorageChanged, now);
    }

    /// The binding was accepted.
    pub fn bound(&mut self, uid: &Uid) {
        self.forget_volumes(uid);
        self.queue.remove(uid);
    }

    /// The binding was not accepted, or nobody knows; the pod is tried again after its
    /// backoff, unless the API tells that it is gone or placed.
    pub fn unbound(&mut self, uid: &Uid, now: Instant) {
        self.forget_volumes(uid);
        if !self.assumed.remove(uid) {
            // The informer was faster and knows better.
            return;
        }
        if let Some(freed) = self.cluster.remove(uid) {
            self.wake(&Event::PodFreed(&freed), now);
            // Changes were held back while the pod was assumed to be placed.
            let latest = self.known.get(&freed.object.key);
            if let Some(latest) = latest.filter(|latest| latest.object.uid == *uid) {
                self.queue.set(latest.clone(), now);
            }
        }
        self.queue.retry(uid, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{node, placed, waiting};
    use serde_json::{Value, json};
    use std::time::Duration;

    struct Bench {
        engine: Engine,
        now: Instant,
    }

    impl Bench {
        fn new(nodes: &[&str]) -> Self {
            let engine = Engine::new(&Configuration::default());
            let mut bench = Self {
                engine,
                now: Instant::now(),
            };
            nodes
                .iter()
                .for_each(|name| bench.node(name, json!({"cpu": "2", "memory": "4Gi"})));
            bench
        }

        fn node(&mut self, name: &str, size: Value) {
            let node = Arc::new(node(name, json!({}), json!({}), size));
            self.engine.set_node(name, Some(node), self.now);
        }

        fn pod(&mut self, pod: Pod) -> Uid {
            let pod = Arc::new(pod);
            self.engine
                .set_pod(&pod.object.key.clone(), Some(pod.clone()), self.now);
            pod.object.uid.clone()
        }

        fn gone(&mut self, name: &str) {
            self.engine.set_pod(&ObjectKey::new("default", name), None, self.now);
        }

        /// `pod>node`, `pod: message`, or `pod>node! victims`.
        fn step(&mut self) -> Option<String> {
            Some(match self.engine.step(self.now)? {
                Action::Bind { pod, node, .. } => format!("{}>{node}", pod.object.name()),
                Action::Report(report) => format!("{}: {}", report.pod.object.name(), report.message),
                Action::Preempt { report, preemption } => {
                    let pod = &report.pod.object;
                    self.engine.evicted(&pod.uid, self.now);
                    let victims: Vec<_> = preemption.victims.iter().map(|victim| victim.object.name()).collect();
                    format!("{}>{}! {}", pod.name(), preemption.node, victims.join(" "))
                }
            })
        }
    }

    fn asks(cpu: &str) -> Value {
        json!({"containers": [{"resources": {"requests": {"cpu": cpu}}}]})
    }

    fn with_priority(priority: i32, cpu: &str) -> Value {
        let mut spec = asks(cpu);
        spec["priority"] = json!(priority);
        spec
    }

    #[test]
    fn an_assumed_pod_takes_its_room_before_the_api_tells_of_it() {
        let mut bench = Bench::new(&["n"]);
        bench.pod(waiting("a", json!({}), asks("1500m")));
        bench.pod(waiting("b", json!({}), asks("1")));
        assert_eq!(bench.step().as_deref(), Some("a>n"));
        let refused = bench.step().expect("b is decided");
        assert!(
            refused.starts_with("b: 0/1 nodes are available: 1 Insufficient cpu. preemption: "),
            "{refused}"
        );
        bench.engine.bound(&Uid::from("default-a"));
        bench.pod(placed("a", "n", json!({}), asks("1500m")));
        assert_eq!(bench.step(), None, "a status update of a helps nobody");
        bench.gone("a");
        assert_eq!(bench.step().as_deref(), Some("b>n"));
    }

    #[test]
    fn a_failed_binding_gives_the_room_back_and_is_tried_again() {
        let mut bench = Bench::new(&["n"]);
        let uid = bench.pod(waiting("a", json!({}), asks("2")));
        assert_eq!(bench.step().as_deref(), Some("a>n"));
        bench.engine.unbound(&uid, bench.now);
        assert_eq!(bench.step(), None, "not before its backoff");
        bench.now += Duration::from_secs(1);
        assert_eq!(bench.step().as_deref(), Some("a>n"));
        bench.gone("a");
        bench.engine.unbound(&uid, bench.now);
        bench.now += Duration::from_secs(60);
        assert_eq!(bench.step(), None, "a pod that is gone is not tried again");
    }

    #[test]
    fn pods_of_other_schedulers_and_those_being_deleted_are_left_alone() {
        let mut bench = Bench::new(&["n"]);
        bench.pod(waiting("a", json!({}), json!({"schedulerName": "mine"})));
        bench.pod(waiting("b", json!({}), json!({"schedulingGates": [{"name": "g"}]})));
        assert_eq!(bench.step(), None);
        bench.pod(waiting("b", json!({}), json!({})));
        assert_eq!(bench.step().as_deref(), Some("b>n"));
    }

    #[test]
    fn a_new_node_brings_waiting_pods_back() {
        let mut bench = Bench::new(&[]);
        bench.pod(waiting("a", json!({}), asks("1")));
        assert_eq!(bench.step().as_deref(), Some("a: no nodes available to schedule pods"));
        bench.node("n", json!({"cpu": "500m"}));
        let refused = bench.step().expect("tried at once");
        assert!(refused.contains("1 Insufficient cpu"), "{refused}");
        bench.node("n", json!({"cpu": "600m"}));
        assert_eq!(bench.step(), None, "still too small");
        bench.node("n", json!({"cpu": "1"}));
        assert_eq!(bench.step().as_deref(), Some("a>n"));
    }

    #[test]
    fn a_pod_recreated_under_its_name_is_another_pod() {
        let mut bench = Bench::new(&["n"]);
        bench.pod(placed("a", "n", json!({}), asks("2")));
        bench.pod(waiting("b", json!({}), asks("2")));
        assert!(bench.step().expect("decided").contains("Insufficient cpu"));
        let mut again = waiting("a", json!({}), asks("1"));
        let mut object = (*again.object).clone();
        object.uid = Uid::from("another");
        again.object = Arc::new(object);
        bench.pod(again);
        let steps: Vec<_> = std::iter::from_fn(|| bench.step()).collect();
        assert!(
            steps.contains(&"a>n".to_owned()) || steps.contains(&"b>n".to_owned()),
            "{steps:?}"
        );
    }

    #[test]
    fn a_more_important_pod_makes_room_with_the_fewest_and_least_important_victims() {
        let mut bench = Bench::new(&["n1", "n2"]);
        bench.pod(placed("low", "n1", json!({}), with_priority(1, "1")));
        bench.pod(placed("mid", "n1", json!({}), with_priority(5, "1")));
        bench.pod(placed("high", "n2", json!({}), with_priority(50, "2")));
        bench.pod(waiting("vip", json!({}), with_priority(100, "1")));
        assert_eq!(bench.step().as_deref(), Some("vip>n1! low"));
        bench.pod(waiting("later", json!({}), with_priority(2, "1")));
        let later = bench.step().expect("decided");
        assert!(
            later.starts_with("later: 0/2 nodes are available: 2 Insufficient cpu."),
            "{later}"
        );
        bench.gone("low");
        bench.now += Duration::from_secs(2);
        assert_eq!(bench.step().as_deref(), Some("vip>n1"), "the room is kept for it");
    }

    #[test]
    fn preemption_says_why_it_does_not_help() {
        let mut bench = Bench::new(&["n"]);
        bench.pod(placed("peer", "n", json!({}), with_priority(7, "2")));
        bench.pod(waiting("a", json!({}), with_priority(7, "1")));
        assert_eq!(
            bench.step().as_deref(),
            Some(
                "a: 0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
            )
        );
        let mut never = with_priority(9, "1");
        never["preemptionPolicy"] = json!("Never");
        bench.pod(waiting("b", json!({}), never));
        assert_eq!(
            bench.step().as_deref(),
            Some(
                "b: 0/1 nodes are available: 1 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never."
            )
        );
        bench.pod(waiting("c", json!({}), with_priority(9, "3")));
        assert_eq!(
            bench.step().as_deref(),
            Some(
                "c: 0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
            )
        );
    }
}
