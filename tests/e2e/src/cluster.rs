//! A throwaway cluster of the built binary.

use crate::{Kubectl, Traces, binary};
use std::process::Command;
use tempfile::TempDir;

/// A cluster; removed when dropped.
pub struct Cluster {
    name: String,
    folder: TempDir,
}

impl Cluster {
    /// Makes a cluster of so many nodes.
    pub fn create(name: &str, nodes: u8, flags: &[&str]) -> Self {
        let cluster = Self {
            name: name.to_owned(),
            folder: tempfile::tempdir().expect("a temporary folder"),
        };
        let run = cluster
            .strata()
            .args(["cluster", "create", name, "--nodes", &nodes.to_string()])
            .args(flags)
            .output();
        let run = run.expect("the binary runs");
        assert!(
            run.status.success(),
            "cluster create: {}",
            String::from_utf8_lossy(&run.stderr)
        );
        cluster
    }

    /// What of it is on the machine, also once it is deleted.
    pub fn traces(&self) -> Traces {
        Traces::below(self.folder.path())
    }

    /// Its folder.
    pub fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("clusters").join(&self.name)
    }

    /// The built binary, with this test's folder for clusters and its own kubeconfig.
    pub fn strata(&self) -> Command {
        let mut command = Command::new(binary());
        command.env("STRATA_CLUSTERS", self.folder.path().join("clusters"));
        command.env("KUBECONFIG", self.folder.path().join("kubeconfig"));
        command
    }

    /// kubectl in the cluster's context.
    pub fn kubectl(&self) -> Kubectl {
        let kubectl = Kubectl::new(self.folder.path().join("kubeconfig"));
        kubectl.with_context(&format!("strata-{}", self.name))
    }

    /// Removes the cluster.
    pub fn delete(&self) {
        let run = self
            .strata()
            .args(["cluster", "delete", &self.name])
            .output()
            .expect("the binary runs");
        assert!(
            run.status.success(),
            "cluster delete: {}",
            String::from_utf8_lossy(&run.stderr)
        );
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for log in [
                "supervisor".to_owned(),
                format!("{}-1", self.name),
                format!("{}-2", self.name),
            ] {
                let path = self
                    .folder
                    .path()
                    .join("clusters")
                    .join(&self.name)
                    .join(format!("{log}.log"));
                let text = std::fs::read_to_string(path).unwrap_or_else(|e| e.to_string());
                let tail: Vec<&str> = text.lines().rev().take(30).collect();
                eprintln!("--- {log}, newest first\n{}", tail.join("\n"));
            }
        }
        let traces = Traces::below(self.folder.path());
        // One that a test has deleted is gone already.
        let _ = self.strata().args(["cluster", "delete", &self.name]).output();
        if !std::thread::panicking() {
            traces.assert_gone();
        }
    }
}
