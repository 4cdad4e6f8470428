//! Volume mounts and block devices of containers.

use super::{Causes, volumes::Volumes};
use crate::validate::{
    Field,
    formats::{descending_path, no_backsteps},
};

/// `volumeMounts`.
pub(super) fn mounts(container: &Field<'_>, volumes: &Volumes<'_>, causes: &mut Causes) {
    let list = container.at("volumeMounts");
    let devices: Vec<_> = container.at("volumeDevices").items().collect();
    let mut seen = Vec::new();
    for mount in list.items() {
        let (name, path) = (mount.at("name"), mount.at("mountPath"));
        name.needs(causes);
        if !volumes.has(name.text()) {
            causes.push(name.not_found());
        }
        path.needs(causes);
        if seen.contains(&path.text()) {
            causes.push(path.invalid("must be unique"));
        }
        seen.push(path.text());
        if devices.iter().any(|d| d.at("name").text() == name.text()) {
            causes.push(name.invalid("must not already exist in volumeDevices"));
        }
        if devices.iter().any(|d| d.at("devicePath").text() == path.text()) {
            causes.push(path.invalid("must not already exist as a path in volumeDevices"));
        }
        // Upstream names the list, not its entry, in the paths of the rest.
        let (sub, expression) = (mount.at("subPath"), mount.at("subPathExpr"));
        descending_path(&sub.named(format!("{}.subPath", list.path())), causes);
        if !expression.is_empty() {
            if !sub.is_empty() {
                causes.push(expression.invalid("subPathExpr and subPath are mutually exclusive"));
            }
            descending_path(&expression.named(format!("{}.subPathExpr", list.path())), causes);
        }
        propagation(container, &mount, &list, causes);
    }
}

fn propagation(container: &Field<'_>, mount: &Field<'_>, list: &Field<'_>, causes: &mut Causes) {
    let mode = mount
        .at("mountPropagation")
        .named(format!("{}.mountPropagation", list.path()));
    mode.if_one_of(causes, &["Bidirectional", "HostToContainer", "None"]);
    if mode.text() == "Bidirectional" && !container.at("securityContext.privileged").flag() {
        causes.push(mode.forbidden("Bidirectional mount propagation is available only to privileged containers"));
    }
    let recursive = mount
        .at("recursiveReadOnly")
        .named(format!("{}.recursiveReadOnly", list.path()));
    recursive.if_one_of(causes, &["Disabled", "Enabled", "IfPossible"]);
    if matches!(recursive.text(), "Enabled" | "IfPossible") {
        if !mount.at("readOnly").flag() {
            causes.push(recursive.forbidden("may only be specified when readOnly is true"));
        }
        if !matches!(mode.text(), "" | "None") {
            let why = "may only be specified when mountPropagation is None or not specified";
            causes.push(recursive.forbidden(why));
        }
    }
}

/// `volumeDevices`.
pub(super) fn devices(container: &Field<'_>, volumes: &Volumes<'_>, causes: &mut Causes) {
    let mounts: Vec<_> = container.at("volumeMounts").items().collect();
    let (mut names, mut paths) = (Vec::new(), Vec::new());
    for device in container.at("volumeDevices").items() {
        let (name, path) = (device.at("name"), device.at("devicePath"));
        name.needs(causes);
        if names.contains(&name.text()) {
            causes.push(name.invalid("must be unique"));
        }
        names.push(name.text());
        match volumes.is_block(name.text()) {
            None => causes.push(name.not_found()),
            Some(false) => causes.push(
                name.invalid("can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"),
            ),
            Some(true) => {}
        }
        path.needs(causes);
        if paths.contains(&path.text()) {
            causes.push(path.invalid("must be unique"));
        }
        paths.push(path.text());
        let mut backsteps = Vec::new();
        no_backsteps(&path, &mut backsteps);
        if !backsteps.is_empty() {
            causes.push(path.invalid("can not contain backsteps ('..')"));
        }
        if mounts.iter().any(|m| m.at("name").text() == name.text()) {
            causes.push(name.invalid("must not already exist in volumeMounts"));
        }
        if mounts.iter().any(|m| m.at("mountPath").text() == path.text()) {
            causes.push(path.invalid("must not already exist as a path in volumeMounts"));
        }
    }
}
