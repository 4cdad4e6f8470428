//! The OCI command line on a real kernel. Needs root and busybox-static.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use support::{Ground, shell};

#[test]
fn a_container_goes_through_its_life() {
    let ground = Ground::new();
    ground.write_config(&["sleep", "1000"], |config| config["annotations"] = json!({"a": "b"}));
    let state = |expected: &str| {
        let output = ground.call(&["state", "c"]);
        let state: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(state["status"], expected);
        state
    };
    assert!(ground.call(&["create", "--pid-file", "pid", "c"]).status.success());
    let created = state("created");
    assert_eq!(created["annotations"]["a"], "b");
    assert_eq!(
        created["pid"].to_string(),
        std::fs::read_to_string(ground.path("pid")).unwrap()
    );
    let again = ground.call(&["create", "c"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("container with given ID already exists"));
    assert!(ground.call(&["start", "c"]).status.success());
    state("running");
    assert!(!ground.call(&["start", "c"]).status.success());
    assert!(!ground.call(&["delete", "c"]).status.success());
    assert!(ground.call(&["pause", "c"]).status.success());
    state("paused");
    assert!(!ground.call(&["exec", "c", "true"]).status.success());
    assert!(ground.call(&["resume", "c"]).status.success());
    assert_eq!(ground.call(&["exec", "c", "sh", "-c", "exit 9"]).status.code(), Some(9));
    let listed: Value = serde_json::from_slice(&ground.call(&["list", "--format", "json"]).stdout).unwrap();
    assert_eq!(listed[0]["id"], "c");
    let processes: Vec<i32> = serde_json::from_slice(&ground.call(&["ps", "--format", "json", "c"]).stdout).unwrap();
    assert_eq!(processes.len(), 1);
    assert!(ground.call(&["kill", "c", "KILL"]).status.success());
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !String::from_utf8_lossy(&ground.call(&["state", "c"]).stdout).contains("\"stopped\"") {
        assert!(std::time::Instant::now() < deadline);
        std::thread::yield_now();
    }
    assert!(ground.call(&["delete", "c"]).status.success());
    assert!(!ground.call(&["state", "c"]).status.success());
    assert!(
        ground.call(&["delete", "--force", "c"]).status.success(),
        "a missing one is no error by force"
    );
    assert!(ground.cgroups().iter().all(|path| !path.join("c").exists()));
    assert_eq!(std::fs::read_dir(ground.path("state")).unwrap().count(), 0);
}

#[test]
fn errors_are_those_users_know() {
    let ground = Ground::new();
    let table: [(&[&str], &str); 3] = [
        (
            &["nope"],
            "unable to start container process: exec: \"nope\": executable file not found in $PATH",
        ),
        (&["/nope"], "exec: \"/nope\": stat /nope: no such file or directory"),
        (&["/etc/passwd"], "exec: \"/etc/passwd\": permission denied"),
    ];
    for (args, expected) in table {
        ground.write_config(args, |_| {});
        let output = ground.call(&["--log", "log", "--log-format", "json", "create", "c"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains(expected), "{output:?}");
        let log = std::fs::read_to_string(ground.path("log")).unwrap();
        let entry: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
        assert!(entry["msg"].as_str().unwrap().contains(expected));
        assert!(!ground.path("state/c").exists(), "nothing is left of it");
    }
    for id in ["", "..", "a/b", "x y"] {
        assert!(!ground.call(&["create", id]).status.success(), "{id:?}");
    }
    assert!(ground.cgroups().iter().all(|path| !path.join("c").exists()));
}

#[test]
fn the_process_is_who_and_where_it_should_be() {
    let ground = Ground::new();
    let output = shell(
        &ground,
        "id -u; id -g; id -G; pwd; umask; echo $HOME; grep -E 'CapEff|CapBnd|CapAmb|NoNewPrivs' /proc/self/status; ulimit -n; cat /proc/self/oom_score_adj",
        |config| {
            let process = &mut config["process"];
            process["user"] = json!({"username": "web", "umask": 0o77, "additionalGids": [77]});
            process["cwd"] = "/made/for/it".into();
            process["oomScoreAdj"] = 500.into();
            for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
                process["capabilities"][set] = json!(["CAP_KILL"]);
            }
        },
    );
    let fields: Vec<&str> = output.split_whitespace().collect();
    let expected = [
        "33",
        "34",
        "34",
        "40",
        "77",
        "/made/for/it",
        "0077",
        "/home",
        "CapEff:",
        "0000000000000020",
        "CapBnd:",
        "0000000000000020",
        "CapAmb:",
        "0000000000000020",
        "NoNewPrivs:",
        "1",
        "1024",
        "500",
    ];
    assert_eq!(fields, expected);
}

#[test]
fn a_negative_oom_score_never_fails_a_container() {
    let ground = Ground::new();
    shell(&ground, "true", |config| {
        config["process"]["oomScoreAdj"] = (-997).into()
    });
}

#[test]
fn the_kernels_files_are_masked_and_read_only() {
    let ground = Ground::new();
    std::fs::create_dir(ground.root().join("secret")).unwrap();
    std::fs::write(ground.root().join("secret/key"), "x").unwrap();
    std::fs::write(ground.root().join("token"), "x").unwrap();
    let script = "ls /secret; cat /token; touch /fixed/x 2>/dev/null && echo wrote; \
                  echo 1 > /proc/sys/kernel/sysrq || echo refused; touch /x || echo root is read-only";
    std::fs::create_dir(ground.root().join("fixed")).unwrap();
    let output = shell(&ground, script, |config| {
        config["root"]["readonly"] = true.into();
        config["linux"]["maskedPaths"] = json!(["/secret", "/token", "/not/there"]);
        config["linux"]["readonlyPaths"] = json!(["/fixed", "/proc/sys", "/not/there"]);
    });
    assert_eq!(output, "refused\nroot is read-only\n");
}

#[test]
fn limits_stand_in_the_cgroup() {
    let ground = Ground::new();
    ground.write_config(&["sleep", "1000"], |config| {
        config["linux"]["resources"] = json!({
            "memory": {"limit": 67_108_864, "reservation": 33_554_432},
            "cpu": {"shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0"},
            "pids": {"limit": 17},
            "devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 10, "minor": 200, "access": "rw"}],
        });
    });
    assert!(ground.call(&["create", "c"]).status.success());
    let read = |hierarchy: &str, name: &str| {
        let path = format!("/sys/fs/cgroup/{hierarchy}/{}/c/{name}", ground.name);
        std::fs::read_to_string(path).unwrap().trim().to_string()
    };
    if std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        assert_eq!(read("", "memory.max"), "67108864");
        assert_eq!(read("", "cpu.max"), "50000 100000");
        assert_eq!(read("", "pids.max"), "17");
        return;
    }
    assert_eq!(read("memory", "memory.limit_in_bytes"), "67108864");
    assert_eq!(read("memory", "memory.soft_limit_in_bytes"), "33554432");
    assert_eq!(read("cpu", "cpu.shares"), "512");
    assert_eq!(read("cpu", "cpu.cfs_quota_us"), "50000");
    assert_eq!(read("cpuset", "cpuset.cpus"), "0");
    assert_eq!(read("pids", "pids.max"), "17");
    let devices = read("devices", "devices.list");
    assert!(
        devices.contains("c 10:200 rw") && !devices.contains("a *:*"),
        "{devices}"
    );
    assert!(
        ground
            .call(&["update", "--pids-limit", "20", "--memory", "134217728", "c"])
            .status
            .success()
    );
    assert_eq!(read("pids", "pids.max"), "20");
    assert_eq!(read("memory", "memory.limit_in_bytes"), "134217728");
}

#[test]
fn a_device_that_is_not_allowed_cannot_be_opened() {
    let ground = Ground::new();
    let output = shell(
        &ground,
        "head -c1 /dev/kmsg || echo denied; head -c1 /dev/zero | wc -c",
        |config| {
            config["linux"]["devices"] = json!([{"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11}]);
        },
    );
    assert_eq!(output, "denied\n1\n");
}

#[test]
fn a_filter_is_in_force() {
    let ground = Ground::new();
    for no_new_privileges in [true, false] {
        let output = shell(
            &ground,
            "mkdir /d && echo made; grep Seccomp: /proc/self/status",
            |config| {
                config["process"]["noNewPrivileges"] = no_new_privileges.into();
                config["linux"]["seccomp"] = json!({
                    "defaultAction": "SCMP_ACT_ALLOW",
                    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}],
                });
            },
        );
        assert_eq!(output.split_whitespace().collect::<Vec<_>>(), ["Seccomp:", "2"]);
    }
}

#[test]
fn a_filter_that_allows_little_hinders_the_program_alone() {
    let ground = Ground::new();
    // What busybox needs to print a line, and what is left to do behind the filter.
    let names = [
        "capset",
        "execve",
        "execveat",
        "brk",
        "arch_prctl",
        "set_tid_address",
        "set_robust_list",
        "rseq",
        "prlimit64",
        "readlink",
        "readlinkat",
        "getrandom",
        "mprotect",
        "prctl",
        "getuid",
        "setuid",
        "setgid",
        "getgid",
        "write",
        "exit_group",
        "mmap",
        "munmap",
        "fstat",
        "newfstatat",
        "ioctl",
        "geteuid",
    ];
    let (output, error, code) = ground.run(&["echo", "hello"], |config| {
        config["process"]["noNewPrivileges"] = false.into();
        config["process"]["user"] = json!({"uid": 33, "gid": 34});
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}],
        });
    });
    assert_eq!((&*output, code), ("hello\n", 0), "{error}");
}

#[test]
fn hooks_run_in_order_and_get_the_state() {
    let ground = Ground::new();
    let log = ground.path("hooks");
    let hook = |name: &str| {
        let script = format!("read state; echo \"{name} $state\" >> {}", log.display());
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}])
    };
    ground.write_config(&["true"], |config| {
        config["hooks"] = json!({
            "createRuntime": hook("createRuntime"), "createContainer": hook("createContainer"),
            "poststart": hook("poststart"), "poststop": hook("poststop"),
        });
    });
    let output = ground.call(&["run", "c"]);
    assert!(output.status.success(), "{output:?}");
    let text = std::fs::read_to_string(&log).unwrap();
    let names: Vec<&str> = text.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(names, ["createRuntime", "createContainer", "poststart", "poststop"]);
    let state: Value = serde_json::from_str(text.lines().next().unwrap().split_once(' ').unwrap().1).unwrap();
    assert_eq!((&state["id"], &state["status"]), (&json!("c"), &json!("creating")));
    ground.write_config(&["true"], |config| {
        config["hooks"] = json!({"createRuntime": [{"path": "/bin/false"}]});
    });
    let output = ground.call(&["run", "c"]);
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("createRuntime hook #0: exit status 1"),
        "{output:?}"
    );
    assert!(!ground.path("state/c").exists());
}

#[test]
fn a_user_namespace_maps_root_to_nobody_special() {
    let ground = Ground::new();
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    for path in ["rootfs", "."] {
        // The mapped user has to reach the root file system.
        std::fs::set_permissions(ground.path(path), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let output = shell(
        &ground,
        "id -u; cat /proc/self/uid_map; head -c3 /dev/zero | wc -c",
        |config| {
            config["linux"]["uidMappings"] = map.clone();
            config["linux"]["gidMappings"] = map.clone();
            config["linux"]["namespaces"]
                .as_array_mut()
                .unwrap()
                .push(json!({"type": "user"}));
        },
    );
    assert_eq!(
        output.split_whitespace().collect::<Vec<_>>(),
        ["0", "0", "100000", "65536", "3"]
    );
}

#[test]
fn namespaces_are_joined_by_path() {
    let ground = Ground::new();
    ground.write_config(&["sleep", "1000"], |_| {});
    assert!(ground.call(&["create", "--pid-file", "pid", "c"]).status.success());
    let pid = std::fs::read_to_string(ground.path("pid")).unwrap();
    let other = Ground::new();
    let output = shell(&other, "hostname; echo $$; ls -l /proc/self/ns/net", |config| {
        config["hostname"] = "".into();
        let paths = [("pid", "pid"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts")];
        let mut namespaces = vec![json!({"type": "mount"}), json!({"type": "cgroup"})];
        namespaces.extend(paths.map(|(kind, file)| json!({"type": kind, "path": format!("/proc/{pid}/ns/{file}")})));
        config["linux"]["namespaces"] = namespaces.into();
    });
    let expected = std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    assert!(output.starts_with("container\n2\n"), "{output}");
    assert!(output.contains(expected.to_str().unwrap()), "{output}");
}

#[test]
fn a_time_namespace_has_its_offset() {
    let ground = Ground::new();
    let output = shell(&ground, "cat /proc/uptime", |config| {
        config["linux"]["namespaces"]
            .as_array_mut()
            .unwrap()
            .push(json!({"type": "time"}));
        config["linux"]["timeOffsets"] = json!({"boottime": {"secs": 5_000_000}});
    });
    assert!(
        output.split('.').next().unwrap().parse::<u64>().unwrap() >= 5_000_000,
        "{output}"
    );
}

#[test]
fn sysctls_are_the_containers_own() {
    let ground = Ground::new();
    let output = shell(
        &ground,
        "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shm_rmid_forced",
        |config| {
            config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1"});
        },
    );
    assert_eq!(output, "1\n1\n");
    for name in ["../../etc/passwd", "net..x", ""] {
        let (_, error, code) = ground.run(&["true"], |config| config["linux"]["sysctl"] = json!({name: "1"}));
        assert!(code != 0 && error.contains("bad sysctl"), "{name} {error}");
    }
}

#[test]
fn shared_volumes_show_mounts_made_on_the_host() {
    let ground = Ground::new();
    let volume = ground.path("volume");
    std::fs::create_dir(&volume).unwrap();
    let output = shell(&ground, "grep ' /v ' /proc/self/mountinfo", |config| {
        let mount = json!({"destination": "/v", "type": "bind", "source": volume, "options": ["rbind", "rslave"]});
        config["mounts"].as_array_mut().unwrap().push(mount);
    });
    assert!(output.contains(" /v "), "{output}");
}

#[test]
fn the_terminal_goes_to_the_console_socket() {
    use std::io::Read;
    let ground = Ground::new();
    let path = ground.path("console.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    ground.write_config(&["sh", "-c", "stty size; echo hello from the terminal"], |config| {
        config["process"]["terminal"] = true.into();
        config["process"]["consoleSize"] = json!({"height": 21, "width": 77});
    });
    assert!(
        !ground.call(&["create", "c"]).status.success(),
        "a terminal needs somewhere to go"
    );
    let output = ground.call(&["create", "--console-socket", path.to_str().unwrap(), "c"]);
    assert!(output.status.success(), "{output:?}");
    let mut master = support::receive_master(&listener);
    assert!(ground.call(&["start", "c"]).status.success());
    let mut text = Vec::new();
    let _ = master.read_to_end(&mut text);
    let text = String::from_utf8(text).unwrap();
    assert!(
        text.contains("21 77") && text.contains("hello from the terminal"),
        "{text}"
    );
}

#[test]
fn the_example_and_the_features_are_good_json() {
    let ground = Ground::new();
    assert!(ground.call(&["spec"]).status.success());
    assert!(
        !ground.call(&["spec"]).status.success(),
        "an existing one is not overwritten"
    );
    let spec: Value = serde_json::from_slice(&std::fs::read(ground.path("config.json")).unwrap()).unwrap();
    assert_eq!(spec["process"]["args"][0], "sh");
    let features: Value = serde_json::from_slice(&ground.call(&["features"]).stdout).unwrap();
    assert_eq!(features["linux"]["cgroup"]["v1"], true);
    assert_eq!(features["linux"]["capabilities"].as_array().unwrap().len(), 41);
}

#[test]
fn the_first_process_of_a_cluster_node_mounts_proc_reaps_and_passes_on_signals() {
    let program = support::PROGRAM;
    let script = format!(
        "exec {program} node-init /bin/sh -c 'trap \"echo got it; exit 5\" TERM; (sleep 0 & ) ; \
         grep -c . /proc/1/status > /dev/null && echo $$; kill -TERM 1; wait; while :; do sleep 0.1; done'"
    );
    let output = std::process::Command::new("unshare")
        .args([
            "--mount",
            "--pid",
            "--fork",
            "--propagation",
            "private",
            "sh",
            "-c",
            &script,
        ])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "2\ngot it\n", "{output:?}");
    assert_eq!(output.status.code(), Some(5));
}
