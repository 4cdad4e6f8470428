//! A node's settings from its file.

use crate::{
    cli::NodeSettings,
    failure::{During, Outcome},
};
use std::path::{Path, PathBuf};
use strata_agent::Configuration;

/// Largest file of settings.
const MAX: u64 = 1 << 20;

/// Where plugins of devices look for the node.
const KUBELET: &str = "/var/lib/kubelet";

impl NodeSettings {
    /// The folder of the sockets of plugins: the kubelet's for the one node of a machine that keeps its data where it is
    /// kept by default, its own for any other.
    pub fn plugins_dir(&self, data_dir: &Path) -> PathBuf {
        let own = || match data_dir == Path::new("/var/lib/strata") {
            true => PathBuf::from(KUBELET),
            false => data_dir.to_owned(),
        };
        self.plugins_dir.clone().unwrap_or_else(own)
    }

    /// What the file says, or the defaults without one.
    pub fn configuration(&self) -> Outcome<Configuration> {
        let Some(path) = &self.kubelet_config else {
            return Ok(if self.shared_disk {
                Configuration::of_a_shared_disk()
            } else {
                Configuration::default()
            });
        };
        let doing = format!("reading {}", path.display());
        let file = std::fs::File::open(path).during(&doing)?;
        let text = std::io::read_to_string(std::io::Read::take(file, MAX)).during(&doing)?;
        Configuration::read(&text).during(&doing)
    }
}
