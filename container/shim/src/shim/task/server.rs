//! The loop of the shim that containerd speaks with.

use super::client::{Caller, Client, Wire};
use super::events::Publisher;
use super::table::Task;
use crate::protocol::{ExitStatus, Status};
use crate::shim::{detach, streams};
use alloc::{collections::BTreeMap, format, string::String, vec::Vec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use strata_runtime::cgroup::Layout;
use strata_runtime::{Context, Result};
use strata_sys::{Errno, message, process, signal, time};
use strata_ttrpc::Message;
use strata_ttrpc::envelope::Timestamp;
use strata_ttrpc::task::{TaskExit, TaskOOM, WaitResponse};

/// Most connections at a time; containerd has one.
const CLIENT_LIMIT: usize = 64;

/// How long the last events may take when the shim ends.
const ENDING_LIMIT: u64 = 5_000_000_000;

/// Where the shim stands.
pub(super) struct Place {
    pub(super) namespace: String,
    /// containerd's socket for events.
    pub(super) events: String,
    /// The shim's own.
    pub(super) socket: String,
}

/// The shim's state.
pub(super) struct Server {
    pub(super) place: Place,
    pub(super) layout: Layout,
    listener: OwnedFd,
    signals: OwnedFd,
    /// containerd copies what is written here to its own log.
    journal: Option<OwnedFd>,
    pub(super) clients: Vec<Client>,
    next_number: u64,
    pub(super) tasks: BTreeMap<String, Task>,
    pub(super) publisher: Publisher,
    pub(super) waits: Vec<Wait>,
    pub(super) deletions: Vec<Deletion>,
    /// The shim is to end, and when at the latest.
    ending: Option<u64>,
}

/// A caller who waits for the end of a process; an empty name is the init.
pub(super) struct Wait {
    pub(super) caller: Caller,
    pub(super) id: String,
    pub(super) further: String,
}

/// A process to forget when its output has been handed over, and when at the latest.
pub(super) struct Deletion {
    pub(super) caller: Caller,
    pub(super) id: String,
    pub(super) further: String,
    pub(super) deadline: u64,
}

/// What a descriptor that poll reports belongs to.
enum Token {
    Listener,
    Signals,
    Client(u64),
    Publisher,
    Stream(u64, streams::Part),
    Memory(u64),
}

impl Server {
    /// Ready to run, in this process or a child of it, in the bundle.
    pub(super) fn new(place: Place, layout: Layout, listener: OwnedFd) -> Result<Self> {
        let signals = signal::descriptor(signal::bit(libc::SIGCHLD)).context(|| "signalfd")?;
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        // Without somebody who reads there is none.
        let journal = rustix::fs::open("log", flags, Mode::empty()).ok();
        let publisher = Publisher::new(place.events.clone(), place.namespace.clone());
        Ok(Server {
            place,
            layout,
            listener,
            signals,
            journal,
            clients: Vec::new(),
            next_number: 1,
            tasks: BTreeMap::new(),
            publisher,
            waits: Vec::new(),
            deletions: Vec::new(),
            ending: None,
        })
    }

    /// Serves until containerd has no more use for it; the exit code.
    pub(super) fn run(mut self) -> i32 {
        if detach().is_err() || rustix::process::chdir("/").is_err() {
            let _ = rustix::fs::unlink(&*self.place.socket);
            return 1;
        }
        while !self.has_ended() {
            let ready = match self.wait() {
                Ok(ready) => ready,
                // Nothing can be done without poll; the containers go on.
                Err(_) => return 1,
            };
            for (token, events) in ready {
                self.dispatch(token, events);
            }
            self.publisher.advance();
            self.finish_deletions();
            for task in self.tasks.values_mut() {
                task.release_pipes();
            }
            self.clients.retain(|client| !client.wire.closed);
        }
        0
    }

    pub(super) fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// No more containers come here: the next of the same group gets a shim of its own.
    pub(super) fn end(&mut self) {
        if self.ending.is_none() {
            let _ = rustix::fs::unlink(&*self.place.socket);
            self.ending = Some(time::monotonic() + ENDING_LIMIT);
        }
    }

    pub(super) fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    fn has_ended(&self) -> bool {
        let said = || self.publisher.is_idle() && self.clients.iter().all(|client| client.wire.is_flushed());
        self.ending
            .is_some_and(|deadline| said() || time::monotonic() >= deadline)
    }

    /// Writes a line to containerd's log.
    pub(super) fn warn(&self, text: &str) {
        if let Some(journal) = &self.journal {
            let quoted = text.replace('"', "'").replace('\n', " ");
            let line = format!("level=warning msg=\"{}: {quoted}\"\n", super::NAME);
            let _ = rustix::io::write(journal, line.as_bytes());
        }
    }

    /// Blocks until something is ready or due: what, and how.
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
            add(
                Token::Client(client.number),
                client.wire.socket(),
                client.wire.interest(),
            );
        }
        if let Some(wire) = self.publisher.wire() {
            add(Token::Publisher, wire.socket(), wire.interest());
        }
        for task in self.tasks.values() {
            let number = task.init.number;
            let of = |number| move |part| Token::Stream(number, part);
            let token = of(number);
            task.container
                .streams
                .interests(|part, descriptor, flags| add(token(part), descriptor, flags));
            for further in task.further.values() {
                let token = of(further.process.number);
                further
                    .streams
                    .interests(|part, descriptor, flags| add(token(part), descriptor, flags));
            }
            if let Some(memory) = &task.container.memory {
                let flags = if memory.priority { PollFlags::PRI } else { PollFlags::IN };
                add(Token::Memory(number), memory.descriptor.as_fd(), flags);
            }
        }
        let timeout = self.timeout();
        match poll(&mut polled, timeout.as_ref()) {
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

    /// Until something is due even if nothing happens.
    fn timeout(&self) -> Option<Timespec> {
        let deletions = self.deletions.iter().map(|deletion| deletion.deadline);
        let due = deletions.chain(self.publisher.deadline()).chain(self.ending).min()?;
        let left = due.saturating_sub(time::monotonic());
        Some(Timespec {
            tv_sec: (left / 1_000_000_000) as i64,
            tv_nsec: (left % 1_000_000_000) as i64,
        })
    }

    fn dispatch(&mut self, token: Token, events: PollFlags) {
        match token {
            Token::Listener => self.accept(),
            Token::Signals => self.reap(),
            Token::Client(number) => self.hear(number),
            Token::Publisher => self.publisher.ready(),
            Token::Stream(number, part) => {
                if let Some(streams) = self.tasks.values_mut().find_map(|task| task.streams(number)) {
                    streams.ready(part, events);
                }
            }
            Token::Memory(number) => self.tell_of_memory(number),
        }
    }

    fn accept(&mut self) {
        let flags = rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK;
        while let Ok(socket) = rustix::net::accept_with(&self.listener, flags) {
            let own = rustix::process::geteuid();
            let trusted = message::peer(&socket).is_ok_and(|peer| peer.uid.is_root() || peer.uid == own);
            if trusted && self.clients.len() < CLIENT_LIMIT {
                let number = self.number();
                self.clients.push(Client {
                    number,
                    wire: Wire::new(socket),
                    last_stream: 0,
                });
            }
        }
    }

    fn tell_of_memory(&mut self, number: u64) {
        let found = self.tasks.iter_mut().find(|(_, task)| task.init.number == number);
        let Some((id, task)) = found else { return };
        if task.container.read_memory_watch() {
            let event = TaskOOM {
                container_id: id.clone(),
            };
            self.publisher
                .publish("/tasks/oom", "containerd.events.TaskOOM", &event);
        }
    }

    /// Reaps whatever has ended: containers, their further processes, loggers and orphans.
    pub(super) fn reap(&mut self) {
        while let Ok(Some(_)) = signal::read(&self.signals) {}
        while let Ok(Some((pid, status))) = process::reap_any() {
            self.note_end(pid, status);
        }
    }

    fn note_end(&mut self, pid: i32, status: process::WaitStatus) {
        let exit = ExitStatus {
            code: status.code(),
            signal: status.signal(),
            oom_killed: false,
            finished_at: time::now(),
        };
        let ids = self.tasks.iter_mut().find_map(|(id, task)| {
            let state = &task.container.state;
            if state.pid == pid && state.status != Status::Stopped {
                return Some((id.clone(), None));
            }
            let name = task.container.end_exec(pid, exit)?;
            // The name may be used again once this one is forgotten.
            let _ = task.container.exec_exit(&name);
            Some((id.clone(), Some(name)))
        });
        match ids {
            Some((id, None)) => self.end_init(&id, exit),
            Some((id, Some(name))) => self.end_further(&id, &name, exit),
            None => {}
        }
    }

    fn end_init(&mut self, id: &str, exit: ExitStatus) {
        let Some(number) = self.tasks.get(id).map(|task| task.init.number) else {
            return;
        };
        // Why it has ended may be known at the same moment, and the watch ends with it.
        self.tell_of_memory(number);
        let Some(task) = self.tasks.get_mut(id) else { return };
        task.container.streams.drain();
        if task.container.state.paused {
            // What else is in there could not be killed.
            let _ = task.container.cgroup.freeze(false);
        }
        task.container.end(exit);
        let killed = if task.shares_pids {
            task.container.signal(None, libc::SIGKILL, true)
        } else {
            Ok(())
        };
        // The init's end is the last that is told of a container.
        if task.has_running_further() {
            task.pending = Some(exit);
        } else {
            self.tell_end(id, "", exit);
        }
        if let Err(error) = killed {
            self.warn(&format!("{id}: {error}"));
        }
    }

    fn end_further(&mut self, id: &str, name: &str, exit: ExitStatus) {
        if let Some(further) = self.tasks.get_mut(id).and_then(|task| task.further.get_mut(name)) {
            further.streams.drain();
        }
        self.tell_end(id, name, exit);
        if let Some(task) = self.tasks.get_mut(id)
            && !task.has_running_further()
            && let Some(exit) = task.pending.take()
        {
            self.tell_end(id, "", exit);
        }
    }

    /// Tells of a process's end: to containerd as an event, and to those who wait.
    fn tell_end(&mut self, id: &str, name: &str, exit: ExitStatus) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        let process = match name {
            "" => &mut task.init,
            name => match task.further.get_mut(name) {
                Some(further) => &mut further.process,
                None => return,
            },
        };
        process.exit = Some(exit);
        let event = TaskExit {
            container_id: id.into(),
            id: if name.is_empty() { id.into() } else { name.into() },
            pid: process.pid as u32,
            exit_status: exit.code as u32,
            exited_at: Some(Timestamp::from_nanoseconds(exit.finished_at)),
        };
        self.publisher
            .publish("/tasks/exit", "containerd.events.TaskExit", &event);
        self.release_waits(id, name, exit);
    }

    /// Answers those who wait for a process.
    pub(super) fn release_waits(&mut self, id: &str, name: &str, exit: ExitStatus) {
        let answer = WaitResponse {
            exit_status: exit.code as u32,
            exited_at: Some(Timestamp::from_nanoseconds(exit.finished_at)),
        }
        .encode_to_vec();
        let (released, left) = core::mem::take(&mut self.waits)
            .into_iter()
            .partition(|wait| wait.id == id && wait.further == name);
        self.waits = left;
        let released: Vec<Wait> = released;
        for wait in released {
            self.reply(wait.caller, &answer);
        }
    }
}
