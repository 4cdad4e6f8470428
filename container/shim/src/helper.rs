//! The helper process: forks a shim for each request of the daemon, and ends with the daemon.

use crate::frame;
use crate::protocol::{LaunchSpec, Launched};
use crate::shim;
use alloc::format;
use rustix::fd::OwnedFd;
use strata_runtime::Result;
use strata_runtime::cgroup::Layout;
use strata_sys::process::{self, Fork, ForkOptions};
use strata_sys::{Errno, signal, stream};

/// Serves the daemon at the standard input.
pub(crate) fn run() -> i32 {
    detach();
    // Read once for all shims: hierarchies are mounted when a machine starts.
    let layout = Layout::detect();
    loop {
        match frame::receive::<LaunchSpec>(stream::input()) {
            Ok(Some((Ok(spec), mut descriptors))) if descriptors.len() == 1 => {
                launch(spec, descriptors.remove(0), &layout);
            }
            // Whoever asked sees the end of its socket.
            Ok(Some(_)) => {}
            Ok(None) => return 0,
            Err(Errno::MSGSIZE | Errno::PERM | Errno::FBIG) => {}
            Err(_) => return 1,
        }
    }
}

/// Leaves the daemon's session, so that a terminal's signals meant for it do not end the shims, and drops
/// what it may have left open.
fn detach() {
    let _ = rustix::process::setsid();
    let _ = process::set_name(c"strata-helper");
    let _ = process::new_session_keyring(c"strata");
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    // SAFETY: the socket is descriptor 0, and nothing else has been opened yet.
    let _ = unsafe { process::close_from(3) };
    signal::reset_all();
    let _ = signal::set_blocked(0);
    // Ended shims need no reaping then.
    let _ = signal::ignore(libc::SIGCHLD);
    // The daemon's end is seen at the socket; until then it may still ask.
    let _ = signal::ignore(libc::SIGTERM);
    let _ = signal::ignore(libc::SIGINT);
    let _ = signal::ignore(libc::SIGPIPE);
}

fn launch(spec: LaunchSpec, client: OwnedFd, layout: &Result<Layout>) {
    // SAFETY: the helper has one thread.
    match unsafe { process::fork(ForkOptions::default()) } {
        Ok(Fork::Parent(_)) => {}
        Ok(Fork::Child) => {
            signal::reset_all();
            process::exit(shim::run(spec, client, layout))
        }
        Err(errno) => {
            let text = format!("cannot fork: {}", strata_sys::describe(errno));
            let _ = frame::send(&client, &Launched::Failed(text), &[]);
        }
    }
}
