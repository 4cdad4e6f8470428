//! Devices of containers.

use crate::{ContainerConfig, Error};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use strata_runtime::spec::{Device, DeviceRule};

/// Device nodes beyond the standard ones, and who may be used.
pub(crate) fn devices(config: &ContainerConfig) -> Result<(Vec<Device>, Vec<DeviceRule>), Error> {
    let allow_all = config.security.privileged;
    let mut nodes = Vec::new();
    let mut rules = vec![DeviceRule {
        allow: allow_all,
        access: "rwm".into(),
        ..DeviceRule::default()
    }];
    if allow_all {
        host_devices(Path::new("/dev"), 0, &mut nodes);
    }
    for device in &config.devices {
        let node = device_node(&device.host_path, &device.container_path)
            .map_err(Error::io("cannot use device", &device.host_path))?
            .ok_or_else(|| Error::InvalidConfig(format!("{} is not a device node", device.host_path.display())))?;
        if !allow_all {
            rules.push(DeviceRule {
                allow: true,
                kind: node.kind.clone(),
                major: Some(node.major),
                minor: Some(node.minor),
                access: device.permissions.clone(),
            });
        }
        nodes.retain(|other| other.path != node.path);
        nodes.push(node);
    }
    Ok((nodes, rules))
}

const MAX_DEVICE_DEPTH: usize = 8;

/// All device nodes of the host but terminals, which each container has of its own.
fn host_devices(folder: &Path, depth: usize, found: &mut Vec<Device>) {
    const OWN: &[&str] = &[
        "pts",
        "shm",
        "fd",
        "mqueue",
        ".lxc",
        ".lxd-mounts",
        ".udev",
        "console",
        "ptmx",
        "tty",
    ];
    let Ok(items) = std::fs::read_dir(folder) else { return };
    for item in items.flatten() {
        let path = item.path();
        if depth == 0 && item.file_name().to_str().is_some_and(|name| OWN.contains(&name)) {
            continue;
        }
        match item.file_type() {
            Ok(kind) if kind.is_dir() && depth < MAX_DEVICE_DEPTH => host_devices(&path, depth + 1, found),
            Ok(kind) if kind.is_char_device() || kind.is_block_device() => {
                // It may have been unplugged meanwhile.
                found.extend(device_node(&path, &path).ok().flatten());
            }
            _ => {}
        }
    }
}

fn device_node(host: &Path, container: &Path) -> std::io::Result<Option<Device>> {
    let metadata = std::fs::metadata(host)?;
    let kind = metadata.file_type();
    let letter = if kind.is_char_device() {
        "c"
    } else if kind.is_block_device() {
        "b"
    } else {
        return Ok(None);
    };
    Ok(Some(Device {
        path: container.to_string_lossy().into_owned(),
        kind: letter.into(),
        major: i64::from(rustix::fs::major(metadata.rdev())),
        minor: i64::from(rustix::fs::minor(metadata.rdev())),
        file_mode: Some(metadata.mode() & 0o777),
        uid: Some(metadata.uid()),
        gid: Some(metadata.gid()),
    }))
}
