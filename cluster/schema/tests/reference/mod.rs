//! Reference data in the Go module cache; it is read where it is, never copied.

use std::path::PathBuf;
use std::process::Command;

/// The folder of a module, downloaded by name if need be; `None`, with a message, without Go.
pub fn module_folder(module: &str) -> Option<PathBuf> {
    if !Command::new("go")
        .arg("version")
        .output()
        .is_ok_and(|o| o.status.success())
    {
        eprintln!("skipped: no go command, so {module} cannot be found");
        return None;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("go.mod"), "module reference\n\ngo 1.24\n").expect("written");
    let output = Command::new("go")
        .args(["mod", "download", "-json", module])
        .current_dir(folder.path())
        .output()
        .expect("go runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    Some(PathBuf::from(answer["Dir"].as_str().expect("a folder")))
}
