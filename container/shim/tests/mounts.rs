//! What the mounts of a configuration can be, on a real kernel. Needs root and busybox-static.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use support::{Ground, shell};

fn add_mount(config: &mut Value, mount: Value) {
    config["mounts"].as_array_mut().unwrap().push(mount);
}

/// Whether the test's files can be mapped: tmpfs can since Linux 6.3.
fn mappable(ground: &Ground) -> bool {
    const TMPFS: i64 = 0x0102_1994;
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut parts = release.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    version >= (6, 3) || rustix::fs::statfs(ground.path("")).unwrap().f_type as i64 != TMPFS
}

#[test]
fn ids_of_a_bind_are_mapped_and_what_is_written_gets_them_back() {
    let ground = Ground::new();
    if !mappable(&ground) {
        return;
    }
    let volume = ground.path("volume");
    std::fs::create_dir_all(volume.join("below")).unwrap();
    std::fs::write(volume.join("file"), "x").unwrap();
    chown(volume.join("file"), Some(1000), Some(2000)).unwrap();
    chown(&volume, Some(1000), Some(2000)).unwrap();
    let uids = json!([{"containerID": 1000, "hostID": 5000, "size": 10}]);
    let gids = json!([{"containerID": 2000, "hostID": 6000, "size": 10}]);
    let output = shell(&ground, "stat -c '%u %g' /v/file; touch /v/new", |config| {
        config["process"]["user"] = json!({"uid": 5000, "gid": 6000});
        add_mount(
            config,
            json!({"destination": "/v", "type": "bind", "source": volume, "options": ["rbind", "idmap"],
                   "uidMappings": uids, "gidMappings": gids}),
        );
    });
    assert_eq!(output, "5000 6000\n");
    let new = std::fs::metadata(volume.join("new")).unwrap();
    assert_eq!((new.uid(), new.gid()), (1000, 2000));
}

#[test]
fn a_mapped_bind_without_mappings_takes_those_of_the_container() {
    let ground = Ground::new();
    if !mappable(&ground) {
        return;
    }
    for path in ["rootfs", "."] {
        std::fs::set_permissions(ground.path(path), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let volume = ground.path("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::write(volume.join("file"), "x").unwrap();
    std::fs::create_dir(ground.root().join("v")).unwrap();
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    let users = |config: &mut Value| {
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map.clone();
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({"type": "user"}));
    };
    let output = shell(&ground, "stat -c '%u %g' /v/file; touch /v/new", |config| {
        users(config);
        add_mount(
            config,
            json!({"destination": "/v", "type": "bind", "source": volume, "options": ["bind", "ridmap"]}),
        );
    });
    assert_eq!(output, "0 0\n");
    assert_eq!(std::fs::metadata(volume.join("new")).unwrap().uid(), 0);
    let (_, error, code) = ground.run(&["true"], |config| {
        add_mount(
            config,
            json!({"destination": "/v", "type": "bind", "source": volume, "options": ["bind", "idmap"]}),
        );
    });
    assert!(code != 0 && error.contains("no mappings are given"), "{error}");
}

#[test]
fn a_tmpfs_begins_with_what_it_covers() {
    let ground = Ground::new();
    let covered = ground.root().join("covered");
    std::fs::create_dir_all(covered.join("inner")).unwrap();
    std::fs::write(covered.join("inner/file"), "content").unwrap();
    std::fs::set_permissions(covered.join("inner/file"), std::fs::Permissions::from_mode(0o644)).unwrap();
    chown(covered.join("inner/file"), Some(33), Some(34)).unwrap();
    // A link is copied as it is: what it leads to on the host is nobody's business.
    symlink("/etc/passwd", covered.join("link")).unwrap();
    std::fs::set_permissions(&covered, std::fs::Permissions::from_mode(0o1777)).unwrap();
    let script = "cat /covered/inner/file; stat -c ' %a %u %g' /covered/inner/file; stat -c %a /covered; \
                  stat -c %N /covered/link; touch /covered/new && grep -c ' /covered ' /proc/self/mountinfo";
    let output = shell(&ground, script, |config| {
        add_mount(
            config,
            json!({"destination": "/covered", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "nosuid"]}),
        );
    });
    assert_eq!(output, "content 644 33 34\n1777\n'/covered/link' -> '/etc/passwd'\n1\n");
    assert!(!covered.join("new").exists(), "the root stays as it was");
}

#[test]
fn recursive_attributes_hold_for_the_mounts_below() {
    let ground = Ground::new();
    let script = "for d in /v /v/below; do grep \" $d \" /proc/self/mountinfo | cut -d' ' -f6; done";
    for (option, expected) in [
        ("rro", "ro"),
        ("rnosuid", "nosuid"),
        ("rnoexec", "noexec"),
        ("rnodev", "nodev"),
        ("rnoatime", "noatime"),
        ("rnosymfollow", "nosymfollow"),
    ] {
        let volume = ground.path(option);
        std::fs::create_dir_all(volume.join("below")).unwrap();
        let below = volume.join("below");
        rustix::mount::mount(
            "tmpfs",
            &below,
            "tmpfs",
            rustix::mount::MountFlags::empty(),
            None::<&std::ffi::CStr>,
        )
        .unwrap();
        let (output, error, code) = ground.run(&["sh", "-c", script], |config| {
            add_mount(
                config,
                json!({"destination": "/v", "type": "bind", "source": volume, "options": ["rbind", option]}),
            );
        });
        rustix::mount::unmount(&below, rustix::mount::UnmountFlags::DETACH).unwrap();
        assert_eq!(code, 0, "{error}");
        let lines: Vec<&str> = output.lines().collect();
        assert_eq!(lines.len(), 2, "{output}");
        for line in lines {
            assert!(line.split(',').any(|flag| flag == expected), "{option}: {output}");
        }
    }
}

#[test]
fn without_a_mount_namespace_the_mounts_are_the_callers_and_go_with_the_container() {
    let ground = Ground::new();
    ground.write_config(&["sleep", "1000"], |config| {
        config["hostname"] = "".into();
        config["linux"] = json!({"cgroupsPath": config["linux"]["cgroupsPath"]});
    });
    let mounts = || {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        table
            .lines()
            .filter(|line| line.contains(ground.root().to_str().unwrap()))
            .count()
    };
    let output = ground.call(&["create", "--pid-file", "pid", "c"]);
    assert!(output.status.success(), "{output:?}");
    assert!(ground.call(&["start", "c"]).status.success());
    let pid = std::fs::read_to_string(ground.path("pid")).unwrap();
    let own = std::fs::read_link("/proc/self/ns/mnt").unwrap();
    assert_eq!(std::fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap(), own);
    assert!(mounts() > 0);
    // A further process is in the container's root all the same.
    let output = ground.call(&["exec", "c", "ls", "/home", "/rootfs"]);
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("/rootfs: No such file"),
        "{output:?}"
    );
    assert!(ground.call(&["delete", "--force", "c"]).status.success());
    assert_eq!(mounts(), 0);
    // One that fails half-way leaves none either.
    ground.write_config(&["/not/there"], |config| {
        config["hostname"] = "".into();
        config["linux"] = json!({"cgroupsPath": config["linux"]["cgroupsPath"]});
    });
    assert!(!ground.call(&["create", "c"]).status.success());
    assert_eq!(mounts(), 0);
    let (_, error, code) = ground.run(&["true"], |config| {
        config["hostname"] = "".into();
        config["linux"]["namespaces"] = json!([]);
    });
    assert!(
        code != 0 && error.contains("without a private MNT namespace"),
        "{error}"
    );
}

#[test]
fn a_root_is_entered_without_pivoting_on_request() {
    let ground = Ground::new();
    ground.write_config(&["sh", "-c", "ls /; touch /proc/sys/kernel/x || echo masked"], |_| {});
    let output = ground.call(&["run", "--no-pivot", "c"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("masked"), "{output:?}");
    assert!(!text.contains("boot"), "{text}");
}
