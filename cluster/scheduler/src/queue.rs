//! Pods that wait: those to try now, those in backoff, and those that fit nowhere until
//! something changes.

use crate::{framework::PluginSet, metrics::Tried, pod::Pod};
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};
use strata_meta::Uid;

/// A pod that fits nowhere is tried again after this even if nothing seems to have changed.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// The pods that wait, by priority and then by when they came.
#[derive(Default)]
pub(crate) struct Queue {
    waiting: HashMap<Uid, Waiting>,
    active: BinaryHeap<Active>,
    backoff: BinaryHeap<Reverse<Timed>>,
    /// Holds every unschedulable pod, and some that are so no longer.
    parked: HashSet<Uid>,
    next_ticket: u64,
    first_backoff: Duration,
    longest_backoff: Duration,
}

struct Waiting {
    pod: Arc<Pod>,
    place: Place,
    attempts: u32,
    rejected_by: PluginSet,
    failed: Option<Instant>,
    /// When it came, to be served in that order.
    arrival: u64,
    since: Instant,
}

/// Entries of the heaps count only while the pod is at the place with their ticket.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Active(u64),
    Backoff {
        ticket: u64,
        after_error: bool,
    },
    Unschedulable,
    Gated,
    /// Being decided or bound.
    InFlight,
}

struct Active {
    priority: i32,
    arrival: Reverse<u64>,
    ticket: u64,
    uid: Uid,
}

impl Active {
    fn rank(&self) -> (i32, Reverse<u64>, u64) {
        (self.priority, self.arrival, self.ticket)
    }
}

impl Ord for Active {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl PartialOrd for Active {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Active {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl Eq for Active {}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Timed {
    at: Instant,
    ticket: u64,
    uid: Uid,
}

/// How many pods are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lengths {
    pub active: usize,
    pub backoff: usize,
    pub unschedulable: usize,
    pub gated: usize,
}

impl Queue {
    /// A pod that was tried in vain waits for so long, and twice as long each time.
    pub fn new(first_backoff: Duration, longest_backoff: Duration) -> Self {
        Self {
            first_backoff,
            longest_backoff,
            ..Self::default()
        }
    }

    /// Takes a new pod, or the new state of one that waits.
    pub fn set(&mut self, pod: Arc<Pod>, now: Instant) {
        let uid = pod.object.uid.clone();
        let Some(waiting) = self.waiting.get_mut(&uid) else {
            let place = if pod.gated { Place::Gated } else { Place::InFlight };
            let arrival = self.ticket();
            let waiting = Waiting {
                pod,
                place,
                attempts: 0,
                rejected_by: PluginSet::default(),
                failed: None,
                arrival,
                since: now,
            };
            self.waiting.insert(uid.clone(), waiting);
            if place != Place::Gated {
                self.activate(&uid);
            }
            return;
        };
        let changed = waiting.pod.differs_in_wish(&pod);
        waiting.pod = pod;
        match waiting.place {
            _ if waiting.pod.gated => waiting.place = Place::Gated,
            Place::Gated | Place::Unschedulable if changed => self.activate(&uid),
            _ => {}
        }
    }

    /// How often a pod was tried, and since when.
    pub fn tried(&self, uid: &Uid, now: Instant) -> Tried {
        let tried = self.waiting.get(uid).map(|waiting| Tried {
            attempts: waiting.attempts,
            waited: now.saturating_duration_since(waiting.since),
        });
        tried.unwrap_or_default()
    }

    /// The pods that fit nowhere, with who says so.
    pub fn rejected(&self) -> impl Iterator<Item = (&Pod, PluginSet)> {
        self.unschedulable()
            .filter(|(_, waiting)| waiting.rejected_by != PluginSet::ALL)
            .map(|(_, waiting)| (&*waiting.pod, waiting.rejected_by))
    }

    /// Whether it has been decided about before.
    pub fn has_tried(&self, uid: &Uid) -> bool {
        self.waiting.get(uid).is_some_and(|waiting| waiting.attempts > 0)
    }

    pub fn remove(&mut self, uid: &Uid) {
        self.waiting.remove(uid);
    }

    /// The next pod to decide about; it stays in flight until one of the answers below.
    pub fn pop(&mut self, now: Instant) -> Option<Arc<Pod>> {
        self.wake_due(now);
        let uid = self.pop_active().or_else(|| self.pop_backoff())?;
        let waiting = self.waiting.get_mut(&uid)?;
        waiting.place = Place::InFlight;
        waiting.attempts += 1;
        Some(waiting.pod.clone())
    }

    fn pop_active(&mut self) -> Option<Uid> {
        while let Some(entry) = self.active.pop() {
            if self.place(&entry.uid) == Some(Place::Active(entry.ticket)) {
                return Some(entry.uid);
            }
        }
        None
    }

    /// With nothing else to do, a pod that something may have helped need not sit out its
    /// backoff; one that met an error must.
    fn pop_backoff(&mut self) -> Option<Uid> {
        let mut kept = Vec::new();
        let mut found = None;
        while let Some(Reverse(entry)) = self.backoff.pop() {
            match self.place(&entry.uid) {
                Some(Place::Backoff {
                    ticket,
                    after_error: false,
                }) if ticket == entry.ticket => {
                    found = Some(entry.uid);
                    break;
                }
                Some(Place::Backoff { ticket, .. }) if ticket == entry.ticket => kept.push(Reverse(entry)),
                _ => {}
            }
        }
        self.backoff.extend(kept);
        found
    }

    /// The pod fits nowhere; only what these plugins care about brings it back.
    pub fn reject(&mut self, uid: &Uid, by: PluginSet, now: Instant) {
        if let Some(waiting) = self.waiting.get_mut(uid) {
            waiting.rejected_by = by;
            waiting.failed = Some(now);
            waiting.place = if waiting.pod.gated {
                Place::Gated
            } else {
                Place::Unschedulable
            };
            self.parked.insert(uid.clone());
        }
    }

    /// Something went wrong; the pod is tried again after its backoff.
    pub fn retry(&mut self, uid: &Uid, now: Instant) {
        if let Some(waiting) = self.waiting.get_mut(uid) {
            waiting.failed = Some(now);
            self.back_off(uid, true);
        }
    }

    /// Brings back the pods that fit nowhere for which `helps` says so.
    pub fn wake(&mut self, now: Instant, helps: impl Fn(&Pod, PluginSet) -> bool) {
        let helped = |(_, waiting): &(&Uid, &Waiting)| helps(&waiting.pod, waiting.rejected_by);
        let woken: Vec<Uid> = self
            .unschedulable()
            .filter(helped)
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in woken {
            if self.backoff_end(&uid).is_some_and(|end| end > now) {
                self.back_off(&uid, false);
            } else {
                self.activate(&uid);
            }
        }
    }

    /// Whether any pod may need [`Queue::wake`].
    pub fn has_unschedulable(&mut self) -> bool {
        if !self.parked.is_empty() {
            let waiting = &self.waiting;
            let parked = |uid: &Uid| {
                waiting
                    .get(uid)
                    .is_some_and(|waiting| waiting.place == Place::Unschedulable)
            };
            self.parked.retain(parked);
        }
        !self.parked.is_empty()
    }

    fn unschedulable(&self) -> impl Iterator<Item = (&Uid, &Waiting)> {
        let held = self.parked.iter().filter_map(|uid| Some((uid, self.waiting.get(uid)?)));
        held.filter(|(_, waiting)| waiting.place == Place::Unschedulable)
    }

    /// When the queue next has something to do by itself.
    pub fn next_wakeup(&self) -> Option<Instant> {
        let backoff = self.backoff.peek().map(|Reverse(entry)| entry.at);
        let longest = self
            .unschedulable()
            .filter_map(|(_, waiting)| Some(waiting.failed? + LONGEST_WAIT))
            .min();
        backoff.into_iter().chain(longest).min()
    }

    pub fn lengths(&self) -> Lengths {
        let mut lengths = Lengths::default();
        for waiting in self.waiting.values() {
            match waiting.place {
                Place::Active(_) => lengths.active += 1,
                Place::Backoff { .. } => lengths.backoff += 1,
                Place::Unschedulable => lengths.unschedulable += 1,
                Place::Gated => lengths.gated += 1,
                Place::InFlight => {}
            }
        }
        lengths
    }

    fn wake_due(&mut self, now: Instant) {
        while self.backoff.peek().is_some_and(|Reverse(entry)| entry.at <= now) {
            let Some(Reverse(entry)) = self.backoff.pop() else {
                return;
            };
            if matches!(self.place(&entry.uid), Some(Place::Backoff { ticket, .. }) if ticket == entry.ticket) {
                self.activate(&entry.uid);
            }
        }
        if self.active.is_empty() {
            let old =
                |(_, waiting): &(&Uid, &Waiting)| waiting.failed.is_some_and(|failed| failed + LONGEST_WAIT <= now);
            let due: Vec<Uid> = self.unschedulable().filter(old).map(|(uid, _)| uid.clone()).collect();
            due.iter().for_each(|uid| self.activate(uid));
        }
    }

    fn place(&self, uid: &Uid) -> Option<Place> {
        self.waiting.get(uid).map(|waiting| waiting.place)
    }

    fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }

    fn activate(&mut self, uid: &Uid) {
        let ticket = self.ticket();
        if let Some(waiting) = self.waiting.get_mut(uid) {
            waiting.place = Place::Active(ticket);
            self.active.push(Active {
                priority: waiting.pod.priority,
                arrival: Reverse(waiting.arrival),
                ticket,
                uid: uid.clone(),
            });
        }
    }

    fn back_off(&mut self, uid: &Uid, after_error: bool) {
        let ticket = self.ticket();
        let Some(at) = self.backoff_end(uid) else { return };
        if let Some(waiting) = self.waiting.get_mut(uid) {
            waiting.place = Place::Backoff { ticket, after_error };
            let uid = uid.clone();
            self.backoff.push(Reverse(Timed { at, ticket, uid }));
        }
    }

    fn backoff_end(&self, uid: &Uid) -> Option<Instant> {
        let waiting = self.waiting.get(uid)?;
        let doubled = self
            .first_backoff
            .saturating_mul(1 << waiting.attempts.saturating_sub(1).min(10));
        Some(waiting.failed? + doubled.min(self.longest_backoff))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::waiting;
    use serde_json::{Value, json};

    fn queue(pods: &[(&str, Value)]) -> Queue {
        let mut queue = Queue::new(Duration::from_secs(1), Duration::from_secs(10));
        for (name, spec) in pods {
            queue.set(Arc::new(waiting(name, json!({}), spec.clone())), Instant::now());
        }
        queue
    }

    fn uid(name: &str) -> Uid {
        Uid::from(format!("default-{name}").as_str())
    }

    fn pop(queue: &mut Queue, now: Instant) -> Option<String> {
        queue.pop(now).map(|pod| pod.object.name().to_owned())
    }

    #[test]
    fn pods_come_by_priority_and_then_in_order() {
        let now = Instant::now();
        let mut queue = queue(&[
            ("a", json!({})),
            ("b", json!({"priority": 10})),
            ("c", json!({})),
            ("d", json!({"priority": 10})),
        ]);
        queue.remove(&uid("c"));
        let order: Vec<_> = std::iter::from_fn(|| pop(&mut queue, now)).collect();
        assert_eq!(order, ["b", "d", "a"]);
    }

    #[test]
    fn a_gated_pod_waits_for_its_gates() {
        let now = Instant::now();
        let mut queue = queue(&[("a", json!({"schedulingGates": [{"name": "g"}]}))]);
        assert_eq!(pop(&mut queue, now), None);
        assert_eq!(queue.lengths().gated, 1);
        queue.set(Arc::new(waiting("a", json!({}), json!({}))), Instant::now());
        assert_eq!(pop(&mut queue, now).as_deref(), Some("a"));
    }

    #[test]
    fn a_rejected_pod_comes_back_only_when_something_helps() {
        let now = Instant::now();
        let mut by = PluginSet::default();
        by.insert(2);
        let mut queue = queue(&[("a", json!({}))]);
        pop(&mut queue, now);
        queue.reject(&uid("a"), by, now);
        queue.wake(now, |_, by| by.contains(1));
        assert_eq!(pop(&mut queue, now + Duration::from_secs(60)), None);
        queue.wake(now + Duration::from_secs(60), |_, by| by.contains(2));
        assert_eq!(pop(&mut queue, now + Duration::from_secs(60)).as_deref(), Some("a"));
        queue.reject(&uid("a"), by, now);
        assert_eq!(queue.next_wakeup(), Some(now + LONGEST_WAIT));
        assert_eq!(
            pop(&mut queue, now + LONGEST_WAIT).as_deref(),
            Some("a"),
            "and at last without"
        );
    }

    #[test]
    fn a_helped_pod_skips_its_backoff_when_nothing_else_waits() {
        let now = Instant::now();
        let mut queue = queue(&[("a", json!({"priority": 5})), ("b", json!({}))]);
        assert_eq!(pop(&mut queue, now).as_deref(), Some("a"));
        queue.reject(&uid("a"), PluginSet::ALL, now);
        queue.wake(now, |_, _| true);
        assert_eq!(queue.lengths().backoff, 1);
        assert_eq!(pop(&mut queue, now).as_deref(), Some("b"), "others go first");
        assert_eq!(pop(&mut queue, now).as_deref(), Some("a"));
    }

    #[test]
    fn errors_back_off_longer_each_time_up_to_a_limit() {
        let mut now = Instant::now();
        let mut queue = queue(&[("a", json!({}))]);
        for seconds in [1, 2, 4, 8, 10, 10] {
            assert_eq!(pop(&mut queue, now).as_deref(), Some("a"));
            queue.retry(&uid("a"), now);
            assert_eq!(
                pop(
                    &mut queue,
                    now + Duration::from_secs(seconds) - Duration::from_millis(1)
                ),
                None
            );
            now += Duration::from_secs(seconds);
        }
    }

    #[test]
    fn a_changed_pod_is_tried_again_and_a_changed_status_is_not_a_change() {
        let now = Instant::now();
        let mut queue = queue(&[("a", json!({}))]);
        pop(&mut queue, now);
        queue.reject(&uid("a"), PluginSet::default(), now);
        queue.set(Arc::new(waiting("a", json!({}), json!({}))), Instant::now());
        assert_eq!(pop(&mut queue, now), None);
        queue.set(
            Arc::new(waiting("a", json!({"new": "label"}), json!({}))),
            Instant::now(),
        );
        assert_eq!(pop(&mut queue, now).as_deref(), Some("a"));
    }
}
