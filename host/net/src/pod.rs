//! Pod addresses and links.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;

use crate::{Cidr, Error};

/// How a node gives its pods their network.
#[derive(Debug, Clone)]
pub struct PodNetworkOptions {
    /// Where allocations are kept; survives restarts, not needed across reboots.
    pub state_dir: PathBuf,
    /// The node's own pod range.
    pub cidr: Cidr,
    /// The range of all pods of the cluster; traffic that leaves it is masqueraded.
    pub cluster_cidr: Cidr,
    /// Unique per server on this machine; names links and tables.
    pub instance: String,
    /// Link MTU in bytes; 0 means 1500.
    pub mtu: u32,
}

/// A sandbox's place in the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodAddress {
    /// The sandbox's own address.
    pub ip: IpAddr,
    /// The node's address on the pod network, the sandbox's default gateway.
    pub gateway: IpAddr,
    /// The link on the host's side.
    pub host_link: String,
}

/// Gives sandboxes an address and a link, and takes them back.
#[derive(Debug)]
pub struct PodNetwork {
    options: PodNetworkOptions,
}

impl PodNetwork {
    /// Prepares the node: gateway address, forwarding, masquerade, answers to a foreign FORWARD DROP.
    pub fn open(options: PodNetworkOptions) -> Result<Arc<Self>, Error> {
        Ok(Arc::new(Self { options }))
    }

    /// The node's address on the pod network: the gateway of every pod.
    pub fn gateway(&self) -> IpAddr {
        self.options.cidr.network()
    }

    /// Gives the sandbox whose network namespace is `netns` its address, `eth0` and loopback.
    pub fn attach(&self, sandbox_id: &str, netns: BorrowedFd<'_>) -> Result<PodAddress, Error> {
        let _ = (sandbox_id, netns);
        Err(Error::Exhausted(self.options.cidr))
    }

    /// Takes the sandbox's link and address back. Unknown sandboxes are fine.
    pub fn detach(&self, sandbox_id: &str) -> Result<(), Error> {
        let _ = sandbox_id;
        Ok(())
    }

    /// The address a sandbox has.
    pub fn address(&self, sandbox_id: &str) -> Option<PodAddress> {
        let _ = sandbox_id;
        None
    }

    /// Detaches every sandbox that is not named.
    pub fn retain(&self, sandbox_ids: &[&str]) -> Result<(), Error> {
        let _ = sandbox_ids;
        Ok(())
    }
}
