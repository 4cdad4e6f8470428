//! Messages.

use super::reader::Reader;
use super::record::{Record, rcode};
use super::writer::Writer;
use super::{Name, ReadError};

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Question {
    /// What is asked about.
    pub name: Name,
    /// The record type wanted.
    pub kind: u16,
    /// The class, nearly always IN.
    pub class: u16,
}

/// What the sender says by EDNS (RFC 6891).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edns {
    /// The largest UDP message it takes.
    pub udp_size: u16,
    /// 0 is the only version there is.
    pub version: u8,
    /// It wants DNSSEC records.
    pub dnssec_ok: bool,
}

/// A message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// Ties the answer to the question.
    pub id: u16,
    /// A response, not a query.
    pub response: bool,
    /// The operation; 0 is a query.
    pub opcode: u8,
    /// The answer comes from the zone's own data.
    pub authoritative: bool,
    /// The answer did not fit.
    pub truncated: bool,
    /// The server is to find out.
    pub recursion_desired: bool,
    /// The server does find out.
    pub recursion_available: bool,
    /// The data is authentic (AD).
    pub authentic: bool,
    /// Checking is disabled (CD).
    pub checking_disabled: bool,
    /// How it went, extended by EDNS.
    pub rcode: u8,
    /// Usually one.
    pub questions: Vec<Question>,
    /// The answer.
    pub answers: Vec<Record>,
    /// Who would know, or why there is nothing.
    pub authorities: Vec<Record>,
    /// What will be asked next.
    pub additionals: Vec<Record>,
    /// EDNS, if the sender speaks it.
    pub edns: Option<Edns>,
}

impl Message {
    /// Reads a message. Errors: the bytes are none.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReadError> {
        Reader::new(bytes).message()
    }

    /// Writes the message in at most `limit` bytes (at least 512): what does not fit is left out,
    /// and when that is part of the answer the message says that it is truncated.
    pub fn encode(&self, limit: usize) -> Vec<u8> {
        Writer::new(limit.clamp(512, 65_535)).message(self)
    }

    /// An answer to this query, still empty.
    pub fn reply(&self, code: u8) -> Self {
        Self {
            id: self.id,
            response: true,
            opcode: self.opcode,
            recursion_desired: self.recursion_desired,
            recursion_available: true,
            checking_disabled: self.checking_disabled,
            rcode: code,
            questions: self.questions.clone(),
            edns: self.edns.map(|_| Edns {
                udp_size: 1232,
                version: 0,
                dnssec_ok: false,
            }),
            ..Self::default()
        }
    }

    /// A query for one question, recursion desired.
    pub fn query(id: u16, question: Question) -> Self {
        Self {
            id,
            recursion_desired: true,
            questions: vec![question],
            ..Self::default()
        }
    }

    /// The largest UDP answer the sender of this query takes.
    pub fn udp_limit(&self) -> usize {
        self.edns.map_or(512, |edns| usize::from(edns.udp_size.max(512)))
    }

    /// The flags' 16 bits, with the response code's lower four.
    pub(super) fn flags(&self) -> u16 {
        let bits = [
            (self.response, 15),
            (self.authoritative, 10),
            (self.truncated, 9),
            (self.recursion_desired, 8),
            (self.recursion_available, 7),
            (self.authentic, 5),
            (self.checking_disabled, 4),
        ];
        let flags: u16 = bits.iter().filter(|(on, _)| *on).map(|(_, bit)| 1 << bit).sum();
        flags | u16::from(self.opcode & 15) << 11 | u16::from(self.rcode & 15)
    }

    pub(super) fn set_flags(&mut self, flags: u16) {
        let bit = |bit: u16| flags >> bit & 1 == 1;
        self.response = bit(15);
        self.opcode = (flags >> 11 & 15) as u8;
        self.authoritative = bit(10);
        self.truncated = bit(9);
        self.recursion_desired = bit(8);
        self.recursion_available = bit(7);
        self.authentic = bit(5);
        self.checking_disabled = bit(4);
        self.rcode = (flags & 15) as u8 | self.rcode & !15;
    }

    /// Whether the response says that all went well.
    pub fn is_success(&self) -> bool {
        self.rcode == rcode::NOERROR
    }
}
