//! The Kubernetes API client: one interface, two transports (in-process, HTTPS),
//! informers, work queues, events and leases.
//!
//! Not for: knowledge about what is inside an object (callers declare the projection
//! they read), serving HTTP, or the in-process transport itself, which the API server
//! implements as a [`Transport`].
//!
//! Start at [`Client`]; then [`Informer`], a cache that follows one resource, and
//! [`WorkQueue`], which turns its changes into reconciles. [`resources`] lists the
//! resources that are known at build time; [`discovery`] finds the others.

mod client;
pub mod discovery;
mod error;
mod events;
mod https;
mod informer;
mod lease;
mod metrics;
mod options;
mod queue;
mod reference;
mod request;
mod resource;
mod transport;

pub use client::Client;
pub use error::Error;
pub use events::{EventRecorder, EventType};
pub use https::{ClientAuth, HttpsConfig, encoded};
pub use informer::{Change, Informer, Scope};
pub use lease::{LeaseKeeper, LeaseSettings};
pub use metrics::ClientMetrics;
pub use options::{DeleteOptions, ListParams, Patch, Propagation};
pub use queue::WorkQueue;
pub use reference::ObjectReference;
pub use request::with_query;
pub use resource::{Resource, resources};
pub use strata_meta as meta;
pub use transport::{ListRequest, ObjectList, Pieces, Transport, WatchRequest};
