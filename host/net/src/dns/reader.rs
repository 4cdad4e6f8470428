//! Reading messages. Every step moves forward in the message, except compression pointers, which
//! must point before the place they stand in, so nothing loops.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::message::{Edns, Message, Question};
use super::record::{Record, RecordData, class, kind};
use super::{Name, NameError};

/// Bytes that are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The message ends too early.
    #[error("the DNS message ends too early")]
    Short,
    /// A name that is none, or whose compression points forward.
    #[error("the DNS message has a malformed name")]
    Name,
    /// A record whose data does not have the length its type wants.
    #[error("the DNS message has a malformed record")]
    Record,
}

/// Where a record's time to live stands in a message, so that a cache can count it down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TtlField {
    /// Offset of its four bytes.
    pub offset: usize,
    /// Its value in seconds.
    pub ttl: u32,
    /// The record's type.
    pub kind: u16,
}

/// The times to live of all records of a message (without EDNS, whose field means something else).
pub fn ttl_fields(bytes: &[u8]) -> Result<Vec<TtlField>, ReadError> {
    let mut reader = Reader::new(bytes);
    let (_, counts) = reader.header()?;
    for _ in 0..counts[0] {
        reader.question()?;
    }
    let mut fields = Vec::new();
    for _ in 0..counts[1..].iter().map(|count| usize::from(*count)).sum() {
        reader.name()?;
        let kind = reader.u16()?;
        reader.u16()?;
        let offset = reader.position;
        let ttl = reader.u32()?;
        let length = usize::from(reader.u16()?);
        reader.take(length)?;
        if kind != kind::OPT {
            fields.push(TtlField { offset, ttl, kind });
        }
    }
    Ok(fields)
}

pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    pub(super) fn message(&mut self) -> Result<Message, ReadError> {
        let (mut message, counts) = self.header()?;
        for _ in 0..counts[0] {
            message.questions.push(self.question()?);
        }
        for (section, count) in counts[1..].iter().enumerate() {
            for _ in 0..*count {
                let Some(record) = self.record(&mut message)? else {
                    continue;
                };
                match section {
                    0 => message.answers.push(record),
                    1 => message.authorities.push(record),
                    _ => message.additionals.push(record),
                }
            }
        }
        Ok(message)
    }

    fn header(&mut self) -> Result<(Message, [u16; 4]), ReadError> {
        let mut message = Message {
            id: self.u16()?,
            ..Message::default()
        };
        message.set_flags(self.u16()?);
        Ok((message, [self.u16()?, self.u16()?, self.u16()?, self.u16()?]))
    }

    fn question(&mut self) -> Result<Question, ReadError> {
        Ok(Question {
            name: self.name()?,
            kind: self.u16()?,
            class: self.u16()?,
        })
    }

    /// A record; EDNS goes into the message instead.
    fn record(&mut self, message: &mut Message) -> Result<Option<Record>, ReadError> {
        let name = self.name()?;
        let (kind, class, ttl) = (self.u16()?, self.u16()?, self.u32()?);
        let length = usize::from(self.u16()?);
        let end = self.position + length;
        if end > self.bytes.len() {
            return Err(ReadError::Short);
        }
        if kind == kind::OPT {
            self.position = end;
            message.rcode |= ((ttl >> 24) as u8) << 4;
            let edns = Edns {
                udp_size: class,
                version: (ttl >> 16) as u8,
                dnssec_ok: ttl >> 15 & 1 == 1,
            };
            message.edns.get_or_insert(edns);
            return Ok(None);
        }
        let data = if class == class::IN {
            self.data(kind, length)?
        } else {
            self.other(kind, class, length)?
        };
        if self.position != end {
            return Err(ReadError::Record);
        }
        Ok(Some(Record { name, ttl, data }))
    }

    fn data(&mut self, kind: u16, length: usize) -> Result<RecordData, ReadError> {
        Ok(match kind {
            kind::A => RecordData::A(Ipv4Addr::from(self.u32()?)),
            kind::AAAA => {
                let bytes = self.take(16)?.try_into().map_err(|_| ReadError::Record)?;
                RecordData::Aaaa(Ipv6Addr::from_octets(bytes))
            }
            kind::NS => RecordData::Ns(self.name()?),
            kind::CNAME => RecordData::Cname(self.name()?),
            kind::PTR => RecordData::Ptr(self.name()?),
            kind::TXT => self.text(length)?,
            kind::SRV => RecordData::Srv {
                priority: self.u16()?,
                weight: self.u16()?,
                port: self.u16()?,
                target: self.name()?,
            },
            kind::SOA => RecordData::Soa {
                primary: self.name()?,
                mailbox: self.name()?,
                serial: self.u32()?,
                refresh: self.u32()?,
                retry: self.u32()?,
                expire: self.u32()?,
                minimum: self.u32()?,
            },
            other => self.other(other, class::IN, length)?,
        })
    }

    fn text(&mut self, length: usize) -> Result<RecordData, ReadError> {
        let mut left = self.take(length)?;
        let mut text = Vec::new();
        while let Some((length, rest)) = left.split_first() {
            text.extend_from_slice(rest.get(..usize::from(*length)).ok_or(ReadError::Record)?);
            left = &rest[usize::from(*length)..];
        }
        Ok(RecordData::Txt(text))
    }

    fn other(&mut self, kind: u16, class: u16, length: usize) -> Result<RecordData, ReadError> {
        Ok(RecordData::Other {
            kind,
            class,
            bytes: self.take(length)?.to_vec(),
        })
    }

    /// RFC 1035 section 4.1.4
    fn name(&mut self) -> Result<Name, ReadError> {
        let mut labels: Vec<&[u8]> = Vec::new();
        let mut at = self.position;
        // A pointer must lead before everything this name has used so far.
        let mut before = self.position;
        let mut after = None;
        loop {
            let length = *self.bytes.get(at).ok_or(ReadError::Short)?;
            match length >> 6 {
                0 if length == 0 => break,
                0 => {
                    let end = at + 1 + usize::from(length);
                    labels.push(self.bytes.get(at + 1..end).ok_or(ReadError::Short)?);
                    at = end;
                    if labels.len() > 127 {
                        return Err(ReadError::Name);
                    }
                }
                3 => {
                    let low = *self.bytes.get(at + 1).ok_or(ReadError::Short)?;
                    after.get_or_insert(at + 2);
                    at = usize::from(length & 0x3f) << 8 | usize::from(low);
                    if at >= before {
                        return Err(ReadError::Name);
                    }
                    before = at;
                }
                _ => return Err(ReadError::Name),
            }
        }
        self.position = after.unwrap_or(at + 1);
        Name::from_labels(labels).map_err(|_: NameError| ReadError::Name)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ReadError> {
        let bytes = self
            .bytes
            .get(self.position..self.position + length)
            .ok_or(ReadError::Short)?;
        self.position += length;
        Ok(bytes)
    }

    fn u16(&mut self) -> Result<u16, ReadError> {
        self.take(2)?
            .try_into()
            .map(u16::from_be_bytes)
            .map_err(|_| ReadError::Short)
    }

    fn u32(&mut self) -> Result<u32, ReadError> {
        self.take(4)?
            .try_into()
            .map(u32::from_be_bytes)
            .map_err(|_| ReadError::Short)
    }
}
