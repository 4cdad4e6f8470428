//! A root file system of busybox, containers on it, and cleaning up.

#![allow(dead_code, reason = "each test program uses its own part")]

use serde_json::Value;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_strata-runtime");

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A directory with a root file system, and a cgroup of the same unique name.
pub struct Ground {
    pub directory: tempfile::TempDir,
    pub name: String,
}

impl Ground {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("rootfs");
        for name in ["bin", "etc", "tmp", "proc", "sys", "dev", "home"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
        }
        std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect("package busybox-static");
        for name in [
            "sh", "cat", "echo", "sleep", "id", "true", "false", "mount", "ls", "touch", "hostname", "env", "stat",
            "dd", "head", "tail", "seq", "pwd", "wc", "grep", "kill", "stty", "ps", "mkdir", "printf", "nproc", "test",
            "tty", "cut",
        ] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        std::fs::write(
            root.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/home:/bin/sh\n",
        )
        .unwrap();
        std::fs::write(root.join("etc/group"), "root:x:0:\nweb:x:34:\nlogs:x:40:web\n").unwrap();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Ground {
            directory,
            name: format!("strata-test-{}-{number}", std::process::id()),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn root(&self) -> PathBuf {
        self.path("rootfs")
    }

    /// The example configuration with a command, changed by `change`.
    pub fn config(&self, args: &[&str], change: impl FnOnce(&mut serde_json::Value)) -> serde_json::Value {
        let mut config: serde_json::Value = serde_json::from_str(include_str!("../../src/cli/example.json")).unwrap();
        config["process"]["terminal"] = false.into();
        config["process"]["args"] = args.into();
        config["root"]["readonly"] = false.into();
        config["linux"]["cgroupsPath"] = format!("/{}/c", self.name).into();
        change(&mut config);
        config
    }

    pub fn write_config(&self, args: &[&str], change: impl FnOnce(&mut serde_json::Value)) {
        let config = self.config(args, change);
        std::fs::write(self.path("config.json"), config.to_string()).unwrap();
    }

    /// The command line with this ground's state directory.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .arg("--root")
            .arg(self.path("state"))
            .args(arguments)
            .current_dir(self.directory.path());
        command
    }

    /// Runs a command; its output goes through files, since a container that goes on keeps them open.
    pub fn call(&self, arguments: &[&str]) -> Output {
        Self::finish(&mut self.command(arguments))
    }

    pub fn finish(command: &mut Command) -> Output {
        let (mut stdout, mut stderr) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let status = command
            .stdin(Stdio::null())
            .stdout(stdout.try_clone().unwrap())
            .stderr(stderr.try_clone().unwrap())
            .status()
            .unwrap();
        let read = |file: &mut std::fs::File| {
            let mut content = Vec::new();
            file.rewind().unwrap();
            file.read_to_end(&mut content).unwrap();
            content
        };
        Output {
            status,
            stdout: read(&mut stdout),
            stderr: read(&mut stderr),
        }
    }

    /// Runs a container to its end: standard output, standard error, code.
    pub fn run(&self, args: &[&str], change: impl FnOnce(&mut serde_json::Value)) -> (String, String, i32) {
        self.write_config(args, change);
        let output = self.call(&["run", "c"]);
        (
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
            output.status.code().unwrap_or(-1),
        )
    }

    /// Directories of this ground's cgroup that are left in any hierarchy.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let mut left = Vec::new();
        let base = Path::new("/sys/fs/cgroup");
        let hierarchies = std::fs::read_dir(base)
            .unwrap()
            .filter_map(|entry| Some(entry.ok()?.path()));
        for hierarchy in hierarchies.chain([base.to_path_buf()]) {
            let path = hierarchy.join(&self.name);
            if path.is_dir() {
                left.push(path);
            }
        }
        left
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = self.call(&["delete", "--force", "c"]);
        for path in self.cgroups() {
            for child in std::fs::read_dir(&path).into_iter().flatten().flatten() {
                let _ = std::fs::remove_dir(child.path());
            }
            let _ = std::fs::remove_dir(path);
        }
    }
}

/// Runs a shell script in a container: its output. Fails when the container does.
pub fn shell(ground: &Ground, script: &str, change: impl FnOnce(&mut Value)) -> String {
    let (output, error, code) = ground.run(&["sh", "-c", script], change);
    assert_eq!(code, 0, "{output}{error}");
    output
}

/// What a runtime sends to a console socket: the master of a terminal.
pub fn receive_master(listener: &std::os::unix::net::UnixListener) -> std::fs::File {
    let (stream, _) = listener.accept().unwrap();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = rustix::net::RecvAncillaryBuffer::new(&mut space);
    let mut name = [0; 64];
    let mut buffers = [std::io::IoSliceMut::new(&mut name)];
    rustix::net::recvmsg(&stream, &mut buffers, &mut control, rustix::net::RecvFlags::empty()).unwrap();
    let master = control.drain().find_map(|message| match message {
        rustix::net::RecvAncillaryMessage::ScmRights(mut list) => list.next(),
        _ => None,
    });
    master.unwrap().into()
}
