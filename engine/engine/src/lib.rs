//! Pod sandboxes and containers: creation, logs, streams, stats and recovery.
//!
//! For: turning a sandbox or container configuration into running processes through the
//! shims, knowing at any time what runs, and surviving the daemon's restart.
//! Not for: pods, probes, restarts or back-off (the node agent decides those), image
//! pulling (`strata-image`), or anything inside the container (the shim does that).
//!
//! Start at [`Engine`]; [`SandboxConfig`] and [`ContainerConfig`] say what can be asked
//! for, `spec.rs` turns them into an OCI specification, `run.rs` and `life.rs` carry it
//! out, `follow.rs` hears what happens, `recover.rs` finds the shims again.

// The tests' own support speaks of this crate by its name.
#[cfg(test)]
extern crate self as strata_engine;

mod adjust;
mod apparmor;
mod capabilities;
mod cdi;
mod container;
#[cfg(test)]
mod crash_tests;
mod custom;
mod devices;
mod dial;
mod engine;
mod entry;
mod error;
mod event;
mod exec;
mod follow;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod groups;
mod life;
mod link;
mod making;
mod mounts;
mod record;
mod recover;
mod rootfs;
mod run;
mod sandbox;
mod seccomp;
mod session;
mod signal;
mod spec;
mod stats;
mod steps;
mod stream;
pub mod streaming;
mod volumes;

pub use container::{
    ContainerConfig, ContainerState, ContainerStatus, Device, ImageVolume, LogRotation, Mount, PidNamespace,
    Propagation, Resources, Seccomp, Security, Stats,
};
pub use custom::Finish;
pub use engine::{Engine, EngineOptions};
pub use error::Error;
pub use event::EngineEvent;
pub use sandbox::{ContainerId, Network, Sandbox, SandboxConfig, SandboxId, SandboxState, SandboxStatus, UserRange};
pub use session::{AttachOptions, ExecOptions, ExecResult, ExecSession, NO_TIMEOUT, Resizer, SessionParts};
pub use signal::number as signal_number;
pub use spec::{MASKED_PATHS, READ_ONLY_PATHS};
pub use strata_runtime::has_apparmor;
