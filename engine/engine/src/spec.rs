//! From what a container is asked to be to its OCI specification. Pure, but for looking at devices.

use crate::devices::devices;
use crate::mounts::mounts;
use crate::record::SandboxRecord;
use crate::{ContainerConfig, Error, PidNamespace, Resources, Security, apparmor, capabilities, seccomp};
use std::path::{Path, PathBuf};
use strata_image::ImageConfig;
use strata_runtime::spec::{
    Capabilities, Cpu, HugepageLimit, Linux, Memory, Namespace, NamespaceKind, Pids, Process, Resources as Limits,
    Root, Spec, User,
};

const OCI_VERSION: &str = "1.2.0";
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Host paths that every container of a sandbox gets to see.
#[derive(Clone, Debug)]
pub(crate) struct SandboxFiles {
    /// Becomes /etc/hostname.
    pub hostname: PathBuf,
    /// Becomes /etc/resolv.conf.
    pub resolv_conf: Option<PathBuf>,
    /// Becomes /dev/shm.
    pub shm: PathBuf,
}

/// What no container sees of /proc and /sys unless it asks for it.
pub const MASKED_PATHS: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
/// What no container writes in /proc.
pub const READ_ONLY_PATHS: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The specification of a container. `unified`: the machine has cgroup v2; `pid`: the pid namespace to join.
pub(crate) fn build(
    sandbox: &SandboxRecord,
    files: &SandboxFiles,
    config: &ContainerConfig,
    rootfs: &Path,
    cgroup: String,
    unified: bool,
    pid: Option<String>,
) -> Result<Spec, Error> {
    let security = &config.security;
    let capabilities = capabilities::granted(security)?;
    let seccomp = if security.privileged {
        None
    } else {
        seccomp::filter(&config.security.seccomp, &capabilities)?
    };
    let masked = !security.privileged && !security.proc_mount_unmasked;
    let paths = |given: &Option<Vec<String>>, list: &[&str]| match (given, masked) {
        (Some(given), _) => given.clone(),
        (None, true) => list.iter().map(|path| (*path).to_owned()).collect(),
        (None, false) => Vec::new(),
    };
    let ambient = capabilities::ambient(security, &capabilities)?;
    let (devices, rules) = devices(config)?;
    Ok(Spec {
        oci_version: OCI_VERSION.into(),
        process: Some(Process {
            terminal: config.tty,
            user: user(&config.image.config, security)?,
            args: command_line(config)?,
            env: environment(sandbox, config),
            cwd: working_dir(config),
            capabilities: Some(Capabilities {
                inheritable: ambient.clone(),
                ambient,
                ..capabilities::sets(capabilities)
            }),
            no_new_privileges: !security.allow_privilege_escalation && !security.privileged,
            oom_score_adj: config.resources.oom_score_adj,
            apparmor_profile: apparmor::profile(security.apparmor_profile.as_deref())?,
            ..Process::default()
        }),
        root: Some(Root {
            path: text(rootfs)?,
            readonly: security.read_only_root_filesystem,
        }),
        mounts: mounts(sandbox, files, config)?,
        annotations: config.annotations.clone(),
        linux: Some(Linux {
            resources: Some(Limits {
                devices: rules,
                ..limits(&config.resources)
            }),
            cgroups_path: cgroup,
            namespaces: namespaces(sandbox, config, unified, pid),
            devices,
            seccomp,
            masked_paths: paths(&security.masked_paths, MASKED_PATHS),
            readonly_paths: paths(&security.readonly_paths, READ_ONLY_PATHS),
            ..Linux::default()
        }),
        ..Spec::default()
    })
}

/// Kubernetes' rule: `command` replaces the entrypoint and drops the image's arguments.
fn command_line(config: &ContainerConfig) -> Result<Vec<String>, Error> {
    let image = &config.image.config;
    let args = config.args.as_ref().filter(|args| !args.is_empty());
    let words: Vec<String> = match config.command.as_ref().filter(|command| !command.is_empty()) {
        Some(command) => command.iter().chain(args.into_iter().flatten()).cloned().collect(),
        None => image
            .entrypoint
            .iter()
            .chain(args.unwrap_or(&image.cmd))
            .cloned()
            .collect(),
    };
    if words.is_empty() {
        return Err(Error::InvalidConfig("no command specified".into()));
    }
    Ok(words)
}

fn environment(sandbox: &SandboxRecord, config: &ContainerConfig) -> Vec<String> {
    let mut env: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: &str| match env.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => value.clone_into(old),
        None => env.push((name.to_owned(), value.to_owned())),
    };
    let (path, default) = DEFAULT_PATH.split_once('=').unwrap_or(("PATH", ""));
    set(path, default);
    set("HOSTNAME", &sandbox.hostname);
    if config.tty {
        set("TERM", "xterm");
    }
    for line in &config.image.config.env {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        set(name, value);
    }
    for (name, value) in &config.env {
        set(name, value);
    }
    env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

fn working_dir(config: &ContainerConfig) -> String {
    let image = &config.image.config.working_dir;
    let chosen = config
        .working_dir
        .as_deref()
        .filter(|dir| !dir.is_empty())
        .unwrap_or(image);
    if chosen.starts_with('/') {
        chosen.to_owned()
    } else {
        format!("/{chosen}")
    }
}

/// The user as the runtime looks it up inside the root file system.
fn user(image: &ImageConfig, security: &Security) -> Result<User, Error> {
    let (image_user, image_group) = match image.user.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (image.user.as_str(), None),
    };
    let by_id = security
        .run_as_user
        .map(|uid| checked(uid, "runAsUser").map(|uid| uid.to_string()))
        .transpose()?;
    let own = by_id.or_else(|| security.run_as_user_name.clone().filter(|name| !name.is_empty()));
    let group = match (security.run_as_group, &own) {
        (Some(gid), _) => Some(checked(gid, "runAsGroup")?.to_string()),
        // The image's group belongs to the image's user.
        (None, Some(_)) => None,
        (None, None) => image_group.map(str::to_owned),
    };
    let name = match own {
        Some(name) => name,
        None if image_user.is_empty() => "0".to_owned(),
        None => image_user.to_owned(),
    };
    if security.run_as_non_root {
        refuse_root(&name)?;
    }
    let groups = security.supplemental_groups.iter().chain(&security.fs_group);
    Ok(User {
        additional_gids: groups
            .map(|gid| checked(*gid, "supplementalGroups"))
            .collect::<Result<_, _>>()?,
        username: match group {
            Some(group) => format!("{name}:{group}"),
            None => name,
        },
        merge_groups: !security.strict_supplemental_groups,
        strict_groups: security.strict_supplemental_groups,
        ..User::default()
    })
}

fn checked(id: i64, what: &str) -> Result<u32, Error> {
    u32::try_from(id)
        .ok()
        .filter(|id| *id <= i32::MAX as u32)
        .ok_or_else(|| Error::InvalidConfig(format!("{what} {id} must be between 0 and 2147483647")))
}

fn refuse_root(name: &str) -> Result<(), Error> {
    match name.parse::<u32>() {
        Ok(0) => Err(Error::InvalidConfig(
            "container has runAsNonRoot and image will run as root".into(),
        )),
        Ok(_) => Ok(()),
        Err(_) => Err(Error::InvalidConfig(format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root"
        ))),
    }
}

fn namespaces(sandbox: &SandboxRecord, config: &ContainerConfig, unified: bool, pid: Option<String>) -> Vec<Namespace> {
    let new = |kind| Namespace {
        kind,
        path: String::new(),
    };
    let mut list = vec![new(NamespaceKind::Mount)];
    match pid {
        Some(path) => list.push(Namespace {
            kind: NamespaceKind::Pid,
            path,
        }),
        None if !sandbox.host_pid || config.pid == PidNamespace::Own => list.push(new(NamespaceKind::Pid)),
        None => {}
    }
    // v1 paths are what monitoring inside of containers expects to see.
    if unified && !config.security.privileged {
        list.push(new(NamespaceKind::Cgroup));
    }
    list
}

/// A path in the shim's protocol, which is JSON.
pub(crate) fn text(path: &Path) -> Result<String, Error> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| Error::InvalidConfig(format!("path {} is not valid UTF-8", path.display())))
}

/// Limits in the runtime's form, without device rules.
pub(crate) fn limits(resources: &Resources) -> Limits {
    let Resources {
        cpu_shares,
        cpu_quota,
        cpu_period,
        cpuset_cpus,
        cpuset_mems,
        ..
    } = resources;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let cpu = Cpu {
        shares: *cpu_shares,
        quota: *cpu_quota,
        period: *cpu_period,
        cpus: text(cpuset_cpus),
        mems: text(cpuset_mems),
        ..Cpu::default()
    };
    let memory = Memory {
        limit: resources.memory_limit,
        reservation: resources.memory_reservation,
        // Without a word about swap a limit means that there is none.
        swap: resources.memory_swap.or(resources.memory_limit),
        ..Memory::default()
    };
    Limits {
        cpu: Some(cpu),
        memory: Some(memory),
        pids: resources.pids_limit.map(|limit| Pids { limit: Some(limit) }),
        hugepage_limits: resources
            .hugepages
            .iter()
            .map(|(size, limit)| HugepageLimit {
                page_size: size.clone(),
                limit: *limit,
            })
            .collect(),
        unified: resources.unified.clone(),
        ..Limits::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::sandbox_record;
    use strata_image::{Digest, Image};

    fn config(image: ImageConfig) -> ContainerConfig {
        let image = Image {
            id: Digest::of(b""),
            repo_tags: Vec::new(),
            repo_digests: Vec::new(),
            config: image,
            layers: Vec::new(),
            size: 0,
            created: None,
        };
        ContainerConfig::new("c", image)
    }

    fn words(text: &str) -> Vec<String> {
        text.split_ascii_whitespace().map(str::to_owned).collect()
    }

    fn built(config: &ContainerConfig) -> Spec {
        let files = SandboxFiles {
            hostname: "/h".into(),
            resolv_conf: Some("/r".into()),
            shm: "/s".into(),
        };
        build(
            &sandbox_record(),
            &files,
            config,
            Path::new("/rootfs"),
            "/pod/c".into(),
            false,
            None,
        )
        .expect("valid")
    }

    #[test]
    fn command_and_args_replace_the_images_as_kubernetes_says() {
        let image = || ImageConfig {
            entrypoint: words("/ep -a"),
            cmd: words("x y"),
            ..ImageConfig::default()
        };
        for (command, args, expected) in [
            (None, None, "/ep -a x y"),
            (None, Some("z"), "/ep -a z"),
            (Some("/cmd"), None, "/cmd"),
            (Some("/cmd"), Some("z"), "/cmd z"),
        ] {
            let mut config = config(image());
            config.command = command.map(words);
            config.args = args.map(words);
            assert_eq!(command_line(&config).expect("command"), words(expected));
        }
        assert!(command_line(&config(ImageConfig::default())).is_err());
    }

    #[test]
    fn the_last_value_of_a_variable_wins() {
        let mut config = config(ImageConfig {
            env: words("A=1 PATH=/image"),
            ..ImageConfig::default()
        });
        config.env = vec![("A".into(), "2".into()), ("B".into(), "x=y".into())];
        assert_eq!(
            environment(&sandbox_record(), &config),
            ["PATH=/image", "HOSTNAME=host", "A=2", "B=x=y"]
        );
    }

    #[test]
    fn users_come_from_the_pod_before_the_image() {
        let image = |user: &str| ImageConfig {
            user: user.into(),
            ..ImageConfig::default()
        };
        let who = |image_user: &str, uid: Option<i64>, gid: Option<i64>| {
            let security = Security {
                run_as_user: uid,
                run_as_group: gid,
                ..Security::default()
            };
            user(&image(image_user), &security).expect("valid").username
        };
        assert_eq!(who("", None, None), "0");
        assert_eq!(who("nginx:www", None, None), "nginx:www");
        assert_eq!(who("nginx:www", Some(1000), None), "1000");
        assert_eq!(who("nginx:www", None, Some(5)), "nginx:5");
        assert_eq!(who("", Some(7), Some(8)), "7:8");
        let strict = Security {
            run_as_non_root: true,
            ..Security::default()
        };
        for (name, refused) in [
            ("", true),
            ("0", true),
            ("nginx", true),
            ("1000", false),
            ("1000:0", false),
        ] {
            assert_eq!(user(&image(name), &strict).is_err(), refused, "{name}");
        }
        let huge = Security {
            run_as_user: Some(1 << 40),
            ..Security::default()
        };
        assert!(user(&image(""), &huge).is_err());
    }

    #[test]
    fn a_plain_container_is_confined_and_a_privileged_one_is_not() {
        let mut config = config(ImageConfig {
            cmd: words("sh"),
            ..ImageConfig::default()
        });
        config.security.allow_privilege_escalation = false;
        let plain = built(&config);
        let linux = plain.linux.expect("linux");
        assert!(linux.seccomp.is_some() && !linux.masked_paths.is_empty() && !linux.readonly_paths.is_empty());
        assert!(!linux.resources.expect("resources").devices[0].allow);
        assert!(plain.process.expect("process").no_new_privileges);
        config.security.privileged = true;
        let privileged = built(&config);
        let linux = privileged.linux.expect("linux");
        assert!(linux.seccomp.is_none() && linux.masked_paths.is_empty() && linux.readonly_paths.is_empty());
        assert!(linux.resources.expect("resources").devices[0].allow);
    }

    #[test]
    fn a_mount_of_the_user_replaces_the_usual_one() {
        let mut config = config(ImageConfig {
            cmd: words("sh"),
            ..ImageConfig::default()
        });
        let own = |path: &str| crate::Mount {
            host_path: "/x".into(),
            container_path: path.into(),
            ..Default::default()
        };
        config.mounts = vec![own("/etc/resolv.conf"), own("/dev/shm"), own("/data")];
        config.mounts[2].read_only = true;
        let mounts = built(&config).mounts;
        for path in ["/etc/resolv.conf", "/dev/shm", "/data", "/etc/hostname", "/proc"] {
            assert_eq!(
                mounts.iter().filter(|mount| mount.destination == path).count(),
                1,
                "{path}"
            );
        }
        let data = mounts.last().expect("mounts");
        assert_eq!(data.options, ["rbind", "rprivate", "ro"]);
    }
}
