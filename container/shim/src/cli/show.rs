//! The commands that only tell.

use super::flags::{Arguments, Flag};
use super::store::{self, Container};
use super::{Global, print};
use alloc::{format, string::String, string::ToString, vec::Vec};
use rustix::fs::AtFlags;
use serde::Serialize;
use serde_json::{Value, json};
use strata_runtime::{Context, Error, Result};
use strata_sys::{capability, file};

pub(super) const LIST_FLAGS: &[Flag] = &[
    Flag::value("format", "f", "table or json"),
    Flag::switch("quiet", "q", "names only"),
];

pub(super) const SPEC_FLAGS: &[Flag] = &[
    Flag::value("bundle", "b", "directory to write to (default .)"),
    Flag::switch("rootless", "", "for a user without privileges"),
];

/// What `state` and `list` print.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    oci_version: &'a str,
    id: &'a str,
    pid: i32,
    status: &'static str,
    bundle: &'a str,
    rootfs: &'a str,
    created: &'a str,
    #[serde(skip_serializing_if = "alloc::collections::BTreeMap::is_empty")]
    annotations: &'a alloc::collections::BTreeMap<String, String>,
    owner: String,
}

fn shown(container: &Container) -> Result<Shown<'_>> {
    let status = container.status()?;
    let record = &container.record;
    Ok(Shown {
        oci_version: &record.oci_version,
        id: &record.id,
        pid: if status == store::Status::Stopped {
            0
        } else {
            record.pid
        },
        status: status.name(),
        bundle: &record.bundle,
        rootfs: &record.rootfs,
        created: &record.created,
        annotations: &record.annotations,
        owner: owner(container)?,
    })
}

/// Who made it: the owner of its directory.
fn owner(container: &Container) -> Result<String> {
    let stat = rustix::fs::fstat(&container.directory).context(|| "look at the container's directory")?;
    let known = file::read("/etc/passwd", 4 << 20).unwrap_or_else(|_| Vec::new());
    let known = String::from_utf8_lossy(&known).into_owned();
    let name = known.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, uid) = (fields.next()?, fields.next()?, fields.next()?);
        (uid.parse() == Ok(stat.st_uid)).then_some(name)
    });
    Ok(name.map_or_else(|| format!("#{}", stat.st_uid), String::from))
}

fn pretty<T: Serialize>(value: &T) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value).map_err(|error| Error::State(error.to_string()))?;
    text.push('\n');
    print(&text)
}

pub(super) fn state(global: &Global, arguments: &Arguments) -> Result<i32> {
    pretty(&shown(&Container::load(global, arguments.id()?)?)?).map(|()| 0)
}

/// All containers that can be told of. The others are told of on the standard error; one that another command is
/// making or removing at this moment is not there.
fn load_all(global: &Global) -> Result<Vec<Container>> {
    let mut containers = Vec::new();
    for name in store::names(global)? {
        match Container::load(global, &name) {
            Ok(container) => containers.push(container),
            Err(Error::NotFound(_)) => {}
            Err(error) => complain(&name, &error),
        }
    }
    Ok(containers)
}

fn complain(name: &str, error: &Error) {
    let text = format!("load container {name}: {error}\n");
    let _ = file::write_all(strata_sys::stream::error(), text.as_bytes());
}

pub(super) fn list(global: &Global, arguments: &Arguments) -> Result<i32> {
    let containers = load_all(global)?;
    if arguments.has("quiet") {
        let names = containers.iter().map(|container| format!("{}\n", container.record.id));
        return print(&names.collect::<String>()).map(|()| 0);
    }
    let rows = containers.iter().filter_map(|container| {
        let shown = shown(container);
        shown.inspect_err(|error| complain(&container.record.id, error)).ok()
    });
    let rows: Vec<Shown<'_>> = rows.collect();
    match arguments.value("format").unwrap_or("table") {
        "json" => {
            let text = serde_json::to_string(&rows).map_err(|error| Error::State(error.to_string()))?;
            return print(&format!("{}\n", if rows.is_empty() { "null" } else { &text })).map(|()| 0);
        }
        "table" => {}
        other => return Err(Error::Invalid(format!("invalid format option {other:?}"))),
    }
    let mut cells: Vec<[String; 6]> =
        alloc::vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(String::from)];
    for row in rows {
        let texts = [
            row.id,
            &row.pid.to_string(),
            row.status,
            row.bundle,
            row.created,
            &row.owner,
        ];
        cells.push(texts.map(String::from));
    }
    print(&table(&cells)).map(|()| 0)
}

/// Columns as wide as their longest cell and three more, and 12 at least.
fn table<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0).max(9) + 3;
    let widths: [usize; COLUMNS] = core::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            let width = if column + 1 == COLUMNS { 0 } else { widths[column] };
            text += &format!("{cell:<width$}");
        }
        text.push('\n');
    }
    text
}

pub(super) fn features(_: &Global, _: &Arguments) -> Result<i32> {
    print(&features_json()).map(|()| 0)
}

/// What is supported, as JSON.
pub(crate) fn features_json() -> String {
    let mut capabilities = String::new();
    for (index, name) in capability::names().iter().enumerate() {
        capabilities += &format!("{}\"CAP_{name}\"", if index == 0 { "" } else { "," });
    }
    FEATURES.replace("@CAPABILITIES@", &capabilities)
}

/// features.md of the runtime specification.
const FEATURES: &str = include_str!("features.json");

pub(super) fn spec(_: &Global, arguments: &Arguments) -> Result<i32> {
    let example = if arguments.has("rootless") {
        rootless_example()?
    } else {
        EXAMPLE.into()
    };
    let directory = arguments.value("bundle").unwrap_or(".");
    let directory = file::open_directory(directory).context(|| format!("open {directory}"))?;
    if rustix::fs::statat(&directory, "config.json", AtFlags::empty()).is_ok() {
        return Err(Error::Exists("File config.json exists. Remove it first".into()));
    }
    file::replace(&directory, "config.json", example.as_bytes(), 0o644).context(|| "write config.json")?;
    Ok(0)
}

/// A shell in the directory `rootfs`, with the isolation that people expect.
const EXAMPLE: &str = include_str!("example.json");

/// The example for who has no privileges: root inside is the caller, the network is the caller's, and no group but the
/// own one is there.
fn rootless_example() -> Result<String> {
    let broken = |error: serde_json::Error| Error::State(error.to_string());
    // As values: the types would be read and written in ways that nothing else needs.
    let mut spec: Value = serde_json::from_slice(EXAMPLE.as_bytes()).map_err(broken)?;
    let id = |host: u32| json!([{"containerID": 0, "hostID": host, "size": 1}]);
    let linux = &mut spec["linux"];
    linux["uidMappings"] = id(rustix::process::geteuid().as_raw());
    linux["gidMappings"] = id(rustix::process::getegid().as_raw());
    if let Some(linux) = linux.as_object_mut() {
        linux.remove("resources");
    }
    if let Some(namespaces) = linux["namespaces"].as_array_mut() {
        namespaces.retain(|entry| entry["type"] != "network");
        namespaces.push(json!({"type": "user"}));
    }
    if let Some(mounts) = spec["mounts"].as_array_mut() {
        mounts.retain(|mount| mount["type"] != "cgroup");
        for mount in mounts {
            if mount["type"] == "sysfs" {
                // A new one takes a network namespace of the own user namespace.
                mount["type"] = "none".into();
                mount["source"] = "/sys".into();
                mount["options"] = json!(["rbind", "nosuid", "noexec", "nodev", "ro"]);
            } else if let Some(options) = mount.get_mut("options").and_then(Value::as_array_mut) {
                options.retain(|option| !option.as_str().is_some_and(|option| option.starts_with("gid=")));
            }
        }
    }
    serde_json::to_string_pretty(&spec).map_err(broken)
}
