//! What a process can be given, on a real kernel. Needs root and busybox-static.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use std::io::Read;
use std::os::unix::net::UnixListener;
use support::{Ground, shell};

#[test]
fn the_personality_is_that_of_the_configuration() {
    let ground = Ground::new();
    let output = shell(&ground, "cat /proc/self/personality", |config| {
        config["linux"]["personality"] = json!({"domain": "LINUX32"});
    });
    assert_eq!(output, "00000008\n");
    for (personality, expected) in [
        (json!({"domain": "SOLARIS"}), "unknown personality domain"),
        (
            json!({"domain": "LINUX", "flags": ["X"]}),
            "personality flags are not supported",
        ),
    ] {
        let (_, error, code) = ground.run(&["true"], |config| config["linux"]["personality"] = personality);
        assert!(code != 0 && error.contains(expected), "{error}");
    }
}

#[test]
fn memory_comes_from_the_nodes_that_were_named() {
    let ground = Ground::new();
    let output = shell(
        &ground,
        "grep -m1 -o 'bind:0' /proc/self/numa_maps || echo none",
        |config| {
            config["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND", "nodes": "0"});
        },
    );
    assert!(
        output == "bind:0\n" || !std::path::Path::new("/proc/self/numa_maps").exists(),
        "{output}"
    );
    let (_, error, code) = ground.run(&["true"], |config| {
        config["linux"]["memoryPolicy"] = json!({"mode": "MPOL_NOPE", "nodes": "0"});
    });
    assert!(code != 0 && error.contains("unknown memory policy"), "{error}");
}

#[test]
fn priorities_are_those_of_the_configuration() {
    let ground = Ground::new();
    // proc_pid_stat(5): 18 priority, 19 nice, 41 policy, counted behind the name.
    let output = shell(&ground, "cut -d')' -f2 /proc/self/stat | cut -d' ' -f18,40", |config| {
        config["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 7});
        config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0});
    });
    assert_eq!(output, "7 3\n");
}

#[test]
fn a_further_process_runs_on_the_cpus_it_was_given() {
    let ground = Ground::new();
    ground.write_config(&["sleep", "1000"], |_| {});
    assert!(ground.call(&["create", "c"]).status.success());
    assert!(ground.call(&["start", "c"]).status.success());
    let mut process: Value =
        ground.config(&["grep", "Cpus_allowed_list", "/proc/self/status"], |_| {})["process"].take();
    process["execCPUAffinity"] = json!({"initial": "0", "final": "0"});
    std::fs::write(ground.path("process.json"), process.to_string()).unwrap();
    let output = ground.call(&["exec", "--process", "process.json", "c"]);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).split_whitespace().last(),
        Some("0"),
        "{output:?}"
    );
    process["execCPUAffinity"] = json!({"final": "x"});
    std::fs::write(ground.path("process.json"), process.to_string()).unwrap();
    let output = ground.call(&["exec", "--process", "process.json", "c"]);
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("bad list"),
        "{output:?}"
    );
}

#[test]
fn what_cannot_be_given_is_refused_by_name() {
    let ground = Ground::new();
    let refused = |expected: &str, change: &dyn Fn(&mut serde_json::Value)| {
        let (_, error, code) = ground.run(&["true"], |config| change(config));
        assert!(code != 0 && error.contains(expected), "{expected}: {error}");
        assert!(!ground.path("state/c").exists());
    };
    refused("linux.intelRdt is not supported", &|config| {
        config["linux"]["intelRdt"] = json!({"closID": "x"});
    });
    refused("invalid environment variable", &|config| {
        config["process"]["env"] = json!(["A"])
    });
    // What the kernel takes for "as it is", which is root.
    for user in [
        json!({"uid": 4_294_967_295_u32}),
        json!({"gid": 4_294_967_295_u32}),
        json!({"uid": 1, "additionalGids": [4_294_967_295_u32]}),
    ] {
        refused("uids and gids must be in range", &|config| {
            config["process"]["user"] = user.clone()
        });
    }
}

#[test]
fn an_apparmor_profile_is_applied_where_the_kernel_has_them() {
    if !std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y")) {
        return;
    }
    let ground = Ground::new();
    let (output, error, code) = ground.run(&["cat", "/proc/self/attr/current"], |config| {
        config["process"]["apparmorProfile"] = "unconfined".into();
    });
    assert!(code == 0 && output.starts_with("unconfined"), "{output}{error}");
    let (_, error, code) = ground.run(&["true"], |config| {
        config["process"]["apparmorProfile"] = "nowhere".into();
    });
    assert!(
        code != 0 && error.contains("apparmor failed to apply profile"),
        "{error}"
    );
}

#[test]
fn a_further_process_that_nobody_could_be_told_of_does_not_stay() {
    let ground = Ground::new();
    ground.write_config(&["sleep", "1000"], |_| {});
    for command in [&["create", "c"][..], &["start", "c"]] {
        assert!(ground.call(command).status.success());
    }
    let output = ground.call(&["exec", "--detach", "--pid-file", "/nowhere/pid", "c", "sleep", "999"]);
    assert_eq!(output.status.code(), Some(255), "{output:?}");
    let processes = ground.call(&["ps", "c"]);
    assert!(
        !String::from_utf8_lossy(&processes.stdout).contains("999"),
        "{processes:?}"
    );
    for arguments in [
        &["exec", "--console-socket", "/x", "c", "true"][..],
        &["exec", "-t", "--console-socket", "/x", "c", "true"],
    ] {
        let output = ground.call(arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("cannot use console socket"), "{output:?}");
    }
    let output = ground.call(&["exec", "--process-label", "system_u:system_r:x_t:s0", "c", "true"]);
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("selinux"),
        "{output:?}"
    );
    let output = ground.call(&["exec", "--apparmor", "nowhere", "c", "true"]);
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("apparmor"),
        "{output:?}"
    );
    // Of a name given twice the last value is found.
    let output = ground.call(&["exec", "--env", "PATH=/nowhere", "c", "sleep", "0"]);
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("not found in $PATH"),
        "{output:?}"
    );
    for user in ["4294967295", "0:4294967295", "-1", "99999999999"] {
        assert_eq!(
            ground.call(&["exec", "--user", user, "c", "true"]).status.code(),
            Some(255),
            "{user}"
        );
    }
}

/// Hears one message of a runtime: its JSON and its descriptor.
fn hear(listener: &UnixListener) -> (Value, std::os::fd::OwnedFd) {
    let (mut stream, _) = listener.accept().unwrap();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = rustix::net::RecvAncillaryBuffer::new(&mut space);
    let mut text = vec![0; 65536];
    let mut buffers = [std::io::IoSliceMut::new(&mut text)];
    let flags = rustix::net::RecvFlags::empty();
    let length = rustix::net::recvmsg(&stream, &mut buffers, &mut control, flags)
        .unwrap()
        .bytes;
    let descriptor = control.drain().find_map(|message| match message {
        rustix::net::RecvAncillaryMessage::ScmRights(mut list) => list.next(),
        _ => None,
    });
    text.truncate(length);
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    text.extend(rest);
    (serde_json::from_slice(&text).unwrap(), descriptor.unwrap())
}

/// One notified call: its number there and the process that waits for an answer.
fn receive(filter: &std::os::fd::OwnedFd) -> (u64, u32) {
    use std::os::fd::AsRawFd;
    const RECEIVE: libc::c_ulong = 0xc050_2100;
    let mut call = [0u64; 10];
    // SAFETY: seccomp_unotify(2): struct seccomp_notif has 80 bytes.
    let result = unsafe { libc::ioctl(filter.as_raw_fd(), RECEIVE, call.as_mut_ptr()) };
    assert_eq!(result, 0);
    (call[0], call[1] as u32)
}

/// Answers it with an errno.
fn answer(filter: &std::os::fd::OwnedFd, call: u64, errno: i32) {
    use std::os::fd::AsRawFd;
    const SEND: libc::c_ulong = 0xc018_2101;
    let mut reply = [call, 0, u64::from((-errno) as u32)];
    // SAFETY: seccomp_unotify(2): struct seccomp_notif_resp has 24 bytes.
    let result = unsafe { libc::ioctl(filter.as_raw_fd(), SEND, reply.as_mut_ptr()) };
    assert_eq!(result, 0);
}

#[test]
fn a_listener_decides_about_notified_calls() {
    let ground = Ground::new();
    let socket = ground.path("listener.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let script = "mkdir /made; echo $?; exec sleep 1000";
    for no_new_privileges in [true, false] {
        ground.write_config(&["sh", "-c", script], |config| {
            config["process"]["noNewPrivileges"] = no_new_privileges.into();
            config["annotations"] = json!({"a": "b"});
            config["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": socket, "listenerMetadata": "of \"mine\"",
                "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}],
            });
        });
        let decide = |expected: &str| {
            let (message, filter) = hear(&listener);
            assert_eq!(message["fds"], json!(["seccompFd"]));
            assert_eq!(message["metadata"], "of \"mine\"");
            assert_eq!(message["state"]["id"], "c");
            assert_eq!(message["state"]["status"], expected);
            assert_eq!(message["state"]["annotations"]["a"], "b");
            let (call, pid) = receive(&filter);
            // busybox's shell makes a child for mkdir or not: it is that process or its child.
            let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
            let known = message["pid"].as_u64().unwrap();
            assert!(
                known == u64::from(pid) || status.is_ok_and(|text| text.contains(&format!("PPid:\t{known}"))),
                "{message} {pid}"
            );
            answer(&filter, call, libc::EDQUOT);
        };
        assert!(ground.call(&["create", "c"]).status.success());
        let started = ground.call(&["start", "c"]);
        assert!(started.status.success(), "{started:?}");
        decide("creating");
        let mut exec = ground.command(&["exec", "c", "mkdir", "/other"]).spawn().unwrap();
        decide("running");
        assert!(!exec.wait().unwrap().success());
        assert!(ground.call(&["delete", "--force", "c"]).status.success());
    }
}

#[test]
fn a_filter_that_notifies_nobody_is_refused() {
    let ground = Ground::new();
    let (_, error, code) = ground.run(&["true"], |config| {
        config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]});
    });
    assert!(code != 0 && error.contains("listenerPath"), "{error}");
}
