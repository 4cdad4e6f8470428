//! Addresses and networks.

use super::{
    super::{Row, row},
    Opaque, only_text,
};
use crate::{EvalError, Value, env::Library::Network as Lib};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// An IP address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(pub(crate) IpAddr);

/// A network: an address and how many of its bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    pub(crate) address: Address,
    pub(crate) bits: u8,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl Address {
    pub(crate) fn bytes(self) -> u64 {
        if self.0.is_ipv4() { 4 } else { 16 }
    }

    fn number(self) -> u128 {
        match self.0 {
            IpAddr::V4(v4) => u32::from(v4).into(),
            IpAddr::V6(v6) => v6.into(),
        }
    }

    fn parse(text: &str) -> Result<Self, EvalError> {
        let wrong = |why: &str| {
            let sentence =
                format!("IP Address {text:?} parse error during conversion from string: ParseAddr({text:?}): {why}");
            Err(EvalError::failed(sentence))
        };
        let (plain, zone) = match text.split_once('%') {
            Some((plain, zone)) => (plain, Some(zone)),
            None => (text, None),
        };
        let Ok(address) = plain.parse::<IpAddr>() else {
            return wrong(&why_not(text));
        };
        if zone == Some("") {
            return wrong("zone must be a non-empty string");
        }
        if zone.is_some() {
            return Err(EvalError::failed(format!(
                "IP address {text:?} with zone value is not allowed"
            )));
        }
        if is_mapped(address) {
            return Err(EvalError::failed(format!(
                "IPv4-mapped IPv6 address {text:?} is not allowed"
            )));
        }
        Ok(Self(address))
    }
}

/// What is wrong with an address, as Go's `netip` tells.
fn why_not(text: &str) -> String {
    match text.find(['.', ':', '%']) {
        Some(at) if text.as_bytes()[at] == b'.' => why_not_v4(text),
        Some(at) if text.as_bytes()[at] == b'%' => "missing IPv6 address".to_owned(),
        Some(_) => format!("each colon-separated field must have at least one digit (at {text:?})"),
        None => "unable to parse IP".to_owned(),
    }
}

fn why_not_v4(text: &str) -> String {
    let (mut fields, mut value, mut digits) = (0, 0_u32, 0);
    for (at, c) in text.char_indices() {
        match c {
            '0'..='9' if digits > 0 && value == 0 => return "IPv4 field has octet with leading zero".to_owned(),
            '0'..='9' => {
                value = value * 10 + u32::from(c) - u32::from('0');
                digits += 1;
                if value > 255 {
                    return "IPv4 field has value >255".to_owned();
                }
            }
            '.' if digits == 0 || at + 1 == text.len() => {
                return format!("IPv4 field must have at least one digit (at {:?})", &text[at..]);
            }
            '.' if fields == 3 => return "IPv4 address too long".to_owned(),
            '.' => {
                fields += 1;
                (value, digits) = (0, 0);
            }
            _ => return format!("unexpected character (at {:?})", &text[at..]),
        }
    }
    "IPv4 address too short".to_owned()
}

fn is_mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

impl Network {
    fn parse(text: &str) -> Result<Self, EvalError> {
        let wrong = |why: String| {
            let prefix = "network address parse error during conversion from string: ";
            EvalError::failed(format!("{prefix}{why}"))
        };
        let malformed = |why: &str| wrong(format!("netip.ParsePrefix({text:?}): {why}"));
        let (address, length) = text.rsplit_once('/').ok_or_else(|| malformed("no '/'"))?;
        if address.contains('%') {
            return Err(malformed("IPv6 zones cannot be present in a prefix"));
        }
        let parsed: IpAddr = address.parse().map_err(|_| malformed(&why_not(address)))?;
        let digits = length.bytes().all(|b| b.is_ascii_digit()) && (length == "0" || !length.starts_with('0'));
        let bits = length.parse::<u8>().ok().filter(|_| digits);
        let bits = bits.ok_or_else(|| malformed(&format!("bad bits after slash: {length:?}")))?;
        if bits > if parsed.is_ipv4() { 32 } else { 128 } {
            return Err(malformed("prefix length out of range"));
        }
        if is_mapped(parsed) {
            return Err(wrong(format!("IPv4-mapped IPv6 address {text:?} is not allowed")));
        }
        Ok(Self {
            address: Address(parsed),
            bits,
        })
    }

    fn mask(self) -> u128 {
        let width: u32 = if self.address.0.is_ipv4() { 32 } else { 128 };
        let all = u128::MAX >> (128 - width);
        all & all.checked_shl(width - u32::from(self.bits)).unwrap_or(0)
    }

    fn contains(self, address: Address) -> bool {
        let same = self.address.0.is_ipv4() == address.0.is_ipv4();
        same && self.address.number() & self.mask() == address.number() & self.mask()
    }

    fn masked(self) -> Self {
        let number = self.address.number() & self.mask();
        let address = match self.address.0 {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from(number as u32)),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from(number)),
        };
        Self {
            address: Address(address),
            ..self
        }
    }
}

pub(super) fn rows() -> Vec<Row> {
    vec![
        row(Lib, "ip", "string_to_ip", "(string) -> ip", |a| {
            Ok(of_ip(Address::parse(only_text(a)?)?))
        }),
        row(Lib, "family", "ip_family", "ip.() -> int", |a| {
            Ok(Value::Int(if address(a, 0)?.0.is_ipv4() { 4 } else { 6 }))
        }),
        row(Lib, "ip.isCanonical", "ip_is_canonical", "(string) -> bool", |a| {
            let text = only_text(a)?;
            Ok(Value::Bool(Address::parse(text)?.to_string() == text))
        }),
        row(Lib, "isUnspecified", "ip_is_unspecified", "ip.() -> bool", |a| {
            Ok(Value::Bool(address(a, 0)?.0.is_unspecified()))
        }),
        row(Lib, "isLoopback", "ip_is_loopback", "ip.() -> bool", |a| {
            Ok(Value::Bool(address(a, 0)?.0.is_loopback()))
        }),
        row(
            Lib,
            "isLinkLocalMulticast",
            "ip_is_link_local_multicast",
            "ip.() -> bool",
            |a| Ok(Value::Bool(link_local_multicast(address(a, 0)?.0))),
        ),
        row(
            Lib,
            "isLinkLocalUnicast",
            "ip_is_link_local_unicast",
            "ip.() -> bool",
            |a| Ok(Value::Bool(link_local_unicast(address(a, 0)?.0))),
        ),
        row(Lib, "isGlobalUnicast", "ip_is_global_unicast", "ip.() -> bool", |a| {
            let ip = address(a, 0)?.0;
            let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
            let other = ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || link_local_unicast(ip);
            Ok(Value::Bool(!broadcast && !other))
        }),
        row(Lib, "isIP", "is_ip", "(string) -> bool", |a| {
            Ok(Value::Bool(Address::parse(only_text(a)?).is_ok()))
        }),
        row(Lib, "string", "ip_to_string", "(ip) -> string", |a| {
            Ok(Value::text(address(a, 0)?.to_string()))
        }),
        row(
            Lib,
            "cidr",
            "string_to_cidr",
            "(string) -> cidr",
            |a| match Network::parse(only_text(a)?) {
                Ok(network) => Ok(of_network(network)),
                Err(e) => {
                    let prefix = "network address parse error during conversion from string: ";
                    Err(EvalError::failed(format!("{prefix}{e}")))
                }
            },
        ),
        row(
            Lib,
            "containsIP",
            "cidr_contains_ip_string",
            "cidr.(string) -> bool",
            contains_ip,
        ),
        row(
            Lib,
            "containsIP",
            "cidr_contains_ip_ip",
            "cidr.(ip) -> bool",
            contains_ip,
        ),
        row(
            Lib,
            "containsCIDR",
            "cidr_contains_cidr_string",
            "cidr.(string) -> bool",
            contains_cidr,
        ),
        row(
            Lib,
            "containsCIDR",
            "cidr_contains_cidr",
            "cidr.(cidr) -> bool",
            contains_cidr,
        ),
        row(Lib, "ip", "cidr_ip", "cidr.() -> ip", |a| {
            Ok(of_ip(network(a, 0)?.address))
        }),
        row(Lib, "prefixLength", "cidr_prefix_length", "cidr.() -> int", |a| {
            Ok(Value::Int(network(a, 0)?.bits.into()))
        }),
        row(Lib, "masked", "cidr_masked", "cidr.() -> cidr", |a| {
            Ok(of_network(network(a, 0)?.masked()))
        }),
        row(Lib, "isCIDR", "is_cidr", "(string) -> bool", |a| {
            Ok(Value::Bool(Network::parse(only_text(a)?).is_ok()))
        }),
        row(Lib, "string", "cidr_to_string", "(cidr) -> string", |a| {
            Ok(Value::text(network(a, 0)?.to_string()))
        }),
    ]
}

fn of_ip<'a>(address: Address) -> Value<'a> {
    Value::Opaque(Opaque::Ip(address))
}

fn of_network<'a>(network: Network) -> Value<'a> {
    Value::Opaque(Opaque::Cidr(network))
}

fn address(args: &[Value<'_>], at: usize) -> Result<Address, EvalError> {
    match args.get(at) {
        Some(Value::Opaque(Opaque::Ip(address))) => Ok(*address),
        Some(Value::String(text)) => Address::parse(text),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn network(args: &[Value<'_>], at: usize) -> Result<Network, EvalError> {
    match args.get(at) {
        Some(Value::Opaque(Opaque::Cidr(network))) => Ok(*network),
        Some(Value::String(text)) => Network::parse(text).map_err(|e| {
            let prefix = "network address parse error during conversion from string: ";
            EvalError::failed(format!("{prefix}{e}"))
        }),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn contains_ip<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    // What is no address is told as a wrong type.
    let address = address(args, 1).map_err(|_| EvalError::no_such_overload())?;
    Ok(Value::Bool(network(args, 0)?.contains(address)))
}

fn contains_cidr<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let (outer, inner) = (network(args, 0)?, network(args, 1)?);
    Ok(Value::Bool(outer.bits <= inner.bits && outer.contains(inner.address)))
}

fn link_local_unicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 == 0xfe80,
    }
}

fn link_local_multicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
    }
}
