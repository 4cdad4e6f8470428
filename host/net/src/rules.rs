//! What the rules of all tables here are made of: conditions on addresses, links and connections, and published ports.
//!
//! ```text
//! anywhere   protocol . port            : address . port    (every address of this host)
//! bound      address . protocol . port  : address . port    (one address of this host)
//! ```

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::nft::{
    Batch, ChainHook, ChainKind, ConntrackKey, Data, Element, Expression, FibResult, Hook, KeyType, MetaKey, NatKind,
    Operator, PayloadBase, Register, SetSpec, Verdict,
};
use crate::{Cidr, Error};

/// Where the IPv4 header has them.
pub(crate) const SOURCE: u32 = 12;
pub(crate) const DESTINATION: u32 = 16;
/// Where headers of TCP, UDP and SCTP have it.
const DESTINATION_PORT: u32 = 2;

/// Before connection tracking looks at the packet.
pub(crate) const RAW: i32 = -300;
pub(crate) const DESTINATION_NAT: i32 = -100;
pub(crate) const SOURCE_NAT: i32 = 100;

/// `RTN_LOCAL`: an address of this host.
const LOCAL: u32 = 2;
/// `IPS_DST_NAT`.
const DESTINATION_TRANSLATED: u32 = 0x20;

/// Maps of published ports, and the chain that looks into them.
const ANYWHERE: &str = "anywhere";
const BOUND: &str = "bound";
const PORTS: &str = "ports";

const SCRATCH: Register = Register(0);

/// A port of this host that leads to one of a pod or container.
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

impl HostPort {
    /// The map that it belongs to, and its element.
    pub(crate) fn element(&self) -> (&'static str, Element) {
        let mut key = Vec::with_capacity(12);
        let set = if self.address.is_unspecified() {
            ANYWHERE
        } else {
            key.extend(self.address.octets());
            BOUND
        };
        key.extend([self.protocol, 0, 0, 0]);
        key.extend(padded(self.port));
        let mut value = self.to.ip().octets().to_vec();
        value.extend(padded(self.to.port()));
        (set, Element::value(key, value))
    }
}

fn padded(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

/// Adds a chain at a place of a packet's way.
pub(crate) fn add_chain(batch: &mut Batch, name: &str, kind: ChainKind, hook: Hook, priority: i32) {
    let place = ChainHook {
        kind,
        hook,
        priority,
        drops: false,
    };
    batch.add_chain(name, Some(place));
}

/// Adds the maps of published ports, empty, and what leads packets by them.
pub(crate) fn publish_ports(batch: &mut Batch) {
    use KeyType::{Ipv4, Port, Protocol};
    batch.add_set(&SetSpec::map(ANYWHERE, &[Protocol, Port], &[Ipv4, Port]));
    batch.add_set(&SetSpec::map(BOUND, &[Ipv4, Protocol, Port], &[Ipv4, Port]));
    batch.add_chain(PORTS, None);
    let bound = [
        address(DESTINATION, Register(0)),
        protocol(Register(1)),
        port(Register(2)),
        find(BOUND),
        translate(),
    ];
    batch.add_rule(PORTS, &bound);
    let local = [
        Expression::Fib {
            result: FibResult::DestinationType,
            to: SCRATCH,
        },
        equals(&LOCAL.to_ne_bytes()),
        protocol(Register(0)),
        port(Register(1)),
        find(ANYWHERE),
        translate(),
    ];
    batch.add_rule(PORTS, &local);
    for (chain, at) in [("prerouting", Hook::Prerouting), ("output", Hook::Output)] {
        add_chain(batch, chain, ChainKind::Nat, at, DESTINATION_NAT);
        batch.add_rule(chain, &[Expression::Verdict(Verdict::Jump(PORTS.into()))]);
    }
}

/// A property of the packet has this value.
pub(crate) fn meta_equals(key: MetaKey, with: &[u8]) -> [Expression; 2] {
    [Expression::Meta { key, to: SCRATCH }, equals(with)]
}

fn equals(with: &[u8]) -> Expression {
    Expression::Compare {
        from: SCRATCH,
        operator: Operator::Equal,
        with: with.to_vec(),
    }
}

/// Compares the IPv4 address at an offset of the header with a range.
pub(crate) fn address_in(offset: u32, range: Cidr, operator: Operator) -> Result<[Expression; 3], Error> {
    Ok([
        address(offset, SCRATCH),
        Expression::Bitwise {
            from: SCRATCH,
            to: SCRATCH,
            mask: range.mask4().octets().to_vec(),
            xor: vec![0; 4],
        },
        Expression::Compare {
            from: SCRATCH,
            operator,
            with: range.network4()?.octets().to_vec(),
        },
    ])
}

/// The loopback addresses.
pub(crate) fn loopback() -> Result<Cidr, Error> {
    Cidr::new([127, 0, 0, 0].into(), 8)
}

/// The addresses of many.
pub(crate) fn multicast() -> Result<Cidr, Error> {
    Cidr::new([224, 0, 0, 0].into(), 4)
}

/// The connection's destination was translated, or with `Equal` was not: compares that bit with zero.
pub(crate) fn translated(operator: Operator) -> [Expression; 3] {
    connection_has(ConntrackKey::Status, DESTINATION_TRANSLATED, operator)
}

/// Compares some bits of what is known of the connection with zero.
pub(crate) fn connection_has(key: ConntrackKey, bits: u32, operator: Operator) -> [Expression; 3] {
    [
        Expression::Conntrack { key, to: SCRATCH },
        Expression::Bitwise {
            from: SCRATCH,
            to: SCRATCH,
            mask: bits.to_ne_bytes().to_vec(),
            xor: vec![0; 4],
        },
        Expression::Compare {
            from: SCRATCH,
            operator,
            with: vec![0; 4],
        },
    ]
}

/// Loads the address at an offset of the header.
pub(crate) fn address(offset: u32, to: Register) -> Expression {
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
        offset: DESTINATION_PORT,
        length: 2,
        to,
    }
}

fn find(map: &str) -> Expression {
    Expression::Lookup {
        set: map.to_owned(),
        from: SCRATCH,
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
