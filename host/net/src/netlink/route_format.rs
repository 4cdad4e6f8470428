//! The wire format of rtnetlink: message and attribute numbers, fixed headers, objects to and from bytes.

use std::net::IpAddr;
use std::os::fd::AsRawFd;

use super::route::{Link, Route, Rule, VethEnd};
use super::{Attributes, MessageWriter, native32};
use crate::Cidr;

pub(super) const RTM_NEWLINK: u16 = 16;
pub(super) const RTM_SETLINK: u16 = 19;
pub(super) const RTM_DELLINK: u16 = 17;
pub(super) const RTM_GETLINK: u16 = 18;
pub(super) const RTM_NEWADDR: u16 = 20;
pub(super) const RTM_DELADDR: u16 = 21;
pub(super) const RTM_GETADDR: u16 = 22;
pub(super) const RTM_NEWROUTE: u16 = 24;
pub(super) const RTM_DELROUTE: u16 = 25;
pub(super) const RTM_GETROUTE: u16 = 26;
pub(super) const RTM_NEWNEIGH: u16 = 28;
pub(super) const RTM_NEWRULE: u16 = 32;
pub(super) const RTM_DELRULE: u16 = 33;

pub(super) const NLM_F_REQUEST: u16 = 1;
pub(super) const NLM_F_ACK: u16 = 4;
pub(super) const NLM_F_DUMP: u16 = 0x300;
pub(super) const NLM_F_REPLACE: u16 = 0x100;
pub(super) const NLM_F_EXCL: u16 = 0x200;
pub(super) const NLM_F_CREATE: u16 = 0x400;

pub(super) const IFF_UP: u32 = 1;
pub(super) const IFLA_ADDRESS: u16 = 1;
pub(super) const IFLA_IFNAME: u16 = 3;
pub(super) const IFLA_MTU: u16 = 4;
pub(super) const IFLA_MASTER: u16 = 10;
pub(super) const IFLA_PROTINFO: u16 = 12;
/// Of a link under a bridge, inside IFLA_PROTINFO.
pub(super) const IFLA_BRPORT_ISOLATED: u16 = 33;
pub(super) const IFLA_OPERSTATE: u16 = 16;
pub(super) const OPERSTATE_UP: u8 = 6;
pub(super) const IFLA_LINKINFO: u16 = 18;
pub(super) const IFLA_IFALIAS: u16 = 20;
pub(super) const IFLA_AF_SPEC: u16 = 26;
pub(super) const IFLA_GROUP: u16 = 27;
pub(super) const IFLA_NET_NS_FD: u16 = 28;
pub(super) const IFLA_INFO_KIND: u16 = 1;
pub(super) const IFLA_INFO_DATA: u16 = 2;
pub(super) const VETH_INFO_PEER: u16 = 1;
pub(super) const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
pub(super) const IN6_ADDR_GEN_MODE_NONE: u8 = 1;

pub(super) const IFA_ADDRESS: u16 = 1;
pub(super) const IFA_LOCAL: u16 = 2;
pub(super) const IFA_LABEL: u16 = 3;

pub(super) const RTA_DST: u16 = 1;
pub(super) const RTA_OIF: u16 = 4;
pub(super) const RTA_GATEWAY: u16 = 5;
pub(super) const RTA_PRIORITY: u16 = 6;
pub(super) const RTA_PREFSRC: u16 = 7;
pub(super) const RTA_TABLE: u16 = 15;
pub(super) const RT_TABLE_MAIN: u8 = 254;
/// Routes of this project, as /etc/iproute2/rt_protos would number them.
pub(super) const PROTOCOL: u8 = 83;
pub(super) const SCOPE_UNIVERSE: u8 = 0;
pub(super) const SCOPE_LINK: u8 = 253;

pub(super) const FRA_DST: u16 = 1;
pub(super) const FRA_SRC: u16 = 2;
pub(super) const FRA_PRIORITY: u16 = 6;
pub(super) const FRA_TABLE: u16 = 15;

pub(super) const AF_UNSPEC: u8 = 0;
pub(super) const AF_INET: u8 = 2;
pub(super) const AF_BRIDGE: u8 = 7;
pub(super) const AF_INET6: u8 = 10;
pub(super) const NUD_PERMANENT: u16 = 0x80;

pub(super) fn link_header(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[0] = AF_UNSPEC;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

pub(super) fn write_end(w: &mut MessageWriter, end: VethEnd<'_>, mtu: u32) {
    w.text(IFLA_IFNAME, end.name);
    w.u32(IFLA_MTU, mtu);
    if let Some(mac) = end.mac {
        w.attribute(IFLA_ADDRESS, &mac);
    }
    if let Some(netns) = end.netns {
        w.u32(IFLA_NET_NS_FD, netns.as_raw_fd() as u32);
    }
}

pub(super) fn write_address(w: &mut MessageWriter, index: u32, address: IpAddr, prefix: u8, label: Option<&str>) {
    let mut header = [family(address), prefix, 0, SCOPE_UNIVERSE, 0, 0, 0, 0];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    w.bytes(&header);
    with_ip(address, |bytes| {
        w.attribute(IFA_LOCAL, bytes);
        w.attribute(IFA_ADDRESS, bytes);
    });
    if let Some(label) = label {
        w.text(IFA_LABEL, label);
    }
}

pub(super) fn write_route(w: &mut MessageWriter, route: &Route) {
    let network = route.destination.network();
    let scope = if route.gateway.is_none() {
        SCOPE_LINK
    } else {
        SCOPE_UNIVERSE
    };
    let mut header = [0; 12];
    header[0] = family(network);
    header[1] = route.destination.prefix();
    header[4] = RT_TABLE_MAIN;
    header[5] = PROTOCOL;
    header[6] = scope;
    header[7] = 1; // RTN_UNICAST
    w.bytes(&header);
    with_ip(network, |bytes| w.attribute(RTA_DST, bytes));
    if let Some(gateway) = route.gateway {
        with_ip(gateway, |bytes| w.attribute(RTA_GATEWAY, bytes));
    }
    if let Some(link) = route.link {
        w.u32(RTA_OIF, link);
    }
    if let Some(source) = route.source {
        with_ip(source, |bytes| w.attribute(RTA_PREFSRC, bytes));
    }
    if route.metric != 0 {
        w.u32(RTA_PRIORITY, route.metric);
    }
}

pub(super) fn write_rule(w: &mut MessageWriter, rule: &Rule) {
    let side = |side: Option<Cidr>| side.map_or(0, |cidr| cidr.prefix());
    let mut header = [0; 12];
    header[0] = rule
        .source
        .or(rule.destination)
        .map_or(AF_INET, |cidr| family(cidr.network()));
    header[1] = side(rule.destination);
    header[2] = side(rule.source);
    header[7] = 1; // FR_ACT_TO_TBL
    w.bytes(&header);
    if let Some(destination) = rule.destination {
        with_ip(destination.network(), |bytes| w.attribute(FRA_DST, bytes));
    }
    if let Some(source) = rule.source {
        with_ip(source.network(), |bytes| w.attribute(FRA_SRC, bytes));
    }
    w.u32(FRA_PRIORITY, rule.priority);
    w.u32(FRA_TABLE, rule.table);
}

pub(super) fn link_of(body: &[u8]) -> Option<Link> {
    let attributes = Attributes::after(body, 16);
    Some(Link {
        index: body.get(4..8).and_then(native32)?,
        name: attributes.text(IFLA_IFNAME)?.to_owned(),
        group: attributes.get(IFLA_GROUP).and_then(native32).unwrap_or(0),
        up: body.get(8..12).and_then(native32)? & IFF_UP != 0,
        running: attributes.get(IFLA_OPERSTATE) == Some(&[OPERSTATE_UP]),
    })
}

pub(super) fn route_of(body: &[u8]) -> Option<Route> {
    let attributes = Attributes::after(body, 12);
    let table = attributes.get(RTA_TABLE).and_then(native32)?;
    if table != u32::from(RT_TABLE_MAIN) {
        return None;
    }
    let network = match attributes.get(RTA_DST) {
        Some(bytes) => ip_of(bytes)?,
        None => IpAddr::from([0, 0, 0, 0]),
    };
    Some(Route {
        destination: Cidr::new(network, *body.get(1)?).ok()?,
        gateway: attributes.get(RTA_GATEWAY).and_then(ip_of),
        link: attributes.get(RTA_OIF).and_then(native32),
        source: attributes.get(RTA_PREFSRC).and_then(ip_of),
        metric: attributes.get(RTA_PRIORITY).and_then(native32).unwrap_or(0),
    })
}

pub(super) fn ip_of(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

pub(super) fn with_ip(address: IpAddr, use_bytes: impl FnOnce(&[u8])) {
    match address {
        IpAddr::V4(v4) => use_bytes(&v4.octets()),
        IpAddr::V6(v6) => use_bytes(&v6.octets()),
    }
}

pub(super) fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}
