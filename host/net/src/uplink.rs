//! The way out for addresses behind a link of this host: forwarded, masqueraded, let through
//! foreign FORWARD chains.

use crate::forward::{self, ForwardWatch};
use crate::{Cidr, Error, Instance, host};

/// What is behind a bridge reaches whatever this host reaches, until [`cleanup`](crate::cleanup) of its name.
#[derive(Debug)]
pub struct Uplink {
    _watch: ForwardWatch,
}

impl Uplink {
    /// Opens the way for a range of addresses behind a link. The name is the table's and that of the cleanup.
    /// Acts in the calling thread's network namespace; answers new foreign FORWARD chains until dropped.
    pub fn open(name: &str, link: &str, range: Cidr) -> Result<Self, Error> {
        let instance = Instance::of_link(name, link)?;
        host::forward_packets()?;
        host::install_table(&instance, &[range], &[range])?;
        let watch = ForwardWatch::start(instance.clone())?;
        forward::answer(&instance)?;
        Ok(Self { _watch: watch })
    }
}
