//! The shim: parent of a sandbox's containers.
//!
//! One thread and one loop around poll(2). It blocks only while a container or process is being set up,
//! which the runtime bounds.

mod client;
mod container;
mod log;
mod requests;
mod sandbox;
mod streams;
pub(crate) mod task;
mod users;

use crate::frame;
use crate::protocol::*;
use alloc::{collections::BTreeMap, format, string::String, string::ToString, vec::Vec};
use client::Client;
use container::Container;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use sandbox::Sandbox;
use strata_runtime::cgroup::{Cgroup, Layout};
use strata_runtime::{Context, Error, Result};
use strata_sys::{Errno, file, message, process, signal};

/// Most clients at a time.
const CLIENT_LIMIT: usize = 512;

/// The shim's state.
pub(super) struct Shim {
    name: String,
    path: String,
    directory: OwnedFd,
    layout: Layout,
    listener: OwnedFd,
    signals: OwnedFd,
    clients: Vec<Client>,
    next_client: u64,
    sandbox: Option<Sandbox>,
    containers: BTreeMap<String, Container>,
    start_time: u64,
    ended: bool,
}

/// Runs a shim whose first client is `socket`; its exit code.
pub(crate) fn run(spec: LaunchSpec, socket: OwnedFd, layout: &Result<Layout>) -> i32 {
    match layout.clone().and_then(|layout| Shim::new(spec, &socket, layout)) {
        Ok(mut shim) => {
            shim.adopt(socket);
            shim.serve()
        }
        Err(error) => {
            let _ = frame::send(&socket, &Launched::Failed(error.to_string()), &[]);
            1
        }
    }
}

/// What a descriptor that poll reports belongs to.
enum Token {
    Listener,
    Signals,
    Client(u64),
    Stream(u64, streams::Part),
    Memory(u64),
}

impl Shim {
    fn new(spec: LaunchSpec, socket: &OwnedFd, layout: Layout) -> Result<Self> {
        detach()?;
        if !spec.cgroup.is_empty() {
            enter_cgroup(&Cgroup::create(&layout, &spec.cgroup)?)?;
        }
        file::make_directories(&spec.state_dir, 0o700).context(|| format!("make {}", spec.state_dir))?;
        let directory = file::open_directory(&*spec.state_dir).context(|| format!("open {}", spec.state_dir))?;
        let path = format!("{}/shim.sock", spec.state_dir);
        let listener = listen(&path)?;
        let signals = signal::descriptor(signal::bit(libc::SIGCHLD)).context(|| "signalfd")?;
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        let start_time = process::start_time(pid).context(|| "read the own start time")?;
        let shim = Shim {
            name: spec.sandbox_id.clone(),
            path: spec.state_dir,
            directory,
            layout,
            listener,
            signals,
            clients: Vec::new(),
            next_client: 1,
            sandbox: None,
            containers: BTreeMap::new(),
            start_time,
            ended: false,
        };
        let identity = ShimRef {
            sandbox_id: spec.sandbox_id,
            pid,
            start_time,
            socket: path,
            version: PROTOCOL_VERSION,
        };
        shim.write("shim.json", &identity)?;
        frame::send(socket, &Launched::Shim(identity), &[]).context(|| "answer the daemon")?;
        Ok(shim)
    }

    fn write<T: serde::Serialize>(&self, name: &str, value: &T) -> Result<()> {
        let text = serde_json::to_vec(value).map_err(|error| Error::State(error.to_string()))?;
        file::replace(&self.directory, name, &text, 0o600).context(|| format!("write {}/{name}", self.path))
    }

    /// Writes the state down: if the shim is killed, the engine still learns what there was.
    fn save(&self) {
        // Without space for it the shim goes on: what it knows can still be asked.
        let _ = self.write("state.json", &self.state());
    }

    fn state(&self) -> SandboxState {
        SandboxState {
            version: PROTOCOL_VERSION,
            sandbox: self.name.clone(),
            shim_pid: rustix::process::getpid().as_raw_nonzero().get(),
            shim_start: self.start_time,
            ready: self.sandbox.is_some(),
            containers: self
                .containers
                .iter()
                .map(|(id, container)| (id.clone(), container.state.clone()))
                .collect(),
        }
    }

    fn adopt(&mut self, socket: OwnedFd) {
        if rustix::io::ioctl_fionbio(&socket, true).is_ok() {
            self.clients.push(Client::new(self.next_client, socket));
            self.next_client += 1;
        }
    }

    fn serve(&mut self) -> i32 {
        while !self.ended {
            let ready = match self.wait() {
                Ok(ready) => ready,
                // Nothing can be done without poll; the containers go on.
                Err(_) => return 1,
            };
            for (token, events) in ready {
                self.dispatch(token, events);
            }
            self.clients.retain(|client| !client.closed);
        }
        0
    }

    /// Blocks until something is ready: what, and how.
    fn wait(&self) -> strata_sys::Result<Vec<(Token, PollFlags)>> {
        let mut tokens = Vec::new();
        let mut polled = Vec::new();
        let mut add = |token: Token, descriptor, flags| {
            tokens.push(token);
            polled.push(PollFd::from_borrowed_fd(descriptor, flags));
        };
        add(Token::Listener, self.listener.as_fd(), PollFlags::IN);
        add(Token::Signals, self.signals.as_fd(), PollFlags::IN);
        for client in &self.clients {
            add(Token::Client(client.number), client.socket.as_fd(), client.interest());
        }
        for container in self.containers.values() {
            let number = container.number;
            container
                .streams
                .interests(|part, descriptor, flags| add(Token::Stream(number, part), descriptor, flags));
            if let Some(memory) = &container.memory {
                let flags = if memory.priority { PollFlags::PRI } else { PollFlags::IN };
                add(Token::Memory(number), memory.descriptor.as_fd(), flags);
            }
        }
        match poll(&mut polled, None) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Vec::new()),
            Err(errno) => return Err(errno),
        }
        let events: Vec<PollFlags> = polled.iter().map(PollFd::revents).collect();
        Ok(tokens
            .into_iter()
            .zip(events)
            .filter(|(_, events)| !events.is_empty())
            .collect())
    }

    fn dispatch(&mut self, token: Token, events: PollFlags) {
        match token {
            Token::Listener => self.accept(),
            Token::Signals => self.reap(),
            Token::Client(number) => self.hear(number),
            Token::Stream(number, part) => {
                if let Some(container) = self
                    .containers
                    .values_mut()
                    .find(|container| container.number == number)
                {
                    container.streams.ready(part, events);
                }
            }
            Token::Memory(number) => self.tell_of_memory(number),
        }
    }

    fn accept(&mut self) {
        let flags = rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK;
        while let Ok(socket) = rustix::net::accept_with(&self.listener, flags) {
            let own = rustix::process::geteuid();
            // The socket's mode keeps others out; this keeps out whoever got hold of it otherwise.
            let trusted = message::peer(&socket).is_ok_and(|peer| peer.uid.is_root() || peer.uid == own);
            if trusted && self.clients.len() < CLIENT_LIMIT {
                self.adopt(socket);
            }
        }
    }

    /// One request of a client, or its end.
    fn hear(&mut self, number: u64) {
        let Some(index) = self
            .clients
            .iter()
            .position(|client| client.number == number && !client.closed)
        else {
            return;
        };
        let client = &mut self.clients[index];
        if client.is_busy() {
            // Nothing is expected from it: it has gone, or breaks the protocol.
            client.closed = true;
            return;
        }
        match frame::receive::<Request>(&client.socket) {
            Ok(Some((Ok(request), descriptors))) => self.answer(number, request, descriptors),
            Ok(Some((Err(error), _))) => {
                let message = format!("unknown request: {error}");
                client.reply(
                    &Reply::Error(Failure {
                        kind: FailureKind::Invalid,
                        message,
                    }),
                    &[],
                );
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok(None) | Err(_) => client.closed = true,
        }
    }

    /// Reaps whatever has ended: containers, their further processes, and orphans.
    fn reap(&mut self) {
        while let Ok(Some(_)) = signal::read(&self.signals) {}
        while let Ok(Some((pid, status))) = process::reap_any() {
            self.note_end(pid, status);
        }
    }

    fn note_end(&mut self, pid: i32, status: process::WaitStatus) {
        let mut exit = ExitStatus {
            code: status.code(),
            signal: status.signal(),
            oom_killed: false,
            finished_at: strata_sys::time::now(),
        };
        for (id, container) in &mut self.containers {
            if container.state.pid == pid && container.state.status != Status::Stopped {
                container.streams.drain();
                exit.oom_killed = exit.code != 0 && container.cgroup.oom_kills() > 0;
                container.end(exit);
                let id = id.clone();
                self.save();
                self.tell(&Event::Exited {
                    container: id.clone(),
                    status: exit,
                });
                self.release(&id, None, exit);
                return;
            }
            if let Some(exec) = container.end_exec(pid, exit) {
                let id = id.clone();
                self.tell(&Event::ExecExited {
                    container: id.clone(),
                    exec: exec.clone(),
                    status: exit,
                });
                self.release(&id, Some(&exec), exit);
                return;
            }
        }
    }

    fn tell_of_memory(&mut self, number: u64) {
        let Some((id, container)) = self
            .containers
            .iter_mut()
            .find(|(_, container)| container.number == number)
        else {
            return;
        };
        let id = id.clone();
        if container.read_memory_watch() {
            self.tell(&Event::OutOfMemory { container: id });
        }
    }

    /// Tells all subscribers.
    fn tell(&mut self, event: &Event) {
        for client in self.clients.iter_mut().filter(|client| client.subscribed) {
            client.reply(&Reply::Event(event.clone()), &[]);
        }
    }

    /// Answers those who wait for an end.
    fn release(&mut self, container: &str, exec: Option<&str>, status: ExitStatus) {
        for client in &mut self.clients {
            let waits = client
                .waiting
                .as_ref()
                .is_some_and(|(id, name)| id == container && name.as_deref() == exec);
            if waits {
                client.waiting = None;
                client.reply(&Reply::Exited(status), &[]);
            }
        }
    }
}

/// Listens at the shim's socket; one that a killed shim left behind is replaced.
fn listen(path: &str) -> Result<OwnedFd> {
    let what = || format!("listen at {path}");
    match message::listen(path, 128) {
        Err(Errno::ADDRINUSE) if message::connect(path).err() == Some(Errno::CONNREFUSED) => {
            rustix::fs::unlink(path).context(what)?;
            message::listen(path, 128).context(what)
        }
        other => other.context(what),
    }
}

/// Becomes a process of its own: session, name, signals, streams.
fn detach() -> Result<()> {
    let what = || "set the shim up";
    rustix::process::setsid().context(what)?;
    process::set_name(c"strata-shim").context(what)?;
    process::become_subreaper().context(what)?;
    // Only SIGKILL ends a shim, and SIGCHLD is read from a descriptor.
    signal::set_blocked(!0).context(what)?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).context(what)?;
    rustix::stdio::dup2_stdin(&null).context(what)?;
    rustix::stdio::dup2_stdout(&null).context(what)?;
    rustix::stdio::dup2_stderr(&null).context(what)
}

fn enter_cgroup(cgroup: &Cgroup) -> Result<()> {
    if cgroup.layout().is_unified() {
        return cgroup.adopt(rustix::process::getpid().as_raw_nonzero().get());
    }
    cgroup.entry()?.enter()
}

/// An error as clients get it.
fn failure(error: &Error) -> Failure {
    let kind = match error {
        Error::System { .. } | Error::Elsewhere(_) => FailureKind::System,
        Error::Command(_) => FailureKind::Command,
        Error::Invalid(_) => FailureKind::Invalid,
        Error::NotFound(_) => FailureKind::NotFound,
        Error::Exists(_) => FailureKind::Exists,
        Error::State(_) => FailureKind::State,
    };
    Failure {
        kind,
        message: error.to_string(),
    }
}
