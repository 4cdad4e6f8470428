//! The command line as users of runc know it: its flags, its JSON, its refusals. Needs root and busybox-static.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Seek};
use std::os::fd::AsRawFd;
use std::process::{Output, Stdio};
use support::Ground;

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn running(ground: &Ground, args: &[&str], change: impl FnOnce(&mut Value)) {
    ground.write_config(args, change);
    for command in [&["create", "c"][..], &["start", "c"]] {
        let output = ground.call(command);
        assert!(output.status.success(), "{output:?}");
    }
}

/// The container's directory in the hierarchies of v1, or the one of v2.
fn cgroup(ground: &Ground, controller: &str) -> String {
    if std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        format!("/sys/fs/cgroup/{}/c", ground.name)
    } else {
        format!("/sys/fs/cgroup/{controller}/{}/c", ground.name)
    }
}

fn unified() -> bool {
    std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

#[test]
fn state_and_list_have_the_shape_that_readers_of_runc_expect() {
    let ground = Ground::new();
    assert_eq!(text(&ground.call(&["list", "-f", "json"])), "null\n");
    running(&ground, &["sleep", "1000"], |config| {
        config["annotations"] = json!({"a": "b"})
    });
    let state: Value = serde_json::from_slice(&ground.call(&["state", "c"]).stdout).unwrap();
    let members: Vec<&str> = state.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "annotations",
        "bundle",
        "created",
        "id",
        "ociVersion",
        "owner",
        "pid",
        "rootfs",
        "status",
    ];
    assert_eq!(members, expected);
    assert_eq!(state["owner"], "root");
    let list: Value = serde_json::from_slice(&ground.call(&["list", "-f", "json"]).stdout).unwrap();
    assert_eq!(list, json!([state]));
    assert_eq!(text(&ground.call(&["list", "-q"])), "c\n");
    let table = text(&ground.call(&["list"]));
    let head: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(head, ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    assert!(!ground.call(&["list", "-f", "xml"]).status.success());
}

#[test]
fn processes_are_listed_by_us_and_by_ps() {
    let ground = Ground::new();
    running(&ground, &["sleep", "1000"], |_| {});
    let state: Value = serde_json::from_slice(&ground.call(&["state", "c"]).stdout).unwrap();
    let pid = state["pid"].to_string();
    assert_eq!(text(&ground.call(&["ps", "-f", "json", "c"])), format!("[{pid}]\n"));
    let table = text(&ground.call(&["ps", "c"]));
    assert!(
        table.lines().count() == 2 && table.contains(&pid) && table.contains("sleep 1000"),
        "{table}"
    );
    if std::path::Path::new("/bin/ps").exists() {
        let table = text(&ground.call(&["ps", "c", "-e", "-o", "pid,comm"]));
        assert_eq!(
            table.split_whitespace().collect::<Vec<_>>(),
            ["PID", "COMMAND", &pid, "sleep"]
        );
    }
}

#[test]
fn events_tell_what_is_used_and_end_with_the_container() {
    let ground = Ground::new();
    running(&ground, &["sleep", "1000"], |config| {
        config["linux"]["resources"]["pids"] = json!({"limit": 9});
        config["linux"]["resources"]["memory"] = json!({"limit": 33_554_432});
    });
    let once: Value = serde_json::from_slice(&ground.call(&["events", "--stats", "c"]).stdout).unwrap();
    assert_eq!((&once["type"], &once["id"]), (&json!("stats"), &json!("c")));
    assert_eq!(once["data"]["pids"], json!({"current": 1, "limit": 9}));
    assert_eq!(once["data"]["memory"]["usage"]["limit"], 33_554_432);
    assert!(once["data"]["memory"]["raw"].as_object().unwrap().len() > 10);
    assert!(once["data"]["cpu"]["usage"]["total"].as_u64().unwrap() > 0);
    let mut follow = ground.command(&["events", "--interval", "20ms", "c"]);
    let mut follow = follow.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    for _ in 0..3 {
        let event: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(event["type"], "stats");
    }
    // Too much memory is told of.
    let _ = ground.call(&["exec", "c", "dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"]);
    let oom = lines
        .by_ref()
        .map_while(Result::ok)
        .any(|line| line.contains("\"oom\""));
    assert!(oom, "an event of type oom");
    assert!(ground.call(&["kill", "c", "KILL"]).status.success());
    assert!(lines.map_while(Result::ok).count() < 1000);
    assert!(follow.wait().unwrap().success());
    assert!(error(&ground.call(&["events", "--interval", "0s", "c"])).contains("greater than 0"));
    assert!(error(&ground.call(&["events", "c"])).contains("is not running"));
}

#[test]
fn update_takes_units_files_and_refuses_nonsense() {
    let ground = Ground::new();
    running(&ground, &["sleep", "1000"], |_| {});
    let (memory, knob) = if unified() {
        ("memory", "memory.max")
    } else {
        ("memory", "memory.limit_in_bytes")
    };
    let limit = || {
        std::fs::read_to_string(format!("{}/{knob}", cgroup(&ground, memory)))
            .unwrap()
            .trim()
            .to_string()
    };
    assert!(ground.call(&["update", "--memory", "64m", "c"]).status.success());
    assert_eq!(limit(), "67108864");
    std::fs::write(
        ground.path("r.json"),
        r#"{"memory": {"limit": 134217728}, "pids": {"limit": 33}}"#,
    )
    .unwrap();
    assert!(ground.call(&["update", "-r", "r.json", "c"]).status.success());
    assert_eq!(limit(), "134217728");
    let pids = std::fs::read_to_string(format!("{}/pids.max", cgroup(&ground, "pids"))).unwrap();
    assert_eq!(pids.trim(), "33");
    for (arguments, expected) in [
        (["--memory", "64x"], "invalid value for memory"),
        (["--cpu-share", "-5"], "is negative"),
        (["--l3-cache-schema", "x"], "not supported"),
        (["--pids-limit", "many"], "not a number"),
    ] {
        let output = ground.call(&["update", arguments[0], arguments[1], "c"]);
        assert!(error(&output).contains(expected), "{output:?}");
    }
    if unified() {
        std::fs::write(
            ground.path("r.json"),
            r#"{"memory": {"limit": 1, "checkBeforeUpdate": true}}"#,
        )
        .unwrap();
        assert!(error(&ground.call(&["update", "-r", "r.json", "c"])).contains("rejecting memory limit"));
    }
    assert!(ground.call(&["delete", "--force", "c"]).status.success());
    assert!(error(&ground.call(&["update", "--memory", "64m", "c"])).contains("does not exist"));
}

#[test]
fn a_cgroup_that_is_in_use_or_frozen_is_refused() {
    let ground = Ground::new();
    ground.write_config(&["true"], |_| {});
    let directory = cgroup(&ground, if unified() { "" } else { "pids" });
    std::fs::create_dir_all(&directory).unwrap();
    let mut other = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    std::fs::write(format!("{directory}/cgroup.procs"), other.id().to_string()).unwrap();
    let output = ground.call(&["create", "c"]);
    other.kill().unwrap();
    other.wait().unwrap();
    assert!(
        error(&output).contains("container's cgroup is not empty: 1 process(es) found"),
        "{output:?}"
    );
    assert!(std::path::Path::new(&directory).exists(), "what is not ours stays");
    let (freezer, knob, value) = if unified() {
        (directory.clone(), "cgroup.freeze", "1")
    } else {
        (cgroup(&ground, "freezer"), "freezer.state", "FROZEN")
    };
    std::fs::create_dir_all(&freezer).unwrap();
    std::fs::write(format!("{freezer}/{knob}"), value).unwrap();
    let output = ground.call(&["create", "c"]);
    assert!(
        error(&output).contains("container's cgroup unexpectedly frozen"),
        "{output:?}"
    );
    assert!(!ground.path("state/c").exists());
    std::fs::remove_dir(&freezer).unwrap();
    if freezer != directory {
        std::fs::remove_dir(&directory).unwrap();
    }
    assert!(ground.call(&["run", "c"]).status.success());
}

#[test]
fn a_paused_container_is_neither_started_nor_entered_but_on_request() {
    let ground = Ground::new();
    ground.write_config(&["sleep", "1000"], |_| {});
    assert!(ground.call(&["create", "c"]).status.success());
    assert!(ground.call(&["pause", "c"]).status.success());
    assert!(error(&ground.call(&["start", "c"])).contains("paused"));
    // It is `created` still: only the freezer knows.
    let thaw = if unified() { "cgroup.freeze" } else { "freezer.state" };
    let value = if unified() { "0" } else { "THAWED" };
    std::fs::write(format!("{}/{thaw}", cgroup(&ground, "freezer")), value).unwrap();
    assert!(ground.call(&["start", "c"]).status.success());
    assert!(ground.call(&["pause", "c"]).status.success());
    assert!(error(&ground.call(&["exec", "c", "true"])).contains("cannot exec in a paused container"));
    let mut exec = ground
        .command(&["exec", "--ignore-paused", "c", "true"])
        .spawn()
        .unwrap();
    assert!(ground.call(&["resume", "c"]).status.success());
    assert!(exec.wait().unwrap().success());
}

#[test]
fn a_further_process_is_what_its_flags_say() {
    let ground = Ground::new();
    running(&ground, &["sleep", "1000"], |_| {});
    let script = "id -u; id -G; pwd; echo $A; grep CapEff /proc/self/status; grep NoNewPrivs /proc/self/status";
    let output = ground.call(&[
        "exec",
        "--cwd",
        "/home",
        "--env",
        "A=b",
        "--user",
        "33:34",
        "--additional-gids",
        "77",
        "--cap",
        "CAP_KILL",
        "--no-new-privs",
        "--pid-file",
        "pid",
        "c",
        "sh",
        "-c",
        script,
    ]);
    let expected = [
        "33",
        "34",
        "77",
        "/home",
        "b",
        "CapEff:",
        "0000000000000020",
        "NoNewPrivs:",
        "1",
    ];
    let found = text(&output);
    let found: Vec<&str> = found.split_whitespace().collect();
    assert_eq!(found[..5], expected[..5], "{output:?}");
    assert_eq!(found[7..], expected[7..], "{output:?}");
    assert!(
        std::fs::read_to_string(ground.path("pid"))
            .unwrap()
            .parse::<u32>()
            .is_ok()
    );
}

#[test]
fn a_further_process_enters_the_cgroup_below_that_was_named() {
    let ground = Ground::new();
    running(&ground, &["sleep", "1000"], |_| {});
    let below = format!("{}/below", cgroup(&ground, "pids"));
    std::fs::create_dir(&below).unwrap();
    let place = if unified() { "below" } else { "pids:below" };
    let output = ground.call(&["exec", "--cgroup", place, "c", "cat", "/proc/self/cgroup"]);
    assert!(text(&output).lines().any(|line| line.ends_with("/below")), "{output:?}");
    for bad in ["missing", "../other", "nope:below"] {
        let output = ground.call(&["exec", "--cgroup", bad, "c", "true"]);
        assert!(!output.status.success(), "{bad}");
    }
    std::fs::remove_dir(below).unwrap();
}

#[test]
fn descriptors_are_passed_on_when_asked_for() {
    let ground = Ground::new();
    let file = std::fs::File::open("/etc/hostname").unwrap();
    ground.write_config(
        &[
            "sh",
            "-c",
            "ls /proc/self/fd | wc -l; echo $LISTEN_FDS $LISTEN_PID; cat <&3",
        ],
        |_| {},
    );
    let call = |variables: &str, arguments: &str| {
        (&file).rewind().unwrap();
        let program = ground.command(&[]);
        let script = format!(
            "exec 3<&{}; {variables} exec {} --root {} {arguments}",
            file.as_raw_fd(),
            program.get_program().display(),
            ground.path("state").display()
        );
        rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
        let mut shell = std::process::Command::new("sh");
        let output = Ground::finish(shell.args(["-c", &script]).current_dir(ground.path("")));
        rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::CLOEXEC).unwrap();
        output
    };
    let name = std::fs::read_to_string("/etc/hostname").unwrap();
    let output = call("", "run --preserve-fds 1 c");
    assert_eq!(text(&output), format!("5\n\n{name}"), "{output:?}");
    let output = call("LISTEN_FDS=1", "run c");
    assert_eq!(text(&output), format!("5\n1 1\n{name}"), "{output:?}");
    // Meant for somebody else.
    let output = call("LISTEN_FDS=1 LISTEN_PID=1", "run c");
    assert!(text(&output).starts_with("4\n\n"), "{output:?}");
    let output = ground.call(&["run", "--preserve-fds", "900", "c"]);
    assert!(error(&output).contains("unable to stat preserved-fd"), "{output:?}");
}

#[test]
fn a_container_can_be_kept_at_its_end() {
    let ground = Ground::new();
    ground.write_config(&["sh", "-c", "exit 3"], |_| {});
    assert_eq!(ground.call(&["run", "--keep", "c"]).status.code(), Some(3));
    let state: Value = serde_json::from_slice(&ground.call(&["state", "c"]).stdout).unwrap();
    assert_eq!((&state["status"], &state["pid"]), (&json!("stopped"), &json!(0)));
    assert!(error(&ground.call(&["kill", "c"])).contains("container not running"));
    assert!(ground.call(&["delete", "c"]).status.success());
}

#[test]
fn who_waits_and_who_deletes_remove_it_once_between_them() {
    let ground = Ground::new();
    let log = ground.path("ends");
    for round in 1..=12 {
        ground.write_config(&["sleep", "1000"], |config| {
            let script = format!("echo end >> {}", log.display());
            config["hooks"] = json!({"poststop": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]});
        });
        let mut foreground = ground.command(&["run", "c"]);
        let mut foreground = foreground.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while !text(&ground.call(&["state", "c"])).contains("\"running\"") {
            assert!(std::time::Instant::now() < deadline);
        }
        let deletes = [(); 3].map(|()| {
            let mut command = ground.command(&["delete", "--force", "c"]);
            command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        });
        for delete in deletes {
            let output = delete.wait_with_output().unwrap();
            assert!(output.status.success(), "{output:?}");
        }
        let code = foreground.wait().unwrap().code();
        let mut errors = String::new();
        foreground.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        assert_eq!(code, Some(137), "{errors}");
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "end\n".repeat(round));
        assert!(!ground.path("state/c").exists());
    }
}

#[test]
fn hooks_that_fail_end_what_the_specification_says() {
    let ground = Ground::new();
    let log = ground.path("hooks");
    let hook = |name: &str, code: u32| json!({"path": "/bin/sh", "args": ["sh", "-c", format!("echo {name} >> {}; exit {code}", log.display())]});
    let heard = || std::fs::read_to_string(&log).unwrap_or_default();
    // Before the program begins: it never does, and those of the end run.
    for point in ["prestart", "createRuntime", "createContainer"] {
        let _ = std::fs::remove_file(&log);
        ground.write_config(&["true"], |config| {
            config["hooks"] = json!({"poststop": [hook("stop", 0)]});
            config["hooks"][point] = json!([hook("first", 0), hook("second", 4), hook("third", 0)]);
        });
        let output = ground.call(&["create", "c"]);
        assert!(
            error(&output).contains(&format!("{point} hook #1: exit status 4")),
            "{output:?}"
        );
        assert_eq!(heard(), "first\nsecond\nstop\n", "{point}");
    }
    // After it has begun: it is stopped, and by earlier specifications only told.
    for (version, goes_on) in [("1.2.0", true), ("1.3.0", false)] {
        ground.write_config(&["sleep", "1000"], |config| {
            config["ociVersion"] = version.into();
            config["hooks"] = json!({"poststart": [hook("post", 1)]});
        });
        assert!(ground.call(&["create", "c"]).status.success());
        let output = ground.call(&["start", "c"]);
        assert!(error(&output).contains("poststart hook #0"), "{output:?}");
        assert_eq!(output.status.success(), goes_on);
        if goes_on {
            assert!(ground.call(&["delete", "--force", "c"]).status.success());
        }
    }
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !text(&ground.call(&["state", "c"])).contains("\"stopped\"") {
        assert!(std::time::Instant::now() < deadline);
        std::thread::yield_now();
    }
    assert!(ground.call(&["delete", "c"]).status.success());
    // After its end: told, and the others run.
    let _ = std::fs::remove_file(&log);
    ground.write_config(&["true"], |config| {
        config["hooks"] = json!({"poststop": [hook("first", 1), hook("second", 0)]});
    });
    let output = ground.call(&["--log", "log", "run", "c"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(heard(), "first\nsecond\n");
    let told = std::fs::read_to_string(ground.path("log")).unwrap();
    assert!(
        told.contains("level=warning") && told.contains("poststop hook #0"),
        "{told}"
    );
}

#[test]
fn a_hook_that_hangs_is_killed_after_its_time_and_one_inside_sees_the_container() {
    let ground = Ground::new();
    ground.write_config(&["true"], |config| {
        config["hooks"] = json!({"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "100"], "timeout": 1}]});
    });
    let output = ground.call(&["create", "c"]);
    assert!(error(&output).contains("timed out after 1 s"), "{output:?}");
    ground.write_config(&["cat", "/from-hook"], |config| {
        let script = "read state; echo \"$(hostname) $state\" > /from-hook";
        config["hooks"] =
            json!({"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"]}]});
    });
    let output = text(&ground.call(&["run", "c"]));
    let (name, state) = output.split_once(' ').unwrap();
    let state: Value = serde_json::from_str(state).unwrap();
    assert_eq!(
        (name, &state["status"], &state["pid"]),
        ("container", &json!("created"), &json!(1))
    );
}

#[test]
fn what_to_mask_is_never_a_link() {
    let ground = Ground::new();
    std::os::unix::fs::symlink("/etc/passwd", ground.root().join("token")).unwrap();
    for list in ["maskedPaths", "readonlyPaths"] {
        let (_, error, code) = ground.run(&["cat", "/etc/passwd"], |config| {
            config["linux"][list] = json!(["/token"])
        });
        assert!(code != 0 && error.contains("is a link"), "{error}");
    }
}

#[test]
fn features_name_what_there_is() {
    let ground = Ground::new();
    let features: Value = serde_json::from_slice(&ground.call(&["features"]).stdout).unwrap();
    assert_eq!(features["ociVersionMax"], "1.3.0");
    assert_eq!(features["linux"]["mountExtensions"]["idmap"]["enabled"], true);
    let actions = features["linux"]["seccomp"]["actions"].as_array().unwrap();
    assert!(actions.contains(&json!("SCMP_ACT_NOTIFY")));
    let options = features["mountOptions"].as_array().unwrap();
    for option in ["idmap", "ridmap", "tmpcopyup", "rro"] {
        assert!(options.contains(&json!(option)), "{option}");
    }
}

#[test]
fn what_is_limited_by_a_missing_controller_is_refused() {
    let ground = Ground::new();
    let (_, error, code) = ground.run(&["true"], |config| {
        config["linux"]["resources"]["rdma"] = json!({"not there": {"hcaHandles": 1}});
    });
    assert!(code != 0 && error.contains("bad rdma device"), "{error}");
    if unified() {
        let (_, error, code) = ground.run(&["true"], |config| {
            config["linux"]["resources"]["network"] = json!({"classID": 7});
        });
        assert!(code != 0 && error.contains("needs cgroup v1"), "{error}");
    }
}
