//! Links of the host moved into containers. Needs root, busybox-static and a kernel with veth links.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use rustix::thread::{UnshareFlags, unshare_unsafe};
use serde_json::{Value, json};
use std::process::Command;
use support::Ground;

/// A network namespace for this thread, whose commands are in it too; false where the kernel has no such links.
fn isolated() -> bool {
    // SAFETY: memory and descriptors stay shared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
    ip(&["link", "add", "probe", "type", "veth"])
}

fn ip(arguments: &[&str]) -> bool {
    let mut command = Command::new("/bin/busybox");
    command.arg("ip").args(arguments).status().unwrap().success()
}

fn add_link(name: &str, address: &str) {
    assert!(ip(&["link", "add", name, "type", "veth"]));
    assert!(ip(&["addr", "add", address, "dev", name]));
    assert!(ip(&["link", "set", name, "up"]));
}

fn links() -> String {
    let output = Command::new("/bin/busybox").args(["ip", "link"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn with(devices: Value) -> impl FnOnce(&mut Value) {
    move |config| config["linux"]["netDevices"] = devices
}

#[test]
fn a_link_comes_with_its_addresses_and_is_up() {
    if !isolated() {
        return;
    }
    let ground = Ground::new();
    add_link("d0", "192.0.2.7/24");
    add_link("d1", "192.0.2.8/24");
    assert!(ip(&["addr", "add", "2001:db8::7/64", "dev", "d0"]));
    let devices = json!({"d0": {}, "d1": {"name": "renamed"}});
    let (output, error, code) = ground.run(&["/bin/busybox", "ip", "addr"], with(devices));
    assert_eq!(code, 0, "{error}");
    for expected in ["d0", "192.0.2.7/24", "2001:db8::7/64", "renamed", "192.0.2.8/24"] {
        assert!(output.contains(expected), "{expected}: {output}");
    }
    let line = |name: &str| output.lines().find(|line| line.contains(name)).unwrap().to_string();
    assert!(
        line("d0@").contains("UP") && line("renamed@").contains("UP"),
        "{output}"
    );
    let left = links();
    assert!(!left.contains("d0@") && !left.contains("d1@"), "{left}");
}

#[test]
fn what_is_not_there_or_taken_is_an_error_and_stays_as_it_is() {
    if !isolated() {
        return;
    }
    let ground = Ground::new();
    add_link("d0", "192.0.2.7/24");
    for (devices, expected) in [
        (json!({"nowhere": {}}), "no link of that name"),
        (json!({"d0": {"name": "lo"}}), "already"),
        (json!({"d0": {"name": "a/b"}}), "invalid network device name"),
    ] {
        let (_, error, code) = ground.run(&["true"], with(devices));
        assert!(code != 0 && error.contains(expected), "{error}");
        assert!(links().lines().any(|line| line.contains("d0@") && line.contains("UP")));
    }
    let (_, error, code) = ground.run(&["true"], |config| {
        config["linux"]["netDevices"] = json!({"d0": {}});
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|entry| entry["type"] != "network");
    });
    assert!(
        code != 0 && error.contains("without a private NET namespace"),
        "{error}"
    );
}

#[test]
fn the_kernel_puts_a_number_into_a_name_when_asked() {
    if !isolated() {
        return;
    }
    let ground = Ground::new();
    add_link("d0", "192.0.2.7/24");
    add_link("d1", "192.0.2.8/24");
    let devices = json!({"d0": {"name": "net%d"}, "d1": {"name": "net%d"}});
    let (output, error, code) = ground.run(&["/bin/busybox", "ip", "addr"], with(devices));
    assert_eq!(code, 0, "{error}");
    for expected in ["net0@", "192.0.2.7/24", "net1@", "192.0.2.8/24"] {
        assert!(output.contains(expected), "{expected}: {output}");
    }
}
