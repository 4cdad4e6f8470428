//! What the single writer is asked to do, and what each command does to the state.

use crate::{Error, Expect, KeyValue, LeaseId, Limits, mvcc::Mvcc, service::Core, snapshot::record::Record};
use bytes::Bytes;
use std::{sync::Arc, time::Duration};
use strata_meta::Revision;

/// Keys that one step of a revocation removes, so that no log batch grows with a lease.
const REVOKED_AT_ONCE: usize = 256;

/// Room in a log batch for what a record adds to key and value.
const RECORD_OVERHEAD: usize = 64;

pub(crate) enum Command {
    Put {
        key: Bytes,
        value: Bytes,
        expect: Expect,
        lease: Option<LeaseId>,
    },
    Delete {
        key: Bytes,
        expect: Expect,
    },
    Compact(Revision),
    Grant(Duration),
    Revoke(LeaseId),
    /// Keep the state that this batch leaves, for a snapshot.
    Pin,
}

pub(crate) enum Outcome {
    Written(Revision),
    Deleted(Option<(Revision, KeyValue)>),
    Granted(LeaseId),
    Pinned(Pinned),
    Done,
    /// Part was done; the same command does the rest.
    Again(Command),
}

/// A state that is kept for a snapshot until this is dropped.
pub(crate) struct Pinned {
    pub core: Arc<Core>,
    pub revision: Revision,
    /// Log batches before this one are contained in it.
    pub sequence: u64,
    pub leases: Vec<(LeaseId, Duration)>,
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.core.write().unpin(self.revision);
    }
}

impl Command {
    /// At most so many bytes of log.
    pub fn log_bytes(&self, limits: &Limits) -> usize {
        match self {
            Self::Put { key, value, .. } => key.len() + value.len() + RECORD_OVERHEAD,
            Self::Delete { key, .. } => key.len() + RECORD_OVERHEAD,
            Self::Revoke(_) => REVOKED_AT_ONCE * (limits.max_key + RECORD_OVERHEAD),
            Self::Compact(_) | Self::Grant(_) | Self::Pin => RECORD_OVERHEAD,
        }
    }

    /// Whether it is let through on a full disk, because it leads to space.
    pub fn frees_space(&self) -> bool {
        !matches!(self, Self::Put { .. } | Self::Grant(_))
    }

    /// Decides and changes the state; what was changed is appended to `records`.
    pub fn execute(self, writer: &mut Writer<'_>) -> Result<Outcome, Error> {
        match self {
            Self::Put {
                key,
                value,
                expect,
                lease,
            } => writer.put(key, value, expect, lease).map(Outcome::Written),
            Self::Delete { key, expect } => writer.delete(&key, expect).map(Outcome::Deleted),
            Self::Compact(revision) => writer.compact(revision),
            Self::Grant(ttl) => writer.grant(ttl),
            Self::Revoke(lease) => writer.revoke(lease),
            // Filled in once the batch is durable.
            Self::Pin => Ok(Outcome::Done),
        }
    }
}

/// The state being changed by one batch.
pub(crate) struct Writer<'a> {
    pub state: &'a mut Mvcc,
    pub limits: &'a Limits,
    pub now: Duration,
    /// Absent for a store in memory.
    pub records: Option<&'a mut Vec<u8>>,
}

impl Writer<'_> {
    fn put(&mut self, key: Bytes, value: Bytes, expect: Expect, lease: Option<LeaseId>) -> Result<Revision, Error> {
        within("key", key.len(), self.limits.max_key)?;
        within("value", value.len(), self.limits.max_value)?;
        let current = self.state.latest(&key);
        check(expect, current.as_ref())?;
        if let Some(id) = lease
            && !self.state.leases.contains(id)
        {
            return Err(Error::LeaseNotFound(id));
        }
        let before = current.map_or(0, |item| item.key.len() + item.value.len());
        let after = self.state.live_bytes() + (key.len() + value.len()) as u64 - before as u64;
        if after > self.limits.max_live && key.len() + value.len() > before {
            return Err(Error::Full {
                why: format!(
                    "its limit of {} bytes of data is reached; delete objects",
                    self.limits.max_live
                ),
            });
        }
        let revision = self.state.next_revision();
        self.log(&Record::Put {
            revision,
            lease,
            key: &key,
            value: &value,
        });
        Ok(self.state.put(key, value, lease))
    }

    fn delete(&mut self, key: &Bytes, expect: Expect) -> Result<Option<(Revision, KeyValue)>, Error> {
        let current = self.state.latest(key);
        check(expect, current.as_ref())?;
        let Some(current) = current else { return Ok(None) };
        let revision = self.state.next_revision();
        self.log(&Record::Delete { revision, key });
        self.state.delete(current.key.clone());
        Ok(Some((revision, current)))
    }

    fn compact(&mut self, revision: Revision) -> Result<Outcome, Error> {
        let compacted = self.state.compacted();
        if revision <= compacted {
            return Err(Error::Compacted { compacted });
        }
        self.state.readable(Some(revision))?;
        self.log(&Record::Compact { revision });
        self.state.compact(revision);
        Ok(Outcome::Done)
    }

    fn grant(&mut self, ttl: Duration) -> Result<Outcome, Error> {
        within("number of leases", self.state.leases.len() + 1, self.limits.max_leases)?;
        let id = loop {
            let id = LeaseId(crate::snapshot::random_u64()? >> 1);
            if id.0 != 0 && !self.state.leases.contains(id) {
                break id;
            }
        };
        self.log(&Record::Grant { id, ttl });
        self.state.leases.grant(id, ttl, self.now);
        Ok(Outcome::Granted(id))
    }

    fn revoke(&mut self, lease: LeaseId) -> Result<Outcome, Error> {
        if !self.state.leases.contains(lease) {
            return Err(Error::LeaseNotFound(lease));
        }
        let keys = self.state.leases.keys(lease, REVOKED_AT_ONCE);
        for key in &keys {
            self.delete(key, Expect::Any)?;
        }
        if keys.len() == REVOKED_AT_ONCE {
            return Ok(Outcome::Again(Command::Revoke(lease)));
        }
        self.log(&Record::Revoke { id: lease });
        self.state.leases.remove(lease);
        Ok(Outcome::Done)
    }

    fn log(&mut self, record: &Record<'_>) {
        if let Some(records) = &mut self.records {
            record.encode(records);
        }
    }
}

fn within(what: &'static str, size: usize, limit: usize) -> Result<(), Error> {
    if size > limit {
        let (size, limit) = (size as u64, limit as u64);
        return Err(Error::TooLarge { what, size, limit });
    }
    Ok(())
}

fn check(expect: Expect, current: Option<&KeyValue>) -> Result<(), Error> {
    let holds = match expect {
        Expect::Any => true,
        Expect::Absent => current.is_none(),
        Expect::Revision(revision) => current.is_some_and(|item| item.mod_revision == revision),
    };
    if holds {
        return Ok(());
    }
    Err(Error::Conflict {
        current: current.cloned(),
    })
}
