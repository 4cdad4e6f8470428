//! Routes to the pods of other nodes.

use std::net::IpAddr;

use crate::netlink::route::{LOOPBACK, Route, RouteSocket};
use crate::{Cidr, Error, Instance};

/// Keeps one route per other node: its pod range through its address on the shared link.
#[derive(Debug)]
pub struct NodeRoutes {
    metric: u32,
}

impl NodeRoutes {
    /// Routes of this instance.
    pub fn new(instance: &str) -> Result<Self, Error> {
        Ok(Self {
            metric: Instance::new(instance)?.route_metric(),
        })
    }

    /// Makes the routes to other nodes' pods exactly these (pod range, node address).
    ///
    /// A node that cannot be reached on a link does not stop the others; it is the error returned.
    pub fn sync(&self, nodes: &[(Cidr, IpAddr)]) -> Result<(), Error> {
        let wanted = nodes.iter().map(|(pods, node)| Route {
            metric: self.metric,
            ..Route::via(*pods, *node)
        });
        let wanted: Vec<Route> = wanted.collect();
        if let Some(other) = wanted.iter().find(|route| route.destination.network().is_ipv6()) {
            return Err(Error::Family(other.destination.network()));
        }
        let mut socket = RouteSocket::open()?;
        let present = socket.routes()?;
        let present = present
            .iter()
            .filter(|route| route.metric == self.metric && route.gateway.is_some());
        let present: Vec<Route> = present
            .map(|route| Route {
                link: None,
                source: None,
                ..route.clone()
            })
            .collect();
        let mut requests = socket.requests();
        for gone in present
            .iter()
            .filter(|route| !wanted.iter().any(|new| new.destination == route.destination))
        {
            requests.delete_route(gone);
        }
        for new in wanted.iter().filter(|route| !present.contains(route)) {
            requests.replace_route(new);
        }
        requests.run()
    }
}

/// Routes a range of virtual addresses (services) so that a host without a default route reaches
/// them as well: traffic is translated on its way out and routed again, so the link named here is
/// never used. `source` is what connections of the host come from.
pub fn route_virtual(instance: &str, range: Cidr, source: Option<IpAddr>) -> Result<(), Error> {
    let metric = Instance::new(instance)?.route_metric();
    let mut socket = RouteSocket::open()?;
    socket
        .requests()
        .replace_route(&Route {
            source,
            metric,
            ..Route::on_link(range, LOOPBACK)
        })
        .run()
}
