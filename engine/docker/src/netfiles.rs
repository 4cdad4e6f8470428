//! The files by which a container finds others: /etc/hosts and /etc/resolv.conf.

use crate::config::{Config, HostConfig};
use crate::daemon::Inner;
use crate::error::{Answer, ApiError};
use crate::record::Record;
use crate::spec::bind;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use strata_runtime::spec::Mount;

/// Where the embedded resolver listens inside containers of named networks.
pub(crate) const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
/// Asked when the machine knows no server that a container could reach (as docker).
const PUBLIC: [&str; 2] = ["8.8.8.8", "8.8.4.4"];
/// Most servers and search domains that are read of a file.
const MAX_ENTRIES: usize = 16;

/// What a resolv.conf says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resolv {
    pub servers: Vec<IpAddr>,
    pub search: Vec<String>,
    pub options: Vec<String>,
}

impl Resolv {
    pub fn parse(text: &str) -> Self {
        let mut all = Self::default();
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let target = match words.next() {
                Some("nameserver") => {
                    all.servers
                        .extend(words.next().and_then(|word| word.parse::<IpAddr>().ok()));
                    continue;
                }
                Some("search" | "domain") => {
                    all.search.clear();
                    &mut all.search
                }
                Some("options") => &mut all.options,
                _ => continue,
            };
            target.extend(words.map(str::to_owned).take(MAX_ENTRIES));
        }
        all.servers.truncate(MAX_ENTRIES);
        all
    }

    /// The machine's, with what the user wants instead.
    pub fn of(host: &HostConfig) -> Self {
        let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_else(|error| {
            tracing::debug!(%error, "this machine has no /etc/resolv.conf");
            String::new()
        });
        let mut all = Self::parse(&text);
        let own: Vec<IpAddr> = host.dns.iter().filter_map(|text| text.parse().ok()).collect();
        if !own.is_empty() {
            all.servers = own;
        }
        if !host.dns_search.is_empty() {
            all.search = host
                .dns_search
                .iter()
                .filter(|domain| *domain != ".")
                .cloned()
                .collect();
        }
        if !host.dns_options.is_empty() {
            all.options.clone_from(&host.dns_options);
        }
        all
    }

    fn write(&self, servers: &[String]) -> String {
        let mut text: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
        if !self.search.is_empty() {
            text += &format!("search {}\n", self.search.join(" "));
        }
        if !self.options.is_empty() {
            text += &format!("options {}\n", self.options.join(" "));
        }
        text
    }
}

/// Writes the files and gives their mounts.
pub(crate) fn write(inner: &Inner, record: &Record, config: &Config, host: &HostConfig) -> Answer<Vec<Mount>> {
    let folder = inner.container_folder(&record.id);
    let mut mounts = Vec::new();
    let mut put = |name: &str, inside: &str, text: &str| -> Answer<()> {
        let path = folder.join(name);
        write_file(&path, text)?;
        mounts.push(bind(&path, inside, "rw"));
        Ok(())
    };
    if host.network_mode.starts_with("container:") {
        let other = host.network_mode.trim_start_matches("container:");
        let theirs = inner.container_folder(&inner.find(other)?.id);
        for (name, inside) in [
            ("hosts", "/etc/hosts"),
            ("resolv.conf", "/etc/resolv.conf"),
            ("hostname", "/etc/hostname"),
        ] {
            let path = theirs.join(name);
            if path.exists() {
                mounts.push(bind(&path, inside, "rw"));
            }
        }
        return Ok(mounts);
    }
    put("hosts", "/etc/hosts", &hosts(record, config, host)?)?;
    put("hostname", "/etc/hostname", &format!("{}\n", config.hostname))?;
    put("resolv.conf", "/etc/resolv.conf", &resolv(record, host))?;
    Ok(mounts)
}

/// Replaces the content, not the file: a running container has the file mounted.
fn write_file(path: &Path, text: &str) -> Answer<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).map_err(ApiError::io("write", path))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).map_err(ApiError::io("chmod", path))
}

/// Whether names are answered by the embedded resolver: everywhere but on the default network.
pub(crate) fn has_resolver(host: &HostConfig) -> bool {
    !matches!(host.network_mode.as_str(), "bridge" | "host" | "none") && !host.network_mode.starts_with("container:")
}

fn resolv(record: &Record, host: &HostConfig) -> String {
    let all = Resolv::of(host);
    if has_resolver(host) {
        let mut own = all.clone();
        if !own.options.iter().any(|option| option.starts_with("ndots")) {
            own.options.push("ndots:0".into());
        }
        return own.write(&[RESOLVER.to_string()]);
    }
    let local = record.network_mode() == "host";
    let reachable = all.servers.iter().filter(|server| local || !server.is_loopback());
    let mut servers: Vec<String> = reachable.map(IpAddr::to_string).collect();
    if servers.is_empty() && !matches!(record.network_mode(), "host" | "none") {
        servers = PUBLIC.map(str::to_owned).into();
    }
    all.write(&servers)
}

fn hosts(record: &Record, config: &Config, host: &HostConfig) -> Answer<String> {
    let mut text = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    text += "fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";
    let gateway = record.networks.values().find_map(|endpoint| endpoint.gateway);
    for entry in &host.extra_hosts {
        let (name, address) = entry
            .split_once([':', '='])
            .ok_or_else(|| ApiError::invalid(format!("bad format for add-host: {entry:?}")))?;
        let address = match address {
            "host-gateway" => gateway
                .map(|gateway| gateway.to_string())
                .ok_or_else(|| ApiError::invalid("unable to derive the IP value for host-gateway"))?,
            address => address.trim_matches(['[', ']']).to_owned(),
        };
        text += &format!("{address}\t{name}\n");
    }
    let full = match config.domainname.as_str() {
        "" => config.hostname.clone(),
        domain => format!("{}.{domain} {}", config.hostname, config.hostname),
    };
    for endpoint in record.networks.values() {
        if let Some(ip) = endpoint.ip {
            text += &format!("{ip}\t{full}\n");
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolv_conf_is_read_and_written() {
        let all = Resolv::parse("# c\nnameserver 10.0.0.1\nnameserver bad\nsearch a b\noptions ndots:2\n");
        assert_eq!(all.servers, [IpAddr::from([10, 0, 0, 1])]);
        assert_eq!(
            all.write(&["127.0.0.11".into()]),
            "nameserver 127.0.0.11\nsearch a b\noptions ndots:2\n"
        );
    }
}
