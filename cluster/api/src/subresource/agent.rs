//! The way to a node's agent and to pods, through the dialer.

use crate::{core::Core, json, options::Target};
use std::net::{IpAddr, SocketAddr};
use strata_http::{BoxedIo, ClientTls};
use strata_meta::{GroupResource, Reason, Status};

/// Where an agent listens unless its node says otherwise.
const AGENT_PORT: u16 = 10250;

/// A TLS connection to a node's agent, which shows a certificate for the node's name.
///
/// Errors: 404 when there is no such node, named as one of the resource that was asked for, as upstream has it; 500
/// when it cannot be reached.
pub(crate) async fn dial_agent(core: &Core, asked: &GroupResource, node: &str) -> Result<BoxedIo, Status> {
    let address = agent_address(core, asked, node)?;
    let failed = |why: &dyn std::fmt::Display| Status::internal(format_args!("error dialing backend: {why}"));
    let identity = core
        .agent_identity
        .as_ref()
        .ok_or_else(|| failed(&"the server has no certificate to show to agents"))?;
    let pair = (identity.cert_pem.as_bytes(), identity.key_pem.as_bytes());
    let tls = ClientTls::new(core.ca_pem.as_bytes(), Some(pair))
        .map_err(|e| failed(&e))?
        .http1_only();
    let target = Target::Agent {
        node: node.to_owned(),
        address,
    };
    let io = core
        .dialer
        .dial(target)
        .await
        .map_err(|e| failed(&format_args!("dial tcp {address}: {e}")))?;
    let stream = tls.connect(io, node).await.map_err(|e| failed(&e))?;
    Ok(Box::new(stream))
}

/// The address and port a node tells in its status.
fn agent_address(core: &Core, asked: &GroupResource, node: &str) -> Result<SocketAddr, Status> {
    let object = core
        .resource("", "nodes")
        .get("", node)
        .ok_or_else(|| Status::not_found(asked, node))?;
    let value = object.to_value().map_err(Status::internal)?;
    let addresses = json::list(&value, "status.addresses");
    let of_type = |wanted: &str| {
        let found = addresses.iter().find(|a| json::text(a, "type") == wanted)?;
        json::text(found, "address").parse::<IpAddr>().ok()
    };
    let address = of_type("InternalIP").or_else(|| of_type("ExternalIP"));
    let address = address.ok_or_else(|| {
        Status::internal(format_args!(
            "no preferred addresses found; known addresses: {}",
            addresses.len()
        ))
    })?;
    let port = json::int(&value, "status.daemonEndpoints.kubeletEndpoint.Port").and_then(|p| u16::try_from(p).ok());
    Ok(SocketAddr::new(address, port.filter(|p| *p != 0).unwrap_or(AGENT_PORT)))
}

/// A connection to a port of a pod or another endpoint. Errors: 503.
pub(super) async fn dial_pod(core: &Core, node: &str, address: SocketAddr) -> Result<BoxedIo, Status> {
    let target = Target::Pod {
        node: node.to_owned(),
        address,
    };
    core.dialer.dial(target).await.map_err(|e| {
        let why = format!("error trying to reach service: dial tcp {address}: connect: {e}");
        Status::failure(Reason::ServiceUnavailable, why)
    })
}
