//! Making room: images that nothing uses go when the disk fills up.
//!
//! As the kubelet does it: above the high mark the least recently used images that are old
//! enough are removed until the low mark is reached.

use crate::{Digest, ImageError, ImageStore, Removed};
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

/// When room is made, and how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CollectPolicy {
    /// Percent of the disk in use from which on images are removed; 100 is never.
    pub high_percent: u8,
    /// Percent of the disk in use until which images are removed.
    pub low_percent: u8,
    /// An image fetched or used more recently stays.
    pub minimum_age: Duration,
    /// An image neither fetched nor used for longer goes, however empty the disk is.
    pub maximum_age: Option<Duration>,
}

impl Default for CollectPolicy {
    /// The kubelet's: 85, 80, two minutes.
    fn default() -> Self {
        Self {
            high_percent: 85,
            low_percent: 80,
            minimum_age: Duration::from_secs(120),
            maximum_age: None,
        }
    }
}

/// A disk's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskUsage {
    /// In all.
    pub capacity: u64,
    /// Of them, still to be had.
    pub available: u64,
}

/// What making room came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// What is gone.
    pub removed: Removed,
    /// Bytes that should have been freed and could not: everything else is in use or too new.
    pub missing: u64,
}

impl ImageStore {
    /// How full the disk of the store is.
    pub fn disk_usage(&self) -> Result<DiskUsage, ImageError> {
        let root = &self.inner.folder.root;
        let found = rustix::fs::statvfs(root).map_err(|errno| ImageError::io("look at", root)(errno.into()))?;
        Ok(DiskUsage {
            capacity: found.f_blocks.saturating_mul(found.f_frsize),
            available: found.f_bavail.saturating_mul(found.f_frsize),
        })
    }

    /// Makes room if the disk is fuller than it should be. Blocking.
    pub fn collect(&self, policy: &CollectPolicy) -> Result<Collected, ImageError> {
        let mut old = Removed::default();
        if let Some(age) = policy.maximum_age {
            for id in self.idle(age)? {
                self.remove_idle(&id, &mut old)?;
            }
        }
        let usage = self.disk_usage()?;
        let mut collected = self.collect_at(policy, usage)?;
        collected.removed.untagged.extend(old.untagged);
        collected.removed.deleted.extend(old.deleted);
        collected.removed.freed += old.freed;
        Ok(collected)
    }

    /// Removes an image unless it was taken into use or removed meanwhile.
    fn remove_idle(&self, id: &Digest, gone: &mut Removed) -> Result<(), ImageError> {
        match self.remove(&id.to_string()) {
            Ok(removed) => {
                gone.untagged.extend(removed.untagged);
                gone.deleted.extend(removed.deleted);
                gone.freed += removed.freed;
                Ok(())
            }
            Err(ImageError::InUse { .. } | ImageError::Absent(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// [`ImageStore::collect`] for a disk that is so full. Blocking.
    pub fn collect_at(&self, policy: &CollectPolicy, usage: DiskUsage) -> Result<Collected, ImageError> {
        let used = usage.capacity.saturating_sub(usage.available);
        let percent = |share: u8| usage.capacity / 100 * u64::from(share.min(100));
        let mut collected = Collected::default();
        if policy.high_percent >= 100 || used < percent(policy.high_percent) {
            return Ok(collected);
        }
        let wanted = used.saturating_sub(percent(policy.low_percent));
        collected.removed.freed = self.sweep()?;
        for id in self.idle(policy.minimum_age)? {
            if collected.removed.freed >= wanted {
                break;
            }
            self.remove_idle(&id, &mut collected.removed)?;
        }
        collected.missing = wanted.saturating_sub(collected.removed.freed);
        Ok(collected)
    }

    /// Images that nobody uses, the one unused for longest first.
    fn idle(&self, minimum_age: Duration) -> Result<Vec<Digest>, ImageError> {
        let folder = &self.inner.folder;
        let used: BTreeSet<Digest> = folder.leases()?.into_iter().map(|(_, lease)| lease.image).collect();
        let now = SystemTime::now();
        let mut found = Vec::new();
        for (id, record) in folder.read_index()?.images {
            let entered = SystemTime::UNIX_EPOCH + Duration::from_secs(record.entered);
            let last = folder.last_use(id)?.max(entered);
            // A moment in the future is a clock that was set back: such an image is new.
            let age = now.duration_since(last).unwrap_or_default();
            if !used.contains(&id) && age >= minimum_age {
                found.push((last, id));
            }
        }
        found.sort_unstable();
        Ok(found.into_iter().map(|(_, id)| id).collect())
    }
}
