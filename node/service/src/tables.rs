//! What the kernel's maps hold, and the transaction that brings them from one set of plans to the next.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

use strata_meta::ObjectKey;
use strata_net::Cidr;
use strata_net::netlink::conntrack::Connection;
use strata_net::nft::{Batch, Element, ElementData, Family, NftSocket, Verdict};

use crate::Error;
use crate::plan::{Frontend, PoolKey, Protocol, ServicePlan, Treatment};
use crate::rules::{self, Class, TablesOptions};

/// Classes kept although nothing uses them: endpoint counts go up and down between few values.
const IDLE_CLASSES: usize = 64;

/// The state of the kernel's tables, as of the last transaction.
///
/// [`Tables::change`] assumes that its transaction is applied; when the kernel refused it, start
/// again with [`Tables::reset`].
#[derive(Debug)]
pub struct Tables {
    options: TablesOptions,
    plans: BTreeMap<ObjectKey, ServicePlan>,
    /// Which services want a frontend; the first by name has it.
    claims: HashMap<Frontend, BTreeSet<ObjectKey>>,
    frontends: HashMap<Frontend, Installed>,
    pools: HashMap<(ObjectKey, PoolKey), Pool>,
    classes: HashMap<Class, ClassState>,
    hairpin: HashMap<Ipv4Addr, usize>,
    next_pool: u32,
    next_class: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Balance { class: Class, pool: u32, inside: u32 },
    Refuse,
    Drop,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Installed {
    target: Target,
    sources: Vec<Cidr>,
}

#[derive(Debug)]
struct Pool {
    id: u32,
    endpoints: Vec<SocketAddrV4>,
}

#[derive(Debug)]
struct ClassState {
    id: u32,
    users: usize,
}

/// A transaction that is to be applied.
#[derive(Debug)]
pub struct Update {
    batch: Batch,
    applied: Applied,
}

/// What is to be looked after once a transaction was applied.
#[derive(Debug, Default)]
pub struct Applied {
    /// UDP frontends whose endpoints changed, with the present endpoints: tracked flows to others must be forgotten.
    udp: HashMap<Frontend, HashSet<SocketAddrV4>>,
    /// Pools with affinity that lost endpoints, with the present ones.
    affinity: HashMap<u32, HashSet<SocketAddrV4>>,
}

/// Elements to remove and to add, per set.
#[derive(Debug, Default)]
struct Elements {
    remove: BTreeMap<&'static str, Vec<Element>>,
    add: BTreeMap<&'static str, Vec<Element>>,
}

impl Tables {
    /// Tables without services, and the transaction that makes them; `replace` says that the table
    /// exists and is to be removed first (which makes the kernel wait for every CPU).
    pub fn new(options: TablesOptions, replace: bool) -> Result<(Self, Batch), Error> {
        let mut batch = Batch::new(Family::Ipv4, &options.table);
        rules::install(&mut batch, &options, replace)?;
        let tables = Self {
            options,
            plans: BTreeMap::new(),
            claims: HashMap::new(),
            frontends: HashMap::new(),
            pools: HashMap::new(),
            classes: HashMap::new(),
            hairpin: HashMap::new(),
            // 0 stands for "no pool".
            next_pool: 1,
            next_class: 1,
        };
        Ok((tables, batch))
    }

    /// Forgets every plan and what the kernel holds; returns the transaction that makes empty tables.
    pub fn reset(&mut self, replace: bool) -> Result<Batch, Error> {
        let (fresh, batch) = Self::new(self.options.clone(), replace)?;
        *self = fresh;
        Ok(batch)
    }

    /// An empty transaction on the tables.
    pub fn batch(&self) -> Batch {
        Batch::new(Family::Ipv4, &self.options.table)
    }

    /// The nftables table.
    pub fn table(&self) -> &str {
        &self.options.table
    }

    /// The plan that a service has now.
    pub fn current(&self, service: &ObjectKey) -> Option<&ServicePlan> {
        self.plans.get(service)
    }

    /// Replaces the plans of some services (an empty plan removes one).
    ///
    /// The changes are added to `batch`: a fresh one of [`Tables::batch`], or the one that makes the tables.
    pub fn change(&mut self, changes: Vec<(ObjectKey, ServicePlan)>, mut batch: Batch) -> Result<Update, Error> {
        let mut applied = Applied::default();
        let mut elements = Elements::default();
        let mut touched = BTreeSet::new();
        let mut hairpin = BTreeSet::new();
        for (service, plan) in changes {
            let old = self.plans.remove(&service).unwrap_or_default();
            self.change_pools(&service, &old, &plan, &mut elements, &mut applied);
            for frontend in old.frontends.keys().chain(plan.frontends.keys()) {
                touched.insert(*frontend);
                let claims = self.claims.entry(*frontend).or_default();
                if plan.frontends.contains_key(frontend) {
                    claims.insert(service.clone());
                } else {
                    claims.remove(&service);
                }
            }
            self.count_hairpin(&old, &plan, &mut hairpin);
            if plan != ServicePlan::default() {
                self.plans.insert(service, plan);
            }
        }
        self.change_hairpin(hairpin, &mut elements);
        for frontend in touched {
            self.change_frontend(frontend, &mut elements, &mut batch)?;
        }
        self.drop_idle_classes(&mut elements);
        elements.write(&mut batch);
        self.finish_idle_classes(&mut batch);
        Ok(Update { batch, applied })
    }

    fn change_pools(
        &mut self,
        service: &ObjectKey,
        old: &ServicePlan,
        new: &ServicePlan,
        elements: &mut Elements,
        applied: &mut Applied,
    ) {
        let keys: BTreeSet<&PoolKey> = old.pools.keys().chain(new.pools.keys()).collect();
        for key in keys {
            let wanted = new.pools.get(key).map_or(&[][..], Vec::as_slice);
            let next = self.next_pool;
            let pool = self
                .pools
                .entry((service.clone(), key.clone()))
                .or_insert_with(|| Pool {
                    id: next,
                    endpoints: Vec::new(),
                });
            if pool.id == next {
                self.next_pool += 1;
            }
            let arranged = arrange(&pool.endpoints, wanted);
            pool.write_difference(&arranged, elements);
            if pool.endpoints.iter().any(|endpoint| !arranged.contains(endpoint)) {
                applied.affinity.insert(pool.id, arranged.iter().copied().collect());
            }
            pool.endpoints = arranged;
            if !new.pools.contains_key(key) {
                self.pools.remove(&(service.clone(), key.clone()));
            }
        }
        let moved = old.pools != new.pools;
        for (frontend, state) in new
            .frontends
            .iter()
            .filter(|(frontend, _)| frontend.protocol == Protocol::Udp)
        {
            if moved || old.frontends.get(frontend) != Some(state) {
                applied.udp.insert(*frontend, new.endpoints_of(&state.0));
            }
        }
        let gone = |frontend: &&Frontend| frontend.protocol == Protocol::Udp && !new.frontends.contains_key(frontend);
        for frontend in old.frontends.keys().filter(gone) {
            applied.udp.entry(*frontend).or_default();
        }
    }

    fn count_hairpin(&mut self, old: &ServicePlan, new: &ServicePlan, touched: &mut BTreeSet<Ipv4Addr>) {
        for address in new.hairpin.difference(&old.hairpin) {
            let count = self.hairpin.entry(*address).or_insert(0);
            *count += 1;
            if *count == 1 && !touched.remove(address) {
                touched.insert(*address);
            }
        }
        for address in old.hairpin.difference(&new.hairpin) {
            let count = self.hairpin.entry(*address).or_insert(1);
            *count -= 1;
            if *count == 0 && !touched.remove(address) {
                touched.insert(*address);
            }
        }
    }

    /// `touched` are the addresses that crossed between used and unused.
    fn change_hairpin(&mut self, touched: BTreeSet<Ipv4Addr>, elements: &mut Elements) {
        for address in touched {
            let element = Element::key([address.octets(), address.octets()].concat());
            if self.hairpin.get(&address) == Some(&0) {
                elements.remove(rules::HAIRPIN, element);
            } else {
                elements.add(rules::HAIRPIN, element);
            }
        }
        self.hairpin.retain(|_, count| *count > 0);
    }

    fn change_frontend(&mut self, frontend: Frontend, elements: &mut Elements, batch: &mut Batch) -> Result<(), Error> {
        let wanted = self.wanted(&frontend);
        let installed = self.frontends.remove(&frontend);
        if self.claims.get(&frontend).is_some_and(BTreeSet::is_empty) {
            self.claims.remove(&frontend);
        }
        if wanted == installed {
            self.frontends.extend(installed.map(|installed| (frontend, installed)));
            return Ok(());
        }
        if let Some(Installed {
            target: Target::Balance { class, .. },
            ..
        }) = &wanted
        {
            self.use_class(*class, elements, batch)?;
        }
        for (state, add) in [(&installed, false), (&wanted, true)] {
            if let Some(state) = state {
                self.write_frontend(&frontend, state, add, elements);
            }
        }
        if let Some(Installed {
            target: Target::Balance { class, .. },
            ..
        }) = &installed
            && let Some(state) = self.classes.get_mut(class)
        {
            state.users -= 1;
        }
        self.frontends.extend(wanted.map(|wanted| (frontend, wanted)));
        Ok(())
    }

    /// What the frontend's first claimant wants of it.
    fn wanted(&self, frontend: &Frontend) -> Option<Installed> {
        let service = self.claims.get(frontend)?.first()?;
        let (treatment, sources) = self.plans.get(service)?.frontends.get(frontend)?;
        let target = match treatment {
            Treatment::Refuse => Target::Refuse,
            Treatment::Drop => Target::Drop,
            Treatment::Balance(balance) => {
                let pool = |key: &PoolKey| self.pools.get(&(service.clone(), key.clone()));
                let (main, inside) = (pool(&balance.pool)?, balance.inside.as_ref().and_then(pool));
                let class = Class {
                    node_port: frontend.address.is_none(),
                    masquerade: balance.masquerade,
                    size: main.endpoints.len() as u32,
                    inside: inside.map(|pool| pool.endpoints.len() as u32),
                    affinity: balance.affinity,
                };
                Target::Balance {
                    class,
                    pool: main.id,
                    inside: inside.map_or(0, |pool| pool.id),
                }
            }
        };
        Some(Installed {
            target,
            sources: sources.clone(),
        })
    }

    fn use_class(&mut self, class: Class, elements: &mut Elements, batch: &mut Batch) -> Result<(), Error> {
        if let Some(state) = self.classes.get_mut(&class) {
            state.users += 1;
            return Ok(());
        }
        let id = self.next_class;
        self.next_class += 1;
        let chain = class.chain();
        batch.add_chain(&chain, None);
        for rule in class.rules(self.options.cluster_cidr)? {
            rules::add_rule(batch, &chain, &rule);
        }
        elements.add(rules::CLASSES, Element::verdict(id.to_ne_bytes(), Verdict::Goto(chain)));
        self.classes.insert(class, ClassState { id, users: 1 });
        Ok(())
    }

    fn write_frontend(&self, frontend: &Frontend, state: &Installed, add: bool, elements: &mut Elements) {
        let key = frontend_key(frontend);
        let mut put = |set, element| {
            if add {
                elements.add(set, element)
            } else {
                elements.remove(set, element)
            }
        };
        match &state.target {
            Target::Balance { class, pool, inside } => {
                let id = self.classes.get(class).map_or(0, |state| state.id);
                let value = [class.size, id, *pool, *inside].map(u32::to_ne_bytes).concat();
                put(rules::FRONTENDS, Element::value(key, value));
                // Clients outside find no endpoint on this node.
                if class.size == 0 {
                    put(rules::DROPPED, Element::key(key));
                }
            }
            Target::Refuse => put(rules::REFUSED, Element::key(key)),
            Target::Drop => put(rules::DROPPED, Element::key(key)),
        }
        if !state.sources.is_empty() {
            put(rules::RESTRICTED, Element::key(key));
        }
        for range in &state.sources {
            if let Some((first, last)) = bounds(range) {
                let start = [&key[..], &first.octets()].concat();
                let end = [&key[..], &last.octets()].concat();
                put(
                    rules::SOURCES,
                    Element {
                        key_end: Some(end),
                        ..Element::key(start)
                    },
                );
            }
        }
    }

    /// Removes classes that nothing uses from the map when there are too many; their chains follow
    /// in `finish_idle_classes`, after the elements that led to them.
    fn drop_idle_classes(&self, elements: &mut Elements) {
        if self.idle_classes() > IDLE_CLASSES {
            for (class, state) in self.classes.iter().filter(|(_, state)| state.users == 0) {
                let verdict = Verdict::Goto(class.chain());
                elements.remove(rules::CLASSES, Element::verdict(state.id.to_ne_bytes(), verdict));
            }
        }
    }

    fn finish_idle_classes(&mut self, batch: &mut Batch) {
        if self.idle_classes() > IDLE_CLASSES {
            self.classes.retain(|class, state| {
                if state.users == 0 {
                    batch.flush_chain(&class.chain()).delete_chain(&class.chain());
                }
                state.users > 0
            });
        }
    }

    fn idle_classes(&self) -> usize {
        self.classes.values().filter(|state| state.users == 0).count()
    }
}

impl ServicePlan {
    fn endpoints_of(&self, treatment: &Treatment) -> HashSet<SocketAddrV4> {
        let Treatment::Balance(balance) = treatment else {
            return HashSet::new();
        };
        let pools = [Some(&balance.pool), balance.inside.as_ref()];
        pools
            .into_iter()
            .flatten()
            .filter_map(|key| self.pools.get(key))
            .flatten()
            .copied()
            .collect()
    }
}

impl Update {
    /// Applies the transaction. Errors: the kernel refused it, and the tables are in doubt.
    pub fn commit(self, socket: &mut NftSocket) -> Result<Applied, Error> {
        socket.apply(self.batch)?;
        Ok(self.applied)
    }

    /// Bytes of the transaction: the measure of what a change costs.
    pub fn encoded_length(&self) -> usize {
        self.batch.encoded_length()
    }
}

impl Applied {
    /// Whether a tracked connection goes to an endpoint that its service no longer has. UDP only:
    /// TCP connections end by themselves, datagrams would go to the old place for ever.
    pub fn outdated(&self, connection: &Connection, node_addresses: &[IpAddr]) -> bool {
        let (SocketAddr::V4(wanted), SocketAddr::V4(server)) = (connection.wanted, connection.server) else {
            return false;
        };
        let protocol = Protocol::Udp;
        let exact = Frontend {
            address: Some(*wanted.ip()),
            protocol,
            port: wanted.port(),
        };
        let node_port = Frontend { address: None, ..exact };
        let on_node = || node_addresses.contains(&connection.wanted.ip());
        let present = self
            .udp
            .get(&exact)
            .or_else(|| self.udp.get(&node_port).filter(|_| on_node()));
        connection.protocol == protocol as u8 && present.is_some_and(|present| !present.contains(&server))
    }

    /// Whether tracked connections need a look at all.
    pub fn touches_udp(&self) -> bool {
        !self.udp.is_empty()
    }

    /// Whether remembered clients need a look.
    pub fn touches_affinity(&self) -> bool {
        !self.affinity.is_empty()
    }

    /// Whether a remembered client (an element of the affinity map) points to an endpoint that is gone.
    pub fn forgotten(&self, element: &Element) -> bool {
        let ElementData::Value(value) = &element.data else {
            return false;
        };
        let (Some(pool), Some(address)) = (element.key.first_chunk::<4>(), value.first_chunk::<4>()) else {
            return false;
        };
        let port = value.get(4..6).map_or(0, |port| u16::from_be_bytes([port[0], port[1]]));
        let endpoint = SocketAddrV4::new(Ipv4Addr::from(*address), port);
        self.affinity
            .get(&u32::from_ne_bytes(*pool))
            .is_some_and(|present| !present.contains(&endpoint))
    }
}

impl Pool {
    /// Elements between the present arrangement and the next.
    fn write_difference(&self, next: &[SocketAddrV4], elements: &mut Elements) {
        for number in 0..self.endpoints.len().max(next.len()) {
            let (old, new) = (self.endpoints.get(number), next.get(number));
            if old != new {
                let key = [self.id.to_ne_bytes(), (number as u32).to_ne_bytes()].concat();
                old.iter().for_each(|endpoint| {
                    elements.remove(rules::ENDPOINTS, Element::value(key.clone(), endpoint_value(endpoint)));
                });
                new.iter().for_each(|endpoint| {
                    elements.add(rules::ENDPOINTS, Element::value(key.clone(), endpoint_value(endpoint)));
                });
            }
        }
    }
}

impl Elements {
    fn remove(&mut self, set: &'static str, element: Element) {
        self.remove.entry(set).or_default().push(element);
    }

    fn add(&mut self, set: &'static str, element: Element) {
        self.add.entry(set).or_default().push(element);
    }

    /// Removals first: a changed element is removed and added again in the same transaction.
    fn write(self, batch: &mut Batch) {
        for (set, elements) in &self.remove {
            batch.delete_elements(set, elements);
        }
        for (set, elements) in &self.add {
            batch.add_elements(set, elements);
        }
    }
}

/// The wanted endpoints in an order that changes few numbers: those that stay keep theirs, the last
/// ones fill the gaps, new ones come last.
fn arrange(present: &[SocketAddrV4], wanted: &[SocketAddrV4]) -> Vec<SocketAddrV4> {
    let wanted_set: HashSet<_> = wanted.iter().collect();
    let present_set: HashSet<_> = present.iter().collect();
    let mut arranged: Vec<Option<SocketAddrV4>> = present
        .iter()
        .map(|endpoint| wanted_set.contains(endpoint).then_some(*endpoint))
        .collect();
    let mut fresh = wanted
        .iter()
        .filter(|endpoint| !present_set.contains(endpoint))
        .copied();
    for slot in arranged.iter_mut().filter(|slot| slot.is_none()) {
        *slot = fresh.next();
    }
    let mut number = 0;
    while number < arranged.len() {
        if arranged[number].is_none() {
            arranged.swap_remove(number);
        } else {
            number += 1;
        }
    }
    arranged.into_iter().flatten().chain(fresh).collect()
}

fn frontend_key(frontend: &Frontend) -> [u8; 12] {
    let [a, b, c, d] = frontend.address.unwrap_or(Ipv4Addr::UNSPECIFIED).octets();
    let [high, low] = frontend.port.to_be_bytes();
    [a, b, c, d, frontend.protocol as u8, 0, 0, 0, high, low, 0, 0]
}

fn endpoint_value(endpoint: &SocketAddrV4) -> [u8; 8] {
    let [a, b, c, d] = endpoint.ip().octets();
    let [high, low] = endpoint.port().to_be_bytes();
    [a, b, c, d, high, low, 0, 0]
}

/// The first and the last address of an IPv4 range.
fn bounds(range: &Cidr) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let IpAddr::V4(first) = range.network() else {
        return None;
    };
    let rest = u32::MAX.checked_shr(u32::from(range.prefix())).unwrap_or(0);
    Some((first, Ipv4Addr::from_bits(first.to_bits() | rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(last: &[u8]) -> Vec<SocketAddrV4> {
        last.iter()
            .map(|last| SocketAddrV4::new([10, 0, 0, *last].into(), 80))
            .collect()
    }

    #[test]
    fn endpoints_that_stay_keep_their_numbers() {
        let cases: &[(&[u8], &[u8], &[u8])] = &[
            (&[], &[1, 2], &[1, 2]),
            (&[1, 2, 3], &[1, 3], &[1, 3]),
            (&[1, 2, 3], &[2, 3], &[3, 2]),
            (&[1, 2, 3], &[1, 3, 4], &[1, 4, 3]),
            (&[1, 2, 3, 4], &[4], &[4]),
            (&[1, 2], &[], &[]),
            (&[2], &[1, 2, 3], &[2, 1, 3]),
        ];
        for (present, wanted, expected) in cases {
            let arranged = arrange(&endpoints(present), &endpoints(wanted));
            assert_eq!(arranged, endpoints(expected), "{present:?} to {wanted:?}");
        }
    }
}
