//! A tiny process 1, for a node of a throwaway cluster and for containers that want one: starts one program,
//! passes signals on, reaps, and ends as the program ends. For a node it mounts /proc first.

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

/// Runs `arguments` (a path and its arguments) as the only child that counts, in a node.
pub(crate) fn run(arguments: &[String], environment: &[String]) -> i32 {
    let program = arguments.first().cloned().unwrap_or_default();
    let prepared = prepare_node().and_then(|()| start(&[program], arguments, environment));
    prepared.unwrap_or_else(|text| say("node-init", &text))
}

/// The same in a container, with the program looked for in the PATH; `--` may come first.
pub(crate) fn run_container(arguments: &[String], environment: &[String]) -> i32 {
    let arguments = match arguments.first().map(String::as_str) {
        Some("--") => &arguments[1..],
        _ => arguments,
    };
    let name = arguments.first().cloned().unwrap_or_default();
    let path = environment.iter().find_map(|line| line.strip_prefix("PATH="));
    let places: Vec<String> = if name.contains('/') {
        Vec::from([name])
    } else {
        let folders = path.unwrap_or("/usr/local/bin:/usr/bin:/bin").split(':');
        folders.map(|folder| format!("{folder}/{name}")).collect()
    };
    start(&places, arguments, environment).unwrap_or_else(|text| say("init", &text))
}

fn say(who: &str, text: &str) -> i32 {
    let _ = file::write_all(strata_sys::stream::error(), format!("{who}: {text}\n").as_bytes());
    125
}

fn failed(what: &'static str) -> impl FnOnce(Errno) -> String {
    move |errno| format!("{what}: {}", describe(errno))
}

/// The node goes with whoever keeps it: with process 1 the kernel ends everything in the namespace.
fn prepare_node() -> Result<(), String> {
    process::set_parent_death_signal(libc::SIGKILL).map_err(failed("tie the node to its keeper"))?;
    if rustix::process::getpid().as_raw_nonzero().get() == 1 {
        mount_proc().map_err(failed("mount /proc"))?;
    }
    Ok(())
}

/// Starts the first of the programs that can be, and looks after it until it ends.
fn start(places: &[String], arguments: &[String], environment: &[String]) -> Result<i32, String> {
    if arguments.is_empty() {
        return Err("no program given".into());
    }
    let strings = |list: &[String]| {
        list.iter()
            .map(|text| CString::new(&**text))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| String::from("an argument holds a NUL byte"))
    };
    let (places, words, environment) = (strings(places)?, strings(arguments)?, strings(environment)?);
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
            let mut errno = Errno::NOENT;
            for place in &places {
                match process::execute(place, &words, &environment) {
                    Errno::NOENT | Errno::NOTDIR => {}
                    other => errno = other,
                }
            }
            let text = format!("init: {}: {}\n", arguments[0], describe(errno));
            let _ = file::write_all(strata_sys::stream::error(), text.as_bytes());
            process::exit(if errno == Errno::NOENT { 127 } else { 126 })
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
