//! The network of sandboxes: this program's own, or that of plugins (CNI).

use crate::error::Answer;
use crate::generated::v1 as api;
use crate::sandbox_config::{host_ports, namespace_options};
use crate::service::Service;
use serde_json::{Map, Value, json};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use strata_cni::{Cni, Wish};
use strata_engine::{Network, SandboxId, SandboxState, SandboxStatus};
use strata_http::GrpcStatus;
use strata_meta::Quantity;
use strata_net::{Cidr, HostPorts, PodNetwork};

/// Who gives pods their addresses.
#[derive(Clone)]
pub enum PodNetworks {
    /// This program.
    Own(Arc<PodNetwork>),
    /// Plugins that the administrator configured.
    Plugins(Arc<Cni>),
}

/// The same, as it serves.
pub(crate) enum Networking {
    Own {
        network: Arc<PodNetwork>,
        ports: Arc<HostPorts>,
    },
    Plugins(Arc<Cni>),
}

/// The ranges of pods, as a kubelet told them; kept over restarts.
pub(crate) struct PodRanges {
    path: PathBuf,
    told: Mutex<Vec<Cidr>>,
}

impl Networking {
    /// What the engine makes of a sandbox that does not share the host's network.
    pub fn of_sandbox(&self) -> Network {
        match self {
            Self::Own { network, .. } => Network::Pod(network.clone()),
            Self::Plugins(_) => Network::None,
        }
    }

    /// The address that pods send to what is not theirs, where that is this program's.
    pub fn gateway(&self) -> Option<String> {
        match self {
            Self::Own { network, .. } => Some(network.gateway().to_string()),
            Self::Plugins(_) => None,
        }
    }

    /// Why no sandbox can have a network now, in a word and a sentence.
    pub async fn trouble(&self) -> Option<(String, String)> {
        match self {
            Self::Own { .. } => None,
            Self::Plugins(cni) => {
                let error = cni.status().await.err()?;
                let why = format!("Network plugin returns error: {error}");
                Some(("NetworkPluginNotReady".into(), why))
            }
        }
    }

    /// What is told of a sandbox to those who want to know all.
    pub fn details(&self, id: &SandboxId) -> Value {
        match self {
            Self::Own { network, .. } => {
                let place = network.address(id.as_str());
                json!({ "hostLink": place.map(|place| place.host_link) })
            }
            Self::Plugins(cni) => json!({ "cniResult": cni.result(id.as_str()) }),
        }
    }
}

impl Service {
    /// Gives a new sandbox its network, with ports of the host. When that fails nothing is left, or the sandbox
    /// is to be [disconnected](Service::disconnect) still.
    pub(crate) async fn connect(
        &self,
        id: &SandboxId,
        ip: Option<IpAddr>,
        config: &api::PodSandboxConfig,
    ) -> Answer<()> {
        match &self.networking {
            // With the host's network its ports are the host's already.
            _ if is_host_network(config) => Ok(()),
            Networking::Own { .. } => self.publish(id, ip, config).await,
            Networking::Plugins(cni) => {
                let wish = wish(id, config, &self.ranges.told())?;
                let namespace = self.engine.network_namespace(id).await;
                let namespace = namespace.map_err(|e| GrpcStatus::new(GrpcStatus::UNKNOWN, e))?;
                warn_of_ports(cni, id, config).await;
                let addresses = cni.add(id.as_str(), namespace, wish).await.map_err(|error| {
                    let why = format!("failed to setup network for sandbox {:?}: {error}", id.as_str());
                    GrpcStatus::new(GrpcStatus::UNKNOWN, why)
                })?;
                tracing::debug!(sandbox = %id, ?addresses, "network plugins gave addresses");
                Ok(())
            }
        }
    }

    /// Leads the host's ports to a sandbox on this program's own network.
    pub(crate) async fn publish(
        &self,
        id: &SandboxId,
        ip: Option<IpAddr>,
        config: &api::PodSandboxConfig,
    ) -> Answer<()> {
        let (Some(IpAddr::V4(ip)), Networking::Own { network, ports }) = (ip, &self.networking) else {
            return Ok(());
        };
        let wanted = host_ports(config, ip)?;
        let Some(place) = network.address(id.as_str()) else {
            return Ok(());
        };
        let (all, id) = (ports.clone(), id.clone());
        let published = tokio::task::spawn_blocking(move || all.publish(id.as_str(), &place.host_link, &wanted)).await;
        let published = published.map_err(|e| GrpcStatus::new(GrpcStatus::INTERNAL, e))?;
        published.map_err(|e| GrpcStatus::new(GrpcStatus::UNKNOWN, e))
    }

    /// Takes a sandbox's network back, as far as it is not the engine's; one that has none is fine.
    pub(crate) async fn disconnect(&self, id: &SandboxId) -> Answer<()> {
        match &self.networking {
            Networking::Own { ports, .. } => {
                let (ports, id) = (ports.clone(), id.clone());
                let withdrawn = tokio::task::spawn_blocking(move || ports.withdraw(id.as_str())).await;
                let withdrawn = withdrawn.map_err(|e| GrpcStatus::new(GrpcStatus::INTERNAL, e))?;
                withdrawn.map_err(|e| GrpcStatus::new(GrpcStatus::UNKNOWN, e))
            }
            Networking::Plugins(cni) => cni.delete(id.as_str()).await.map_err(|error| {
                let why = format!("failed to destroy network for sandbox {:?}: {error}", id.as_str());
                GrpcStatus::new(GrpcStatus::UNKNOWN, why)
            }),
        }
    }

    /// The addresses of a sandbox that runs, the first one first.
    pub(crate) fn addresses(&self, sandbox: &SandboxStatus) -> Vec<IpAddr> {
        match &self.networking {
            _ if sandbox.state != SandboxState::Ready => Vec::new(),
            Networking::Plugins(cni) if sandbox.ip.is_none() => {
                let addresses = cni.addresses(sandbox.id.as_str());
                addresses.map(|addresses| addresses.0).unwrap_or_default()
            }
            _ => sandbox.ip.into_iter().collect(),
        }
    }

    /// Puts a sandbox that an earlier process made back on its network, as far as it is not the engine's.
    ///
    /// Errors: it was not wholly on it. Nobody was told of such a one.
    pub(crate) async fn reconnect(&self, sandbox: &SandboxStatus) -> Answer<()> {
        let config = self.memos.sandbox_config(&self.engine, &sandbox.id)?;
        match &self.networking {
            Networking::Plugins(cni) if !is_host_network(&config) && sandbox.ip.is_none() => {
                let attached = cni.addresses(sandbox.id.as_str()).map(drop);
                attached.ok_or_else(|| GrpcStatus::new(GrpcStatus::ABORTED, "its network was never finished"))
            }
            _ => self.publish(&sandbox.id, sandbox.ip, &config).await,
        }
    }

    /// Has plugins forget what went while nobody looked, and says of which sandboxes they are not sure any more.
    pub(crate) async fn look_after_networks(self: Arc<Self>) {
        let Networking::Plugins(cni) = &self.networking else {
            return;
        };
        cni.collect(|id| self.engine.sandbox(&SandboxId::from(id)).is_ok())
            .await;
        for sandbox in self.engine.list_sandboxes() {
            if let Err(error) = cni.check(sandbox.id.as_str()).await {
                tracing::warn!(sandbox = %sandbox.id, %error, "the network of a sandbox is not as it was");
            }
        }
    }

    /// The ranges of pods, as a kubelet says them: new sandboxes get their addresses from there.
    pub(crate) async fn update_runtime_config(
        &self,
        request: api::UpdateRuntimeConfigRequest,
    ) -> Answer<api::UpdateRuntimeConfigResponse> {
        let network = request.runtime_config.and_then(|config| config.network_config);
        let text = network.map(|network| network.pod_cidr).unwrap_or_default();
        if text.is_empty() {
            return Ok(api::UpdateRuntimeConfigResponse {});
        }
        let ranges = parse_ranges(&text).map_err(crate::error::invalid)?;
        let network = match &self.networking {
            Networking::Own { network, .. } => Some(network.clone()),
            Networking::Plugins(_) => None,
        };
        let told = self.ranges.clone();
        let changed = tokio::task::spawn_blocking(move || told.tell(ranges, network.as_deref())).await;
        changed.map_err(|e| GrpcStatus::new(GrpcStatus::INTERNAL, e))??;
        Ok(api::UpdateRuntimeConfigResponse {})
    }
}

impl PodRanges {
    /// As they were told to an earlier process; a file that cannot be read is as none, and said. Blocking.
    pub fn open(path: PathBuf) -> Self {
        let told = match std::fs::read_to_string(&path) {
            Ok(text) => parse_ranges(text.trim()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error.to_string()),
        };
        let told = told.unwrap_or_else(|why| {
            tracing::warn!(path = %path.display(), why, "ranges of pods that were told earlier are lost");
            Vec::new()
        });
        Self {
            path,
            told: Mutex::new(told),
        }
    }

    pub fn told(&self) -> Vec<Cidr> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Blocking.
    fn tell(&self, ranges: Vec<Cidr>, network: Option<&PodNetwork>) -> Answer<()> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if *told == ranges {
            return Ok(());
        }
        if let Some(network) = network {
            let four = ranges.iter().find(|range| range.network().is_ipv4());
            let four =
                four.ok_or_else(|| crate::error::invalid("pods have IPv4 addresses, and no range of those is named"))?;
            network.change_range(*four).map_err(crate::error::invalid)?;
        }
        let text: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        let draft = self.path.with_extension("draft");
        std::fs::write(&draft, text.join(","))
            .and_then(|()| std::fs::rename(&draft, &self.path))
            .map_err(|error| GrpcStatus::new(GrpcStatus::UNKNOWN, format!("{}: {error}", self.path.display())))?;
        tracing::info!(
            ranges = text.join(","),
            "pods get their addresses from there from now on"
        );
        *told = ranges;
        Ok(())
    }
}

/// The range of IPv4 addresses that a kubelet named to an earlier process of a server with that folder.
pub fn told_range(data_dir: &std::path::Path) -> Option<Cidr> {
    let told = PodRanges::open(crate::server::pod_ranges(data_dir)).told();
    told.into_iter().find(|range| range.network().is_ipv4())
}

/// One range, or one of each family with a comma between them.
pub(crate) fn parse_ranges(text: &str) -> Result<Vec<Cidr>, String> {
    const MOST: usize = 8;
    let ranges: Result<Vec<Cidr>, _> = text.split(',').take(MOST + 1).map(|part| part.trim().parse()).collect();
    let ranges = ranges.map_err(|error: strata_net::Error| error.to_string())?;
    if ranges.len() > MOST {
        return Err(format!("more than {MOST} ranges of pods"));
    }
    Ok(ranges)
}

fn is_host_network(config: &api::PodSandboxConfig) -> bool {
    namespace_options(config).network() == api::NamespaceMode::Node
}

/// What a sandbox asks of network plugins, under the names they agreed on (CONVENTIONS.md of the interface).
pub(crate) fn wish(id: &SandboxId, config: &api::PodSandboxConfig, ranges: &[Cidr]) -> Answer<Wish> {
    let metadata = config.metadata.clone().unwrap_or_default();
    let arguments = [
        ("IgnoreUnknown", "1".to_owned()),
        ("K8S_POD_NAMESPACE", metadata.namespace),
        ("K8S_POD_NAME", metadata.name),
        ("K8S_POD_INFRA_CONTAINER_ID", id.to_string()),
        ("K8S_POD_UID", metadata.uid),
    ];
    let mut wanted = Map::new();
    let ports = config.port_mappings.iter().filter(|mapping| mapping.host_port > 0);
    let ports: Vec<Value> = ports.map(port).collect();
    if !ports.is_empty() {
        wanted.insert("portMappings".into(), ports.into());
    }
    if let Some(bandwidth) = bandwidth(config)? {
        wanted.insert("bandwidth".into(), bandwidth);
    }
    if let Some(dns) = &config.dns_config {
        let dns = json!({"servers": dns.servers, "searches": dns.searches, "options": dns.options});
        wanted.insert("dns".into(), dns);
    }
    if !ranges.is_empty() {
        // One list a range: an address from each.
        let ranges = ranges
            .iter()
            .map(|range| json!([{"subnet": range.to_string()}]))
            .collect();
        wanted.insert("ipRanges".into(), Value::Array(ranges));
    }
    if let Some(linux) = config.linux.as_ref().filter(|linux| !linux.cgroup_parent.is_empty()) {
        wanted.insert("cgroupPath".into(), linux.cgroup_parent.clone().into());
    }
    wanted.insert("io.kubernetes.cri.pod-annotations".into(), json!(config.annotations));
    Ok(Wish {
        arguments: arguments.map(|(key, value)| (key.to_owned(), value)).into(),
        capabilities: wanted,
    })
}

fn port(mapping: &api::PortMapping) -> Value {
    let protocol = match mapping.protocol() {
        api::Protocol::Tcp => "tcp",
        api::Protocol::Udp => "udp",
        api::Protocol::Sctp => "sctp",
    };
    json!({
        "hostPort": mapping.host_port,
        "containerPort": mapping.container_port,
        "protocol": protocol,
        "hostIP": mapping.host_ip,
    })
}

/// Bits per second that annotations allow (kubernetes.io/ingress-bandwidth and the other way).
fn bandwidth(config: &api::PodSandboxConfig) -> Answer<Option<Value>> {
    let mut told = Map::new();
    for way in ["ingress", "egress"] {
        let name = format!("kubernetes.io/{way}-bandwidth");
        let Some(text) = config.annotations.get(&name) else {
            continue;
        };
        let amount: Quantity = text
            .parse()
            .map_err(|error| crate::error::invalid(format!("annotation {name}: {text:?}: {error}")))?;
        // Bounds as a kubelet has them.
        if !(1_000..=1_000_000_000_000_000).contains(&amount.value()) {
            let why = format!("annotation {name}: {text:?} is not between 1k and 1P");
            return Err(crate::error::invalid(why));
        }
        told.insert(format!("{way}Rate"), amount.value().into());
        told.insert(format!("{way}Burst"), i32::MAX.into());
    }
    Ok((!told.is_empty()).then_some(Value::Object(told)))
}

async fn warn_of_ports(cni: &Cni, id: &SandboxId, config: &api::PodSandboxConfig) {
    let wanted = config.port_mappings.iter().any(|mapping| mapping.host_port > 0);
    if wanted
        && cni
            .network()
            .await
            .is_ok_and(|network| !network.has_capability("portMappings"))
    {
        tracing::warn!(sandbox = %id, "ports of the host do not lead to it: no plugin of the network can do that");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> api::PodSandboxConfig {
        api::PodSandboxConfig {
            metadata: Some(api::PodSandboxMetadata {
                name: "web".into(),
                namespace: "default".into(),
                uid: "u".into(),
                attempt: 0,
            }),
            ..api::PodSandboxConfig::default()
        }
    }

    #[test]
    fn plugins_are_told_what_a_sandbox_wants() {
        let mut config = config();
        config.port_mappings = vec![api::PortMapping {
            container_port: 80,
            host_port: 8080,
            host_ip: "::1".into(),
            ..api::PortMapping::default()
        }];
        config.annotations = [("kubernetes.io/egress-bandwidth".to_owned(), "10M".to_owned())].into();
        let ranges = parse_ranges("10.1.0.0/24,fd00::/64").expect("valid");
        let wish = wish(&SandboxId::from("abc"), &config, &ranges).expect("valid");
        assert_eq!(wish.arguments[2], ("K8S_POD_NAME".into(), "web".into()));
        let wanted = wish.capabilities;
        assert_eq!(
            wanted["portMappings"],
            json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "::1"}])
        );
        assert_eq!(
            wanted["bandwidth"],
            json!({"egressRate": 10_000_000, "egressBurst": i32::MAX})
        );
        assert_eq!(
            wanted["ipRanges"],
            json!([[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00::/64"}]])
        );
        config
            .annotations
            .insert("kubernetes.io/ingress-bandwidth".into(), "5".into());
        assert!(super::wish(&SandboxId::from("abc"), &config, &[]).is_err());
    }

    #[test]
    fn ranges_are_remembered_and_nonsense_is_not() {
        let folder = tempfile::tempdir().expect("folder");
        let open = || PodRanges::open(folder.path().join("ranges"));
        assert!(open().told().is_empty());
        let ranges = parse_ranges("10.1.0.0/24, fd00::/64").expect("valid");
        open().tell(ranges.clone(), None).expect("kept");
        assert_eq!(open().told(), ranges);
        assert!(parse_ranges("10.1.0.0/24,x").is_err());
        assert!(parse_ranges("").is_err());
    }
}
