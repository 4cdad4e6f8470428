//! sd_notify(3) through the container's boundary. Needs root and busybox-static.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use support::Ground;

/// Runs in a container, as this very program: says things, and then waits to be ended.
#[test]
#[ignore = "the part of other tests that runs in a container"]
fn inside() {
    let path = std::env::var("NOTIFY_SOCKET").unwrap();
    let socket = UnixDatagram::unbound().unwrap();
    for text in std::env::var("SAY").unwrap().split('|') {
        socket.send_to(text.as_bytes(), &path).unwrap();
    }
    loop {
        std::thread::park();
    }
}

/// This program in the container's root, saying these messages there.
fn configure(ground: &Ground, say: &str) {
    std::fs::copy("/proc/self/exe", ground.root().join("program")).unwrap();
    let args = ["/program", "--ignored", "--exact", "inside"];
    ground.write_config(&args, |config| {
        config["process"]["env"] = vec![String::from("PATH=/bin"), format!("SAY={say}")].into();
        // Not everybody is root.
        config["process"]["user"] = serde_json::json!({"uid": 33, "gid": 34});
    });
}

/// A socket as systemd has it, on which waiting ends.
fn listen(path: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    socket
}

/// What arrives, until the last message of a relay.
fn heard(socket: &UnixDatagram) -> Vec<String> {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    while all.last().is_none_or(|last| last != "BARRIER=1") {
        let length = socket.recv(&mut buffer).unwrap();
        all.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
    }
    all
}

#[test]
fn who_starts_a_container_hears_that_it_is_ready_and_nothing_else() {
    let ground = Ground::new();
    let host = listen(&ground.path("host.sock"));
    configure(&ground, "STATUS=no|MAINPID=1|FDSTORE=1|STATUS=x\nREADY=1\nMAINPID=7");
    let call = |command: &str| {
        let mut command = ground.command(&[command, "c"]);
        command.env("NOTIFY_SOCKET", ground.path("host.sock"));
        let output = Ground::finish(&mut command);
        assert!(output.status.success(), "{output:?}");
    };
    call("create");
    let pid = serde_json::from_slice::<serde_json::Value>(&ground.call(&["state", "c"]).stdout).unwrap()["pid"].clone();
    let told = std::thread::spawn(move || heard(&host));
    // Returns once the container is ready and that has been heard.
    call("start");
    assert_eq!(
        told.join().unwrap(),
        ["READY=1\n".to_string(), format!("MAINPID={pid}\n"), "BARRIER=1".into()]
    );
    assert!(ground.call(&["delete", "--force", "c"]).status.success());
    assert!(!ground.path("state/c").exists());
}

#[test]
fn a_container_in_the_foreground_tells_too_and_one_that_ends_is_not_waited_for() {
    let ground = Ground::new();
    let host = listen(&ground.path("host.sock"));
    configure(&ground, "READY=1");
    let mut command = ground.command(&["run", "--pid-file", "pid", "c"]);
    let mut run = command
        .env("NOTIFY_SOCKET", ground.path("host.sock"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let told = heard(&host);
    let pid = std::fs::read_to_string(ground.path("pid")).unwrap();
    assert_eq!(told[..2], ["READY=1\n".to_string(), format!("MAINPID={pid}\n")]);
    assert!(ground.call(&["kill", "c", "KILL"]).status.success());
    assert_eq!(run.wait().unwrap().code(), Some(137));
    ground.write_config(&["true"], |_| {});
    let mut command = ground.command(&["run", "--detach", "c"]);
    command.env("NOTIFY_SOCKET", ground.path("host.sock"));
    assert!(Ground::finish(&mut command).status.success());
}
