//! The ways out of containers that other runtimes once had, tried. Needs root and busybox-static.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use support::{Ground, shell};

fn add_mount(config: &mut Value, mount: Value) {
    config["mounts"].as_array_mut().unwrap().push(mount);
}

/// A working directory that is a descriptor of the runtime's (CVE-2024-21626).
#[test]
fn a_working_directory_never_leads_to_the_host_by_a_descriptor() {
    let ground = Ground::new();
    let marker = ground.path("marker");
    std::fs::write(&marker, "").unwrap();
    // busybox by a path that does not depend on where it is; what it sees is the host or not.
    let script = "pwd; /bin/ls -d ../../../../../../../boot ../../../../../../rootfs ./marker 2>/dev/null; true";
    for number in 3..16 {
        for directory in [format!("/proc/self/fd/{number}"), format!("/proc/self/fd/{number}/..")] {
            let (output, _, code) = ground.run(&["/bin/sh", "-c", script], |config| {
                config["process"]["cwd"] = directory.clone().into();
            });
            assert!(
                code != 0 || output.lines().count() == 1 && output.starts_with('/'),
                "{directory}: {output}"
            );
        }
    }
    ground.write_config(&["sleep", "1000"], |_| {});
    assert!(ground.call(&["create", "c"]).status.success());
    assert!(ground.call(&["start", "c"]).status.success());
    // A link in the image does as well.
    for number in 3..16 {
        let link = ground.root().join("cwd");
        let _ = std::fs::remove_file(&link);
        symlink(format!("/proc/self/fd/{number}"), link).unwrap();
        for directory in [format!("/proc/self/fd/{number}"), String::from("/cwd")] {
            let output = ground.call(&["exec", "--cwd", &directory, "c", "/bin/sh", "-c", script]);
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(
                !output.status.success() || text.lines().count() == 1 && text.starts_with('/'),
                "{directory}: {text}"
            );
        }
    }
}

/// A mount's place exchanged for a link while the container is set up (CVE-2021-30465, CVE-2024-45310).
#[test]
fn a_place_exchanged_for_a_link_meanwhile_leads_nowhere_outside() {
    let ground = Ground::new();
    let (volume, outside, data) = (ground.path("volume"), ground.path("outside"), ground.path("data"));
    for directory in [&volume.join("a"), &outside, &data] {
        std::fs::create_dir_all(directory).unwrap();
    }
    std::fs::write(data.join("file"), "x").unwrap();
    // From inside as absolute, from the host's root as relative: whichever way it is resolved wrongly.
    symlink(&outside, volume.join("b")).unwrap();
    let done = AtomicBool::new(false);
    let mounts = || {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        table
            .lines()
            .filter(|line| line.contains(outside.to_str().unwrap()))
            .count()
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let flags = rustix::fs::RenameFlags::EXCHANGE;
            while !done.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(
                    rustix::fs::CWD,
                    volume.join("a"),
                    rustix::fs::CWD,
                    volume.join("b"),
                    flags,
                )
                .unwrap();
            }
        });
        for _ in 0..12 {
            ground.write_config(&["true"], |config| {
                add_mount(
                    config,
                    json!({"destination": "/v", "type": "bind", "source": volume, "options": ["rbind"]}),
                );
                for name in ["one", "two/three"] {
                    let place = format!("/v/a/{name}");
                    add_mount(
                        config,
                        json!({"destination": place, "type": "bind", "source": data, "options": ["bind"]}),
                    );
                }
                add_mount(
                    config,
                    json!({"destination": "/v/a/t", "type": "tmpfs", "source": "tmpfs"}),
                );
            });
            // It may fail; it may not touch what is outside.
            let _ = ground.call(&["run", "c"]);
            let _ = ground.call(&["delete", "--force", "c"]);
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(mounts(), 0);
}

/// Writes of the runtime to /proc that a mount leads astray (CVE-2019-16884, CVE-2025-52881).
#[test]
fn nothing_is_mounted_over_the_kernels_files() {
    let ground = Ground::new();
    let fake = ground.path("fake");
    std::fs::create_dir_all(fake.join("net/ipv4")).unwrap();
    std::fs::write(fake.join("net/ipv4/ip_forward"), "untouched").unwrap();
    symlink("/proc", ground.root().join("link")).unwrap();
    for destination in [
        "/proc/sys",
        "/proc/self/attr",
        "/link/sys",
        "/proc/../link/sys/net",
        "/proc",
    ] {
        let (_, error, code) = ground.run(&["true"], |config| {
            config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
            add_mount(
                config,
                json!({"destination": destination, "type": "bind", "source": fake, "options": ["bind"]}),
            );
        });
        assert!(code != 0 && error.contains("inside /proc"), "{destination}: {error}");
    }
    assert_eq!(
        std::fs::read_to_string(fake.join("net/ipv4/ip_forward")).unwrap(),
        "untouched"
    );
    // What lxcfs and its like put there may be.
    let output = shell(&ground, "cat /proc/uptime", |config| {
        let source = fake.join("net/ipv4/ip_forward");
        add_mount(
            config,
            json!({"destination": "/proc/uptime", "type": "bind", "source": source, "options": ["bind", "ro"]}),
        );
    });
    assert_eq!(output, "untouched");
}

/// The console put where the image says (CVE-2025-52565).
#[test]
fn the_terminal_covers_nothing_that_a_link_leads_to() {
    let ground = Ground::new();
    std::fs::write(ground.root().join("covered"), "mine").unwrap();
    symlink("/covered", ground.root().join("dev/console")).unwrap();
    symlink("/proc/sysrq-trigger", ground.root().join("dev/other")).unwrap();
    let outside = ground.path("outside");
    symlink(&outside, ground.root().join("dev/ptmx")).unwrap();
    // The image's own /dev, without a file system in its place.
    ground.write_config(&["sh", "-c", "cat /covered"], |config| {
        config["process"]["terminal"] = true.into();
        config["mounts"]
            .as_array_mut()
            .unwrap()
            .retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    });
    let _ = ground.call(&["run", "c"]);
    assert!(!outside.exists());
    assert_eq!(std::fs::read_to_string(ground.root().join("covered")).unwrap(), "mine");
}

/// The descriptors of a process that is entering, seen from inside (CVE-2016-9962).
#[test]
fn a_process_that_enters_cannot_be_looked_into() {
    let ground = Ground::new();
    let powers = ["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH"];
    // Looks at everybody's descriptors and directories as fast as it can, and writes down what is not its own.
    let script = "while :; do for p in /proc/[0-9]*; do case $p in /proc/1|/proc/$$) continue;; esac; \
                  ls -l $p/fd $p/cwd $p/root 2>/dev/null | grep -E ' -> (/tmp/.tmp|/sys/fs/cgroup|/run/)' >> /seen; done; done";
    ground.write_config(&["sh", "-c", script], |config| {
        for set in ["bounding", "effective", "permitted"] {
            config["process"]["capabilities"][set] = json!(powers);
        }
    });
    assert!(ground.call(&["create", "c"]).status.success());
    assert!(ground.call(&["start", "c"]).status.success());
    for _ in 0..12 {
        assert!(ground.call(&["exec", "c", "true"]).status.success());
    }
    let seen = std::fs::read_to_string(ground.root().join("seen")).unwrap_or_default();
    assert_eq!(seen, "");
}

/// A program of the host's run when a cgroup becomes empty (CVE-2022-0492).
#[test]
fn no_release_agent_is_within_reach() {
    let ground = Ground::new();
    let proof = ground.path("proof");
    let script = format!(
        "mkdir -p /cg; mount -t cgroup -o memory cgroup /cg 2>/dev/null; mount -t cgroup -o rdma cgroup /cg 2>/dev/null; \
         for d in /cg /sys/fs/cgroup /sys/fs/cgroup/*; do [ ! -e $d/release_agent ] || {{ echo agent $d; echo 'touch {0}' > $d/release_agent; }}; \
         (echo 1 > $d/notify_on_release) 2>/dev/null; done; true",
        proof.display()
    );
    for mode in ["ro", "rw"] {
        let output = shell(&ground, &script, |config| {
            for mount in config["mounts"].as_array_mut().unwrap() {
                if mount["type"] == "cgroup" {
                    mount["options"] = json!(["nosuid", "noexec", "nodev", mode]);
                }
            }
        });
        assert_eq!(output, "", "{mode}");
    }
    assert!(!proof.exists());
}

/// Sockets without a file, which every process of a network namespace can connect to (CVE-2020-15257).
#[test]
fn nothing_of_the_host_listens_where_a_container_can_name_it() {
    use std::os::linux::net::SocketAddrExt;
    let ground = Ground::new();
    let name = format!("{}-abstract", ground.name);
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
    let script = "cut -c1- /proc/net/unix | grep -F @ || echo none";
    let output = shell(&ground, script, |_| {});
    assert_eq!(output, "none\n", "a network namespace has its own");
    // Even in the host's network none is ours.
    let output = shell(&ground, script, |config| {
        config["linux"]["namespaces"]
            .as_array_mut()
            .unwrap()
            .retain(|entry| entry["type"] != "network");
        config["mounts"]
            .as_array_mut()
            .unwrap()
            .retain(|mount| mount["type"] != "sysfs");
        config["linux"]["maskedPaths"] = json!([]);
    });
    assert!(output.contains(&name), "the test sees what it looks for");
    let ours = |line: &&str| line.contains("strata-runtime") || line.contains("shim");
    assert_eq!(output.lines().filter(ours).count(), 0, "{output}");
}

/// Groups and inheritable capabilities that nobody asked for (CVE-2022-2989, CVE-2022-29162).
#[test]
fn a_user_has_the_groups_and_capabilities_of_the_configuration_alone() {
    let ground = Ground::new();
    let script = "id -G; grep -E 'CapInh|CapAmb|CapEff' /proc/self/status | cut -f2";
    ground.write_config(&["sh", "-c", script], |config| {
        config["process"]["user"] = json!({"uid": 33, "gid": 34});
    });
    let mut run = ground.command(&["run", "c"]);
    // SAFETY: setgroups(2) alone, between fork and exec.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(&mut run, || {
            let groups = [5, 6, 7];
            match libc::setgroups(groups.len(), groups.as_ptr()) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    let output = Ground::finish(&mut run);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let none = "0000000000000000";
    assert_eq!(
        text.split_whitespace().collect::<Vec<_>>(),
        ["34", none, none, none],
        "{output:?}"
    );
}

/// The environment of who runs the runtime.
#[test]
fn nothing_of_the_callers_environment_is_inside() {
    let ground = Ground::new();
    ground.write_config(&["sh", "-c", "env; cat /proc/1/environ"], |_| {});
    let output = Ground::finish(ground.command(&["run", "c"]).env("SECRET_OF_THE_HOST", "1"));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("PATH=") && !text.contains("SECRET_OF_THE_HOST"),
        "{text}"
    );
}

/// What an image says of itself is taken for what whoever runs it said: a user that is meant to be somebody without
/// rights is root, because the image's own files say so or the number is none.
#[test]
fn the_files_of_an_image_cannot_make_a_number_root() {
    let ground = Ground::new();
    std::fs::write(
        ground.root().join("etc/passwd"),
        "1000:x:0:0::/:\nlast:x:4294967295:0::/:\n",
    )
    .unwrap();
    std::fs::write(ground.root().join("etc/group"), "1000:x:0:\n").unwrap();
    ground.write_config(&["sleep", "1000"], |_| {});
    for command in [&["create", "c"][..], &["start", "c"]] {
        assert!(ground.call(command).status.success());
    }
    let ids = |user: &str| {
        let output = ground.call(&["exec", "--user", user, "c", "sh", "-c", "id -u; id -g"]);
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(ids("1000"), (true, "1000\n0\n".into()));
    assert_eq!(ids("1000:1000"), (true, "1000\n1000\n".into()));
    for user in ["4294967295", "last", "1000:4294967295", "4294967296", "2147483648"] {
        assert_eq!(ids(user), (false, String::new()), "{user}");
    }
}

/// A working directory and volumes that climb, and mounts over what protects the container.
#[test]
fn paths_of_an_image_stay_inside_it() {
    let ground = Ground::new();
    let name = format!("strata-outside-{}", std::process::id());
    let up = "../".repeat(16);
    let output = shell(&ground, "pwd", |config| {
        config["process"]["cwd"] = format!("/{up}{name}/cwd").into();
        let volume = json!({"destination": format!("/{up}{name}/volume"), "type": "tmpfs", "source": "tmpfs"});
        add_mount(config, volume);
    });
    assert_eq!(output, format!("/{name}/cwd\n"));
    assert!(!std::path::Path::new(&format!("/{name}")).exists());
    assert!(ground.root().join(&name).join("volume").is_dir());
    let (_, error, code) = ground.run(&["true"], |config| {
        add_mount(
            config,
            json!({"destination": format!("{up}{name}"), "type": "tmpfs", "source": "tmpfs"}),
        );
    });
    assert!(code != 0 && error.contains("is not absolute"), "{error}");
}

/// The environment of an image in programs that run outside of it.
#[test]
fn variables_of_a_container_reach_no_hook_and_no_program_of_the_host() {
    let ground = Ground::new();
    let seen = ground.path("seen");
    let (_, error, code) = ground.run(&["true"], |config| {
        config["process"]["env"] = json!(["PATH=/evil", "LD_PRELOAD=/evil.so", "NOTIFY_SOCKET=/evil", "HOME=/evil"]);
        config["process"]["args"] = json!(["/bin/true"]);
        let script = format!("busybox env >>{}", seen.display());
        let hook = json!([{"path": "/bin/busybox", "args": ["sh", "-c", script], "env": ["PATH=/bin", "KEPT=1"]}]);
        config["hooks"] = json!({"prestart": hook, "createRuntime": hook, "poststart": hook, "poststop": hook});
    });
    assert_eq!(code, 0, "{error}");
    let text = std::fs::read_to_string(&seen).unwrap();
    assert!(text.matches("KEPT=1").count() == 4 && !text.contains("evil"), "{text}");
}
