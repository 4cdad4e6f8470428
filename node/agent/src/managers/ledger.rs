//! Which containers have which devices and processors, also after a restart.

use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

/// What one container has for itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Grant {
    /// Devices by resource.
    pub devices: BTreeMap<String, Vec<String>>,
    /// What plugins said with them, by resource: a ContainerAllocateResponse in base64.
    pub answers: BTreeMap<String, String>,
    /// Processors, as the kernel writes them.
    pub cpus: String,
}

impl Grant {
    /// Whether it has nothing.
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty() && self.cpus.is_empty()
    }
}

/// Which containers have what.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ledger {
    /// Resources that plugins have offered.
    pub resources: BTreeSet<String>,
    /// By pod and container.
    pub grants: BTreeMap<String, BTreeMap<String, Grant>>,
}

impl Ledger {
    /// As it was saved; empty if there is none. One that cannot be read is left aside with a word.
    pub fn load(path: &Path) -> Self {
        let read = fs::read(path).and_then(|bytes| serde_json::from_slice(&bytes).map_err(io::Error::other));
        match read {
            Ok(ledger) => ledger,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::default(),
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "what containers have for themselves is not known any more");
                Self::default()
            }
        }
    }

    /// Saves it, whole or not at all.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let next = path.with_extension("next");
        fs::write(&next, serde_json::to_vec(self)?)?;
        fs::File::open(&next)?.sync_all()?;
        fs::rename(&next, path)
    }

    /// The devices of a resource that somebody has.
    pub fn used(&self, resource: &str) -> BTreeSet<String> {
        let all = self.grants.values().flat_map(|pod| pod.values());
        all.filter_map(|grant| grant.devices.get(resource))
            .flatten()
            .cloned()
            .collect()
    }

    /// The grant of a container.
    pub fn grant(&self, pod: &str, container: &str) -> Option<&Grant> {
        self.grants.get(pod)?.get(container)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_is_found_again_and_rubbish_is_not_believed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("grants.json");
        assert_eq!(Ledger::load(&path), Ledger::default());
        let mut ledger = Ledger::default();
        let mut grant = Grant::default();
        grant
            .devices
            .insert("example.com/d".into(), vec!["a".into(), "b".into()]);
        ledger.grants.entry("uid".into()).or_default().insert("c".into(), grant);
        ledger.save(&path).expect("saved");
        let again = Ledger::load(&path);
        assert_eq!(again, ledger);
        assert_eq!(again.used("example.com/d").len(), 2);
        fs::write(&path, "{").expect("rubbish");
        assert_eq!(Ledger::load(&path), Ledger::default());
    }
}
