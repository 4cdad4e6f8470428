//! A `strata server` of the built binary, in a data directory of its own.

use crate::{Kubectl, PATIENCE, Traces, binary, eventually, zombies};
use std::{
    fs::File,
    net::TcpListener,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;

/// A running server; ended and removed when dropped.
pub struct Server {
    folder: TempDir,
    port: u16,
    flags: Vec<String>,
    child: Option<Child>,
}

impl Server {
    /// Starts a server with more flags, and waits until it says that it is ready.
    pub fn start(flags: &[&str]) -> Self {
        let mut server = Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
            port: free_port(),
            flags: flags.iter().map(|f| (*f).to_owned()).collect(),
            child: None,
        };
        server.launch();
        server
    }

    /// Starts the server again on the same data.
    pub fn launch(&mut self) {
        let socket = self.folder.path().join("notify");
        // A socket of an earlier start is in the way.
        let _ = std::fs::remove_file(&socket);
        let ready = UnixDatagram::bind(&socket).expect("a socket for the ready message");
        ready.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .expect("a log");
        let child = Command::new(binary())
            .arg("server")
            .arg("--data-dir")
            .arg(self.data_dir())
            .args(["--port", &self.port.to_string(), "--bind", "0.0.0.0", "--shared-disk"])
            .args(&self.flags)
            .env("NOTIFY_SOCKET", &socket)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        self.child = Some(child);
        let mut message = [0; 64];
        let told = ready.recv(&mut message).map(|n| message[..n].to_vec());
        assert_eq!(
            told.ok().as_deref(),
            Some(&b"READY=1"[..]),
            "the server does not get ready:\n{}",
            self.logs()
        );
    }

    /// Ends the server as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a child can be killed");
            child.wait().expect("a child can be waited for");
        }
    }

    /// Ends the server politely; its exit code.
    pub fn stop(&mut self) -> i32 {
        let Some(mut child) = self.child.take() else { return 0 };
        let pid = rustix::process::Pid::from_child(&child);
        // One that has ended already is waited for just the same.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        child.wait().expect("a child can be waited for").code().unwrap_or(-1)
    }

    /// Its process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Tells the server to end, and does not wait.
    pub fn terminate(&self) {
        if let Some(child) = &self.child {
            let pid = rustix::process::Pid::from_child(child);
            // One that has ended already is what was wanted.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }

    /// Its data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// kubectl as the administrator.
    pub fn kubectl(&self) -> Kubectl {
        Kubectl::new(self.data_dir().join("admin.kubeconfig"))
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// What it has logged.
    pub fn logs(&self) -> String {
        read(&self.log())
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| e.to_string())
}

impl Drop for Server {
    fn drop(&mut self) {
        let traces = Traces::below(self.folder.path());
        if let Some(child) = self.child.as_ref().filter(|_| !std::thread::panicking()) {
            eventually("the server waits for its children", || match &zombies(child.id())[..] {
                [] => Ok(()),
                zombies => Err(zombies.join("")),
            });
        }
        self.stop();
        if std::thread::panicking() {
            let logs = self.logs();
            let tail: Vec<&str> = logs.lines().rev().take(60).collect();
            eprintln!("--- server log, newest first\n{}", tail.join("\n"));
        }
        // Containers outlive a server; a test's must not outlive the test.
        let reset = Command::new(binary())
            .arg("reset")
            .arg("--data-dir")
            .arg(self.data_dir())
            .output();
        if let Ok(output) = reset
            && !output.status.success()
        {
            eprintln!("reset: {}", String::from_utf8_lossy(&output.stderr));
        }
        if !std::thread::panicking() {
            traces.assert_gone();
        }
    }
}

/// A port nobody listens on right now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("its number").port()
}
