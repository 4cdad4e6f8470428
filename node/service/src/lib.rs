//! Services on a node: from Services and EndpointSlices to nf_tables maps, changed by
//! transactions whose cost depends on what changed and not on how many services there are.
//!
//! Not for: pod links and masquerade of pod traffic (`host/net`), names (`node/dns`), or
//! choosing addresses and ports of services (the API server and the controllers).
//!
//! Start at [`ServiceProxy`], the executor. What decides is pure: [`plan`] says what one
//! service needs on this node, [`Tables`] turns changed plans into one transaction, and
//! `rules` holds the chains, whose comment explains the maps.

mod error;
mod objects;
mod plan;
mod proxy;
mod rules;
mod tables;

pub use error::Error;
pub use objects::{
    Endpoint, EndpointConditions, EndpointPort, EndpointSlice, LoadBalancerIngress, LoadBalancerStatus, Service,
    ServicePort, ServiceSpec, ServiceStatus,
};
pub use plan::{Balance, Frontend, Masquerade, PoolKey, Protocol, ServicePlan, Treatment, plan};
pub use proxy::{ServiceProxy, ServiceProxyOptions};
pub use rules::TablesOptions;
pub use tables::{Applied, Tables, Update};
