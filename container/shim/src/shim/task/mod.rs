//! The shim as containerd speaks with it: its runtime v2 interface, under the name `containerd-shim-strata-v2`.
//!
//! containerd runs the program in a container's bundle with `start`, which answers with the address of a shim, and
//! with `delete` when a shim has died. The shim serves tasks over ttrpc: one thread and one loop around poll(2), as the
//! engine's own shim, whose containers and streams it has. Containers of one pod share a shim.
//!
//! Start with `command.rs` (the program's forms), then `server.rs` (the loop) and `requests.rs` (the answers).

mod client;
mod command;
mod create;
mod events;
mod further;
mod io;
mod logger;
mod metrics;
mod record;
mod removal;
mod requests;
mod rootfs;
mod server;
mod settings;
mod table;

use alloc::{format, string::String};

/// The name that the program has when it is this.
pub(crate) const NAME: &str = "containerd-shim-strata-v2";

/// Runs one of the program's forms; the exit code.
pub(crate) fn run(arguments: &[String], environment: &[String]) -> i32 {
    match command::run(arguments, environment) {
        Ok(()) => 0,
        Err(error) => {
            let text = format!("{NAME}: {error}\n");
            let _ = strata_sys::file::write_all(strata_sys::stream::error(), text.as_bytes());
            1
        }
    }
}
