//! resolv.conf and hosts files of pods. Pure.

use crate::pod::{DnsOption, Pod};
use std::{collections::BTreeMap, net::IpAddr};

/// Most nameservers the C library uses.
const MAX_NAMESERVERS: usize = 3;
/// Most search domains upstream gives.
const MAX_SEARCHES: usize = 32;

/// A resolv.conf in parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolv {
    /// Addresses asked, in order.
    pub nameservers: Vec<String>,
    /// Domains appended to short names.
    pub searches: Vec<String>,
    /// Options as `name` or `name:value`.
    pub options: Vec<String>,
}

impl Resolv {
    /// Reads the node's own file; lines that mean nothing are passed over.
    pub fn parse(text: &str) -> Self {
        let mut resolv = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => resolv.nameservers.extend(words.next().map(str::to_owned)),
                Some("search") => resolv.searches = words.map(str::to_owned).collect(),
                Some("options") => resolv.options = words.map(str::to_owned).collect(),
                _ => {}
            }
        }
        resolv
    }

    /// The file.
    pub fn render(&self) -> String {
        let mut text = String::new();
        if !self.searches.is_empty() {
            text.push_str(&format!("search {}\n", self.searches.join(" ")));
        }
        for server in &self.nameservers {
            text.push_str(&format!("nameserver {server}\n"));
        }
        if !self.options.is_empty() {
            text.push_str(&format!("options {}\n", self.options.join(" ")));
        }
        text
    }
}

/// The resolver configuration of a pod by its dnsPolicy and dnsConfig.
pub fn pod_resolv(pod: &Pod, cluster_dns: &[IpAddr], domain: &str, host: &Resolv) -> Resolv {
    let namespace = &pod.metadata.namespace;
    let policy = match (pod.spec.dns_policy.as_str(), pod.spec.host_network) {
        ("ClusterFirst", true) => "Default",
        ("ClusterFirstWithHostNet" | "", _) => "ClusterFirst",
        (policy, _) => policy,
    };
    let mut resolv = match policy {
        "None" => Resolv::default(),
        "ClusterFirst" if !cluster_dns.is_empty() => Resolv {
            nameservers: cluster_dns.iter().map(IpAddr::to_string).collect(),
            searches: [
                format!("{namespace}.svc.{domain}"),
                format!("svc.{domain}"),
                domain.to_owned(),
            ]
            .into_iter()
            .chain(host.searches.iter().cloned())
            .collect(),
            options: vec!["ndots:5".to_owned()],
        },
        _ => host.clone(),
    };
    if let Some(config) = &pod.spec.dns_config {
        extend_unique(&mut resolv.nameservers, &config.nameservers);
        extend_unique(&mut resolv.searches, &config.searches);
        resolv.options = merge_options(&resolv.options, &config.options);
    }
    resolv.nameservers.truncate(MAX_NAMESERVERS);
    resolv.searches.truncate(MAX_SEARCHES);
    resolv
}

fn extend_unique(list: &mut Vec<String>, more: &[String]) {
    for item in more {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
}

fn merge_options(present: &[String], more: &[DnsOption]) -> Vec<String> {
    let split = |o: &String| match o.split_once(':') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (o.clone(), None),
    };
    let mut merged: BTreeMap<String, Option<String>> = present.iter().map(split).collect();
    merged.extend(more.iter().map(|o| (o.name.clone(), o.value.clone())));
    let text = |(name, value): (String, Option<String>)| match value {
        Some(value) if !value.is_empty() => format!("{name}:{value}"),
        _ => name,
    };
    merged.into_iter().map(text).collect()
}

/// The pod's host name: its own, else its name up to what the kernel takes (63 bytes).
pub fn hostname(pod: &Pod) -> String {
    let name = match &pod.spec.hostname_override {
        Some(name) => name,
        None if pod.spec.hostname.is_empty() => &pod.metadata.name,
        None => &pod.spec.hostname,
    };
    name.chars()
        .take(63)
        .collect::<String>()
        .trim_end_matches(['-', '.'])
        .to_owned()
}

/// Longest host name that the kernel takes.
const HOSTNAME_MAX: usize = 64;

/// What the kernel is told as the pod's host name. Error: it is too long, in upstream's words.
pub fn node_name(pod: &Pod, domain: &str) -> Result<String, String> {
    match fqdn(pod, domain) {
        Some(fqdn) if pod.spec.set_hostname_as_fqdn == Some(true) && fqdn.len() > HOSTNAME_MAX => Err(format!(
            "Failed to construct FQDN from pod hostname and cluster domain, FQDN {fqdn} is too long ({HOSTNAME_MAX} is the max, {} characters requested)",
            fqdn.len()
        )),
        Some(fqdn) if pod.spec.set_hostname_as_fqdn == Some(true) => Ok(fqdn),
        _ => Ok(hostname(pod)),
    }
}

/// The pod's full domain name, if it has a subdomain.
pub fn fqdn(pod: &Pod, domain: &str) -> Option<String> {
    let (subdomain, namespace) = (&pod.spec.subdomain, &pod.metadata.namespace);
    let has = !subdomain.is_empty() && pod.spec.hostname_override.is_none();
    has.then(|| format!("{}.{subdomain}.{namespace}.svc.{domain}", hostname(pod)))
}

/// /etc/hosts of a pod that has its own network.
pub fn hosts_file(pod: &Pod, ip: &str, domain: &str) -> String {
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
    );
    if !ip.is_empty() {
        match fqdn(pod, domain) {
            Some(fqdn) => text.push_str(&format!("{ip}\t{fqdn}\t{}\n", hostname(pod))),
            None => text.push_str(&format!("{ip}\t{}\n", hostname(pod))),
        }
    }
    append_aliases(text, pod)
}

/// /etc/hosts of a pod in the node's network: the node's own and the aliases.
pub fn node_hosts_file(pod: &Pod, node: &str) -> String {
    append_aliases(format!("# Kubernetes-managed hosts file (host network).\n{node}"), pod)
}

fn append_aliases(mut text: String, pod: &Pod) -> String {
    if !pod.spec.host_aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
    }
    for alias in &pod.spec.host_aliases {
        text.push_str(&format!("{}\t{}\n", alias.ip, alias.hostnames.join("\t")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec})).expect("pod")
    }

    fn resolve(spec: serde_json::Value) -> Resolv {
        let host = Resolv::parse("nameserver 9.9.9.9\nsearch corp.example\noptions timeout:1\n");
        pod_resolv(&pod(spec), &["10.96.0.10".parse().expect("ip")], "cluster.local", &host)
    }

    #[test]
    fn the_policy_decides_whom_a_pod_asks() {
        let cluster = resolve(json!({"dnsPolicy": "ClusterFirst"}));
        assert_eq!(
            cluster.render(),
            "search n.svc.cluster.local svc.cluster.local cluster.local corp.example\nnameserver 10.96.0.10\noptions ndots:5\n"
        );
        assert_eq!(
            resolve(json!({"dnsPolicy": "ClusterFirst", "hostNetwork": true})).nameservers,
            ["9.9.9.9"]
        );
        assert_eq!(
            resolve(json!({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": true})),
            cluster
        );
        let own = resolve(json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"],
            "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}}));
        assert_eq!(own.render(), "nameserver 1.1.1.1\noptions edns0 ndots:2\n");
    }

    #[test]
    fn a_pod_is_called_what_it_asks_to_be_called() {
        let called = |spec| node_name(&pod(spec), "cluster.local");
        let full = json!({"hostname": "web", "subdomain": "sub", "setHostnameAsFQDN": true});
        assert_eq!(called(json!({"hostname": "web"})), Ok("web".into()));
        assert_eq!(called(full), Ok("web.sub.n.svc.cluster.local".into()));
        let other = json!({"hostname": "web", "subdomain": "sub", "hostnameOverride": "db.example"});
        assert_eq!(called(other), Ok("db.example".into()));
        let long = json!({"hostname": "w".repeat(50), "subdomain": "sub", "setHostnameAsFQDN": true});
        assert!(called(long).is_err_and(|why| why.contains("is too long (64 is the max, 74 characters requested)")));
    }

    #[test]
    fn hosts_files_name_the_pod_and_its_aliases() {
        let p = pod(
            json!({"hostname": "web", "subdomain": "sub", "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]}),
        );
        let text = hosts_file(&p, "10.1.0.2", "cluster.local");
        assert!(text.contains("10.1.0.2\tweb.sub.n.svc.cluster.local\tweb\n"), "{text}");
        assert!(text.ends_with("1.2.3.4\ta\tb\n"), "{text}");
    }
}
