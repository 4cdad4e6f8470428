//! `linux.netDevices`: links of the host moved into the container's network namespace, with their addresses.
//!
//! runtime-spec config-linux.md#network-devices. They are not brought back: the kernel returns those of hardware when
//! the namespace ends. What is spoken is rtnetlink(7).

use crate::error::{Context, Error, Result};
use crate::spec::NetDevice;
use alloc::{collections::BTreeMap, format, string::String, vec, vec::Vec};
use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use strata_sys::{Errno, namespace};

/// Longest name of a link.
const NAME_LIMIT: usize = 15;

/// Message types and flags of netlink(7) and rtnetlink(7).
const ERROR: u16 = 2;
const DONE: u16 = 3;
const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
const REQUEST: u16 = 0x1;
const ACKNOWLEDGE: u16 = 0x4;
const DUMP: u16 = 0x300;
const CREATE: u16 = 0x600;

/// Attributes of links and addresses.
const LINK_NAME: u16 = 3;
const LINK_NAMESPACE: u16 = 28;
const ADDRESS_FLAGS: u16 = 8;
/// The address, the own end of it, its broadcast address: what an address is made of again.
const KEPT: [u16; 3] = [1, 2, 4];

/// `IFA_F_PERMANENT`.
const PERMANENT: u32 = 0x80;

/// Longest answer of one receive, and most messages of one answer.
const ANSWER_LIMIT: usize = 64 << 10;
const MESSAGES: usize = 1 << 16;

/// Errors: names that no link can have, the same name twice, or no namespace to move to.
pub(crate) fn check(devices: &BTreeMap<String, NetDevice>, own_network: bool) -> Result<()> {
    if devices.is_empty() {
        return Ok(());
    }
    if !own_network {
        return Err(Error::Invalid(
            "unable to move network devices without a private NET namespace".into(),
        ));
    }
    let mut seen: Vec<&str> = Vec::new();
    for (name, device) in devices {
        let inside = inside(name, device);
        for name in [name, inside] {
            if !fits(name) {
                return Err(Error::Invalid(format!("invalid network device name {name:?}")));
            }
        }
        if name.contains('%') {
            return Err(Error::Invalid(format!("invalid network device name {name:?}")));
        }
        if !inside.contains('%') && seen.contains(&inside) {
            return Err(Error::Invalid(format!("network device {inside:?} is there twice")));
        }
        seen.push(inside);
    }
    Ok(())
}

fn inside<'a>(name: &'a str, device: &'a NetDevice) -> &'a str {
    if device.name.is_empty() { name } else { &device.name }
}

/// As the kernel's dev_valid_name() has it; a number may be left to it once.
fn fits(name: &str) -> bool {
    let bad = |byte: u8| byte == b'/' || byte == b':' || byte.is_ascii_whitespace() || byte == 0;
    let template = name.matches('%').count();
    !name.is_empty()
        && name.len() <= NAME_LIMIT
        && name != "."
        && name != ".."
        && !name.bytes().any(bad)
        && (template == 0 || template == 1 && name.contains("%d"))
}

/// Moves the links of the calling process's network namespace. Errors: one is not there, or its name is taken inside;
/// it is as it was then, and those before it are moved.
pub(crate) fn move_all<'a>(
    devices: impl Iterator<Item = (&'a String, &'a NetDevice)>,
    network: &OwnedFd,
) -> Result<()> {
    let what = || "open a netlink socket";
    let flags = SocketFlags::CLOEXEC;
    let here = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None).context(what)?;
    let mut here = Route::over(here);
    let mut there = Route::over(namespace::netlink(network, libc::NETLINK_ROUTE).context(what)?);
    for (name, device) in devices {
        move_one(&mut here, &mut there, network, name, inside(name, device))
            .map_err(|why| Error::State(format!("move network device {name:?}: {why}")))?;
    }
    Ok(())
}

fn move_one(here: &mut Route, there: &mut Route, network: &OwnedFd, name: &str, new: &str) -> Result<()> {
    let link = here.links()?.into_iter().find(|link| link.name == name);
    let link = link.ok_or_else(|| Error::NotFound("no link of that name in the runtime's network namespace".into()))?;
    let before = there.links()?;
    if before.iter().any(|other| other.name == new) {
        let text = format!("there is a link {new:?} in the container's network namespace already");
        return Err(Error::Exists(text));
    }
    // Setting it down takes some away.
    let addresses = here.addresses(link.index)?;
    here.set_up(link.index, false)?;
    let mut body = link_header(link.index, 0, 0);
    attribute(&mut body, LINK_NAME, format!("{new}\0").as_bytes());
    let number = rustix::fd::AsRawFd::as_raw_fd(network) as u32;
    attribute(&mut body, LINK_NAMESPACE, &number.to_ne_bytes());
    if let Err(error) = here.ask(NEW_LINK, ACKNOWLEDGE, &body).context(|| "move it") {
        // As it was.
        let _ = link.up.then(|| here.set_up(link.index, true));
        return Err(error);
    }
    let known = |index| before.iter().any(|other| other.index == index);
    let (prefix, suffix) = new.split_once("%d").unwrap_or((new, ""));
    let is_it = |link: &Link| !known(link.index) && link.name.starts_with(prefix) && link.name.ends_with(suffix);
    let moved = there.links()?.into_iter().find(is_it);
    let moved = moved.ok_or_else(|| Error::State("it is not where it was moved to".into()))?;
    for address in &addresses {
        there.add(moved.index, address)?;
    }
    there.set_up(moved.index, true)
}

/// A link as far as it matters here.
struct Link {
    index: u32,
    up: bool,
    name: String,
}

/// An address, without the link it is of.
struct Address {
    family: u8,
    prefix: u8,
    /// Those of [`KEPT`] that it has.
    parts: Vec<(u16, Vec<u8>)>,
}

/// A netlink socket of one network namespace.
struct Route {
    socket: OwnedFd,
    sequence: u32,
}

impl Route {
    fn over(socket: OwnedFd) -> Self {
        Route { socket, sequence: 0 }
    }

    fn links(&mut self) -> Result<Vec<Link>> {
        let answers = self
            .ask(GET_LINK, DUMP, &link_header(0, 0, 0))
            .context(|| "list links")?;
        let read = |body: &[u8]| -> Option<Link> {
            let name = attributes(body.get(16..)?).find(|part| part.0 == LINK_NAME)?.1;
            let name = core::str::from_utf8(name.strip_suffix(b"\0").unwrap_or(name)).ok()?;
            Some(Link {
                index: number(body, 4)?,
                up: number(body, 8)? & libc::IFF_UP as u32 != 0,
                name: name.into(),
            })
        };
        Ok(answers.iter().filter_map(|body| read(body)).collect())
    }

    /// The permanent ones of global scope.
    fn addresses(&mut self, index: u32) -> Result<Vec<Address>> {
        let answers = self.ask(GET_ADDRESS, DUMP, &[0; 8]).context(|| "list addresses")?;
        let read = |body: &[u8]| -> Option<Address> {
            let (&[family, prefix, flags, scope], rest) = (body.first_chunk()?, body.get(8..)?);
            let long = attributes(rest).find(|part| part.0 == ADDRESS_FLAGS);
            let flags = long.and_then(|part| number(part.1, 0)).unwrap_or(flags.into());
            if number(body, 4)? != index || scope != 0 || flags & PERMANENT == 0 {
                return None;
            }
            let kept = attributes(rest).filter(|part| KEPT.contains(&part.0));
            Some(Address {
                family,
                prefix,
                parts: kept.map(|part| (part.0, part.1.into())).collect(),
            })
        };
        Ok(answers.iter().filter_map(|body| read(body)).collect())
    }

    fn add(&mut self, index: u32, address: &Address) -> Result<()> {
        let mut body = vec![address.family, address.prefix, 0, 0];
        body.extend_from_slice(&index.to_ne_bytes());
        for (kind, value) in &address.parts {
            attribute(&mut body, *kind, value);
        }
        self.ask(NEW_ADDRESS, ACKNOWLEDGE | CREATE, &body)
            .context(|| "add an address")
            .map(drop)
    }

    fn set_up(&mut self, index: u32, up: bool) -> Result<()> {
        let flag = libc::IFF_UP as u32;
        let body = link_header(index, if up { flag } else { 0 }, flag);
        self.ask(NEW_LINK, ACKNOWLEDGE, &body)
            .context(|| if up { "set it up" } else { "set it down" })
            .map(drop)
    }

    /// Sends a request: the bodies of what is answered.
    fn ask(&mut self, kind: u16, flags: u16, body: &[u8]) -> strata_sys::Result<Vec<Vec<u8>>> {
        self.sequence += 1;
        let mut message = ((16 + body.len()) as u32).to_ne_bytes().to_vec();
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        message.extend_from_slice(&self.sequence.to_ne_bytes());
        message.extend_from_slice(&[0; 4]);
        message.extend_from_slice(body);
        rustix::net::send(&self.socket, &message, SendFlags::empty())?;
        let mut answers = Vec::new();
        let mut buffer = vec![0; ANSWER_LIMIT];
        loop {
            let (length, whole) = rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::TRUNC)?;
            if length < whole || answers.len() > MESSAGES {
                return Err(Errno::MSGSIZE);
            }
            let mut rest = &buffer[..length];
            while let Some((kind, sequence, body, after)) = split(rest) {
                rest = after;
                if sequence != self.sequence {
                    continue;
                }
                match kind {
                    DONE => return Ok(answers),
                    ERROR => {
                        let code = number(body, 0).ok_or(Errno::BADMSG)? as i32;
                        return match code {
                            0 => Ok(answers),
                            code => Err(Errno::from_raw_os_error(code.wrapping_neg())),
                        };
                    }
                    _ => answers.push(body.into()),
                }
            }
        }
    }
}

/// nlmsghdr: type, sequence number and body of the first message, and what follows it.
fn split(bytes: &[u8]) -> Option<(u16, u32, &[u8], &[u8])> {
    let length = number(bytes, 0)? as usize;
    let body = bytes.get(16..length)?;
    let kind = u16::from_ne_bytes([bytes[4], bytes[5]]);
    let after = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    Some((kind, number(bytes, 8)?, body, after))
}

/// ifinfomsg.
fn link_header(index: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut header = vec![0; 4];
    for number in [index, flags, change] {
        header.extend_from_slice(&number.to_ne_bytes());
    }
    header
}

/// rtattr: appended with its padding.
fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend_from_slice(&((4 + value.len()) as u16).to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// Types and values of all attributes, as far as they make sense.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    core::iter::from_fn(move || {
        let &[a, b, c, d] = bytes.first_chunk()?;
        let length = u16::from_ne_bytes([a, b]) as usize;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((u16::from_ne_bytes([c, d]) & 0x3fff, value))
    })
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let piece = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*piece))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(list: &[(&str, &str)]) -> BTreeMap<String, NetDevice> {
        let entry = |&(name, new): &(&str, &str)| (String::from(name), NetDevice { name: new.into() });
        list.iter().map(entry).collect()
    }

    #[test]
    fn names_no_link_can_have_and_names_given_twice_are_refused() {
        assert!(check(&devices(&[("eth1", ""), ("eth2", "net%d"), ("eth3", "net%d")]), true).is_ok());
        assert!(check(&devices(&[]), false).is_ok());
        assert!(check(&devices(&[("eth1", "")]), false).is_err());
        let bad = [
            [("", "a")],
            [("sixteen-letters-", "")],
            [("a", "b/c")],
            [("a", "b c")],
            [("a", "..")],
            [("a", "%s")],
            [("a%d", "b")],
            [("a", "%d%d")],
        ];
        for list in bad {
            assert!(check(&devices(&list), true).is_err(), "{list:?}");
        }
        assert!(check(&devices(&[("a", "c"), ("b", "c")]), true).is_err());
        assert!(check(&devices(&[("a", "b"), ("b", "")]), true).is_err());
    }

    #[test]
    fn attributes_read_back_and_nonsense_ends_them() {
        let mut body = Vec::new();
        attribute(&mut body, 3, b"eth0\0");
        attribute(&mut body, 28, &7u32.to_ne_bytes());
        let list: Vec<_> = attributes(&body).collect();
        assert_eq!(list, [(3, &b"eth0\0"[..]), (28, &7u32.to_ne_bytes()[..])]);
        for bytes in [&[0, 0, 1, 0][..], &[9, 0, 1, 0, 1], &[1]] {
            assert_eq!(attributes(bytes).count(), 0, "{bytes:?}");
        }
        assert!(split(&[200, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).is_none());
        assert!(split(&[4, 0, 0, 0]).is_none());
    }
}
