//! What an agent is given, and what it knows of its node.

use crate::configuration::Configuration;
use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, RwLock},
};
use strata_client::Client;
use strata_engine::Engine;
use strata_http::ServerTls;
use strata_image::ImageStore;
use strata_net::PodNetwork;

/// Everything an agent needs. Made by the composition root.
#[derive(Clone)]
pub struct AgentOptions {
    /// The API, as `system:node:NAME`.
    pub client: Client,
    /// Sandboxes and containers.
    pub engine: Engine,
    /// Images.
    pub images: ImageStore,
    /// The node's name.
    pub node_name: String,
    /// The node's addresses.
    pub node_ips: Vec<IpAddr>,
    /// Directory with a folder per pod (volumes, /etc/hosts, termination messages).
    pub pods_dir: PathBuf,
    /// Directory of the volumes that the node makes for claims.
    pub volumes_dir: PathBuf,
    /// Directory of the containers' logs.
    pub log_dir: PathBuf,
    /// Directory of Localhost seccomp profiles.
    pub seccomp_dir: PathBuf,
    /// Folder with manifests of pods that are this node's own.
    pub static_pods: Option<PathBuf>,
    /// The cgroup below which every pod's lies, absolute in every hierarchy.
    pub cgroup_root: String,
    /// Nameservers of pods.
    pub cluster_dns: Vec<IpAddr>,
    /// The cluster's domain, such as `cluster.local`.
    pub cluster_domain: String,
    /// Makes the pod network once the node has been given its podCIDR.
    pub network: NetworkFactory,
    /// Certificate of the agent's own API, and the authority whose client certificates are believed.
    pub tls: Arc<ServerTls>,
    /// Port of the agent's own API.
    pub listener: Arc<std::net::TcpListener>,
    /// Name of this server among those of the machine; marks its links, routes and tables.
    pub instance: String,
    /// Directory whose file system holds images and writable layers.
    pub image_dir: PathBuf,
    /// Directory with the sockets between the node and its plugins (`device-plugins`, `pod-resources`).
    pub plugins_dir: PathBuf,
    /// Settings of an administrator.
    pub configuration: Arc<Configuration>,
    /// Version shown in the node's status.
    pub version: String,
}

/// Makes the pod network of a podCIDR.
pub type NetworkFactory = Arc<dyn Fn(&str) -> Result<Arc<PodNetwork>, String> + Send + Sync>;

/// What the agent knows of its node.
#[derive(Clone, Debug, Default)]
pub struct NodeFacts {
    /// The node's addresses.
    pub ips: Vec<String>,
    /// Thousandths of a core.
    pub cpu_milli: i64,
    /// Bytes of memory.
    pub memory_bytes: i64,
    /// Bytes of the file system that holds pods.
    pub storage_bytes: i64,
    /// Most pods.
    pub max_pods: i64,
    /// Bytes of huge pages by resource.
    pub huge_pages: BTreeMap<String, i64>,
    /// What is kept from pods.
    pub configuration: Arc<Configuration>,
}

/// The pod network, once there is one.
#[derive(Clone, Default)]
pub struct NetworkSlot(Arc<RwLock<Option<Arc<PodNetwork>>>>);

impl NetworkSlot {
    /// The network.
    pub fn get(&self) -> Option<Arc<PodNetwork>> {
        self.0.read().expect("no holder of this lock panics").clone()
    }

    /// Puts the network in place.
    pub fn set(&self, network: Arc<PodNetwork>) {
        *self.0.write().expect("no holder of this lock panics") = Some(network);
    }
}
