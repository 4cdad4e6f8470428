//! Containers and images that try to get out. Needs root and busybox-static.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::json;
use std::os::unix::fs::symlink;
use support::{Ground, shell};

#[test]
fn a_mount_target_that_is_a_link_stays_inside_the_root() {
    let ground = Ground::new();
    let outside = ground.path("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::create_dir(ground.path("data")).unwrap();
    std::fs::write(ground.path("data/file"), "mine").unwrap();
    symlink(&outside, ground.root().join("absolute")).unwrap();
    symlink("../../../../../../..", ground.root().join("up")).unwrap();
    let output = shell(&ground, "cat /up/tmp/here/file; ls /", |config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        for destination in ["/absolute/here", "/up/tmp/here"] {
            let source = ground.path("data");
            mounts
                .push(json!({"destination": destination, "type": "bind", "source": source, "options": ["bind", "ro"]}));
        }
    });
    assert!(output.starts_with("mine"), "{output}");
    assert_eq!(
        std::fs::read_dir(&outside).unwrap().count(),
        0,
        "nothing was made outside"
    );
    assert!(ground.root().join("tmp/here").is_dir());
}

#[test]
fn proc_is_never_mounted_over_a_link() {
    let ground = Ground::new();
    std::fs::remove_dir(ground.root().join("proc")).unwrap();
    symlink("/tmp", ground.root().join("proc")).unwrap();
    let (_, error, code) = ground.run(&["true"], |_| {});
    assert!(code != 0 && error.contains("without links"), "{error}");
}

#[test]
fn a_container_cannot_write_to_the_program_that_made_it() {
    let ground = Ground::new();
    // A copy of the program, so that a failure harms nobody.
    let program = ground.path("program");
    std::fs::copy(support::PROGRAM, &program).unwrap();
    let before = std::fs::read(&program).unwrap();
    // The image makes the runtime execute itself inside and writes to it from a sibling.
    std::fs::write(ground.root().join("bin/evil"), "#!/proc/self/exe\n").unwrap();
    std::fs::set_permissions(
        ground.root().join("bin/evil"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let script = "for p in /proc/[0-9]*; do (echo overwritten > $p/exe) 2>/dev/null && echo wrote; done; \
                  (echo overwritten > /proc/1/exe) 2>/dev/null && echo wrote; true";
    ground.write_config(&["sh", "-c", script], |config| {
        config["process"]["capabilities"] = json!({"bounding": ["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"],
            "effective": ["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"], "permitted": ["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"]});
        config["linux"]["namespaces"]
            .as_array_mut()
            .unwrap()
            .retain(|entry| entry["type"] != "user");
    });
    let mut evil = std::process::Command::new(&program);
    evil.arg("--root")
        .arg(ground.path("state"))
        .args(["run", "c"])
        .current_dir(ground.path(""));
    let output = Ground::finish(&mut evil);
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    ground.write_config(&["/bin/evil"], |_| {});
    let mut evil = std::process::Command::new(&program);
    evil.arg("--root")
        .arg(ground.path("state"))
        .args(["run", "c"])
        .current_dir(ground.path(""));
    let _ = Ground::finish(&mut evil);
    // What the container sees as its program is on a read-only mount, or sealed.
    ground.write_config(&["sleep", "1000"], |_| {});
    let mut create = std::process::Command::new(&program);
    create
        .arg("--root")
        .arg(ground.path("state"))
        .args(["create", "--pid-file", "pid", "c"])
        .current_dir(ground.path(""));
    assert!(Ground::finish(&mut create).status.success());
    let pid = std::fs::read_to_string(ground.path("pid")).unwrap();
    // The attack: keep hold of the file while it runs, and write once nothing runs it any more.
    let held = rustix::fs::open(
        format!("/proc/{pid}/exe"),
        rustix::fs::OFlags::PATH,
        rustix::fs::Mode::empty(),
    );
    let held = held.unwrap();
    assert!(ground.call(&["delete", "--force", "c"]).status.success());
    let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&held));
    let error = std::fs::OpenOptions::new().append(true).open(link).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem, "{error}");
    assert_eq!(std::fs::read(&program).unwrap(), before);
}

#[test]
fn no_descriptor_of_the_host_leaks_into_a_container() {
    let ground = Ground::new();
    let secret = std::fs::File::open("/etc/passwd").unwrap();
    // Inherited by the command line, as from a careless parent.
    rustix::io::fcntl_setfd(&secret, rustix::io::FdFlags::empty()).unwrap();
    let output = shell(&ground, "ls -l /proc/self/fd /proc/1/fd", |_| {});
    drop(secret);
    assert!(
        !output.contains("/etc/passwd") && !output.contains(ground.path("").to_str().unwrap()),
        "{output}"
    );
    ground.write_config(&["sleep", "1000"], |_| {});
    assert!(ground.call(&["create", "c"]).status.success());
    assert!(ground.call(&["start", "c"]).status.success());
    let output = ground.call(&["exec", "c", "ls", "/proc/self/fd"]);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).split_whitespace().count(),
        4,
        "{output:?}"
    );
}

#[test]
fn an_image_cannot_choose_what_masks_its_files() {
    let ground = Ground::new();
    // The image's own /dev/null is a link to a file it controls; no file system of the container's own is at /dev.
    symlink("/etc/passwd", ground.root().join("dev/null")).unwrap();
    let output = shell(&ground, "cat /token; true", |config| {
        std::fs::write(ground.root().join("token"), "secret").unwrap();
        config["linux"]["maskedPaths"] = json!(["/token"]);
        config["mounts"]
            .as_array_mut()
            .unwrap()
            .retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    });
    assert_eq!(output, "");
}
