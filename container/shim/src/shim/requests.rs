//! Answers to requests.

use super::container::Container;
use super::sandbox::Sandbox;
use super::{Shim, failure};
use crate::protocol::*;
use alloc::{format, string::String, vec, vec::Vec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use strata_runtime::spec::{Namespace, NamespaceKind};
use strata_runtime::{Context, Error, Result};
use strata_sys::{Errno, namespace, time};

/// How long a killed container may take to end: its processes may be inside the kernel.
const KILL_LIMIT: u64 = 10_000_000_000;

/// A reply and its descriptors; `None` when it comes later.
type Answer = Option<(Reply, Vec<OwnedFd>)>;

impl Shim {
    pub(super) fn answer(&mut self, number: u64, request: Request, descriptors: Vec<OwnedFd>) {
        let answer = self.carry_out(number, request, descriptors);
        let Some(client) = self.clients.iter_mut().find(|client| client.number == number) else {
            return;
        };
        match answer {
            Ok(Some((reply, descriptors))) => {
                let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(OwnedFd::as_fd).collect();
                client.reply(&reply, &borrowed);
            }
            Ok(None) => {}
            Err(error) => client.reply(&Reply::Error(failure(&error)), &[]),
        }
    }

    fn carry_out(&mut self, number: u64, request: Request, descriptors: Vec<OwnedFd>) -> Result<Answer> {
        let done = || Ok(Some((Reply::Done, Vec::new())));
        match request {
            Request::Hello { .. } => Ok(self.hello()),
            Request::CreateSandbox(spec) => self.create_sandbox(&spec),
            Request::Namespace(kind) => Ok(Some((Reply::Done, vec![self.namespace(kind)?]))),
            Request::Create(spec) => self.create(*spec),
            Request::Start { container } => self.start(&container),
            Request::Kill {
                container,
                exec,
                signal,
                all,
            } => {
                self.container(&container)?.signal(exec.as_deref(), signal, all)?;
                done()
            }
            Request::Delete { container, force } => {
                self.delete(&container, force)?;
                done()
            }
            Request::Exec(spec) => self.exec(*spec, descriptors),
            Request::Resize { container, size } => {
                self.container(&container)?.streams.resize(size)?;
                done()
            }
            Request::Attach {
                container,
                stdin,
                stdout,
                stderr,
            } => {
                let ends = self.container(&container)?.streams.attach(stdin, stdout, stderr)?;
                Ok(Some((Reply::Done, ends)))
            }
            Request::State => Ok(Some((Reply::State(self.state().into()), Vec::new()))),
            Request::Wait { container, exec } => self.await_end(number, container, exec),
            Request::Pause { container } => {
                self.container(&container)?.freeze(true)?;
                self.save();
                done()
            }
            Request::Resume { container } => {
                self.container(&container)?.freeze(false)?;
                self.save();
                done()
            }
            Request::Update { container, resources } => {
                self.container(&container)?.update(&resources)?;
                done()
            }
            Request::ReopenLogs { container } => {
                self.container(&container)?.streams.reopen_log()?;
                done()
            }
            Request::Subscribe => {
                if let Some(client) = self.clients.iter_mut().find(|client| client.number == number) {
                    client.subscribed = true;
                }
                done()
            }
            Request::Shutdown => {
                self.shut_down()?;
                done()
            }
        }
    }

    fn hello(&self) -> Answer {
        let reply = Reply::Hello {
            version: PROTOCOL_VERSION,
            pid: self.own_pid(),
            sandbox: self.name.clone(),
        };
        Some((reply, Vec::new()))
    }

    fn exec(&mut self, spec: ExecSpec, descriptors: Vec<OwnedFd>) -> Result<Answer> {
        let container = self.container(&spec.container)?;
        let (pid, terminal) = container.exec(spec, descriptors)?;
        let reply = Reply::Started { pid, at: time::now() };
        Ok(Some((reply, terminal.into_iter().collect())))
    }

    fn own_pid(&self) -> i32 {
        rustix::process::getpid().as_raw_nonzero().get()
    }

    fn container(&mut self, id: &str) -> Result<&mut Container> {
        self.containers
            .get_mut(id)
            .ok_or_else(|| Error::NotFound(format!("no container {id:?} in this sandbox")))
    }

    fn create_sandbox(&mut self, spec: &SandboxSpec) -> Result<Answer> {
        if self.sandbox.is_some() {
            return Err(Error::Exists("the sandbox exists already".into()));
        }
        self.sandbox = Some(Sandbox::create(spec, &self.layout)?);
        self.save();
        let network = spec.network || spec.network_path.is_some();
        let descriptors = if network {
            vec![self.namespace(NamespaceKind::Network)?]
        } else {
            Vec::new()
        };
        Ok(Some((Reply::Sandbox { pid: self.own_pid() }, descriptors)))
    }

    fn namespace(&self, kind: NamespaceKind) -> Result<OwnedFd> {
        let sandbox = self
            .sandbox
            .as_ref()
            .ok_or_else(|| Error::State("the sandbox is not there yet".into()))?;
        let name = match kind {
            NamespaceKind::User => {
                let users = sandbox
                    .users
                    .as_ref()
                    .ok_or_else(|| Error::State("the sandbox has no user namespace of its own".into()))?;
                return rustix::io::fcntl_dupfd_cloexec(users, 0).context(|| "duplicate a descriptor");
            }
            NamespaceKind::Network if !sandbox.has_network => {
                return Err(Error::State("the sandbox uses the host's network".into()));
            }
            NamespaceKind::Pid => {
                let (_, opened) = sandbox
                    .init
                    .as_ref()
                    .ok_or_else(|| Error::State("the sandbox shares no pid namespace".into()))?;
                return rustix::io::fcntl_dupfd_cloexec(opened, 0).context(|| "duplicate a descriptor");
            }
            NamespaceKind::Network => "net",
            NamespaceKind::Ipc => "ipc",
            NamespaceKind::Uts => "uts",
            other => {
                return Err(Error::Invalid(format!(
                    "containers of a sandbox do not share a {other:?} namespace"
                )));
            }
        };
        namespace::open_own(name).context(|| "open a namespace")
    }

    fn create(&mut self, mut spec: ContainerSpec) -> Result<Answer> {
        let Some(sandbox) = &self.sandbox else {
            return Err(Error::State("the sandbox is not there yet".into()));
        };
        let id = spec.id.clone();
        if id.is_empty() || self.containers.contains_key(&id) {
            return Err(Error::Exists(format!("there is a container {id:?} already")));
        }
        if let Some(users) = &sandbox.users {
            let linux = spec.spec.linux.get_or_insert_default();
            linux.namespaces.retain(|entry| entry.kind != NamespaceKind::User);
            linux.namespaces.push(Namespace {
                kind: NamespaceKind::User,
                path: format!("/proc/self/fd/{}", users.as_raw_fd()),
            });
        }
        let shared = sandbox.init.as_ref().filter(|_| !spec.own_pid);
        let shared_pid = shared.map(|(_, opened)| opened.as_fd());
        let container = Container::create(self.next_client, spec, &self.layout, shared_pid)?;
        self.next_client += 1;
        let pid = container.state.pid;
        self.containers.insert(id, container);
        self.save();
        Ok(Some((Reply::Created { pid }, Vec::new())))
    }

    fn start(&mut self, id: &str) -> Result<Answer> {
        let container = self.container(id)?;
        let at = container.start()?;
        let pid = container.state.pid;
        self.save();
        Ok(Some((Reply::Started { pid, at }, Vec::new())))
    }

    fn await_end(&mut self, number: u64, id: String, exec: Option<String>) -> Result<Answer> {
        let container = self.container(&id)?;
        let exit = match &exec {
            None => container.state.exit,
            Some(name) => container.exec_exit(name)?,
        };
        if let Some(exit) = exit {
            return Ok(Some((Reply::Exited(exit), Vec::new())));
        }
        if let Some(client) = self.clients.iter_mut().find(|client| client.number == number) {
            client.waiting = Some((id, exec));
        }
        Ok(None)
    }

    fn delete(&mut self, id: &str, force: bool) -> Result<()> {
        // Its end may not have been noted yet.
        self.reap();
        let container = self.container(id)?;
        if container.is_running() {
            if !force {
                return Err(Error::State("the container is running".into()));
            }
            container.kill()?;
            self.await_death(id)?;
        }
        self.container(id)?.remove()?;
        self.containers.remove(id);
        self.save();
        Ok(())
    }

    /// Waits until a killed container's init has ended, and notes it.
    fn await_death(&mut self, id: &str) -> Result<()> {
        let deadline = time::monotonic() + KILL_LIMIT;
        while self.container(id)?.is_running() {
            let left = deadline.saturating_sub(time::monotonic());
            if left == 0 {
                return Err(Error::State(
                    "the container's init did not end in 10 s after SIGKILL".into(),
                ));
            }
            let timeout = Timespec {
                tv_sec: (left / 1_000_000_000) as i64,
                tv_nsec: (left % 1_000_000_000) as i64,
            };
            let container = self.container(id)?;
            let pidfd = container.pidfd();
            match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => {
                    return Err(Error::System {
                        what: "wait for the container".into(),
                        errno,
                    });
                }
            }
            self.reap();
        }
        Ok(())
    }

    fn shut_down(&mut self) -> Result<()> {
        let ids: Vec<String> = self.containers.keys().cloned().collect();
        for id in &ids {
            let container = self.container(id)?;
            if container.is_running() {
                container.kill()?;
            }
        }
        for id in &ids {
            self.delete(id, true)?;
        }
        if let Some(mut sandbox) = self.sandbox.take() {
            sandbox.remove()?;
        }
        for name in ["shim.sock", "shim.json", "state.json"] {
            let _ = rustix::fs::unlinkat(&self.directory, name, rustix::fs::AtFlags::empty());
        }
        self.ended = true;
        Ok(())
    }
}
