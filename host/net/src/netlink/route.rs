//! Links, addresses, routes, neighbours and rules (rtnetlink).

use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use super::route_format::*;
use super::{Attributes, MessageWriter, Socket, native32};
use crate::namespace::with_thread_in;
use crate::{Cidr, Error};

/// Loopback is the first link of every network namespace.
pub const LOOPBACK: u32 = 1;

/// A link that has not come up by then has another reason.
const RUNNING_DEADLINE: Duration = Duration::from_millis(200);

/// A link's hardware address.
pub type MacAddress = [u8; 6];

/// One end of a veth pair that is to be made.
#[derive(Debug, Clone, Copy)]
pub struct VethEnd<'a> {
    /// Up to 15 characters.
    pub name: &'a str,
    /// The hardware address; the kernel chooses when absent.
    pub mac: Option<MacAddress>,
    /// The network namespace to make it in; the socket's own when absent.
    pub netns: Option<BorrowedFd<'a>>,
}

/// A route that is to be made or was listed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Route {
    /// Where to; prefix 0 is the default route.
    pub destination: Cidr,
    /// The next hop, if not on the link.
    pub gateway: Option<IpAddr>,
    /// The link's index.
    pub link: Option<u32>,
    /// The source address for traffic of this host.
    pub source: Option<IpAddr>,
    /// The metric; smaller wins.
    pub metric: u32,
}

impl Route {
    /// A route to what is directly on a link.
    pub fn on_link(destination: Cidr, link: u32) -> Self {
        Self {
            destination,
            gateway: None,
            link: Some(link),
            source: None,
            metric: 0,
        }
    }

    /// A route through another host.
    pub fn via(destination: Cidr, gateway: IpAddr) -> Self {
        Self {
            destination,
            gateway: Some(gateway),
            link: None,
            source: None,
            metric: 0,
        }
    }
}

/// A policy rule: traffic of a source to a table.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Traffic from here.
    pub source: Option<Cidr>,
    /// Traffic to here.
    pub destination: Option<Cidr>,
    /// The routing table to use.
    pub table: u32,
    /// Smaller is asked first.
    pub priority: u32,
}

/// A link as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number.
    pub index: u32,
    /// The name.
    pub name: String,
    /// The link group; 0 is the default one.
    pub group: u32,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether it transmits.
    pub running: bool,
}

/// Requests that are sent in one datagram and executed in order.
///
/// A failed request does not stop the later ones; the first failure is what `run` reports.
#[derive(Debug)]
pub struct RouteRequests<'s> {
    socket: &'s mut RouteSocket,
    writer: MessageWriter,
    first: u32,
    what: Vec<String>,
}

/// An rtnetlink socket in one network namespace.
#[derive(Debug)]
pub struct RouteSocket {
    socket: Socket,
}

impl RouteSocket {
    /// A socket in the calling thread's network namespace.
    pub fn open() -> Result<Self, Error> {
        Ok(Self {
            socket: Socket::open(None, 0)?,
        })
    }

    /// A socket in another network namespace. It stays there, whoever uses it.
    pub fn open_in(netns: BorrowedFd<'_>) -> Result<Self, Error> {
        with_thread_in(netns, Self::open)?
    }

    /// Starts a list of requests.
    pub fn requests(&mut self) -> RouteRequests<'_> {
        RouteRequests {
            socket: self,
            writer: MessageWriter::new(),
            first: 0,
            what: Vec::new(),
        }
    }

    /// The index of the link of that name; `None` when there is none.
    pub fn link_index(&mut self, name: &str) -> Result<Option<u32>, Error> {
        Ok(self.link(name)?.map(|link| link.index))
    }

    /// The link of that name; `None` when there is none.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>, Error> {
        let mut writer = MessageWriter::new();
        let sequence = self.socket.next_sequence();
        writer.message(RTM_GETLINK, NLM_F_REQUEST | NLM_F_ACK, sequence, |w| {
            w.bytes(&link_header(0, 0, 0));
            w.text(IFLA_IFNAME, name);
        });
        let mut found = None;
        let what = format!("look up the link {name}");
        match self.socket.dump(&writer, &what, |_, body| found = link_of(body)) {
            Err(error) if error.errno() == Some(rustix::io::Errno::NODEV.raw_os_error()) => Ok(None),
            other => other.map(|()| found),
        }
    }

    /// Waits until a link whose peer has come up does transmit. The kernel makes it so a moment
    /// later (at once, on 6.8 and newer, when it is asked about the link); a packet sent before
    /// that is lost, and a first SYN is sent again only after a second.
    pub fn await_running(&mut self, name: &str) -> Result<(), Error> {
        let start = Instant::now();
        while self.link(name)?.is_some_and(|link| !link.running) {
            if start.elapsed() > RUNNING_DEADLINE {
                tracing::debug!(name, "the link does not transmit yet");
                break;
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Every link.
    pub fn links(&mut self) -> Result<Vec<Link>, Error> {
        let mut links = Vec::new();
        let header = link_header(0, 0, 0);
        self.list(RTM_GETLINK, &header, "list links", |body| links.extend(link_of(body)))?;
        Ok(links)
    }

    /// Every IPv4 address as (link index, address with prefix, label).
    pub fn addresses(&mut self) -> Result<Vec<(u32, IpAddr, u8, String)>, Error> {
        let mut found = Vec::new();
        self.list(RTM_GETADDR, &[AF_INET, 0, 0, 0, 0, 0, 0, 0], "list addresses", |body| {
            let attributes = Attributes::after(body, 8);
            let address = attributes
                .get(IFA_LOCAL)
                .or_else(|| attributes.get(IFA_ADDRESS))
                .and_then(ip_of);
            if let (Some(address), Some(index)) = (address, body.get(4..8).and_then(native32)) {
                found.push((
                    index,
                    address,
                    body[1],
                    attributes.text(IFA_LABEL).unwrap_or_default().to_owned(),
                ));
            }
        })?;
        Ok(found)
    }

    /// Every IPv4 route of the main table.
    pub fn routes(&mut self) -> Result<Vec<Route>, Error> {
        let mut found = Vec::new();
        self.list(
            RTM_GETROUTE,
            &[AF_INET, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            "list routes",
            |body| {
                found.extend(route_of(body));
            },
        )?;
        Ok(found)
    }

    fn list(&mut self, kind: u16, header: &[u8], what: &str, mut each: impl FnMut(&[u8])) -> Result<(), Error> {
        let mut writer = MessageWriter::new();
        let sequence = self.socket.next_sequence();
        writer.message(kind, NLM_F_REQUEST | NLM_F_DUMP, sequence, |w| w.bytes(header));
        self.socket.dump(&writer, what, |_, body| each(body))
    }
}

impl RouteRequests<'_> {
    /// A veth pair, each end made directly in its namespace and under its final name.
    pub fn add_veth(&mut self, end: VethEnd<'_>, peer: VethEnd<'_>, mtu: u32, group: u32) -> &mut Self {
        let what = format!("make the link {} and its peer {}", end.name, peer.name);
        self.push(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, what, |w| {
            w.bytes(&link_header(0, 0, 0));
            write_end(w, end, mtu);
            w.u32(IFLA_GROUP, group);
            w.nest(IFLA_LINKINFO, |w| {
                w.attribute(IFLA_INFO_KIND, b"veth");
                w.nest(IFLA_INFO_DATA, |w| {
                    w.nest(VETH_INFO_PEER, |w| {
                        w.bytes(&link_header(0, 0, 0));
                        write_end(w, peer, mtu);
                    });
                });
            });
        })
    }

    /// A bridge.
    pub fn add_bridge(&mut self, name: &str, group: u32) -> &mut Self {
        self.push(
            RTM_NEWLINK,
            NLM_F_CREATE | NLM_F_EXCL,
            format!("make the bridge {name}"),
            |w| {
                w.bytes(&link_header(0, 0, 0));
                w.text(IFLA_IFNAME, name);
                w.u32(IFLA_GROUP, group);
                w.nest(IFLA_LINKINFO, |w| w.attribute(IFLA_INFO_KIND, b"bridge"));
            },
        )
    }

    /// Puts a link under a bridge.
    pub fn set_master(&mut self, index: u32, master: u32) -> &mut Self {
        self.push(RTM_NEWLINK, 0, format!("put link {index} under link {master}"), |w| {
            w.bytes(&link_header(index, 0, 0));
            w.u32(IFLA_MASTER, master);
        })
    }

    /// Lets a link under a bridge reach the bridge alone, not what else is under it.
    pub fn isolate(&mut self, index: u32) -> &mut Self {
        self.push(
            RTM_SETLINK,
            0,
            format!("set link {index} apart from those beside it"),
            |w| {
                let mut header = link_header(index, 0, 0);
                header[0] = AF_BRIDGE;
                w.bytes(&header);
                w.nest(IFLA_PROTINFO, |w| w.attribute(IFLA_BRPORT_ISOLATED, &[1]));
            },
        )
    }

    /// Gives a link its hardware address; a bridge then keeps it whatever is put under it.
    pub fn set_mac(&mut self, index: u32, mac: MacAddress) -> &mut Self {
        self.push(RTM_NEWLINK, 0, format!("give link {index} its hardware address"), |w| {
            w.bytes(&link_header(index, 0, 0));
            w.attribute(IFLA_ADDRESS, &mac);
        })
    }

    /// Brings a link up.
    pub fn set_up(&mut self, index: u32) -> &mut Self {
        self.push(RTM_NEWLINK, 0, format!("bring link {index} up"), |w| {
            w.bytes(&link_header(index, IFF_UP, IFF_UP))
        })
    }

    /// Takes a link down.
    pub fn set_down(&mut self, index: u32) -> &mut Self {
        self.push(RTM_NEWLINK, 0, format!("take link {index} down"), |w| {
            w.bytes(&link_header(index, 0, IFF_UP))
        })
    }

    /// Gives a link its description.
    pub fn set_alias(&mut self, index: u32, alias: &str) -> &mut Self {
        self.push(RTM_NEWLINK, 0, format!("describe link {index}"), |w| {
            w.bytes(&link_header(index, 0, 0));
            w.attribute(IFLA_IFALIAS, alias.as_bytes());
        })
    }

    /// No IPv6 link-local address when the link comes up.
    pub fn no_link_local(&mut self, index: u32) -> &mut Self {
        self.push(
            RTM_NEWLINK,
            0,
            format!("keep link {index} without a link-local address"),
            |w| {
                w.bytes(&link_header(index, 0, 0));
                w.nest(IFLA_AF_SPEC, |w| {
                    w.nest(u16::from(AF_INET6), |w| {
                        w.attribute(IFLA_INET6_ADDR_GEN_MODE, &[IN6_ADDR_GEN_MODE_NONE])
                    });
                });
            },
        )
    }

    /// Puts a link into a group.
    pub fn set_group(&mut self, index: u32, group: u32) -> &mut Self {
        self.push(RTM_NEWLINK, 0, format!("put link {index} into group {group}"), |w| {
            w.bytes(&link_header(index, 0, 0));
            w.u32(IFLA_GROUP, group);
        })
    }

    /// Removes a link, and with it a veth's peer.
    pub fn delete_link(&mut self, name: &str) -> &mut Self {
        self.push(RTM_DELLINK, 0, format!("remove the link {name}"), |w| {
            w.bytes(&link_header(0, 0, 0));
            w.text(IFLA_IFNAME, name);
        })
    }

    /// Removes every link of a group. The kernel answers ENODEV when there is none.
    pub fn delete_group(&mut self, group: u32) -> &mut Self {
        self.push(RTM_DELLINK, 0, format!("remove the links of group {group}"), |w| {
            w.bytes(&link_header(0, 0, 0));
            w.u32(IFLA_GROUP, group);
        })
    }

    /// Puts an address on a link (replacing the same one).
    pub fn add_address(&mut self, index: u32, address: IpAddr, prefix: u8, label: Option<&str>) -> &mut Self {
        let what = format!("add the address {address}/{prefix} to link {index}");
        self.push(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, what, |w| {
            write_address(w, index, address, prefix, label);
        })
    }

    /// Takes an address off a link.
    pub fn delete_address(&mut self, index: u32, address: IpAddr, prefix: u8) -> &mut Self {
        let what = format!("remove the address {address}/{prefix} from link {index}");
        self.push(RTM_DELADDR, 0, what, |w| write_address(w, index, address, prefix, None))
    }

    /// Makes a route, or changes the one with the same destination and metric.
    pub fn replace_route(&mut self, route: &Route) -> &mut Self {
        let what = format!("route {}", route.destination);
        self.push(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, what, |w| {
            write_route(w, route)
        })
    }

    /// Removes a route.
    pub fn delete_route(&mut self, route: &Route) -> &mut Self {
        let what = format!("remove the route to {}", route.destination);
        self.push(RTM_DELROUTE, 0, what, |w| write_route(w, route))
    }

    /// A permanent neighbour: no ARP is needed for it.
    pub fn add_neighbour(&mut self, index: u32, address: IpAddr, mac: MacAddress) -> &mut Self {
        let what = format!("add the neighbour {address} on link {index}");
        self.push(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, what, |w| {
            let mut header = [0; 12];
            header[0] = family(address);
            header[4..8].copy_from_slice(&index.to_ne_bytes());
            header[8..10].copy_from_slice(&NUD_PERMANENT.to_ne_bytes());
            w.bytes(&header);
            with_ip(address, |bytes| w.attribute(1, bytes));
            w.attribute(2, &mac);
        })
    }

    /// Adds a policy rule.
    pub fn add_rule(&mut self, rule: &Rule) -> &mut Self {
        self.push(
            RTM_NEWRULE,
            NLM_F_CREATE | NLM_F_EXCL,
            "add a routing rule".into(),
            |w| write_rule(w, rule),
        )
    }

    /// Removes a policy rule.
    pub fn delete_rule(&mut self, rule: &Rule) -> &mut Self {
        self.push(RTM_DELRULE, 0, "remove a routing rule".into(), |w| write_rule(w, rule))
    }

    /// Sends the requests. Errors: the first that the kernel refused.
    pub fn run(&mut self) -> Result<(), Error> {
        if self.what.is_empty() {
            return Ok(());
        }
        let writer = std::mem::take(&mut self.writer);
        let what = std::mem::take(&mut self.what);
        self.socket.socket.acknowledged(&writer, self.first, &what)
    }

    fn push(&mut self, kind: u16, flags: u16, what: String, body: impl FnOnce(&mut MessageWriter)) -> &mut Self {
        let sequence = self.socket.socket.next_sequence();
        if self.what.is_empty() {
            self.first = sequence;
        }
        self.what.push(what);
        self.writer
            .message(kind, flags | NLM_F_REQUEST | NLM_F_ACK, sequence, body);
        self
    }
}
