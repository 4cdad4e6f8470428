//! As much of protocol buffers as CRIU's requests take: numbers, strings, messages inside messages.

use alloc::{string::String, vec::Vec};

/// A message that is being written.
#[derive(Default)]
pub(super) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    pub(super) fn number(mut self, field: u32, number: u64) -> Self {
        self.key(field, 0);
        self.varint(number);
        self
    }

    /// int32 and int64: negative ones take ten bytes.
    pub(super) fn signed(self, field: u32, number: i32) -> Self {
        self.number(field, i64::from(number) as u64)
    }

    pub(super) fn switch(self, field: u32, on: bool) -> Self {
        self.number(field, on.into())
    }

    pub(super) fn text(mut self, field: u32, text: &str) -> Self {
        self.piece(field, text.as_bytes());
        self
    }

    pub(super) fn message(mut self, field: u32, message: &Message) -> Self {
        self.piece(field, &message.bytes);
        self
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn piece(&mut self, field: u32, bytes: &[u8]) {
        self.key(field, 2);
        self.varint(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }

    fn key(&mut self, field: u32, kind: u64) {
        self.varint(u64::from(field) << 3 | kind);
    }

    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }
}

/// The fields of a message that was received.
pub(super) struct Fields<'a>(Vec<(u64, Value<'a>)>);

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Fields<'a> {
    /// Reads a whole message: `None` when it makes no sense.
    pub(super) fn read(mut bytes: &'a [u8]) -> Option<Self> {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes)?;
            let value = match key & 7 {
                0 => Value::Number(varint(&mut bytes)?),
                1 => Value::Bytes(split(&mut bytes, 8)?),
                2 => {
                    let length = usize::try_from(varint(&mut bytes)?).ok()?;
                    Value::Bytes(split(&mut bytes, length)?)
                }
                5 => Value::Bytes(split(&mut bytes, 4)?),
                _ => return None,
            };
            fields.push((key >> 3, value));
        }
        Some(Fields(fields))
    }

    /// The last number of that field.
    pub(super) fn number(&self, field: u64) -> Option<u64> {
        self.0.iter().rev().find_map(|(number, value)| match value {
            Value::Number(value) if *number == field => Some(*value),
            _ => None,
        })
    }

    /// The last message of that field.
    pub(super) fn message(&self, field: u64) -> Option<Fields<'a>> {
        self.bytes(field).and_then(Fields::read)
    }

    /// The last string of that field.
    pub(super) fn text(&self, field: u64) -> Option<String> {
        Some(String::from_utf8_lossy(self.bytes(field)?).into_owned())
    }

    fn bytes(&self, field: u64) -> Option<&'a [u8]> {
        self.0.iter().rev().find_map(|(number, value)| match value {
            Value::Bytes(value) if *number == field => Some(*value),
            _ => None,
        })
    }
}

fn split<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (piece, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(piece)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_read_back() {
        let inner = Message::default().text(1, "key").signed(2, -1);
        let whole = Message::default().number(1, 300).message(2, &inner).switch(3, true);
        assert_eq!(whole.bytes()[..3], [8, 0xac, 2]);
        let fields = Fields::read(whole.bytes()).unwrap();
        assert_eq!((fields.number(1), fields.number(3)), (Some(300), Some(1)));
        let inner = fields.message(2).unwrap();
        assert_eq!(inner.text(1).as_deref(), Some("key"));
        assert_eq!(inner.number(2), Some(u64::MAX));
        assert!(fields.message(9).is_none());
    }

    #[test]
    fn nonsense_is_refused() {
        for bytes in [
            &[0x80][..],
            &[8],
            &[0x12, 5, 1],
            &[0x0b],
            &[8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255],
        ] {
            assert!(Fields::read(bytes).is_none(), "{bytes:?}");
        }
    }
}
