//! The OCI runtime: namespaces, root file system, cgroups, seccomp and the life of one container.

#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod cgroup;
mod error;
pub mod seccomp;
pub mod spec;

pub use error::{Context, Error, Result};
