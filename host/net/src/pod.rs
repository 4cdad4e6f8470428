//! Pod addresses and links.
//!
//! A pod has `eth0` with its /32 address and one route through the node's gateway address, which
//! sits on the host's loopback: no bridge, no broadcast domain, no ARP (both ends know the other's
//! hardware address from the start). The host has one route per pod.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::io::Errno;

use crate::addresses::AddressPool;
use crate::forward::{self, ForwardWatch};
use crate::netlink::route::{LOOPBACK, MacAddress, Route, RouteSocket, VethEnd};
use crate::reaper::LinkReaper;
use crate::{Cidr, Error, Instance, host};

const DEFAULT_MTU: u32 = 1500;
/// The name programs in a pod expect.
const POD_LINK: &str = "eth0";
/// The link, or the route, went away by itself.
const GONE: [Option<i32>; 2] = [Some(Errno::NODEV.raw_os_error()), Some(Errno::SRCH.raw_os_error())];

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
    instance: Instance,
    gateway: IpAddr,
    mtu: u32,
    pool: Mutex<AddressPool>,
    /// What is not masqueraded: all pods of the cluster, and what this node's have had of addresses.
    cluster: Mutex<Vec<Cidr>>,
    reaper: LinkReaper,
    _watch: ForwardWatch,
}

impl PodNetwork {
    /// Prepares the node, in the calling thread's network namespace: gateway address, forwarding,
    /// masquerade, answers to a foreign FORWARD DROP (and watches for new ones until dropped).
    pub fn open(options: PodNetworkOptions) -> Result<Arc<Self>, Error> {
        let instance = Instance::new(&options.instance)?;
        let pool = AddressPool::open(&options.state_dir.join("addresses"), options.cidr)?;
        let gateway = IpAddr::V4((options.cidr.network4()?.to_bits() + 1).into());
        if host::prepare(&instance, gateway)? {
            restore_routes(&instance, &pool, gateway)?;
        }
        // The range may have been another one when they came.
        let others = pool.others()?;
        let cluster: Vec<Cidr> = std::iter::once(options.cluster_cidr)
            .chain(others.iter().copied())
            .collect();
        let pods: Vec<Cidr> = std::iter::once(options.cidr).chain(others).collect();
        host::install_table(&instance, &pods, &cluster)?;
        let watch = ForwardWatch::start(instance.clone())?;
        forward::answer(&instance)?;
        let mtu = if options.mtu == 0 { DEFAULT_MTU } else { options.mtu };
        let reaper = LinkReaper::start(&instance)?;
        // What an earlier run left behind.
        reaper.wake();
        Ok(Arc::new(Self {
            reaper,
            instance,
            gateway,
            mtu,
            pool: Mutex::new(pool),
            cluster: Mutex::new(cluster),
            _watch: watch,
        }))
    }

    /// The node's address on the pod network: the gateway of every pod, and where the node's own
    /// services for pods (DNS) listen.
    pub fn gateway(&self) -> IpAddr {
        self.gateway
    }

    /// Gives sandboxes addresses of another range from now on. Who has an address keeps it, and the gateway is the same
    /// until the network is opened anew: every pod reaches it over its own link, whatever its address.
    ///
    /// Errors: a range that pods cannot have; then nothing is changed. Blocking.
    pub fn change_range(&self, range: Cidr) -> Result<(), Error> {
        let mut pool = self.pool();
        let old = pool.range();
        if old == range {
            return Ok(());
        }
        let mut cluster = self.cluster.lock().unwrap_or_else(PoisonError::into_inner);
        pool.change_range(range)?;
        let pods: Vec<Cidr> = std::iter::once(range).chain(used(&pool, &cluster, old)).collect();
        let mut apart = cluster.clone();
        apart.extend(pods.iter().filter(|pods| !cluster.contains(pods)));
        if let Err(error) = host::install_table(&self.instance, &pods, &apart) {
            pool.change_range(old)?;
            return Err(error);
        }
        *cluster = apart;
        Ok(())
    }

    /// Gives the sandbox whose network namespace is `netns` its address, `eth0` and loopback.
    /// A sandbox that is attached already gets the same address and a fresh link.
    ///
    /// Must be called in the network namespace in which the network was opened. Blocks about a millisecond.
    pub fn attach(&self, sandbox_id: &str, netns: BorrowedFd<'_>) -> Result<PodAddress, Error> {
        let known = self.address(sandbox_id).is_some();
        let ip = self.pool().allocate(sandbox_id, Instant::now())?;
        let place = self.place(sandbox_id, ip);
        let connected = if known {
            self.delete_link(&place.host_link)
        } else {
            Ok(())
        }
        .and_then(|()| self.connect(sandbox_id, &place, netns))
        .or_else(|error| match error.errno() == Some(Errno::EXIST.raw_os_error()) {
            // A condemned link of the same sandbox has not gone yet.
            true => {
                self.delete_link(&place.host_link)?;
                self.connect(sandbox_id, &place, netns)
            }
            false => Err(error),
        });
        if let Err(error) = connected {
            self.detach(sandbox_id)?;
            return Err(error);
        }
        Ok(place)
    }

    /// Takes the sandbox's link and address back. Unknown sandboxes are fine.
    ///
    /// The host no longer routes to the sandbox when this returns; its link goes a moment later.
    pub fn detach(&self, sandbox_id: &str) -> Result<(), Error> {
        self.condemn(&self.instance.link_name(sandbox_id), self.address(sandbox_id))?;
        self.pool().release(sandbox_id, Instant::now())
    }

    /// The address a sandbox has.
    pub fn address(&self, sandbox_id: &str) -> Option<PodAddress> {
        let ip = self.pool().address(sandbox_id)?;
        Some(self.place(sandbox_id, ip))
    }

    /// Detaches every sandbox that is not named, and removes links that belong to none.
    pub fn retain(&self, sandbox_ids: &[&str]) -> Result<(), Error> {
        let owners = self.pool().owners();
        for owner in owners {
            if !sandbox_ids.contains(&owner.as_str()) {
                self.detach(&owner)?;
            }
        }
        let kept: Vec<String> = sandbox_ids.iter().map(|id| self.instance.link_name(id)).collect();
        let prefix = self.instance.link_prefix();
        let links = RouteSocket::open()?.links()?;
        links
            .iter()
            .filter(|link| link.name.starts_with(&prefix) && link.group == self.instance.link_group())
            .filter(|link| !kept.contains(&link.name))
            .try_for_each(|link| self.condemn(&link.name, None))
    }

    fn place(&self, sandbox_id: &str, ip: IpAddr) -> PodAddress {
        PodAddress {
            ip,
            gateway: self.gateway,
            host_link: self.instance.link_name(sandbox_id),
        }
    }

    fn connect(&self, sandbox_id: &str, place: &PodAddress, netns: BorrowedFd<'_>) -> Result<(), Error> {
        let (host_mac, pod_mac) = mac_addresses(place.ip);
        let mut socket = RouteSocket::open()?;
        let end = VethEnd {
            name: &place.host_link,
            mac: Some(host_mac),
            netns: None,
        };
        let peer = VethEnd {
            name: POD_LINK,
            mac: Some(pod_mac),
            netns: Some(netns),
        };
        socket
            .requests()
            .add_veth(end, peer, self.mtu, self.instance.link_group())
            .run()?;
        let index = socket
            .link_index(&place.host_link)?
            .ok_or(Error::Malformed("a new link has no index"))?;
        socket
            .requests()
            .no_link_local(index)
            .set_alias(index, &format!("{} {sandbox_id}", self.instance.pod_table()))
            .set_up(index)
            .add_neighbour(index, place.ip, pod_mac)
            .replace_route(&Route {
                source: Some(self.gateway),
                ..Route::on_link(Cidr::host(place.ip), index)
            })
            .run()?;
        configure_pod(RouteSocket::open_in(netns)?, place, host_mac)?;
        socket.await_running(&place.host_link)
    }

    /// Ends the traffic of a link, and leaves its removal to the reaper.
    fn condemn(&self, link: &str, place: Option<PodAddress>) -> Result<(), Error> {
        let mut socket = RouteSocket::open()?;
        // Gone already, with the sandbox's namespace, and its route with it.
        let Some(index) = socket.link_index(link)? else {
            return Ok(());
        };
        let mut requests = socket.requests();
        if let Some(place) = place {
            requests.delete_route(&Route::on_link(Cidr::host(place.ip), index));
        }
        let condemned = requests.set_group(index, self.instance.condemned_group()).run();
        self.reaper.wake();
        match condemned {
            Err(error) if GONE.contains(&error.errno()) => Ok(()),
            other => other,
        }
    }

    fn delete_link(&self, name: &str) -> Result<(), Error> {
        match RouteSocket::open()?.requests().delete_link(name).run() {
            // Gone already, with the sandbox's namespace.
            Err(error) if GONE.contains(&error.errno()) => Ok(()),
            other => other,
        }
    }

    fn pool(&self) -> MutexGuard<'_, AddressPool> {
        // The pool is consistent between its statements; a panic elsewhere does not spoil it.
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Routes to sandboxes of an earlier run, from another address of this node.
fn restore_routes(instance: &Instance, pool: &AddressPool, gateway: IpAddr) -> Result<(), Error> {
    let mut socket = RouteSocket::open()?;
    for owner in pool.owners() {
        let (Some(ip), Some(index)) = (pool.address(&owner), socket.link_index(&instance.link_name(&owner))?) else {
            continue;
        };
        let route = Route {
            source: Some(gateway),
            ..Route::on_link(Cidr::host(ip), index)
        };
        socket.requests().replace_route(&route).run()?;
    }
    Ok(())
}

/// Ranges that sandboxes have addresses of still.
fn used(pool: &AddressPool, known: &[Cidr], old: Cidr) -> Vec<Cidr> {
    let mut ranges: Vec<Cidr> = known.iter().copied().chain([old]).collect();
    ranges.sort_unstable();
    ranges.dedup();
    ranges.retain(|range| *range != pool.range() && pool.has_of(range));
    ranges
}

/// The pod's own side, through a socket in its network namespace.
fn configure_pod(mut socket: RouteSocket, place: &PodAddress, host_mac: MacAddress) -> Result<(), Error> {
    let index = socket
        .link_index(POD_LINK)?
        .ok_or(Error::Malformed("a new link has no index"))?;
    let default = Cidr::new([0, 0, 0, 0].into(), 0)?;
    socket
        .requests()
        .set_up(LOOPBACK)
        .no_link_local(index)
        .set_up(index)
        .add_address(index, place.ip, 32, None)
        .add_neighbour(index, place.gateway, host_mac)
        .replace_route(&Route::on_link(Cidr::host(place.gateway), index))
        .replace_route(&Route {
            link: Some(index),
            ..Route::via(default, place.gateway)
        })
        .run()
}

/// Locally administered hardware addresses of the host's and the pod's end, from the pod's address.
fn mac_addresses(ip: IpAddr) -> (MacAddress, MacAddress) {
    let [a, b, c, d] = match ip {
        IpAddr::V4(v4) => v4.octets(),
        IpAddr::V6(v6) => (v6.to_bits() as u32).to_be_bytes(),
    };
    ([0x0a, 0x59, a, b, c, d], [0x0a, 0x58, a, b, c, d])
}
