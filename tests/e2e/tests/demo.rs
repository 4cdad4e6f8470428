//! The demonstration, and servers ended at the wrong moment: nothing stays behind.

use serde_json::Value;
use std::{
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
};
use strata_e2e::{Traces, binary, eventually, free_port};

#[test]
fn the_demo_answers_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut demo = Command::new(binary())
        .args(["--log", "warn", "demo", "-o", "json"])
        .env("STRATA_CLUSTERS", folder.path().join("clusters"))
        .env("KUBECONFIG", folder.path().join("kubeconfig"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    // What there was, as long as there was anything: the demonstration removes its own description.
    let mut traces = Traces::below(folder.path());
    while demo.try_wait().expect("a child can be waited for").is_none() {
        traces.join(Traces::below(folder.path()));
        std::thread::yield_now();
    }
    let output = demo.wait_with_output().expect("a child can be waited for");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("hello from hello-"), "{said}");
    let phases: Value = serde_json::from_slice(&output.stdout).expect("-o json prints JSON");
    assert_eq!(phases.as_object().map(serde_json::Map::len), Some(6), "{phases}");
    assert!(traces.knows_instances(), "the demonstration's server was seen");
    traces.assert_gone();
}

#[test]
fn a_server_told_to_end_while_it_starts_ends_cleanly() {
    type Moment = fn(&Path, u16) -> bool;
    let moments: [Moment; 4] = [
        |data, _| data.exists(),
        |data, _| data.join("pki").exists(),
        |_, port| TcpStream::connect(("127.0.0.1", port)).is_ok(),
        |data, _| data.join("admin.kubeconfig").exists(),
    ];
    for (at, moment) in moments.into_iter().enumerate() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (data, port) = (folder.path().join("data"), free_port());
        let mut child = Command::new(binary())
            .args(["--log", "warn", "server", "--port", &port.to_string(), "--data-dir"])
            .arg(&data)
            .stdout(Stdio::null())
            .spawn()
            .expect("the binary starts");
        eventually("the server gets that far", || {
            if moment(&data, port) {
                Ok(())
            } else {
                Err("not yet".to_owned())
            }
        });
        let traces = Traces::below(folder.path());
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
        let status = child.wait().expect("a child can be waited for");
        assert_eq!(status.code(), Some(0), "moment {at}");
        let reset = Command::new(binary())
            .arg("reset")
            .arg("--data-dir")
            .arg(&data)
            .output();
        let reset = reset.expect("the binary runs");
        assert!(reset.status.success(), "{}", String::from_utf8_lossy(&reset.stderr));
        traces.assert_gone();
    }
}
