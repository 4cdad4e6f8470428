//! The contract that every store keeps.

use crate::{Error, WatchStream};
use bytes::Bytes;
use futures::future::BoxFuture;
use std::{io, sync::Arc, time::Duration, time::Instant};
use strata_meta::Revision;

/// An ordered map of opaque keys to opaque values with a history.
///
/// Every change gets a revision of its own, one higher than the last; revisions never go
/// back. What a method returns is durable: a reader never sees a change that a crash could
/// still undo.
pub trait Store: Send + Sync + 'static {
    /// The value of a key now, or at a revision in the past.
    /// Errors: `Compacted`, `FutureRevision`.
    fn get(&self, key: &[u8], at: Option<Revision>) -> BoxFuture<'_, Result<Option<KeyValue>, Error>>;

    /// The items of an interval of keys, in order of key, from one revision.
    /// Errors: `Compacted`, `FutureRevision`.
    fn range(&self, range: Range) -> BoxFuture<'_, Result<RangeResult, Error>>;

    /// Writes a value if the expectation holds; durable once it resolves.
    /// Errors: `Conflict`, `LeaseNotFound`, `TooLarge`, `Full`, `Closed`.
    fn put(
        &self,
        key: Bytes,
        value: Bytes,
        expect: Expect,
        lease: Option<LeaseId>,
    ) -> BoxFuture<'_, Result<Revision, Error>>;

    /// Removes a key if the expectation holds; `None` if there was none. Works on a full disk
    /// for as long as the reserved space lasts. Errors: `Conflict`, `Full`, `Closed`.
    fn delete(&self, key: &[u8], expect: Expect) -> BoxFuture<'_, Result<Option<(Revision, KeyValue)>, Error>>;

    /// Events of an interval of keys with a revision above `from`, in order, without gaps or
    /// repeats. An empty `end` means no upper bound. A watcher that falls behind the kept
    /// history gets `SlowWatcher` and the stream ends. Errors: `Compacted`, `FutureRevision`.
    fn watch(&self, start: Bytes, end: Bytes, from: Revision) -> BoxFuture<'_, Result<WatchStream, Error>>;

    /// Forgets the history before a revision. Errors: `Compacted`, `FutureRevision`.
    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<(), Error>>;

    /// Makes a lease; keys put with it vanish when it is not renewed within `ttl`. A restart
    /// of the store gives every lease its whole `ttl` again.
    fn lease_grant(&self, ttl: Duration) -> BoxFuture<'_, Result<LeaseId, Error>>;

    /// Gives a lease its whole `ttl` again. Errors: `LeaseNotFound`.
    fn lease_renew(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), Error>>;

    /// Ends a lease and removes its keys. Errors: `LeaseNotFound`.
    fn lease_revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), Error>>;

    /// Writes the state at one revision, in the form that [`crate::restore`] reads, without
    /// stopping writers; tells that revision.
    fn snapshot(&self, out: Box<dyn io::Write + Send>) -> BoxFuture<'_, Result<Revision, Error>>;

    /// Where the store stands.
    fn status(&self) -> Status;
}

/// A key with its value and the revisions of its first and last write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// The value; shared, never copied, between the store and its readers.
    pub value: Bytes,
    /// The write that created this life of the key.
    pub create_revision: Revision,
    /// The last write.
    pub mod_revision: Revision,
    /// The lease that the key lives on.
    pub lease: Option<LeaseId>,
}

/// What a write demands of the key's present state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Any,
    /// The key has no value.
    Absent,
    /// The key's last write was this one.
    Revision(Revision),
}

/// The identity of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseId(pub u64);

/// An interval of keys at a revision.
#[derive(Clone, Debug, Default)]
pub struct Range {
    /// The first key.
    pub start: Bytes,
    /// The key after the last; empty means no upper bound.
    pub end: Bytes,
    /// At most so many items; 0 means all.
    pub limit: usize,
    /// The revision to read at; `None` is the latest.
    pub at: Option<Revision>,
}

impl Range {
    /// Every key that begins with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        Self {
            start: Bytes::copy_from_slice(prefix),
            end: prefix_end(prefix),
            ..Self::default()
        }
    }
}

/// The first key after all keys that begin with `prefix`; empty if there is none.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            break;
        }
    }
    Bytes::from(end)
}

/// The answer to a [`Range`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeResult {
    /// The items in order of key.
    pub items: Vec<KeyValue>,
    /// The revision they were read at.
    pub revision: Revision,
    /// Whether the limit cut the answer.
    pub more: bool,
    /// How many items lie beyond the limit.
    pub remaining: u64,
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It was written.
    Put,
    /// It was removed.
    Delete,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The key as it is after the change; for a removal the value is empty and
    /// `mod_revision` is the revision of the removal.
    pub item: KeyValue,
    /// The key as it was before.
    pub previous: Option<KeyValue>,
}

/// Consecutive events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventBatch {
    /// The events in order of revision; each `item.mod_revision` is the event's.
    pub events: Vec<Event>,
    /// Every event of the watched interval up to this revision has been delivered.
    pub revision: Revision,
}

/// Where a store stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The latest revision that readers see.
    pub revision: Revision,
    /// History before this revision is gone.
    pub compacted: Revision,
    /// Keys that have a value.
    pub keys: u64,
    /// Bytes of their keys and values.
    pub live_bytes: u64,
    /// Bytes held for history.
    pub history_bytes: u64,
    /// Bytes of files, 0 for a store in memory.
    pub disk_bytes: u64,
    /// Live leases.
    pub leases: u64,
    /// Open watches.
    pub watchers: u64,
    /// Changes written since the store was opened.
    pub writes: u64,
    /// Batches they were written in, each with one fdatasync.
    pub batches: u64,
    /// Whether the disk has no room for writes.
    pub full: bool,
}

/// What a store accepts and keeps.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Longest key in bytes.
    pub max_key: usize,
    /// Longest value in bytes.
    pub max_value: usize,
    /// Most bytes of live keys and values; beyond it writes get `Full`.
    pub max_live: u64,
    /// Most bytes of history; beyond it the oldest is dropped as if compacted.
    pub max_history: u64,
    /// Most bytes of writes that wait; beyond it writers wait.
    pub max_queue: usize,
    /// Most leases at a time.
    pub max_leases: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_key: 4 << 10,
            max_value: 4 << 20,
            max_live: 8 << 30,
            max_history: 64 << 20,
            max_queue: 64 << 20,
            max_leases: 100_000,
        }
    }
}

/// A monotonic clock, since any moment. Tests hand in their own.
pub type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// The machine's monotonic clock.
pub fn system_clock() -> Clock {
    let start = Instant::now();
    Arc::new(move || start.elapsed())
}
