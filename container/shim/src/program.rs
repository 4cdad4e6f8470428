//! The program's first decision: helper, a cluster node's init, or the OCI command line.

use crate::{cli, helper, node};
use alloc::string::String;

/// Runs the program; its exit code.
pub fn main(arguments: &[String], environment: &[String]) -> i32 {
    match arguments.get(1).map(String::as_str) {
        Some("helper") => helper::run(),
        Some("node-init") => node::run(&arguments[2..], environment),
        _ => cli::run(arguments, environment),
    }
}
