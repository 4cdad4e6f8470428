//! The store on disk: a segment log cut by snapshots.
//!
//! A directory holds
//! - `lock`: locked by the process that has the store open;
//! - `format`: the version of all the rest, and the store's identity;
//! - `log-N`: preallocated segments; `N` is the number of the first batch in it. One batch
//!   of writers is one frame, one write and one fdatasync;
//! - `snapshot-N`: the state before batch `N`; older segments are removed once it is durable;
//! - `reserve`: space for removals when the disk is full;
//! - `*.tmp`: unfinished, removed when the store is opened.
//!
//! A batch is written only after the one before it is durable. So an invalid frame with
//! nothing valid after it is the torn tail of a crash and was never acknowledged; with
//! something valid after it, it is damage, and the store refuses to open.
//!
//! Why a log and not an embedded database: all state is in memory anyway, so the disk needs
//! no tree. Measured beside redb 4.4 with the same group commit in front of it, 1.3 KB values,
//! both fdatasync, ext4, 2 cores, development profile (redb optimised, this crate not):
//!
//! | writers | log: writes/s, p50, p99 | redb: writes/s, p50, p99 |
//! |---|---|---|
//! | 1 | 6,612, 0.14 ms, 0.28 ms | 3,481, 0.28 ms, 0.40 ms |
//! | 128 | 115,769, 0.72 ms, 9.3 ms | 22,486, 5.7 ms, 10.8 ms |
//!
//! Again with `cargo run -p strata-store --example durable_put DIRECTORY WRITERS`.

mod backup;
mod check;
mod disk;
mod files;
mod journal;
mod recover;
mod segment;
mod store;

#[cfg(test)]
mod simulation;

pub use backup::{backup, restore};
pub use check::{Problem, Report, check};
pub(crate) use journal::Journal;
pub use store::LogStore;

use crate::{Clock, Error, Limits, system_clock};
use std::sync::Arc;

/// Called when the disk fails in a way after which nothing may be written: a failed
/// fdatasync may have dropped the pages, so trying again would lie.
pub type FatalHook = Arc<dyn Fn(&Error) + Send + Sync>;

/// How a [`LogStore`] behaves.
#[derive(Clone)]
pub struct LogOptions {
    /// What is accepted and kept.
    pub limits: Limits,
    /// The clock that leases run on.
    pub clock: Clock,
    /// Size of a full-grown segment; the first are smaller.
    pub segment_bytes: u64,
    /// A snapshot is made after so many bytes of log, or as many as the last snapshot had
    /// if that is more.
    pub snapshot_after: u64,
    /// Bytes kept back for removals on a full disk; raised to what the largest batch of
    /// removals needs.
    pub reserve_bytes: u64,
    /// By default logs and ends the process with exit code 1.
    pub fatal: FatalHook,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            clock: system_clock(),
            segment_bytes: 64 << 20,
            snapshot_after: 32 << 20,
            reserve_bytes: 4 << 20,
            fatal: Arc::new(|error| {
                tracing::error!(%error, "ending: what is on disk is no longer known; nothing acknowledged is lost");
                std::process::exit(1);
            }),
        }
    }
}
