//! A node's settings from its file.

use crate::{
    cli::NodeSettings,
    failure::{During, Outcome},
};
use strata_agent::Configuration;

/// Largest file of settings.
const MAX: u64 = 1 << 20;

impl NodeSettings {
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
