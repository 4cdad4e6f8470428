//! Terminals of the command line: handing a master over, and sitting in front of one.

use super::notify::Relay;
use alloc::vec::Vec;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use strata_runtime::{Context, Result};
use strata_sys::process::{self, Child};
use strata_sys::{Errno, file, signal, terminal};

/// Connects to the socket of whoever wants the master.
pub(super) fn connect(path: &str) -> Result<OwnedFd> {
    let what = || alloc::format!("connect to the console socket {path}");
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).context(what)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path).context(what)?).context(what)?;
    Ok(socket)
}

/// Sends the master, with the name that runc sends.
pub(super) fn send(socket: &OwnedFd, master: &OwnedFd) -> Result<()> {
    let descriptors = [master.as_fd()];
    let mut space = [core::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    let name = rustix::io::IoSlice::new(b"/dev/ptmx");
    rustix::net::sendmsg(socket, &[name], &mut control, SendFlags::NOSIGNAL)
        .map(drop)
        .context(|| "send the terminal to the console socket")
}

/// Waits for a process in the foreground: signals are passed on, its terminal is shown, and that it is ready is told.
/// Its exit code.
pub(super) fn supervise(child: &Child, master: Option<OwnedFd>, relay: Option<Relay>) -> Result<i32> {
    let mut set = 0;
    for number in 1..=signal::LAST {
        if !matches!(
            number,
            libc::SIGKILL | libc::SIGSTOP | libc::SIGSEGV | libc::SIGBUS | libc::SIGURG
        ) {
            set |= signal::bit(number);
        }
    }
    signal::set_blocked(set).context(|| "block signals")?;
    let signals = signal::descriptor(set).context(|| "signalfd")?;
    let raw = master.as_ref().map(Raw::enter);
    let code = follow(child, &signals, master.as_ref(), relay)?;
    drop(raw);
    Ok(code)
}

/// Bytes copied at a time.
const CHUNK: usize = 16 << 10;

fn follow(child: &Child, signals: &OwnedFd, master: Option<&OwnedFd>, mut relay: Option<Relay>) -> Result<i32> {
    let mut input_open = master.is_some();
    let mut output_open = master.is_some();
    loop {
        // First: it may have ended before its signal could be read.
        if let Some(code) = ended(child, master.filter(|_| output_open)) {
            return Ok(code);
        }
        let stdin = strata_sys::stream::input();
        let what = |wanted: bool| if wanted { PollFlags::IN } else { PollFlags::empty() };
        let mut wait: Vec<PollFd<'_>> = Vec::with_capacity(4);
        wait.push(PollFd::new(signals, PollFlags::IN));
        if let Some(master) = master {
            wait.push(PollFd::new(master, what(output_open)));
            wait.push(PollFd::new(&stdin, what(input_open)));
        }
        let told = relay.as_ref().map(Relay::descriptor);
        if let Some(told) = &told {
            wait.push(PollFd::new(told, PollFlags::IN));
        }
        match poll(&mut wait, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).context(|| "poll"),
        }
        let ready: Vec<bool> = wait.iter().map(|entry| !entry.revents().is_empty()).collect();
        let told = told.is_some() && ready[ready.len() - 1];
        drop(wait);
        if let Some(master) = master {
            if ready[1] && output_open {
                output_open = copy(master.as_fd(), strata_sys::stream::output());
            }
            if ready[2] && input_open {
                input_open = copy(strata_sys::stream::input(), master.as_fd());
            }
        }
        // Once is enough, and whoever cannot be told will see how the process ends.
        if told
            && relay
                .as_ref()
                .is_some_and(|relay| relay.pass(child.pid).unwrap_or(true))
        {
            relay = None;
        }
        while let Some(number) = signal::read(signals).context(|| "read a signal")? {
            match (number, master) {
                (libc::SIGCHLD, _) => {}
                (libc::SIGWINCH, Some(master)) => adopt_size(master),
                _ => {
                    let _ = process::signal(&child.pidfd, number);
                }
            }
        }
    }
}

/// The exit code, once the process has ended; what its terminal still holds is shown before.
fn ended(child: &Child, master: Option<&OwnedFd>) -> Option<i32> {
    while let Ok(Some((pid, status))) = process::reap_any() {
        if pid == child.pid {
            while let Some(master) = master
                && copy(master.as_fd(), strata_sys::stream::output())
            {}
            return Some(status.code());
        }
    }
    None
}

/// Copies one piece; whether there may be more. A terminal whose other side is gone answers EIO.
fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> bool {
    let mut buffer = [0; CHUNK];
    match rustix::io::read(from, &mut buffer) {
        Ok(0) | Err(_) => false,
        Ok(count) => file::write_all(to, &buffer[..count]).is_ok(),
    }
}

fn adopt_size(master: &OwnedFd) {
    if let Ok((rows, columns)) = terminal::size(strata_sys::stream::input()) {
        let _ = terminal::resize(master, rows, columns);
    }
}

/// The own terminal in raw mode until dropped.
struct Raw(Option<Termios>);

impl Raw {
    fn enter(master: &OwnedFd) -> Self {
        let stdin = strata_sys::stream::input();
        let Ok(before) = tcgetattr(stdin) else { return Raw(None) };
        adopt_size(master);
        let mut raw = before.clone();
        raw.make_raw();
        let _ = tcsetattr(stdin, OptionalActions::Now, &raw);
        Raw(Some(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(strata_sys::stream::input(), OptionalActions::Now, before);
        }
    }
}
