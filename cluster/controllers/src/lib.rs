//! Every reconciler of the control plane: workloads, endpoints, nodes, namespaces, garbage.
//!
//! Not for: placing pods (`strata-scheduler`), running them (`strata-agent`), or the
//! store; a controller is a client of the API like any other.
//!
//! Start at [`Controllers::start`]. Each controller is a pure decision on what was
//! observed, tested as tables, and a thin executor that does what was decided. What they
//! share is in `context`: the informers, and the loop around a work queue.

mod autoscale;
mod certificates;
mod claim;
mod conditions;
mod context;
mod cronjob;
mod daemon;
mod dependents;
mod deployment;
mod disruption;
mod endpoints;
mod error;
mod expectations;
mod garbage;
mod identity;
mod job;
mod load_balancer;
mod namespace;
mod namespace_objects;
mod node;
mod pod_gc;
mod protection;
mod quota;
mod replicas;
mod scale;
mod stateful;
mod tracked;
mod ttl;
mod views;
mod volume;

pub use certificates::CertificateSigner;
pub use context::{ClientFor, Controllers, ControllersOptions, SHARED_INFORMERS};
pub use error::Error;
pub use job::JobMetrics;
