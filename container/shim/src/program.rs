//! The program's first decision: helper, an init, or the OCI command line.

use crate::{cli, helper, node};
use alloc::string::String;

/// Runs the program; its exit code.
pub fn main(arguments: &[String], environment: &[String]) -> i32 {
    match arguments.get(1).map(String::as_str) {
        Some("helper") => helper::run(),
        Some("init") => node::run_container(&arguments[2..], environment),
        Some("node-init") => node::run(&arguments[2..], environment),
        _ => cli::run(arguments, environment),
    }
}
