//! The names one server gives to what it leaves in the kernel, so that several servers
//! share a machine and each removes only its own.

use crate::Error;

/// Tables, chains and link aliases start with it.
const PREFIX: &str = "strata";

/// One server on this machine: the source of every name and tag of links, routes and tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    name: String,
    hash: u64,
    /// What its links start with, where somebody else names them.
    links: Option<String>,
}

impl Instance {
    /// Errors: `BadName` unless 1 to 64 letters, digits, `-`, `_`, `.`.
    pub fn new(name: &str) -> Result<Self, Error> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(allowed) {
            return Err(Error::BadName(name.to_owned()));
        }
        Ok(Self {
            name: name.to_owned(),
            hash: fnv1a(name.as_bytes()),
            links: None,
        })
    }

    /// An instance whose only link is that one, which others made.
    pub(crate) fn of_link(name: &str, link: &str) -> Result<Self, Error> {
        Ok(Self {
            links: Some(link.to_owned()),
            ..Self::new(name)?
        })
    }

    /// The instance's name as given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The nftables table of pod traffic.
    pub fn pod_table(&self) -> String {
        format!("{PREFIX}-{}", self.name)
    }

    /// The nftables table of services.
    pub fn service_table(&self) -> String {
        format!("{PREFIX}-{}-services", self.name)
    }

    /// The nftables table of ports of this host that lead to pods.
    pub fn port_table(&self) -> String {
        format!("{PREFIX}-{}-ports", self.name)
    }

    /// What every host-side link of this instance starts with (seven characters if it names them).
    pub fn link_prefix(&self) -> String {
        let own = || format!("s{}-", base32(self.hash, 5));
        self.links.clone().unwrap_or_else(own)
    }

    /// The host-side link of a sandbox: 15 characters, the kernel's limit.
    pub fn link_name(&self, sandbox_id: &str) -> String {
        format!("{}{}", self.link_prefix(), base32(fnv1a(sandbox_id.as_bytes()), 8))
    }

    /// The link group of all host-side links, by which they are removed in one request.
    pub(crate) fn link_group(&self) -> u32 {
        // Group 0 is every other link of the machine.
        (self.hash as u32) & !1 | 1 << 31
    }

    /// The group of links that are about to be removed.
    pub(crate) fn condemned_group(&self) -> u32 {
        self.link_group() ^ 1
    }

    /// The metric of every route, by which routes are recognised as ours.
    pub(crate) fn route_metric(&self) -> u32 {
        ((self.hash >> 16) as u32 & 0x00ff_ffff) | 0x5300_0000
    }

    /// The label of every address put on a host link.
    pub(crate) fn address_label(&self) -> String {
        format!("lo:{}", &self.link_prefix()[..6])
    }
}

/// FNV-1a with 64 bits and a final mix: a name's spread, not a defence (names are checked where it matters).
fn fnv1a(bytes: &[u8]) -> u64 {
    let mut hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^ hash >> 32
}

fn base32(mut value: u64, digits: usize) -> String {
    (0..digits)
        .map(|_| {
            let digit = b"abcdefghijklmnopqrstuvwxyz234567"[(value & 31) as usize];
            value >>= 5;
            char::from(digit)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernel_and_differ() {
        let one = Instance::new("default").unwrap();
        let two = Instance::new("default2").unwrap();
        assert_eq!(one.link_name("a").len(), 15);
        assert_ne!(one.link_name("a"), one.link_name("b"));
        assert_ne!(one.link_prefix(), two.link_prefix());
        assert_ne!(one.route_metric(), two.route_metric());
        assert!(one.address_label().len() <= 15);
        for bad in ["", "a b", "a/b", &"x".repeat(65)] {
            assert!(Instance::new(bad).is_err(), "{bad:?}");
        }
    }
}
