//! Checkpoint and restore through CRIU. Needs root and busybox-static; most of it a CRIU that works on this kernel,
//! which the guest of `make test-v2` has.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use support::Ground;

/// Whether CRIU works here. The guest says that it must.
fn criu() -> bool {
    let works = Command::new("criu")
        .arg("check")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    assert!(
        works || std::env::var_os("STRATA_TEST_CRIU").is_none(),
        "criu check fails"
    );
    works
}

fn good(output: Output) -> Output {
    assert!(output.status.success(), "{output:?}");
    output
}

/// What CRIU did last, when it failed.
fn logged(ground: &Ground, log: &str, output: Output) {
    if !output.status.success() {
        let text = std::fs::read_to_string(ground.path(log)).unwrap_or_default();
        let last: Vec<&str> = text.lines().rev().take(60).collect();
        panic!("{output:?}\n{}", last.into_iter().rev().collect::<Vec<_>>().join("\n"));
    }
}

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn status(ground: &Ground) -> Value {
    serde_json::from_slice::<Value>(&good(ground.call(&["state", "c"])).stdout).unwrap()["status"].clone()
}

/// Makes a container whose streams are not files of the host's, which it could not be restored with.
fn quiet(ground: &Ground, arguments: &[&str]) {
    let mut command = ground.command(arguments);
    let streams = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(streams.status().unwrap().success(), "{arguments:?}");
}

/// Counts in a file of a tmpfs of its own, which only its processes can know.
const COUNT: &str = "n=0; while :; do n=$((n+1)); echo $n >/dev/shm/count; sleep 0.05; done";

fn start(ground: &Ground, change: impl FnOnce(&mut Value)) {
    ground.write_config(&["sh", "-c", COUNT], change);
    quiet(ground, &["create", "c"]);
    good(ground.call(&["start", "c"]));
    assert!(count_above(ground, 0) > 0);
}

/// The count, once it is above `least`.
fn count_above(ground: &Ground, least: u64) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let output = ground.call(&["exec", "c", "cat", "/dev/shm/count"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        match text.trim().parse() {
            Ok(count) if count > least => return count,
            _ => assert!(Instant::now() < deadline, "{output:?}"),
        }
    }
}

#[test]
fn without_criu_one_sentence_says_so() {
    let ground = Ground::new();
    ground.write_config(&["sleep", "1000"], |_| {});
    good(ground.call(&["create", "c"]));
    let output = ground.call(&["checkpoint", "c"]);
    assert!(
        error(&output).contains("Container cannot be checkpointed in created state"),
        "{output:?}"
    );
    good(ground.call(&["start", "c"]));
    for arguments in [&["checkpoint", "c"][..], &["restore", "d"]] {
        let mut command = ground.command(arguments);
        let output = Ground::finish(command.env("PATH", "/nowhere"));
        assert_eq!(output.status.code(), Some(1));
        assert!(
            error(&output).contains("checkpoint and restore need CRIU: exec: \"criu\": executable file not found"),
            "{output:?}"
        );
    }
    assert_eq!(status(&ground), "running");
    assert!(!ground.path("checkpoint").exists() && !ground.path("state/d").exists());
}

#[test]
fn options_that_make_no_sense_are_refused() {
    if !Path::new("/usr/sbin/criu").exists() {
        return;
    }
    let ground = Ground::new();
    ground.write_config(&["sleep", "1000"], |_| {});
    good(ground.call(&["create", "c"]));
    good(ground.call(&["start", "c"]));
    for (flag, value, expected) in [
        ("--manage-cgroups-mode", "x", "invalid manage-cgroups-mode value"),
        ("--empty-ns", "pid", "is not supported"),
        ("--parent-path", "/x", "--parent-path must be relative"),
        ("--parent-path", "x", "invalid --parent-path"),
        ("--page-server", "x", "ADDRESS:PORT"),
        ("--status-fd", "77", "invalid --status-fd argument 77"),
    ] {
        let output = ground.call(&["checkpoint", flag, value, "c"]);
        assert!(error(&output).contains(expected), "{output:?}");
    }
    assert_eq!(status(&ground), "running");
    if !criu() {
        let output = ground.call(&["checkpoint", "c"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(error(&output).contains("criu failed: type DUMP"), "{output:?}");
        assert_eq!(status(&ground), "running");
    }
}

#[test]
fn a_restored_container_goes_on_where_it_was() {
    if !criu() {
        return;
    }
    let ground = Ground::new();
    std::fs::create_dir(ground.path("volume")).unwrap();
    std::fs::write(ground.path("volume/file"), "kept").unwrap();
    let volume = ground.path("volume");
    start(&ground, |config| {
        let mount = json!({"destination": "/volume", "type": "bind", "source": volume, "options": ["bind"]});
        config["mounts"].as_array_mut().unwrap().push(mount);
    });
    let before = count_above(&ground, 3);
    logged(
        &ground,
        "work/dump.log",
        ground.call(&["checkpoint", "--image-path", "images", "--work-path", "work", "c"]),
    );
    assert!(!ground.path("state/c").exists(), "what is written down is gone");
    assert!(ground.cgroups().iter().all(|path| !path.join("c").exists()));
    logged(
        &ground,
        "work/restore.log",
        ground.call(&[
            "restore",
            "--image-path",
            "images",
            "--work-path",
            "work",
            "--detach",
            "--pid-file",
            "pid",
            "c",
        ]),
    );
    assert_eq!(status(&ground), "running");
    let after = count_above(&ground, before);
    assert!(after < before + 10_000);
    let inside = good(ground.call(&["exec", "c", "cat", "/volume/file"]));
    assert_eq!(inside.stdout, b"kept");
    // It is a container like others.
    let pid = std::fs::read_to_string(ground.path("pid")).unwrap();
    let place = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(place.contains(&format!("/{}/c", ground.name)), "{place}");
    let masked = good(ground.call(&[
        "exec",
        "c",
        "sh",
        "-c",
        "wc -c </proc/kcore; ip link show lo 2>/dev/null; true",
    ]));
    assert!(masked.stdout.starts_with(b"0"), "{masked:?}");
    good(ground.call(&["pause", "c"]));
    assert_eq!(status(&ground), "paused");
    good(ground.call(&["resume", "c"]));
    good(ground.call(&["kill", "c", "KILL"]));
    good(ground.call(&["delete", "--force", "c"]));
    assert!(!ground.path("state/c").exists());
}

#[test]
fn one_that_is_left_running_can_be_written_again_and_what_was_written_comes_back_in_the_foreground() {
    if !criu() {
        return;
    }
    let ground = Ground::new();
    start(&ground, |_| {});
    logged(
        &ground,
        "images/first/dump.log",
        ground.call(&["checkpoint", "--pre-dump", "--image-path", "images/first", "c"]),
    );
    let output = ground.call(&[
        "checkpoint",
        "--leave-running",
        "--image-path",
        "images/second",
        "--parent-path",
        "../first",
        "c",
    ]);
    logged(&ground, "images/second/dump.log", output);
    let count = count_above(&ground, 0);
    count_above(&ground, count);
    good(ground.call(&["delete", "--force", "c"]));
    let mut run = ground
        .command(&["restore", "--image-path", "images/second", "c"])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !ground.path("state/c/state.json").exists() {
        assert!(Instant::now() < deadline && run.try_wait().unwrap().is_none());
    }
    count_above(&ground, 0);
    good(ground.call(&["kill", "c", "KILL"]));
    assert_eq!(run.wait().unwrap().code(), Some(137));
    assert!(!ground.path("state/c").exists());
}

#[test]
fn pipes_of_the_container_are_those_of_who_restores_it() {
    if !criu() {
        return;
    }
    let ground = Ground::new();
    ground.write_config(&["sh", "-c", "while read line; do echo got $line; done"], |_| {});
    let spawn = |arguments: &[&str]| {
        let mut command = ground.command(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let mut run = spawn(&["run", "c"]);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !ground.call(&["state", "c"]).status.success() || status(&ground) != "running" {
        assert!(Instant::now() < deadline);
    }
    logged(&ground, "checkpoint/dump.log", ground.call(&["checkpoint", "c"]));
    assert_eq!(run.wait().unwrap().code(), Some(137));
    let mut restored = spawn(&["restore", "c"]);
    use std::io::Write;
    restored.stdin.take().unwrap().write_all(b"this\n").unwrap();
    let mut text = String::new();
    restored.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    let mut errors = String::new();
    restored.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert_eq!(
        (&*text, restored.wait().unwrap().code()),
        ("got this\n", Some(0)),
        "{errors}"
    );
}

#[test]
fn a_terminal_goes_to_the_console_socket_again() {
    use std::io::Write;
    if !criu() {
        return;
    }
    let ground = Ground::new();
    let path = ground.path("console.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let socket = path.to_str().unwrap();
    ground.write_config(&["sh", "-c", "while read line; do echo got $line; done"], |config| {
        config["process"]["terminal"] = true.into();
    });
    quiet(&ground, &["create", "--console-socket", socket, "c"]);
    let first = support::receive_master(&listener);
    good(ground.call(&["start", "c"]));
    logged(&ground, "checkpoint/dump.log", ground.call(&["checkpoint", "c"]));
    drop(first);
    let output = ground.call(&["restore", "--detach", "--console-socket", socket, "c"]);
    logged(&ground, "checkpoint/restore.log", output);
    let mut master = support::receive_master(&listener);
    master.write_all(b"this\n\x04").unwrap();
    let mut text = Vec::new();
    // It ends with an error when nobody has the other side any more.
    let _ = master.read_to_end(&mut text);
    assert!(String::from_utf8_lossy(&text).contains("got this"), "{text:?}");
    good(ground.call(&["delete", "--force", "c"]));
}

#[test]
fn images_that_are_not_there_or_damaged_leave_nothing_behind() {
    if !criu() {
        return;
    }
    let ground = Ground::new();
    ground.write_config(&["true"], |_| {});
    let output = ground.call(&["restore", "--image-path", "nowhere", "c"]);
    assert!(error(&output).contains("nowhere"), "{output:?}");
    std::fs::create_dir(ground.path("images")).unwrap();
    std::fs::write(ground.path("images/descriptors.json"), "[]").unwrap();
    let output = ground.call(&["restore", "--image-path", "images", "c"]);
    assert!(error(&output).contains("criu failed: type RESTORE"), "{output:?}");
    assert!(!ground.path("state/c").exists());
    assert!(ground.cgroups().iter().all(|path| !path.join("c").exists()));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(ground.directory.path().to_str().unwrap()), "{mounts}");
}
