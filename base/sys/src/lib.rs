//! Safe wrappers for the system calls the ecosystem lacks.
//!
//! For: processes made with clone3 and watched by pidfd, the new mount API with paths resolved
//! inside a root, sealed memfds, capability sets, seccomp filters, descriptors over Unix sockets,
//! sockets of another network namespace. Not for: policy. What is mounted where, and who may do
//! what, is decided by the callers.
//!
//! No std and no C library: the small program of `container/shim` is built from this without
//! either. Errors are [`Errno`]; [`describe`] gives their sentence.
//!
//! Start with [`process`] and [`mount`].

#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod arch;
pub mod block;
pub mod capability;
mod errno;
pub mod file;
pub mod message;
pub mod mount;
pub mod namespace;
pub mod process;
pub mod seccomp;
pub mod signal;
pub mod stream;
pub mod terminal;
pub mod time;

pub use arch::{Arguments, syscall};
pub use errno::describe;
pub use rustix::io::Errno;

/// A result with the kernel's error.
pub type Result<T> = core::result::Result<T, Errno>;
