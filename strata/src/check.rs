//! Whether this machine is fit to run a node.

use crate::{
    cli::Output,
    failure::{Outcome, fail},
};
use serde::Serialize;
use std::{fs, path::Path, process::ExitCode};

/// One thing that was looked at.
#[derive(Serialize)]
struct Finding {
    what: &'static str,
    fit: bool,
    remedy: &'static str,
}

/// Refuses to go on without the rights a node needs.
pub fn privileges() -> Outcome {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    fail("a node needs root; run as root, or run the control plane alone with --no-node")
}

/// Prints what was found; exit code 1 if something is missing.
pub fn run(output: Output) -> Outcome<ExitCode> {
    let findings = look();
    match output {
        Output::Json => println!("{}", serde_json::json!(findings)),
        Output::Text => {
            for f in &findings {
                let (mark, remedy) = if f.fit { ("ok     ", "") } else { ("missing", f.remedy) };
                println!(
                    "{mark}  {}{}{remedy}",
                    f.what,
                    if remedy.is_empty() { "" } else { ": " }
                );
            }
        }
    }
    let fit = findings.iter().all(|f| f.fit);
    Ok(if fit { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn look() -> Vec<Finding> {
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_else(|_| String::new());
    let has_fs = |name: &str| {
        filesystems
            .lines()
            .any(|line| line.split_whitespace().last() == Some(name))
    };
    let exists = |path: &str| Path::new(path).exists();
    let finding = |what, fit, remedy| Finding { what, fit, remedy };
    vec![
        finding("running as root", rustix::process::geteuid().is_root(), "run as root"),
        finding(
            "overlayfs",
            has_fs("overlay"),
            "load the kernel module: modprobe overlay",
        ),
        finding(
            "network namespaces",
            exists("/proc/self/ns/net"),
            "use a kernel with CONFIG_NET_NS",
        ),
        finding(
            "pid namespaces",
            exists("/proc/self/ns/pid"),
            "use a kernel with CONFIG_PID_NS",
        ),
        finding(
            "cgroups",
            exists("/sys/fs/cgroup"),
            "mount the cgroup hierarchies below /sys/fs/cgroup",
        ),
        finding("nftables", nftables(), "load the kernel module: modprobe nf_tables"),
        finding(
            "seccomp filters",
            exists("/proc/sys/kernel/seccomp"),
            "use a kernel with CONFIG_SECCOMP_FILTER",
        ),
    ]
}

/// The kernel's netfilter answers on netlink.
fn nftables() -> bool {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, netlink, socket_with};
    socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::NETFILTER),
    )
    .is_ok()
}
