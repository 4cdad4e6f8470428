//! The client side of a shim's socket. Blocking.

use crate::frame;
use crate::protocol::*;
use std::boxed::Box;
use std::format;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::string::{String, ToString};
use std::vec::Vec;
use strata_runtime::spec::{ConsoleSize, NamespaceKind, Resources};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The shim said no; the message is for people.
    #[error("{}", .0.message)]
    Refused(Failure),
    /// The shim is gone or was never there.
    #[error("the shim does not answer: {0}")]
    Gone(#[source] io::Error),
    /// The shim said something unexpected.
    #[error("unexpected answer of the shim: {0}")]
    Protocol(String),
    /// The helper could not start a shim.
    #[error("could not start a shim: {0}")]
    Launch(String),
}

impl Error {
    /// Whether a refusal is of this kind.
    pub fn is(&self, kind: FailureKind) -> bool {
        matches!(self, Error::Refused(failure) if failure.kind == kind)
    }
}

/// One connection to a shim. A request waits for its answer, so a caller that waits for an exit or
/// for events opens another one.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
}

impl Connection {
    /// Connects to the shim listening at `socket` (see [`ShimRef::socket`]).
    pub fn open(socket: &str) -> Result<Self, Error> {
        Ok(Connection {
            socket: strata_sys::message::connect(socket).map_err(gone)?,
        })
    }

    pub(crate) fn from_socket(socket: OwnedFd) -> Self {
        Connection { socket }
    }

    /// Sends a request with descriptors and waits for the answer and its descriptors.
    ///
    /// Errors: [`Error::Refused`] when the answer is [`Reply::Error`].
    pub fn call(&mut self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<(Reply, Vec<OwnedFd>), Error> {
        frame::send(&self.socket, request, descriptors).map_err(gone)?;
        match self.receive()? {
            (Reply::Error(failure), _) => Err(Error::Refused(failure)),
            answer => Ok(answer),
        }
    }

    /// The next message, without having asked.
    pub(crate) fn receive(&mut self) -> Result<(Reply, Vec<OwnedFd>), Error> {
        match frame::receive(&self.socket).map_err(gone)? {
            Some((Ok(reply), descriptors)) => Ok((reply, descriptors)),
            Some((Err(error), _)) => Err(Error::Protocol(error.to_string())),
            None => Err(Error::Gone(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    /// Version of the protocol the shim speaks, its pid and its sandbox.
    pub fn hello(&mut self) -> Result<(u32, i32, String), Error> {
        match self
            .call(
                &Request::Hello {
                    version: PROTOCOL_VERSION,
                },
                &[],
            )?
            .0
        {
            Reply::Hello { version, pid, sandbox } => Ok((version, pid, sandbox)),
            other => Err(unexpected(&other)),
        }
    }

    /// Makes the sandbox's namespaces; the network namespace when it has one of its own.
    pub fn create_sandbox(&mut self, spec: SandboxSpec) -> Result<Option<OwnedFd>, Error> {
        match self.call(&Request::CreateSandbox(spec), &[])? {
            (Reply::Sandbox { .. }, mut descriptors) => Ok(descriptors.pop()),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// One of the sandbox's namespaces.
    pub fn namespace(&mut self, kind: NamespaceKind) -> Result<OwnedFd, Error> {
        match self.call(&Request::Namespace(kind), &[])? {
            (Reply::Done, mut descriptors) if !descriptors.is_empty() => Ok(descriptors.remove(0)),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Sets a container up; the pid of its init.
    pub fn create(&mut self, spec: ContainerSpec) -> Result<i32, Error> {
        match self.call(&Request::Create(Box::new(spec)), &[])?.0 {
            Reply::Created { pid } => Ok(pid),
            other => Err(unexpected(&other)),
        }
    }

    /// Starts a created container; when, in nanoseconds since 1970.
    pub fn start(&mut self, container: &str) -> Result<u64, Error> {
        match self
            .call(
                &Request::Start {
                    container: container.into(),
                },
                &[],
            )?
            .0
        {
            Reply::Started { at, .. } => Ok(at),
            other => Err(unexpected(&other)),
        }
    }

    /// Sends a signal to the init, to one `exec` process, or to all processes.
    pub fn kill(&mut self, container: &str, exec: Option<&str>, signal: i32, all: bool) -> Result<(), Error> {
        self.done(&Request::Kill {
            container: container.into(),
            exec: exec.map(Into::into),
            signal,
            all,
        })
    }

    /// Forgets an ended container; with `force` ends it first.
    pub fn delete(&mut self, container: &str, force: bool) -> Result<(), Error> {
        self.done(&Request::Delete {
            container: container.into(),
            force,
        })
    }

    /// Runs a further process; its pid and, when it has a terminal, the terminal's master.
    /// `streams` are the descriptors announced by `spec.stdin`, `stdout` and `stderr`, in this order.
    pub fn exec(&mut self, spec: ExecSpec, streams: &[BorrowedFd<'_>]) -> Result<(i32, Option<OwnedFd>), Error> {
        match self.call(&Request::Exec(Box::new(spec)), streams)? {
            (Reply::Started { pid, .. }, mut descriptors) => Ok((pid, descriptors.pop())),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Sets the size of a container's terminal.
    pub fn resize(&mut self, container: &str, size: ConsoleSize) -> Result<(), Error> {
        self.done(&Request::Resize {
            container: container.into(),
            size,
        })
    }

    /// Follows a container's streams: one pipe end for each one asked for, stdin, stdout, stderr.
    pub fn attach(&mut self, container: &str, stdin: bool, stdout: bool, stderr: bool) -> Result<Vec<OwnedFd>, Error> {
        let request = Request::Attach {
            container: container.into(),
            stdin,
            stdout,
            stderr,
        };
        match self.call(&request, &[])? {
            (Reply::Done, descriptors) => Ok(descriptors),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Everything the shim knows.
    pub fn state(&mut self) -> Result<SandboxState, Error> {
        match self.call(&Request::State, &[])?.0 {
            Reply::State(state) => Ok(*state),
            other => Err(unexpected(&other)),
        }
    }

    /// Blocks until the init, or one `exec` process, has ended.
    pub fn wait(&mut self, container: &str, exec: Option<&str>) -> Result<ExitStatus, Error> {
        let request = Request::Wait {
            container: container.into(),
            exec: exec.map(Into::into),
        };
        match self.call(&request, &[])?.0 {
            Reply::Exited(status) => Ok(status),
            other => Err(unexpected(&other)),
        }
    }

    /// Freezes a container.
    pub fn pause(&mut self, container: &str) -> Result<(), Error> {
        self.done(&Request::Pause {
            container: container.into(),
        })
    }

    /// Thaws a container.
    pub fn resume(&mut self, container: &str) -> Result<(), Error> {
        self.done(&Request::Resume {
            container: container.into(),
        })
    }

    /// Changes a container's limits.
    pub fn update(&mut self, container: &str, resources: Resources) -> Result<(), Error> {
        self.done(&Request::Update {
            container: container.into(),
            resources: Box::new(resources),
        })
    }

    /// Closes a container's log and opens its path again.
    pub fn reopen_logs(&mut self, container: &str) -> Result<(), Error> {
        self.done(&Request::ReopenLogs {
            container: container.into(),
        })
    }

    /// Turns the connection into a stream of events.
    pub fn subscribe(mut self) -> Result<Events, Error> {
        self.done(&Request::Subscribe)?;
        Ok(Events { connection: self })
    }

    /// Ends everything in the sandbox and the shim itself.
    pub fn shutdown(mut self) -> Result<(), Error> {
        self.done(&Request::Shutdown)
    }

    fn done(&mut self, request: &Request) -> Result<(), Error> {
        match self.call(request, &[])?.0 {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Events of a shim, in order.
#[derive(Debug)]
pub struct Events {
    connection: Connection,
}

impl Events {
    /// Blocks until the next event; an error of kind [`Error::Gone`] is the end of the shim.
    ///
    /// The descriptor ([`AsFd`]) is readable when a call would not block.
    pub fn next_event(&mut self) -> Result<Event, Error> {
        match self.connection.receive()?.0 {
            Reply::Event(event) => Ok(event),
            other => Err(unexpected(&other)),
        }
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}

fn unexpected(reply: &Reply) -> Error {
    Error::Protocol(format!("{reply:?}"))
}

fn gone(error: strata_sys::Errno) -> Error {
    Error::Gone(error.into())
}
