//! The store without a disk.

use crate::{
    Clock, Error, Limits,
    mvcc::Mvcc,
    service::{Core, Served, Service},
    snapshot::random_u64,
    system_clock,
};
use std::sync::Arc;

/// A store that lives as long as the process: for tests and for control planes whose state
/// nobody needs afterwards.
pub struct MemoryStore {
    service: Service,
}

impl MemoryStore {
    /// An empty store. Panics if the system can make no thread.
    pub fn new() -> Self {
        Self::with(Limits::default(), system_clock()).expect("a thread and random bytes are available")
    }

    /// An empty store with limits and a clock for leases.
    pub fn with(limits: Limits, clock: Clock) -> Result<Self, Error> {
        let core = Arc::new(Core::new(Mvcc::new(), limits, clock));
        let service = Service::start(core, random_u64()?, None, |_| {});
        let service = service.map_err(|error| Error::io("starting the store's writer", error))?;
        Ok(Self { service })
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Served for MemoryStore {
    fn service(&self) -> &Service {
        &self.service
    }
}
