//! The one error of this crate.

/// What can go wrong with service tables.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host's network refused.
    #[error(transparent)]
    Net(#[from] strata_net::Error),
    /// A range or address of a family that services are not offered on.
    #[error("{0} is not IPv4: only IPv4 services are supported")]
    Family(String),
    /// The thread that applies transactions ended.
    #[error("the service tables' worker ended: {0}")]
    Worker(String),
}
