//! The commands that only tell.

use super::flags::{Arguments, Flag};
use super::store::{self, Container};
use super::{Global, print};
use alloc::{format, string::String, string::ToString, vec::Vec};
use rustix::fs::AtFlags;
use serde::Serialize;
use strata_runtime::{Context, Error, Result};
use strata_sys::{capability, file};

pub(super) const LIST_FLAGS: &[Flag] = &[
    Flag::value("format", "f", "table or json"),
    Flag::switch("quiet", "q", "names only"),
];

pub(super) const PS_FLAGS: &[Flag] = &[Flag::value("format", "f", "table or json")];

pub(super) const SPEC_FLAGS: &[Flag] = &[
    Flag::value("bundle", "b", "directory to write to (default .)"),
    Flag::switch("rootless", "", "not supported"),
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
    annotations: &'a alloc::collections::BTreeMap<String, String>,
    owner: &'static str,
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
        owner: "root",
    })
}

fn pretty<T: Serialize>(value: &T) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value).map_err(|error| Error::State(error.to_string()))?;
    text.push('\n');
    print(&text)
}

pub(super) fn state(global: &Global, arguments: &Arguments) -> Result<i32> {
    pretty(&shown(&Container::load(global, arguments.id()?)?)?).map(|()| 0)
}

pub(super) fn list(global: &Global, arguments: &Arguments) -> Result<i32> {
    let names = store::names(global)?;
    if arguments.has("quiet") {
        return print(&names.iter().map(|name| format!("{name}\n")).collect::<String>()).map(|()| 0);
    }
    // One that another command is making or removing at this moment is not there.
    let containers: Vec<Container> = names
        .iter()
        .filter_map(|name| Container::load(global, name).ok())
        .collect();
    let rows = containers.iter().map(shown).collect::<Result<Vec<_>>>()?;
    if arguments.value("format") == Some("json") {
        return pretty(&rows).map(|()| 0);
    }
    let mut text = format!("{:<20} {:<8} {:<8} {:<32} CREATED\n", "ID", "PID", "STATUS", "BUNDLE");
    for row in rows {
        text += &format!(
            "{:<20} {:<8} {:<8} {:<32} {}\n",
            row.id, row.pid, row.status, row.bundle, row.created
        );
    }
    print(&text).map(|()| 0)
}

pub(super) fn ps(global: &Global, arguments: &Arguments) -> Result<i32> {
    let container = Container::load(global, arguments.id()?)?;
    let processes = container.cgroup()?.processes()?;
    if arguments.value("format") == Some("json") {
        return pretty(&processes).map(|()| 0);
    }
    let mut text = String::from("PID      CMD\n");
    for pid in processes {
        let line = file::read(&*format!("/proc/{pid}/cmdline"), 64 << 10).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        text += &format!("{pid:<8} {}\n", line.trim_end());
    }
    print(&text).map(|()| 0)
}

pub(super) fn features(_: &Global, _: &Arguments) -> Result<i32> {
    let mut capabilities = String::new();
    for (index, name) in capability::names().iter().enumerate() {
        capabilities += &format!("{}\"CAP_{name}\"", if index == 0 { "" } else { "," });
    }
    print(&FEATURES.replace("@CAPABILITIES@", &capabilities)).map(|()| 0)
}

/// features.md of the runtime specification.
const FEATURES: &str = r#"{
  "ociVersionMin": "1.0.0",
  "ociVersionMax": "1.2.0",
  "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
  "mountOptions": ["async", "atime", "bind", "defaults", "dev", "diratime", "exec", "noatime", "nodev", "nodiratime",
    "noexec", "norelatime", "nostrictatime", "nosuid", "nosymfollow", "private", "ratime", "rbind", "rdev", "rdiratime",
    "relatime", "rexec", "rnoatime", "rnodev", "rnodiratime", "rnoexec", "rnorelatime", "rnostrictatime", "rnosuid",
    "rnosymfollow", "ro", "rprivate", "rrelatime", "rro", "rrw", "rshared", "rslave", "rstrictatime", "rsuid",
    "rsymfollow", "runbindable", "rw", "shared", "slave", "strictatime", "suid", "symfollow", "unbindable"],
  "linux": {
    "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
    "capabilities": [@CAPABILITIES@],
    "cgroup": {"v1": true, "v2": true, "systemd": false, "systemdUser": false, "rdma": false},
    "seccomp": {
      "enabled": true,
      "actions": ["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD",
        "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP"],
      "operators": ["SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ",
        "SCMP_CMP_NE"],
      "archs": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"],
      "knownFlags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"],
      "supportedFlags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"]
    },
    "apparmor": {"enabled": false},
    "selinux": {"enabled": false},
    "intelRdt": {"enabled": false},
    "mountExtensions": {"idmap": {"enabled": false}}
  }
}
"#;

pub(super) fn spec(_: &Global, arguments: &Arguments) -> Result<i32> {
    if arguments.has("rootless") {
        return Err(Error::Invalid("--rootless is not supported".into()));
    }
    let directory = arguments.value("bundle").unwrap_or(".");
    let directory = file::open_directory(directory).context(|| format!("open {directory}"))?;
    if rustix::fs::statat(&directory, "config.json", AtFlags::empty()).is_ok() {
        return Err(Error::Exists("File config.json exists. Remove it first".into()));
    }
    file::replace(&directory, "config.json", EXAMPLE.as_bytes(), 0o644).context(|| "write config.json")?;
    Ok(0)
}

/// A shell in the directory `rootfs`, with the isolation that people expect.
const EXAMPLE: &str = include_str!("example.json");
