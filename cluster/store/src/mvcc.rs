//! The multi-version map in memory, shared by every store of this crate.
//!
//! Changes are applied before they are durable; readers look at the `durable` revision, so
//! they see a change only after [`Mvcc::publish`].

use crate::{Error, Event, EventKind, KeyValue, LeaseId, Range, RangeResult, lease::Leases};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
};
use strata_meta::Revision;

/// What an entry of history costs beside the value it keeps.
const ENTRY_BYTES: u64 = 64;

/// The revision of an empty store; 0 has a meaning of its own in the API.
pub(crate) const FIRST_REVISION: Revision = Revision(1);

pub(crate) struct Mvcc {
    items: BTreeMap<Bytes, Item>,
    /// Each change above the dropped history: its revision and its key.
    history: VecDeque<(Revision, Bytes)>,
    /// The last revision applied.
    revision: Revision,
    /// The last revision that readers see.
    durable: Revision,
    compacted: Revision,
    pins: Vec<Revision>,
    pub leases: Leases,
    live_keys: u64,
    live_bytes: u64,
    older_bytes: u64,
}

struct Item {
    current: Version,
    /// Superseded versions, oldest first.
    older: Vec<Version>,
}

/// A key's state from a revision on; no value means it was removed.
#[derive(Clone)]
struct Version {
    revision: Revision,
    created: Revision,
    value: Option<Bytes>,
    lease: Option<LeaseId>,
}

impl Item {
    fn at(&self, at: Revision) -> Option<&Version> {
        if self.current.revision <= at {
            return Some(&self.current);
        }
        self.older.iter().rev().find(|version| version.revision <= at)
    }
}

impl Version {
    fn key_value(&self, key: &Bytes) -> Option<KeyValue> {
        Some(KeyValue {
            key: key.clone(),
            value: self.value.clone()?,
            create_revision: self.created,
            mod_revision: self.revision,
            lease: self.lease,
        })
    }

    fn bytes(&self) -> u64 {
        ENTRY_BYTES + self.value.as_ref().map_or(0, |value| value.len() as u64)
    }
}

impl Mvcc {
    pub fn new() -> Self {
        Self {
            items: BTreeMap::new(),
            history: VecDeque::new(),
            revision: FIRST_REVISION,
            durable: FIRST_REVISION,
            compacted: FIRST_REVISION,
            pins: Vec::new(),
            leases: Leases::default(),
            live_keys: 0,
            live_bytes: 0,
            older_bytes: 0,
        }
    }

    /// An empty map that begins at a snapshot's revision, to be filled by [`Mvcc::load`].
    pub fn at_snapshot(revision: Revision) -> Self {
        Self {
            revision,
            durable: revision,
            compacted: revision,
            ..Self::new()
        }
    }

    /// Takes an item of a snapshot; it makes no history.
    pub fn load(&mut self, item: KeyValue) {
        self.live_keys += 1;
        self.live_bytes += (item.key.len() + item.value.len()) as u64;
        if let Some(lease) = item.lease {
            self.leases.attach(lease, item.key.clone());
        }
        let current = Version {
            revision: item.mod_revision,
            created: item.create_revision,
            value: Some(item.value),
            lease: item.lease,
        };
        let older = Vec::new();
        self.items.insert(item.key, Item { current, older });
    }

    /// The revision the next change gets.
    pub fn next_revision(&self) -> Revision {
        Revision(self.revision.0 + 1)
    }

    pub fn revision(&self) -> Revision {
        self.revision
    }

    pub fn durable(&self) -> Revision {
        self.durable
    }

    pub fn compacted(&self) -> Revision {
        self.compacted
    }

    pub fn live_keys(&self) -> u64 {
        self.live_keys
    }

    pub fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    pub fn history_bytes(&self) -> u64 {
        self.older_bytes + self.history.len() as u64 * ENTRY_BYTES
    }

    /// Lets readers see everything applied so far.
    pub fn publish(&mut self) {
        self.durable = self.revision;
    }

    /// The latest state of a key, durable or not: what the writer decides by.
    pub fn latest(&self, key: &[u8]) -> Option<KeyValue> {
        let (key, item) = self.items.get_key_value(key)?;
        item.current.key_value(key)
    }

    /// Writes at [`Mvcc::next_revision`].
    pub fn put(&mut self, key: Bytes, value: Bytes, lease: Option<LeaseId>) -> Revision {
        let revision = self.next_revision();
        let version = Version {
            revision,
            created: revision,
            value: Some(value),
            lease,
        };
        self.change(key, version);
        revision
    }

    /// Removes at [`Mvcc::next_revision`]; the key must have a value.
    pub fn delete(&mut self, key: Bytes) -> Revision {
        let revision = self.next_revision();
        let version = Version {
            revision,
            created: Revision(0),
            value: None,
            lease: None,
        };
        self.change(key, version);
        revision
    }

    fn change(&mut self, key: Bytes, mut version: Version) {
        self.revision = version.revision;
        let (added, lease) = (version.value.as_ref().map(Bytes::len), version.lease);
        let key_bytes = key.len() as u64;
        let found = self
            .items
            .range_mut::<[u8], _>((Bound::Included(&key[..]), Bound::Included(&key[..])))
            .next();
        let key = if let Some((own_key, item)) = found {
            if let Some(old) = &item.current.value {
                self.live_keys -= 1;
                self.live_bytes -= key_bytes + old.len() as u64;
                if version.value.is_some() {
                    version.created = item.current.created;
                }
            }
            if let Some(old) = item.current.lease {
                self.leases.detach(old, own_key);
            }
            self.older_bytes += item.current.bytes();
            item.older.push(std::mem::replace(&mut item.current, version));
            own_key.clone()
        } else {
            let older = Vec::new();
            self.items.insert(
                key.clone(),
                Item {
                    current: version,
                    older,
                },
            );
            key
        };
        if let Some(value_bytes) = added {
            self.live_keys += 1;
            self.live_bytes += key_bytes + value_bytes as u64;
        }
        if let Some(lease) = lease {
            self.leases.attach(lease, key.clone());
        }
        self.history.push_back((self.revision, key));
    }

    /// Checks that a revision can be read; `None` is the latest durable one.
    pub fn readable(&self, at: Option<Revision>) -> Result<Revision, Error> {
        let at = at.unwrap_or(self.durable);
        if at > self.durable {
            return Err(Error::FutureRevision {
                requested: at,
                current: self.durable,
            });
        }
        if at < self.compacted {
            return Err(Error::Compacted {
                compacted: self.compacted,
            });
        }
        Ok(at)
    }

    pub fn get(&self, key: &[u8], at: Option<Revision>) -> Result<Option<KeyValue>, Error> {
        let at = self.readable(at)?;
        let found = self.items.get_key_value(key);
        Ok(found.and_then(|(key, item)| item.at(at)?.key_value(key)))
    }

    pub fn range(&self, range: &Range) -> Result<RangeResult, Error> {
        let at = self.readable(range.at)?;
        let mut live = self.live(&range.start, &range.end, at);
        let most = if range.limit == 0 { usize::MAX } else { range.limit };
        let items: Vec<_> = live.by_ref().take(most).collect();
        let remaining = if range.limit == 0 { 0 } else { live.count() as u64 };
        Ok(RangeResult {
            items,
            revision: at,
            more: remaining > 0,
            remaining,
        })
    }

    /// Up to `most` items from `start` on as of a pinned revision.
    pub fn pinned_items(&self, start: Bound<&[u8]>, at: Revision, most: usize) -> Vec<KeyValue> {
        let tail = self.items.range::<[u8], _>((start, Bound::Unbounded));
        tail.filter_map(|(key, item)| item.at(at)?.key_value(key))
            .take(most)
            .collect()
    }

    fn live<'a>(&'a self, start: &'a [u8], end: &'a [u8], at: Revision) -> impl Iterator<Item = KeyValue> + 'a {
        let upper = if end.is_empty() {
            Bound::Unbounded
        } else {
            Bound::Excluded(end)
        };
        // An inverted interval is empty; BTreeMap would panic on it.
        let start = if !end.is_empty() && start > end { end } else { start };
        let tail = self.items.range::<[u8], _>((Bound::Included(start), upper));
        tail.filter_map(move |(key, item)| item.at(at)?.key_value(key))
    }

    /// Up to `most` durable events of an interval after `from`, and the revision they reach to.
    /// The caller has checked `from` against [`Mvcc::compacted`].
    pub fn events(&self, start: &[u8], end: &[u8], from: Revision, most: usize) -> (Vec<Event>, Revision) {
        let first = self.history.partition_point(|(revision, _)| *revision <= from);
        let mut events = Vec::new();
        for (revision, key) in self.history.range(first..) {
            if *revision > self.durable {
                break;
            }
            if events.len() >= most {
                return (events, Revision(revision.0 - 1));
            }
            if key[..] >= *start && (end.is_empty() || key[..] < *end) {
                events.extend(self.event(*revision, key));
            }
        }
        (events, self.durable)
    }

    fn event(&self, revision: Revision, key: &Bytes) -> Option<Event> {
        let item = self.items.get(key)?;
        let version = item.at(revision)?;
        let previous = item
            .at(Revision(revision.0 - 1))
            .and_then(|version| version.key_value(key));
        let kind = if version.value.is_some() {
            EventKind::Put
        } else {
            EventKind::Delete
        };
        let removed = || KeyValue {
            key: key.clone(),
            value: Bytes::new(),
            create_revision: previous
                .as_ref()
                .map_or(Revision(0), |previous| previous.create_revision),
            mod_revision: revision,
            lease: None,
        };
        let item = version.key_value(key).unwrap_or_else(removed);
        Some(Event { kind, item, previous })
    }

    /// Forgets history before `revision`, except what is pinned.
    pub fn compact(&mut self, revision: Revision) {
        self.compacted = self.compacted.max(revision);
        let limit = self.pins.iter().copied().fold(self.compacted, Revision::min);
        while self.history.front().is_some_and(|(revision, _)| *revision <= limit) {
            if let Some((_, key)) = self.history.pop_front() {
                self.trim(key, limit);
            }
        }
        if self.history.capacity() > 1024 && self.history.len() < self.history.capacity() / 4 {
            self.history.shrink_to(self.history.len() * 2);
        }
    }

    /// Drops what nobody can read at or after `limit`.
    fn trim(&mut self, key: Bytes, limit: Revision) {
        let Some(item) = self.items.get_mut(&key) else { return };
        if item.current.revision <= limit {
            self.older_bytes -= item.older.iter().map(Version::bytes).sum::<u64>();
            item.older = Vec::new();
            if item.current.value.is_none() {
                self.items.remove(&key);
            }
            return;
        }
        let visible = item.older.partition_point(|version| version.revision <= limit);
        let removed = visible > 0 && item.older[visible - 1].value.is_none();
        let drop = if removed { visible } else { visible.saturating_sub(1) };
        self.older_bytes -= item.older.drain(..drop).map(|version| version.bytes()).sum::<u64>();
    }

    /// Drops the oldest durable history while it takes more than `most` bytes.
    pub fn bound_history(&mut self, most: u64) {
        while self.history_bytes() > most {
            let oldest_part = self.history.len() / 8;
            let Some((revision, _)) = self.history.get(oldest_part) else {
                return;
            };
            let limit = (*revision).min(self.durable);
            if limit <= self.compacted {
                return;
            }
            tracing::debug!(revision = limit.0, "dropping history beyond its limit");
            self.compact(limit);
        }
    }

    /// Moves to a higher revision without a change; what was before is not readable.
    pub fn raise(&mut self, by: u64) {
        self.revision.0 += by;
        self.compacted = self.revision;
    }

    /// Keeps the versions of the durable revision until [`Mvcc::unpin`].
    pub fn pin(&mut self) -> Revision {
        self.pins.push(self.durable);
        self.durable
    }

    pub fn unpin(&mut self, revision: Revision) {
        if let Some(at) = self.pins.iter().position(|pin| *pin == revision) {
            self.pins.swap_remove(at);
        }
        self.compact(self.compacted);
    }
}
