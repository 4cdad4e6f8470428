//! Whether the cache shows what a controller did last, so that it is not done twice.

use std::{
    collections::{HashMap, HashSet},
    sync::Mutex,
    time::Duration,
};
use strata_meta::{ObjectKey, Revision, Uid};
use tokio::time::Instant;

/// After so long the cache is believed whatever it shows, as upstream does.
const EXPIRY: Duration = Duration::from_secs(300);
/// How soon to look again; the events that are waited for usually come first.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What was written on behalf of each owner and may not be in the cache yet.
#[derive(Default)]
pub(crate) struct Expectations {
    pending: Mutex<HashMap<ObjectKey, Pending>>,
}

struct Pending {
    /// The newest write.
    revision: Revision,
    /// Objects whose deletion was asked for.
    deleted: HashSet<Uid>,
    since: Instant,
}

impl Expectations {
    /// A write for `owner` was acknowledged at this revision.
    pub fn wrote(&self, owner: &ObjectKey, revision: Revision) {
        self.with(owner, |p| p.revision = p.revision.max(revision));
    }

    /// A deletion for `owner` is about to be asked for.
    pub fn deleting(&self, owner: &ObjectKey, uid: &Uid) {
        self.with(owner, |p| {
            p.deleted.insert(uid.clone());
        });
    }

    /// That deletion was refused.
    pub fn not_deleted(&self, owner: &ObjectKey, uid: &Uid) {
        self.with(owner, |p| {
            p.deleted.remove(uid);
        });
    }

    /// Whether a cache at `revision` shows everything. `gone` tells whether it shows an
    /// object as deleted or being deleted.
    pub fn are_met(&self, owner: &ObjectKey, revision: Revision, gone: impl Fn(&Uid) -> bool) -> bool {
        let mut pending = self.pending.lock().expect("no holder panics");
        let Some(expected) = pending.get_mut(owner) else {
            return true;
        };
        expected.deleted.retain(|uid| !gone(uid));
        let met = expected.revision <= revision && expected.deleted.is_empty();
        let met = met || expected.since.elapsed() > EXPIRY;
        if met {
            pending.remove(owner);
        }
        met
    }

    /// The owner is gone.
    pub fn forget(&self, owner: &ObjectKey) {
        self.pending.lock().expect("no holder panics").remove(owner);
    }

    fn with(&self, owner: &ObjectKey, change: impl FnOnce(&mut Pending)) {
        let mut pending = self.pending.lock().expect("no holder panics");
        let entry = pending.entry(owner.clone()).or_insert_with(|| Pending {
            revision: Revision(0),
            deleted: HashSet::new(),
            since: Instant::now(),
        });
        entry.since = Instant::now();
        change(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_and_deletions_are_waited_for() {
        let expectations = Expectations::default();
        let owner = ObjectKey::new("n", "rs");
        let uid = Uid::from("u");
        assert!(expectations.are_met(&owner, Revision(0), |_| false));
        expectations.wrote(&owner, Revision(7));
        expectations.deleting(&owner, &uid);
        assert!(!expectations.are_met(&owner, Revision(6), |_| true));
        expectations.deleting(&owner, &uid);
        assert!(!expectations.are_met(&owner, Revision(7), |_| false));
        assert!(expectations.are_met(&owner, Revision(7), |_| true));
        assert!(
            expectations.are_met(&owner, Revision(0), |_| false),
            "met once, forgotten"
        );
    }
}
