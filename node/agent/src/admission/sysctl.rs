//! Kernel settings that a pod may make: those that concern nobody but itself.

use super::Refusal;
use crate::pod::Pod;

/// The namespace that keeps a setting from others.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Namespace {
    Network,
    Ipc,
}

/// Upstream's safe ones; every kernel this program runs on keeps them apart by namespace.
const SAFE: [(&str, Namespace); 12] = [
    ("kernel.shm_rmid_forced", Namespace::Ipc),
    ("net.ipv4.ip_local_port_range", Namespace::Network),
    ("net.ipv4.tcp_syncookies", Namespace::Network),
    ("net.ipv4.ping_group_range", Namespace::Network),
    ("net.ipv4.ip_unprivileged_port_start", Namespace::Network),
    ("net.ipv4.ip_local_reserved_ports", Namespace::Network),
    ("net.ipv4.tcp_keepalive_time", Namespace::Network),
    ("net.ipv4.tcp_fin_timeout", Namespace::Network),
    ("net.ipv4.tcp_keepalive_intvl", Namespace::Network),
    ("net.ipv4.tcp_keepalive_probes", Namespace::Network),
    ("net.ipv4.tcp_rmem", Namespace::Network),
    ("net.ipv4.tcp_wmem", Namespace::Network),
];

/// Errors: a setting that is not safe, or would be the node's own.
pub fn check(pod: &Pod) -> Result<(), Refusal> {
    for sysctl in &pod.spec.security_context.sysctls {
        let name = dotted(&sysctl.name);
        let forbidden = |why: String| Refusal::new("SysctlForbidden", format!("forbidden sysctl: {why}"));
        let Some((_, namespace)) = SAFE.iter().find(|(safe, _)| *safe == name) else {
            return Err(forbidden(format!("{name:?} not allowlisted")));
        };
        match namespace {
            Namespace::Network if pod.spec.host_network => {
                return Err(forbidden(format!("{name:?} not allowed with host net enabled")));
            }
            Namespace::Ipc if pod.spec.host_ipc => {
                return Err(forbidden(format!("{name:?} not allowed with host ipc enabled")));
            }
            _ => {}
        }
    }
    Ok(())
}

/// A name with dots between its parts. With slashes it may be written too; the first separator says which
/// it is, and the other then belongs to a part (sysctl.d(5)).
pub fn dotted(name: &str) -> String {
    match name.find(['.', '/']).map(|at| name.as_bytes()[at]) {
        Some(b'/') => name
            .chars()
            .map(|c| match c {
                '/' => '.',
                '.' => '/',
                c => c,
            })
            .collect(),
        _ => name.to_owned(),
    }
}
