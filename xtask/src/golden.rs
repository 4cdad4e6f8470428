//! `generate-golden`: answers of the upstream Go libraries to `tests/golden/cases.json`.

use crate::Context;
use std::process::Command;

/// Runs the Go program that writes the answers beside the cases.
pub fn run(context: &Context, arguments: &[String]) -> Result<(), String> {
    if !arguments.is_empty() {
        return Err("usage: generate-golden".to_owned());
    }
    let folder = context.root.join("tests/golden");
    let status = Command::new("go")
        .args(["run", ".", "golden"])
        .current_dir(&folder)
        .status()
        .map_err(|e| format!("go: {e}; install Go to make the answers anew"))?;
    status
        .success()
        .then_some(())
        .ok_or_else(|| format!("{}: go run: {status}", folder.display()))
}
