//! The OCI runtime: namespaces, root file system, cgroups, seccomp and the life of one container.
//!
//! For: turning a configuration ([`spec::Spec`]) into a process that waits to begin ([`create`]), further
//! processes beside it ([`execute`]), its [`cgroup::Cgroup`], its system call [`seccomp::Filter`].
//! Not for: remembering containers, logs, images; `container/shim` and the engine do those.
//!
//! A calling process has one thread: the children are forked without exec. No std, because the program
//! of `container/shim` is built without a C library.
//!
//! Start with `container.rs` (outside view) and `init.rs` (what the new process does).

#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod cgroup;
mod channel;
mod container;
mod copy_up;
mod devices;
mod error;
pub mod hooks;
mod init;
mod label;
mod namespaces;
mod net_devices;
mod options;
mod program;
mod root;
mod rootless;
mod scheduling;
pub mod seccomp;
mod sources;
pub mod spec;
mod user;

pub use container::{Choices, Created, Creation, Execution, create, execute, leave_root};
pub use devices::STANDARD_DEVICES;
pub use error::{Context, Error, Result};
pub use init::{Streams, set_sysctl};
pub use label::has_apparmor;
pub use namespaces::{flag as namespace_flag, id_map};
pub use program::find as find_program;
pub use root::Entering;
