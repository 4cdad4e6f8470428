//! The files beside the active segment: the prepared one, the reserve, snapshots, and the
//! removal of what a snapshot covers.

use super::{
    LogOptions,
    disk::{Disk, DiskFile, FileWriter, zero},
    segment::{SEGMENT, SNAPSHOT, number_of, numbered},
};
use crate::{
    Error,
    command::{Command, Outcome, Pinned},
    error::is_no_space,
    service::Queue,
    snapshot,
};
use std::{
    io::{self, BufWriter},
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

const RESERVE: &str = "reserve";
/// The first segment; each next one is four times larger up to the full size, so that a
/// small store stays small.
const FIRST_SEGMENT_BYTES: u64 = 1 << 20;

/// Bytes of a new segment written between two syncs.
const FILL_BYTES: u64 = 2 << 20;

const UNPOISONED: &str = "no code panics while it holds the lock of the log's files";

/// Shared by the writer and the keeper, the thread that works behind it.
pub(crate) struct Files {
    pub disk: Arc<dyn Disk>,
    pub store: u64,
    segment_bytes: u64,
    snapshot_after: u64,
    reserve_bytes: u64,
    state: Mutex<State>,
    wanted: Mutex<Wanted>,
    changed: Condvar,
    last_snapshot_bytes: AtomicU64,
    pub disk_bytes: Arc<AtomicU64>,
}

#[derive(Default)]
struct State {
    prepared: Option<Prepared>,
    reserved: bool,
    made: u64,
}

/// A file that can become the next segment.
pub(crate) struct Prepared {
    pub name: String,
    pub file: Arc<dyn DiskFile>,
    pub size: u64,
}

#[derive(Default)]
struct Wanted {
    segment: Option<u64>,
    snapshot: bool,
    stop: bool,
}

impl Files {
    pub fn new(disk: Arc<dyn Disk>, store: u64, options: &LogOptions) -> Self {
        let largest_removal = Command::Revoke(crate::LeaseId(0)).log_bytes(&options.limits) as u64;
        Self {
            disk,
            store,
            segment_bytes: options.segment_bytes,
            snapshot_after: options.snapshot_after,
            reserve_bytes: options.reserve_bytes.max(largest_removal * 2),
            state: Mutex::default(),
            wanted: Mutex::default(),
            changed: Condvar::new(),
            last_snapshot_bytes: AtomicU64::new(0),
            disk_bytes: Arc::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(UNPOISONED)
    }

    /// The size of the segment after one of `size`.
    pub fn next_size(&self, size: Option<u64>) -> u64 {
        let next = size.map_or(FIRST_SEGMENT_BYTES, |size| size.saturating_mul(4));
        next.min(self.segment_bytes)
    }

    /// The prepared segment if it is large enough.
    pub fn take_prepared(&self, least: u64) -> Option<Prepared> {
        let mut state = self.state();
        let fits = state.prepared.as_ref().is_some_and(|prepared| prepared.size >= least);
        if fits { state.prepared.take() } else { None }
    }

    /// A name that was not used since the store was opened: were it reused before the
    /// directory is durable, a crash could leave the old file under the new one's name.
    fn unfinished_name(&self) -> String {
        let mut state = self.state();
        state.made += 1;
        format!("{}.tmp", state.made)
    }

    pub fn create_segment(&self, size: u64) -> Result<Prepared, Error> {
        let name = self.unfinished_name();
        let file = self
            .disk
            .create(&name, size)
            .map_err(|error| self.failed("allocating a log segment", error))?;
        Ok(Prepared { name, file, size })
    }

    /// Makes sure that the reserve is there, before anything that grows is accepted.
    pub fn ensure_reserve(&self) -> Result<(), Error> {
        let mut state = self.state();
        if !state.reserved {
            let made = self.disk.create(RESERVE, self.reserve_bytes);
            made.and_then(|_| self.disk.sync())
                .map_err(|error| self.failed("reserving space for removals", error))?;
            state.reserved = true;
        }
        Ok(())
    }

    pub fn take_reserve(&self, least: u64) -> Option<Prepared> {
        let mut state = self.state();
        if !state.reserved || self.reserve_bytes < least {
            return None;
        }
        state.reserved = false;
        let file = self.disk.open(RESERVE).ok()?;
        Some(Prepared {
            name: RESERVE.to_owned(),
            file,
            size: self.reserve_bytes,
        })
    }

    /// A full disk is `Full`, everything else `Io`.
    pub fn failed(&self, action: &str, error: io::Error) -> Error {
        if is_no_space(&error) {
            return Error::Full {
                why: format!("{action}: {error}; free space on the disk that holds the store"),
            };
        }
        Error::io(action, error)
    }

    pub fn snapshot_due(&self, logged: u64) -> bool {
        logged
            >= self
                .snapshot_after
                .max(self.last_snapshot_bytes.load(Ordering::Relaxed))
    }

    fn want(&self, change: impl FnOnce(&mut Wanted)) {
        change(&mut self.wanted.lock().expect(UNPOISONED));
        self.changed.notify_one();
    }

    pub fn want_segment(&self, size: u64) {
        self.want(|wanted| wanted.segment = Some(size));
    }

    pub fn want_snapshot(&self) {
        self.want(|wanted| wanted.snapshot = true);
    }

    pub fn stop(&self) {
        self.want(|wanted| wanted.stop = true);
    }

    /// The keeper: does what is wanted until stopped. Err: the disk failed.
    pub fn keep(&self, queue: &Queue) -> Result<(), Error> {
        loop {
            let mut wanted = self.wanted.lock().expect(UNPOISONED);
            while wanted.segment.is_none() && !wanted.snapshot && !wanted.stop {
                wanted = self.changed.wait(wanted).expect(UNPOISONED);
            }
            let now = std::mem::take(&mut *wanted);
            drop(wanted);
            if now.stop {
                return Ok(());
            }
            if let Some(size) = now.segment {
                tolerate_full(self.prepare(size))?;
            }
            if now.snapshot {
                match queue.submit_blocking(Command::Pin) {
                    Ok(Outcome::Pinned(pinned)) => tolerate_full(self.snapshot(&pinned))?,
                    // The store is being closed.
                    _ => return Ok(()),
                }
            }
            self.measure()?;
        }
    }

    /// Makes the next segment ready, unless one is.
    pub fn prepare(&self, size: u64) -> Result<(), Error> {
        if self.state().prepared.is_some() {
            return Ok(());
        }
        let prepared = self.create_segment(size)?;
        let filled = fill(&*prepared.file, size);
        if let Err(error) = filled {
            self.remove(&prepared.name)?;
            return Err(self.failed("preparing a log segment", error));
        }
        self.state().prepared = Some(prepared);
        Ok(())
    }

    /// Writes a snapshot and removes what it covers.
    pub fn snapshot(&self, pinned: &Pinned) -> Result<(), Error> {
        let failed = |error| self.failed("writing a snapshot", error);
        let unfinished = self.unfinished_name();
        let file = self.disk.create(&unfinished, 0).map_err(failed)?;
        let mut out = BufWriter::with_capacity(
            256 << 10,
            FileWriter {
                file: &*file,
                offset: 0,
            },
        );
        let written = snapshot::write(pinned, self.store, &mut out).map_err(|error| match error {
            Error::Io { source, .. } => failed(source),
            other => other,
        });
        let bytes = out.get_ref().offset;
        drop(out);
        if let Err(error) = written.and_then(|_| file.sync().map_err(failed)) {
            self.remove(&unfinished)?;
            return Err(error);
        }
        let name = numbered(SNAPSHOT, pinned.sequence);
        self.disk.rename(&unfinished, &name).map_err(failed)?;
        self.disk.sync().map_err(failed)?;
        self.last_snapshot_bytes.store(bytes, Ordering::Relaxed);
        tracing::debug!(revision = pinned.revision.0, bytes, "snapshot written");
        self.remove_covered(pinned.sequence)
    }

    /// Removes segments and snapshots that lie wholly before a durable snapshot.
    pub fn remove_covered(&self, sequence: u64) -> Result<(), Error> {
        let files = self
            .disk
            .list()
            .map_err(|error| self.failed("listing the store's files", error))?;
        let old_snapshot = |name: &str| number_of(name, SNAPSHOT).is_some_and(|number| number < sequence);
        for (name, _) in files.iter().filter(|(name, _)| old_snapshot(name)) {
            self.remove(name)?;
        }
        let segments: Vec<_> = files
            .iter()
            .filter_map(|(name, size)| Some((number_of(name, SEGMENT)?, name, *size)))
            .collect();
        for pair in segments.windows(2) {
            let [(_, name, size), (next, ..)] = pair else { continue };
            if *next <= sequence {
                self.reuse_or_remove(name, *size)?;
            }
        }
        Ok(())
    }

    /// A covered segment of full size becomes the next one: its blocks are written already.
    fn reuse_or_remove(&self, name: &str, size: u64) -> Result<(), Error> {
        if self.state().prepared.is_some() || size != self.segment_bytes {
            return self.remove(name);
        }
        let next = self.unfinished_name();
        let failed = |error| self.failed("reusing a log segment", error);
        // The new name must be durable before the content changes under the old one.
        self.disk
            .rename(name, &next)
            .and_then(|()| self.disk.sync())
            .map_err(failed)?;
        let file = self.disk.open(&next).map_err(failed)?;
        self.state().prepared = Some(Prepared { name: next, file, size });
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), Error> {
        self.disk
            .remove(name)
            .map_err(|error| Error::io(format!("removing {name}"), error))
    }

    /// Removes what a crash left unfinished.
    pub fn tidy(&self) -> Result<(), Error> {
        let files = self
            .disk
            .list()
            .map_err(|error| self.failed("listing the store's files", error))?;
        for (name, size) in files {
            if name.ends_with(".tmp") {
                self.remove(&name)?;
            }
            if name == RESERVE {
                self.state().reserved = size >= self.reserve_bytes;
            }
            if number_of(&name, SNAPSHOT).is_some() {
                self.last_snapshot_bytes.store(size, Ordering::Relaxed);
            }
        }
        self.disk
            .sync()
            .map_err(|error| self.failed("syncing the store's directory", error))
    }

    pub fn measure(&self) -> Result<(), Error> {
        let files = self
            .disk
            .list()
            .map_err(|error| self.failed("listing the store's files", error))?;
        self.disk_bytes
            .store(files.iter().map(|(_, size)| size).sum(), Ordering::Relaxed);
        Ok(())
    }
}

/// Fills a file piece by piece, so that no sync of the writer's waits behind a large one.
fn fill(file: &dyn DiskFile, size: u64) -> io::Result<()> {
    let mut at = 0;
    while at < size {
        let end = size.min(at + FILL_BYTES);
        zero(file, at, end)?;
        file.sync()?;
        at = end;
    }
    Ok(())
}

/// A full disk only delays the keeper; the writer tells its callers.
fn tolerate_full(done: Result<(), Error>) -> Result<(), Error> {
    match done {
        Err(error) if error.is_full() => {
            tracing::warn!(%error, "the store's disk is full");
            Ok(())
        }
        other => other,
    }
}
