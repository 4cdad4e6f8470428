//! Tracked connections (ctnetlink): listing and forgetting them.

use std::net::{IpAddr, SocketAddr};

use rustix::net::netlink::NETFILTER;

use super::{Attributes, MessageWriter, Socket, be32};
use crate::Error;

const SUBSYSTEM: u16 = 1 << 8;
const CT_NEW: u16 = SUBSYSTEM;
const CT_GET: u16 = SUBSYSTEM | 1;
const CT_DELETE: u16 = SUBSYSTEM | 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const AF_INET: u8 = 2;
/// Deletions sent in one datagram.
const CHUNK: usize = 256;
/// Connections forgotten in one call; the rest ages out by itself.
const MOST: usize = 65_536;

/// A tracked connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// IP protocol number.
    pub protocol: u8,
    /// Who opened it.
    pub client: SocketAddr,
    /// The address the client asked for.
    pub wanted: SocketAddr,
    /// The address that answers.
    pub server: SocketAddr,
}

/// Forgets the IPv4 connections that `condemned` chooses, so that the next packet of such a flow
/// is looked up afresh. Returns how many were forgotten.
pub fn forget(condemned: impl Fn(&Connection) -> bool) -> Result<usize, Error> {
    let mut socket = Socket::open(Some(NETFILTER), 0)?;
    socket.enlarge()?;
    let mut writer = MessageWriter::new();
    let sequence = socket.next_sequence();
    writer.message(CT_GET, NLM_F_REQUEST | NLM_F_DUMP, sequence, |w| {
        w.bytes(&[AF_INET, 0, 0, 0])
    });
    let mut chosen = Vec::new();
    socket.dump(&writer, "list tracked connections", |kind, body| {
        let attributes = Attributes::after(body, 4);
        if kind == CT_NEW
            && chosen.len() < MOST
            && connection(attributes).is_some_and(|connection| condemned(&connection))
            && let (Some(tuple), Some(id)) = (attributes.get(CTA_TUPLE_ORIG), attributes.get(CTA_ID).and_then(be32))
        {
            chosen.push((tuple.to_vec(), id));
        }
    })?;
    for chunk in chosen.chunks(CHUNK) {
        delete(&mut socket, chunk)?;
    }
    Ok(chosen.len())
}

fn delete(socket: &mut Socket, connections: &[(Vec<u8>, u32)]) -> Result<(), Error> {
    let mut writer = MessageWriter::new();
    let mut first = 0;
    for (index, (tuple, id)) in connections.iter().enumerate() {
        let sequence = socket.next_sequence();
        if index == 0 {
            first = sequence;
        }
        writer.message(CT_DELETE, NLM_F_REQUEST | NLM_F_ACK, sequence, |w| {
            w.bytes(&[AF_INET, 0, 0, 0]);
            w.nest(CTA_TUPLE_ORIG, |w| w.bytes(tuple));
            w.be32(CTA_ID, *id);
        });
    }
    let what = vec!["forget a tracked connection".to_owned(); connections.len()];
    match socket.acknowledged(&writer, first, &what) {
        // It ended by itself in the meantime.
        Err(error) if error.errno() == Some(rustix::io::Errno::NOENT.raw_os_error()) => Ok(()),
        other => other,
    }
}

fn connection(attributes: Attributes<'_>) -> Option<Connection> {
    let (protocol, client, wanted) = tuple(attributes.nested(CTA_TUPLE_ORIG)?)?;
    let (_, server, _) = tuple(attributes.nested(CTA_TUPLE_REPLY)?)?;
    Some(Connection {
        protocol,
        client,
        wanted,
        server,
    })
}

/// (protocol, source, destination) of one direction.
fn tuple(attributes: Attributes<'_>) -> Option<(u8, SocketAddr, SocketAddr)> {
    let ip = attributes.nested(1)?;
    let proto = attributes.nested(2)?;
    let address = |kind| ip.get(kind)?.first_chunk::<4>().map(|bytes| IpAddr::from(*bytes));
    let port = |kind| {
        proto
            .get(kind)?
            .first_chunk::<2>()
            .map(|bytes| u16::from_be_bytes(*bytes))
    };
    Some((
        *proto.get(1)?.first()?,
        SocketAddr::new(address(1)?, port(2).unwrap_or(0)),
        SocketAddr::new(address(2)?, port(3).unwrap_or(0)),
    ))
}
