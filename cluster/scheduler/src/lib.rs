//! Placement: a framework of filter and score plugins over a queue with backoff.
//!
//! Not for: running pods, or anything about a pod once it is bound; it reads and writes
//! through the API like any other client.
//!
//! [`Scheduler::start`] is the service. Inside, one thread owns the whole state (`engine`):
//! the nodes with the sums of their pods (`cluster`), the pods that wait (`queue`), and the
//! plugins (`framework`, `plugins`), which are pure functions of both. Informers only say
//! which objects changed; bindings and reports run beside it, bounded in number.

mod affinity;
mod body;
mod budgets;
mod checks;
mod cluster;
mod configuration;
mod cycle;
mod engine;
#[cfg(test)]
mod fixture;
mod framework;
mod inbox;
mod informers;
pub mod judge;
mod metrics;
mod node;
mod nomination;
mod plugins;
mod pod;
mod preemption;
mod queue;
mod report;
mod resources;
mod service;
mod storage;
mod volume_writes;
mod volumes;
mod workloads;

pub use configuration::{Configuration, ConfigurationError};
pub use node::Node;
pub use pod::Pod;
pub use resources::Resources;
pub use service::{Scheduler, SchedulerOptions, Statistics};
