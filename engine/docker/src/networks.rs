//! Named networks: which there are, who is on them with which address, and which ports lead in.

use crate::error::{Answer, ApiError};
use crate::ipam::Ranges;
use crate::names;
use crate::netoptions::BridgeOptions;
use crate::ports::Ports;
use crate::record::{Endpoint, Published, make_folder, new_id, now, read, replace};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use strata_net::{BridgeHost, BridgePort, BridgeRules, Cidr, mac_of};

/// Networks that are always there and are no bridges.
pub(crate) const WITHOUT_BRIDGE: [&str; 2] = ["host", "none"];
/// The network of containers that name none.
pub(crate) const DEFAULT: &str = "bridge";

/// All networks of this instance.
pub(crate) struct Networks {
    root: PathBuf,
    host: BridgeHost,
    inner: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    networks: BTreeMap<String, Network>,
    /// Taken addresses by network id, then by address: (endpoint, container).
    taken: BTreeMap<String, BTreeMap<Ipv4Addr, String>>,
    ports: Ports,
}

/// A network as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Network {
    pub id: String,
    pub name: String,
    pub created: String,
    /// `bridge`, `host` or `null`.
    pub driver: String,
    pub subnet: Option<(Ipv4Addr, u8)>,
    pub gateway: Option<Ipv4Addr>,
    /// Part of the subnet that addresses are given from.
    #[serde(default)]
    pub ip_range: Option<(Ipv4Addr, u8)>,
    /// Addresses that no container gets.
    #[serde(default)]
    pub reserved: BTreeMap<String, Ipv4Addr>,
    #[serde(default)]
    pub internal: bool,
    #[serde(default)]
    pub attachable: bool,
    /// Whether the subnet was the user's choice.
    #[serde(default)]
    pub own_subnet: bool,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// What a new network is asked to be.
#[derive(Default)]
pub(crate) struct Wanted {
    pub name: String,
    pub ranges: Ranges,
    pub internal: bool,
    pub attachable: bool,
    pub labels: BTreeMap<String, String>,
    pub options: BTreeMap<String, String>,
}

impl Network {
    fn range(&self) -> Option<Cidr> {
        let (network, prefix) = self.subnet?;
        Cidr::new(network.into(), prefix).ok()
    }

    pub fn is_bridge(&self) -> bool {
        self.driver == "bridge"
    }

    /// What the user set about its bridge; all of it was checked when the network was made.
    pub fn bridge_options(&self) -> BridgeOptions {
        BridgeOptions::parse(&self.options).unwrap_or_else(|error| {
            tracing::warn!(network = self.name, %error, "a network has options that cannot be carried out");
            BridgeOptions::default()
        })
    }
}

impl Networks {
    /// Reads the networks and makes those that are always there.
    pub fn open(root: PathBuf, instance: &str) -> Answer<Self> {
        make_folder(&root)?;
        let mut known = Known::default();
        for item in std::fs::read_dir(&root).map_err(ApiError::io("read", &root))? {
            let path = item.map_err(ApiError::io("read", &root))?.path();
            if path.extension().is_some_and(|kind| kind == "json")
                && let Some(network) = read::<Network>(&path)?
            {
                known.networks.insert(network.id.clone(), network);
            }
        }
        let networks = Self {
            root,
            host: BridgeHost::open(instance)?,
            inner: Mutex::new(known),
        };
        for (name, driver) in [("host", "host"), ("none", "null")] {
            if networks.find(name).is_err() {
                networks.keep(Network {
                    id: new_id()?,
                    name: name.into(),
                    created: now(),
                    driver: driver.into(),
                    subnet: None,
                    gateway: None,
                    ip_range: None,
                    reserved: BTreeMap::new(),
                    internal: false,
                    attachable: false,
                    own_subnet: false,
                    labels: BTreeMap::new(),
                    options: BTreeMap::new(),
                })?;
            }
        }
        if networks.find(DEFAULT).is_err() {
            networks.create(Wanted {
                name: DEFAULT.into(),
                ..Wanted::default()
            })?;
        }
        Ok(networks)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, network: Network) -> Answer<()> {
        replace(&self.root.join(format!("{}.json", network.id)), &network)?;
        self.lock().networks.insert(network.id.clone(), network);
        Ok(())
    }

    pub fn list(&self) -> Vec<Network> {
        self.lock().networks.values().cloned().collect()
    }

    /// A network by name, identity or the beginning of it.
    pub fn find(&self, name: &str) -> Answer<Network> {
        let known = self.lock();
        if let Some(network) = known.networks.values().find(|network| network.name == name) {
            return Ok(network.clone());
        }
        let mut by_id = known.networks.values().filter(|network| network.id.starts_with(name));
        match (by_id.next(), by_id.next()) {
            (Some(network), None) if !name.is_empty() => Ok(network.clone()),
            (Some(_), Some(_)) if !name.is_empty() => Err(ApiError::invalid(format!(
                "network {name} is ambiguous (multiple matches found on ID prefix)"
            ))),
            _ => Err(ApiError::not_found(format!("network {name} not found"))),
        }
    }

    /// Whether a container may ask for that.
    pub fn check(&self, name: &str, endpoint: &Endpoint) -> Answer<()> {
        let network = self.find(name)?;
        let Some(ip) = wanted_address(endpoint)? else {
            return Ok(());
        };
        if !network.own_subnet {
            return Err(ApiError::invalid(
                "user specified IP address is supported only when connecting to networks with user configured subnets",
            ));
        }
        match network.range() {
            Some(range) if range.contains(ip.into()) => Ok(()),
            _ => Err(ApiError::invalid(format!(
                "invalid endpoint settings: no configured subnet contains IP address {ip}"
            ))),
        }
    }

    /// Makes a network.
    pub fn create(&self, wanted: Wanted) -> Answer<Network> {
        if wanted.name != DEFAULT {
            names::checked(&wanted.name)
                .map_err(|_| ApiError::invalid(format!("invalid network name: {}", wanted.name)))?;
        }
        if self.find(&wanted.name).is_ok_and(|known| known.name == wanted.name) {
            return Err(ApiError::conflict(format!(
                "network with name {} already exists",
                wanted.name
            )));
        }
        let options = BridgeOptions::parse(&wanted.options)?;
        if let Some(name) = &options.name {
            self.bridge_is_free(&wanted.name, name)?;
        }
        let ranges = wanted.ranges;
        let subnet = match ranges.subnet {
            Some(subnet) => {
                let own: Vec<Cidr> = self.list().iter().filter_map(Network::range).collect();
                if own.iter().any(|other| overlaps(*other, subnet)) {
                    return Err(ApiError::forbidden(
                        "invalid pool request: Pool overlaps with other one on this address space",
                    ));
                }
                subnet
            }
            None => self.free_subnet()?,
        };
        let std::net::IpAddr::V4(base) = subnet.network() else {
            return Err(ApiError::invalid("IPv6 networks are not supported"));
        };
        if subnet.prefix() > 30 {
            return Err(ApiError::invalid(format!("subnet {subnet} is too small")));
        }
        let gateway = ranges.gateway.unwrap_or(Ipv4Addr::from_bits(base.to_bits() + 1));
        if !subnet.contains(gateway.into()) {
            return Err(ApiError::invalid(format!("no matching subnet for gateway {gateway}")));
        }
        let pair = |range: Cidr| match range.network() {
            std::net::IpAddr::V4(base) => Some((base, range.prefix())),
            std::net::IpAddr::V6(_) => None,
        };
        let network = Network {
            id: new_id()?,
            name: wanted.name,
            created: now(),
            driver: "bridge".into(),
            subnet: Some((base, subnet.prefix())),
            gateway: Some(gateway),
            ip_range: ranges.ip_range.and_then(pair),
            reserved: ranges.reserved,
            internal: wanted.internal,
            attachable: wanted.attachable,
            own_subnet: ranges.subnet.is_some(),
            labels: wanted.labels,
            options: wanted.options,
        };
        self.keep(network.clone())?;
        Ok(network)
    }

    fn bridge_is_free(&self, network: &str, bridge: &str) -> Answer<()> {
        let all = self.list();
        match all.iter().find(|other| self.bridge_of(other) == bridge) {
            Some(other) => Err(ApiError::forbidden(format!(
                "cannot create network {network} ({bridge}): conflicts with network {} ({bridge}): networks have same bridge name",
                other.id
            ))),
            None => Ok(()),
        }
    }

    /// The link of a network's bridge.
    fn bridge_of(&self, network: &Network) -> String {
        let own = network.bridge_options().name;
        own.unwrap_or_else(|| self.host.bridge(&network.id))
    }

    /// The first of docker's usual ranges that neither we nor this machine use.
    fn free_subnet(&self) -> Answer<Cidr> {
        let mut used = BridgeHost::used_ranges()?;
        used.extend(self.list().iter().filter_map(Network::range));
        let sixteens = (17..=31).map(|second| (Ipv4Addr::new(172, second, 0, 0), 16));
        let twenties = (0..16).map(|third| (Ipv4Addr::new(192, 168, third * 16, 0), 20));
        for (base, prefix) in sixteens.chain(twenties) {
            let range = Cidr::new(base.into(), prefix)?;
            if !used.iter().any(|other| overlaps(*other, range)) {
                return Ok(range);
            }
        }
        Err(ApiError::internal(
            "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network",
        ))
    }

    /// Removes a network nobody is on.
    pub fn remove(&self, network: &Network) -> Answer<()> {
        if network.name == DEFAULT || WITHOUT_BRIDGE.contains(&network.name.as_str()) {
            return Err(ApiError::forbidden(format!(
                "{} is a pre-defined network and cannot be removed",
                network.name
            )));
        }
        self.host.remove(&self.bridge_of(network))?;
        let path = self.root.join(format!("{}.json", network.id));
        std::fs::remove_file(&path).map_err(ApiError::io("remove", &path))?;
        let mut known = self.lock();
        known.networks.remove(&network.id);
        known.taken.remove(&network.id);
        self.apply(&known)
    }

    /// Puts a container on a network: its namespace gets a link with an address.
    pub fn connect(
        &self,
        network: &Network,
        endpoint: &Endpoint,
        link: &str,
        default_route: bool,
        netns: BorrowedFd<'_>,
    ) -> Answer<Endpoint> {
        let (Some((base, prefix)), Some(gateway)) = (network.subnet, network.gateway) else {
            return Err(ApiError::invalid(format!(
                "network {} cannot be connected to",
                network.name
            )));
        };
        let endpoint_id = new_id()?;
        let kept: Vec<Ipv4Addr> = network.reserved.values().copied().chain([gateway]).collect();
        let ip = {
            let mut known = self.lock();
            let taken = known.taken.entry(network.id.clone()).or_default();
            let ip = match wanted_address(endpoint)? {
                Some(ip) if taken.contains_key(&ip) || kept.contains(&ip) => {
                    return Err(ApiError::forbidden("Address already in use"));
                }
                Some(ip) => ip,
                None => {
                    let (base, prefix) = network.ip_range.unwrap_or((base, prefix));
                    free_address(base, prefix, &kept, taken).ok_or_else(|| {
                        ApiError::internal(format!("no available IPv4 addresses on network {}", network.name))
                    })?
                }
            };
            taken.insert(ip, endpoint_id.clone());
            ip
        };
        let mac = match endpoint.config.mac_address.as_str() {
            "" => mac_of(ip),
            text => parse_mac(text)?,
        };
        let (options, bridge) = (network.bridge_options(), self.bridge_of(network));
        let connect = || -> Answer<()> {
            self.host.ensure(&bridge, &network.id, gateway, prefix)?;
            self.apply(&self.lock())?;
            let port = BridgePort {
                bridge: &bridge,
                endpoint: &endpoint_id,
                inside: link,
                ip,
                prefix,
                gateway: (default_route && !network.internal).then_some(gateway),
                mac,
                mtu: options.mtu,
                isolated: !options.icc,
            };
            Ok(self.host.connect(&port, netns)?)
        };
        if let Err(error) = connect() {
            self.lock().taken.entry(network.id.clone()).or_default().remove(&ip);
            return Err(error);
        }
        Ok(Endpoint {
            config: endpoint.config.clone(),
            network_id: network.id.clone(),
            endpoint_id,
            ip: Some(ip),
            gateway: Some(gateway),
            prefix,
            mac: mac.map(|byte| format!("{byte:02x}")).join(":"),
            link: link.to_owned(),
        })
    }

    /// Takes a container off a network: its link and its address.
    pub fn disconnect(&self, endpoint: &Endpoint) -> Answer<()> {
        if endpoint.endpoint_id.is_empty() {
            return Ok(());
        }
        self.host.disconnect(&endpoint.endpoint_id)?;
        if let (Some(ip), Some(taken)) = (endpoint.ip, self.lock().taken.get_mut(&endpoint.network_id)) {
            taken.retain(|known, owner| *known != ip || *owner != endpoint.endpoint_id);
        }
        Ok(())
    }

    /// Takes note of a place that a container has had since before this process.
    pub fn adopt(&self, endpoint: &Endpoint) {
        if let Some(ip) = endpoint.ip {
            let mut known = self.lock();
            let taken = known.taken.entry(endpoint.network_id.clone()).or_default();
            taken.insert(ip, endpoint.endpoint_id.clone());
        }
    }

    /// Opens ports of this machine for a container; a `host_port` of 0 is chosen here.
    pub fn publish(&self, container: &str, ip: Ipv4Addr, wanted: Vec<Published>) -> Answer<Vec<Published>> {
        if wanted.is_empty() {
            return Ok(wanted);
        }
        let mut known = self.lock();
        let published = known.ports.take(container, ip, wanted)?;
        if let Err(error) = self.apply(&known) {
            known.ports.release(container);
            return Err(error);
        }
        Ok(published)
    }

    /// Closes a container's ports.
    pub fn unpublish(&self, container: &str) -> Answer<()> {
        let mut known = self.lock();
        match known.ports.release(container) {
            true => self.apply(&known),
            false => Ok(()),
        }
    }

    /// Removes links that belong to nobody any more and states all rules.
    pub fn settle(&self, endpoints: &[&str]) -> Answer<()> {
        let known = self.lock();
        let bridges: Vec<String> = known.networks.values().map(|one| self.bridge_of(one)).collect();
        self.host.retain(endpoints, &bridges)?;
        self.apply(&known)
    }

    fn apply(&self, known: &Known) -> Answer<()> {
        let all = known.networks.values();
        let bridges: Vec<(&Network, String)> = all.map(|one| (one, self.bridge_of(one))).collect();
        let networks: Vec<BridgeRules<'_>> = bridges
            .iter()
            .filter_map(|(network, bridge)| {
                Some(BridgeRules {
                    bridge,
                    range: network.range()?,
                    internal: network.internal,
                    masquerade: network.bridge_options().masquerade,
                })
            })
            .collect();
        Ok(self.host.apply(&networks, &known.ports.rules())?)
    }
}

fn wanted_address(endpoint: &Endpoint) -> Answer<Option<Ipv4Addr>> {
    match endpoint
        .config
        .ipam_config
        .as_ref()
        .map(|ipam| ipam.ipv4_address.as_str())
    {
        None | Some("") => Ok(None),
        Some(text) => text
            .parse()
            .map(Some)
            .map_err(|_| ApiError::invalid(format!("invalid IPv4 address: {text}"))),
    }
}

fn free_address(base: Ipv4Addr, prefix: u8, kept: &[Ipv4Addr], taken: &BTreeMap<Ipv4Addr, String>) -> Option<Ipv4Addr> {
    let first = base.to_bits();
    let size = 1u32.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
    (1..size.saturating_sub(1))
        .map(|offset| Ipv4Addr::from_bits(first + offset))
        .find(|ip| !kept.contains(ip) && !taken.contains_key(ip))
}

pub(crate) fn overlaps(a: Cidr, b: Cidr) -> bool {
    a.contains(b.network()) || b.contains(a.network())
}

fn parse_mac(text: &str) -> Answer<[u8; 6]> {
    let bytes: Option<Vec<u8>> = text.split(':').map(|part| u8::from_str_radix(part, 16).ok()).collect();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| ApiError::invalid(format!("invalid MAC address: {text}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_given_in_turn_without_the_gateway() {
        let (base, gateway) = (Ipv4Addr::new(10, 0, 0, 0), Ipv4Addr::new(10, 0, 0, 1));
        let mut taken = BTreeMap::new();
        for last in 2..=6 {
            let ip = free_address(base, 29, &[gateway], &taken).expect("free");
            assert_eq!(ip, Ipv4Addr::new(10, 0, 0, last));
            taken.insert(ip, String::new());
        }
        assert_eq!(free_address(base, 29, &[gateway], &taken), None);
    }

    #[test]
    fn ranges_overlap_when_one_holds_the_other() {
        let range = |text: &str| text.parse::<Cidr>().expect("a range");
        assert!(overlaps(range("172.17.0.0/16"), range("172.17.5.0/24")));
        assert!(overlaps(range("172.17.5.0/24"), range("172.17.0.0/16")));
        assert!(!overlaps(range("172.17.0.0/16"), range("172.18.0.0/16")));
    }
}
