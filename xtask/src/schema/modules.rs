//! Where the Go modules with the public API description are on this machine.

use super::{KUBERNETES, STAGING};
use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Command;

/// The folders of the modules that are read.
pub struct Modules {
    /// `k8s.io/kubernetes`: discovery documents and the OpenAPI description.
    pub kubernetes: PathBuf,
    /// `k8s.io/api`.
    pub api: PathBuf,
    /// `k8s.io/apimachinery`.
    pub apimachinery: PathBuf,
    /// `k8s.io/apiextensions-apiserver`.
    pub apiextensions: PathBuf,
    /// `k8s.io/kube-aggregator`.
    pub aggregator: PathBuf,
    /// `k8s.io/metrics`.
    pub metrics: PathBuf,
}

/// Whether there is a go command to ask.
#[cfg(test)]
pub fn go_is_installed() -> bool {
    Command::new("go")
        .arg("version")
        .output()
        .is_ok_and(|o| o.status.success())
}

/// Finds the modules, downloading by name those that are not in the module cache yet.
pub fn locate() -> Result<Modules, String> {
    let folder = tempfile::tempdir().map_err(|e| format!("temporary folder: {e}"))?;
    std::fs::write(folder.path().join("go.mod"), "module schema\n\ngo 1.24\n").map_err(|e| format!("go.mod: {e}"))?;
    let staging = [
        "api",
        "apimachinery",
        "apiextensions-apiserver",
        "kube-aggregator",
        "metrics",
    ];
    let mut wanted = vec![format!("k8s.io/kubernetes@{KUBERNETES}")];
    wanted.extend(staging.iter().map(|name| format!("k8s.io/{name}@{STAGING}")));
    let output = Command::new("go")
        .args(["mod", "download", "-json"])
        .args(&wanted)
        .current_dir(folder.path())
        .output()
        .map_err(|e| format!("go: {e}; install Go to regenerate the schema table"))?;
    if !output.status.success() {
        return Err(format!("go mod download: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let mut folders = HashMap::new();
    for answer in serde_json::Deserializer::from_slice(&output.stdout).into_iter::<serde_json::Value>() {
        let answer = answer.map_err(|e| format!("go mod download: {e}"))?;
        if let (Some(path), Some(dir)) = (answer["Path"].as_str(), answer["Dir"].as_str()) {
            folders.insert(path.to_owned(), PathBuf::from(dir));
        }
    }
    let mut take = |name: &str| {
        folders
            .remove(name)
            .ok_or_else(|| format!("go mod download: no folder for {name}"))
    };
    Ok(Modules {
        kubernetes: take("k8s.io/kubernetes")?,
        api: take("k8s.io/api")?,
        apimachinery: take("k8s.io/apimachinery")?,
        apiextensions: take("k8s.io/apiextensions-apiserver")?,
        aggregator: take("k8s.io/kube-aggregator")?,
        metrics: take("k8s.io/metrics")?,
    })
}
