//! sd_notify(3) through the container's boundary: what says that the program is ready reaches who waits for that.
//!
//! The container gets a socket of its own; of what comes through it only that it is ready is passed on, in words of
//! ours, with the process id that the host knows.

use super::Global;
use super::make::{Site, absolute};
use super::store::Container;
use alloc::{format, string::String};
use core::mem::MaybeUninit;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode};
use rustix::io::IoSlice;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType,
};
use rustix::pipe::{PipeFlags, pipe_with};
use strata_runtime::spec::Mount;
use strata_runtime::{Context, Error, Result};
use strata_sys::{Errno, file};

/// Where whoever started this command listens.
const VARIABLE: &str = "NOTIFY_SOCKET";

/// The socket's directory below the container's own, its name, and where the container sees it.
const DIRECTORY: &str = "notify";
const SOCKET: &str = "notify.sock";
const INSIDE: &str = "/run/notify";

/// Longest message that is looked at.
const MESSAGE_LIMIT: usize = 4096;

/// How long systemd may take to say that it has heard.
const BARRIER_LIMIT: i64 = 30;

/// Gives a container that is being made the place of a socket, if somebody listens.
pub(super) fn offer(global: &Global, site: &mut Site<'_>) -> Result<()> {
    if global.variable(VARIABLE).is_none_or(str::is_empty) {
        return Ok(());
    }
    let what = || "make the directory of the notify socket";
    rustix::fs::mkdirat(&site.directory, DIRECTORY, Mode::from_raw_mode(0o755)).context(what)?;
    site.spec.mounts.push(Mount {
        destination: INSIDE.into(),
        kind: "bind".into(),
        source: format!("{}/{DIRECTORY}", absolute(&site.path)?),
        options: ["bind", "nosuid", "noexec", "nodev", "ro"].map(String::from).to_vec(),
        ..Mount::default()
    });
    if let Some(process) = &mut site.spec.process {
        process.env.push(format!("{VARIABLE}={INSIDE}/{SOCKET}"));
    }
    Ok(())
}

/// Removes what [`offer`] and [`Relay::open`] have made.
pub(super) fn withdraw(directory: &OwnedFd) -> core::result::Result<(), Errno> {
    for (name, flags) in [
        (format!("{DIRECTORY}/{SOCKET}"), AtFlags::empty()),
        (DIRECTORY.into(), AtFlags::REMOVEDIR),
    ] {
        match rustix::fs::unlinkat(directory, name, flags) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Between the container's socket and the one of whoever started this command.
pub(super) struct Relay {
    inside: OwnedFd,
    outside: SocketAddrUnix,
}

impl Relay {
    /// Listens for a container that is about to be started, if it was made with a place for that and somebody listens.
    pub(super) fn open(global: &Global, container: &Container) -> Result<Option<Self>> {
        let Some(outside) = global.variable(VARIABLE).filter(|path| !path.is_empty()) else {
            return Ok(None);
        };
        let directory = match file::open_directory(&*format!("{}/{DIRECTORY}", container.path)) {
            Err(Errno::NOENT) => return Ok(None),
            other => other.context(|| "open the directory of the notify socket")?,
        };
        let what = || "make the notify socket";
        // One of a command that was killed.
        match rustix::fs::unlinkat(&directory, SOCKET, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno).context(what),
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let inside = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None).context(what)?;
        let path = format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd());
        rustix::net::bind(&inside, &SocketAddrUnix::new(&*path).context(what)?).context(what)?;
        // For whoever the program runs as; only this container can reach it.
        rustix::fs::chmodat(&directory, SOCKET, Mode::from_raw_mode(0o777), AtFlags::empty()).context(what)?;
        Ok(Some(Relay {
            inside,
            outside: address(outside)?,
        }))
    }

    /// To be polled for input.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.inside.as_fd()
    }

    /// Takes what has arrived; once the container is ready, tells that `pid` is. Whether it was.
    pub(super) fn pass(&self, pid: i32) -> Result<bool> {
        let mut buffer = [0; MESSAGE_LIMIT];
        loop {
            // Descriptors that come along are dropped by the kernel, since no place for them is given.
            match rustix::net::recv(&self.inside, &mut buffer[..], RecvFlags::empty()) {
                Ok((length, _)) if says_ready(&buffer[..length]) => return self.tell(pid).map(|()| true),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(errno) => return Err(errno).context(|| "hear from the container's notify socket"),
            }
        }
    }

    /// Waits until the container is ready or its init has ended.
    pub(super) fn wait(&self, pid: i32, pidfd: &OwnedFd) -> Result<()> {
        loop {
            let mut entries = [
                PollFd::new(&self.inside, PollFlags::IN),
                PollFd::new(pidfd, PollFlags::IN),
            ];
            match poll(&mut entries, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno).context(|| "wait for the container to be ready"),
            }
            let ended = !entries[1].revents().is_empty();
            // What it said before it ended counts.
            if self.pass(pid)? || ended {
                return Ok(());
            }
        }
    }

    fn tell(&self, pid: i32) -> Result<()> {
        let what = || format!("tell {VARIABLE} that the container is ready");
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
            .context(what)?;
        rustix::net::connect(&socket, &self.outside).context(what)?;
        for text in [String::from("READY=1\n"), format!("MAINPID={pid}\n")] {
            rustix::net::send(&socket, text.as_bytes(), SendFlags::NOSIGNAL).context(what)?;
        }
        barrier(&socket).context(what)
    }
}

/// sd_notify_barrier(3): the other side closes the descriptor once it has heard everything before. Who does not know of
/// it closes it too, when it drops the message.
fn barrier(socket: &OwnedFd) -> core::result::Result<(), Errno> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    {
        let descriptors = [write.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        rustix::net::sendmsg(socket, &[IoSlice::new(b"BARRIER=1")], &mut control, SendFlags::NOSIGNAL)?;
    }
    drop(write);
    let limit = Timespec {
        tv_sec: BARRIER_LIMIT,
        tv_nsec: 0,
    };
    loop {
        match poll(&mut [PollFd::new(&read, PollFlags::IN)], Some(&limit)) {
            Err(Errno::INTR) => {}
            other => return other.map(drop),
        }
    }
}

fn says_ready(message: &[u8]) -> bool {
    message.split(|&byte| byte == b'\n').any(|line| line == b"READY=1")
}

/// A path, or with `@` before it a name in the abstract space.
fn address(text: &str) -> Result<SocketAddrUnix> {
    let what = || format!("{VARIABLE} {text:?}");
    match text.strip_prefix('@') {
        Some(name) => SocketAddrUnix::new_abstract_name(name.as_bytes()).context(what),
        None if text.starts_with('/') => SocketAddrUnix::new(text).context(what),
        None => Err(Error::Invalid(format!("{}: neither a path nor a name", what()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_says_ready_counts() {
        for yes in ["READY=1", "READY=1\n", "STATUS=x\nREADY=1\nMAINPID=7"] {
            assert!(says_ready(yes.as_bytes()), "{yes}");
        }
        for no in ["", "READY=0", "STATUS=READY=1", "xREADY=1", "RELOADING=1"] {
            assert!(!says_ready(no.as_bytes()), "{no}");
        }
        assert!(address("@x").is_ok() && address("/x").is_ok() && address("x").is_err());
    }
}
