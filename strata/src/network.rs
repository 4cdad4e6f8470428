//! The node's network: pod links and addresses, and on their gateway the resolver and the
//! service tables that lead to it.

use crate::worker::{DOMAIN, WorkerOptions};
use std::{
    fmt::Display,
    fs,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex},
};
use strata_agent::NetworkFactory;
use strata_client::Client;
use strata_dns::{DnsOptions, DnsServer};
use strata_net::{PodNetwork, PodNetworkOptions};
use strata_service::{ServiceProxy, ServiceProxyOptions};
use strata_task::CancellationToken;

/// Where the node's resolver listens on the pod network's gateway.
const DNS_PORT: u16 = 53;

/// The node's network. Its range is known once the API has given the node one, and again at
/// once after a restart, because containers that went on running need it.
#[derive(Clone)]
pub struct NodeNetwork {
    state: PathBuf,
    instance: String,
    client: Client,
    cluster_cidr: String,
    service_cidr: String,
    node_name: String,
    node_ip: IpAddr,
    dns: IpAddr,
    open: Arc<Mutex<Option<Open>>>,
}

/// The network of a range.
struct Open {
    cidr: String,
    network: Arc<PodNetwork>,
}

fn text(error: &dyn Display) -> String {
    error.to_string()
}

impl NodeNetwork {
    /// The network of a node; nothing is opened yet.
    pub fn new(options: &WorkerOptions) -> Self {
        Self {
            state: options.data_dir.join("network"),
            instance: options.instance.clone(),
            client: options.client.clone(),
            cluster_cidr: options.cluster_cidr.clone(),
            service_cidr: options.service_cidr.clone(),
            node_name: options.name.clone(),
            node_ip: options.ip,
            dns: options.dns,
            open: Arc::default(),
        }
    }

    /// The network as it was before a restart.
    pub fn recover(&self) -> Option<Arc<PodNetwork>> {
        let cidr = fs::read_to_string(self.state.join("cidr")).ok()?;
        match self.pod_network(&cidr) {
            Ok(network) => Some(network),
            Err(error) => {
                tracing::warn!(error, cidr, "the pod network of before the restart cannot be opened");
                None
            }
        }
    }

    /// What makes the network once the node's range is known.
    pub fn factory(&self, cancel: &CancellationToken) -> NetworkFactory {
        let (this, cancel) = (self.clone(), cancel.clone());
        let runtime = tokio::runtime::Handle::current();
        Arc::new(move |cidr: &str| {
            let network = this.pod_network(cidr)?;
            let _entered = runtime.enter();
            runtime.block_on(this.serve(&network, &cancel))?;
            Ok(network)
        })
    }

    fn pod_network(&self, cidr: &str) -> Result<Arc<PodNetwork>, String> {
        let mut open = self.open.lock().expect("no holder of this lock panics");
        if let Some(Open { cidr: known, network }) = &*open {
            return if known == cidr {
                Ok(network.clone())
            } else {
                Err(format!(
                    "the node's pods use {known}, and its range is now {cidr}; restart the node after removing them"
                ))
            };
        }
        let network = PodNetwork::open(PodNetworkOptions {
            state_dir: self.state.clone(),
            cidr: cidr.parse().map_err(|e| text(&e))?,
            cluster_cidr: self.cluster_cidr.parse().map_err(|e| text(&e))?,
            instance: self.instance.clone(),
            mtu: 0,
        })
        .map_err(|e| text(&e))?;
        fs::write(self.state.join("cidr"), cidr).map_err(|e| text(&e))?;
        *open = Some(Open {
            cidr: cidr.to_owned(),
            network: network.clone(),
        });
        Ok(network)
    }

    async fn serve(&self, network: &PodNetwork, cancel: &CancellationToken) -> Result<(), String> {
        let resolver = SocketAddr::new(network.gateway(), DNS_PORT);
        let dns = DnsOptions {
            client: self.client.clone(),
            domain: DOMAIN.to_owned(),
            listen: vec![resolver],
            upstream: strata_dns::upstream_resolvers(&resolv_conf()),
        };
        let proxy = ServiceProxyOptions {
            client: self.client.clone(),
            node_name: self.node_name.clone(),
            node_ips: vec![self.node_ip],
            instance: self.instance.clone(),
            cluster_cidr: self.cluster_cidr.parse().map_err(|e| text(&e))?,
            service_cidr: Some(self.service_cidr.parse().map_err(|e| text(&e))?),
            node_port_addresses: Vec::new(),
            dns: Some((self.dns, resolver)),
        };
        let dns = DnsServer::start(dns, cancel.clone()).await.map_err(|e| text(&e))?;
        let proxy = ServiceProxy::start(proxy, cancel.clone()).map_err(|e| text(&e))?;
        let stopping = cancel.clone();
        // Both end with the cancellation; until then this task owns them.
        tokio::spawn(async move {
            stopping.cancelled().await;
            proxy.stop().await;
            dns.stop().await;
        });
        Ok(())
    }
}

/// The machine's own resolver configuration; a machine without one forwards nothing.
fn resolv_conf() -> String {
    fs::read_to_string("/etc/resolv.conf").unwrap_or_else(|_| String::new())
}
