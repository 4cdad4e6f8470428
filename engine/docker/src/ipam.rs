//! The addresses of a network, as they are asked for.

use crate::error::{Answer, ApiError};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use strata_net::Cidr;

/// `IPAM` of a new network.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Ipam {
    pub driver: String,
    pub config: Vec<IpamConfig>,
}

/// One subnet.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct IpamConfig {
    pub subnet: String,
    #[serde(rename = "IPRange")]
    pub ip_range: String,
    pub gateway: String,
    pub auxiliary_addresses: BTreeMap<String, String>,
}

/// What was asked for, checked.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    pub subnet: Option<Cidr>,
    pub gateway: Option<Ipv4Addr>,
    pub ip_range: Option<Cidr>,
    /// Addresses that no container gets.
    pub reserved: BTreeMap<String, Ipv4Addr>,
}

impl Ipam {
    /// Checks the addresses; all that is wrong with them is told at once.
    pub fn ranges(&self) -> Answer<Ranges> {
        if !matches!(self.driver.as_str(), "" | "default") {
            return Err(ApiError::invalid(format!(
                "ipam driver {:?} is not supported",
                self.driver
            )));
        }
        let [config] = &self.config[..] else {
            return match self.config.is_empty() {
                true => Ok(Ranges::default()),
                false => Err(ApiError::invalid("a bridge network has one IPv4 subnet")),
            };
        };
        let mut problems = Vec::new();
        let ranges = config.ranges(&mut problems);
        match (problems.is_empty(), ranges) {
            (true, Some(ranges)) => Ok(ranges),
            _ => Err(ApiError::invalid(format!(
                "invalid network config:\n{}",
                problems.join("\n")
            ))),
        }
    }
}

impl IpamConfig {
    fn ranges(&self, problems: &mut Vec<String>) -> Option<Ranges> {
        let mut all = Ranges::default();
        let Some((address, subnet)) = parsed(&self.subnet) else {
            problems.push(format!("invalid subnet {}: invalid CIDR block notation", self.subnet));
            return None;
        };
        if address != subnet.network() {
            problems.push(format!("invalid subnet {}: it should be {subnet}", self.subnet));
        }
        if subnet.network().is_ipv6() {
            problems.push(format!("invalid subnet {subnet}: IPv6 networks are not supported"));
            return None;
        }
        all.subnet = Some(subnet);
        all.ip_range = self.range_within(subnet, problems);
        let mut within = |text: &str, what: &str| match text.parse::<Ipv4Addr>() {
            Ok(ip) if subnet.contains(ip.into()) => Some(ip),
            Ok(_) => {
                problems.push(format!(
                    "invalid {what}: parent subnet {subnet} doesn't contain this address"
                ));
                None
            }
            Err(_) => {
                problems.push(format!("invalid {what}: invalid address"));
                None
            }
        };
        if !self.gateway.is_empty() {
            all.gateway = within(&self.gateway, &format!("gateway {}", self.gateway));
        }
        for (name, text) in &self.auxiliary_addresses {
            let ip = within(text, &format!("auxiliary address {name}"));
            all.reserved.extend(ip.map(|ip| (name.clone(), ip)));
        }
        Some(all)
    }

    fn range_within(&self, subnet: Cidr, problems: &mut Vec<String>) -> Option<Cidr> {
        let text = &self.ip_range;
        if text.is_empty() {
            return None;
        }
        let Some((address, range)) = parsed(text) else {
            problems.push(format!("invalid ip-range {text}: invalid CIDR block notation"));
            return None;
        };
        if range.network().is_ipv6() {
            problems.push(format!("invalid ip-range {text}: parent subnet is an IPv4 block"));
            return None;
        }
        if range.prefix() < subnet.prefix() {
            problems.push(format!(
                "invalid ip-range {text}: CIDR block is bigger than its parent subnet {subnet}"
            ));
        }
        if address != range.network() {
            problems.push(format!("invalid ip-range {text}: it should be {range}"));
        }
        if !crate::networks::overlaps(subnet, range) {
            problems.push(format!(
                "invalid ip-range {text}: parent subnet {subnet} doesn't contain ip-range"
            ));
        }
        Some(range)
    }
}

/// The address as it is written, and the range.
fn parsed(text: &str) -> Option<(IpAddr, Cidr)> {
    let (address, _) = text.split_once('/')?;
    Some((address.parse().ok()?, text.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(subnet: &str, ip_range: &str, gateway: &str) -> Result<Ranges, String> {
        let config = IpamConfig {
            subnet: subnet.into(),
            ip_range: ip_range.into(),
            gateway: gateway.into(),
            ..IpamConfig::default()
        };
        let ipam = Ipam {
            config: vec![config],
            ..Ipam::default()
        };
        ipam.ranges().map_err(|error| error.message)
    }

    #[test]
    fn ranges_and_gateways_lie_in_their_subnet() {
        let ranges = checked("10.1.0.0/16", "10.1.2.0/24", "10.1.0.9").expect("valid");
        assert_eq!(ranges.gateway, Some(Ipv4Addr::new(10, 1, 0, 9)));
        for (subnet, range, gateway, why) in [
            (
                "10.1.0.0",
                "",
                "",
                "invalid subnet 10.1.0.0: invalid CIDR block notation",
            ),
            (
                "10.1.0.1/16",
                "",
                "",
                "invalid subnet 10.1.0.1/16: it should be 10.1.0.0/16",
            ),
            (
                "10.1.0.0/16",
                "10.2.0.0/24",
                "",
                "invalid ip-range 10.2.0.0/24: parent subnet 10.1.0.0/16 doesn't contain ip-range",
            ),
            (
                "10.1.0.0/16",
                "10.0.0.0/8",
                "",
                "invalid ip-range 10.0.0.0/8: CIDR block is bigger than its parent subnet 10.1.0.0/16",
            ),
            (
                "10.1.0.0/16",
                "",
                "10.2.0.1",
                "invalid gateway 10.2.0.1: parent subnet 10.1.0.0/16 doesn't contain this address",
            ),
        ] {
            let told = checked(subnet, range, gateway).expect_err("refused");
            assert_eq!(told, format!("invalid network config:\n{why}"));
        }
    }
}
