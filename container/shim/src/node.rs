//! A tiny process 1 for a node of a throwaway cluster: mounts /proc, starts one program, passes signals
//! on, reaps, and ends as the program ends.

use alloc::{ffi::CString, format, string::String, vec::Vec};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::CWD;
use strata_sys::mount::{FileSystem, Propagation, attribute};
use strata_sys::process::{self, Fork, ForkOptions};
use strata_sys::{Errno, describe, file, mount, signal};

/// Signals passed on to the program.
const FORWARDED: [i32; 7] = [
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGWINCH,
];

/// Runs `arguments` (a path and its arguments) as the only child that counts.
pub(crate) fn run(arguments: &[String], environment: &[String]) -> i32 {
    match start(arguments, environment) {
        Ok(code) => code,
        Err(text) => {
            let _ = file::write_all(strata_sys::stream::error(), format!("node-init: {text}\n").as_bytes());
            125
        }
    }
}

fn start(arguments: &[String], environment: &[String]) -> Result<i32, String> {
    let failed = |what: &'static str| move |errno| format!("{what}: {}", describe(errno));
    let first = arguments.first().ok_or("no program given")?;
    let strings = |list: &[String]| {
        list.iter()
            .map(|text| CString::new(&**text))
            .collect::<Result<Vec<_>, _>>()
    };
    let bad = |_| String::from("an argument holds a NUL byte");
    let program = CString::new(&**first).map_err(bad)?;
    let (arguments, environment) = (strings(arguments).map_err(bad)?, strings(environment).map_err(bad)?);
    let first_of_namespace = rustix::process::getpid().as_raw_nonzero().get() == 1;
    // The node goes with whoever keeps it: with process 1 the kernel ends everything in the namespace.
    process::set_parent_death_signal(libc::SIGKILL).map_err(failed("tie the node to its keeper"))?;
    if first_of_namespace {
        mount_proc().map_err(failed("mount /proc"))?;
    }
    let mut set = signal::bit(libc::SIGCHLD);
    for number in FORWARDED {
        set |= signal::bit(number);
    }
    signal::set_blocked(set).map_err(failed("block signals"))?;
    let signals = signal::descriptor(set).map_err(failed("signalfd"))?;
    process::become_subreaper().map_err(failed("become subreaper"))?;
    // SAFETY: this process has one thread.
    let child = match unsafe { process::fork(ForkOptions::default()) }.map_err(failed("fork"))? {
        Fork::Parent(child) => child,
        Fork::Child => {
            signal::reset_all();
            let _ = signal::set_blocked(0);
            let errno = process::execute(&program, &arguments, &environment);
            let text = format!("node-init: {}: {}\n", program.to_string_lossy(), describe(errno));
            let _ = file::write_all(strata_sys::stream::error(), text.as_bytes());
            process::exit(127)
        }
    };
    loop {
        let mut ready = [PollFd::new(&signals, PollFlags::IN)];
        match poll(&mut ready, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(failed("poll")(errno)),
        }
        while let Some(number) = signal::read(&signals).map_err(failed("read a signal"))? {
            if number != libc::SIGCHLD {
                let _ = process::signal(&child.pidfd, number);
            }
        }
        while let Ok(Some((pid, status))) = process::reap_any() {
            if pid == child.pid {
                return Ok(status.code());
            }
        }
    }
}

/// /proc of the pid namespace this process is the first of.
fn mount_proc() -> strata_sys::Result<()> {
    mount::set_propagation_at("/proc", Propagation::Private, true).or_else(|errno| match errno {
        // Not a mount point yet.
        Errno::INVAL => Ok(()),
        other => Err(other),
    })?;
    let attributes = attribute::NO_SUID | attribute::NO_DEVICES | attribute::NO_EXEC;
    let proc = FileSystem::open("proc")?.mount(attributes)?;
    let target = rustix::fs::openat(CWD, "/proc", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty())?;
    mount::attach(&proc, &target)
}
