//! Removal of every trace of an instance.

use crate::netlink::route::RouteSocket;
use crate::nft::{Batch, Family, NftSocket};
use crate::reaper::delete_group;
use crate::{Error, Instance, forward};

/// Removes every link, route, address, rule and table of the instance from the current network
/// namespace. What is already gone is fine; the first thing that could not be removed is the error,
/// after everything else was tried.
pub fn cleanup(instance: &str) -> Result<(), Error> {
    let instance = Instance::new(instance)?;
    let results = [
        links(&instance),
        addresses(&instance),
        routes(&instance),
        forward::withdraw(&instance),
        tables(&instance),
    ];
    results.into_iter().collect()
}

fn links(instance: &Instance) -> Result<(), Error> {
    delete_group(instance.condemned_group())?;
    delete_group(instance.link_group())
}

fn addresses(instance: &Instance) -> Result<(), Error> {
    let mut socket = RouteSocket::open()?;
    let label = instance.address_label();
    let found = socket.addresses()?;
    let mut requests = socket.requests();
    for (link, address, prefix, _) in found.iter().filter(|(_, _, _, found)| *found == label) {
        requests.delete_address(*link, *address, *prefix);
    }
    requests.run()
}

fn routes(instance: &Instance) -> Result<(), Error> {
    let mut socket = RouteSocket::open()?;
    let metric = instance.route_metric();
    let found = socket.routes()?;
    let mut requests = socket.requests();
    for route in found.iter().filter(|route| route.metric == metric) {
        requests.delete_route(route);
    }
    requests.run()
}

fn tables(instance: &Instance) -> Result<(), Error> {
    let mut socket = NftSocket::open()?;
    let existing = socket.tables(Family::Ipv4)?;
    for table in [instance.pod_table(), instance.service_table(), instance.port_table()] {
        if existing.contains(&table) {
            let mut batch = Batch::new(Family::Ipv4, &table);
            batch.delete_table();
            socket.apply(batch)?;
        }
    }
    Ok(())
}
