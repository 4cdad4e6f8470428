//! Durable state: a small contract, an in-memory store and the segment log.
//!
//! Not for: knowing what a value means, caching decoded objects, or serving anyone but
//! the API server, which is the only crate that opens a store.
//!
//! Start at [`Store`], the contract; [`MemoryStore`] and [`LogStore`] keep it, over the
//! same multi-version map (`mvcc`) and the same single writer (`service`). What is on
//! disk is told in `log`.

mod command;
mod contract;
mod error;
mod lease;
mod log;
mod memory;
mod mvcc;
mod service;
mod snapshot;
mod watch;

pub use contract::{
    Clock, Event, EventBatch, EventKind, Expect, KeyValue, LeaseId, Limits, Range, RangeResult, Status, Store,
    prefix_end, system_clock,
};
pub use error::Error;
pub use log::{FatalHook, LogOptions, LogStore, Problem, Report, backup, check, restore};
pub use memory::MemoryStore;
pub use watch::WatchStream;
