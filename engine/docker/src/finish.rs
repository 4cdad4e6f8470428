//! What the engine does not know of a container, laid over its specification last.

use crate::check::device_rule;
use crate::config::{Config, HostConfig, Throttle, WeightDevice};
use crate::error::Answer;
use crate::spec::{Joined, bind};
use std::path::Path;
use strata_engine::Finish;
use strata_runtime::spec::{BlockIo, ConsoleSize, DeviceRule, Linux, Mount, Namespace, NamespaceKind, Rlimit, Spec};

/// Files of this machine that every container has.
const FILES: [&str; 3] = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];

/// Everything that is laid over, worked out before.
struct Last {
    mounts: Vec<Mount>,
    joined: Joined,
    rlimits: Vec<Rlimit>,
    console: Option<ConsoleSize>,
    domain: String,
    read_only_root: bool,
    without_shm: bool,
    masked: Option<Vec<String>>,
    read_only: Option<Vec<String>>,
    cgroup_namespace: Option<bool>,
    device_rules: Vec<DeviceRule>,
    block_io: Option<BlockIo>,
    swappiness: Option<u64>,
    disable_oom_killer: Option<bool>,
}

/// `own` are mounts besides the usual ones, which they replace.
pub(crate) fn finish(config: &Config, host: &HostConfig, own: Vec<Mount>, joined: Joined) -> Answer<Finish> {
    let last = Last {
        mounts: own,
        joined,
        rlimits: rlimits(host),
        console: match host.console_size[..] {
            [height, width] if config.tty && height > 0 && width > 0 => Some(ConsoleSize { height, width }),
            _ => None,
        },
        // The host's name is not the container's to change.
        domain: match host.uts_mode.as_str() {
            "host" => String::new(),
            _ => config.domainname.clone(),
        },
        read_only_root: host.readonly_rootfs,
        without_shm: host.ipc_mode == "none",
        masked: host.masked_paths.clone().filter(|_| !host.privileged),
        read_only: host.readonly_paths.clone().filter(|_| !host.privileged),
        cgroup_namespace: match host.cgroupns_mode.as_str() {
            "private" => Some(true),
            "host" => Some(false),
            _ => None,
        },
        device_rules: host
            .device_cgroup_rules
            .iter()
            .filter_map(|rule| device_rule(rule))
            .collect(),
        block_io: block_io(host)?,
        swappiness: host.memory_swappiness.and_then(|value| u64::try_from(value).ok()),
        disable_oom_killer: host.oom_kill_disable.filter(|on| *on),
    };
    Ok(Finish::new(move |spec: &mut Spec| last.apply(spec)))
}

fn rlimits(host: &HostConfig) -> Vec<Rlimit> {
    let number = |value: i64| u64::try_from(value).unwrap_or(u64::MAX);
    let one = |limit: &crate::config::Ulimit| Rlimit {
        kind: format!("RLIMIT_{}", limit.name.to_ascii_uppercase()),
        hard: number(limit.hard),
        soft: number(limit.soft),
    };
    host.ulimits.iter().map(one).collect()
}

fn block_io(host: &HostConfig) -> Answer<Option<BlockIo>> {
    // Told when the container was made.
    let weights = crate::check::has_weights();
    let all = BlockIo {
        weight: Some(host.blkio_weight).filter(|weight| weights && *weight > 0),
        weight_device: match weights {
            true => WeightDevice::resolved(&host.blkio_weight_device)?,
            false => Vec::new(),
        },
        throttle_read_bps_device: Throttle::resolved(&host.blkio_device_read_bps)?,
        throttle_write_bps_device: Throttle::resolved(&host.blkio_device_write_bps)?,
        throttle_read_iops_device: Throttle::resolved(&host.blkio_device_read_iops)?,
        throttle_write_iops_device: Throttle::resolved(&host.blkio_device_write_iops)?,
        ..BlockIo::default()
    };
    let limits = [
        &all.throttle_read_bps_device,
        &all.throttle_write_bps_device,
        &all.throttle_read_iops_device,
        &all.throttle_write_iops_device,
    ];
    let any = all.weight.is_some() || !all.weight_device.is_empty() || limits.iter().any(|limit| !limit.is_empty());
    Ok(any.then_some(all))
}

impl Last {
    fn apply(&self, spec: &mut Spec) {
        self.mounts(spec);
        self.domain.clone_into(&mut spec.domainname);
        if let Some(process) = &mut spec.process {
            process.rlimits.extend(self.rlimits.iter().cloned());
            process.console_size = self.console;
        }
        let Some(linux) = &mut spec.linux else { return };
        self.namespaces(linux);
        if let Some(masked) = &self.masked {
            linux.masked_paths.clone_from(masked);
        }
        if let Some(read_only) = &self.read_only {
            linux.readonly_paths.clone_from(read_only);
        }
        self.limits(linux);
    }

    fn mounts(&self, spec: &mut Spec) {
        let own = |place: &str| self.mounts.iter().any(|own| own.destination == place);
        spec.mounts.retain(|usual| !own(&usual.destination));
        let others = self.joined.shm.as_ref();
        if others.is_some() || self.without_shm {
            spec.mounts
                .retain(|mount| mount.destination != "/dev/shm" || own("/dev/shm"));
        }
        spec.mounts
            .extend(others.map(|shm| bind(Path::new(shm), "/dev/shm", "rw")));
        spec.mounts.extend(self.mounts.iter().cloned());
        if self.read_only_root {
            // The machine's files inside stay writable only as far as docker leaves them so.
            let ours = |mount: &&mut Mount| FILES.contains(&mount.destination.as_str());
            for mount in spec.mounts.iter_mut().filter(ours) {
                mount.options = ["rbind", "rprivate", "ro"].map(str::to_owned).into();
            }
        }
    }

    fn namespaces(&self, linux: &mut Linux) {
        for (kind, path) in [
            (NamespaceKind::Network, &self.joined.network),
            (NamespaceKind::Ipc, &self.joined.ipc),
            (NamespaceKind::Pid, &self.joined.pid),
            (NamespaceKind::Uts, &self.joined.uts),
        ] {
            if let Some(path) = path {
                linux.namespaces.retain(|known| known.kind != kind);
                linux.namespaces.push(Namespace {
                    kind,
                    path: path.clone(),
                });
            }
        }
        if let Some(own) = self.cgroup_namespace {
            linux.namespaces.retain(|known| known.kind != NamespaceKind::Cgroup);
            if own {
                linux.namespaces.push(Namespace {
                    kind: NamespaceKind::Cgroup,
                    path: String::new(),
                });
            }
        }
    }

    fn limits(&self, linux: &mut Linux) {
        let Some(resources) = &mut linux.resources else {
            return;
        };
        if let Some(memory) = &mut resources.memory {
            memory.disable_oom_killer = self.disable_oom_killer;
            memory.swappiness = self.swappiness;
        }
        resources.devices.extend(self.device_rules.iter().cloned());
        if self.block_io.is_some() {
            resources.block_io.clone_from(&self.block_io);
        }
    }
}
