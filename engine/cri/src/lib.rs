//! The container runtime interface (CRI v1) over the engine: a gRPC server and its streams.
//!
//! For: an upstream kubelet, crictl, and whoever else speaks to a container runtime through it.
//! Not for: deciding what runs (the caller does), making containers (`strata-engine` does), images
//! (`strata-image`), pod links (`strata-net`).
//!
//! Start at [`Server`]; `service.rs` is the table of all calls, `sandbox.rs`, `container.rs` and `images.rs`
//! answer them, `*_config.rs` translate what is asked for, `networking.rs` gives
//! addresses or has plugins give them, `memo.rs` is what is remembered.

mod container;
mod container_config;
mod error;
mod events;
mod exec;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
#[rustfmt::skip]
#[allow(missing_docs, clippy::enum_variant_names)]
mod generated;
mod identity;
mod images;
mod info;
mod memo;
mod metrics;
mod names;
mod networking;
mod sandbox;
mod sandbox_config;
mod server;
mod service;
mod space;
mod stats;
mod streaming;

pub use networking::{PodNetworks, told_range};
pub use sandbox_config::CgroupDriver;
pub use server::{CriError, CriOptions, Server};

/// 32 hexadecimal digits that nobody can guess.
pub(crate) fn random_name() -> error::Answer<String> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(|e| strata_http::GrpcStatus::new(strata_http::GrpcStatus::INTERNAL, e))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
