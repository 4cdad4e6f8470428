//! The commands of a container's life.

use super::flags::{Arguments, Flag};
use super::make::{BUNDLE, CONSOLE_SOCKET, Made, PID_FILE, explain, make};
use super::notify::Relay;
use super::store::{self, Container, GATE, Status};
use super::{Global, console, systemd};
use alloc::{format, string::String, string::ToString};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, OFlags};
use strata_runtime::spec::{NamespaceKind, Spec};
use strata_runtime::{Context, Error, Result, hooks};
use strata_sys::{Errno, file, process, signal};

const PRESERVE_FDS: Flag = Flag::value(
    "preserve-fds",
    "",
    "how many further descriptors the container inherits",
);
const NO_PIVOT: Flag = Flag::switch("no-pivot", "", "move the root instead of pivoting to it");
const NO_NEW_KEYRING: Flag = Flag::switch("no-new-keyring", "", "keep the caller's session keyring");

pub(super) const CREATE_FLAGS: &[Flag] = &[BUNDLE, CONSOLE_SOCKET, PID_FILE, PRESERVE_FDS, NO_PIVOT, NO_NEW_KEYRING];

pub(super) const RUN_FLAGS: &[Flag] = &[
    BUNDLE,
    CONSOLE_SOCKET,
    PID_FILE,
    PRESERVE_FDS,
    Flag::switch("detach", "d", "do not wait for the end"),
    Flag::switch("keep", "", "do not delete the container at its end"),
    Flag::switch("no-subreaper", "", "accepted, no effect"),
    NO_PIVOT,
    NO_NEW_KEYRING,
];

pub(super) const KILL_FLAGS: &[Flag] = &[Flag::switch("all", "a", "signal all processes")];

pub(super) const DELETE_FLAGS: &[Flag] = &[Flag::switch("force", "f", "kill it first; a missing one is no error")];

pub(super) fn create(global: &Global, arguments: &Arguments) -> Result<i32> {
    make(global, arguments, true).map(|_| 0)
}

pub(super) fn start(global: &Global, arguments: &Arguments) -> Result<i32> {
    let container = Container::load(global, arguments.id()?)?;
    match container.status()? {
        Status::Created if container.cgroup()?.is_frozen() => {
            return Err(Error::State("cannot start a paused container".into()));
        }
        Status::Created => {}
        Status::Stopped => return Err(Error::State("cannot start a container that has stopped".into())),
        _ => return Err(Error::State("cannot start an already running container".into())),
    }
    let relay = Relay::open(global, &container)?;
    let init = container.init()?;
    open_gate(&container)?;
    let outcome = run_poststart(global, &container, &container.config()?);
    if outcome.is_err() {
        let _ = process::signal(&init, libc::SIGKILL);
    }
    outcome?;
    if let Some(relay) = relay {
        relay.wait(container.record.pid, &init)?;
    }
    Ok(0)
}

fn run_poststart(global: &Global, container: &Container, spec: &Spec) -> Result<()> {
    let record = &container.record;
    let state = hooks::state_json(spec, &record.id, "running", record.pid, &record.bundle);
    for error in hooks::run_poststart(spec, &state)? {
        global.log.write("warning", &error.to_string());
    }
    Ok(())
}

/// Runs the hooks of a container that is gone. What fails is told and changes nothing (runtime.md#lifecycle, step 13).
pub(super) fn run_poststop(global: &Global, spec: &Spec, id: &str, bundle: &str) {
    let Some(hooks) = &spec.hooks else { return };
    let state = hooks::state_json(spec, id, "stopped", 0, bundle);
    for error in hooks::run_all("poststop", &hooks.poststop, &state) {
        global.log.write("warning", &error.to_string());
    }
}

fn open_gate(container: &Container) -> Result<()> {
    let what = || "open the container's gate";
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let gate = rustix::fs::openat(&container.directory, GATE, flags, Mode::empty()).context(what)?;
    // Whoever removes it is the one that starts: two commands cannot both.
    rustix::fs::unlinkat(&container.directory, GATE, AtFlags::empty()).context(what)?;
    file::write_all(&gate, b"0").context(what)?;
    await_exec(&gate)
}

/// Waits until nobody holds the gate's other end: the container's init does until its program begins, or it fails.
/// What is told to the container from then on reaches the program.
fn await_exec(gate: &OwnedFd) -> Result<()> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    // Longer than what the hooks that run before may take.
    let limit = Timespec {
        tv_sec: 240,
        tv_nsec: 0,
    };
    loop {
        // Errors are always told of.
        match poll(&mut [PollFd::new(gate, PollFlags::empty())], Some(&limit)) {
            Ok(0) => return Err(Error::State("the program did not begin in 4 minutes".into())),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => {
                return Err(Error::System {
                    what: "wait for the program".into(),
                    errno,
                });
            }
        }
    }
}

pub(super) fn kill(global: &Global, arguments: &Arguments) -> Result<i32> {
    let container = Container::load(global, arguments.id()?)?;
    let text = arguments.rest.get(1).map_or("TERM", String::as_str);
    let number = signal::parse(text).ok_or_else(|| Error::Invalid(format!("unknown signal {text:?}")))?;
    if arguments.has("all") {
        container.cgroup()?.signal_all(number)?;
        return Ok(0);
    }
    let pidfd = container.init()?;
    process::signal(&pidfd, number).context(|| "signal the container")?;
    // A frozen process cannot die.
    if number == libc::SIGKILL && container.status()? == Status::Paused {
        container.cgroup()?.freeze(false)?;
    }
    Ok(0)
}

pub(super) fn delete(global: &Global, arguments: &Arguments) -> Result<i32> {
    let id = arguments.id()?;
    let force = arguments.has("force");
    let container = match Container::load(global, id) {
        Err(Error::NotFound(_)) if force => return Ok(0),
        other => other?,
    };
    if container.is_alive() {
        match end(&container, id, force) {
            // It has ended on its own meanwhile.
            Err(_) if !container.is_alive() => {}
            result => result?,
        }
    }
    destroy(global, &container)?;
    Ok(0)
}

/// Kills the init of a container that may be deleted.
fn end(container: &Container, id: &str, force: bool) -> Result<()> {
    let status = container.status()?;
    if !force && status != Status::Created {
        let text = format!("cannot delete container {id} that is not stopped: {}", status.name());
        return Err(Error::State(text));
    }
    let pidfd = container.init()?;
    process::signal(&pidfd, libc::SIGKILL).context(|| "kill the container")?;
    let cgroup = container.cgroup()?;
    if status == Status::Paused {
        cgroup.freeze(false)?;
    }
    await_end(&pidfd)
}

fn await_end(pidfd: &OwnedFd) -> Result<()> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let limit = Timespec { tv_sec: 10, tv_nsec: 0 };
    let mut ended = [PollFd::new(pidfd, PollFlags::IN)];
    match poll(&mut ended, Some(&limit)) {
        Ok(0) => Err(Error::State(
            "the container's init did not end in 10 s after SIGKILL".into(),
        )),
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(Error::System {
            what: "wait for the container".into(),
            errno,
        }),
    }
}

/// Removes what is left of a container whose init has ended, which the command that waits for it and one that deletes
/// or checkpoints it may want at once: one does it, the others find it done.
pub(super) fn destroy(global: &Global, container: &Container) -> Result<()> {
    let Some(_claim) = container.claim()? else {
        return Ok(());
    };
    let cgroup = container.cgroup()?;
    // Without a pid namespace of its own a container's processes outlive its init.
    cgroup.signal_all(libc::SIGKILL)?;
    if !container.record.unit.is_empty() {
        systemd::stop(&container.record.unit)?;
    }
    cgroup.remove()?;
    let spec = container.config();
    if let Ok(spec) = &spec
        && let Some(linux) = &spec.linux
        && !linux.namespaces.iter().any(|entry| entry.kind == NamespaceKind::Mount)
    {
        strata_runtime::leave_root(&container.record.rootfs);
    }
    store::forget(&container.path)?;
    if let Ok(spec) = spec {
        run_poststop(global, &spec, &container.record.id, &container.record.bundle);
    }
    Ok(())
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<i32> {
    let detached = arguments.has("detach");
    if !detached {
        process::become_subreaper().context(|| "become subreaper")?;
    }
    let mut made = make(global, arguments, detached)?;
    let relay = Relay::open(global, &made.container);
    let outcome = relay.and_then(|relay| begin(global, &made).map(|()| relay));
    let relay = match outcome {
        Ok(relay) => relay,
        Err(error) => {
            let _ = process::signal(&made.created.child.pidfd, libc::SIGKILL);
            let _ = process::reap(made.created.child.pid);
            destroy(global, &made.container)?;
            return Err(explain(error));
        }
    };
    let child = &made.created.child;
    if detached {
        if let Some(relay) = relay {
            relay.wait(child.pid, &child.pidfd)?;
        }
        return Ok(0);
    }
    let master = made.created.terminal.take();
    let code = console::supervise(child, master, relay)?;
    if !arguments.has("keep") {
        destroy(global, &made.container)?;
    }
    Ok(code)
}

fn begin(global: &Global, made: &Made) -> Result<()> {
    open_gate(&made.container)?;
    made.created.await_program()?;
    run_poststart(global, &made.container, &made.spec)
}

pub(super) fn pause(global: &Global, arguments: &Arguments) -> Result<i32> {
    let container = Container::load(global, arguments.id()?)?;
    match container.status()? {
        Status::Running | Status::Created => container.cgroup()?.freeze(true).map(|()| 0),
        _ => Err(Error::State("container not running".into())),
    }
}

pub(super) fn resume(global: &Global, arguments: &Arguments) -> Result<i32> {
    let container = Container::load(global, arguments.id()?)?;
    match container.status()? {
        Status::Paused => container.cgroup()?.freeze(false).map(|()| 0),
        _ => Err(Error::State("container not paused".into())),
    }
}
