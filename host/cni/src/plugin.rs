//! Running one plugin: bounded in time and in what it says, with whatever it started.

use crate::Error;
use crate::outcome::complaint;
use serde_json::Value;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

/// Largest answer.
const MAX_ANSWER: u64 = 1 << 20;
/// What is kept of complaints; the rest is read and dropped, so that nobody who says much has to wait.
const MAX_COMPLAINT: usize = 64 << 10;

/// What a plugin is to do, to whom.
#[derive(Clone, Debug)]
pub(crate) struct Call<'a> {
    /// `ADD`, `DEL`, …
    pub command: &'static str,
    /// Empty for what concerns no container.
    pub container: &'a str,
    /// The sandbox's network namespace; empty if it has gone.
    pub namespace: &'a str,
    /// The link's name in the sandbox.
    pub link: &'a str,
    /// `KEY=value;KEY=value`.
    pub arguments: &'a str,
    /// Where plugins are; they start each other.
    pub folders: &'a [PathBuf],
    /// How long it may take.
    pub limit: Duration,
}

/// The program of a plugin.
pub(crate) fn find(kind: &str, folders: &[PathBuf]) -> Result<PathBuf, Error> {
    let program = |path: &PathBuf| {
        path.metadata()
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    let found = folders.iter().map(|folder| folder.join(kind)).find(program);
    found.ok_or_else(|| Error::NoPlugin {
        plugin: kind.to_owned(),
        folders: folders.to_vec(),
    })
}

/// Runs a plugin with its settings; what it answered. Whatever it started ends with it when it fails or takes too long.
pub(crate) async fn run(kind: &str, call: &Call<'_>, settings: &Value) -> Result<Vec<u8>, Error> {
    let failed = |why: String| Error::Plugin {
        plugin: kind.to_owned(),
        command: call.command.to_ascii_lowercase(),
        code: None,
        why,
    };
    let program = find(kind, call.folders)?;
    let child = command(&program, call)?.spawn().map_err(|e| failed(e.to_string()))?;
    let group = Group::of(&child);
    let talked = tokio::time::timeout(call.limit, talk(child, settings.to_string())).await;
    let (status, stdout, stderr) = match talked {
        Ok(Ok(told)) => told,
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Err(_) => return Err(failed(format!("it did not end within {} s", call.limit.as_secs()))),
    };
    group.leave();
    if status.success() {
        return Ok(stdout);
    }
    let (code, why) = complaint(&stdout, &stderr, &status.to_string());
    Err(Error::Plugin {
        plugin: kind.to_owned(),
        command: call.command.to_ascii_lowercase(),
        code,
        why,
    })
}

fn command(program: &Path, call: &Call<'_>) -> Result<Command, Error> {
    let path = std::env::join_paths(call.folders);
    let path = path.map_err(|_| Error::Invalid("a folder of plugins has a colon in its name".into()))?;
    let mut command = Command::new(program);
    // This program's own settings are nobody else's.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if ["STRATA_", "CNI_", "NOTIFY_SOCKET", "LISTEN_"]
            .iter()
            .any(|own| name.starts_with(own))
        {
            command.env_remove(&*name);
        }
    }
    command
        .env("CNI_COMMAND", call.command)
        .env("CNI_PATH", path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    if !call.container.is_empty() {
        command
            .env("CNI_CONTAINERID", call.container)
            .env("CNI_NETNS", call.namespace)
            .env("CNI_IFNAME", call.link)
            .env("CNI_ARGS", call.arguments);
    }
    Ok(command)
}

async fn talk(mut child: Child, settings: String) -> io::Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
    let pipe = || io::Error::other("a pipe is missing");
    let mut stdin = child.stdin.take().ok_or_else(pipe)?;
    let stdout = child.stdout.take().ok_or_else(pipe)?;
    let stderr = child.stderr.take().ok_or_else(pipe)?;
    let tell = async move {
        match stdin.write_all(settings.as_bytes()).await {
            // It has read what it needed.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    };
    let (status, (), stdout, stderr) = tokio::try_join!(child.wait(), tell, answer(stdout), complaints(stderr))?;
    Ok((status, stdout, stderr))
}

async fn answer(from: impl AsyncRead + Unpin) -> io::Result<Vec<u8>> {
    let mut said = Vec::new();
    from.take(MAX_ANSWER + 1).read_to_end(&mut said).await?;
    if said.len() as u64 > MAX_ANSWER {
        return Err(io::Error::other(format!(
            "its answer is longer than {MAX_ANSWER} bytes"
        )));
    }
    Ok(said)
}

async fn complaints(mut from: impl AsyncRead + Unpin) -> io::Result<Vec<u8>> {
    let (mut said, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let read = from.read(&mut part).await?;
        if read == 0 {
            return Ok(said);
        }
        let room = MAX_COMPLAINT - said.len();
        said.extend_from_slice(&part[..read.min(room)]);
    }
}

/// The plugin and what it started, killed unless it ended by itself.
struct Group(Option<rustix::process::Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        Self(pid.and_then(rustix::process::Pid::from_raw))
    }

    fn leave(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have ended in this moment.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::fs;

    fn plugin(folder: &Path, script: &str) {
        let (text, path) = (folder.join("text"), folder.join("p"));
        fs::write(&text, format!("#!/bin/sh\n{script}\n")).expect("write");
        fs::set_permissions(&text, fs::Permissions::from_mode(0o755)).expect("mode");
        // A file that this process has open for writing while another test forks cannot be run (ETXTBSY).
        let copied = std::process::Command::new("cp").arg("-p").args([text, path]).status();
        assert!(copied.expect("cp").success());
    }

    async fn told(script: &str) -> Result<Vec<u8>, Error> {
        let folder = tempfile::tempdir().expect("folder");
        plugin(folder.path(), script);
        let folders = [folder.path().to_owned()];
        let call = Call {
            command: "ADD",
            container: "c",
            namespace: "/n",
            link: "eth0",
            arguments: "A=b",
            folders: &folders,
            limit: Duration::from_secs(20),
        };
        run("p", &call, &json!({"name": "n"})).await
    }

    #[tokio::test]
    async fn a_plugin_is_told_all_and_heard() {
        let answer = told("cat; echo; echo $CNI_COMMAND $CNI_CONTAINERID $CNI_NETNS $CNI_IFNAME $CNI_ARGS").await;
        let answer = String::from_utf8(answer.expect("answered")).expect("text");
        assert_eq!(answer, "{\"name\":\"n\"}\nADD c /n eth0 A=b\n");
    }

    #[tokio::test]
    async fn a_plugin_that_fails_says_why() {
        let error = told(r#"echo '{"code": 7, "msg": "no room"}'; exit 1"#)
            .await
            .expect_err("failed");
        assert!(matches!(error, Error::Plugin { code: Some(7), .. }), "{error}");
        assert_eq!(error.to_string(), r#"plugin type="p" failed (add): no room"#);
        let error = told("kill -9 $$").await.expect_err("killed").to_string();
        assert!(error.contains("signal: 9"), "{error}");
    }

    #[tokio::test]
    async fn a_plugin_that_talks_without_end_is_cut_off() {
        let error = told("exec cat /dev/zero").await.expect_err("cut off").to_string();
        assert!(error.contains("longer than"), "{error}");
        assert!(told("head -c 1000000 /dev/zero >&2").await.is_ok());
    }

    #[tokio::test]
    async fn a_plugin_that_hangs_ends_with_all_that_it_started() {
        let folder = tempfile::tempdir().expect("folder");
        let note = folder.path().join("pid");
        plugin(
            folder.path(),
            &format!("sleep 1000 & echo $! >{}; wait", note.display()),
        );
        let folders = [folder.path().to_owned()];
        let call = Call {
            command: "DEL",
            container: "c",
            namespace: "",
            link: "eth0",
            arguments: "",
            folders: &folders,
            limit: Duration::from_secs(1),
        };
        let error = run("p", &call, &json!({})).await.expect_err("too slow").to_string();
        assert!(error.contains("did not end within 1 s"), "{error}");
        let pid = fs::read_to_string(note).expect("started");
        let gone = |pid: &str| match fs::read_to_string(format!("/proc/{}/stat", pid.trim())) {
            Ok(stat) => stat.contains(") Z ") || stat.contains(") X "),
            Err(_) => true,
        };
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while !gone(&pid) {
            assert!(std::time::Instant::now() < deadline, "{pid} goes on");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_plugin_that_is_nowhere_is_named() {
        let call = Call {
            command: "ADD",
            container: "c",
            namespace: "",
            link: "eth0",
            arguments: "",
            folders: &[PathBuf::from("/nonexistent")],
            limit: Duration::from_secs(1),
        };
        let error = run("bridge", &call, &json!({})).await.expect_err("absent").to_string();
        assert_eq!(error, r#"failed to find plugin "bridge" in path ["/nonexistent"]"#);
    }
}
