//! The engine's end of a shim.

use crate::{Error, SandboxId};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};
use strata_shim::protocol::Event;
use strata_shim::{Connection, Error as ShimError, Events, ShimRef};
use tokio::io::unix::AsyncFd;

/// A shim that said that all is gone only has to exit.
const END_DEADLINE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };
/// Connections kept open for the next request.
const MAX_IDLE: usize = 2;

/// Connections to one shim. A request takes an idle one or opens one.
#[derive(Debug)]
pub(crate) struct ShimLink {
    sandbox: SandboxId,
    shim: ShimRef,
    idle: Mutex<Vec<Connection>>,
}

impl ShimLink {
    pub fn new(sandbox: SandboxId, shim: ShimRef, connection: Option<Connection>) -> Self {
        Self {
            sandbox,
            shim,
            idle: Mutex::new(connection.into_iter().collect()),
        }
    }

    /// One request and its answer. Blocking.
    pub fn call<T>(&self, request: impl FnOnce(&mut Connection) -> Result<T, ShimError>) -> Result<T, ShimError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => self.open()?,
        };
        let answer = request(&mut connection);
        // A refusal leaves the connection in step; anything else does not.
        if matches!(answer, Ok(_) | Err(ShimError::Refused(_))) {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < MAX_IDLE {
                idle.push(connection);
            }
        }
        answer
    }

    /// [`ShimLink::call`] off the async workers, with the error as the user sees it.
    pub async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        what: &'static str,
        request: impl FnOnce(&mut Connection) -> Result<T, ShimError> + Send + 'static,
    ) -> Result<T, Error> {
        let link = Arc::clone(self);
        blocking(move || link.call(request).map_err(|error| link.explain(what, error))).await
    }

    /// A connection of one's own.
    pub fn open(&self) -> Result<Connection, ShimError> {
        Connection::open(&self.shim.socket)
    }

    pub fn explain(&self, what: &'static str, error: ShimError) -> Error {
        match error {
            ShimError::Refused(failure) => Error::Runtime {
                what,
                why: failure.message,
            },
            other => Error::Shim {
                id: self.sandbox.clone(),
                why: other.to_string(),
            },
        }
    }

    /// Ends the shim with all in it and waits until its process is gone. Blocking.
    pub fn end(&self) -> Result<(), Error> {
        let process = Pid::from_raw(self.shim.pid)
            .filter(|_| is_same_process(self.shim.pid, self.shim.start_time))
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        match self.open().and_then(Connection::shutdown) {
            // A shim that is gone already is what is wanted.
            Ok(()) | Err(ShimError::Gone(_)) => {}
            Err(error) => return Err(self.explain("stop the sandbox", error)),
        }
        let Some(process) = process else { return Ok(()) };
        await_end(&process).map_err(|why| Error::Shim {
            id: self.sandbox.clone(),
            why,
        })
    }

    pub fn shim(&self) -> &ShimRef {
        &self.shim
    }
}

/// Ends whatever shim listens at a socket, also one that speaks no more than half, and waits until its process is gone.
/// Blocking.
pub(crate) fn end_at(socket: &str) -> Result<(), String> {
    let Ok(connection) = Connection::open(socket) else {
        return Ok(());
    };
    let peer = strata_sys::message::peer(&connection).map_err(|errno| errno.to_string())?;
    let process = pidfd_open(peer.pid, PidfdFlags::empty());
    match connection.shutdown() {
        Ok(()) | Err(ShimError::Gone(_)) => {}
        Err(error) => return Err(error.to_string()),
    }
    process.map_or(Ok(()), |process| await_end(&process))
}

fn await_end(process: &OwnedFd) -> Result<(), String> {
    let mut list = [PollFd::new(process, PollFlags::IN)];
    match poll(&mut list, Some(&END_DEADLINE)) {
        Ok(0) => Err("the shim's process does not end".into()),
        Ok(_) => Ok(()),
        Err(errno) => Err(errno.to_string()),
    }
}

/// Events of a shim, waited for without a thread.
pub(crate) struct EventStream {
    events: AsyncFd<Readable>,
}

struct Readable(Events);

impl AsRawFd for Readable {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl EventStream {
    pub fn new(events: Events) -> std::io::Result<Self> {
        // SAFETY: `Readable` owns its socket, never replaces it and always answers with it.
        let events = unsafe { AsyncFd::register_with_interest(Readable(events), tokio::io::Interest::READABLE) };
        Ok(Self { events: events? })
    }

    /// The next event; an error is the end of the shim or of its patience with us.
    pub async fn next(&mut self) -> Result<Event, ShimError> {
        loop {
            let mut guard = self.events.readable_mut().await.map_err(ShimError::Gone)?;
            // The socket blocks: only read what is certainly there.
            if !is_readable(guard.get_inner().0.as_fd()).map_err(|errno| ShimError::Gone(errno.into()))? {
                guard.clear_ready();
                continue;
            }
            return guard.get_inner_mut().0.next_event();
        }
    }
}

fn is_readable(fd: std::os::fd::BorrowedFd<'_>) -> Result<bool, rustix::io::Errno> {
    let mut list = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
    Ok(poll(&mut list, Some(&zero))? > 0)
}

/// Runs blocking work off the async workers.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Closed)?
}

/// Whether a process is the one that was started then, and not another with its number.
pub(crate) fn is_same_process(pid: i32, start_time: u64) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    // proc_pid_stat(5): the name may hold anything, the 20th field after it is the start time.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut fields = fields.split_ascii_whitespace();
    let dead = matches!(fields.next(), Some("Z" | "X") | None);
    !dead && fields.nth(18).and_then(|text| text.parse::<u64>().ok()) == Some(start_time)
}
