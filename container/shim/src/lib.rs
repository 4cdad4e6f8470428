//! The small static program that runs as helper, shim and OCI command line, and the protocol the engine speaks
//! with it.
//!
//! For: everything that must outlive the daemon or be forked from a small process. Not for: images,
//! pod networks, policies; the engine decides those and says so in OCI terms.
//!
//! A daemon starts with [`Helper::spawn`], then [`Helper::launch`] per sandbox, and talks to the shim through
//! a [`Connection`] in the words of [`protocol`].

mod connection;
mod frame;
mod launcher;
pub mod protocol;

pub use connection::{Connection, Error, Events};
pub use launcher::Helper;
pub use protocol::{LaunchSpec, ShimRef};
pub use strata_runtime::spec;
