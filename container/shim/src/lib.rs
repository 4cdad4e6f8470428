//! The small static program that runs as helper, shim and OCI command line, and the protocol the engine speaks
//! with it.
//!
//! For: everything that must outlive the daemon or be forked from a small process. Not for: images,
//! pod networks, policies; the engine decides those and says so in OCI terms.
//!
//! A daemon starts with [`Helper::spawn`], then [`Helper::launch`] per sandbox, and talks to the shim through
//! a [`Connection`] in the words of [`protocol`]; both need the feature `client` and std. The rest is
//! written without std, because the program is built without a C library (feature `freestanding`):
//! a quarter of the size, and no relocations at each exec.

#![no_std]

extern crate alloc;
#[cfg(any(test, feature = "client"))]
extern crate std;

mod cli;
#[cfg(feature = "client")]
mod connection;
mod frame;
#[cfg(feature = "freestanding")]
mod freestanding;
mod helper;
#[cfg(feature = "client")]
mod launcher;
mod node;
pub mod program;
pub mod protocol;
mod shim;

#[cfg(feature = "client")]
pub use connection::{Connection, Error, Events};
#[cfg(feature = "client")]
pub use launcher::Helper;
pub use protocol::{LaunchSpec, ShimRef};
pub use strata_runtime::spec;
