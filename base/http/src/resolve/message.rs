//! DNS messages (RFC 1035): one question, and the addresses of its answer.

use ring::rand::{SecureRandom, SystemRandom};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// Record types.
pub(super) const A: u16 = 1;
pub(super) const AAAA: u16 = 28;
const CNAME: u16 = 5;
/// What the question says it takes over UDP, and a little more.
pub(super) const MAX_MESSAGE: usize = 4096;
const UDP_SIZE: u16 = 1232;
const HEADER: usize = 12;
/// Compression pointers followed in one name.
const MAX_JUMPS: usize = 16;

/// A question, encoded.
#[derive(Debug)]
pub(super) struct Question {
    bytes: Vec<u8>,
    name: String,
    kind: u16,
}

/// What an answer says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// To be asked again over TCP.
    Truncated,
    /// The addresses; none if the name or the type does not exist.
    Addresses(Vec<IpAddr>),
}

fn bad(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

impl Question {
    pub(super) fn new(name: &str, kind: u16) -> io::Result<Self> {
        let mut id = [0; 2];
        SystemRandom::new()
            .fill(&mut id)
            .map_err(|_| bad("no random numbers"))?;
        // One question and one additional record; recursion desired.
        let mut bytes = [id[0], id[1], 1, 0, 0, 1, 0, 0, 0, 0, 0, 1].to_vec();
        for label in name.split('.') {
            if label.is_empty() || label.len() > 63 {
                return Err(bad("not a host name"));
            }
            bytes.push(label.len() as u8);
            bytes.extend_from_slice(label.as_bytes());
        }
        bytes.push(0);
        if bytes.len() - HEADER > 255 {
            return Err(bad("not a host name"));
        }
        bytes.extend_from_slice(&kind.to_be_bytes());
        bytes.extend_from_slice(&[0, 1]);
        // RFC 6891: OPT with the size we take.
        bytes.extend_from_slice(&[0, 0, 41]);
        bytes.extend_from_slice(&UDP_SIZE.to_be_bytes());
        bytes.extend_from_slice(&[0; 6]);
        Ok(Self {
            bytes,
            name: name.to_ascii_lowercase(),
            kind,
        })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads an answer; `None` if it is one to another question. Errors: the server failed, or the answer is damaged.
    pub(super) fn read(&self, message: &[u8]) -> io::Result<Option<Reply>> {
        let mut cursor = Cursor { message, at: 0 };
        let (id, flags) = (cursor.number()?, cursor.number()?);
        let (questions, answers) = (cursor.number()?, cursor.number()?);
        cursor.at = HEADER;
        if id.to_be_bytes() != self.bytes[..2] || flags & 0x8000 == 0 || questions != 1 {
            return Ok(None);
        }
        if cursor.name()? != self.name || cursor.number()? != self.kind || cursor.number()? != 1 {
            return Ok(None);
        }
        match flags & 0x000f {
            0 => {}
            // NXDOMAIN.
            3 => return Ok(Some(Reply::Addresses(Vec::new()))),
            _ => return Err(io::Error::other("the server failed")),
        }
        if flags & 0x0200 != 0 {
            return Ok(Some(Reply::Truncated));
        }
        let mut wanted = self.name.clone();
        let mut addresses = Vec::new();
        for _ in 0..answers {
            let (owner, kind, class) = (cursor.name()?, cursor.number()?, cursor.number()?);
            cursor.take(4)?;
            let length = usize::from(cursor.number()?);
            let start = cursor.at;
            let data = cursor.take(length)?;
            if class != 1 || owner != wanted {
                continue;
            }
            match kind {
                CNAME => wanted = Cursor { message, at: start }.name()?,
                A if kind == self.kind => {
                    addresses.push(Ipv4Addr::from(<[u8; 4]>::try_from(data).map_err(|_| bad("bad address"))?).into());
                }
                AAAA if kind == self.kind => {
                    addresses.push(Ipv6Addr::from(<[u8; 16]>::try_from(data).map_err(|_| bad("bad address"))?).into());
                }
                _ => {}
            }
        }
        Ok(Some(Reply::Addresses(addresses)))
    }
}

struct Cursor<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> io::Result<&'a [u8]> {
        let bytes = self
            .message
            .get(self.at..self.at + count)
            .ok_or_else(|| bad("answer is cut off"))?;
        self.at += count;
        Ok(bytes)
    }

    fn number(&mut self) -> io::Result<u16> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// A name in lower case without the last dot, pointers followed (section 4.1.4).
    fn name(&mut self) -> io::Result<String> {
        let mut name = String::new();
        let (mut at, mut after, mut jumps) = (self.at, None, 0);
        loop {
            let length = *self.message.get(at).ok_or_else(|| bad("answer is cut off"))?;
            match length & 0xc0 {
                0 if length == 0 => break,
                0 => {
                    let start = at + 1;
                    at = start + usize::from(length);
                    let label = self.message.get(start..at).ok_or_else(|| bad("answer is cut off"))?;
                    if !name.is_empty() {
                        name.push('.');
                    }
                    name.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
                    if name.len() > 1024 {
                        return Err(bad("name is too long"));
                    }
                }
                0xc0 => {
                    let low = *self.message.get(at + 1).ok_or_else(|| bad("answer is cut off"))?;
                    after.get_or_insert(at + 2);
                    at = usize::from(u16::from_be_bytes([length & 0x3f, low]));
                    jumps += 1;
                    if jumps > MAX_JUMPS {
                        return Err(bad("name points in circles"));
                    }
                }
                _ => return Err(bad("bad label")),
            }
        }
        self.at = after.unwrap_or(at + 1);
        Ok(name)
    }
}
