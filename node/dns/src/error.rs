//! The one error of this crate.

use std::io;
use std::net::SocketAddr;

/// What can go wrong with cluster DNS.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address to listen on is not free or not ours.
    #[error("cluster DNS cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The cluster domain is no domain name.
    #[error("{0:?} cannot be the cluster's domain: {1}")]
    Domain(String, strata_net::dns::NameError),
}
