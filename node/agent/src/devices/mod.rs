//! Device plugins (v1beta1): who offers devices, which there are, and which containers have them.
//!
//! `registration.rs` answers plugins that say they are there, `plugin.rs` speaks with one, `messages.rs` has the
//! protocol. What this file holds is decided without waiting; who asks for devices is `managers`.

pub mod messages;
mod plugin;
mod registration;

pub use plugin::Plugin;
pub use registration::{listen, serve};

use crate::state::NodeState;
use messages::Device;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
};
use tokio::sync::watch;

/// Resources that plugins may offer at one time.
const MAX_RESOURCES: usize = 256;
/// Devices of one resource.
const MAX_DEVICES: usize = 10_000;

/// The devices of a node.
pub struct Devices {
    /// Where plugins find this node, and it finds them.
    folder: PathBuf,
    state: watch::Sender<NodeState>,
    offers: Mutex<BTreeMap<String, Offer>>,
}

/// What is offered under one name.
#[derive(Default)]
struct Offer {
    plugin: Option<Arc<Plugin>>,
    devices: BTreeMap<String, Known>,
}

/// A device.
#[derive(Clone, Debug, PartialEq)]
struct Known {
    healthy: bool,
    nodes: Vec<i64>,
}

impl Devices {
    /// Tells `state` what there is; `expected` are resources that plugins offered to an earlier process.
    pub fn new(folder: PathBuf, state: watch::Sender<NodeState>, expected: impl IntoIterator<Item = String>) -> Self {
        let devices = Self {
            folder,
            state,
            offers: Mutex::new(expected.into_iter().map(|name| (name, Offer::default())).collect()),
        };
        devices.tell();
        devices
    }

    fn offers(&self) -> MutexGuard<'_, BTreeMap<String, Offer>> {
        self.offers.lock().expect("no holder of this lock panics")
    }

    /// Whether devices of a resource are given by plugins.
    pub fn knows(&self, resource: &str) -> bool {
        self.offers().contains_key(resource)
    }

    /// The resources that plugins offer or have offered.
    pub fn resources(&self) -> Vec<String> {
        self.offers().keys().cloned().collect()
    }

    /// The healthy devices of a resource.
    pub fn healthy(&self, resource: &str) -> BTreeSet<String> {
        let offers = self.offers();
        let devices = offers.get(resource).into_iter().flat_map(|offer| &offer.devices);
        devices
            .filter(|(_, known)| known.healthy)
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// The memory nodes that devices are near to.
    pub fn nodes<'i>(&self, resource: &str, ids: impl IntoIterator<Item = &'i String>) -> BTreeSet<i64> {
        let offers = self.offers();
        let Some(offer) = offers.get(resource) else {
            return BTreeSet::new();
        };
        let known = ids.into_iter().filter_map(|id| offer.devices.get(id));
        known.flat_map(|known| known.nodes.iter().copied()).collect()
    }

    /// The plugin of a resource, while there is one.
    pub fn plugin(&self, resource: &str) -> Option<Arc<Plugin>> {
        self.offers().get(resource)?.plugin.clone()
    }

    /// A plugin is there; it takes the place of one before it.
    fn begin(&self, plugin: &Arc<Plugin>) -> Result<(), String> {
        let mut offers = self.offers();
        if offers.len() >= MAX_RESOURCES && !offers.contains_key(&plugin.resource) {
            return Err(format!("more than {MAX_RESOURCES} resources"));
        }
        offers.entry(plugin.resource.clone()).or_default().plugin = Some(plugin.clone());
        Ok(())
    }

    /// A plugin has said which devices there are.
    fn replace(&self, plugin: &Arc<Plugin>, devices: Vec<Device>) {
        self.change(plugin, |offer| {
            let known = |device: Device| {
                let nodes = device.topology.map(|t| t.nodes.iter().map(|n| n.id).collect());
                let healthy = device.health == "Healthy";
                (
                    device.id,
                    Known {
                        healthy,
                        nodes: nodes.unwrap_or_default(),
                    },
                )
            };
            offer.devices = devices.into_iter().take(MAX_DEVICES).map(known).collect();
        });
    }

    /// A plugin has gone: what it offered is there and of no use.
    fn end(&self, plugin: &Arc<Plugin>) {
        self.change(plugin, |offer| {
            offer.plugin = None;
            offer.devices.values_mut().for_each(|known| known.healthy = false);
        });
    }

    fn change(&self, plugin: &Arc<Plugin>, change: impl FnOnce(&mut Offer)) {
        {
            let mut offers = self.offers();
            let Some(offer) = offers.get_mut(&plugin.resource) else {
                return;
            };
            // One that has been replaced has no say.
            if !offer
                .plugin
                .as_ref()
                .is_some_and(|present| Arc::ptr_eq(present, plugin))
            {
                return;
            }
            change(offer);
        }
        self.tell();
    }

    fn tell(&self) {
        let count = |(name, offer): (&String, &Offer)| {
            let healthy = offer.devices.values().filter(|known| known.healthy).count();
            (name.clone(), (offer.devices.len(), healthy))
        };
        let counts: BTreeMap<_, _> = self.offers().iter().map(count).collect();
        self.state.send_if_modified(|state| {
            let changed = state.devices != counts;
            state.devices = counts;
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(id: &str, health: &str) -> Device {
        Device {
            id: id.into(),
            health: health.into(),
            topology: None,
        }
    }

    #[test]
    fn devices_come_and_go_with_their_plugin() {
        let (state, seen) = watch::channel(NodeState::default());
        let devices = Devices::new("/nonexistent".into(), state, ["example.com/old".to_owned()]);
        let count = |name: &str| seen.borrow().devices.get(name).copied();
        assert_eq!(
            count("example.com/old"),
            Some((0, 0)),
            "nothing of it can be had before its plugin is back"
        );
        let first = Arc::new(Plugin::new(
            "example.com/d".into(),
            "/nonexistent/a".as_ref(),
            Default::default(),
        ));
        let second = Arc::new(Plugin::new(
            "example.com/d".into(),
            "/nonexistent/b".as_ref(),
            Default::default(),
        ));
        devices.begin(&first).expect("room");
        devices.replace(&first, vec![device("a", "Healthy"), device("b", "Unhealthy")]);
        assert_eq!(count("example.com/d"), Some((2, 1)));
        devices.begin(&second).expect("room");
        devices.end(&first);
        assert_eq!(count("example.com/d"), Some((2, 1)), "the new one is there already");
        devices.end(&second);
        assert_eq!(count("example.com/d"), Some((2, 0)));
    }
}
