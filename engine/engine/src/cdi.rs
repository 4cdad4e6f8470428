//! Devices by name, as vendors describe them on the machine: the Container Device Interface.
//!
//! <https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md>

use crate::Error;
use serde::Deserialize;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use strata_runtime::spec::{Device, DeviceRule, Hook, Mount, Spec};

/// Where descriptions are; a later folder's win.
const FOLDERS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
/// Longer descriptions are a mistake.
const MAX_FILE: u64 = 4 << 20;
/// Files of a folder that are read.
const MAX_FILES: usize = 1024;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Description {
    kind: String,
    #[serde(default)]
    devices: Vec<Named>,
    #[serde(default)]
    container_edits: Edits,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    name: String,
    #[serde(default)]
    container_edits: Edits,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Edits {
    env: Vec<String>,
    device_nodes: Vec<Node>,
    mounts: Vec<Bind>,
    hooks: Vec<At>,
    #[serde(rename = "additionalGids")]
    additional_gids: Vec<u32>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Node {
    path: String,
    host_path: String,
    #[serde(rename = "type")]
    kind: String,
    major: Option<i64>,
    minor: Option<i64>,
    file_mode: Option<u32>,
    permissions: String,
    uid: Option<u32>,
    gid: Option<u32>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Bind {
    host_path: String,
    container_path: String,
    #[serde(rename = "type")]
    kind: String,
    options: Vec<String>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct At {
    hook_name: String,
    path: String,
    args: Vec<String>,
    env: Vec<String>,
    timeout: Option<u32>,
}

/// Puts devices, named `vendor/class=name`, into a specification. Blocking.
///
/// Errors: `InvalidConfig` if a device is not described or its description makes no sense.
pub(crate) fn apply(names: &[String], spec: &mut Spec) -> Result<(), Error> {
    if names.is_empty() {
        return Ok(());
    }
    let known = read(&FOLDERS.map(PathBuf::from))?;
    let missing: Vec<&str> = names
        .iter()
        .filter(|name| !known.contains_key(*name))
        .map(String::as_str)
        .collect();
    if !missing.is_empty() {
        let why = format!("unresolvable CDI devices {}", missing.join(", "));
        return Err(Error::InvalidConfig(why));
    }
    let mut shared = HashSet::new();
    for name in names {
        let Some((file, common, own)) = known.get(name) else {
            continue;
        };
        // What holds for all devices of a description is done once.
        if shared.insert(file) {
            edit(spec, common)?;
        }
        edit(spec, own)?;
    }
    Ok(())
}

/// By device: its file, what all of the file need, what it needs itself.
type Known = BTreeMap<String, (PathBuf, Edits, Edits)>;

fn read(folders: &[PathBuf]) -> Result<Known, Error> {
    let mut known = Known::new();
    for folder in folders {
        let Ok(items) = fs::read_dir(folder) else { continue };
        let mut files: Vec<PathBuf> = items.flatten().map(|item| item.path()).take(MAX_FILES).collect();
        files.sort();
        for file in files {
            let is = |ending: &str| file.extension().is_some_and(|found| found == ending);
            if !(is("json") || is("yaml") || is("yml")) {
                continue;
            }
            match describe(&file) {
                Ok(description) => {
                    for device in description.devices {
                        let name = format!("{}={}", description.kind, device.name);
                        let common = description.container_edits.clone();
                        known.insert(name, (file.clone(), common, device.container_edits));
                    }
                }
                // One vendor's mistake does not take the others' devices away.
                Err(why) => tracing::warn!(file = %file.display(), why, "cannot read a description of devices"),
            }
        }
    }
    Ok(known)
}

fn describe(file: &Path) -> Result<Description, String> {
    let mut text = String::new();
    let opened = fs::File::open(file).map_err(|e| e.to_string())?;
    opened
        .take(MAX_FILE + 1)
        .read_to_string(&mut text)
        .map_err(|e| e.to_string())?;
    if text.len() as u64 > MAX_FILE {
        return Err(format!("larger than {MAX_FILE} bytes"));
    }
    let description: Description = match file.extension().is_some_and(|ending| ending == "json") {
        true => serde_json::from_str(&text).map_err(|e| e.to_string())?,
        false => serde_saphyr::from_str(&text).map_err(|e| e.to_string())?,
    };
    match description.kind.split_once('/') {
        Some((vendor, class)) if !vendor.is_empty() && !class.is_empty() => Ok(description),
        _ => Err(format!("kind {:?} is not vendor/class", description.kind)),
    }
}

fn edit(spec: &mut Spec, edits: &Edits) -> Result<(), Error> {
    let process = spec.process.get_or_insert_default();
    for line in &edits.env {
        let name = line.split('=').next().unwrap_or(line);
        process.env.retain(|old| old.split('=').next() != Some(name));
        process.env.push(line.clone());
    }
    for gid in &edits.additional_gids {
        if !process.user.additional_gids.contains(gid) {
            process.user.additional_gids.push(*gid);
        }
    }
    for node in &edits.device_nodes {
        let (device, rule) = device(node)?;
        let linux = spec.linux.get_or_insert_default();
        linux.devices.retain(|old| old.path != device.path);
        linux.devices.push(device);
        linux.resources.get_or_insert_default().devices.push(rule);
    }
    for bind in &edits.mounts {
        let kind = if bind.kind.is_empty() { "bind" } else { &bind.kind };
        spec.mounts.retain(|old| old.destination != bind.container_path);
        spec.mounts.push(Mount {
            destination: bind.container_path.clone(),
            kind: kind.to_owned(),
            source: bind.host_path.clone(),
            options: if bind.options.is_empty() {
                vec!["rbind".into(), "ro".into()]
            } else {
                bind.options.clone()
            },
            ..Mount::default()
        });
    }
    for at in &edits.hooks {
        let hooks = spec.hooks.get_or_insert_default();
        let list = match at.hook_name.as_str() {
            "prestart" => &mut hooks.prestart,
            "createRuntime" => &mut hooks.create_runtime,
            "createContainer" => &mut hooks.create_container,
            "startContainer" => &mut hooks.start_container,
            "poststart" => &mut hooks.poststart,
            "poststop" => &mut hooks.poststop,
            other => {
                return Err(Error::InvalidConfig(format!(
                    "a CDI device has an unknown hook {other:?}"
                )));
            }
        };
        list.push(Hook {
            path: at.path.clone(),
            args: at.args.clone(),
            env: at.env.clone(),
            timeout: at.timeout,
        });
    }
    Ok(())
}

/// The node, and the rule that lets the container use it; what is not said is what the host's node is.
fn device(node: &Node) -> Result<(Device, DeviceRule), Error> {
    let host = if node.host_path.is_empty() {
        &node.path
    } else {
        &node.host_path
    };
    let on_host = match (node.kind.as_str(), node.major) {
        ("c" | "b" | "u", Some(_)) | ("p", _) => None,
        _ => Some(fs::metadata(host).map_err(Error::io("cannot use device", host))?),
    };
    let (kind, major, minor) = match &on_host {
        None => (node.kind.clone(), node.major.unwrap_or(0), node.minor.unwrap_or(0)),
        Some(found) => {
            let kind = if found.file_type().is_char_device() {
                "c"
            } else if found.file_type().is_block_device() {
                "b"
            } else {
                return Err(Error::InvalidConfig(format!("CDI device {host} is not a device node")));
            };
            let number = found.rdev();
            (
                kind.to_owned(),
                i64::from(rustix::fs::major(number)),
                i64::from(rustix::fs::minor(number)),
            )
        }
    };
    let rule = DeviceRule {
        allow: true,
        kind: kind.clone(),
        major: Some(major),
        minor: Some(minor),
        access: if node.permissions.is_empty() {
            "rwm".into()
        } else {
            node.permissions.clone()
        },
    };
    let device = Device {
        path: node.path.clone(),
        kind,
        major,
        minor,
        file_mode: node.file_mode.or(on_host.map(|found| found.mode() & 0o777)),
        uid: node.uid,
        gid: node.gid,
    };
    Ok((device, rule))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_put_into_the_specification_by_its_description() {
        let dir = tempfile::tempdir().expect("folder");
        let (first, second) = (dir.path().join("a"), dir.path().join("b"));
        fs::create_dir_all(&first).expect("folder");
        fs::create_dir_all(&second).expect("folder");
        fs::write(
            first.join("v.yaml"),
            "cdiVersion: 0.6.0\nkind: vendor.example/thing\ncontainerEdits: { env: [ A=1 ] }\n\
             devices: [ { name: one, containerEdits: { deviceNodes: [ { path: /dev/one, hostPath: /dev/null } ],\n\
             mounts: [ { hostPath: /x, containerPath: /y } ] } }, { name: two, containerEdits: { env: [ B=2 ] } } ]\n",
        )
        .expect("file");
        fs::write(first.join("broken.json"), "{").expect("file");
        fs::write(
            second.join("v.json"),
            r#"{"cdiVersion":"0.6.0","kind":"vendor.example/thing","devices":[{"name":"two","containerEdits":{"env":["B=3"]}}]}"#,
        )
        .expect("file");
        let known = read(&[first, second]).expect("readable");
        let mut spec = Spec::default();
        for name in ["vendor.example/thing=one", "vendor.example/thing=two"] {
            let (_, common, own) = &known[name];
            edit(&mut spec, common).expect("sound");
            edit(&mut spec, own).expect("sound");
        }
        assert_eq!(spec.process.expect("process").env, ["A=1", "B=3"]);
        let linux = spec.linux.expect("linux");
        assert_eq!(
            (
                linux.devices[0].path.as_str(),
                linux.devices[0].major,
                linux.devices[0].minor
            ),
            ("/dev/one", 1, 3)
        );
        assert!(linux.resources.expect("resources").devices[0].allow);
        assert_eq!(spec.mounts[0].destination, "/y");
        assert!(apply(&["vendor.example/thing=absent".into()], &mut Spec::default()).is_err());
    }
}
