//! Netlink messages: a writer with nested attributes, and bounded readers.

use crate::Error;

const HEADER: usize = 16;
const NESTED: u16 = 0x8000;
/// An attribute's length is 16 bits, its header included.
const LONGEST_ATTRIBUTE: usize = u16::MAX as usize;

/// Writes messages one after another into one buffer.
#[derive(Debug, Default)]
pub(crate) struct MessageWriter {
    buffer: Vec<u8>,
    start: usize,
    too_long: bool,
}

impl MessageWriter {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// One message: header, then whatever `body` writes.
    pub(crate) fn message(&mut self, kind: u16, flags: u16, sequence: u32, body: impl FnOnce(&mut Self)) {
        self.start = self.buffer.len();
        self.buffer.extend_from_slice(&0_u32.to_ne_bytes());
        self.buffer.extend_from_slice(&kind.to_ne_bytes());
        self.buffer.extend_from_slice(&flags.to_ne_bytes());
        self.buffer.extend_from_slice(&sequence.to_ne_bytes());
        self.buffer.extend_from_slice(&0_u32.to_ne_bytes());
        body(self);
        let length = (self.buffer.len() - self.start) as u32;
        self.buffer[self.start..self.start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Raw bytes, padded to four: a family's fixed header.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        self.pad();
    }

    pub(crate) fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = value.len() + 4;
        self.too_long |= length > LONGEST_ATTRIBUTE;
        self.buffer.extend_from_slice(&(length as u16).to_ne_bytes());
        self.buffer.extend_from_slice(&kind.to_ne_bytes());
        self.buffer.extend_from_slice(value);
        self.pad();
    }

    /// A text attribute with its closing zero.
    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        let mut bytes = Vec::with_capacity(value.len() + 1);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
        self.attribute(kind, &bytes);
    }

    /// Native byte order, as rtnetlink has it.
    pub(crate) fn u32(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_ne_bytes());
    }

    /// Network byte order, as netfilter has it.
    pub(crate) fn be32(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_be_bytes());
    }

    /// Network byte order, as netfilter has it.
    pub(crate) fn be64(&mut self, kind: u16, value: u64) {
        self.attribute(kind, &value.to_be_bytes());
    }

    pub(crate) fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&0_u16.to_ne_bytes());
        self.buffer.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        body(self);
        let length = self.buffer.len() - start;
        self.too_long |= length > LONGEST_ATTRIBUTE;
        self.buffer[start..start + 2].copy_from_slice(&(length as u16).to_ne_bytes());
    }

    pub(crate) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// The bytes to send; an error when some attribute outgrew its 16-bit length.
    pub(crate) fn finish(&self) -> Result<&[u8], Error> {
        if self.too_long {
            Err(Error::Malformed("an attribute is longer than 64 KiB"))
        } else {
            Ok(&self.buffer)
        }
    }

    fn pad(&mut self) {
        while !self.buffer.len().is_multiple_of(4) {
            self.buffer.push(0);
        }
    }
}

/// One received message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) sequence: u32,
    pub(crate) body: &'a [u8],
}

/// The messages of one datagram.
pub(crate) struct Messages<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let data = std::mem::take(&mut self.0);
        let Some(length) = native32(data).map(|length| length as usize) else {
            return Some(Err(Error::Malformed("message header")));
        };
        if length < HEADER || length > data.len() {
            return Some(Err(Error::Malformed("message length")));
        }
        self.0 = data.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(Ok(Message {
            kind: u16::from_ne_bytes([data[4], data[5]]),
            sequence: u32::from_ne_bytes([data[8], data[9], data[10], data[11]]),
            body: &data[HEADER..length],
        }))
    }
}

/// The attributes of a message or of a nest; stops at the first malformed one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// Attributes after a fixed header of `header` bytes.
    pub(crate) fn after(body: &'a [u8], header: usize) -> Self {
        Self(body.get(header.next_multiple_of(4)..).unwrap_or(&[]))
    }

    pub(crate) fn of(body: &'a [u8]) -> Self {
        Self(body)
    }

    pub(crate) fn get(self, kind: u16) -> Option<&'a [u8]> {
        self.into_iter()
            .find(|(found, _)| *found == kind)
            .map(|(_, value)| value)
    }

    pub(crate) fn nested(self, kind: u16) -> Option<Attributes<'a>> {
        self.get(kind).map(Attributes)
    }

    pub(crate) fn text(self, kind: u16) -> Option<&'a str> {
        let value = self.get(kind)?;
        std::str::from_utf8(value.strip_suffix(&[0]).unwrap_or(value)).ok()
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let header = self.0.get(..4)?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & 0x3fff;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    }
}

pub(crate) fn native32(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|chunk| u32::from_ne_bytes(*chunk))
}

pub(crate) fn be32(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|chunk| u32::from_be_bytes(*chunk))
}

pub(crate) fn be64(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|chunk| u64::from_be_bytes(*chunk))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nested_attributes_read_back() {
        let mut writer = MessageWriter::new();
        writer.message(7, 1, 42, |w| {
            w.bytes(&[9, 9]);
            w.text(3, "name");
            w.nest(4, |w| w.be32(1, 5));
        });
        let message = Messages(writer.finish().unwrap()).next().unwrap().unwrap();
        assert_eq!((message.kind, message.sequence), (7, 42));
        let attributes = Attributes::after(message.body, 2);
        assert_eq!(attributes.text(3), Some("name"));
        assert_eq!(
            attributes.nested(4).and_then(|nest| nest.get(1)).and_then(be32),
            Some(5)
        );
    }

    #[test]
    fn an_attribute_over_64_kib_is_refused() {
        let mut writer = MessageWriter::new();
        writer.message(1, 0, 1, |w| w.attribute(1, &[0; 65_536]));
        assert!(writer.finish().is_err());
    }

    proptest! {
        #[test]
        fn readers_survive_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            for message in Messages(&bytes).flatten() {
                for (_, value) in Attributes::of(message.body) {
                    let _ = Attributes::of(value).count();
                }
            }
        }
    }
}
