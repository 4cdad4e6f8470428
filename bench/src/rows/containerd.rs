//! containerd from Debian: the peer of rows about the engine and about images.

use crate::{
    failure::{Outcome, fail},
    process::Owned,
};
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// How long containerd may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A daemon with its own root, ended when dropped.
pub struct Containerd {
    _daemon: Owned,
    socket: String,
    rootfs: String,
}

impl Containerd {
    /// None if it is not installed.
    pub async fn start(folder: &Path) -> Outcome<Option<Self>> {
        if Command::new("containerd")
            .arg("--version")
            .stdout(Stdio::null())
            .status()
            .is_err()
        {
            eprintln!("  containerd is not installed: its figures are left out");
            return Ok(None);
        }
        let own = folder.join("containerd");
        fs::create_dir_all(own.join("rootfs/bin"))?;
        for name in ["proc", "dev", "sys", "run", "tmp", "etc"] {
            fs::create_dir_all(own.join("rootfs").join(name))?;
        }
        fs::copy(super::containers::busybox()?, own.join("rootfs/bin/sleep"))?;
        // A path of a socket has 107 bytes at most, so it is not below the working folder.
        let socket = format!("/run/strata-bench-{}.sock", std::process::id());
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = {socket:?}\n",
            own.join("root"),
            own.join("state"),
        );
        fs::write(own.join("config.toml"), config)?;
        let mut command = Command::new("containerd");
        command.arg("--config").arg(own.join("config.toml"));
        let daemon = Owned::start(&mut command, &own.join("log"))?;
        let began = Instant::now();
        let this = Self {
            _daemon: daemon,
            socket,
            rootfs: own.join("rootfs").display().to_string(),
        };
        while !this.ctr(&["version"]).status()?.success() {
            if began.elapsed() > PATIENCE {
                return fail("containerd does not answer");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(Some(this))
    }

    /// A command of its client.
    pub fn ctr(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command
            .args(["--address", &self.socket, "--namespace", "bench"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// Milliseconds until so many containers run, each started by a process of the client.
    pub fn in_parallel(&self, count: usize, round: usize) -> Outcome<f64> {
        let name = |number: usize| format!("c{round}-{number}");
        let began = Instant::now();
        let run = |number| {
            let flags = [
                "run",
                "--detach",
                "--seccomp",
                "--rootfs",
                &self.rootfs,
                &name(number),
                "/bin/sleep",
                "1000",
            ];
            self.ctr(&flags).spawn()
        };
        let children: Vec<_> = (0..count).map(run).collect::<Result<_, _>>()?;
        let mut good = true;
        for mut child in children {
            good &= child.wait()?.success();
        }
        let took = began.elapsed();
        for number in 0..count {
            // What did not start cannot be removed; that it did not is told below.
            let _ = self.ctr(&["task", "rm", "--force", &name(number)]).status();
            let _ = self.ctr(&["container", "rm", &name(number)]).status();
        }
        if !good {
            return fail("ctr run failed");
        }
        Ok(took.as_secs_f64() * 1e3)
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        for path in [self.socket.clone(), format!("{}.ttrpc", self.socket)] {
            // One that containerd has removed itself is as good.
            let _ = fs::remove_file(path);
        }
    }
}
