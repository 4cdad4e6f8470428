//! Ports of this host that lead to ports of pods.
//!
//! Beside the maps of [`rules`](crate::rules) there is one set:
//!
//! ```text
//! targets    address . address                              (pods that reach themselves this way)
//! ```
//!
//! What comes from this host's own loopback, or from the pod itself, is masqueraded. So that answers find their
//! way back to loopback the pod's link is told to route it, and a first chain drops what pods send there on their own.

use std::collections::HashMap;
use std::fs;
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;

use crate::nft::{
    Batch, ChainKind, Data, Element, Expression, Family, Hook, KeyType, MetaKey, NftSocket, Operator, Register,
    SetSpec, Verdict,
};
use crate::rules::{
    DESTINATION, RAW, SOURCE, SOURCE_NAT, add_chain, address, address_in, loopback, meta_equals, publish_ports,
    translated,
};
use crate::{Error, HostPort, Instance};

const TARGETS: &str = "targets";

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
            let (set, element) = port.element();
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
            let (set, element) = port.element();
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

fn itself(port: &HostPort) -> Element {
    let pod = port.to.ip().octets();
    Element::key([pod, pod].concat())
}

fn install(batch: &mut Batch, instance: &Instance) -> Result<(), Error> {
    batch.add_table();
    batch.add_set(&SetSpec::set(TARGETS, &[KeyType::Ipv4, KeyType::Ipv4]));
    add_chain(batch, "guard", ChainKind::Filter, Hook::Prerouting, RAW);
    let mut guard = meta_equals(MetaKey::InputGroup, &instance.link_group().to_ne_bytes()).to_vec();
    guard.extend(address_in(DESTINATION, loopback()?, Operator::Equal)?);
    guard.push(Expression::Verdict(Verdict::Drop));
    batch.add_rule("guard", &guard);
    publish_ports(batch);
    add_chain(batch, "postrouting", ChainKind::Nat, Hook::Postrouting, SOURCE_NAT);
    let hairpin = [
        address(SOURCE, Register(0)),
        address(DESTINATION, Register(1)),
        Expression::Lookup {
            set: TARGETS.into(),
            from: Register(0),
            to: Data::None,
            invert: false,
        },
    ];
    for condition in [address_in(SOURCE, loopback()?, Operator::Equal)?, hairpin] {
        let mut rule = translated(Operator::NotEqual).to_vec();
        rule.extend(condition);
        rule.push(Expression::Masquerade);
        batch.add_rule("postrouting", &rule);
    }
    Ok(())
}
