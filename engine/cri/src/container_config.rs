//! From the interface's configuration of a container to the engine's.

use crate::error::{Answer, OrStatus, invalid, required};
use crate::generated::v1 as api;
use crate::generated::v1::{LinuxContainerSecurityContext, MountPropagation, NamespaceMode, SecurityProfile};
use crate::sandbox_config::resources;
use std::fs;
use std::path::{Path, PathBuf};
use strata_engine::{
    ContainerConfig, ContainerId, Device, ImageVolume, Mount, PidNamespace, Propagation, Seccomp, Security,
};
use strata_image::{Image, ImageStore};

/// The engine's form. Blocking: images of volumes are looked up. Nothing is changed.
pub(crate) fn engine_config(
    config: &api::ContainerConfig,
    image: Image,
    images: &ImageStore,
) -> Answer<ContainerConfig> {
    let metadata = required(config.metadata.clone(), "config.metadata")?;
    if metadata.name.is_empty() {
        return Err(invalid("the container's metadata needs a name"));
    }
    let linux = config.linux.clone().unwrap_or_default();
    let given = linux.security_context.clone().unwrap_or_default();
    let mut wanted = ContainerConfig::new(metadata.name, image);
    wanted.attempt = metadata.attempt;
    if let Some(spec) = &config.image {
        let name = [&spec.user_specified_image, &spec.image];
        wanted.image_name = name
            .into_iter()
            .find(|name| !name.is_empty())
            .cloned()
            .unwrap_or_default();
    }
    wanted.command = (!config.command.is_empty()).then(|| config.command.clone());
    wanted.args = (!config.args.is_empty()).then(|| config.args.clone());
    wanted.working_dir = (!config.working_dir.is_empty()).then(|| config.working_dir.clone());
    wanted.env = environment(&config.envs)?;
    let (volumes, binds): (Vec<_>, Vec<_>) = config.mounts.iter().partition(|mount| mount.image.is_some());
    wanted.mounts = binds.into_iter().map(mount).collect::<Answer<_>>()?;
    wanted.image_volumes = volumes
        .into_iter()
        .map(|mount| volume(mount, images))
        .collect::<Answer<_>>()?;
    wanted.cdi_devices = config.cdi_devices.iter().map(|device| device.name.clone()).collect();
    wanted.devices = config.devices.iter().map(device).collect();
    wanted.security = security(&given)?;
    wanted.resources = linux.resources.as_ref().map(resources).unwrap_or_default();
    (wanted.tty, wanted.stdin, wanted.stdin_once) = (config.tty, config.stdin, config.stdin_once);
    wanted.log_path = config.log_path.clone();
    wanted.stop_signal = stop_signal(config.stop_signal());
    wanted.pid = pid_namespace(&given)?;
    wanted.labels = config.labels.clone();
    wanted.annotations = config.annotations.clone();
    Ok(wanted)
}

fn environment(list: &[api::KeyValue]) -> Answer<Vec<(String, String)>> {
    let pair = |entry: &api::KeyValue| {
        let value = String::from_utf8(entry.value.clone());
        let value = value.map_err(|_| invalid(format!("the value of variable {:?} is not UTF-8", entry.key)))?;
        Ok((entry.key.clone(), value))
    };
    list.iter().map(pair).collect()
}

fn mount(mount: &api::Mount) -> Answer<Mount> {
    let path = &mount.container_path;
    if path.is_empty() {
        return Err(invalid("a mount has no path in the container"));
    }
    let propagation = match mount.propagation() {
        MountPropagation::PropagationPrivate => Propagation::Private,
        MountPropagation::PropagationHostToContainer => Propagation::HostToContainer,
        MountPropagation::PropagationBidirectional => Propagation::Bidirectional,
    };
    if mount.recursive_read_only && !(mount.readonly && propagation == Propagation::Private) {
        let why = format!("mount {path:?}: a recursive read-only mount must be read-only and private");
        return Err(invalid(why));
    }
    let host_path = PathBuf::from(&mount.host_path);
    if !host_path.is_absolute() {
        return Err(invalid(format!("host path {host_path:?} is not absolute")));
    }
    Ok(Mount {
        host_path,
        container_path: Path::new("/").join(path),
        read_only: mount.readonly,
        recursive_read_only: mount.recursive_read_only,
        propagation,
        // The mapping is the pod's own; there is no other.
        mapped: !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty(),
    })
}

fn volume(mount: &api::Mount, images: &ImageStore) -> Answer<ImageVolume> {
    let named = mount.image.as_ref().map_or("", |image| &image.image);
    if mount.container_path.is_empty() || !mount.host_path.is_empty() {
        return Err(invalid(
            "an image volume has a path in the container and none on the host",
        ));
    }
    let image = images.resolve(named).status()?;
    let image = image.ok_or_else(|| invalid(format!("image volume: image {named:?} not found")))?;
    Ok(ImageVolume {
        image,
        sub_path: mount.image_sub_path.clone(),
        container_path: Path::new("/").join(&mount.container_path),
    })
}

/// Makes folders where nothing is that is to be mounted, as docker did and everybody since. Blocking.
pub(crate) fn make_sources(mounts: &[Mount]) -> Answer<()> {
    mounts.iter().try_for_each(|mount| present(&mount.host_path))
}

fn present(path: &Path) -> Answer<()> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            fs::create_dir_all(path).map_err(|error| invalid(format!("failed to create host path {path:?}: {error}")))
        }
        Err(error) => Err(invalid(format!("failed to stat host path {path:?}: {error}"))),
    }
}

fn device(device: &api::Device) -> Device {
    let or = |text: &str, other: &str| {
        if text.is_empty() {
            other.to_owned()
        } else {
            text.to_owned()
        }
    };
    Device {
        host_path: device.host_path.clone().into(),
        container_path: or(&device.container_path, &device.host_path).into(),
        permissions: or(&device.permissions, "rwm"),
    }
}

fn security(given: &LinuxContainerSecurityContext) -> Answer<Security> {
    if given.run_as_group.is_some() && given.run_as_user.is_none() && given.run_as_username.is_empty() {
        return Err(invalid("user group is specified without user"));
    }
    if given.run_as_user.is_some() && !given.run_as_username.is_empty() {
        return Err(invalid("a user is specified both by id and by name"));
    }
    check_selinux(given.selinux_options.as_ref())?;
    let capabilities = given.capabilities.clone().unwrap_or_default();
    let privileged = given.privileged;
    // No list is an empty list: a caller that wants the usual paths covered names them.
    let paths = |list: &Vec<String>| Some(if privileged { Vec::new() } else { list.clone() });
    Ok(Security {
        privileged,
        run_as_user: given.run_as_user.as_ref().map(|user| user.value),
        run_as_group: given.run_as_group.as_ref().map(|group| group.value),
        run_as_user_name: (!given.run_as_username.is_empty()).then(|| given.run_as_username.clone()),
        supplemental_groups: given.supplemental_groups.clone(),
        strict_supplemental_groups: given.supplemental_groups_policy() == api::SupplementalGroupsPolicy::Strict,
        add_capabilities: capabilities.add_capabilities,
        drop_capabilities: capabilities.drop_capabilities,
        add_ambient_capabilities: capabilities.add_ambient_capabilities,
        read_only_root_filesystem: given.readonly_rootfs,
        allow_privilege_escalation: !given.no_new_privs,
        seccomp: seccomp(given)?,
        apparmor_profile: apparmor_profile(given),
        masked_paths: paths(&given.masked_paths),
        readonly_paths: paths(&given.readonly_paths),
        ..Security::default()
    })
}

/// The name of a loaded profile. There is no profile of our own, so the runtime's default is none.
fn apparmor_profile(given: &LinuxContainerSecurityContext) -> Option<String> {
    let local = |name: &str| name.strip_prefix("localhost/").map(str::to_owned);
    match &given.apparmor {
        Some(profile) if profile.profile_type() == api::ProfileType::Localhost => {
            Some(local(&profile.localhost_ref).unwrap_or_else(|| profile.localhost_ref.clone()))
        }
        Some(_) => None,
        None => local(&given.apparmor_profile),
    }
}

/// Labels mean nothing to a kernel without SELinux, and are left out as everybody does. Errors: with SELinux, where
/// they would not be applied.
pub(crate) fn check_selinux(options: Option<&api::SELinuxOption>) -> Answer<()> {
    let labelled = options.is_some_and(|options| *options != api::SELinuxOption::default());
    if labelled && Path::new("/sys/fs/selinux/enforce").exists() {
        return Err(invalid(
            "SELinux labels are not supported: the container would run under another one",
        ));
    }
    Ok(())
}

/// The interface's own rule: no profile is none.
fn seccomp(given: &LinuxContainerSecurityContext) -> Answer<Seccomp> {
    use api::ProfileType;
    let profile = match (&given.seccomp, given.seccomp_profile_path.as_str()) {
        (Some(profile), _) => profile.clone(),
        (None, "" | "unconfined") => return Ok(Seccomp::Unconfined),
        (None, "runtime/default" | "docker/default") => SecurityProfile::default(),
        (None, path) => SecurityProfile {
            profile_type: ProfileType::Localhost.into(),
            localhost_ref: path.to_owned(),
        },
    };
    Ok(match profile.profile_type() {
        ProfileType::RuntimeDefault => Seccomp::RuntimeDefault,
        ProfileType::Unconfined => Seccomp::Unconfined,
        ProfileType::Localhost => {
            let path = profile.localhost_ref.trim_start_matches("localhost/");
            if !path.starts_with('/') {
                return Err(invalid(format!("seccomp profile {path:?} is not an absolute path")));
            }
            Seccomp::Localhost(path.into())
        }
    })
}

fn pid_namespace(given: &LinuxContainerSecurityContext) -> Answer<PidNamespace> {
    let Some(options) = &given.namespace_options else {
        return Ok(PidNamespace::Sandbox);
    };
    Ok(match options.pid() {
        NamespaceMode::Pod | NamespaceMode::Node => PidNamespace::Sandbox,
        NamespaceMode::Container => PidNamespace::Own,
        NamespaceMode::Target if options.target_id.is_empty() => {
            return Err(invalid("the pid namespace's target is missing"));
        }
        NamespaceMode::Target => PidNamespace::Of(ContainerId::from(options.target_id.as_str())),
    })
}

/// `SIGRTMINPLUS3` is `SIGRTMIN+3`.
fn stop_signal(signal: api::Signal) -> Option<String> {
    if signal == api::Signal::RuntimeDefault {
        return None;
    }
    let name = signal_name(signal);
    Some(name.replace("PLUS", "+").replace("MINUS", "-"))
}

/// The name in the interface: `Sigterm` is `SIGTERM`.
fn signal_name(signal: api::Signal) -> String {
    format!("{signal:?}").to_ascii_uppercase()
}

/// The signal with that name or number in the interface's numbers; an empty one is SIGTERM.
pub(crate) fn signal_of(text: &str) -> api::Signal {
    let Some(wanted) = strata_engine::signal_number(text) else {
        return api::Signal::RuntimeDefault;
    };
    let all = (1..=65).filter_map(|number| api::Signal::try_from(number).ok());
    all.into_iter()
        .find(|signal| stop_signal(*signal).and_then(|name| strata_engine::signal_number(&name)) == Some(wanted))
        .unwrap_or(api::Signal::RuntimeDefault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_both_ways() {
        assert_eq!(stop_signal(api::Signal::RuntimeDefault), None);
        assert_eq!(stop_signal(api::Signal::Sigrtminplus3).as_deref(), Some("SIGRTMIN+3"));
        assert_eq!(stop_signal(api::Signal::Sigrtmaxminus1).as_deref(), Some("SIGRTMAX-1"));
        for (text, expected) in [
            ("", api::Signal::Sigterm),
            ("SIGQUIT", api::Signal::Sigquit),
            ("3", api::Signal::Sigquit),
            ("usr1", api::Signal::Sigusr1),
            ("SIGRTMIN+3", api::Signal::Sigrtminplus3),
            ("37", api::Signal::Sigrtminplus3),
            ("SIGRTMAX-1", api::Signal::Sigrtmaxminus1),
            ("IOT", api::Signal::Sigabrt),
            ("nonsense", api::Signal::RuntimeDefault),
        ] {
            assert_eq!(signal_of(text), expected, "{text}");
        }
    }

    #[test]
    fn a_recursive_read_only_mount_is_read_only_and_private() {
        let of = |readonly, propagation: MountPropagation| {
            mount(&api::Mount {
                container_path: "/mnt".into(),
                host_path: "/tmp".into(),
                readonly,
                recursive_read_only: true,
                propagation: propagation.into(),
                ..api::Mount::default()
            })
        };
        assert!(of(true, MountPropagation::PropagationPrivate).is_ok());
        assert!(of(false, MountPropagation::PropagationPrivate).is_err());
        assert!(of(true, MountPropagation::PropagationHostToContainer).is_err());
        assert!(of(true, MountPropagation::PropagationBidirectional).is_err());
    }

    #[test]
    fn who_runs_and_under_which_filter_is_said_without_contradiction() {
        let id = |value| Some(api::Int64Value { value });
        let group_alone = LinuxContainerSecurityContext {
            run_as_group: id(5),
            ..Default::default()
        };
        assert!(security(&group_alone).is_err());
        let plain = security(&LinuxContainerSecurityContext::default()).expect("valid");
        assert_eq!(plain.seccomp, Seccomp::Unconfined);
        assert_eq!(plain.masked_paths, Some(Vec::new()));
        let relative = LinuxContainerSecurityContext {
            seccomp: Some(SecurityProfile {
                profile_type: api::ProfileType::Localhost.into(),
                localhost_ref: "a.json".into(),
            }),
            ..Default::default()
        };
        assert!(security(&relative).is_err());
    }
}
