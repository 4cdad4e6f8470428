//! The wire between containerd and a shim: ttrpc's frames, and the messages of tasks, events and metrics.
//!
//! For: reading frames out of a stream of bytes that nobody vouches for ([`frame::Decoder`]), writing them, and the
//! structs they carry ([`envelope`], [`task`], [`metrics_v1`], [`metrics_v2`]). Not for: sockets, or what a request
//! does; `container/shim` answers them.
//!
//! No std and no threads: a shim is as small as can be. Start with `frame.rs`.

#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod envelope;
pub mod frame;
mod generated;

pub use generated::{metrics_v1, metrics_v2, task};
pub use prost::{DecodeError, Message};
