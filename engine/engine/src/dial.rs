//! Connections into a sandbox's network.

use crate::link::blocking;
use crate::{Engine, Error, SandboxId};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream as Blocking};
use std::time::Duration;
use strata_net::NetworkNamespace;
use strata_runtime::spec::NamespaceKind;
use tokio::net::TcpStream;

/// Loopback answers at once or not at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

impl Engine {
    /// Connects to a port on the loopback of a sandbox's network namespace.
    pub async fn dial_port(&self, id: &SandboxId, port: u16) -> Result<TcpStream, Error> {
        let sandbox = self.inner.known.sandbox(id)?;
        let link = sandbox.link()?;
        let host_network = sandbox.lock_record().host_network();
        let failed = {
            let id = id.clone();
            move |source| Error::Dial {
                id: id.clone(),
                port,
                source,
            }
        };
        let refused = failed.clone();
        let stream = blocking(move || {
            if host_network {
                return connect(port).map_err(refused);
            }
            let namespace = link
                .call(|connection| connection.namespace(NamespaceKind::Network))
                .map_err(|error| link.explain("enter the pod's network", error))?;
            let connected = NetworkNamespace::from(namespace).run(|| connect(port));
            connected
                .map_err(|error| refused(io::Error::other(error.to_string())))?
                .map_err(refused)
        })
        .await?;
        stream
            .set_nonblocking(true)
            .and_then(|()| TcpStream::from_std(stream))
            .map_err(failed)
    }
}

/// IPv4 first, as upstream's port-forward does.
fn connect(port: u16) -> io::Result<Blocking> {
    let to = |ip: IpAddr| Blocking::connect_timeout(&SocketAddr::new(ip, port), CONNECT_TIMEOUT);
    to(Ipv4Addr::LOCALHOST.into()).or_else(|error| to(Ipv6Addr::LOCALHOST.into()).map_err(|_| error))
}
