//! The systemd cgroup driver. Runs where systemd is the first process: in the guest of `make test-v2`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use std::process::Command;
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

fn configure(ground: &Ground, args: &[&str], change: impl FnOnce(&mut Value)) {
    ground.write_config(args, |config| {
        config["linux"]["cgroupsPath"] = format!("strata-tests.slice:t:{}", ground.name).into();
        change(config);
    });
}

#[test]
fn a_container_is_a_scope_with_its_limits() {
    if !systemd() {
        return;
    }
    let ground = Ground::new();
    let unit = format!("t-{}.scope", ground.name);
    configure(&ground, &["sleep", "1000"], |config| {
        config["linux"]["resources"]["memory"] = json!({"limit": 67_108_864});
        config["linux"]["resources"]["pids"] = json!({"limit": 17});
        config["linux"]["resources"]["cpu"] = json!({"shares": 1024, "quota": 50_000, "period": 100_000});
    });
    let output = ground.call(&["--systemd-cgroup", "create", "--pid-file", "pid", "c"]);
    assert!(output.status.success(), "{output:?}");
    assert!(ground.call(&["start", "c"]).status.success());
    let pid = std::fs::read_to_string(ground.path("pid")).unwrap();
    let place = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert_eq!(place.trim(), format!("0::/strata.slice/strata-tests.slice/{unit}"));
    assert_eq!(show(&unit, "ActiveState"), "active");
    assert_eq!(show(&unit, "Slice"), "strata-tests.slice");
    assert_eq!(show(&unit, "Delegate"), "yes");
    assert_eq!(show(&unit, "MemoryMax"), "67108864");
    assert_eq!(show(&unit, "TasksMax"), "17");
    assert_eq!(show(&unit, "CPUWeight"), "39");
    assert_eq!(show(&unit, "CPUQuotaPerSecUSec"), "500ms");
    let read = |name: &str| {
        let path = format!("/sys/fs/cgroup/strata.slice/strata-tests.slice/{unit}/{name}");
        std::fs::read_to_string(path).unwrap().trim().to_string()
    };
    assert_eq!(read("memory.max"), "67108864");
    assert_eq!(read("cpu.max"), "50000 100000");
    // Nobody but the container is in it: what held the scope has gone.
    assert_eq!(read("cgroup.procs"), pid);
    let output = ground.call(&["update", "--memory", "128m", "c"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        (show(&unit, "MemoryMax"), read("memory.max")),
        ("134217728".into(), "134217728".into())
    );
    // A reload of systemd leaves it so.
    assert!(
        Command::new("systemctl")
            .arg("daemon-reload")
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(read("memory.max"), "134217728");
    assert_eq!(ground.call(&["exec", "c", "sh", "-c", "exit 5"]).status.code(), Some(5));
    // The name is taken: the other stays as it is.
    let other = Ground::new();
    other.write_config(&["true"], |config| {
        config["linux"]["cgroupsPath"] = format!("strata-tests.slice:t:{}", ground.name).into();
    });
    let output = other.call(&["--systemd-cgroup", "create", "c"]);
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("UnitExists"),
        "{output:?}"
    );
    assert!(!other.path("state/c").exists());
    assert_eq!(show(&unit, "ActiveState"), "active");
    let output = ground.call(&["delete", "--force", "c"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(show(&unit, "LoadState"), "not-found");
}

#[test]
fn a_container_in_the_foreground_ends_with_its_scope() {
    if !systemd() {
        return;
    }
    let ground = Ground::new();
    let unit = format!("t-{}.scope", ground.name);
    configure(&ground, &["sh", "-c", "cat /proc/self/cgroup; exit 6"], |_| {});
    let output = ground.call(&["--systemd-cgroup", "run", "c"]);
    // In a cgroup namespace of its own.
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0::/\n", "{output:?}");
    assert_eq!(output.status.code(), Some(6), "{output:?}");
    assert_eq!(show(&unit, "LoadState"), "not-found");
    configure(&ground, &["/not/there"], |_| {});
    assert!(!ground.call(&["--systemd-cgroup", "create", "c"]).status.success());
    assert_eq!(show(&unit, "LoadState"), "not-found", "one that fails leaves no unit");
}

#[test]
fn a_path_that_is_none_of_systemds_is_refused() {
    let ground = Ground::new();
    ground.write_config(&["true"], |config| config["linux"]["cgroupsPath"] = "/a/b".into());
    let output = ground.call(&["--systemd-cgroup", "create", "c"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("slice:prefix:name"), "{text}");
    assert!(!ground.path("state/c").exists());
}
