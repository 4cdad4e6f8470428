//! The node: images, engine, agent, service tables, DNS.

use crate::{
    cli::NodeSettings,
    failure::{During, Outcome},
};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
};
use strata_agent::{Agent, AgentOptions, NetworkFactory};
use strata_client::Client;
use strata_dns::{DnsOptions, DnsServer};
use strata_engine::{Engine, EngineOptions};
use strata_http::ServerTls;
use strata_image::{Builtin, BuiltinFile, BuiltinSource, ImageConfig, ImageOptions, ImageStore, ProxyOptions};
use strata_net::{PodNetwork, PodNetworkOptions};
use strata_service::{ServiceProxy, ServiceProxyOptions};
use strata_shim::Helper;
use strata_task::CancellationToken;

/// Where the kubelet listens upstream; another port is taken when this one is in use.
const AGENT_PORT: u16 = 10250;
/// Where the node's resolver listens on the pod network's gateway.
const DNS_PORT: u16 = 53;
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
    let variable = |upper: &str| {
        let lower = upper.to_lowercase();
        std::env::var(upper)
            .or_else(|_| std::env::var(lower))
            .unwrap_or_else(|_| String::new())
    };
    let options = ImageOptions {
        hosts_dir: Some(registry_hosts.to_owned()),
        proxy: ProxyOptions {
            http: variable("HTTP_PROXY"),
            https: variable("HTTPS_PROXY"),
            no_proxy: variable("NO_PROXY"),
        },
        ..ImageOptions::new(data_dir.join("images"))
    };
    ImageStore::open(options).during("opening the image store")
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
    let cgroup_root = format!("/strata-{}", options.instance);
    let engine = Engine::open(EngineOptions {
        root: data_dir.join("engine"),
        run: PathBuf::from("/run/strata").join(&options.instance),
        cgroup_root: cgroup_root.clone(),
        helper: options.helper.clone(),
        images: images.clone(),
        network: None,
        log_max_size: 10 << 20,
        log_max_files: 5,
    });
    let engine = engine.await.during("opening the container engine")?;
    let agent = AgentOptions {
        client: client.clone(),
        engine,
        images,
        node_name: name.clone(),
        node_ips: vec![*ip],
        pods_dir: settings.pods_dir.clone().unwrap_or_else(|| data_dir.join("pods")),
        log_dir: settings.pod_logs_dir.clone().unwrap_or_else(|| data_dir.join("logs")),
        seccomp_dir: data_dir.join("seccomp"),
        cgroup_root,
        cluster_dns: vec![options.dns],
        cluster_domain: DOMAIN.to_owned(),
        network: network_factory(&options, cancel),
        tls: options.tls.clone(),
        listener: Arc::new(options.listener),
        instance: options.instance.clone(),
        max_pods: 110,
        version: strata_api::GIT_VERSION.to_owned(),
    };
    let agent = Agent::start(agent, cancel.clone()).during("starting the node agent")?;
    Ok(Worker { agent })
}

/// Makes the pod network, and on its gateway the resolver and the service tables that lead to it.
fn network_factory(options: &WorkerOptions, cancel: &CancellationToken) -> NetworkFactory {
    let (state, instance, client) = (
        options.data_dir.join("network"),
        options.instance.clone(),
        options.client.clone(),
    );
    let (cluster_cidr, cancel) = (options.cluster_cidr.clone(), cancel.clone());
    let (name, ip, service) = (options.name.clone(), options.ip, options.dns);
    let service_cidr = options.service_cidr.clone();
    let runtime = tokio::runtime::Handle::current();
    Arc::new(move |cidr: &str| {
        let text = |e: &dyn std::fmt::Display| e.to_string();
        let network = PodNetwork::open(PodNetworkOptions {
            state_dir: state.clone(),
            cidr: cidr.parse().map_err(|e| text(&e))?,
            cluster_cidr: cluster_cidr.parse().map_err(|e| text(&e))?,
            instance: instance.clone(),
            mtu: 0,
        })
        .map_err(|e| text(&e))?;
        let resolver = SocketAddr::new(network.gateway(), DNS_PORT);
        let dns = DnsOptions {
            client: client.clone(),
            domain: DOMAIN.to_owned(),
            listen: vec![resolver],
            upstream: strata_dns::upstream_resolvers(&resolv_conf()),
        };
        let proxy = ServiceProxyOptions {
            client: client.clone(),
            node_name: name.clone(),
            node_ips: vec![ip],
            instance: instance.clone(),
            cluster_cidr: cluster_cidr.parse().map_err(|e| text(&e))?,
            service_cidr: Some(service_cidr.parse().map_err(|e| text(&e))?),
            node_port_addresses: Vec::new(),
            dns: Some((service, resolver)),
        };
        let _entered = runtime.enter();
        let dns = runtime
            .block_on(DnsServer::start(dns, cancel.clone()))
            .map_err(|e| text(&e))?;
        let proxy = ServiceProxy::start(proxy, cancel.clone()).map_err(|e| text(&e))?;
        // Both end with the cancellation; until then this task owns them.
        let stopping = cancel.clone();
        runtime.spawn(async move {
            stopping.cancelled().await;
            proxy.stop().await;
            dns.stop().await;
        });
        Ok(network)
    })
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
    /// Waits until everything has ended after a cancellation.
    pub async fn join(self) {
        self.agent.join().await;
    }
}

/// The machine's own resolver configuration; a machine without one forwards nothing.
fn resolv_conf() -> String {
    std::fs::read_to_string("/etc/resolv.conf").unwrap_or_else(|_| String::new())
}
