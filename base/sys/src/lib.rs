//! Safe wrappers for the system calls the ecosystem lacks.
//!
//! For: processes made with clone3 and watched by pidfd, the new mount API with paths resolved
//! inside a root, sealed memfds, capability sets, seccomp filters, descriptors over Unix sockets,
//! sockets of another network namespace. Not for: policy. What is mounted where, and who may do
//! what, is decided by the callers.
//!
//! Start with [`process`] and [`message`].

pub mod message;
pub mod process;
