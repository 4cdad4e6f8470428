//! The bridge of a cluster and its nodes' network namespaces.

use super::spec::ClusterSpec;
use crate::failure::{During, Failure, Outcome};
use std::{
    fs,
    net::IpAddr,
    os::{fd::AsFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};
use strata_net::{
    Cidr, NetworkNamespace, Uplink,
    netlink::route::{LOOPBACK, Route, RouteSocket, VethEnd},
};

const MTU: u32 = 1500;
const PREFIX: u8 = 24;

/// Makes a bridge for the cluster in that folder; false if there is one of that name.
pub fn make_bridge(name: &str, cluster: &Path) -> Outcome<bool> {
    let doing = "making the cluster's bridge";
    let mut socket = RouteSocket::open().during(doing)?;
    if socket.link_index(name).during(doing)?.is_some() {
        return Ok(false);
    }
    if let Err(error) = socket.requests().add_bridge(name, 0).run() {
        // Another cluster that is being made may have been quicker.
        return match socket.link_index(name).during(doing)? {
            Some(_) => Ok(false),
            None => Err(error).during(doing),
        };
    }
    fs::write(owner_file(name), owner(cluster)).during(doing)?;
    Ok(true)
}

/// Where the kernel keeps a link's alias, which says whose a bridge is.
fn owner_file(bridge: &str) -> PathBuf {
    Path::new("/sys/class/net").join(bridge).join("ifalias")
}

/// What is written there: the end of the cluster's folder, as much as fits.
fn owner(folder: &Path) -> &[u8] {
    const FITS: usize = 200;
    let path = folder.as_os_str().as_bytes();
    &path[path.len().saturating_sub(FITS)..]
}

/// Gives the bridge its address, and the nodes the way out that this machine has, until dropped or [`remove`]d.
pub fn open_bridge(spec: &ClusterSpec) -> Outcome<Uplink> {
    let doing = "opening the cluster's bridge";
    let mut socket = RouteSocket::open().during(doing)?;
    let index = index(&mut socket, &spec.bridge())?;
    socket
        .requests()
        .add_address(index, spec.gateway(), PREFIX, None)
        .set_up(index)
        .run()
        .during(doing)?;
    let range = Cidr::new(spec.gateway(), PREFIX).during(doing)?;
    Uplink::open(&spec.bridge(), &spec.bridge(), range).during("opening the nodes' way out")
}

/// Makes the network namespace of a node and joins it to the bridge.
pub fn make_node(spec: &ClusterSpec, number: usize) -> Outcome<NetworkNamespace> {
    let doing = format!("making the network of {}", spec.nodes[number].name);
    let namespace = NetworkNamespace::create().during(&doing)?;
    let mut socket = RouteSocket::open().during(&doing)?;
    let name = spec.link(number);
    let end = VethEnd {
        name: &name,
        mac: None,
        netns: None,
    };
    let peer = VethEnd {
        name: "eth0",
        mac: None,
        netns: Some(namespace.as_fd()),
    };
    socket.requests().add_veth(end, peer, MTU, 0).run().during(&doing)?;
    let bridge = index(&mut socket, &spec.bridge())?;
    let link = index(&mut socket, &name)?;
    socket
        .requests()
        .set_master(link, bridge)
        .set_up(link)
        .run()
        .during(&doing)?;
    let (ip, gateway) = (spec.nodes[number].ip, spec.gateway());
    namespace.run(|| configure(ip, gateway)).during(&doing)??;
    Ok(namespace)
}

fn configure(ip: IpAddr, gateway: IpAddr) -> Outcome {
    let doing = "configuring a node's link";
    let mut socket = RouteSocket::open().during(doing)?;
    let link = index(&mut socket, "eth0")?;
    let default = Cidr::new(IpAddr::from([0, 0, 0, 0]), 0).during(doing)?;
    socket
        .requests()
        .set_up(LOOPBACK)
        .add_address(link, ip, PREFIX, None)
        .set_up(link)
        .replace_route(&Route::via(default, gateway))
        .run()
        .during(doing)
}

fn index(socket: &mut RouteSocket, name: &str) -> Outcome<u32> {
    let found = socket.link_index(name).during(format!("looking for the link {name}"))?;
    found.ok_or_else(|| Failure(format!("the link {name} has vanished")))
}

/// Removes the bridge and the nodes' links; what is gone already is no error, and what another
/// cluster has made since in the same subnet stays.
pub fn remove(spec: &ClusterSpec) {
    match fs::read(owner_file(&spec.bridge())) {
        Ok(alias) if alias.trim_ascii_end() == owner(&spec.folder()) => {}
        _ => return,
    }
    if let Err(error) = strata_net::cleanup(&spec.bridge()) {
        tracing::warn!(%error, "the nodes' way out could not be closed");
    }
    let names = (0..spec.nodes.len()).map(|i| spec.link(i)).chain([spec.bridge()]);
    for name in names {
        let Ok(mut socket) = RouteSocket::open() else { return };
        if let Ok(Some(_)) = socket.link_index(&name)
            && let Err(error) = socket.requests().delete_link(&name).run()
        {
            tracing::warn!(link = name, %error, "a link could not be removed");
        }
    }
}
