//! What a cluster is, on disk.

use super::links;
use crate::failure::{During, Outcome, fail};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

/// Where clusters are kept, unless STRATA_CLUSTERS names another folder.
const ROOT: &str = "/var/lib/strata-clusters";
/// How many clusters can be at a time.
const SUBNETS: u8 = 200;
/// Port of the API inside a cluster.
pub const PORT: u16 = 6443;

/// A cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClusterSpec {
    /// Its name.
    pub name: String,
    /// Third byte of its nodes' addresses, 172.30.x.0/24.
    pub subnet: u8,
    /// Its nodes; the first is the server.
    pub nodes: Vec<NodeSpec>,
    /// Loopback ports of this machine that nodes reach at their own loopback.
    pub forward: Vec<u16>,
    folder: PathBuf,
}

/// A node of a cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Its name.
    pub name: String,
    /// Its address.
    pub ip: IpAddr,
}

impl NodeSpec {
    /// Where it keeps everything.
    pub fn data_dir(&self, cluster: &Path) -> PathBuf {
        cluster.join(&self.name)
    }
}

/// The folder of all clusters.
pub fn root() -> PathBuf {
    std::env::var_os("STRATA_CLUSTERS").map_or_else(|| PathBuf::from(ROOT), PathBuf::from)
}

/// The folder of a cluster.
pub fn folder(name: &str) -> PathBuf {
    root().join(name)
}

impl ClusterSpec {
    /// A new cluster in a subnet that no other has, with its bridge: making that takes the subnet.
    pub fn new(name: &str, nodes: u8, forward: Vec<u16>) -> Outcome<Self> {
        let subnet = take_subnet(&folder(name))?;
        let node = |i: u8| NodeSpec {
            name: format!("{name}-{}", i + 1),
            ip: Ipv4Addr::new(172, 30, subnet, 10 + i).into(),
        };
        Ok(Self {
            name: name.to_owned(),
            subnet,
            nodes: (0..nodes).map(node).collect(),
            forward,
            folder: folder(name),
        })
    }

    /// Reads the description of a cluster.
    pub fn load(folder: &Path) -> Outcome<Self> {
        let path = folder.join("cluster.json");
        let bytes = fs::read(&path).during(format!("reading {}", path.display()))?;
        serde_json::from_slice(&bytes).during(format!("reading {}", path.display()))
    }

    /// Writes the description.
    pub fn save(&self) -> Outcome {
        let path = self.folder.join("cluster.json");
        let text = serde_json::to_vec_pretty(self).during("describing the cluster")?;
        fs::write(&path, text).during(format!("writing {}", path.display()))
    }

    /// Where everything of the cluster is.
    pub fn folder(&self) -> PathBuf {
        self.folder.clone()
    }

    /// The bridge's address: the way from nodes to this machine and back.
    pub fn gateway(&self) -> IpAddr {
        Ipv4Addr::new(172, 30, self.subnet, 1).into()
    }

    /// The bridge's name.
    pub fn bridge(&self) -> String {
        bridge(self.subnet)
    }

    /// Name of the machine's end of a node's link.
    pub fn link(&self, index: usize) -> String {
        format!("strata{}-{index}", self.subnet)
    }

    /// Where the API is.
    pub fn server(&self) -> String {
        format!("https://{}:{PORT}", self.nodes[0].ip)
    }

    /// Why the supervisor gave up, if it did.
    pub fn failure(&self) -> Option<String> {
        fs::read_to_string(self.folder.join("failed")).ok()
    }
}

fn bridge(subnet: u8) -> String {
    format!("strata-br{subnet}")
}

/// Takes the first subnet whose bridge does not exist.
fn take_subnet(cluster: &Path) -> Outcome<u8> {
    for subnet in 0..SUBNETS {
        if links::make_bridge(&bridge(subnet), cluster)? {
            return Ok(subnet);
        }
    }
    fail("there are too many clusters on this machine; delete one")
}
