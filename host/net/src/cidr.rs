//! An address range in CIDR notation, of either family.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use crate::Error;

/// An address range: an address and the number of leading bits that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// The range that `address` with `prefix` bits lies in; errors when `prefix` is longer than the address.
    pub fn new(address: IpAddr, prefix: u8) -> Result<Self, Error> {
        let address = match address {
            IpAddr::V4(v4) if prefix <= 32 => IpAddr::V4((v4.to_bits() & mask4(prefix)).into()),
            IpAddr::V6(v6) if prefix <= 128 => IpAddr::V6((v6.to_bits() & mask6(prefix)).into()),
            _ => return Err(Error::BadCidr(format!("{address}/{prefix}"))),
        };
        Ok(Self { address, prefix })
    }

    /// The range that holds just one address.
    pub fn host(address: IpAddr) -> Self {
        Self {
            address,
            prefix: if address.is_ipv4() { 32 } else { 128 },
        }
    }

    /// The first address.
    pub fn network(&self) -> IpAddr {
        self.address
    }

    /// The number of leading bits that count.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether the address lies in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        Self::new(address, self.prefix).is_ok_and(|range| range == *self)
    }

    /// The IPv4 network address; an error for IPv6.
    pub(crate) fn network4(&self) -> Result<Ipv4Addr, Error> {
        match self.address {
            IpAddr::V4(v4) => Ok(v4),
            other => Err(Error::Family(other)),
        }
    }

    /// The IPv4 netmask.
    pub(crate) fn mask4(&self) -> Ipv4Addr {
        mask4(self.prefix).into()
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::BadCidr(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
        if prefix.is_empty() || prefix.len() > 3 || !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(bad());
        }
        let address = address.parse().map_err(|_| bad())?;
        Self::new(address, prefix.parse().map_err(|_| bad())?).map_err(|_| bad())
    }
}

fn mask4(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

fn mask6(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_parse_mask_and_contain() {
        let range: Cidr = "10.244.3.9/22".parse().unwrap();
        assert_eq!(range.to_string(), "10.244.0.0/22");
        assert!(range.contains("10.244.3.255".parse().unwrap()));
        assert!(!range.contains("10.244.4.0".parse().unwrap()));
        assert!(!range.contains("::1".parse().unwrap()));
        assert!(
            "0.0.0.0/0"
                .parse::<Cidr>()
                .unwrap()
                .contains("255.1.2.3".parse().unwrap())
        );
        assert!("fd00::/8".parse::<Cidr>().unwrap().contains("fdff::1".parse().unwrap()));
        for bad in [
            "",
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0/8",
            "10.0.0.0/+8",
            "fd00::/129",
            "1.2.3.4/",
            "a/8",
        ] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }
}
