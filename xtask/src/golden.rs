//! `generate-golden`: answers of the upstream Go libraries to the cases in `tests/golden`.

use crate::Context;
use std::process::Command;

/// Runs the Go program that writes the answers beside the cases.
pub fn run(context: &Context, arguments: &[String]) -> Result<(), String> {
    if !arguments.is_empty() {
        return Err("usage: generate-golden".to_owned());
    }
    let folder = context.root.join("tests/golden");
    for program in [".", "./cel", "./access"] {
        let status = Command::new("go")
            .args(["run", program, "golden"])
            .current_dir(&folder)
            .status()
            .map_err(|e| format!("go: {e}; install Go to make the answers anew"))?;
        if !status.success() {
            return Err(format!("{}: go run {program}: {status}", folder.display()));
        }
    }
    Ok(())
}
