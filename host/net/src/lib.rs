//! What any sandbox on a host needs from the network: links, addresses, routes, address
//! allocation, nftables transactions, and the DNS wire format.
//!
//! Not for: Kubernetes objects (services are `node/service`, names are `node/dns`), async
//! code (every call blocks for microseconds to a millisecond and belongs on a blocking
//! thread), or any subprocess: the kernel is spoken to over netlink only.
//!
//! Start at [`PodNetwork`], which gives sandboxes their address and link; then
//! [`HostPorts`] for ports of the host that lead to pods, [`NodeRoutes`] for traffic between nodes, [`nft`] for transactions, [`dns`] for messages.

mod addresses;
mod bridge;
mod bridge_rules;
mod cidr;
mod cleanup;
mod counters;
pub mod dns;
mod error;
mod forward;
mod host;
mod instance;
mod namespace;
pub mod netlink;
pub mod nft;
mod pod;
mod ports;
mod reaper;
mod routes;
mod rules;
mod uplink;

pub use addresses::REUSE_DELAY;
pub use bridge::{BridgeHost, BridgePort, is_link_name, mac_of};
pub use bridge_rules::BridgeRules;
pub use cidr::Cidr;
pub use cleanup::cleanup;
pub use counters::{LinkCounters, SENT, link_counters};
pub use error::Error;
pub use instance::Instance;
pub use namespace::NetworkNamespace;
pub use pod::{PodAddress, PodNetwork, PodNetworkOptions};
pub use ports::HostPorts;
pub use routes::{NodeRoutes, route_virtual};
pub use rules::HostPort;
pub use uplink::Uplink;
