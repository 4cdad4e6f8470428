//! The table of an instance's bridges: networks kept apart, what leaves them masqueraded, published
//! ports led in. It is replaced as a whole, in one transaction.

use std::net::Ipv4Addr;

use crate::bridge::BridgeHost;
use crate::host::meta_equals;
use crate::nft::{
    Batch, ChainHook, ChainKind, ConntrackKey, Expression, Family, FibResult, Hook, MetaKey, NatKind, NftSocket,
    Operator, PayloadBase, Register, Verdict,
};
use crate::{Cidr, Error};

const SOURCE: u32 = 12;
const DESTINATION: u32 = 16;
const DESTINATION_PORT: u32 = 2;
/// Before connection tracking looks at the packet.
const RAW_PRIORITY: i32 = -300;
const DESTINATION_NAT_PRIORITY: i32 = -100;
const SOURCE_NAT_PRIORITY: i32 = 100;
const DESTINATION_TRANSLATED: u32 = 0x20;
/// RTN_LOCAL: an address of this host.
const LOCAL: u32 = 2;
const SCRATCH: Register = Register(0);
const TARGET: Register = Register(1);
const TARGET_PORT: Register = Register(2);
/// Holds the name of a link, which takes four registers.
const NAME_LENGTH: usize = 16;

/// A network as far as rules go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeRules<'a> {
    /// Its identity.
    pub network: &'a str,
    /// Its addresses.
    pub range: Cidr,
    /// Whether it has no way out.
    pub internal: bool,
    /// Whether what leaves it gets the host's address.
    pub masquerade: bool,
}

/// A port of this host that leads to one of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishedPort {
    /// On which of the host's addresses; all if unspecified.
    pub host_ip: Ipv4Addr,
    /// The host's port.
    pub host_port: u16,
    /// The container's address.
    pub ip: Ipv4Addr,
    /// The container's port.
    pub port: u16,
    /// IP protocol number: 6 or 17.
    pub protocol: u8,
}

impl BridgeHost {
    /// Replaces the rules by those for these networks and ports.
    pub fn apply(&self, networks: &[BridgeRules<'_>], ports: &[PublishedPort]) -> Result<(), Error> {
        let table = self.instance().pod_table();
        let mut socket = NftSocket::open()?;
        let mut batch = Batch::new(Family::Ipv4, &table);
        batch.add_table().delete_table().add_table();
        self.guard_loopback(&mut batch)?;
        self.keep_apart(&mut batch, networks);
        self.lead_out(&mut batch, networks)?;
        for (chain, hook) in [("prerouting", Hook::Prerouting), ("output", Hook::Output)] {
            add_chain(&mut batch, chain, ChainKind::Nat, hook, DESTINATION_NAT_PRIORITY);
            for port in ports {
                batch.add_rule(chain, &lead_in(port));
            }
        }
        socket.apply(batch)
    }

    /// Removes the rules.
    pub fn withdraw(&self) -> Result<(), Error> {
        let mut batch = Batch::new(Family::Ipv4, &self.instance().pod_table());
        batch.add_table().delete_table();
        NftSocket::open()?.apply(batch)
    }

    /// Containers do not reach the host's loopback, although answers from it reach them.
    fn guard_loopback(&self, batch: &mut Batch) -> Result<(), Error> {
        add_chain(batch, "raw", ChainKind::Filter, Hook::Prerouting, RAW_PRIORITY);
        let mut rule = self.group(MetaKey::InputGroup).to_vec();
        rule.extend(address_in(DESTINATION, loopback()?, Operator::Equal)?);
        rule.push(Expression::Verdict(Verdict::Drop));
        batch.add_rule("raw", &rule);
        Ok(())
    }

    fn keep_apart(&self, batch: &mut Batch, networks: &[BridgeRules<'_>]) {
        add_chain(batch, "forward", ChainKind::Filter, Hook::Forward, 0);
        for network in networks {
            let name = self.bridge(network.network);
            let (in_by, out_by) = (
                |operator| link(MetaKey::InputName, &name, operator),
                |operator| link(MetaKey::OutputName, &name, operator),
            );
            if network.internal {
                let leaving = [in_by(Operator::Equal), out_by(Operator::NotEqual)];
                let entering = [in_by(Operator::NotEqual), out_by(Operator::Equal)];
                for direction in [leaving, entering] {
                    let mut rule = direction.concat();
                    rule.push(Expression::Verdict(Verdict::Drop));
                    batch.add_rule("forward", &rule);
                }
                continue;
            }
            // A published port is open to everybody, containers of other networks included.
            let mut rule = [in_by(Operator::Equal), out_by(Operator::NotEqual)].concat();
            rule.extend(self.group(MetaKey::OutputGroup));
            rule.extend(translated(Operator::Equal));
            rule.push(Expression::Verdict(Verdict::Drop));
            batch.add_rule("forward", &rule);
        }
    }

    fn lead_out(&self, batch: &mut Batch, networks: &[BridgeRules<'_>]) -> Result<(), Error> {
        add_chain(
            batch,
            "postrouting",
            ChainKind::Nat,
            Hook::Postrouting,
            SOURCE_NAT_PRIORITY,
        );
        let multicast = Cidr::new([224, 0, 0, 0].into(), 4)?;
        for network in networks {
            let name = self.bridge(network.network);
            if network.masquerade && !network.internal {
                let mut rule = address_in(SOURCE, network.range, Operator::Equal)?;
                rule.extend(link(MetaKey::OutputName, &name, Operator::NotEqual));
                rule.extend(address_in(DESTINATION, multicast, Operator::NotEqual)?);
                rule.push(Expression::Masquerade);
                batch.add_rule("postrouting", &rule);
            }
            // To a published port of a container beside it: the answer has to come back this way.
            let mut hairpin = address_in(SOURCE, network.range, Operator::Equal)?;
            hairpin.extend(link(MetaKey::OutputName, &name, Operator::Equal));
            hairpin.extend(translated(Operator::NotEqual));
            hairpin.push(Expression::Masquerade);
            batch.add_rule("postrouting", &hairpin);
        }
        let mut rule = address_in(SOURCE, loopback()?, Operator::Equal)?;
        rule.extend(self.group(MetaKey::OutputGroup));
        rule.push(Expression::Masquerade);
        batch.add_rule("postrouting", &rule);
        Ok(())
    }

    fn group(&self, key: MetaKey) -> [Expression; 2] {
        meta_equals(key, &self.instance().link_group().to_ne_bytes())
    }
}

fn add_chain(batch: &mut Batch, name: &str, kind: ChainKind, hook: Hook, priority: i32) {
    let place = ChainHook {
        kind,
        hook,
        priority,
        drops: false,
    };
    batch.add_chain(name, Some(place));
}

/// Compares a link's whole name.
fn link(key: MetaKey, name: &str, operator: Operator) -> Vec<Expression> {
    let mut with = name.as_bytes().to_vec();
    with.resize(NAME_LENGTH, 0);
    vec![
        Expression::Meta { key, to: SCRATCH },
        Expression::Compare {
            from: SCRATCH,
            operator,
            with,
        },
    ]
}

/// Whether the connection's destination was translated: compares that bit with zero.
fn translated(operator: Operator) -> Vec<Expression> {
    vec![
        Expression::Conntrack {
            key: ConntrackKey::Status,
            to: SCRATCH,
        },
        Expression::Bitwise {
            from: SCRATCH,
            to: SCRATCH,
            mask: DESTINATION_TRANSLATED.to_ne_bytes().to_vec(),
            xor: vec![0; 4],
        },
        Expression::Compare {
            from: SCRATCH,
            operator,
            with: vec![0; 4],
        },
    ]
}

fn loopback() -> Result<Cidr, Error> {
    Cidr::new([127, 0, 0, 0].into(), 8)
}

/// Compares the IPv4 address at an offset of the header with a range.
fn address_in(offset: u32, range: Cidr, operator: Operator) -> Result<Vec<Expression>, Error> {
    Ok(vec![
        Expression::Payload {
            base: PayloadBase::Network,
            offset,
            length: 4,
            to: SCRATCH,
        },
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

fn lead_in(port: &PublishedPort) -> Vec<Expression> {
    let compare = |with: Vec<u8>| Expression::Compare {
        from: SCRATCH,
        operator: Operator::Equal,
        with,
    };
    let mut rule = vec![
        Expression::Meta {
            key: MetaKey::Layer4Protocol,
            to: SCRATCH,
        },
        compare(vec![port.protocol]),
        Expression::Payload {
            base: PayloadBase::Transport,
            offset: DESTINATION_PORT,
            length: 2,
            to: SCRATCH,
        },
        compare(port.host_port.to_be_bytes().to_vec()),
    ];
    if port.host_ip.is_unspecified() {
        rule.push(Expression::Fib {
            result: FibResult::DestinationType,
            to: SCRATCH,
        });
        rule.push(compare(LOCAL.to_ne_bytes().to_vec()));
    } else {
        rule.push(Expression::Payload {
            base: PayloadBase::Network,
            offset: DESTINATION,
            length: 4,
            to: SCRATCH,
        });
        rule.push(compare(port.host_ip.octets().to_vec()));
    }
    rule.extend([
        Expression::Immediate {
            to: TARGET,
            value: port.ip.octets().to_vec(),
        },
        Expression::Immediate {
            to: TARGET_PORT,
            value: port.port.to_be_bytes().to_vec(),
        },
        Expression::Nat {
            kind: NatKind::Destination,
            address: TARGET,
            port: Some(TARGET_PORT),
        },
    ]);
    rule
}
