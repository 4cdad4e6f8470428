//! Leases: which keys live on which, and when each ends.

use crate::LeaseId;
use bytes::Bytes;
use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

#[derive(Default)]
pub(crate) struct Leases {
    by_id: HashMap<LeaseId, Lease>,
    by_deadline: BTreeSet<(Duration, LeaseId)>,
}

struct Lease {
    ttl: Duration,
    deadline: Duration,
    keys: BTreeSet<Bytes>,
}

impl Leases {
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn contains(&self, id: LeaseId) -> bool {
        self.by_id.contains_key(&id)
    }

    pub fn grant(&mut self, id: LeaseId, ttl: Duration, now: Duration) {
        let deadline = now.saturating_add(ttl);
        let lease = self.by_id.entry(id).or_insert_with(|| Lease {
            ttl,
            deadline,
            keys: BTreeSet::new(),
        });
        self.by_deadline.remove(&(lease.deadline, id));
        lease.ttl = ttl;
        lease.deadline = deadline;
        self.by_deadline.insert((deadline, id));
    }

    /// Whether the lease exists; if so it has its whole time again.
    pub fn renew(&mut self, id: LeaseId, now: Duration) -> bool {
        let Some(ttl) = self.by_id.get(&id).map(|lease| lease.ttl) else {
            return false;
        };
        self.grant(id, ttl, now);
        true
    }

    pub fn remove(&mut self, id: LeaseId) {
        if let Some(lease) = self.by_id.remove(&id) {
            self.by_deadline.remove(&(lease.deadline, id));
        }
    }

    pub fn attach(&mut self, id: LeaseId, key: Bytes) {
        if let Some(lease) = self.by_id.get_mut(&id) {
            lease.keys.insert(key);
        }
    }

    pub fn detach(&mut self, id: LeaseId, key: &[u8]) {
        if let Some(lease) = self.by_id.get_mut(&id) {
            lease.keys.remove(key);
        }
    }

    /// Up to `most` keys of a lease.
    pub fn keys(&self, id: LeaseId, most: usize) -> Vec<Bytes> {
        let lease = self.by_id.get(&id);
        lease.map_or_else(Vec::new, |lease| lease.keys.iter().take(most).cloned().collect())
    }

    /// The lease that ends first, and when.
    pub fn first_deadline(&self) -> Option<(Duration, LeaseId)> {
        self.by_deadline.first().copied()
    }

    pub fn expired(&self, now: Duration, most: usize) -> Vec<LeaseId> {
        let due = self.by_deadline.iter().take_while(|(deadline, _)| *deadline <= now);
        due.take(most).map(|(_, id)| *id).collect()
    }

    /// Every lease with its time to live, in order of identity.
    pub fn list(&self) -> Vec<(LeaseId, Duration)> {
        let mut all: Vec<_> = self.by_id.iter().map(|(id, lease)| (*id, lease.ttl)).collect();
        all.sort_unstable();
        all
    }
}
