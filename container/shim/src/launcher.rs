//! The daemon's handle of the helper process, and what is known of a shim on disk.

use crate::connection::{Connection, Error};
use crate::frame;
use crate::protocol::{LaunchSpec, Launched, ShimRef};
use rustix::fs::{MemfdFlags, SealFlags};
use std::format;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::string::ToString;
use std::sync::{Arc, Mutex, PoisonError};
use strata_sys::Errno;

/// The helper: a process of `strata-runtime helper` that forks shims, so that the daemon never does.
/// Cheap to clone. It ends when the last clone is dropped; shims go on.
#[derive(Clone, Debug)]
pub struct Helper {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    program: OwnedFd,
    process: Mutex<Process>,
}

#[derive(Debug)]
struct Process {
    socket: Option<OwnedFd>,
    child: Child,
}

impl Helper {
    /// Starts the helper from the bytes of the `strata-runtime` program. To be called before any
    /// thread exists, so that the helper is small and clean.
    pub fn spawn(program: &[u8]) -> io::Result<Helper> {
        let program = seal(program)?;
        let process = start(&program)?;
        Ok(Helper {
            inner: Arc::new(Inner {
                program,
                process: Mutex::new(process),
            }),
        })
    }

    /// Starts the shim of a sandbox and connects to it. A helper that has died is started again.
    pub fn launch(&self, spec: &LaunchSpec) -> Result<(ShimRef, Connection), Error> {
        if let Some(launched) = self.try_launch(spec)? {
            return Ok(launched);
        }
        // A helper that is being killed still takes messages: only a new one is known to be sound. The old one,
        // if it lives, first answers what others have asked.
        {
            let mut process = self.inner.process.lock().unwrap_or_else(PoisonError::into_inner);
            self.replace(&mut process)
                .map_err(|error| Error::Launch(error.to_string()))?;
        }
        self.try_launch(spec)?
            .ok_or_else(|| Error::Launch("the helper ended before it answered".into()))
    }

    fn replace(&self, process: &mut Process) -> io::Result<()> {
        process.socket = None;
        process.child.wait()?;
        *process = start(&self.inner.program)?;
        Ok(())
    }

    /// `None` when the answer never came.
    fn try_launch(&self, spec: &LaunchSpec) -> Result<Option<(ShimRef, Connection)>, Error> {
        let (ours, theirs) = strata_sys::message::pair().map_err(|error| Error::Launch(error.to_string()))?;
        self.hand_over(spec, &theirs)
            .map_err(|error| Error::Launch(error.to_string()))?;
        drop(theirs);
        match frame::receive::<Launched>(&ours) {
            Ok(Some((Ok(Launched::Shim(shim)), _))) => Ok(Some((shim, Connection::from_socket(ours)))),
            Ok(Some((Ok(Launched::Failed(why)), _))) => Err(Error::Launch(why)),
            Ok(Some((Err(error), _))) => Err(Error::Launch(error.to_string())),
            // A reset is how the end of a process with an unread message looks.
            Ok(None) | Err(Errno::CONNRESET) => Ok(None),
            Err(error) => Err(Error::Launch(error.to_string())),
        }
    }

    fn hand_over(&self, spec: &LaunchSpec, socket: &OwnedFd) -> io::Result<()> {
        let mut process = self.inner.process.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(helper) = &process.socket
            && frame::send(helper, spec, &[socket.as_fd()]).is_ok()
        {
            return Ok(());
        }
        self.replace(&mut process)?;
        match &process.socket {
            Some(helper) => Ok(frame::send(helper, spec, &[socket.as_fd()])?),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Process id of the helper at this moment.
    pub fn pid(&self) -> u32 {
        self.inner
            .process
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .child
            .id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Closing the socket is what tells the helper to end.
        if self.socket.take().is_some() {
            let _ = self.child.wait();
        }
    }
}

/// A copy of the program that nobody, not even root in a container, can write to.
fn seal(program: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = match rustix::fs::memfd_create("strata-runtime", flags | MemfdFlags::EXEC) {
        Err(rustix::io::Errno::INVAL) => rustix::fs::memfd_create("strata-runtime", flags)?,
        other => other?,
    };
    let mut file = File::from(file);
    file.write_all(program)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}

fn start(program: &OwnedFd) -> io::Result<Process> {
    let (ours, theirs) = strata_sys::message::pair()?;
    // Nothing but posix_spawn: the daemon may have many threads by the time a helper is replaced.
    let child = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()))
        .arg0("strata-runtime")
        .arg("helper")
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .spawn()?;
    Ok(Process {
        socket: Some(ours),
        child,
    })
}

impl ShimRef {
    /// Reads the identity that a shim left in its state directory.
    pub fn load(state_dir: &Path) -> io::Result<ShimRef> {
        let text = std::fs::read(state_dir.join("shim.json"))?;
        serde_json::from_slice(&text).map_err(io::Error::other)
    }

    /// Whether that very process still runs.
    pub fn is_alive(&self) -> bool {
        strata_sys::process::start_time(self.pid).is_ok_and(|start| start == self.start_time)
    }

    /// Connects to it.
    pub fn connect(&self) -> Result<Connection, Error> {
        Connection::open(&self.socket)
    }
}
