//! Gives each node a part of the cluster's pod addresses.

use super::CONTROLLER;
use crate::{Error, context::Context, error::During};
use serde_json::json;
use std::{
    collections::HashSet,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::Duration,
};
use strata_client::{Client, EventRecorder, EventType, ObjectReference, Patch, resources::NODES};
use strata_meta::ObjectKey;

/// One, so that no range is given twice.
const WORKERS: usize = 1;

pub(super) fn start(context: &Arc<Context>) -> Result<(), Error> {
    if context.options.cluster_cidr.is_empty() {
        return Ok(());
    }
    let pool = Pool::new(&context.options.cluster_cidr, context.options.node_cidr_mask)?;
    let allocator = Arc::new(Allocator {
        pool: Mutex::new(pool),
        client: context.client(CONTROLLER),
        events: context.events(CONTROLLER),
        context: context.clone(),
    });
    let queue = context.queue("node_ipam");
    let to = queue.clone();
    context.nodes.on_change(move |change| {
        if change
            .new
            .as_ref()
            .is_some_and(|node| node.view.spec.pod_cidr.is_empty())
        {
            to.add(change.key.clone());
        }
    });
    let nodes = context.nodes.clone();
    let ready = async move { nodes.synced().await };
    context.run(&queue, WORKERS, ready, move |key| allocator.clone().reconcile(key));
    Ok(())
}

struct Allocator {
    pool: Mutex<Pool>,
    client: Client,
    events: EventRecorder,
    context: Arc<Context>,
}

impl Allocator {
    async fn reconcile(self: Arc<Self>, key: ObjectKey) -> Result<Option<Duration>, Error> {
        let without = |node: &Arc<crate::views::Node>| node.view.spec.pod_cidr.is_empty() && !node.deleting;
        let Some(node) = self.context.nodes.get(&key).filter(without) else {
            return Ok(None);
        };
        let used: Vec<String> = self
            .context
            .nodes
            .list()
            .iter()
            .flat_map(|(_, n)| n.view.spec.pod_cidrs.clone())
            .collect();
        let range = self.pool.lock().expect("no holder panics").next(&used);
        let Some(range) = range else {
            let message = format!("no pod address range of {} is free", self.context.options.cluster_cidr);
            self.events.event(
                &ObjectReference::of(&node),
                EventType::Normal,
                "CIDRNotAvailable",
                &message,
            );
            return Err(Error::Incomplete(format!("node {key}: {message}")));
        };
        // The version makes sure that the node has still none; the cache may be behind.
        let body = json!({
            "metadata": {"resourceVersion": node.revision.to_string()},
            "spec": {"podCIDR": range, "podCIDRs": [range]},
        });
        match self.client.patch(NODES, "", &key.name, None, Patch::Merge(body)).await {
            Ok(_) => Ok(None),
            Err(error) => {
                self.pool.lock().expect("no holder panics").take_back(&range);
                match error.is_not_found() {
                    true => Ok(None),
                    false => Err(error).during(|| format!("giving node {key} its range {range}")),
                }
            }
        }
    }
}

/// The ranges of one cluster, given out in turn, so that one that was given back rests.
struct Pool {
    base: u32,
    mask: u8,
    count: u64,
    cursor: u64,
    /// Given out, though the cache may not show it yet.
    given: HashSet<String>,
}

impl Pool {
    fn new(cluster_cidr: &str, mask: u8) -> Result<Self, Error> {
        let invalid = || Error::Options(format!("{cluster_cidr:?} cannot be divided into ranges of /{mask}"));
        let (address, prefix) = cluster_cidr.split_once('/').ok_or_else(invalid)?;
        let address: Ipv4Addr = address.parse().map_err(|_| invalid())?;
        let prefix: u8 = prefix.parse().map_err(|_| invalid())?;
        if prefix > mask || mask > 30 {
            return Err(invalid());
        }
        let host_bits = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
        Ok(Self {
            base: u32::from(address) & !host_bits,
            mask,
            count: 1 << (mask - prefix),
            cursor: 0,
            given: HashSet::new(),
        })
    }

    /// A range that none of `used` is, the next in turn.
    fn next(&mut self, used: &[String]) -> Option<String> {
        let used: HashSet<&str> = used.iter().map(String::as_str).collect();
        // What the cache shows by now, or was taken back, need not be remembered.
        if self.given.len() as u64 >= self.count {
            self.given.clear();
        }
        for step in 0..self.count {
            let index = (self.cursor + step) % self.count;
            let range = self.range(index);
            if !used.contains(range.as_str()) && !self.given.contains(&range) {
                self.cursor = (index + 1) % self.count;
                self.given.insert(range.clone());
                return Some(range);
            }
        }
        // All were given once: those that are not used any more may be given again.
        let free = (0..self.count)
            .map(|index| self.range(index))
            .find(|range| !used.contains(range.as_str()))?;
        self.given.clear();
        self.given.insert(free.clone());
        Some(free)
    }

    /// The range that was given last was not taken.
    fn take_back(&mut self, range: &str) {
        if self.given.remove(range) {
            self.cursor = (self.cursor + self.count - 1) % self.count;
        }
    }

    fn range(&self, index: u64) -> String {
        let offset = u32::try_from(index << (32 - self.mask)).expect("the index is below the count of ranges");
        format!("{}/{}", Ipv4Addr::from(self.base | offset), self.mask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_given_in_turn_and_again_when_free() {
        let mut pool = Pool::new("10.42.7.0/16", 18).unwrap();
        let all: Vec<_> = (0..4).map(|_| pool.next(&[]).unwrap()).collect();
        assert_eq!(
            all,
            ["10.42.0.0/18", "10.42.64.0/18", "10.42.128.0/18", "10.42.192.0/18"]
        );
        let used = [all[0].clone(), all[1].clone(), all[3].clone()];
        assert_eq!(pool.next(&used).as_deref(), Some("10.42.128.0/18"));
        assert_eq!(pool.next(&all), None);
    }

    #[test]
    fn ranges_in_use_are_passed_over() {
        let mut pool = Pool::new("10.42.0.0/16", 24).unwrap();
        let used: Vec<String> = ["10.42.0.0/24", "10.42.1.0/24"].map(str::to_owned).into();
        assert_eq!(pool.next(&used).as_deref(), Some("10.42.2.0/24"));
        pool.take_back("10.42.2.0/24");
        assert_eq!(pool.next(&used).as_deref(), Some("10.42.2.0/24"));
    }

    #[test]
    fn senseless_divisions_are_refused() {
        for (cidr, mask) in [("10.42.0.0/24", 16), ("10.42.0.0", 24), ("x/8", 24), ("10.0.0.0/8", 31)] {
            assert!(Pool::new(cidr, mask).is_err(), "{cidr} {mask}");
        }
    }
}
