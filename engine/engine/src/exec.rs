//! Further processes in a container, and attaching to its own.

use crate::engine::Inner;
use crate::entry::SandboxEntry;
use crate::link::{ShimLink, blocking};
use crate::stream::Terminal;
use crate::{AttachOptions, ContainerId, ContainerState, Engine, Error, ExecOptions, ExecResult, ExecSession, Resizer};
use futures::future::BoxFuture;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use strata_runtime::spec::{ConsoleSize, Process, User};
use strata_shim::protocol::{ExecSpec, ExitStatus};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

/// Output that children keep open after the command's end is not waited for longer than this.
const DRAIN: Duration = Duration::from_secs(2);

/// A started exec.
struct Started {
    name: String,
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
    exit: oneshot::Receiver<ExitStatus>,
}

type Writer = Box<dyn AsyncWrite + Send + Unpin>;
type Reader = Box<dyn AsyncRead + Send + Unpin>;

impl Engine {
    /// Runs a command in a container and gives its output; kills it after `timeout`.
    ///
    /// A zero timeout is none.
    pub async fn exec_sync(
        &self,
        id: &ContainerId,
        command: Vec<String>,
        timeout: Duration,
    ) -> Result<ExecResult, Error> {
        let (sandbox, link) = self.running(id)?;
        let options = ExecOptions {
            command: command.clone(),
            stdout: true,
            stderr: true,
            ..ExecOptions::default()
        };
        let started = self.inner.exec(id, &sandbox, &link, options).await?;
        let name = started.name;
        let stdout = capped(reader(started.stdout)?);
        let stderr = capped(reader(started.stderr)?);
        let work = async {
            let mut outputs = std::pin::pin!(futures::future::join(stdout, stderr));
            let mut exit = std::pin::pin!(started.exit);
            // Reading and waiting go side by side: a full pipe would hold the command up.
            let status = tokio::select! {
                status = &mut exit => status,
                done = &mut outputs => return (exit.await, done),
            };
            let done = tokio::time::timeout(DRAIN, outputs).await;
            (status, done.unwrap_or_default())
        };
        let limit = if timeout.is_zero() { Duration::MAX } else { timeout };
        match tokio::time::timeout(limit, work).await {
            Ok((status, (stdout, stderr))) => {
                let status = status.map_err(|_| lost(&sandbox))?;
                Ok(ExecResult {
                    exit_code: status.code,
                    stdout,
                    stderr,
                })
            }
            Err(_) => {
                let container = id.to_string();
                let killed = link.ask("kill command", move |connection| {
                    connection.kill(&container, Some(&name), rustix::process::Signal::KILL.as_raw(), false)
                });
                // It may have ended in this moment.
                if let Err(error) = killed.await {
                    tracing::debug!(container = %id, %error, "could not kill a command that timed out");
                }
                Err(Error::Timeout {
                    command,
                    after: timeout,
                })
            }
        }
    }

    /// Runs a command in a container with streams.
    pub async fn exec(&self, id: &ContainerId, options: ExecOptions) -> Result<ExecSession, Error> {
        let (sandbox, link) = self.running(id)?;
        let wants = options.clone();
        let started = self.inner.exec(id, &sandbox, &link, options).await?;
        let exit: BoxFuture<'static, Result<i32, Error>> = {
            let sandbox = Arc::clone(&sandbox);
            let exit = started.exit;
            Box::pin(async move { exit.await.map(|status| status.code).map_err(|_| lost(&sandbox)) })
        };
        let Some(terminal) = started.terminal else {
            return Ok(ExecSession {
                stdin: started.stdin.map(writer).transpose()?,
                stdout: started.stdout.map(|fd| reader(Some(fd))).transpose()?,
                stderr: started.stderr.map(|fd| reader(Some(fd))).transpose()?,
                resize: no_terminal(),
                exit,
            });
        };
        let terminal = Terminal::new(terminal).map_err(Error::io("open", "the command's terminal"))?;
        let resized = terminal.clone();
        Ok(ExecSession {
            stdin: wants.stdin.then(|| Box::new(terminal.clone()) as Writer),
            stdout: wants.stdout.then(|| Box::new(terminal) as Reader),
            stderr: None,
            resize: Arc::new(move |width, height| {
                let resized = resized
                    .resize(width, height)
                    .map_err(Error::io("resize", "the command's terminal"));
                Box::pin(std::future::ready(resized))
            }),
            exit,
        })
    }

    /// Follows the streams of a container's own process. The session ends with the container.
    pub async fn attach(&self, id: &ContainerId, options: AttachOptions) -> Result<ExecSession, Error> {
        let (container, sandbox) = self.inner.pair(id)?;
        // Before the start as well, so that nothing of the output is missed.
        let link = match container.state() {
            ContainerState::Created => sandbox.link()?,
            _ => self.running(id)?.1,
        };
        let AttachOptions { stdin, stdout, stderr } = options;
        let stdin = stdin && container.record.stdin;
        let stderr = stderr && !container.record.tty;
        let name = id.to_string();
        let descriptors = link
            .ask("attach to container", move |connection| {
                connection.attach(&name, stdin, stdout, stderr)
            })
            .await?;
        let mut descriptors = descriptors.into_iter();
        let mut next = |wanted: bool| {
            if wanted {
                descriptors.next().map(Some).ok_or(())
            } else {
                Ok(None)
            }
        };
        let (stdin, stdout, stderr) = match (next(stdin), next(stdout), next(stderr)) {
            (Ok(stdin), Ok(stdout), Ok(stderr)) => (stdin, stdout, stderr),
            _ => {
                return Err(Error::Shim {
                    id: sandbox.id.clone(),
                    why: "streams are missing in its answer".into(),
                });
            }
        };
        let name = id.to_string();
        let resize: Resizer = Arc::new(move |width, height| {
            let (link, name) = (Arc::clone(&link), name.clone());
            let size = ConsoleSize { width, height };
            Box::pin(async move {
                link.ask("resize terminal", move |connection| connection.resize(&name, size))
                    .await
            })
        });
        Ok(ExecSession {
            stdin: stdin.map(writer).transpose()?,
            stdout: stdout.map(|fd| reader(Some(fd))).transpose()?,
            stderr: stderr.map(|fd| reader(Some(fd))).transpose()?,
            resize,
            exit: Box::pin(async move {
                let code = container.ended().await.exit_code;
                code.ok_or(Error::Shim {
                    id: container.record.sandbox_id.clone(),
                    why: "the container has ended, and its exit code is lost".into(),
                })
            }),
        })
    }

    fn running(&self, id: &ContainerId) -> Result<(Arc<SandboxEntry>, Arc<ShimLink>), Error> {
        let (container, sandbox) = self.inner.pair(id)?;
        let state = match container.state() {
            ContainerState::Running => return sandbox.link().map(|link| (Arc::clone(&sandbox), link)),
            ContainerState::Created => "created",
            ContainerState::Exited => "exited",
            ContainerState::Unknown => "in an unknown state",
        };
        Err(Error::WrongState {
            id: id.clone(),
            state,
            wanted: "running",
        })
    }
}

impl Inner {
    async fn exec(
        &self,
        id: &ContainerId,
        sandbox: &Arc<SandboxEntry>,
        link: &Arc<ShimLink>,
        options: ExecOptions,
    ) -> Result<Started, Error> {
        if options.command.is_empty() {
            return Err(Error::InvalidConfig("exec needs a command".into()));
        }
        let name = format!(
            "{}-{}",
            self.exec_prefix,
            self.exec_count.fetch_add(1, Ordering::Relaxed)
        );
        let (sender, exit) = oneshot::channel();
        let key = (id.to_string(), name.clone());
        sandbox
            .execs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key.clone(), sender);
        let (asked, exec) = (Arc::clone(link), name.clone());
        let container = id.to_string();
        let started = blocking(move || start(&asked, container, exec, options)).await;
        match started {
            Ok((stdin, stdout, stderr, terminal)) => Ok(Started {
                name,
                stdin,
                stdout,
                stderr,
                terminal,
                exit,
            }),
            Err(error) => {
                sandbox
                    .execs
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(&key);
                Err(error)
            }
        }
    }
}

type Ends = (Option<OwnedFd>, Option<OwnedFd>, Option<OwnedFd>, Option<OwnedFd>);

/// Starts the process; our ends of its streams. Blocking.
fn start(link: &ShimLink, container: String, exec: String, options: ExecOptions) -> Result<Ends, Error> {
    let piped = !options.tty;
    let pipe = |wanted: bool| match wanted && piped {
        true => rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map(Some)
            .map_err(|errno| Error::io("make a pipe for", exec.as_str())(errno.into())),
        false => Ok(None),
    };
    let (stdin, stdout, stderr) = (pipe(options.stdin)?, pipe(options.stdout)?, pipe(options.stderr)?);
    let spec = ExecSpec {
        container,
        id: exec,
        process: Process {
            terminal: options.tty,
            args: options.command,
            env: options
                .tty
                .then(|| "TERM=xterm".to_owned())
                .into_iter()
                .chain(options.env)
                .collect(),
            user: User {
                username: options.user.unwrap_or_default(),
                merge_groups: true,
                ..User::default()
            },
            cwd: options.working_dir.unwrap_or_default(),
            capabilities: options
                .privileged
                .then(crate::capabilities::all)
                .map(crate::capabilities::sets),
            ..Process::default()
        },
        inherit: true,
        stdin: stdin.is_some(),
        stdout: stdout.is_some(),
        stderr: stderr.is_some(),
    };
    let theirs: Vec<_> = stdin
        .iter()
        .map(|(read, _)| read.as_fd())
        .chain(stdout.iter().chain(&stderr).map(|(_, write)| write.as_fd()))
        .collect();
    let (_, terminal) = link
        .call(|connection| connection.exec(spec, &theirs))
        .map_err(|error| link.explain("exec in container", error))?;
    Ok((
        stdin.map(|(_, write)| write),
        stdout.map(|(read, _)| read),
        stderr.map(|(read, _)| read),
        terminal,
    ))
}

fn lost(sandbox: &SandboxEntry) -> Error {
    Error::Shim {
        id: sandbox.id.clone(),
        why: "it ended before the command did".into(),
    }
}

fn no_terminal() -> Resizer {
    Arc::new(|_, _| {
        Box::pin(std::future::ready(Err(Error::InvalidConfig(
            "the command has no terminal".into(),
        ))))
    })
}

fn writer(fd: OwnedFd) -> Result<Writer, Error> {
    let sender = pipe::Sender::from_owned_fd(fd).map_err(Error::io("open", "standard input"))?;
    Ok(Box::new(sender))
}

fn reader(fd: Option<OwnedFd>) -> Result<Reader, Error> {
    match fd {
        Some(fd) => {
            let receiver = pipe::Receiver::from_owned_fd(fd).map_err(Error::io("open", "an output stream"))?;
            Ok(Box::new(receiver))
        }
        None => Ok(Box::new(tokio::io::empty())),
    }
}

/// Reads to the end and keeps the first part.
async fn capped(mut reader: Reader) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut buffer = vec![0; 16 << 10];
    loop {
        match reader.read(&mut buffer).await {
            Ok(0) | Err(_) => return kept,
            Ok(count) => {
                let room = ExecResult::MAX_OUTPUT - kept.len();
                kept.extend_from_slice(&buffer[..count.min(room)]);
            }
        }
    }
}
