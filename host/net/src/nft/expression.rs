//! What rules are made of, and how it is encoded.

use crate::netlink::MessageWriter;

const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const LIST_ELEMENT: u16 = 1;

/// One of sixteen 32-bit registers. Longer values take consecutive ones, and a concatenated key
/// is its fields in consecutive registers, each padded to 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Register(pub u8);

impl Register {
    fn number(self) -> u32 {
        8 + u32::from(self.0)
    }
}

/// Where a lookup in a map puts what it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// Nowhere: the set is only asked whether it has the key.
    None,
    /// Into registers.
    Register(Register),
    /// The data is a verdict, which is followed.
    Verdict,
}

/// What happens to the packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Let it pass this hook's chain.
    Accept,
    /// Drop it.
    Drop,
    /// Back to the calling chain.
    Return,
    /// Go on in another chain and come back.
    Jump(String),
    /// Go on in another chain.
    Goto(String),
}

/// Which header a payload offset counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadBase {
    /// The IP header.
    Network = 1,
    /// The TCP, UDP or SCTP header.
    Transport = 2,
}

/// How a value is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// Equal.
    Equal = 0,
    /// Not equal.
    NotEqual = 1,
}

/// Facts about the packet's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetaKey {
    /// The packet mark.
    Mark = 3,
    /// Name of the link it came in by.
    InputName = 6,
    /// Name of the link it leaves by.
    OutputName = 7,
    /// IP protocol number (one byte).
    Layer4Protocol = 16,
    /// Group of the link it came in by.
    InputGroup = 21,
    /// Group of the link it leaves by.
    OutputGroup = 22,
}

/// Facts about the packet's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConntrackKey {
    /// Bits: 1 invalid, 2 established, 4 related, 8 new.
    State = 0,
    /// Bits: 0x10 source, 0x20 destination was translated.
    Status = 2,
}

/// Which address is translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NatKind {
    /// The source.
    Source = 0,
    /// The destination.
    Destination = 1,
}

/// How a packet is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectKind {
    /// ICMP port unreachable.
    PortUnreachable,
    /// ICMP host unreachable.
    HostUnreachable,
    /// TCP reset; only for TCP.
    TcpReset,
}

/// What a rule does to a set's element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DynsetOperation {
    /// Add unless it is there.
    Add = 0,
    /// Add, or start its timeout again.
    Update = 1,
    /// Remove.
    Delete = 2,
}

/// What the routing table is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FibResult {
    /// The address type of the destination (2: an address of this host).
    DestinationType,
    /// The address type of the source.
    SourceType,
}

/// One step of a rule. A comparison or lookup that fails ends the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the kernel's own operands")]
pub enum Expression {
    /// Loads bytes of a header.
    Payload {
        base: PayloadBase,
        offset: u32,
        length: u32,
        to: Register,
    },
    /// Loads a fact about the packet.
    Meta { key: MetaKey, to: Register },
    /// Sets the packet mark.
    SetMark { from: Register },
    /// Loads a fact about the connection.
    Conntrack { key: ConntrackKey, to: Register },
    /// Loads a routing fact.
    Fib { result: FibResult, to: Register },
    /// Compares a register with a constant.
    Compare {
        from: Register,
        operator: Operator,
        with: Vec<u8>,
    },
    /// (value & mask) ^ xor.
    Bitwise {
        from: Register,
        to: Register,
        mask: Vec<u8>,
        xor: Vec<u8>,
    },
    /// Asks a set or map.
    Lookup {
        set: String,
        from: Register,
        to: Data,
        invert: bool,
    },
    /// Loads a constant.
    Immediate { to: Register, value: Vec<u8> },
    /// Decides.
    Verdict(Verdict),
    /// A random number below `modulus`, or the next of a round.
    Number { to: Register, modulus: u32, random: bool },
    /// Adds to, refreshes or removes from a set.
    Dynset {
        set: String,
        operation: DynsetOperation,
        key: Register,
        data: Option<Register>,
        timeout_ms: Option<u64>,
    },
    /// Translates an address, and a port.
    Nat {
        kind: NatKind,
        address: Register,
        port: Option<Register>,
    },
    /// Translates the source to the outgoing link's address, with fully random ports.
    Masquerade,
    /// Sends the packet to this host, to the port in a register.
    Redirect { port: Option<Register> },
    /// Counts packets and bytes.
    Counter,
    /// Passes at most so many packets a second, beyond a burst.
    Limit { per_second: u64, burst: u32 },
    /// Refuses.
    Reject(RejectKind),
}

impl Expression {
    pub(super) fn write(&self, w: &mut MessageWriter) {
        w.nest(LIST_ELEMENT, |w| {
            w.attribute(EXPRESSION_NAME, self.name());
            w.nest(EXPRESSION_DATA, |w| self.write_data(w));
        });
    }

    /// The kernel's name, with its closing zero.
    fn name(&self) -> &'static [u8] {
        match self {
            Self::Payload { .. } => b"payload\0",
            Self::Meta { .. } | Self::SetMark { .. } => b"meta\0",
            Self::Conntrack { .. } => b"ct\0",
            Self::Fib { .. } => b"fib\0",
            Self::Compare { .. } => b"cmp\0",
            Self::Bitwise { .. } => b"bitwise\0",
            Self::Lookup { .. } => b"lookup\0",
            Self::Immediate { .. } | Self::Verdict(_) => b"immediate\0",
            Self::Number { .. } => b"numgen\0",
            Self::Dynset { .. } => b"dynset\0",
            Self::Nat { .. } => b"nat\0",
            Self::Masquerade => b"masq\0",
            Self::Redirect { .. } => b"redir\0",
            Self::Counter => b"counter\0",
            Self::Limit { .. } => b"limit\0",
            Self::Reject(_) => b"reject\0",
        }
    }

    /// Attribute numbers: include/uapi/linux/netfilter/nf_tables.h.
    fn write_data(&self, w: &mut MessageWriter) {
        match self {
            Self::Payload {
                base,
                offset,
                length,
                to,
            } => {
                numbers(w, &[(1, to.number()), (2, *base as u32), (3, *offset), (4, *length)]);
            }
            Self::Meta { key, to } => numbers(w, &[(2, *key as u32), (1, to.number())]),
            Self::SetMark { from } => numbers(w, &[(2, MetaKey::Mark as u32), (3, from.number())]),
            Self::Conntrack { key, to } => numbers(w, &[(2, *key as u32), (1, to.number())]),
            Self::Fib { result, to } => {
                let flag = if *result == FibResult::SourceType { 1 } else { 2 };
                numbers(w, &[(1, to.number()), (2, 3), (3, flag)]);
            }
            Self::Compare { from, operator, with } => {
                numbers(w, &[(1, from.number()), (2, *operator as u32)]);
                w.nest(3, |w| w.attribute(1, with));
            }
            Self::Bitwise { from, to, mask, xor } => {
                numbers(w, &[(1, from.number()), (2, to.number()), (3, mask.len() as u32)]);
                w.nest(4, |w| w.attribute(1, mask));
                w.nest(5, |w| w.attribute(1, xor));
            }
            Self::Lookup { set, from, to, invert } => write_lookup(w, set, *from, *to, *invert),
            Self::Immediate { to, value } => {
                numbers(w, &[(1, to.number())]);
                w.nest(2, |w| w.attribute(1, value));
            }
            Self::Verdict(verdict) => {
                numbers(w, &[(1, 0)]);
                w.nest(2, |w| verdict.write(w));
            }
            Self::Number { to, modulus, random } => {
                numbers(w, &[(1, to.number()), (2, *modulus), (3, u32::from(*random)), (4, 0)]);
            }
            Self::Dynset {
                set,
                operation,
                key,
                data,
                timeout_ms,
            } => {
                w.text(1, set);
                numbers(w, &[(3, *operation as u32), (4, key.number())]);
                data.iter().for_each(|data| w.be32(5, data.number()));
                timeout_ms.iter().for_each(|timeout| w.be64(6, *timeout));
            }
            Self::Nat { kind, address, port } => {
                numbers(w, &[(1, *kind as u32), (2, 2), (3, address.number())]);
                port.iter().for_each(|port| w.be32(5, port.number()));
            }
            // NF_NAT_RANGE_PROTO_RANDOM_FULLY
            Self::Masquerade => numbers(w, &[(1, 1 << 4)]),
            Self::Redirect { port } => port.iter().for_each(|port| w.be32(1, port.number())),
            Self::Counter => {
                w.be64(1, 0);
                w.be64(2, 0);
            }
            Self::Limit { per_second, burst } => {
                w.be64(1, *per_second);
                w.be64(2, 1);
                numbers(w, &[(3, *burst), (4, 0)]);
            }
            Self::Reject(kind) => write_reject(w, *kind),
        }
    }
}

impl Verdict {
    /// The nested verdict, as it stands in immediate data and in elements of verdict maps.
    pub(super) fn write(&self, w: &mut MessageWriter) {
        let (code, chain) = match self {
            Self::Drop => (0, None),
            Self::Accept => (1, None),
            Self::Return => (-5, None),
            Self::Jump(chain) => (-3, Some(chain)),
            Self::Goto(chain) => (-4, Some(chain)),
        };
        w.nest(2, |w| {
            w.be32(1, code as u32);
            if let Some(chain) = chain {
                w.text(2, chain);
            }
        });
    }
}

fn numbers(w: &mut MessageWriter, attributes: &[(u16, u32)]) {
    for (kind, value) in attributes {
        w.be32(*kind, *value);
    }
}

fn write_lookup(w: &mut MessageWriter, set: &str, from: Register, to: Data, invert: bool) {
    w.text(1, set);
    w.be32(2, from.number());
    match to {
        Data::None => {}
        Data::Register(register) => w.be32(3, register.number()),
        Data::Verdict => w.be32(3, 0),
    }
    w.be32(5, u32::from(invert));
}

fn write_reject(w: &mut MessageWriter, kind: RejectKind) {
    let (family, code) = match kind {
        RejectKind::PortUnreachable => (0, 3),
        RejectKind::HostUnreachable => (0, 1),
        RejectKind::TcpReset => (1, 0),
    };
    w.be32(1, family);
    w.attribute(2, &[code]);
}
