//! Ports of this host that lead to ports of pods.
//!
//! ```text
//! anywhere   protocol . port            : address . port    (every address of this host)
//! bound      address . protocol . port  : address . port    (one address of this host)
//! targets    address . address                              (pods that reach themselves this way)
//! ```
//!
//! What comes from this host's own loopback, or from the pod itself, is masqueraded. So that answers find their
//! way back to loopback the pod's link is told to route it, and a first chain drops what pods send there on their own.

use std::collections::HashMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;

use crate::host::meta_equals;
use crate::nft::{
    Batch, ChainHook, ChainKind, ConntrackKey, Data, Element, Expression, Family, FibResult, Hook, KeyType, MetaKey,
    NatKind, NftSocket, Operator, PayloadBase, Register, SetSpec, Verdict,
};
use crate::{Cidr, Error, Instance};

const ANYWHERE: &str = "anywhere";
const BOUND: &str = "bound";
const TARGETS: &str = "targets";
const RAW: i32 = -300;
const DESTINATION_NAT: i32 = -100;
const SOURCE_NAT: i32 = 100;
const RTN_LOCAL: u32 = 2;
const CONNTRACK_DESTINATION_CHANGED: u32 = 0x20;
const LOOPBACK: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 0);

/// A port of this host that leads to one of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostPort {
    /// IP protocol: 6 TCP, 17 UDP, 132 SCTP.
    pub protocol: u8,
    /// The host's address; unspecified is every one.
    pub address: Ipv4Addr,
    /// The host's port.
    pub port: u16,
    /// Where it leads.
    pub to: SocketAddrV4,
}

/// The ports of an instance. A port leads to one place at a time.
#[derive(Debug)]
pub struct HostPorts {
    table: String,
    /// What each sandbox has.
    published: Mutex<HashMap<String, Vec<HostPort>>>,
}

impl HostPorts {
    /// Makes the instance's table anew, without ports.
    pub fn open(instance: &str) -> Result<Self, Error> {
        let instance = Instance::new(instance)?;
        let table = instance.port_table();
        let mut socket = NftSocket::open()?;
        let mut batch = Batch::new(Family::Ipv4, &table);
        if socket.tables(Family::Ipv4)?.contains(&table) {
            batch.delete_table();
        }
        install(&mut batch, &instance)?;
        socket.apply(batch)?;
        Ok(Self {
            table,
            published: Mutex::default(),
        })
    }

    /// Leads ports of this host to a sandbox whose link on this host is `link`. Blocking.
    ///
    /// Errors: another sandbox has one of the ports.
    pub fn publish(&self, sandbox_id: &str, link: &str, ports: &[HostPort]) -> Result<(), Error> {
        if ports.is_empty() {
            return Ok(());
        }
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        for port in ports {
            let taken =
                |other: &&HostPort| (other.protocol, other.port) == (port.protocol, port.port) && meet(other, port);
            if let Some(other) = published.values().flatten().find(taken) {
                return Err(Error::PortTaken {
                    port: port.port,
                    by: other.to,
                });
            }
        }
        let path = format!("/proc/sys/net/ipv4/conf/{link}/route_localnet");
        fs::write(&path, "1").map_err(|source| Error::file(&path, source))?;
        let mut batch = Batch::new(Family::Ipv4, &self.table);
        for port in ports {
            let (set, element) = element(port);
            batch.add_elements(set, &[element]);
            batch.add_elements(TARGETS, &[itself(port)]);
        }
        NftSocket::open()?.apply(batch)?;
        published.insert(sandbox_id.to_owned(), ports.to_vec());
        Ok(())
    }

    /// Takes a sandbox's ports back; no error if it has none. Blocking.
    pub fn withdraw(&self, sandbox_id: &str) -> Result<(), Error> {
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(ports) = published.get(sandbox_id) else {
            return Ok(());
        };
        let mut batch = Batch::new(Family::Ipv4, &self.table);
        for port in ports {
            let (set, element) = element(port);
            batch.delete_elements(set, &[Element::key(element.key)]);
        }
        let mut pods: Vec<Element> = ports.iter().map(itself).collect();
        pods.dedup();
        batch.delete_elements(TARGETS, &pods);
        match NftSocket::open()?.apply(batch) {
            // Somebody flushed the rules of the whole machine.
            Err(error) if error.errno() == Some(Errno::NOENT.raw_os_error()) => {}
            other => other?,
        }
        published.remove(sandbox_id);
        Ok(())
    }
}

fn meet(one: &HostPort, other: &HostPort) -> bool {
    one.address == other.address || one.address.is_unspecified() || other.address.is_unspecified()
}

/// The set that a port belongs to, and its element.
fn element(port: &HostPort) -> (&'static str, Element) {
    let mut key = Vec::with_capacity(12);
    let set = if port.address.is_unspecified() {
        ANYWHERE
    } else {
        key.extend(port.address.octets());
        BOUND
    };
    key.extend([port.protocol, 0, 0, 0]);
    key.extend(padded(port.port));
    let mut value = port.to.ip().octets().to_vec();
    value.extend(padded(port.to.port()));
    (set, Element::value(key, value))
}

fn itself(port: &HostPort) -> Element {
    let pod = port.to.ip().octets();
    Element::key([pod, pod].concat())
}

fn padded(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

fn install(batch: &mut Batch, instance: &Instance) -> Result<(), Error> {
    use KeyType::{Ipv4, Port, Protocol};
    batch.add_table();
    batch.add_set(&SetSpec::map(ANYWHERE, &[Protocol, Port], &[Ipv4, Port]));
    batch.add_set(&SetSpec::map(BOUND, &[Ipv4, Protocol, Port], &[Ipv4, Port]));
    batch.add_set(&SetSpec::set(TARGETS, &[Ipv4, Ipv4]));
    let hook = |kind, hook, priority| {
        Some(ChainHook {
            kind,
            hook,
            priority,
            drops: false,
        })
    };
    batch.add_chain("guard", hook(ChainKind::Filter, Hook::Prerouting, RAW));
    let mut guard = meta_equals(MetaKey::InputGroup, &instance.link_group().to_ne_bytes()).to_vec();
    guard.extend(loopback(16)?);
    guard.push(Expression::Verdict(Verdict::Drop));
    batch.add_rule("guard", &guard);
    batch.add_chain("ports", None);
    let bound = [
        address(16, Register(0)),
        protocol(Register(1)),
        port(Register(2)),
        find(BOUND),
        translate(),
    ];
    batch.add_rule("ports", &bound);
    let local = [
        Expression::Fib {
            result: FibResult::DestinationType,
            to: Register(0),
        },
        Expression::Compare {
            from: Register(0),
            operator: Operator::Equal,
            with: RTN_LOCAL.to_ne_bytes().to_vec(),
        },
        protocol(Register(0)),
        port(Register(1)),
        find(ANYWHERE),
        translate(),
    ];
    batch.add_rule("ports", &local);
    for (chain, at) in [("prerouting", Hook::Prerouting), ("output", Hook::Output)] {
        batch.add_chain(chain, hook(ChainKind::Nat, at, DESTINATION_NAT));
        batch.add_rule(chain, &[Expression::Verdict(Verdict::Jump("ports".into()))]);
    }
    batch.add_chain("postrouting", hook(ChainKind::Nat, Hook::Postrouting, SOURCE_NAT));
    let hairpin = [
        address(12, Register(0)),
        address(16, Register(1)),
        Expression::Lookup {
            set: TARGETS.into(),
            from: Register(0),
            to: Data::None,
            invert: false,
        },
    ];
    for condition in [loopback(12)?.to_vec(), hairpin.to_vec()] {
        let rule = [translated().to_vec(), condition, vec![Expression::Masquerade]].concat();
        batch.add_rule("postrouting", &rule);
    }
    Ok(())
}

/// The destination of this connection was translated.
fn translated() -> [Expression; 3] {
    [
        Expression::Conntrack {
            key: ConntrackKey::Status,
            to: Register(0),
        },
        Expression::Bitwise {
            from: Register(0),
            to: Register(0),
            mask: CONNTRACK_DESTINATION_CHANGED.to_ne_bytes().to_vec(),
            xor: vec![0; 4],
        },
        Expression::Compare {
            from: Register(0),
            operator: Operator::NotEqual,
            with: vec![0; 4],
        },
    ]
}

/// The address at an offset of the header is a loopback one.
fn loopback(offset: u32) -> Result<[Expression; 3], Error> {
    let range = Cidr::new(LOOPBACK.into(), 8)?;
    Ok([
        address(offset, Register(0)),
        Expression::Bitwise {
            from: Register(0),
            to: Register(0),
            mask: range.mask4().octets().to_vec(),
            xor: vec![0; 4],
        },
        Expression::Compare {
            from: Register(0),
            operator: Operator::Equal,
            with: LOOPBACK.octets().to_vec(),
        },
    ])
}

fn address(offset: u32, to: Register) -> Expression {
    Expression::Payload {
        base: PayloadBase::Network,
        offset,
        length: 4,
        to,
    }
}

fn protocol(to: Register) -> Expression {
    Expression::Meta {
        key: MetaKey::Layer4Protocol,
        to,
    }
}

fn port(to: Register) -> Expression {
    Expression::Payload {
        base: PayloadBase::Transport,
        offset: 2,
        length: 2,
        to,
    }
}

fn find(map: &str) -> Expression {
    Expression::Lookup {
        set: map.to_owned(),
        from: Register(0),
        to: Data::Register(Register(4)),
        invert: false,
    }
}

fn translate() -> Expression {
    Expression::Nat {
        kind: NatKind::Destination,
        address: Register(4),
        port: Some(Register(5)),
    }
}
