//! The real helm.

use crate::{Kubectl, Run};
use std::{env, path::PathBuf, process::Command};
use tempfile::TempDir;

/// helm against a server, with folders of its own.
pub struct Helm {
    kubeconfig: PathBuf,
    folder: TempDir,
}

impl Helm {
    /// helm as that kubectl's user; `None` where helm is not installed, which `make setup` does
    /// wherever there is Go.
    pub fn new(kubectl: &Kubectl) -> Option<Self> {
        let helm = Self {
            kubeconfig: kubectl.kubeconfig(),
            folder: tempfile::tempdir().expect("a temporary folder"),
        };
        let found = helm.command().arg("version").output().is_ok();
        if !found {
            let go = Command::new("go").arg("version").output().is_ok();
            assert!(!go, "helm is not installed but could be: run `make setup`");
        }
        found.then_some(helm)
    }

    fn command(&self) -> Command {
        let path = env::var_os("PATH").unwrap_or_default();
        let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
        let built = cache.map(|cache| cache.join("strata/bin"));
        let path = env::join_paths(env::split_paths(&path).chain(built)).expect("folders without colons");
        // The program is looked up in the path given to the child.
        let mut command = Command::new("helm");
        command
            .env("PATH", path)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("HELM_CACHE_HOME", self.folder.path().join("cache"))
            .env("HELM_CONFIG_HOME", self.folder.path().join("config"))
            .env("HELM_DATA_HOME", self.folder.path().join("data"))
            .current_dir(self.folder.path());
        command
    }

    /// Runs to the end, whatever it is.
    pub fn run(&self, arguments: &str) -> Run {
        let output = self.command().args(arguments.split_whitespace()).output();
        let output = output.expect("helm runs");
        Run {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs and must succeed; standard output.
    pub fn ok(&self, arguments: &str) -> String {
        let run = self.run(arguments);
        assert_eq!(run.code, 0, "helm {arguments}\n{}{}", run.stdout, run.stderr);
        run.stdout
    }
}
