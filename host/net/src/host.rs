//! What a host needs once for all its pods: forwarding, the gateway address, and the table
//! that masquerades what leaves the cluster.

use std::fs;
use std::net::IpAddr;

use crate::netlink::route::{LOOPBACK, RouteSocket};
use crate::nft::{Batch, ChainKind, ConntrackKey, Expression, Family, Hook, MetaKey, NftSocket, Operator, Verdict};
use crate::rules::{DESTINATION, SOURCE, SOURCE_NAT, add_chain, address_in, connection_has, meta_equals, multicast};
use crate::{Cidr, Error, Instance};

const CONNTRACK_INVALID: u32 = 1;

/// Packets pass through this host. That stays when the instance goes: by then others may have come to rely on it.
pub(crate) fn forward_packets() -> Result<(), Error> {
    let path = "/proc/sys/net/ipv4/ip_forward";
    let current = fs::read_to_string(path).map_err(|source| Error::file(path, source))?;
    if current.trim() == "0" {
        fs::write(path, "1").map_err(|source| Error::file(path, source))?;
    }
    Ok(())
}

/// Forwarding on, loopback up, the gateway address on loopback. Whether another one was there: the kernel forgets the
/// routes that had that as their source.
pub(crate) fn prepare(instance: &Instance, gateway: IpAddr) -> Result<bool, Error> {
    forward_packets()?;
    let mut socket = RouteSocket::open()?;
    let label = instance.address_label();
    let present = socket.addresses()?;
    let mut moved = false;
    let mut requests = socket.requests();
    // The range of an earlier run may have been another one.
    for (link, old, prefix, _) in present
        .iter()
        .filter(|(_, old, _, found)| *found == label && *old != gateway)
    {
        requests.delete_address(*link, *old, *prefix);
        moved = true;
    }
    requests
        .set_up(LOOPBACK)
        .add_address(LOOPBACK, gateway, 32, Some(&label));
    requests.run()?;
    Ok(moved)
}

/// Replaces the instance's table of pod traffic: what pods send to none of the cluster is masqueraded.
pub(crate) fn install_table(instance: &Instance, pods: &[Cidr], cluster: &[Cidr]) -> Result<(), Error> {
    let mut socket = NftSocket::open()?;
    let mut batch = Batch::new(Family::Ipv4, &instance.pod_table());
    // Asked first because a removal, even of nothing, makes the kernel wait for every CPU.
    if socket.tables(Family::Ipv4)?.contains(&instance.pod_table()) {
        batch.delete_table();
    }
    batch.add_table();
    add_chain(&mut batch, "forward", ChainKind::Filter, Hook::Forward, 0);
    // A packet that conntrack cannot place would leave with a pod's own address, or reset a
    // connection whose address was translated.
    let from_pods = meta_equals(MetaKey::InputGroup, &instance.link_group().to_ne_bytes());
    let mut invalid = from_pods.to_vec();
    invalid.extend(connection_has(
        ConntrackKey::State,
        CONNTRACK_INVALID,
        Operator::NotEqual,
    ));
    invalid.push(Expression::Verdict(Verdict::Drop));
    batch.add_rule("forward", &invalid);
    add_chain(&mut batch, "postrouting", ChainKind::Nat, Hook::Postrouting, SOURCE_NAT);
    let multicast = multicast()?;
    for pods in pods {
        let mut masquerade = address_in(SOURCE, *pods, Operator::Equal)?.to_vec();
        for inside in cluster.iter().chain([&multicast]) {
            masquerade.extend(address_in(DESTINATION, *inside, Operator::NotEqual)?);
        }
        masquerade.push(Expression::Masquerade);
        batch.add_rule("postrouting", &masquerade);
    }
    socket.apply(batch)
}
