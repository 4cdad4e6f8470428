//! Writing messages, with compressed names and within a size limit.

use std::collections::HashMap;

use super::Name;
use super::message::{Edns, Message};
use super::record::{Record, RecordData, class, kind};

const HEADER: usize = 12;
/// An OPT record without options.
const EDNS: usize = 11;
/// Pointers have 14 bits.
const MAX_POINTER: usize = 0x3fff;

pub(super) struct Writer {
    bytes: Vec<u8>,
    limit: usize,
    /// Where each name suffix (in lower case) was written.
    suffixes: HashMap<Vec<u8>, u16>,
}

impl Writer {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(512),
            limit,
            suffixes: HashMap::new(),
        }
    }

    pub(super) fn message(mut self, message: &Message) -> Vec<u8> {
        self.bytes.resize(HEADER, 0);
        self.limit -= if message.edns.is_some() { EDNS } else { 0 };
        let mut counts = [0_u16; 4];
        for question in &message.questions {
            counts[0] += u16::from(self.fits(|w| {
                w.name(&question.name);
                w.u16(question.kind);
                w.u16(question.class);
            }));
        }
        let sections = [&message.answers, &message.authorities, &message.additionals];
        let mut whole = usize::from(counts[0]) == message.questions.len();
        for (section, records) in sections.into_iter().enumerate() {
            // What comes after a gap would look complete.
            let written = records
                .iter()
                .take_while(|record| whole && self.fits(|w| w.record(record)))
                .count();
            counts[section + 1] = written as u16;
            whole &= section == 2 || written == records.len();
        }
        if let Some(edns) = message.edns {
            self.edns(edns, message.rcode);
            counts[3] += 1;
        }
        let flags = Message {
            truncated: message.truncated || !whole,
            ..message.header_only()
        }
        .flags();
        let header = [message.id, flags, counts[0], counts[1], counts[2], counts[3]];
        for (place, value) in self.bytes.chunks_exact_mut(2).zip(header) {
            place.copy_from_slice(&value.to_be_bytes());
        }
        self.bytes
    }

    /// Writes something if it fits; otherwise leaves no trace of it.
    fn fits(&mut self, write: impl FnOnce(&mut Self)) -> bool {
        let start = self.bytes.len();
        write(self);
        let fits = self.bytes.len() <= self.limit;
        if !fits {
            self.bytes.truncate(start);
            self.suffixes.retain(|_, offset| usize::from(*offset) < start);
        }
        fits
    }

    fn record(&mut self, record: &Record) {
        self.name(&record.name);
        self.u16(record.data.kind());
        self.u16(if let RecordData::Other { class, .. } = &record.data {
            *class
        } else {
            class::IN
        });
        self.u32(record.ttl);
        let length = self.bytes.len();
        self.u16(0);
        self.data(&record.data);
        let written = (self.bytes.len() - length - 2) as u16;
        self.bytes[length..length + 2].copy_from_slice(&written.to_be_bytes());
    }

    fn data(&mut self, data: &RecordData) {
        match data {
            RecordData::A(address) => self.bytes.extend_from_slice(&address.octets()),
            RecordData::Aaaa(address) => self.bytes.extend_from_slice(&address.octets()),
            RecordData::Ns(name) | RecordData::Cname(name) | RecordData::Ptr(name) => self.name(name),
            RecordData::Txt(text) => {
                let chunks = if text.is_empty() {
                    vec![&text[..]]
                } else {
                    text.chunks(255).collect()
                };
                for chunk in chunks {
                    self.bytes.push(chunk.len() as u8);
                    self.bytes.extend_from_slice(chunk);
                }
            }
            RecordData::Srv {
                priority,
                weight,
                port,
                target,
            } => {
                self.u16(*priority);
                self.u16(*weight);
                self.u16(*port);
                // RFC 2782: the target must not be compressed.
                self.bytes.extend_from_slice(target.as_wire());
            }
            RecordData::Soa {
                primary,
                mailbox,
                serial,
                refresh,
                retry,
                expire,
                minimum,
            } => {
                self.name(primary);
                self.name(mailbox);
                for number in [serial, refresh, retry, expire, minimum] {
                    self.u32(*number);
                }
            }
            RecordData::Other { bytes, .. } => self.bytes.extend_from_slice(bytes),
        }
    }

    fn edns(&mut self, edns: Edns, code: u8) {
        self.bytes.push(0);
        self.u16(kind::OPT);
        self.u16(edns.udp_size);
        let extended = u32::from(code >> 4) << 24 | u32::from(edns.version) << 16;
        self.u32(extended | u32::from(edns.dnssec_ok) << 15);
        self.u16(0);
    }

    /// Writes a name, pointing to a suffix that was written before.
    fn name(&mut self, name: &Name) {
        let wire = name.as_wire();
        let lower = name.to_lower_wire();
        let mut at = 0;
        while wire[at] != 0 {
            if let Some(offset) = self.suffixes.get(&lower[at..]) {
                self.u16(0xc000 | *offset);
                return;
            }
            if self.bytes.len() <= MAX_POINTER {
                self.suffixes.insert(lower[at..].to_vec(), self.bytes.len() as u16);
            }
            let next = at + 1 + usize::from(wire[at]);
            self.bytes.extend_from_slice(&wire[at..next]);
            at = next;
        }
        self.bytes.push(0);
    }

    fn u16(&mut self, value: u16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }
}

impl Message {
    /// The message without its sections.
    fn header_only(&self) -> Self {
        Self {
            questions: Vec::new(),
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
            ..*self
        }
    }
}
