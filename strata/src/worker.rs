//! The node: images, engine, agent, service tables, DNS.

use crate::{
    cli::NodeSettings,
    failure::{During, Outcome},
    network::NodeNetwork,
    room,
};
use std::{
    net::{IpAddr, Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
};
use strata_agent::{Agent, AgentOptions, Drain};
use strata_client::Client;
use strata_engine::{Engine, EngineOptions};
use strata_http::ServerTls;
use strata_image::{Builtin, BuiltinFile, BuiltinSource, ImageConfig, ImageOptions, ImageStore, ProxyOptions};
use strata_shim::Helper;
use strata_task::CancellationToken;

/// Where the kubelet listens upstream; another port is taken when this one is in use.
const AGENT_PORT: u16 = 10250;
/// The image made from this very program.
const HELLO_IMAGE: &str = "strata.local/hello:latest";
/// The cluster's domain.
pub const DOMAIN: &str = "cluster.local";

/// What a node needs, whether it is on a server or joins one.
pub struct WorkerOptions {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// The settings of the command line.
    pub settings: NodeSettings,
    /// The node's name.
    pub name: String,
    /// The node's address.
    pub ip: IpAddr,
    /// The API, as `system:node:NAME`.
    pub client: Client,
    /// The agent's serving certificate; its authority decides who may call.
    pub tls: Arc<ServerTls>,
    /// The agent's port.
    pub listener: TcpListener,
    /// Marks links, tables and cgroups on this machine.
    pub instance: String,
    /// Addresses of pods of the whole cluster.
    pub cluster_cidr: String,
    /// Addresses of services.
    pub service_cidr: String,
    /// Address of the cluster's DNS.
    pub dns: IpAddr,
    /// Starts shims.
    pub helper: Helper,
}

/// A running node.
pub struct Worker {
    agent: Agent,
}

/// The node's name: as told, or the host name in lower case.
pub fn node_name(settings: &NodeSettings) -> String {
    settings
        .node_name
        .clone()
        .unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().to_lowercase())
}

/// The node's address: as told, or the one that leads to the world.
pub fn node_ip(settings: &NodeSettings) -> Outcome<IpAddr> {
    if let Some(ip) = settings.node_ip {
        return Ok(ip);
    }
    // Connecting a datagram socket sends nothing; it only asks the routing table.
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).during("looking for the node's address")?;
    let routed = socket
        .connect((Ipv4Addr::new(192, 0, 2, 1), 9))
        .and_then(|()| socket.local_addr());
    match routed {
        Ok(address) if !address.ip().is_unspecified() => Ok(address.ip()),
        // A machine without a default route still serves itself.
        _ => Ok(Ipv4Addr::LOCALHOST.into()),
    }
}

/// The agent's port: the usual one, or any when another node on this machine has it.
pub fn agent_listener() -> Outcome<TcpListener> {
    let bind = |port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port));
    let listener = bind(AGENT_PORT)
        .or_else(|_| bind(0))
        .during("listening for the agent's API")?;
    listener.set_nonblocking(true).during("listening for the agent's API")?;
    Ok(listener)
}

/// The image store of a data directory.
pub fn image_store(data_dir: &Path, registry_hosts: &Path) -> Outcome<ImageStore> {
    ImageStore::open(image_options(data_dir, registry_hosts)).during("opening the image store")
}

/// Where images are kept below a data directory, and how registries are reached.
pub fn image_options(data_dir: &Path, registry_hosts: &Path) -> ImageOptions {
    ImageOptions {
        hosts_dir: Some(registry_hosts.to_owned()),
        proxy: ProxyOptions::from_variables(|name| std::env::var(name).ok()),
        policy: Some("/etc/strata/policy.json".into()),
        ..ImageOptions::new(data_dir.join("images"))
    }
}

/// Starts a node.
pub async fn start(options: WorkerOptions, cancel: &CancellationToken) -> Outcome<Worker> {
    let WorkerOptions {
        data_dir,
        settings,
        name,
        ip,
        client,
        ..
    } = &options;
    let images = image_store(data_dir, &settings.registry_hosts)?;
    add_hello(&images)?;
    let configuration = settings.configuration()?;
    tokio::spawn(room::keep(
        images.clone(),
        room::policy(&configuration),
        cancel.child_token(),
    ));
    let cgroup_root = format!("/strata-{}", options.instance);
    let pod_network = NodeNetwork::new(&options);
    let engine = Engine::open(EngineOptions {
        root: data_dir.join("engine"),
        run: PathBuf::from("/run/strata").join(&options.instance),
        cgroup_root: cgroup_root.clone(),
        helper: options.helper.clone(),
        images: images.clone(),
        network: pod_network.recover(),
        log_max_size: configuration.container_log_max_size.value().unsigned_abs(),
        log_max_files: configuration.container_log_max_files,
    });
    let engine = engine.await.during("opening the container engine")?;
    let agent = AgentOptions {
        client: client.clone(),
        engine,
        images,
        node_name: name.clone(),
        node_ips: vec![*ip],
        pods_dir: settings.pods_dir.clone().unwrap_or_else(|| data_dir.join("pods")),
        volumes_dir: data_dir.join("volumes"),
        log_dir: settings.pod_logs_dir.clone().unwrap_or_else(|| data_dir.join("logs")),
        image_dir: data_dir.join("images"),
        plugins_dir: settings.plugins_dir(data_dir),
        seccomp_dir: data_dir.join("seccomp"),
        static_pods: settings.pod_manifest_path.clone().or_else(|| {
            let named = Some(configuration.static_pod_path.as_str()).filter(|path| !path.is_empty());
            named.map(std::path::PathBuf::from)
        }),
        cgroup_root,
        cluster_dns: vec![options.dns],
        cluster_domain: DOMAIN.to_owned(),
        network: pod_network.factory(cancel),
        tls: options.tls.clone(),
        listener: Arc::new(options.listener),
        instance: options.instance.clone(),
        configuration: Arc::new(configuration),
        version: strata_api::GIT_VERSION.to_owned(),
    };
    let agent = Agent::start(agent, cancel.clone()).during("starting the node agent")?;
    Ok(Worker { agent })
}

/// Makes the image `strata.local/hello` from this very program.
fn add_hello(images: &ImageStore) -> Outcome {
    let program = std::env::current_exe().during("finding this program")?;
    let builtin = Builtin {
        files: vec![BuiltinFile {
            path: "strata".to_owned(),
            source: BuiltinSource::Host(program),
            mode: 0o755,
        }],
        config: ImageConfig {
            entrypoint: vec!["/strata".to_owned(), "hello".to_owned()],
            exposed_ports: vec!["8080/tcp".to_owned()],
            ..ImageConfig::default()
        },
    };
    images
        .add_builtin(HELLO_IMAGE, builtin)
        .map(drop)
        .during("making the image strata.local/hello")
}

impl Worker {
    /// Ends its pods, for when the machine goes down.
    pub fn drain(&self) -> Drain {
        self.agent.drain()
    }

    /// Waits until everything has ended after a cancellation.
    pub async fn join(self) {
        self.agent.join().await;
    }
}
