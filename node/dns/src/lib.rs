//! Cluster DNS: the names of services, endpoints and pods (Kubernetes DNS specification 1.1.0),
//! answered from the API's objects; everything else is forwarded to the host's resolvers.
//!
//! Not for: the wire format (`strata_net::dns`), what stands in a pod's resolv.conf (the node
//! agent), or DNSSEC.
//!
//! Start at [`DnsServer`]. [`Zone`] decides what a question's answer is, purely, from an [`Index`]
//! of the objects; `forward` asks other resolvers and `cache` remembers what they said.

mod cache;
mod error;
mod forward;
mod index;
mod objects;
mod resolv;
mod server;
mod zone;

pub use error::Error;
pub use index::Index;
pub use objects::{DnsService, DnsSlice};
pub use resolv::upstream_resolvers;
pub use server::{DnsOptions, DnsServer};
pub use zone::{Answer, Zone};
