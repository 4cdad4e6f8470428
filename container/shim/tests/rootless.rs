//! The command line of a user without privileges. Needs root, to become that user, and busybox-static.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};
use support::Ground;

const USER: u32 = 65_533;

/// A command of that user, with a copy of the program that it can reach.
fn call(ground: &Ground, arguments: &[&str]) -> Output {
    let program = ground.path("program");
    if !program.exists() {
        std::fs::copy(support::PROGRAM, &program).unwrap();
        std::fs::set_permissions(ground.path("."), std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    let mut command = Command::new(program);
    command.args(arguments).current_dir(ground.path(".")).env_clear();
    command.env("XDG_RUNTIME_DIR", ground.path("run")).uid(USER).gid(USER);
    Ground::finish(&mut command)
}

#[test]
fn a_user_runs_containers_without_privileges() {
    let ground = Ground::new();
    assert!(call(&ground, &["spec", "--rootless"]).status.success());
    let change = |script: &str, more: &dyn Fn(&mut Value)| {
        let mut config: Value = serde_json::from_slice(&std::fs::read(ground.path("config.json")).unwrap()).unwrap();
        config["process"]["terminal"] = false.into();
        config["process"]["args"] = json!(["sh", "-c", script]);
        more(&mut config);
        std::fs::write(ground.path("config.json"), config.to_string()).unwrap();
    };
    change(
        "id -u; cat /proc/self/uid_map; hostname; head -c2 /dev/zero | wc -c; ls /proc/1/exe",
        &|_| {},
    );
    let output = call(&ground, &["run", "c"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let expected = ["0", "0", &USER.to_string(), "1", "container", "2", "/proc/1/exe"];
    assert_eq!(text.split_whitespace().collect::<Vec<_>>(), expected, "{output:?}");
    change("exec sleep 1000", &|_| {});
    let output = call(&ground, &["create", "c"]);
    assert!(output.status.success(), "{output:?}");
    assert!(ground.path("run/strata-runtime/c").exists(), "its own place");
    assert!(call(&ground, &["start", "c"]).status.success());
    let output = call(&ground, &["exec", "c", "id", "-u"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0\n", "{output:?}");
    let state: Value = serde_json::from_slice(&call(&ground, &["state", "c"]).stdout).unwrap();
    assert_eq!(state["status"], "running");
    let output = call(&ground, &["delete", "--force", "c"]);
    assert!(output.status.success(), "{output:?}");
    assert!(!ground.path("run/strata-runtime/c").exists());
    // A limit that nobody could hold is refused, not forgotten.
    change("true", &|config| {
        config["linux"]["resources"] = json!({"pids": {"limit": 5}})
    });
    let output = call(&ground, &["run", "c"]);
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("no pids cgroup"),
        "{output:?}"
    );
}
