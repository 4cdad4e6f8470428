//! Sets and maps: their declaration and their elements.

use super::expression::Verdict;
use crate::netlink::MessageWriter;

/// NFT_DATA_VERDICT
const DATA_VERDICT: u32 = 0xffff_ff00;

/// A field's type. The kernel only counts bytes; the numbers let the `nft` program print them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyType {
    /// An IPv4 address, 4 bytes.
    Ipv4 = 7,
    /// An IP protocol number, 1 byte.
    Protocol = 12,
    /// A port, 2 bytes in network order.
    Port = 13,
    /// A 32-bit number in the host's order.
    Number = 19,
}

impl KeyType {
    fn length(self) -> u32 {
        match self {
            Self::Ipv4 | Self::Number => 4,
            Self::Port => 2,
            Self::Protocol => 1,
        }
    }
}

/// A set or map that is to be made. Concatenated fields are each padded to 32 bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetSpec {
    /// The name, unique in its table.
    pub name: String,
    /// The fields of a key.
    pub key: Vec<KeyType>,
    /// The fields of a map's data.
    pub data: Vec<KeyType>,
    /// A map of verdicts.
    pub verdicts: bool,
    /// Elements may expire, and rules may add them.
    pub dynamic: bool,
    /// Keys are ranges (in every field).
    pub intervals: bool,
    /// The most elements that rules may add.
    pub size: Option<u32>,
}

impl SetSpec {
    /// A set of keys.
    pub fn set(name: &str, key: &[KeyType]) -> Self {
        Self {
            name: name.to_owned(),
            key: key.to_vec(),
            data: Vec::new(),
            verdicts: false,
            dynamic: false,
            intervals: false,
            size: None,
        }
    }

    /// A map from keys to values.
    pub fn map(name: &str, key: &[KeyType], data: &[KeyType]) -> Self {
        Self {
            data: data.to_vec(),
            ..Self::set(name, key)
        }
    }

    /// A map from keys to verdicts.
    pub fn verdict_map(name: &str, key: &[KeyType]) -> Self {
        Self {
            verdicts: true,
            ..Self::set(name, key)
        }
    }

    pub(super) fn write(&self, w: &mut MessageWriter, table: &str, id: u32) {
        let map = self.verdicts || !self.data.is_empty();
        let concatenated = self.intervals && self.key.len() > 1;
        let flags = [
            (self.intervals, 4),
            (map, 8),
            (self.dynamic, 0x10 | 0x20),
            (concatenated, 0x80),
        ];
        w.text(1, table);
        w.text(2, &self.name);
        w.be32(3, flags.iter().filter(|(on, _)| *on).map(|(_, flag)| flag).sum());
        w.be32(4, type_number(&self.key));
        w.be32(5, padded_length(&self.key));
        if self.verdicts {
            w.be32(6, DATA_VERDICT);
            // The length of verdicts is the kernel's own affair.
            w.be32(7, 4);
        } else if map {
            w.be32(6, type_number(&self.data));
            w.be32(7, padded_length(&self.data));
        }
        w.be32(10, id);
        if self.size.is_some() || concatenated {
            w.nest(9, |w| {
                self.size.iter().for_each(|size| w.be32(1, *size));
                if concatenated {
                    w.nest(2, |w| {
                        self.key
                            .iter()
                            .for_each(|field| w.nest(1, |w| w.be32(1, field.length())))
                    });
                }
            });
        }
    }
}

/// The data of a map's element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ElementData {
    /// A set's element has none.
    None,
    /// Registers' bytes.
    Value(Vec<u8>),
    /// A verdict.
    Verdict(Verdict),
}

/// An element of a set or map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// The key, each field padded to 32 bits.
    pub key: Vec<u8>,
    /// The last key of a range.
    pub key_end: Option<Vec<u8>>,
    /// A map's data.
    pub data: ElementData,
    /// Removed by the kernel after so many milliseconds.
    pub timeout_ms: Option<u64>,
}

impl Element {
    /// A set's element.
    pub fn key(key: impl Into<Vec<u8>>) -> Self {
        Self {
            key: key.into(),
            key_end: None,
            data: ElementData::None,
            timeout_ms: None,
        }
    }

    /// A map's element.
    pub fn value(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self {
            data: ElementData::Value(value.into()),
            ..Self::key(key)
        }
    }

    /// A verdict map's element.
    pub fn verdict(key: impl Into<Vec<u8>>, verdict: Verdict) -> Self {
        Self {
            data: ElementData::Verdict(verdict),
            ..Self::key(key)
        }
    }

    pub(super) fn write(&self, w: &mut MessageWriter) {
        w.nest(1, |w| {
            w.nest(1, |w| w.attribute(1, &self.key));
            if let Some(end) = &self.key_end {
                w.nest(10, |w| w.attribute(1, end));
            }
            match &self.data {
                ElementData::None => {}
                ElementData::Value(value) => w.nest(2, |w| w.attribute(1, value)),
                ElementData::Verdict(verdict) => w.nest(2, |w| verdict.write(w)),
            }
            self.timeout_ms.iter().for_each(|timeout| w.be64(4, *timeout));
        });
    }

    /// An upper bound of the encoded length, by which element lists are split.
    pub(super) fn encoded_length(&self) -> usize {
        let verdict = match &self.data {
            ElementData::Verdict(Verdict::Jump(chain) | Verdict::Goto(chain)) => chain.len(),
            ElementData::Value(value) => value.len(),
            _ => 0,
        };
        80 + self.key.len() + self.key_end.as_ref().map_or(0, Vec::len) + verdict
    }
}

fn type_number(fields: &[KeyType]) -> u32 {
    fields.iter().fold(0, |number, field| number << 6 | *field as u32)
}

fn padded_length(fields: &[KeyType]) -> u32 {
    match fields {
        [field] => field.length(),
        several => 4 * several.len() as u32,
    }
}
