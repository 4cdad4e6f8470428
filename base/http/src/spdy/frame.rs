//! Frames on the wire (section 2.2).

use super::headers::HeaderEncoder;
use crate::Error;
use bytes::Bytes;
use http::HeaderMap;

/// Every frame begins with so many bytes.
pub(super) const HEAD: usize = 8;
/// Payload of a control frame; header blocks are a few hundred bytes.
pub(super) const MAX_CONTROL: usize = 64 << 10;
const VERSION: u16 = 3;
const FLAG_FIN: u8 = 1;
const FLAG_UNIDIRECTIONAL: u8 = 2;
/// Stream ids have 31 bits.
pub(super) const ID_MASK: u32 = 0x7fff_ffff;

/// RST_STREAM status codes (section 2.6.3).
pub(super) mod status {
    pub(in crate::spdy) const PROTOCOL_ERROR: u32 = 1;
    pub(in crate::spdy) const INVALID_STREAM: u32 = 2;
    pub(in crate::spdy) const REFUSED_STREAM: u32 = 3;
    pub(in crate::spdy) const CANCEL: u32 = 5;
}

/// The first eight bytes of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Head {
    Data { stream: u32, fin: bool, length: usize },
    Control { kind: u16, flags: u8, length: usize },
}

impl Head {
    pub(super) fn parse(head: [u8; HEAD]) -> Result<Self, Error> {
        let [a, b, c, d, flags, l1, l2, l3] = head;
        let length = u32::from_be_bytes([0, l1, l2, l3]) as usize;
        let word = u32::from_be_bytes([a, b, c, d]);
        if word & !ID_MASK == 0 {
            if word == 0 {
                return Err(Error::spdy("data for stream 0"));
            }
            return Ok(Self::Data {
                stream: word,
                fin: flags & FLAG_FIN != 0,
                length,
            });
        }
        if (word >> 16) as u16 & 0x7fff != VERSION {
            return Err(Error::spdy("frame of another version"));
        }
        if length > MAX_CONTROL {
            return Err(Error::spdy("control frame is too large"));
        }
        Ok(Self::Control {
            kind: word as u16,
            flags,
            length,
        })
    }
}

/// A control frame that was received; header blocks are still compressed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Control<'a> {
    SynStream {
        stream: u32,
        fin: bool,
        unidirectional: bool,
        block: &'a [u8],
    },
    SynReply {
        stream: u32,
        fin: bool,
        block: &'a [u8],
    },
    RstStream {
        stream: u32,
    },
    Ping {
        id: u32,
    },
    GoAway,
    Headers {
        stream: u32,
        fin: bool,
        block: &'a [u8],
    },
    WindowUpdate,
    Settings,
    /// To be ignored (section 2.2.1).
    Unknown,
}

impl<'a> Control<'a> {
    pub(super) fn parse(kind: u16, flags: u8, payload: &'a [u8]) -> Result<Self, Error> {
        let mut rest = payload;
        let fin = flags & FLAG_FIN != 0;
        let control = match kind {
            1 => {
                let (stream, _associated) = (id(&mut rest)?, number(&mut rest)?);
                let block = rest.get(2..).ok_or_else(cut_off)?;
                Self::SynStream {
                    stream,
                    fin,
                    unidirectional: flags & FLAG_UNIDIRECTIONAL != 0,
                    block,
                }
            }
            2 => Self::SynReply {
                stream: id(&mut rest)?,
                fin,
                block: rest,
            },
            8 => Self::Headers {
                stream: id(&mut rest)?,
                fin,
                block: rest,
            },
            3 => {
                exactly(payload, 8)?;
                Self::RstStream { stream: id(&mut rest)? }
            }
            6 => {
                exactly(payload, 4)?;
                Self::Ping { id: number(&mut rest)? }
            }
            7 => {
                exactly(payload, 8)?;
                Self::GoAway
            }
            9 => {
                exactly(payload, 8)?;
                let (_stream, delta) = (id_or_zero(&mut rest)?, id_or_zero(&mut rest)?);
                if delta == 0 {
                    return Err(Error::spdy("window update of nothing"));
                }
                Self::WindowUpdate
            }
            4 => {
                let entries = number(&mut rest)? as usize;
                if rest.len() != entries.saturating_mul(8) {
                    return Err(Error::spdy("settings of a wrong length"));
                }
                Self::Settings
            }
            _ => Self::Unknown,
        };
        Ok(control)
    }
}

fn cut_off() -> Error {
    Error::spdy("control frame is cut off")
}

fn exactly(payload: &[u8], length: usize) -> Result<(), Error> {
    if payload.len() == length {
        Ok(())
    } else {
        Err(Error::spdy("control frame of a wrong length"))
    }
}

fn number(rest: &mut &[u8]) -> Result<u32, Error> {
    let (bytes, tail) = rest.split_first_chunk::<4>().ok_or_else(cut_off)?;
    *rest = tail;
    Ok(u32::from_be_bytes(*bytes))
}

fn id_or_zero(rest: &mut &[u8]) -> Result<u32, Error> {
    Ok(number(rest)? & ID_MASK)
}

fn id(rest: &mut &[u8]) -> Result<u32, Error> {
    match id_or_zero(rest)? {
        0 => Err(Error::spdy("stream 0")),
        id => Ok(id),
    }
}

/// A frame to be sent.
#[derive(Debug)]
pub(super) enum Frame {
    SynStream { stream: u32, headers: HeaderMap },
    SynReply { stream: u32, headers: HeaderMap },
    Data { stream: u32, bytes: Bytes, fin: bool },
    RstStream { stream: u32, status: u32 },
    Ping { id: u32 },
    GoAway { last: u32, status: u32 },
    WindowUpdate { stream: u32, delta: u32 },
}

impl Frame {
    /// Appends the frame. Header blocks must be encoded in the order they are sent.
    pub(super) fn encode(&self, encoder: &mut HeaderEncoder, out: &mut Vec<u8>) -> Result<(), Error> {
        match self {
            Self::SynStream { stream, headers } => control(out, 1, |out| {
                // Associated stream, priority and slot are zero.
                numbers(out, &[*stream, 0]);
                out.extend_from_slice(&[0, 0]);
                encoder.encode(headers, out)
            }),
            Self::SynReply { stream, headers } => control(out, 2, |out| {
                numbers(out, &[*stream]);
                encoder.encode(headers, out)
            }),
            Self::Data { stream, bytes, fin } => {
                numbers(out, &[*stream, u32::from(*fin) << 24 | bytes.len() as u32]);
                out.extend_from_slice(bytes);
                Ok(())
            }
            Self::RstStream { stream, status } => control(out, 3, |out| {
                numbers(out, &[*stream, *status]);
                Ok(())
            }),
            Self::Ping { id } => control(out, 6, |out| {
                numbers(out, &[*id]);
                Ok(())
            }),
            Self::GoAway { last, status } => control(out, 7, |out| {
                numbers(out, &[*last, *status]);
                Ok(())
            }),
            Self::WindowUpdate { stream, delta } => control(out, 9, |out| {
                numbers(out, &[*stream, *delta]);
                Ok(())
            }),
        }
    }
}

fn numbers(out: &mut Vec<u8>, numbers: &[u32]) {
    for number in numbers {
        out.extend_from_slice(&number.to_be_bytes());
    }
}

fn control(out: &mut Vec<u8>, kind: u16, payload: impl FnOnce(&mut Vec<u8>) -> Result<(), Error>) -> Result<(), Error> {
    out.extend_from_slice(&(0x8000 | VERSION).to_be_bytes());
    out.extend_from_slice(&kind.to_be_bytes());
    let length_at = out.len();
    numbers(out, &[0]);
    payload(out)?;
    let length = out.len() - length_at - 4;
    if length > MAX_CONTROL {
        return Err(Error::spdy("control frame is too large"));
    }
    // Flags stay zero; the length takes the lower three bytes.
    out[length_at..length_at + 4].copy_from_slice(&(length as u32).to_be_bytes());
    Ok(())
}
