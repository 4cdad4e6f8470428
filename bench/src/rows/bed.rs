//! An engine to measure, in a process and namespaces of its own.

use crate::{
    Options,
    failure::{Failure, Outcome, fail},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{fs, path::PathBuf, sync::Arc};
use strata_engine::{ContainerConfig, ContainerId, Engine, EngineOptions, Network, SandboxConfig, SandboxId};
use strata_image::{Builtin, BuiltinFile, BuiltinSource, Image, ImageConfig, ImageOptions, ImageStore};
use strata_net::{PodNetwork, PodNetworkOptions};
use strata_shim::Helper;

const CGROUP: &str = "/strata-bench-engine";

/// Runs a part of this program in network and mount namespaces of its own, and reads what it prints.
pub async fn apart<T: DeserializeOwned>(options: &Options, part: &str) -> Outcome<T> {
    let output = tokio::process::Command::new("unshare")
        .args(["--net", "--mount", "--propagation", "private"])
        .arg(std::env::current_exe()?)
        .arg("--runtime")
        .arg(&options.runtime)
        .arg("--work")
        .arg(&options.work)
        .arg(part)
        .kill_on_drop(true)
        .output()
        .await?;
    let errors = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return fail(errors.trim());
    }
    eprint!("{errors}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The part of that process: measures an engine and prints the outcome. The helper must exist before any thread does.
pub fn inside<T: Serialize>(options: &Options, measure: impl AsyncFnOnce(&Bed) -> Outcome<T>) -> Outcome {
    let helper = Helper::spawn(&fs::read(&options.runtime)?)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let folder = tempfile::Builder::new().prefix("engine-").tempdir_in(&options.work)?;
    let measured = runtime.block_on(async { measure(&Bed::make(helper, folder.path().to_owned()).await?).await });
    // Nothing is left in it where every sandbox could be removed.
    remove_cgroups();
    println!("{}", serde_json::to_string(&measured?)?);
    Ok(())
}

fn remove_cgroups() {
    let (Ok(layout), path) = (strata_runtime::cgroup::Layout::detect(), CGROUP) else {
        return;
    };
    if let Ok(cgroup) = strata_runtime::cgroup::Cgroup::open(&layout, path) {
        // A cgroup that is not empty any more is a failure told elsewhere.
        let _ = cgroup.signal_all(9);
        let _ = cgroup.remove();
    }
}

/// What a library says when it fails.
pub fn said(error: impl std::fmt::Display) -> Failure {
    Failure::Said(error.to_string())
}

/// An engine with a pod network and an image of busybox.
pub struct Bed {
    pub engine: Engine,
    pub network: Arc<PodNetwork>,
    pub folder: PathBuf,
    image: Image,
}

impl Bed {
    async fn make(helper: Helper, folder: PathBuf) -> Outcome<Self> {
        let images = ImageStore::open(ImageOptions::new(folder.join("images"))).map_err(said)?;
        let cidr = "10.199.0.0/16".parse().map_err(said)?;
        let network = PodNetwork::open(PodNetworkOptions {
            state_dir: folder.join("network"),
            cidr,
            cluster_cidr: cidr,
            instance: "bench".into(),
            mtu: 0,
        });
        let network = network.map_err(said)?;
        let engine = Engine::open(EngineOptions {
            root: folder.join("engine"),
            run: folder.join("run"),
            cgroup_root: CGROUP.into(),
            helper,
            images: images.clone(),
            network: Some(network.clone()),
            log_max_size: 10 << 20,
            log_max_files: 5,
        });
        Ok(Self {
            engine: engine.await.map_err(said)?,
            network,
            folder,
            image: busybox(&images)?,
        })
    }

    pub fn sandbox(&self, uid: &str, network: Network) -> SandboxConfig {
        SandboxConfig {
            namespace: "bench".into(),
            name: uid.into(),
            uid: uid.into(),
            hostname: "bench".into(),
            log_dir: self.folder.join("logs").join(uid),
            network,
            ..SandboxConfig::new(format!("{CGROUP}/pods/pod{uid}"))
        }
    }

    pub fn container(&self, script: &str) -> ContainerConfig {
        let mut config = ContainerConfig::new("main", self.image.clone());
        config.command = Some(["/bin/sh", "-c", script].map(str::to_owned).into());
        config.log_path = "main/0.log".into();
        config
    }

    /// A container that sleeps, in a sandbox of its own.
    pub async fn sleeper(&self, uid: &str, network: Network) -> Outcome<(SandboxId, ContainerId)> {
        let pod = self
            .engine
            .run_sandbox(self.sandbox(uid, network))
            .await
            .map_err(said)?;
        let config = self.container("exec sleep 1000");
        let id = self.engine.create_container(&pod.id, config).await.map_err(said)?;
        self.engine.start_container(&id).await.map_err(said)?;
        Ok((pod.id, id))
    }

    /// Ends a sandbox and everything in it.
    pub async fn remove(&self, pod: &SandboxId) -> Outcome {
        self.engine.stop_sandbox(pod).await.map_err(said)?;
        self.engine.remove_sandbox(pod).await.map_err(said)
    }
}

fn busybox(images: &ImageStore) -> Outcome<Image> {
    let file = |name: &str, source| BuiltinFile {
        path: format!("bin/{name}"),
        source,
        mode: 0o755,
    };
    let files = vec![
        file("busybox", BuiltinSource::Host(super::containers::busybox()?.into())),
        file("sh", BuiltinSource::Symlink("busybox".into())),
        file("sleep", BuiltinSource::Symlink("busybox".into())),
    ];
    let builtin = Builtin {
        files,
        config: ImageConfig::default(),
    };
    images.add_builtin("strata.local/bench", builtin).map_err(said)
}
