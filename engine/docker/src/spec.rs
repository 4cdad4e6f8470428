//! From a record to what the engine takes.

use crate::config::{Config, HostConfig};
use crate::daemon::Inner;
use crate::error::{Answer, ApiError};
use crate::finish::finish;
use crate::record::{LOG_NAME, Record};
use crate::{logopts, mounts};
use std::path::{Component, Path};
use strata_engine::{ContainerConfig, Device, Resources, SandboxConfig, Seccomp, Security};
use strata_image::Image;
use strata_runtime::spec::Mount;

/// Where the init of `--init` appears inside.
pub(crate) const INIT_INSIDE: &str = "/sbin/docker-init";
/// Microseconds over which a share of processors is counted.
const PERIOD: i64 = 100_000;

/// What a container takes over from others: namespaces by path.
#[derive(Clone, Debug, Default)]
pub(crate) struct Joined {
    pub network: Option<String>,
    pub ipc: Option<String>,
    pub pid: Option<String>,
    pub uts: Option<String>,
    /// /dev/shm of whom the IPC namespace is.
    pub shm: Option<String>,
}

/// The sandbox of a container.
pub(crate) fn sandbox(inner: &Inner, record: &Record, config: &Config, host: &HostConfig) -> SandboxConfig {
    let network = match host.network_mode.as_str() {
        "host" => strata_engine::Network::Host,
        _ => strata_engine::Network::None,
    };
    SandboxConfig {
        name: record.name.clone(),
        uid: record.id.clone(),
        attempt: record.restart_count,
        hostname: config.hostname.clone(),
        log_dir: inner.container_folder(&record.id),
        network,
        host_pid: host.pid_mode == "host",
        host_ipc: host.ipc_mode == "host",
        sysctls: host.sysctls.clone(),
        cgroup_parent: cgroup_of(&inner.options.cgroup_root, &host.cgroup_parent, &record.id),
        ..SandboxConfig::new("/")
    }
}

/// The cgroup of a container's sandbox: in the engine's, or in the one that the user names. A path that
/// leads up leads to the root at most.
pub(crate) fn cgroup_of(root: &str, parent: &str, id: &str) -> String {
    if parent.is_empty() {
        return format!("{root}/{id}");
    }
    let mut parts: Vec<&str> = Vec::new();
    for component in Path::new(parent).components() {
        match component {
            Component::Normal(part) => parts.extend(part.to_str()),
            Component::ParentDir => drop(parts.pop()),
            _ => {}
        }
    }
    parts.push(id);
    format!("/{}", parts.join("/"))
}

/// The cgroups that containers were given outside of the engine's own, of a daemon that kept its state in that
/// folder. What cannot be read has none.
pub fn cgroups_elsewhere(root: &Path) -> Vec<String> {
    let folders = std::fs::read_dir(root.join("containers"))
        .into_iter()
        .flatten()
        .flatten();
    let record = |folder: std::fs::DirEntry| -> Option<Record> {
        let text = std::fs::read(folder.path().join("container.json")).ok()?;
        serde_json::from_slice(&text).ok()
    };
    let parent = |record: &Record| record.host["CgroupParent"].as_str().unwrap_or("").to_owned();
    folders
        .filter_map(record)
        .filter(|record| !parent(record).is_empty())
        .map(|record| cgroup_of("", &parent(&record), &record.id))
        .collect()
}

/// The container itself. `files` are mounted besides what the record asks for.
pub(crate) fn container(
    inner: &Inner,
    record: &Record,
    (config, host): (&Config, &HostConfig),
    image: Image,
    files: Vec<Mount>,
    joined: Joined,
) -> Answer<ContainerConfig> {
    let mut all = ContainerConfig::new(record.name.clone(), image);
    let folder = inner.container_folder(&record.id);
    all.image_name.clone_from(&record.image);
    let mut command = record.command();
    let init = if host.init == Some(true) {
        inner.options.init.as_ref()
    } else {
        None
    };
    if let Some((_, arguments)) = init {
        let mut words = vec![INIT_INSIDE.to_owned()];
        words.extend(arguments.iter().cloned());
        words.append(&mut command);
        command = words;
    }
    all.command = Some(command);
    all.working_dir = Some(config.working_dir.clone());
    all.env = environment(config);
    all.devices = devices(host)?;
    all.security = security(host, config, &folder)?;
    all.resources = resources(host);
    all.cdi_devices = host
        .device_requests
        .iter()
        .flat_map(|request| request.device_ids.clone())
        .collect();
    all.tty = config.tty;
    all.stdin = config.open_stdin;
    // Who detaches from a terminal comes back to it.
    all.stdin_once = config.stdin_once && !config.tty;
    if host.log_config.kind != "none" {
        all.log_path = LOG_NAME.to_owned();
        all.log_rotation = Some(logopts::rotation(&host.log_config)?);
    }
    all.stop_signal = Some(config.stop_signal.clone());
    all.annotations = host.annotations.clone();
    all.writable = Some(folder);
    let mut own = files;
    own.extend(mounts::for_runtime(&record.mounts));
    if let Some((program, _)) = init {
        own.push(bind(program, INIT_INSIDE, "ro"));
    }
    all.finish = Some(finish(config, host, own, joined)?);
    Ok(all)
}

pub(crate) fn bind(source: &Path, inside: &str, access: &str) -> Mount {
    Mount {
        destination: inside.to_owned(),
        kind: "bind".into(),
        source: source.to_string_lossy().into_owned(),
        options: ["rbind", "rprivate", access].map(str::to_owned).into(),
        ..Mount::default()
    }
}

fn environment(config: &Config) -> Vec<(String, String)> {
    let pairs = config.env.iter().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn devices(host: &HostConfig) -> Answer<Vec<Device>> {
    for request in &host.device_requests {
        if request.driver != "cdi" {
            return Err(ApiError::internal(format!(
                "could not select device driver {:?} with capabilities: [[gpu]]",
                request.driver
            )));
        }
    }
    let permissions = |text: &str| {
        if text.is_empty() {
            "rwm".to_owned()
        } else {
            text.to_owned()
        }
    };
    let own = host.devices.iter().map(|device| Device {
        host_path: device.path_on_host.clone().into(),
        container_path: match device.path_in_container.as_str() {
            "" => device.path_on_host.clone().into(),
            inside => inside.into(),
        },
        permissions: permissions(&device.cgroup_permissions),
    });
    Ok(own.collect())
}

fn security(host: &HostConfig, config: &Config, folder: &Path) -> Answer<Security> {
    let mut all = Security {
        privileged: host.privileged,
        run_as_user_name: Some(config.user.clone()).filter(|user| !user.is_empty()),
        add_capabilities: host.cap_add.clone(),
        drop_capabilities: host.cap_drop.clone(),
        read_only_root_filesystem: host.readonly_rootfs,
        ..Security::default()
    };
    for group in &host.group_add {
        let number = group
            .parse()
            .map_err(|_| ApiError::invalid(format!("Unable to find group {group}: give its number")))?;
        all.supplemental_groups.push(number);
    }
    for option in &host.security_opt {
        let (key, value) = option
            .split_once('=')
            .or_else(|| option.split_once(':'))
            .unwrap_or((option, ""));
        match key {
            "no-new-privileges" => all.allow_privilege_escalation = matches!(value, "false"),
            "seccomp" if value == "unconfined" => all.seccomp = Seccomp::Unconfined,
            "seccomp" if value == "builtin" || value.is_empty() => {}
            "seccomp" => {
                let path = folder.join("seccomp.json");
                std::fs::write(&path, value).map_err(ApiError::io("write", &path))?;
                all.seccomp = Seccomp::Localhost(path);
            }
            "apparmor" if value == "unconfined" => {}
            // As docker: without AppArmor there is nothing to confine by.
            "apparmor" if strata_engine::has_apparmor() => all.apparmor_profile = Some(value.to_owned()),
            // SELinux is not there, or refuses when the container is made.
            "apparmor" | "label" => {}
            "systempaths" if value == "unconfined" => all.proc_mount_unmasked = true,
            _ => return Err(ApiError::invalid(format!("invalid --security-opt: {option:?}"))),
        }
    }
    Ok(all)
}

pub(crate) fn resources(host: &HostConfig) -> Resources {
    let positive = |value: i64| (value > 0).then_some(value);
    let unsigned = |value: i64| positive(value).and_then(|value| u64::try_from(value).ok());
    let text = |value: &str| Some(value.to_owned()).filter(|value| !value.is_empty());
    let (quota, period) = match host.nano_cpus {
        0 => (positive(host.cpu_quota), unsigned(host.cpu_period)),
        nanos => (Some(nanos * PERIOD / 1_000_000_000), Some(PERIOD as u64)),
    };
    Resources {
        cpu_shares: unsigned(host.cpu_shares),
        cpu_quota: quota,
        cpu_period: period,
        cpuset_cpus: text(&host.cpuset_cpus),
        cpuset_mems: text(&host.cpuset_mems),
        memory_limit: positive(host.memory),
        memory_reservation: positive(host.memory_reservation),
        memory_swap: match (host.memory, host.memory_swap) {
            // As docker: as much swap as memory.
            (memory, 0) if memory > 0 => Some(memory * 2),
            (_, 0) => None,
            (_, swap) => Some(swap),
        },
        pids_limit: host.pids_limit.filter(|limit| *limit != 0),
        oom_score_adj: Some(host.oom_score_adj).filter(|value| *value != 0),
        ..Resources::default()
    }
}

#[cfg(test)]
mod tests {
    use super::cgroup_of;

    #[test]
    fn a_cgroup_lies_in_the_one_that_is_named() {
        for (parent, expected) in [
            ("", "/s/id"),
            ("/a/b", "/a/b/id"),
            ("a", "/a/id"),
            ("../../x/./y", "/x/y/id"),
        ] {
            assert_eq!(cgroup_of("/s", parent, "id"), expected, "{parent}");
        }
    }
}
