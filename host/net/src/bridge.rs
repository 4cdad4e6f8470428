//! Networks of people's containers: each is a bridge with a subnet of its own; containers have a link
//! under it, an address of the subnet and, where they may leave it, a route through the bridge.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use crate::forward::{self, ForwardWatch};
use crate::netlink::route::{LOOPBACK, MacAddress, Route, RouteSocket, VethEnd};
use crate::{Cidr, Error, Instance, host};

/// Bytes of a packet on links that nobody wants otherwise.
const MTU: u32 = 1500;
/// Longest name of a link (IFNAMSIZ less the ending zero).
const MAX_LINK_NAME: usize = 15;

/// The bridges of one instance on this host.
#[derive(Debug)]
pub struct BridgeHost {
    instance: Instance,
    _watch: ForwardWatch,
}

/// A container's link under a bridge.
#[derive(Debug, Clone)]
pub struct BridgePort<'a> {
    /// The bridge it is under.
    pub bridge: &'a str,
    /// Names the link on this side.
    pub endpoint: &'a str,
    /// The link's name inside.
    pub inside: &'a str,
    /// The container's address.
    pub ip: Ipv4Addr,
    /// Bits of the subnet.
    pub prefix: u8,
    /// Where packets for elsewhere go; `None` leaves the default route alone.
    pub gateway: Option<Ipv4Addr>,
    /// The container's hardware address.
    pub mac: MacAddress,
    /// Bytes of a packet at most; `None` is the usual size.
    pub mtu: Option<u32>,
    /// Whether it reaches the bridge alone, not what else is under it.
    pub isolated: bool,
}

/// Whether a link may have that name.
pub fn is_link_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b':';
    (1..=MAX_LINK_NAME).contains(&name.len()) && name.bytes().all(plain) && name != "." && name != ".."
}

impl BridgeHost {
    /// Prepares the host, in the calling thread's network namespace: forwarding, answers to a foreign
    /// FORWARD DROP (and watches for new ones until dropped).
    pub fn open(instance: &str) -> Result<Self, Error> {
        let instance = Instance::new(instance)?;
        host::forward_packets()?;
        let watch = ForwardWatch::start(instance.clone())?;
        forward::answer(&instance)?;
        Ok(Self {
            instance,
            _watch: watch,
        })
    }

    /// The instance whose names the links have.
    pub(crate) fn instance(&self) -> &Instance {
        &self.instance
    }

    /// The link of a network's bridge, unless it is to have another name.
    pub fn bridge(&self, network: &str) -> String {
        self.instance.link_name(&format!("bridge {network}"))
    }

    /// The host's link of an endpoint.
    pub fn link(&self, endpoint: &str) -> String {
        self.instance.link_name(endpoint)
    }

    /// Makes a network's bridge with the host's address in it, unless it is there. One of that name that is
    /// not ours is left alone, which is an error.
    pub fn ensure(&self, name: &str, network: &str, gateway: Ipv4Addr, prefix: u8) -> Result<(), Error> {
        let mut socket = RouteSocket::open()?;
        let there = socket.links()?.into_iter().find(|link| link.name == name);
        let index = match there {
            Some(link) if link.group == self.instance.link_group() => link.index,
            Some(_) => return Err(Error::Malformed("a link with the name of the bridge exists already")),
            None => {
                socket.requests().add_bridge(name, self.instance.link_group()).run()?;
                socket
                    .link_index(name)?
                    .ok_or(Error::Malformed("a new link has no index"))?
            }
        };
        socket
            .requests()
            .set_mac(index, mac_of(gateway))
            .set_alias(index, &format!("{} {network}", self.instance.pod_table()))
            .no_link_local(index)
            .add_address(index, gateway.into(), prefix, None)
            .set_up(index)
            .run()?;
        // Connections to a published port of the loopback come back with such addresses.
        let path = format!("/proc/sys/net/ipv4/conf/{name}/route_localnet");
        std::fs::write(&path, "1").map_err(|source| Error::file(path, source))
    }

    /// Removes a network's bridge; no error if it is gone, or not ours.
    pub fn remove(&self, bridge: &str) -> Result<(), Error> {
        let links = RouteSocket::open()?.links()?;
        let ours = |group: u32| group == self.instance.link_group();
        match links.iter().any(|link| link.name == bridge && ours(link.group)) {
            true => delete(bridge),
            false => Ok(()),
        }
    }

    /// Connects a container: its network namespace gets a link with the address.
    pub fn connect(&self, port: &BridgePort<'_>, netns: BorrowedFd<'_>) -> Result<(), Error> {
        let name = self.link(port.endpoint);
        delete(&name)?;
        let connected = self.connect_new(&name, port, netns);
        if connected.is_err() {
            delete(&name)?;
        }
        connected
    }

    fn connect_new(&self, name: &str, port: &BridgePort<'_>, netns: BorrowedFd<'_>) -> Result<(), Error> {
        let mut socket = RouteSocket::open()?;
        let bridge = socket
            .link_index(port.bridge)?
            .ok_or(Error::Malformed("the network's bridge is gone"))?;
        let end = VethEnd {
            name,
            mac: None,
            netns: None,
        };
        let peer = VethEnd {
            name: port.inside,
            mac: Some(port.mac),
            netns: Some(netns),
        };
        socket
            .requests()
            .add_veth(end, peer, port.mtu.unwrap_or(MTU), self.instance.link_group())
            .run()?;
        let index = socket
            .link_index(name)?
            .ok_or(Error::Malformed("a new link has no index"))?;
        let mut requests = socket.requests();
        requests.no_link_local(index).set_master(index, bridge);
        if port.isolated {
            requests.isolate(index);
        }
        requests.set_up(index).run()?;
        let mut inside = RouteSocket::open_in(netns)?;
        let index = inside
            .link_index(port.inside)?
            .ok_or(Error::Malformed("a new link has no index"))?;
        let mut requests = inside.requests();
        requests
            .set_up(LOOPBACK)
            .no_link_local(index)
            .set_up(index)
            .add_address(index, port.ip.into(), port.prefix, None);
        if let Some(gateway) = port.gateway {
            let everywhere = Cidr::new([0, 0, 0, 0].into(), 0)?;
            requests.replace_route(&Route {
                link: Some(index),
                ..Route::via(everywhere, gateway.into())
            });
        }
        requests.run()?;
        socket.await_running(name)
    }

    /// Takes a container's link away; no error if it is gone.
    pub fn disconnect(&self, endpoint: &str) -> Result<(), Error> {
        delete(&self.link(endpoint))
    }

    /// Removes the links of endpoints that are not named, and bridges that are not.
    pub fn retain(&self, endpoints: &[&str], bridges: &[String]) -> Result<(), Error> {
        let mut kept: Vec<String> = endpoints.iter().map(|endpoint| self.link(endpoint)).collect();
        kept.extend(bridges.iter().cloned());
        let prefix = self.instance.link_prefix();
        for link in RouteSocket::open()?.links()? {
            if link.name.starts_with(&prefix) && link.group == self.instance.link_group() && !kept.contains(&link.name)
            {
                delete(&link.name)?;
            }
        }
        Ok(())
    }

    /// Ranges that this host has addresses in or routes to, besides its default route.
    pub fn used_ranges() -> Result<Vec<Cidr>, Error> {
        let mut socket = RouteSocket::open()?;
        let mut used: Vec<Cidr> = Vec::new();
        for (_, address, prefix, _) in socket.addresses()? {
            used.push(Cidr::new(address, prefix)?);
        }
        let routes = socket.routes()?;
        used.extend(
            routes
                .iter()
                .map(|route| route.destination)
                .filter(|range| range.prefix() > 0),
        );
        used.retain(|range| matches!(range.network(), IpAddr::V4(_)));
        Ok(used)
    }
}

fn delete(name: &str) -> Result<(), Error> {
    match RouteSocket::open()?.requests().delete_link(name).run() {
        Err(error) if error.errno() == Some(Errno::NODEV.raw_os_error()) => Ok(()),
        other => other,
    }
}

/// A locally administered hardware address, from the address.
pub fn mac_of(ip: Ipv4Addr) -> MacAddress {
    let [a, b, c, d] = ip.octets();
    [0x02, 0x42, a, b, c, d]
}
