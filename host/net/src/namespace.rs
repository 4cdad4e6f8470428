//! Network namespaces: making one, and running code inside one.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use crate::Error;

/// A network namespace that lives as long as this value (or anything in it) does.
#[derive(Debug)]
pub struct NetworkNamespace {
    fd: OwnedFd,
}

impl NetworkNamespace {
    /// A new, empty namespace (only a loopback link, which is down).
    pub fn create() -> Result<Self, Error> {
        let failed = |source| Error::kernel("create a network namespace", source);
        let worker = std::thread::Builder::new()
            .name("netns".into())
            .stack_size(STACK)
            .spawn(|| {
                // SAFETY: only FILES is dangerous to unshare; this thread makes a network namespace and ends.
                unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
                File::open("/proc/thread-self/ns/net")
            });
        let file = worker
            .map_err(failed)?
            .join()
            .map_err(|_| failed(std::io::ErrorKind::Other.into()))?;
        Ok(Self {
            fd: file.map_err(failed)?.into(),
        })
    }

    /// The namespace the calling thread is in.
    pub fn current() -> Result<Self, Error> {
        let path = "/proc/thread-self/ns/net";
        let file = File::open(path).map_err(|source| Error::file(path, source))?;
        Ok(Self { fd: file.into() })
    }

    /// Runs `work` inside the namespace, on a thread of its own, and returns what it returned.
    /// Sockets and files that `work` opens stay in the namespace.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        run_in(self.fd.as_fd(), work)
    }

    /// Moves the calling thread into the namespace for good.
    pub fn enter(&self) -> Result<(), Error> {
        enter(self.fd.as_fd())
    }
}

impl AsFd for NetworkNamespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<OwnedFd> for NetworkNamespace {
    fn from(fd: OwnedFd) -> Self {
        Self { fd }
    }
}

/// Enough for netlink buffers, which live on the heap.
const STACK: usize = 256 << 10;

/// Runs `work` in the network namespace `fd`, on a thread of its own: a thread that could not
/// come back must never serve anything else.
pub(crate) fn run_in<T: Send>(fd: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
    std::thread::scope(|scope| {
        let worker = std::thread::Builder::new()
            .name("netns".into())
            .stack_size(STACK)
            .spawn_scoped(scope, || {
                enter(fd)?;
                Ok(work())
            });
        let worker = worker.map_err(|source| Error::kernel("start a thread for a network namespace", source))?;
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs `work` in the network namespace `fd` on the calling thread and comes back: for opening a
/// socket there, without the price of a thread.
pub(crate) fn with_thread_in<T>(fd: BorrowedFd<'_>, work: impl FnOnce() -> T) -> Result<T, Error> {
    let home = NetworkNamespace::current()?;
    enter(fd)?;
    let returned = Return(home);
    let result = work();
    drop(returned);
    Ok(result)
}

/// Brings the thread home, even when `work` panics.
struct Return(NetworkNamespace);

impl Drop for Return {
    fn drop(&mut self) {
        if let Err(error) = self.0.enter() {
            // The descriptor is open and the privilege was there a moment ago, so this does not
            // happen; a thread that served the host from inside a pod would be worse than an end.
            tracing::error!(%error, "a thread cannot leave a pod's network namespace");
            std::process::abort();
        }
    }
}

fn enter(fd: BorrowedFd<'_>) -> Result<(), Error> {
    move_into_link_name_space(fd, Some(LinkNameSpaceType::Network))
        .map_err(|source| Error::kernel("enter a network namespace", source))
}
