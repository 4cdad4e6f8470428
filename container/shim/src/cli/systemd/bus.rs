//! As much of D-Bus as asking systemd for a unit takes: method calls with their answers, and signals.
//!
//! The wire format is that of the D-Bus specification, "Message Protocol", little-endian.

use alloc::{format, string::String, vec::Vec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use strata_runtime::{Context, Error, Result};
use strata_sys::{Errno, file};

/// Where systemd itself answers root, and where the bus is.
const PRIVATE: &str = "/run/systemd/private";
const SYSTEM: &str = "/run/dbus/system_bus_socket";

/// Longest message that is taken.
const MESSAGE_LIMIT: usize = 1 << 20;

/// How long an answer may take.
const ANSWER_LIMIT: i64 = 30;

/// Kinds of messages.
const CALL: u8 = 1;
const RETURN: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

/// Fields of a header.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// A connection to systemd.
pub(super) struct Bus {
    socket: OwnedFd,
    serial: u32,
}

/// A message that was received.
pub(super) struct Message {
    kind: u8,
    reply_to: u32,
    pub(super) member: String,
    error: String,
    pub(super) body: Vec<u8>,
}

impl Bus {
    /// Connects to systemd's own socket, or to the system's bus.
    pub(super) fn connect() -> Result<Self> {
        let private = open(PRIVATE);
        let is_private = private.is_ok();
        let socket = private
            .or_else(|_| open(SYSTEM))
            .context(|| "connect to systemd: is it the first process of this machine?")?;
        let mut bus = Bus { socket, serial: 0 };
        bus.authenticate()?;
        if !is_private {
            bus.call_at(
                ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus"),
                "Hello",
                "",
                Vec::new(),
            )?;
            let mut rule = Writer::default();
            rule.string("type='signal',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'");
            bus.call_at(
                ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus"),
                "AddMatch",
                "s",
                rule.bytes,
            )?;
        }
        bus.call("Subscribe", "", Vec::new())?;
        Ok(bus)
    }

    /// Calls a method of systemd's manager: its answer's body. Errors: `NotFound` of a unit it does not know.
    pub(super) fn call(&mut self, member: &str, signature: &str, body: Vec<u8>) -> Result<Vec<u8>> {
        let target = (
            "org.freedesktop.systemd1",
            "/org/freedesktop/systemd1",
            "org.freedesktop.systemd1.Manager",
        );
        self.call_at(target, member, signature, body)
    }

    fn call_at(
        &mut self,
        (destination, path, interface): (&str, &str, &str),
        member: &str,
        signature: &str,
        body: Vec<u8>,
    ) -> Result<Vec<u8>> {
        self.serial += 1;
        let mut message = Writer::default();
        message.bytes.extend_from_slice(&[b'l', CALL, 0, 1]);
        message.number(body.len() as u32);
        message.number(self.serial);
        message.array(8, |fields| {
            for (code, kind, text) in [
                (PATH, "o", path),
                (INTERFACE, "s", interface),
                (MEMBER, "s", member),
                (DESTINATION, "s", destination),
            ] {
                fields.align(8);
                fields.bytes.push(code);
                fields.signature(kind);
                fields.string(text);
            }
            if !signature.is_empty() {
                fields.align(8);
                fields.bytes.push(SIGNATURE);
                fields.signature("g");
                fields.signature(signature);
            }
        });
        message.align(8);
        message.bytes.extend_from_slice(&body);
        file::write_all(&self.socket, &message.bytes).context(|| format!("call {member} of systemd"))?;
        loop {
            let answer = self.hear()?;
            if answer.reply_to != self.serial {
                continue;
            }
            match answer.kind {
                RETURN => return Ok(answer.body),
                ERROR => {
                    let text = Reader::new(&answer.body).string().unwrap_or_else(|_| String::new());
                    let text = format!("systemd: {member}: {text} ({})", answer.error);
                    return Err(match &*answer.error {
                        "org.freedesktop.systemd1.NoSuchUnit" => Error::NotFound(text),
                        _ => Error::State(text),
                    });
                }
                _ => {}
            }
        }
    }

    /// The next signal of that name.
    pub(super) fn signal(&mut self, member: &str) -> Result<Message> {
        loop {
            let message = self.hear()?;
            if message.kind == SIGNAL && message.member == member {
                return Ok(message);
            }
        }
    }

    fn authenticate(&mut self) -> Result<()> {
        let what = || "authenticate to systemd";
        let uid = format!("{}", rustix::process::geteuid().as_raw());
        let mut hello = String::from("\0AUTH EXTERNAL ");
        for byte in uid.bytes() {
            hello += &format!("{byte:02x}");
        }
        // At once: a call that arrived together with what ends this would wait in systemd until more comes.
        hello += "\r\nBEGIN\r\n";
        file::write_all(&self.socket, hello.as_bytes()).context(what)?;
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0; 1];
            self.fill(&mut byte)?;
            line.push(byte[0]);
            if line.len() > 512 {
                break;
            }
        }
        if !line.starts_with(b"OK ") {
            return Err(Error::State(format!("{}: {}", what(), String::from_utf8_lossy(&line))));
        }
        Ok(())
    }

    fn hear(&mut self) -> Result<Message> {
        let mut head = [0; 16];
        self.fill(&mut head)?;
        let bad = || Error::State("systemd: a message that makes no sense".into());
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
        if head[0] != b'l' {
            return Err(bad());
        }
        let (body, fields) = (number(4), number(12));
        if body > MESSAGE_LIMIT || fields > MESSAGE_LIMIT {
            return Err(bad());
        }
        let mut rest = alloc::vec![0; fields.next_multiple_of(8) + body];
        self.fill(&mut rest)?;
        let mut message = Message {
            kind: head[1],
            reply_to: 0,
            member: String::new(),
            error: String::new(),
            body: rest.split_off(fields.next_multiple_of(8)),
        };
        let mut reader = Reader::new(&rest[..fields]);
        while !reader.at_end() {
            reader.align(8);
            let code = reader.byte()?;
            match &*reader.signature()? {
                "s" | "o" => {
                    let text = reader.string()?;
                    match code {
                        MEMBER => message.member = text,
                        ERROR_NAME => message.error = text,
                        _ => {}
                    }
                }
                "g" => drop(reader.signature()?),
                "u" => {
                    let number = reader.number()?;
                    if code == REPLY_SERIAL {
                        message.reply_to = number;
                    }
                }
                _ => return Err(bad()),
            }
        }
        Ok(message)
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<()> {
        let what = || "hear from systemd";
        let limit = Timespec {
            tv_sec: ANSWER_LIMIT,
            tv_nsec: 0,
        };
        let mut done = 0;
        while done < buffer.len() {
            match poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&limit)) {
                Ok(0) => return Err(Error::State("systemd did not answer in 30 s".into())),
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                other => drop(other.context(what)?),
            }
            match rustix::io::read(&self.socket, &mut buffer[done..]) {
                Ok(0) => return Err(Error::State("systemd closed the connection".into())),
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                other => drop(other.context(what)?),
            }
        }
        Ok(())
    }
}

fn open(path: &str) -> strata_sys::Result<OwnedFd> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// Values as the wire has them; each is aligned to its size, counted from the message's beginning.
#[derive(Default)]
pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn align(&mut self, size: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(size), 0);
    }

    pub(super) fn number(&mut self, number: u32) {
        self.align(4);
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    pub(super) fn long(&mut self, number: u64) {
        self.align(8);
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    pub(super) fn string(&mut self, text: &str) {
        self.number(text.len() as u32);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
    }

    pub(super) fn signature(&mut self, text: &str) {
        self.bytes.push(text.len() as u8);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
    }

    /// An array of elements aligned to `alignment`. Its length does not count the padding before the first.
    pub(super) fn array(&mut self, alignment: usize, fill: impl FnOnce(&mut Self)) {
        self.number(0);
        let length_at = self.bytes.len() - 4;
        self.align(alignment);
        let start = self.bytes.len();
        fill(self);
        let length = (self.bytes.len() - start) as u32;
        self.bytes[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }
}

/// Reads values from a message's part that begins aligned.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, at: 0 }
    }

    fn at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    fn align(&mut self, size: usize) {
        self.at = self.at.next_multiple_of(size);
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or_else(|| Error::State("systemd: a message that ends too soon".into()))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn number(&mut self) -> Result<u32> {
        self.align(4);
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    pub(super) fn string(&mut self) -> Result<String> {
        let length = self.number()? as usize;
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.byte().map(|_| text)
    }

    fn signature(&mut self) -> Result<String> {
        let length = self.byte()? as usize;
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.byte().map(|_| text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_aligned_and_read_back() {
        let mut writer = Writer::default();
        writer.string("ab");
        writer.array(8, |array| {
            array.align(8);
            array.string("x");
        });
        assert_eq!(writer.bytes[..8], [2, 0, 0, 0, b'a', b'b', 0, 0]);
        // The length, the padding it does not count, the element.
        assert_eq!(writer.bytes[8..], [6, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, b'x', 0][..]);
        let mut reader = Reader::new(&writer.bytes);
        assert_eq!(reader.string().unwrap(), "ab");
        assert_eq!(reader.number().unwrap(), 6);
    }

    #[test]
    fn a_message_that_ends_too_soon_is_an_error() {
        assert!(Reader::new(&[200, 0, 0, 0, 1]).string().is_err());
        assert!(Reader::new(&[255, 255, 255, 255]).string().is_err());
        assert!(Reader::new(&[1]).number().is_err());
    }
}
