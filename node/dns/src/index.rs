//! The objects by what is asked for: service name, address, namespace.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use strata_meta::ObjectKey;

use crate::objects::{DnsService, DnsSlice};

/// The objects that names are made of, kept current by single changes.
#[derive(Debug, Default)]
pub struct Index {
    services: HashMap<ObjectKey, Arc<DnsService>>,
    slices: HashMap<ObjectKey, BTreeMap<String, Arc<DnsSlice>>>,
    /// How many services each namespace has.
    namespaces: HashMap<String, usize>,
    /// Services by cluster address, and by the address of an endpoint.
    by_address: HashMap<IpAddr, BTreeSet<ObjectKey>>,
    by_endpoint: HashMap<IpAddr, BTreeMap<ObjectKey, usize>>,
}

impl Index {
    /// Replaces (or removes) a service.
    pub fn set_service(&mut self, key: &ObjectKey, service: Option<Arc<DnsService>>) {
        let old = match &service {
            Some(service) => self.services.insert(key.clone(), service.clone()),
            None => self.services.remove(key),
        };
        for address in old.iter().flat_map(|old| old.cluster_addresses()) {
            if let Some(owners) = self.by_address.get_mut(&address) {
                owners.remove(key);
                if owners.is_empty() {
                    self.by_address.remove(&address);
                }
            }
        }
        for address in service.iter().flat_map(|new| new.cluster_addresses()) {
            self.by_address.entry(address).or_default().insert(key.clone());
        }
        match (old.is_some(), service.is_some()) {
            (false, true) => *self.namespaces.entry(key.namespace.to_string()).or_default() += 1,
            (true, false) => {
                if let Some(count) = self.namespaces.get_mut(&*key.namespace) {
                    *count -= 1;
                    if *count == 0 {
                        self.namespaces.remove(&*key.namespace);
                    }
                }
            }
            _ => {}
        }
    }

    /// Replaces a slice; `old` is what was there under the same name.
    pub fn set_slice(&mut self, key: &ObjectKey, old: Option<&Arc<DnsSlice>>, new: Option<&Arc<DnsSlice>>) {
        let owner = |slice: &DnsSlice| slice.service_name().map(|name| ObjectKey::new(&key.namespace, name));
        if let Some((old, service)) = old.and_then(|old| Some((old, owner(old)?))) {
            if let Some(slices) = self.slices.get_mut(&service) {
                slices.remove(&*key.name);
                if slices.is_empty() {
                    self.slices.remove(&service);
                }
            }
            addresses(old).for_each(|address| self.forget_endpoint(address, &service));
        }
        if let Some((new, service)) = new.and_then(|new| Some((new, owner(new)?))) {
            for address in addresses(new) {
                *self
                    .by_endpoint
                    .entry(address)
                    .or_default()
                    .entry(service.clone())
                    .or_default() += 1;
            }
            self.slices
                .entry(service)
                .or_default()
                .insert(key.name.to_string(), new.clone());
        }
    }

    /// The service of that name.
    pub fn service(&self, key: &ObjectKey) -> Option<&Arc<DnsService>> {
        self.services.get(key)
    }

    /// A service's slices.
    pub fn slices(&self, key: &ObjectKey) -> impl Iterator<Item = &Arc<DnsSlice>> {
        self.slices.get(key).into_iter().flat_map(BTreeMap::values)
    }

    /// Whether some service is in the namespace.
    pub fn has_namespace(&self, namespace: &str) -> bool {
        self.namespaces.contains_key(namespace)
    }

    /// The services that have the cluster address.
    pub fn by_address(&self, address: IpAddr) -> impl Iterator<Item = &ObjectKey> {
        self.by_address.get(&address).into_iter().flatten()
    }

    /// The services that have an endpoint of that address.
    pub fn by_endpoint(&self, address: IpAddr) -> impl Iterator<Item = &ObjectKey> {
        self.by_endpoint.get(&address).into_iter().flat_map(BTreeMap::keys)
    }

    fn forget_endpoint(&mut self, address: IpAddr, service: &ObjectKey) {
        let Some(owners) = self.by_endpoint.get_mut(&address) else {
            return;
        };
        if let Some(count) = owners.get_mut(service) {
            *count -= 1;
            if *count == 0 {
                owners.remove(service);
            }
        }
        if owners.is_empty() {
            self.by_endpoint.remove(&address);
        }
    }
}

fn addresses(slice: &DnsSlice) -> impl Iterator<Item = IpAddr> {
    slice
        .endpoints
        .iter()
        .filter(|endpoint| endpoint.is_ready())
        .flat_map(|endpoint| endpoint.addresses())
}
