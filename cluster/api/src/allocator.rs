//! Cluster addresses and node ports of services: no two services hold the same one.

use crate::{Error, json, registry::Row};
use serde_json::{Value, json};
use std::{collections::HashSet, hash::Hash, net::Ipv4Addr, ops::RangeInclusive, sync::Mutex};
use strata_meta::{Object, Status, StatusCause, Uid, WatchEvent};
use strata_metrics::{Counter, Kind, Page};

/// Hands out addresses and ports; what is taken follows the stored services.
pub(crate) struct ServiceAllocator {
    network: u32,
    size: u32,
    ports: RangeInclusive<u16>,
    taken: Mutex<Taken>,
    /// What was given out without being asked for by number, and by number.
    addresses_given: [Counter; 2],
    ports_given: [Counter; 2],
}

#[derive(Default)]
struct Taken {
    addresses: Held<u32>,
    ports: Held<u16>,
}

/// What stored services hold, and what is claimed by writes under way.
struct Held<T> {
    stored: HashSet<T>,
    claimed: HashSet<T>,
}

impl<T: Copy + Eq + Hash> Held<T> {
    fn is_free(&self, item: T) -> bool {
        !self.stored.contains(&item) && !self.claimed.contains(&item)
    }

    fn claim(&mut self, item: T) -> bool {
        self.is_free(item) && self.claimed.insert(item)
    }
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self {
            stored: HashSet::new(),
            claimed: HashSet::new(),
        }
    }
}

/// What a write under way has taken. When it is dropped the write has failed, or the stored service holds it.
pub(crate) struct Claim<'a> {
    allocator: &'a ServiceAllocator,
    addresses: Vec<u32>,
    ports: Vec<u16>,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut taken = self.allocator.lock();
        for address in &self.addresses {
            taken.addresses.claimed.remove(address);
        }
        for port in &self.ports {
            taken.ports.claimed.remove(port);
        }
    }
}

impl ServiceAllocator {
    /// Over a range of addresses and of ports. Errors: the range cannot be read or is too small.
    pub(crate) fn new(cidr: &str, ports: RangeInclusive<u16>) -> Result<Self, Error> {
        let bad = |why: &str| Error::Setting {
            setting: "service CIDR",
            why: format!("{cidr:?} {why}"),
        };
        let (address, length) = cidr.split_once('/').ok_or_else(|| bad("has no prefix length"))?;
        let address: Ipv4Addr = address.parse().map_err(|_| bad("is no IPv4 network"))?;
        let length: u32 = length.parse().map_err(|_| bad("has no valid prefix length"))?;
        if !(8..=30).contains(&length) {
            return Err(bad("must have a prefix length from 8 to 30"));
        }
        let size = 1u32 << (32 - length);
        Ok(Self {
            network: u32::from(address) & !(size - 1),
            size,
            ports,
            taken: Mutex::default(),
            addresses_given: Default::default(),
            ports_given: Default::default(),
        })
    }

    /// The address of the `kubernetes` service: the first of the range.
    pub(crate) fn first(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.network + 1)
    }

    /// Shows what is taken and what is left, and how what is taken was come by.
    pub(crate) fn show(&self, page: &mut Page) {
        let (addresses, ports) = {
            let taken = self.lock();
            (taken.addresses.stored.len(), taken.ports.stored.len())
        };
        let cidr = format!("{}/{}", Ipv4Addr::from(self.network), self.size.leading_zeros() + 1);
        let cidr = [("cidr", cidr.as_str())];
        // Neither the network's own address nor its broadcast address.
        let all = self.size as usize - 2;
        let shown = ["allocated_ips", "available_ips"];
        show("clusterip", &cidr, shown, (addresses, all), &self.addresses_given, page);
        let shown = ["allocated_ports", "available_ports"];
        show(
            "nodeport",
            &[],
            shown,
            (ports, self.ports.len()),
            &self.ports_given,
            page,
        );
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Taken> {
        self.taken.lock().expect("no panic under this lock")
    }

    /// Follows a change of a service; `before` is its state before.
    pub(crate) fn observe(&self, event: &WatchEvent, before: Option<&Object>) {
        let mut taken = self.lock();
        let now = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => Some(&**object),
            WatchEvent::Deleted(_) | WatchEvent::Bookmark(_) => None,
        };
        for (object, held) in [(before, false), (now, true)] {
            let Some(value) = object.and_then(|o| o.to_value().ok()) else {
                continue;
            };
            for address in addresses_of(&value) {
                if held {
                    taken.addresses.stored.insert(address)
                } else {
                    taken.addresses.stored.remove(&address)
                };
            }
            for port in ports_of(&value) {
                if held {
                    taken.ports.stored.insert(port)
                } else {
                    taken.ports.stored.remove(&port)
                };
            }
        }
    }

    /// Completes a service that is about to be written. Errors: 422 when what it asks for is taken or outside the range.
    pub(crate) fn claim(&self, row: &Row, value: &mut Value, old: Option<&Value>) -> Result<Claim<'_>, Status> {
        let mut claim = Claim {
            allocator: self,
            addresses: Vec::new(),
            ports: Vec::new(),
        };
        if !row.resource.group.is_empty() || row.resource.resource != "services" {
            return Ok(claim);
        }
        let mut causes = Vec::new();
        if let Some(old) = old {
            carry_over(value, old);
        }
        self.claim_address(value, old, &mut claim, &mut causes);
        if causes.is_empty() {
            self.claim_ports(value, old, &mut claim, &mut causes);
        }
        if !causes.is_empty() {
            return Err(Status::invalid(
                &row.group_kind(),
                json::text(value, "metadata.name"),
                causes,
            ));
        }
        Ok(claim)
    }

    fn claim_address(
        &self,
        value: &mut Value,
        old: Option<&Value>,
        claim: &mut Claim<'_>,
        causes: &mut Vec<StatusCause>,
    ) {
        if json::text(value, "spec.type") == "ExternalName" {
            for field in [
                "spec.clusterIP",
                "spec.clusterIPs",
                "spec.ipFamilies",
                "spec.ipFamilyPolicy",
            ] {
                json::remove(value, field);
            }
            return;
        }
        // Nobody but the author of its endpoints knows what families a headless service without a
        // selector has.
        let unset = |path| json::get(value, path).is_none();
        let own_endpoints = json::text(value, "spec.clusterIP") == "None"
            && json::members(value, "spec.selector").next().is_none()
            && unset("spec.ipFamilyPolicy")
            && unset("spec.ipFamilies");
        if own_endpoints {
            json::set(value, "spec.ipFamilyPolicy", "RequireDualStack");
            json::set(value, "spec.ipFamilies", json!(["IPv4", "IPv6"]));
        }
        let headless = json::text(value, "spec.clusterIP") == "None";
        if !headless || json::members(value, "spec.selector").next().is_some() {
            only_one_family(value, causes);
        }
        json::set_default(value, "spec.ipFamilyPolicy", "SingleStack");
        json::set_default(value, "spec.ipFamilies", json!(["IPv4"]));
        let wanted = match json::text(value, "spec.clusterIP") {
            "" => json::list(value, "spec.clusterIPs")
                .first()
                .and_then(Value::as_str)
                .unwrap_or("")
                .to_owned(),
            stated => stated.to_owned(),
        };
        if wanted == "None" {
            json::set(value, "spec.clusterIP", "None");
            json::set(value, "spec.clusterIPs", json!(["None"]));
            return;
        }
        if old.is_some_and(|o| !wanted.is_empty() && json::text(o, "spec.clusterIP") == wanted) {
            json::set(value, "spec.clusterIPs", json!([wanted]));
            return;
        }
        // What is no address is refused by validation.
        if !wanted.is_empty() && wanted.parse::<std::net::IpAddr>().is_err() {
            return;
        }
        let found = if wanted.is_empty() {
            self.any_address()
        } else {
            self.this_address(&wanted)
        };
        match found {
            Ok(address) => {
                claim.addresses.push(address);
                let text = Ipv4Addr::from(address).to_string();
                json::set(value, "spec.clusterIP", text.as_str());
                json::set(value, "spec.clusterIPs", json!([text]));
            }
            Err(why) => causes.push(StatusCause::invalid(
                "spec.clusterIPs",
                GoList(&wanted),
                format_args!("failed to allocate IP {wanted}: {why}"),
            )),
        }
    }

    fn this_address(&self, text: &str) -> Result<u32, String> {
        let address: Ipv4Addr = text.parse().map_err(|_| "must be a valid IP address".to_owned())?;
        let address = u32::from(address);
        if address < self.network || address - self.network >= self.size {
            return Err("the provided network does not match the current range".into());
        }
        if address == self.network || address == self.network + self.size - 1 {
            let range = format!("{}/{}", Ipv4Addr::from(self.network), 32 - self.size.trailing_zeros());
            return Err(format!(
                "the provided IP ({text}) is not in the valid range. The range of valid IPs is {range}"
            ));
        }
        if self.lock().addresses.claim(address) {
            self.addresses_given[1].inc();
            Ok(address)
        } else {
            Err("provided IP is already allocated".into())
        }
    }

    /// Any free address; the lower part of the range is left to those who ask for one (KEP-3070).
    fn any_address(&self) -> Result<u32, String> {
        let reserved = (self.size / 16).clamp(16, 256).min(self.size / 4);
        let mut taken = self.lock();
        for (from, to) in [(reserved.max(1), self.size - 1), (1, reserved)] {
            let width = to.saturating_sub(from);
            let start = random_number() % width.max(1);
            let free = (0..width)
                .map(|i| self.network + from + (start + i) % width)
                .find(|a| taken.addresses.is_free(*a));
            if let Some(address) = free {
                taken.addresses.claimed.insert(address);
                self.addresses_given[0].inc();
                return Ok(address);
            }
        }
        Err("range is full".into())
    }

    fn claim_ports(
        &self,
        value: &mut Value,
        old: Option<&Value>,
        claim: &mut Claim<'_>,
        causes: &mut Vec<StatusCause>,
    ) {
        let kind = json::text(value, "spec.type").to_owned();
        let wants = kind == "NodePort"
            || (kind == "LoadBalancer"
                && json::get(value, "spec.allocateLoadBalancerNodePorts") != Some(&Value::Bool(false)));
        let held: HashSet<u16> = old.map(|o| ports_of(o).collect()).unwrap_or_default();
        let ports = value.get_mut("spec").and_then(|s| s.get_mut("ports"));
        let mut none = Vec::new();
        let ports = ports.and_then(Value::as_array_mut).unwrap_or(&mut none);
        self.claim_stated(ports, &held, claim, causes);
        if wants && causes.is_empty() {
            self.claim_missing(ports, claim, causes);
        }
        if kind == "LoadBalancer"
            && json::text(value, "spec.externalTrafficPolicy") == "Local"
            && json::int(value, "spec.healthCheckNodePort").unwrap_or(0) == 0
            && let Some(free) = self.any_port()
        {
            claim.ports.push(free);
            json::set(value, "spec.healthCheckNodePort", free);
        }
    }

    fn claim_stated(&self, ports: &[Value], held: &HashSet<u16>, claim: &mut Claim<'_>, causes: &mut Vec<StatusCause>) {
        let mut own: HashSet<(u16, &str)> = HashSet::new();
        for (i, port) in ports.iter().enumerate() {
            let stated = json::int(port, "nodePort").unwrap_or(0);
            if stated == 0 {
                continue;
            }
            let (number, protocol) = (u16::try_from(stated).unwrap_or(0), json::text(port, "protocol"));
            // One number may serve TCP and UDP of the same service.
            let again = own.iter().any(|(n, p)| *n == number && *p != protocol);
            if !again && !held.contains(&number) {
                match self.this_port(number) {
                    Ok(()) => {
                        self.ports_given[1].inc();
                        claim.ports.push(number);
                    }
                    Err(why) => causes.push(StatusCause::invalid(&format!("spec.ports[{i}].nodePort"), stated, why)),
                }
            }
            own.insert((number, protocol));
        }
    }

    fn claim_missing(&self, ports: &mut [Value], claim: &mut Claim<'_>, causes: &mut Vec<StatusCause>) {
        for (i, port) in ports.iter_mut().enumerate() {
            if json::int(port, "nodePort").unwrap_or(0) != 0 {
                continue;
            }
            match self.any_port() {
                Some(free) => {
                    self.ports_given[0].inc();
                    claim.ports.push(free);
                    json::set(port, "nodePort", free);
                }
                None => {
                    let why = "failed to allocate a nodePort: range is full";
                    causes.push(StatusCause::invalid(&format!("spec.ports[{i}].nodePort"), 0, why));
                }
            }
        }
    }

    fn this_port(&self, port: u16) -> Result<(), String> {
        if !self.ports.contains(&port) {
            let (low, high) = (self.ports.start(), self.ports.end());
            return Err(format!(
                "provided port is not in the valid range. The range of valid ports is {low}-{high}"
            ));
        }
        if self.lock().ports.claim(port) {
            Ok(())
        } else {
            Err("provided port is already allocated".into())
        }
    }

    fn any_port(&self) -> Option<u16> {
        let (low, high) = (u32::from(*self.ports.start()), u32::from(*self.ports.end()));
        let width = high.checked_sub(low)? + 1;
        let start = random_number() % width;
        let mut taken = self.lock();
        let port = (0..width)
            .filter_map(|i| u16::try_from(low + (start + i) % width).ok())
            .find(|p| taken.ports.is_free(*p))?;
        taken.ports.claimed.insert(port);
        Some(port)
    }
}

/// Prints as Go prints a list of one text.
struct GoList<'a>(&'a str);

impl std::fmt::Debug for GoList<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{:?}]", self.0)
    }
}

#[expect(clippy::cast_precision_loss, reason = "the text knows floats only")]
fn show(
    kind: &str,
    labels: &[(&str, &str)],
    names: [&str; 2],
    (taken, all): (usize, usize),
    given: &[Counter; 2],
    page: &mut Page,
) {
    let prefix = format!("kube_apiserver_{kind}_allocator");
    for (name, count) in names.into_iter().zip([taken, all.saturating_sub(taken)]) {
        let name = format!("{prefix}_{name}");
        page.section(&name, Kind::Gauge, "What services hold, and what is left.")
            .sample(labels, count as f64);
    }
    let name = format!("{prefix}_allocation_total");
    let mut section = page.section(
        &name,
        Kind::Counter,
        "What services were given, asked for by number or not.",
    );
    for (scope, count) in ["dynamic", "static"].into_iter().zip(given) {
        let labels: Vec<_> = labels.iter().copied().chain([("scope", scope)]).collect();
        if count.get() > 0 {
            section.sample(&labels, count.get() as f64);
        }
    }
}

fn random_number() -> u32 {
    u32::from_str_radix(&Uid::random().as_str()[..8], 16).unwrap_or(0)
}

fn addresses_of(value: &Value) -> impl Iterator<Item = u32> {
    let address = json::text(value, "spec.clusterIP").parse::<Ipv4Addr>();
    address.ok().map(u32::from).into_iter()
}

fn ports_of(value: &Value) -> impl Iterator<Item = u16> {
    let ports = json::list(value, "spec.ports")
        .iter()
        .filter_map(|p| json::int(p, "nodePort"));
    ports
        .chain(json::int(value, "spec.healthCheckNodePort"))
        .filter_map(|n| u16::try_from(n).ok())
        .filter(|n| *n > 0)
}

/// There are IPv4 ranges only.
fn only_one_family(value: &Value, causes: &mut Vec<StatusCause>) {
    let policy = json::text(value, "spec.ipFamilyPolicy");
    if policy == "RequireDualStack" {
        let why = "this cluster is not configured for dual-stack services";
        causes.push(StatusCause::invalid("spec.ipFamilyPolicy", policy, why));
    }
    for (at, family) in json::list(value, "spec.ipFamilies").iter().enumerate() {
        let family = family.as_str().unwrap_or("");
        if family != "IPv4" {
            let field = format!("spec.ipFamilies[{at}]");
            causes.push(StatusCause::invalid(&field, family, "not configured on this cluster"));
        }
    }
}

/// What an update leaves out stays as it was, unless the type no longer has it.
fn carry_over(value: &mut Value, old: &Value) {
    let has_address = |v: &Value| json::text(v, "spec.type") != "ExternalName";
    let has_ports = |v: &Value| matches!(json::text(v, "spec.type"), "NodePort" | "LoadBalancer");
    if has_address(value) && has_address(old) {
        if json::text(value, "spec.clusterIP").is_empty() && json::list(value, "spec.clusterIPs").is_empty() {
            json::copy(old, value, "spec.clusterIP");
            json::copy(old, value, "spec.clusterIPs");
        }
        for field in ["spec.ipFamilies", "spec.ipFamilyPolicy"] {
            if json::get(value, field).is_none() {
                json::copy(old, value, field);
            }
        }
    }
    let old_ports = json::list(old, "spec.ports").to_vec();
    let (wants, had) = (has_ports(value), has_ports(old));
    let Some(ports) = value
        .get_mut("spec")
        .and_then(|s| s.get_mut("ports"))
        .and_then(Value::as_array_mut)
    else {
        return;
    };
    for port in ports {
        let same = |o: &&Value| o.get("port") == port.get("port") && o.get("protocol") == port.get("protocol");
        let before = old_ports
            .iter()
            .find(same)
            .and_then(|o| json::int(o, "nodePort"))
            .unwrap_or(0);
        let stated = json::int(port, "nodePort").unwrap_or(0);
        if wants && had && stated == 0 && before != 0 {
            json::set(port, "nodePort", before);
        } else if !wants && had && stated == before {
            json::remove(port, "nodePort");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cache::Cache, registry::Registry};

    fn services() -> std::sync::Arc<Row> {
        Registry::builtin(&Cache::new(), Vec::new())
            .get("", "v1", "services")
            .expect("served")
    }

    fn service(spec: Value) -> Value {
        json!({"metadata": {"name": "s", "namespace": "n"}, "spec": spec})
    }

    #[test]
    fn addresses_and_ports_are_unique_until_given_back() {
        let row = services();
        let allocator = ServiceAllocator::new("10.96.0.0/29", 30000..=30001).expect("valid");
        let (mut kept, mut claims) = (HashSet::new(), Vec::new());
        for _ in 0..6 {
            let mut value = service(json!({"type": "ClusterIP", "ports": [{"port": 80}]}));
            claims.push(allocator.claim(&row, &mut value, None).expect("free"));
            kept.insert(json::text(&value, "spec.clusterIP").to_owned());
        }
        assert_eq!(kept.len(), 6);
        let full = allocator.claim(&row, &mut service(json!({"type": "ClusterIP"})), None);
        assert_eq!(full.err().map(|s| s.code), Some(422));

        let allocator = ServiceAllocator::new("10.96.0.0/24", 30000..=30001).expect("valid");
        let mut value = service(
            json!({"type": "NodePort", "clusterIP": "10.96.0.9", "ports": [{"port": 80}, {"port": 81, "nodePort": 30001}]}),
        );
        drop(allocator.claim(&row, &mut value, None).expect("free"));
        let _held = allocator.claim(&row, &mut value, None).expect("given back");
        let taken = allocator.claim(&row, &mut value.clone(), None).err().expect("taken");
        assert!(
            taken
                .message
                .contains("failed to allocate IP 10.96.0.9: provided IP is already allocated"),
            "{}",
            taken.message
        );
    }

    #[test]
    fn an_update_keeps_what_it_does_not_mention() {
        let row = services();
        let allocator = ServiceAllocator::new("10.96.0.0/24", 30000..=30100).expect("valid");
        let mut old = service(json!({"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"}]}));
        let _old = allocator.claim(&row, &mut old, None).expect("free");
        let mut new = service(json!({"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"}]}));
        drop(allocator.claim(&row, &mut new, Some(&old)).expect("free"));
        assert_eq!(new, old);
        let mut plain = old.clone();
        json::set(&mut plain, "spec.type", "ClusterIP");
        drop(allocator.claim(&row, &mut plain, Some(&old)).expect("free"));
        assert_eq!(ports_of(&plain).count(), 0);
    }
}
