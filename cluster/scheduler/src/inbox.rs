//! What the engine has to look at: names of changed objects, each held once, so that the
//! inbox is never larger than the cluster.

use crate::{informers::StorageKind, workloads::Workload};
use std::{
    collections::HashSet,
    hash::Hash,
    sync::{Condvar, Mutex, MutexGuard},
    time::Instant,
};
use strata_meta::{ObjectKey, Uid};

const UNPOISONED: &str = "no code panics while it holds the inbox";

#[derive(Default)]
pub(crate) struct Inbox {
    mail: Mutex<Mail>,
    arrived: Condvar,
}

#[derive(Default)]
pub(crate) struct Mail {
    pub nodes: Changed<ObjectKey>,
    pub namespaces: Changed<ObjectKey>,
    pub workloads: Changed<(Workload, ObjectKey)>,
    pub pods: Changed<ObjectKey>,
    pub budgets: Changed<ObjectKey>,
    pub claims: Changed<ObjectKey>,
    pub storage: Changed<(StorageKind, ObjectKey)>,
    /// Bounded by the number of bindings in flight.
    pub bound: Vec<Bound>,
    /// Reports that were written, by number.
    pub reported: usize,
    /// Pods for whose room the victims have been asked to go.
    pub evicted: Vec<Uid>,
    pub stop: bool,
}

/// What became of a binding.
pub(crate) struct Bound {
    pub uid: Uid,
    pub accepted: bool,
    /// Whether it waited for volumes, and so did not count as being in flight.
    pub waited: bool,
}

/// Things in the order they changed, each once.
pub(crate) struct Changed<T> {
    order: Vec<T>,
    held: HashSet<T>,
}

impl<T> Default for Changed<T> {
    fn default() -> Self {
        let (order, held) = (Vec::new(), HashSet::new());
        Self { order, held }
    }
}

impl<T: Clone + Eq + Hash> Changed<T> {
    pub fn add(&mut self, changed: T) {
        if self.held.insert(changed.clone()) {
            self.order.push(changed);
        }
    }

    pub fn into_order(self) -> Vec<T> {
        self.order
    }
}

impl Mail {
    fn is_empty(&self) -> bool {
        let nothing_changed = self.nodes.order.is_empty() && self.namespaces.order.is_empty();
        let none = nothing_changed && self.workloads.order.is_empty() && self.pods.order.is_empty();
        let none =
            none && self.budgets.order.is_empty() && self.claims.order.is_empty() && self.storage.order.is_empty();
        none && self.bound.is_empty() && self.evicted.is_empty() && self.reported == 0 && !self.stop
    }
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().expect(UNPOISONED)
    }

    pub fn post(&self, write: impl FnOnce(&mut Mail)) {
        write(&mut self.lock());
        self.arrived.notify_one();
    }

    /// What has arrived; waits for something until `until`, or not at all.
    pub fn take(&self, wait: bool, until: Option<Instant>) -> Mail {
        let mut mail = self.lock();
        while wait && mail.is_empty() {
            mail = match until {
                None => self.arrived.wait(mail).expect(UNPOISONED),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    let (mut mail, waited) = self.arrived.wait_timeout(mail, left).expect(UNPOISONED);
                    if waited.timed_out() {
                        return std::mem::take(&mut *mail);
                    }
                    mail
                }
            };
        }
        std::mem::take(&mut *mail)
    }
}
