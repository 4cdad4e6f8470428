//! The container runtime interface alone: engine, pod network and its server.

use crate::{
    cli::{self, CriArgs},
    failure::{During, Failure, Outcome, fail},
    instance::Instance,
    worker,
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use strata_cni::{Cni, CniOptions};
use strata_cri::{CgroupDriver, CriOptions, PodNetworks, Server};
use strata_engine::{Engine, EngineOptions};
use strata_net::{PodNetwork, PodNetworkOptions};
use strata_shim::Helper;

/// Runs until it is told to stop.
pub async fn run(args: CriArgs, helper: Helper) -> Outcome {
    std::fs::create_dir_all(&args.data_dir).during(format!("creating {}", args.data_dir.display()))?;
    let instance = Instance::open(&args.data_dir)?;
    let socket = socket(&args.listen)?;
    let data_dir = args.data_dir.canonicalize().during("finding the data directory")?;
    let networks = networks(&args, &instance, &data_dir)?;
    let cgroup_root = format!("/strata-{}", instance.name);
    let engine = open_engine(&args, &instance, &cgroup_root, helper, &networks).await?;
    let server = Server::open(CriOptions {
        engine,
        networks,
        instance: instance.name.clone(),
        cgroup_root,
        cgroup_driver: cgroup_driver(args.cgroup_driver)?,
        data_dir,
        socket: socket.clone(),
        streaming: args.streaming_bind,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    });
    let server = server.await.during("starting the container runtime interface")?;
    tracing::info!(socket = %socket.display(), instance = instance.name, "serving the container runtime interface");
    let (cancel, _) = crate::server::stop_on_signal()?;
    server
        .run(cancel)
        .await
        .during("serving the container runtime interface")
}

/// Errors: there is no systemd to make cgroups.
fn cgroup_driver(wanted: cli::CgroupDriver) -> Outcome<CgroupDriver> {
    match wanted {
        cli::CgroupDriver::Cgroupfs => Ok(CgroupDriver::Cgroupfs),
        cli::CgroupDriver::Systemd if Path::new("/run/systemd/private").exists() => Ok(CgroupDriver::Systemd),
        cli::CgroupDriver::Systemd => fail("--cgroup-driver systemd: systemd does not run here"),
    }
}

/// This program's own network of pods, or that of plugins.
fn networks(args: &CriArgs, instance: &Instance, data_dir: &Path) -> Outcome<PodNetworks> {
    if args.cni {
        let cni = Cni::open(CniOptions {
            conf_dir: args.cni_conf_dir.clone(),
            bin_dirs: args.cni_bin_dir.clone(),
            state_dir: data_dir.join("cni"),
            namespace_dir: PathBuf::from("/run/netns"),
        });
        return Ok(PodNetworks::Plugins(Arc::new(
            cni.during("opening the network of plugins")?,
        )));
    }
    let told = strata_cri::told_range(data_dir);
    let subnet = args.sandbox_subnet.as_deref().unwrap_or(&instance.cluster_cidr);
    let subnet = match told {
        Some(told) => told,
        None => subnet.parse().during("--sandbox-subnet")?,
    };
    let network = PodNetwork::open(PodNetworkOptions {
        state_dir: data_dir.join("network"),
        cidr: subnet,
        cluster_cidr: subnet,
        instance: instance.name.clone(),
        mtu: 0,
    });
    Ok(PodNetworks::Own(network.during("opening the pod network")?))
}

async fn open_engine(
    args: &CriArgs,
    instance: &Instance,
    cgroup_root: &str,
    helper: Helper,
    networks: &PodNetworks,
) -> Outcome<Engine> {
    let network = match networks {
        PodNetworks::Own(network) => Some(network.clone()),
        PodNetworks::Plugins(_) => None,
    };
    let engine = Engine::open(EngineOptions {
        root: args.data_dir.join("engine"),
        run: PathBuf::from("/run/strata").join(&instance.name),
        cgroup_root: cgroup_root.to_owned(),
        helper,
        images: worker::image_store(&args.data_dir, &args.registry_hosts)?,
        network,
        // Whoever calls turns the logs over, and says so.
        log_max_size: 0,
        log_max_files: 1,
    });
    engine.await.during("opening the container engine")
}

/// The path of `unix:///path` or `/path`.
fn socket(listen: &str) -> Outcome<PathBuf> {
    let path = listen.strip_prefix("unix://").unwrap_or(listen);
    if path.starts_with('/') {
        Ok(path.into())
    } else {
        Err(Failure(format!("--listen {listen:?} is not unix:///path")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_a_path() {
        for (text, path) in [("unix:///run/a.sock", "/run/a.sock"), ("/run/b.sock", "/run/b.sock")] {
            assert_eq!(socket(text).ok(), Some(PathBuf::from(path)));
        }
        assert!(socket("tcp://127.0.0.1:1").is_err());
    }
}
