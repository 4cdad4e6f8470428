//! A pod's container as the engine is asked to make it.

use crate::{
    env::expand,
    fields::PodView,
    options::AgentOptions,
    pod::{Container, Pod, SeccompProfile, VolumeMount},
    resources,
    subpath::{self, SubPathError},
};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};
use strata_engine::{
    ContainerConfig, ContainerId, ImageVolume, Mount, PidNamespace, Propagation, Resources, Seccomp, Security,
};
use strata_image::Image;
use strata_volume::PodVolumes;

/// Label that tells which pod a container or sandbox belongs to.
pub const POD_UID: &str = "io.kubernetes.pod.uid";
/// Label with the pod's name.
pub const POD_NAME: &str = "io.kubernetes.pod.name";
/// Label with the pod's namespace.
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// Label with the container's name.
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// Annotation with the image as the pod names it.
pub const IMAGE: &str = "strata.dev/image";

/// Why a container cannot be configured; the reason is CreateContainerConfigError.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A mount of a volume the pod does not have.
    #[error("cannot find volume {0:?} to mount into container {1:?}")]
    NoVolume(String, String),
    /// A path within a volume that cannot be used.
    #[error("failed to prepare subPath for volumeMount {0:?} of container {1:?}: {2}")]
    SubPath(String, String, SubPathError),
    /// The image's user is root and the pod forbids that.
    #[error("container has runAsNonRoot and image will run as root (pod: \"{0}\", container: {1})")]
    RunsAsRoot(String, String),
    /// The image's user is a name, which cannot be checked.
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({0}), cannot verify user is non-root (pod: \"{1}\", container: {2})"
    )]
    NamedUser(String, String, String),
    /// The container whose processes an ephemeral one should see does not run.
    #[error("unable to find target container {0}")]
    NoTarget(String),
    /// The file system refused.
    #[error("{0} {path}: {2}", path = .1.display())]
    Io(&'static str, PathBuf, io::Error),
}

/// Labels of a pod's sandbox and containers.
pub fn pod_labels(pod: &Pod) -> BTreeMap<String, String> {
    [
        (POD_UID, pod.metadata.uid.to_string()),
        (POD_NAME, pod.metadata.name.clone()),
        (POD_NAMESPACE, pod.metadata.namespace.clone()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// The pod's cgroup.
pub fn cgroup_parent(root: &str, pod: &Pod) -> String {
    let class = resources::qos_class(pod).cgroup();
    format!("{root}/kubepods{class}/pod{}", pod.metadata.uid)
}

/// The engine's form of requests and limits.
pub fn engine_resources(cgroup: resources::Cgroup) -> Resources {
    Resources {
        cpu_shares: Some(cgroup.cpu_shares),
        cpu_quota: cgroup.cpu_quota,
        cpu_period: cgroup.cpu_quota.map(|_| resources::CPU_PERIOD),
        memory_limit: cgroup.memory_limit,
        ..Resources::default()
    }
}

/// What a container is made of, beside the pod itself.
pub struct Parts<'a> {
    /// The agent's settings.
    pub options: &'a AgentOptions,
    /// The pod and its node.
    pub view: &'a PodView<'a>,
    /// The container.
    pub container: &'a Container,
    /// Which instance.
    pub attempt: u32,
    /// Its image.
    pub image: Image,
    /// Where the pod's volumes are.
    pub volumes: &'a PodVolumes,
    /// The images that are volumes, by volume.
    pub image_volumes: BTreeMap<String, Image>,
    /// Its environment.
    pub env: Vec<(String, String)>,
    /// The pod's own directory on the node.
    pub pod_dir: &'a Path,
    /// The container whose processes it sees; an empty id if that does not run.
    pub target: Option<ContainerId>,
}

/// The configuration of a container. Blocks on the file system.
pub fn configure(parts: Parts<'_>) -> Result<ContainerConfig, ConfigError> {
    let Parts { view, container, .. } = &parts;
    let pod = view.pod;
    let lookup = |name: &str| parts.env.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
    let words = |list: &[String]| -> Option<Vec<String>> {
        (!list.is_empty()).then(|| list.iter().map(|word| expand(word, &lookup)).collect())
    };
    let mut mounts = volume_mounts(&parts, &lookup)?;
    mounts.extend(file_mounts(&parts)?);
    for mount in &mut mounts {
        mount.mapped = pod.has_own_users();
    }
    let image_volumes = image_volumes(&parts, &lookup);
    let mut config = ContainerConfig::new(&container.name, parts.image.clone());
    config.attempt = parts.attempt;
    config.image_name = container.image.clone();
    config.command = words(&container.command);
    config.args = words(&container.args);
    config.working_dir = Some(container.working_dir.clone()).filter(|dir| !dir.is_empty());
    config.mounts = mounts;
    config.image_volumes = image_volumes;
    config.security = security(pod, container, &parts.image, &parts.options.seccomp_dir)?;
    config.resources = Resources {
        oom_score_adj: Some(resources::oom_score_adj(pod, container, view.node.memory_bytes)),
        ..engine_resources(resources::container_cgroup(container))
    };
    (config.tty, config.stdin, config.stdin_once) = (container.tty, container.stdin, container.stdin_once);
    config.log_path = format!("{}/{}.log", container.name, parts.attempt);
    config.stop_signal = container.lifecycle.stop_signal.clone();
    config.pid = match &parts.target {
        None => PidNamespace::Sandbox,
        // One namespace for all holds the target's processes already.
        Some(_) if pod.spec.share_process_namespace == Some(true) || pod.spec.host_pid => PidNamespace::Sandbox,
        Some(target) if target.as_str().is_empty() => {
            return Err(ConfigError::NoTarget(container.target_container_name.clone()));
        }
        Some(target) => PidNamespace::Of(target.clone()),
    };
    config.labels = pod_labels(pod);
    config.labels.insert(CONTAINER_NAME.to_owned(), container.name.clone());
    config.annotations.insert(IMAGE.to_owned(), container.image.clone());
    config.env = parts.env;
    Ok(config)
}

fn volume_mounts(parts: &Parts<'_>, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Vec<Mount>, ConfigError> {
    let container = parts.container;
    let mut mounts = Vec::new();
    let of_images = |mount: &VolumeMount| parts.image_volumes.contains_key(&mount.name);
    let mounts_of_paths = container.volume_mounts.iter().enumerate();
    for (index, mount) in mounts_of_paths.filter(|(_, mount)| !of_images(mount)) {
        let volume = parts.volumes.paths.get(&mount.name);
        let volume = volume.ok_or_else(|| ConfigError::NoVolume(mount.name.clone(), container.name.clone()))?;
        let read_only = mount.read_only || parts.volumes.read_only.contains(&mount.name);
        let sub_path = sub_path(mount, lookup);
        let host_path = if sub_path.is_empty() {
            volume.clone()
        } else {
            let pin = parts
                .pod_dir
                .join("volume-subpaths")
                .join(&mount.name)
                .join(&container.name)
                .join(index.to_string());
            subpath::pin(volume, &sub_path, &pin, read_only)
                .map_err(|e| ConfigError::SubPath(mount.name.clone(), container.name.clone(), e))?
        };
        mounts.push(Mount {
            host_path,
            container_path: container_path(mount),
            read_only,
            recursive_read_only: matches!(mount.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible")),
            propagation: match mount.mount_propagation.as_deref() {
                Some("HostToContainer") => Propagation::HostToContainer,
                Some("Bidirectional") => Propagation::Bidirectional,
                _ => Propagation::Private,
            },
            ..Mount::default()
        });
    }
    Ok(mounts)
}

fn image_volumes(parts: &Parts<'_>, lookup: &dyn Fn(&str) -> Option<String>) -> Vec<ImageVolume> {
    let volume = |mount: &VolumeMount| {
        Some(ImageVolume {
            image: parts.image_volumes.get(&mount.name)?.clone(),
            sub_path: sub_path(mount, lookup),
            container_path: container_path(mount),
        })
    };
    parts.container.volume_mounts.iter().filter_map(volume).collect()
}

fn sub_path(mount: &VolumeMount, lookup: &dyn Fn(&str) -> Option<String>) -> String {
    match mount.sub_path_expr.as_str() {
        "" => mount.sub_path.clone(),
        expression => expand(expression, lookup),
    }
}

fn container_path(mount: &VolumeMount) -> PathBuf {
    Path::new("/").join(&mount.mount_path)
}

/// hosts, resolv.conf, hostname and the termination message, unless a volume is mounted there.
fn file_mounts(parts: &Parts<'_>) -> Result<Vec<Mount>, ConfigError> {
    let container = parts.container;
    let taken = |path: &str| {
        container
            .volume_mounts
            .iter()
            .any(|m| container_path(m) == Path::new(path))
    };
    let mut mounts = Vec::new();
    for (path, name) in [
        ("/etc/hosts", "etc-hosts"),
        ("/etc/resolv.conf", "resolv.conf"),
        ("/etc/hostname", "hostname"),
    ] {
        if !taken(path) {
            mounts.push(plain_mount(parts.pod_dir.join(name), path));
        }
    }
    let message = container.termination_message_path.as_str();
    if !message.is_empty() {
        let host = termination_file(parts.pod_dir, &container.name, parts.attempt);
        if let Some(dir) = host.parent() {
            fs::create_dir_all(dir).map_err(|e| ConfigError::Io("creating", dir.to_owned(), e))?;
        }
        fs::write(&host, b"").map_err(|e| ConfigError::Io("creating", host.clone(), e))?;
        // Whatever user the container runs as may leave its message.
        fs::set_permissions(&host, std::os::unix::fs::PermissionsExt::from_mode(0o666))
            .map_err(|e| ConfigError::Io("setting mode of", host.clone(), e))?;
        mounts.push(plain_mount(host, message));
    }
    Ok(mounts)
}

fn plain_mount(host_path: PathBuf, container_path: &str) -> Mount {
    Mount {
        host_path,
        container_path: container_path.into(),
        ..Mount::default()
    }
}

/// Where the termination message of an instance is on the node.
pub fn termination_file(pod_dir: &Path, container: &str, attempt: u32) -> PathBuf {
    pod_dir.join("containers").join(container).join(attempt.to_string())
}

fn security(pod: &Pod, container: &Container, image: &Image, profiles: &Path) -> Result<Security, ConfigError> {
    let (own, shared) = (&container.security_context, &pod.spec.security_context);
    let privileged = own.privileged == Some(true);
    let run_as_user = own.run_as_user.or(shared.run_as_user);
    let non_root = own.run_as_non_root.or(shared.run_as_non_root) == Some(true);
    if non_root {
        check_non_root(pod, container, run_as_user, &image.config.user)?;
    }
    let added = |name: &str| own.capabilities.add.iter().any(|c| c.eq_ignore_ascii_case(name));
    Ok(Security {
        privileged,
        run_as_user,
        run_as_group: own.run_as_group.or(shared.run_as_group),
        supplemental_groups: shared.supplemental_groups.clone(),
        strict_supplemental_groups: shared.supplemental_groups_policy.as_deref() == Some("Strict"),
        fs_group: shared.fs_group,
        add_capabilities: own.capabilities.add.clone(),
        drop_capabilities: own.capabilities.drop.clone(),
        read_only_root_filesystem: own.read_only_root_filesystem == Some(true),
        allow_privilege_escalation: own.allow_privilege_escalation.unwrap_or(true) || privileged || added("SYS_ADMIN"),
        seccomp: seccomp(
            own.seccomp_profile.as_ref().or(shared.seccomp_profile.as_ref()),
            profiles,
        ),
        proc_mount_unmasked: own.proc_mount.as_deref() == Some("Unmasked"),
        run_as_non_root: non_root,
        apparmor_profile: apparmor(own.app_armor_profile.as_ref().or(shared.app_armor_profile.as_ref())),
        ..Security::default()
    })
}

/// Without a word from the pod the default profile applies: secure needs no flag.
fn seccomp(profile: Option<&SeccompProfile>, profiles: &Path) -> Seccomp {
    match profile {
        Some(p) if p.kind == "Unconfined" => Seccomp::Unconfined,
        Some(p) if p.kind == "Localhost" => Seccomp::Localhost(profiles.join(&p.localhost_profile)),
        _ => Seccomp::RuntimeDefault,
    }
}

/// The one that is named; there is none by default.
fn apparmor(profile: Option<&SeccompProfile>) -> Option<String> {
    let named = profile.filter(|profile| profile.kind == "Localhost");
    named.map(|profile| profile.localhost_profile.clone())
}

fn check_non_root(pod: &Pod, container: &Container, user: Option<i64>, image_user: &str) -> Result<(), ConfigError> {
    let name = format!("{}_{}({})", pod.metadata.name, pod.metadata.namespace, pod.metadata.uid);
    let image_user = image_user.split(':').next().unwrap_or("");
    let uid = match user {
        Some(uid) => uid,
        None if image_user.is_empty() => 0,
        None => image_user
            .parse()
            .map_err(|_| ConfigError::NamedUser(image_user.to_owned(), name.clone(), container.name.clone()))?,
    };
    if uid == 0 {
        Err(ConfigError::RunsAsRoot(name, container.name.clone()))
    } else {
        Ok(())
    }
}
