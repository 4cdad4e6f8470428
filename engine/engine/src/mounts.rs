//! Mounts of containers: the usual ones, the pod's files, and the user's.

use crate::record::SandboxRecord;
use crate::spec::{SandboxFiles, text};
use crate::{ContainerConfig, Error, Propagation};
use std::path::Path;
use strata_runtime::spec::Mount;

/// All mounts in the order they are made.
pub(crate) fn mounts(
    sandbox: &SandboxRecord,
    files: &SandboxFiles,
    config: &ContainerConfig,
) -> Result<Vec<Mount>, Error> {
    let access = if config.security.privileged { "rw" } else { "ro" };
    let mut list = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", access]),
        mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", "relatime", access],
        ),
    ];
    let shm = if sandbox.host_ipc {
        Path::new("/dev/shm")
    } else {
        &files.shm
    };
    list.push(bind(shm, Path::new("/dev/shm"), &["rbind", "rw"])?);
    let root_access = if config.security.read_only_root_filesystem {
        "ro"
    } else {
        "rw"
    };
    let provided = [
        (Some(&files.hostname), "/etc/hostname"),
        (files.resolv_conf.as_ref(), "/etc/resolv.conf"),
    ];
    for (source, target) in provided {
        if let Some(source) = source {
            list.push(bind(source, Path::new(target), &["rbind", "rprivate", root_access])?);
        }
    }
    // A mount of the user on one of these replaces it.
    let own: Vec<&Path> = config.mounts.iter().map(|own| own.container_path.as_path()).collect();
    list.retain(|usual| !own.contains(&Path::new(&usual.destination)));
    for own in &config.mounts {
        list.push(user_mount(own)?);
    }
    Ok(list)
}

fn user_mount(own: &crate::Mount) -> Result<Mount, Error> {
    let propagation = match own.propagation {
        Propagation::Private => "rprivate",
        Propagation::HostToContainer => "rslave",
        Propagation::Bidirectional => "rshared",
    };
    let access = match (own.read_only, own.recursive_read_only) {
        (true, true) => "rro",
        (true, false) => "ro",
        (false, _) => "rw",
    };
    let mut options = vec!["rbind", propagation, access];
    if own.mapped {
        options.push("idmap");
    }
    bind(&own.host_path, &own.container_path, &options)
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.into(),
        kind: kind.into(),
        source: source.into(),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
        ..Mount::default()
    }
}

fn bind(source: &Path, destination: &Path, options: &[&str]) -> Result<Mount, Error> {
    Ok(Mount {
        source: text(source)?,
        destination: text(destination)?,
        ..mount("", "bind", "", options)
    })
}
