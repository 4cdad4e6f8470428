//! Containers of a sandbox in scopes of systemd. Runs where systemd is the first process: in the guest of `make test-v2`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::process::Command;
use strata_shim::protocol::*;
use strata_shim::spec::{Memory, Resources, Rootfs, Spec};
use strata_shim::{Connection, Helper};
use support::Ground;

/// Whether systemd is here. The guest says that it must be.
fn systemd() -> bool {
    let there = std::path::Path::new("/run/systemd/private").exists();
    assert!(there || std::env::var_os("STRATA_TEST_SYSTEMD").is_none(), "no systemd");
    there
}

/// One property of a unit.
fn show(unit: &str, property: &str) -> String {
    let output = Command::new("systemctl")
        .args(["show", "--value", "-p", property, unit])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().into()
}

struct Pod {
    connection: Option<Connection>,
    ground: Ground,
}

impl Pod {
    fn new() -> Self {
        let ground = Ground::new();
        let helper = Helper::spawn(&std::fs::read(support::PROGRAM).unwrap()).unwrap();
        let launch = LaunchSpec {
            sandbox_id: "s".into(),
            state_dir: ground.path("shim").to_str().unwrap().into(),
            cgroup: String::new(),
        };
        let (_, mut connection) = helper.launch(&launch).unwrap();
        connection.create_sandbox(SandboxSpec::default()).unwrap();
        Self {
            connection: Some(connection),
            ground,
        }
    }

    fn unit(&self) -> String {
        format!("strata-{}.scope", self.ground.name)
    }

    fn container(&self, args: &[&str]) -> ContainerSpec {
        let mut spec: Spec = serde_json::from_value(self.ground.config(args, |_| {})).unwrap();
        spec.hostname = String::new();
        let linux = spec.linux.as_mut().unwrap();
        linux.cgroups_path = format!("strata-tests.slice:strata:{}", self.ground.name);
        use strata_shim::spec::NamespaceKind::{Cgroup, Mount, Pid};
        linux
            .namespaces
            .retain(|entry| matches!(entry.kind, Cgroup | Mount | Pid));
        ContainerSpec {
            id: "c".into(),
            spec,
            rootfs: Some(Rootfs::Path(self.ground.root().to_str().unwrap().into())),
            bundle: self.ground.path("").to_str().unwrap().into(),
            systemd: true,
            ..ContainerSpec::default()
        }
    }

    fn connection(&mut self) -> &mut Connection {
        self.connection.as_mut().unwrap()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            let _ = connection.shutdown();
        }
    }
}

fn limit(bytes: i64) -> Resources {
    Resources {
        memory: Some(Memory {
            limit: Some(bytes),
            ..Memory::default()
        }),
        ..Resources::default()
    }
}

#[test]
fn a_container_of_a_sandbox_is_a_scope_that_goes_with_it() {
    if !systemd() {
        return;
    }
    let mut pod = Pod::new();
    let unit = pod.unit();
    let mut spec = pod.container(&["sleep", "1000"]);
    spec.spec.linux.as_mut().unwrap().resources = Some(limit(67_108_864));
    let pid = pod.connection().create(spec).unwrap();
    pod.connection().start("c").unwrap();
    let place = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert_eq!(place.trim(), format!("0::/strata.slice/strata-tests.slice/{unit}"));
    assert_eq!(show(&unit, "ActiveState"), "active");
    assert_eq!(show(&unit, "MemoryMax"), "67108864");
    pod.connection().update("c", limit(134_217_728)).unwrap();
    assert_eq!(show(&unit, "MemoryMax"), "134217728");
    let status = Command::new("systemctl").arg("daemon-reload").status().unwrap();
    assert!(status.success());
    let path = format!("/sys/fs/cgroup/strata.slice/strata-tests.slice/{unit}/memory.max");
    assert_eq!(std::fs::read_to_string(path).unwrap().trim(), "134217728");
    pod.connection().delete("c", true).unwrap();
    assert_eq!(show(&unit, "LoadState"), "not-found");
}

#[test]
fn a_container_that_cannot_be_made_leaves_no_scope() {
    if !systemd() {
        return;
    }
    let mut pod = Pod::new();
    let unit = pod.unit();
    let spec = pod.container(&["/not/there"]);
    assert!(pod.connection().create(spec).is_err());
    assert_eq!(show(&unit, "LoadState"), "not-found");
    let mut spec = pod.container(&["true"]);
    spec.spec.linux.as_mut().unwrap().cgroups_path = "/a/b".into();
    let refused = pod.connection().create(spec).unwrap_err().to_string();
    assert!(refused.contains("slice:prefix:name"), "{refused}");
}
