//! The program's first decision: containerd's shim by its name, helper, an init, or the OCI command line.

use crate::{cli, helper, node, shim};
use alloc::string::String;

/// Runs the program; its exit code.
pub fn main(arguments: &[String], environment: &[String]) -> i32 {
    let name = arguments.first().and_then(|path| path.rsplit('/').next());
    if name == Some(shim::task::NAME) {
        return shim::task::run(arguments, environment);
    }
    match arguments.get(1).map(String::as_str) {
        Some("helper") => helper::run(),
        Some("init") => node::run_container(&arguments[2..], environment),
        Some("node-init") => node::run(&arguments[2..], environment),
        _ => cli::run(arguments, environment),
    }
}
