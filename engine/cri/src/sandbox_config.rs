//! From the interface's configuration of a sandbox to the engine's. Pure, but for the machine's host name.

use crate::container_config::check_selinux;
use crate::error::{Answer, invalid};
use crate::generated::v1::{
    DNSConfig, IDMapping, LinuxContainerResources, LinuxPodSandboxConfig, NamespaceMode, NamespaceOption,
    PodSandboxConfig, Protocol, UserNamespace,
};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use strata_engine::{Network, Resources, SandboxConfig, UserRange};
use strata_net::HostPort;

/// Whether pods may have user namespaces.
pub(crate) const USER_NAMESPACES: bool = true;
/// Longest line of names in resolv.conf (resolv.conf(5) since glibc 2.26: no limit; upstream 2048).
const MAX_SEARCH: usize = 2048;

/// The namespaces a sandbox is to have.
pub(crate) fn namespace_options(config: &PodSandboxConfig) -> NamespaceOption {
    let security = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let options = security.and_then(|security| security.namespace_options.clone());
    options.unwrap_or_default()
}

/// Who makes cgroups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CgroupDriver {
    /// This program, by directory.
    #[default]
    Cgroupfs,
    /// systemd: pods are slices, containers scopes in them.
    Systemd,
}

/// The engine's form. `cgroup` is for a pod that names no parent.
pub(crate) fn engine_config(
    config: &PodSandboxConfig,
    network: Network,
    cgroup: String,
    driver: CgroupDriver,
) -> Answer<SandboxConfig> {
    let metadata = config.metadata.clone().unwrap_or_default();
    if metadata.name.is_empty() || metadata.namespace.is_empty() || metadata.uid.is_empty() {
        return Err(invalid("the sandbox's metadata needs a name, a namespace and a uid"));
    }
    let options = namespace_options(config);
    let linux = config.linux.clone().unwrap_or_default();
    let security = linux.security_context.as_ref();
    check_selinux(security.and_then(|security| security.selinux_options.as_ref()))?;
    let host_network = check_modes(&options)?;
    let users = user_namespace(options.userns_options.as_ref())?;
    let (cgroup_parent, keep_cgroup) = match cgroup_parent(&linux.cgroup_parent)? {
        Some(parent) => (parent, true),
        None => (cgroup, false),
    };
    Ok(SandboxConfig {
        namespace: metadata.namespace,
        name: metadata.name,
        uid: metadata.uid,
        attempt: metadata.attempt,
        hostname: hostname(&config.hostname),
        log_dir: config.log_directory.clone().into(),
        network: if host_network { Network::Host } else { network },
        host_pid: options.pid() == NamespaceMode::Node,
        host_ipc: options.ipc() == NamespaceMode::Node,
        share_process_namespace: options.pid() == NamespaceMode::Pod,
        users: users.map(|(uids, gids)| UserRange {
            uid: uids.host_id,
            uids: uids.length,
            gid: gids.host_id,
            gids: gids.length,
        }),
        sysctls: linux.sysctls.clone(),
        resources: pod_resources(&linux),
        keep_cgroup,
        systemd: driver == CgroupDriver::Systemd,
        resolv_conf: resolv_conf(config.dns_config.as_ref())?,
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        ..SandboxConfig::new(cgroup_parent)
    })
}

/// Whether the network is the host's. Errors: modes that a sandbox cannot have.
fn check_modes(options: &NamespaceOption) -> Answer<bool> {
    for (what, mode) in [("network", options.network()), ("ipc", options.ipc())] {
        if matches!(mode, NamespaceMode::Container | NamespaceMode::Target) {
            return Err(invalid(format!("a sandbox cannot have {what} namespace mode {mode:?}")));
        }
    }
    Ok(options.network() == NamespaceMode::Node)
}

/// The range of ids of a pod's own user namespace.
pub(crate) fn user_namespace(options: Option<&UserNamespace>) -> Answer<Option<(IDMapping, IDMapping)>> {
    let Some(options) = options else { return Ok(None) };
    let one = |list: &[IDMapping]| match list {
        [one] if one.container_id == 0 && one.length > 0 => Ok(one.clone()),
        [_] => Err(invalid("the user namespace's mapping must begin at container id 0")),
        list => Err(invalid(format!("a user namespace has one mapping, not {}", list.len()))),
    };
    match options.mode() {
        NamespaceMode::Node if options.uids.is_empty() && options.gids.is_empty() => Ok(None),
        NamespaceMode::Node => Err(invalid("the node's user namespace has no mappings")),
        NamespaceMode::Pod => Ok(Some((one(&options.uids)?, one(&options.gids)?))),
        mode => Err(invalid(format!("unsupported user namespace mode {mode:?}"))),
    }
}

fn hostname(wanted: &str) -> String {
    if wanted.is_empty() {
        rustix::system::uname().nodename().to_string_lossy().into_owned()
    } else {
        wanted.to_owned()
    }
}

/// The parent's path in each hierarchy; a slice's name is the way to it.
fn cgroup_parent(parent: &str) -> Answer<Option<String>> {
    if parent.is_empty() {
        return Ok(None);
    }
    let bad = || invalid(format!("cgroup parent {parent:?} is malformed"));
    let path = match parent.strip_suffix(".slice") {
        Some(name) if !parent.contains('/') => slices(name).ok_or_else(bad)?,
        _ if parent.starts_with('/') => parent.to_owned(),
        _ => format!("/{parent}"),
    };
    let sound = |part: &str| part != "." && part != ".." && !part.contains(['\0', '\n']);
    let inside = path.trim_matches('/');
    if inside.is_empty() || !inside.split('/').all(sound) {
        return Err(bad());
    }
    Ok(Some(format!("/{inside}")))
}

/// The cgroup of a pod that names none, below that of its server.
pub(crate) fn own_cgroup(root: &str, pod: &str, driver: CgroupDriver) -> Answer<String> {
    match driver {
        CgroupDriver::Cgroupfs => Ok(format!("{root}/pod{pod}")),
        CgroupDriver::Systemd => {
            let name = format!("{}-pod{pod}", root.trim_matches('/'));
            slices(&name).ok_or_else(|| invalid(format!("{name:?} is no name of a slice")))
        }
    }
}

/// systemd.slice(5): `a-b` is `a.slice/a-b.slice`.
fn slices(name: &str) -> Option<String> {
    let mut path = String::new();
    let mut so_far = String::new();
    for part in name.split('-') {
        if part.is_empty() {
            return None;
        }
        if !so_far.is_empty() {
            so_far.push('-');
        }
        so_far.push_str(part);
        path.push_str(&format!("/{so_far}.slice"));
    }
    Some(path)
}

/// What the pod's cgroup may use, where the caller says so for its containers and the overhead.
pub(crate) fn pod_resources(linux: &LinuxPodSandboxConfig) -> Option<Resources> {
    // A kubelet sets the limits of the pod's cgroup itself.
    if !linux.cgroup_parent.is_empty() {
        return None;
    }
    linux.resources.as_ref().map(resources)
}

/// Limits in the engine's form; 0 is none.
pub(crate) fn resources(limits: &LinuxContainerResources) -> Resources {
    let some = |value: i64| (value != 0).then_some(value);
    let positive = |value: i64| u64::try_from(value).ok().filter(|value| *value > 0);
    let text = |value: &String| (!value.is_empty()).then(|| value.clone());
    Resources {
        cpu_shares: positive(limits.cpu_shares),
        cpu_quota: some(limits.cpu_quota),
        cpu_period: positive(limits.cpu_period),
        cpuset_cpus: text(&limits.cpuset_cpus),
        cpuset_mems: text(&limits.cpuset_mems),
        memory_limit: some(limits.memory_limit_in_bytes),
        memory_swap: some(limits.memory_swap_limit_in_bytes),
        oom_score_adj: i32::try_from(limits.oom_score_adj).ok(),
        hugepages: limits
            .hugepage_limits
            .iter()
            .map(|limit| (limit.page_size.clone(), limit.limit))
            .collect(),
        unified: limits.unified.clone(),
        ..Resources::default()
    }
}

/// resolv.conf(5); `None` is the machine's own.
fn resolv_conf(config: Option<&DNSConfig>) -> Answer<Option<String>> {
    let Some(config) = config else { return Ok(None) };
    if config.servers.is_empty() && config.searches.is_empty() && config.options.is_empty() {
        return Ok(None);
    }
    let words = [&config.servers, &config.searches, &config.options];
    if words
        .into_iter()
        .flatten()
        .any(|word| word.contains(char::is_whitespace))
    {
        return Err(invalid("a word of the DNS configuration holds white space"));
    }
    let search = config.searches.join(" ");
    if search.len() > MAX_SEARCH {
        return Err(invalid(format!(
            "the DNS search list is longer than {MAX_SEARCH} characters"
        )));
    }
    let mut text = String::new();
    if !search.is_empty() {
        text.push_str(&format!("search {search}\n"));
    }
    for server in &config.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !config.options.is_empty() {
        text.push_str(&format!("options {}\n", config.options.join(" ")));
    }
    Ok(Some(text))
}

/// The ports of this host that lead to the pod.
pub(crate) fn host_ports(config: &PodSandboxConfig, pod: Ipv4Addr) -> Answer<Vec<HostPort>> {
    let wanted = config.port_mappings.iter().filter(|mapping| mapping.host_port > 0);
    let mut ports = BTreeMap::new();
    for mapping in wanted {
        let bad = |what: &str| invalid(format!("port mapping {mapping:?}: bad {what}"));
        let port = |number: i32| u16::try_from(number).ok().filter(|port| *port > 0);
        let address = match mapping.host_ip.as_str() {
            "" => Ipv4Addr::UNSPECIFIED,
            text => match text.parse::<std::net::IpAddr>().map_err(|_| bad("host address"))? {
                std::net::IpAddr::V4(address) => address,
                // Every address, of whatever family.
                std::net::IpAddr::V6(address) if address.is_unspecified() => Ipv4Addr::UNSPECIFIED,
                std::net::IpAddr::V6(address) => {
                    let why =
                        format!("host address {address} leads to no pod: pods of this network have IPv4 addresses");
                    return Err(invalid(why));
                }
            },
        };
        let protocol = match mapping.protocol() {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        };
        let host = port(mapping.host_port).ok_or_else(|| bad("host port"))?;
        let inside = port(mapping.container_port).ok_or_else(|| bad("container port"))?;
        let made = HostPort {
            protocol,
            address,
            port: host,
            to: SocketAddrV4::new(pod, inside),
        };
        if ports.insert((protocol, address, host), made).is_some() {
            return Err(bad("host port: it is mapped twice"));
        }
    }
    Ok(ports.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_a_path_or_a_slice() {
        let path = |text: &str| cgroup_parent(text).ok().flatten();
        assert_eq!(path("/kubepods/pod1").as_deref(), Some("/kubepods/pod1"));
        assert_eq!(
            path("kubepods-besteffort-pod1.slice").as_deref(),
            Some("/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1.slice")
        );
        assert_eq!(path("/a.slice/b/").as_deref(), Some("/a.slice/b"));
        for bad in ["/", "/a/../b", "a--b.slice", "/a/./b", "/a\n"] {
            assert!(cgroup_parent(bad).is_err(), "{bad:?}");
        }
        assert_eq!(path(""), None);
        let own = |driver| own_cgroup("/strata-ab", "1", driver).expect("valid");
        assert_eq!(own(CgroupDriver::Cgroupfs), "/strata-ab/pod1");
        assert_eq!(
            own(CgroupDriver::Systemd),
            "/strata.slice/strata-ab.slice/strata-ab-pod1.slice"
        );
    }

    #[test]
    fn a_user_namespace_has_one_mapping_from_zero() {
        let mapping = |container_id| IDMapping {
            container_id,
            host_id: 1000,
            length: 10,
        };
        let of = |mode: NamespaceMode, list: Vec<IDMapping>| {
            user_namespace(Some(&UserNamespace {
                mode: mode.into(),
                uids: list.clone(),
                gids: list,
            }))
        };
        assert!(of(NamespaceMode::Pod, vec![mapping(0)]).expect("valid").is_some());
        assert!(of(NamespaceMode::Node, vec![]).expect("valid").is_none());
        assert!(of(NamespaceMode::Pod, vec![mapping(1)]).is_err());
        assert!(of(NamespaceMode::Pod, vec![mapping(0), mapping(0)]).is_err());
        assert!(of(NamespaceMode::Container, vec![]).is_err());
        assert!(of(NamespaceMode::Target, vec![]).is_err());
    }

    #[test]
    fn ports_of_the_host_lead_to_pods_or_are_refused() {
        let of = |list: &[(&str, i32)]| {
            let mapping = |(address, port): &(&str, i32)| crate::generated::v1::PortMapping {
                container_port: 80,
                host_port: *port,
                host_ip: (*address).to_owned(),
                ..Default::default()
            };
            let config = PodSandboxConfig {
                port_mappings: list.iter().map(mapping).collect(),
                ..PodSandboxConfig::default()
            };
            host_ports(&config, Ipv4Addr::new(10, 0, 0, 2)).map(|ports| ports.len())
        };
        assert_eq!(of(&[("", 80), ("127.0.0.1", 81), ("::", 82), ("", 0)]).ok(), Some(3));
        for bad in [
            &[("::1", 80)][..],
            &[("x", 80)],
            &[("", 70_000)],
            &[("", 80), ("::", 80)],
        ] {
            assert!(of(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_are_looked_up_as_configured_or_as_the_machine_does() {
        assert_eq!(resolv_conf(None).expect("valid"), None);
        assert_eq!(resolv_conf(Some(&DNSConfig::default())).expect("valid"), None);
        let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let config = DNSConfig {
            servers: list(&["10.10.10.10", "1.1.1.1"]),
            searches: list(&["a.example", "b.example"]),
            options: list(&["ndots:8"]),
        };
        assert_eq!(
            resolv_conf(Some(&config)).expect("valid").as_deref(),
            Some("search a.example b.example\nnameserver 10.10.10.10\nnameserver 1.1.1.1\noptions ndots:8\n")
        );
        let hostile = DNSConfig {
            servers: list(&["1.1.1.1\nnameserver 2.2.2.2"]),
            ..DNSConfig::default()
        };
        assert!(resolv_conf(Some(&hostile)).is_err());
    }
}
