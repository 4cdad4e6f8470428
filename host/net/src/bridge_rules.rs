//! The table of an instance's bridges: networks kept apart, what leaves them masqueraded, published
//! ports led in. It is replaced as a whole, in one transaction.

use std::collections::HashSet;

use crate::bridge::BridgeHost;
use crate::nft::{Batch, ChainKind, Expression, Family, Hook, MetaKey, NftSocket, Operator, Register, Verdict};
use crate::rules::{
    DESTINATION, RAW, SOURCE, SOURCE_NAT, add_chain, address_in, loopback, meta_equals, multicast, publish_ports,
    translated,
};
use crate::{Cidr, Error, HostPort};

const SCRATCH: Register = Register(0);
/// Holds the name of a link, which takes four registers.
const NAME_LENGTH: usize = 16;

/// A network as far as rules go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeRules<'a> {
    /// Its bridge.
    pub bridge: &'a str,
    /// Its addresses.
    pub range: Cidr,
    /// Whether it has no way out.
    pub internal: bool,
    /// Whether what leaves it gets the host's address.
    pub masquerade: bool,
}

impl BridgeHost {
    /// Replaces the rules by those for these networks and ports.
    pub fn apply(&self, networks: &[BridgeRules<'_>], ports: &[HostPort]) -> Result<(), Error> {
        let table = self.instance().pod_table();
        let mut socket = NftSocket::open()?;
        let mut batch = Batch::new(Family::Ipv4, &table);
        batch.add_table().delete_table().add_table();
        self.guard_loopback(&mut batch)?;
        self.keep_apart(&mut batch, networks);
        self.lead_out(&mut batch, networks)?;
        publish_ports(&mut batch);
        let mut led = HashSet::new();
        for port in ports {
            let (set, element) = port.element();
            // A port leads to one place: the first that has it.
            if led.insert((set, element.key.clone())) {
                batch.add_elements(set, &[element]);
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
        add_chain(batch, "raw", ChainKind::Filter, Hook::Prerouting, RAW);
        let mut rule = self.group(MetaKey::InputGroup).to_vec();
        rule.extend(address_in(DESTINATION, loopback()?, Operator::Equal)?);
        rule.push(Expression::Verdict(Verdict::Drop));
        batch.add_rule("raw", &rule);
        Ok(())
    }

    fn keep_apart(&self, batch: &mut Batch, networks: &[BridgeRules<'_>]) {
        add_chain(batch, "forward", ChainKind::Filter, Hook::Forward, 0);
        for network in networks {
            let name = network.bridge;
            let (in_by, out_by) = (
                |operator| link(MetaKey::InputName, name, operator),
                |operator| link(MetaKey::OutputName, name, operator),
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
        add_chain(batch, "postrouting", ChainKind::Nat, Hook::Postrouting, SOURCE_NAT);
        for network in networks {
            let name = network.bridge;
            if network.masquerade && !network.internal {
                let mut rule = address_in(SOURCE, network.range, Operator::Equal)?.to_vec();
                rule.extend(link(MetaKey::OutputName, name, Operator::NotEqual));
                rule.extend(address_in(DESTINATION, multicast()?, Operator::NotEqual)?);
                rule.push(Expression::Masquerade);
                batch.add_rule("postrouting", &rule);
            }
            // To a published port of a container beside it: the answer has to come back this way.
            let mut hairpin = address_in(SOURCE, network.range, Operator::Equal)?.to_vec();
            hairpin.extend(link(MetaKey::OutputName, name, Operator::Equal));
            hairpin.extend(translated(Operator::NotEqual));
            hairpin.push(Expression::Masquerade);
            batch.add_rule("postrouting", &hairpin);
        }
        let mut rule = address_in(SOURCE, loopback()?, Operator::Equal)?.to_vec();
        rule.extend(self.group(MetaKey::OutputGroup));
        rule.push(Expression::Masquerade);
        batch.add_rule("postrouting", &rule);
        Ok(())
    }

    fn group(&self, key: MetaKey) -> [Expression; 2] {
        meta_equals(key, &self.instance().link_group().to_ne_bytes())
    }
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
