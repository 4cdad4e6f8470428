//! Transactions: everything in a batch happens, or nothing does.

use super::expression::Expression;
use super::set::{Element, SetSpec};
use crate::Error;
use crate::netlink::MessageWriter;

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
pub(super) const SUBSYSTEM: u16 = 10 << 8;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;
/// Room for elements in one message: a nest's length is 16 bits.
const ELEMENTS: usize = 48 << 10;

/// The protocol family of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet = 1,
    /// IPv4.
    Ipv4 = 2,
    /// IPv6.
    Ipv6 = 10,
}

/// What a base chain may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainKind {
    /// Accept, drop, refuse.
    Filter,
    /// Translate addresses; sees the first packet of each connection.
    Nat,
}

/// Where on a packet's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Came in, not routed yet.
    Prerouting = 0,
    /// For this host.
    Input = 1,
    /// For another host.
    Forward = 2,
    /// Made by this host.
    Output = 3,
    /// Leaving.
    Postrouting = 4,
}

/// A base chain's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainHook {
    /// What it may do.
    pub kind: ChainKind,
    /// Where.
    pub hook: Hook,
    /// Smaller is earlier.
    pub priority: i32,
    /// Packets that reach the end are dropped.
    pub drops: bool,
}

/// A transaction being written.
#[derive(Debug)]
pub struct Batch {
    writer: MessageWriter,
    family: Family,
    table: String,
    sequence: u32,
    sets: u32,
    what: Vec<String>,
}

impl Batch {
    /// A transaction on one table.
    pub fn new(family: Family, table: &str) -> Self {
        let mut writer = MessageWriter::new();
        writer.message(BATCH_BEGIN, NLM_F_REQUEST, 0, |w| w.bytes(&[0, 0, 0, 10]));
        Self {
            writer,
            family,
            table: table.to_owned(),
            sequence: 0,
            sets: 0,
            what: Vec::new(),
        }
    }

    /// Whether anything was asked for.
    pub fn is_empty(&self) -> bool {
        self.what.is_empty()
    }

    /// Bytes written so far, by which a caller splits work that need not be atomic.
    pub fn encoded_length(&self) -> usize {
        self.writer.len()
    }

    /// Makes the table unless it is there.
    pub fn add_table(&mut self) -> &mut Self {
        self.push(0, NLM_F_CREATE, "make a table", |w, table| {
            w.text(1, table);
            w.be32(2, 0);
        })
    }

    /// Removes the table and everything in it; it must exist.
    pub fn delete_table(&mut self) -> &mut Self {
        self.push(2, 0, "remove a table", |w, table| w.text(1, table))
    }

    /// Removes the table if it is there.
    pub fn destroy_table(&mut self) -> &mut Self {
        self.add_table().delete_table()
    }

    /// Makes a chain unless it is there; a base chain when it has a hook.
    pub fn add_chain(&mut self, chain: &str, hook: Option<ChainHook>) -> &mut Self {
        self.push(3, NLM_F_CREATE, format!("make the chain {chain}"), |w, table| {
            w.text(1, table);
            w.text(3, chain);
            if let Some(hook) = hook {
                w.nest(4, |w| {
                    w.be32(1, hook.hook as u32);
                    w.be32(2, hook.priority as u32);
                });
                w.text(7, if hook.kind == ChainKind::Nat { "nat" } else { "filter" });
                w.be32(5, u32::from(!hook.drops));
            }
        })
    }

    /// Removes all rules of a chain.
    pub fn flush_chain(&mut self, chain: &str) -> &mut Self {
        self.push(8, 0, format!("empty the chain {chain}"), |w, table| {
            w.text(1, table);
            w.text(2, chain);
        })
    }

    /// Removes a chain that nothing refers to.
    pub fn delete_chain(&mut self, chain: &str) -> &mut Self {
        self.push(5, 0, format!("remove the chain {chain}"), |w, table| {
            w.text(1, table);
            w.text(3, chain);
        })
    }

    /// Adds a rule at the end of a chain.
    pub fn add_rule(&mut self, chain: &str, expressions: &[Expression]) -> &mut Self {
        self.rule(NLM_F_CREATE | NLM_F_APPEND, chain, expressions, None)
    }

    /// Adds a rule at the end of a chain, with a comment that `nft` shows.
    pub fn add_commented_rule(&mut self, chain: &str, expressions: &[Expression], comment: &str) -> &mut Self {
        self.rule(NLM_F_CREATE | NLM_F_APPEND, chain, expressions, Some(comment))
    }

    /// Adds a rule at the start of a chain, with a comment that `nft` and `iptables-nft` show.
    pub fn insert_rule(&mut self, chain: &str, expressions: &[Expression], comment: &str) -> &mut Self {
        self.rule(NLM_F_CREATE, chain, expressions, Some(comment))
    }

    /// Removes the rule of that handle.
    pub fn delete_rule(&mut self, chain: &str, handle: u64) -> &mut Self {
        self.push(8, 0, format!("remove a rule of the chain {chain}"), |w, table| {
            w.text(1, table);
            w.text(2, chain);
            w.be64(3, handle);
        })
    }

    /// Makes a set or map unless it is there.
    pub fn add_set(&mut self, set: &SetSpec) -> &mut Self {
        self.sets += 1;
        let id = self.sets;
        self.push(9, NLM_F_CREATE, format!("make the set {}", set.name), |w, table| {
            set.write(w, table, id)
        })
    }

    /// Removes a set or map that no rule refers to.
    pub fn delete_set(&mut self, name: &str) -> &mut Self {
        self.push(11, 0, format!("remove the set {name}"), |w, table| {
            w.text(1, table);
            w.text(2, name);
        })
    }

    /// Removes all elements.
    pub fn flush_set(&mut self, name: &str) -> &mut Self {
        self.push(14, 0, format!("empty the set {name}"), |w, table| {
            w.text(1, table);
            w.text(2, name);
        })
    }

    /// Adds elements; one that is there with other data is an error.
    pub fn add_elements(&mut self, set: &str, elements: &[Element]) -> &mut Self {
        self.elements(12, NLM_F_CREATE, "add to the set", set, elements)
    }

    /// Removes elements; one that is not there is an error.
    pub fn delete_elements(&mut self, set: &str, elements: &[Element]) -> &mut Self {
        self.elements(14, 0, "remove from the set", set, elements)
    }

    /// The datagram, and what each sequence number stands for.
    pub(super) fn finish(mut self) -> Result<(Vec<u8>, Vec<String>), Error> {
        let sequence = self.sequence + 1;
        self.writer
            .message(BATCH_END, NLM_F_REQUEST, sequence, |w| w.bytes(&[0, 0, 0, 10]));
        let mut bytes = self.writer.finish()?.to_vec();
        acknowledge(&mut bytes, self.sequence);
        Ok((bytes, self.what))
    }

    fn rule(&mut self, flags: u16, chain: &str, expressions: &[Expression], comment: Option<&str>) -> &mut Self {
        self.push(6, flags, format!("add a rule to the chain {chain}"), |w, table| {
            w.text(1, table);
            w.text(2, chain);
            w.nest(4, |w| expressions.iter().for_each(|expression| expression.write(w)));
            if let Some(comment) = comment {
                w.attribute(7, &comment_data(comment));
            }
        })
    }

    fn elements(&mut self, kind: u16, flags: u16, what: &str, set: &str, mut elements: &[Element]) -> &mut Self {
        while !elements.is_empty() {
            let mut length = 0;
            let fit = elements.iter().take_while(|element| {
                length += element.encoded_length();
                length <= ELEMENTS
            });
            let (now, later) = elements.split_at(fit.count().max(1));
            elements = later;
            self.push(kind, flags, format!("{what} {set}"), |w, table| {
                w.text(1, table);
                w.text(2, set);
                w.nest(3, |w| now.iter().for_each(|element| element.write(w)));
            });
        }
        self
    }

    fn push(
        &mut self,
        kind: u16,
        flags: u16,
        what: impl Into<String>,
        body: impl FnOnce(&mut MessageWriter, &str),
    ) -> &mut Self {
        self.sequence += 1;
        self.what.push(what.into());
        let (family, table) = (self.family as u8, &self.table);
        self.writer
            .message(SUBSYSTEM | kind, NLM_F_REQUEST | flags, self.sequence, |w| {
                w.bytes(&[family, 0, 0, 0]);
                body(w, table);
            });
        self
    }
}

/// A comment as user space's programs keep it: type 0, length, text with its closing zero.
pub(super) fn comment_data(comment: &str) -> Vec<u8> {
    let text = &comment.as_bytes()[..comment.len().min(127)];
    let mut data = vec![0, text.len() as u8 + 1];
    data.extend_from_slice(text);
    data.push(0);
    data
}

/// Sets the acknowledgement flag on the message of that sequence number: the last of a batch,
/// so that success is answered once and not per message.
fn acknowledge(bytes: &mut [u8], sequence: u32) {
    let mut at = 0;
    while let Some(header) = bytes.get_mut(at..at + 16) {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        if header[8..12] == sequence.to_ne_bytes() && sequence != 0 {
            header[6] |= NLM_F_ACK as u8;
        }
        at += length.max(16);
    }
}
