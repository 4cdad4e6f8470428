//! The commands of a container's life.

use super::flags::{Arguments, Flag};
use super::store::{self, Container, GATE, Record, Status};
use super::systemd::{self, Scope};
use super::{Global, console};
use alloc::{format, string::String, string::ToString};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use strata_runtime::cgroup::{Cgroup, Layout};
use strata_runtime::seccomp::Filter;
use strata_runtime::spec::{NamespaceKind, Process, Spec};
use strata_runtime::{Choices, Context, Created, Creation, Error, Result, Streams, hooks};
use strata_sys::{Errno, file, process, signal};

const BUNDLE: Flag = Flag::value("bundle", "b", "directory with config.json (default .)");
const CONSOLE_SOCKET: Flag = Flag::value("console-socket", "", "Unix socket that receives the terminal's master");
const PID_FILE: Flag = Flag::value("pid-file", "", "file to write the process id to");
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

/// A container that has just been made, and what the same command may go on with.
struct Made {
    container: Container,
    created: Created,
    spec: Spec,
}

fn make(global: &Global, arguments: &Arguments, detached: bool) -> Result<Made> {
    let id = arguments.id()?;
    let bundle = absolute(arguments.value("bundle").unwrap_or("."))?;
    let (mut spec, text) = store::load_config(&format!("{bundle}/config.json"))?;
    let preserve = preserved(global, arguments, spec.process.as_mut())?;
    let terminal = spec.process.as_ref().is_some_and(|process| process.terminal);
    let socket = arguments.value("console-socket");
    if terminal && detached && socket.is_none() {
        return Err(Error::Invalid(
            "cannot allocate tty if runc will detach without setting console socket".into(),
        ));
    }
    let console = match socket {
        Some(path) if terminal => Some(console::connect(path)?),
        Some(_) => {
            let why = "cannot use console socket if runc will not detach or allocate tty";
            return Err(Error::Invalid(why.into()));
        }
        None => None,
    };
    let filter = Filter::of(&spec)?;
    let layout = Layout::detect()?;
    let (path, directory) = store::make(global, id)?;
    let (cgroup_path, scope) = match reserve_cgroup(global, &spec, id, &layout) {
        Ok(reserved) => reserved,
        Err(error) => {
            store::forget(&path)?;
            return Err(error);
        }
    };
    let outcome = make_cgroup(&layout, &cgroup_path, &mut spec).and_then(|cgroup| {
        let gate = make_gate(&directory)?;
        let created = strata_runtime::create(Creation {
            id,
            spec: &spec,
            rootfs: None,
            bundle: &bundle,
            cgroup: &cgroup,
            streams: if terminal { Streams::Terminal } else { Streams::Inherit },
            gate,
            filter: filter.as_ref(),
            shared_pid: None,
            preserve,
            choices: Choices {
                no_pivot: arguments.has("no-pivot"),
                no_new_keyring: arguments.has("no-new-keyring"),
            },
        })?;
        let mut record = record(&spec, id, &bundle, &cgroup, &created)?;
        record.unit = scope.as_ref().map_or_else(String::new, |scope| scope.unit.clone());
        Ok((
            Container {
                directory,
                path: path.clone(),
                record,
            },
            created,
        ))
    });
    let finish = |(container, mut created): (Container, Created)| -> Result<Made> {
        let kept = container.save(&text).and_then(|()| {
            if let (Some(socket), Some(master)) = (&console, created.terminal.take()) {
                console::send(socket, &master)?;
            }
            arguments
                .value("pid-file")
                .map_or(Ok(()), |path| write_pid(path, created.child.pid))
        });
        if let Err(error) = kept {
            let _ = process::signal(&created.child.pidfd, libc::SIGKILL);
            let _ = process::reap(created.child.pid);
            return Err(error);
        }
        Ok(Made {
            container,
            created,
            spec: Spec::default(),
        })
    };
    match outcome.and_then(finish) {
        Ok(made) => Ok(Made { spec, ..made }),
        Err(error) => {
            if let Some(scope) = &scope {
                let _ = systemd::stop(&scope.unit);
            }
            if let Ok(cgroup) = Cgroup::open(&layout, &cgroup_path) {
                let _ = cgroup.remove();
            }
            let _ = store::forget(&path);
            run_poststop(global, &spec, id, &bundle);
            Err(explain(error))
        }
    }
}

/// A container that shared its cgroup would be limited, frozen and killed with the others; a frozen one never begins.
pub(crate) fn check_unused(layout: &Layout, path: &str) -> Result<()> {
    let cgroup = Cgroup::open(layout, path)?;
    if !cgroup.exists() {
        return Ok(());
    }
    let processes = cgroup.processes()?.len();
    if processes > 0 {
        return Err(Error::State(format!(
            "container's cgroup is not empty: {processes} process(es) found"
        )));
    }
    if cgroup.is_frozen() {
        return Err(Error::State("container's cgroup unexpectedly frozen".into()));
    }
    Ok(())
}

/// How many descriptors from 3 on the container inherits: those asked for, and sockets that systemd passed
/// (sd_listen_fds(3)), which its process is told of.
pub(super) fn preserved(global: &Global, arguments: &Arguments, process: Option<&mut Process>) -> Result<u32> {
    let variable = |name: &str| {
        let found = global
            .environment
            .iter()
            .find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='));
        found.and_then(|value| value.parse::<u32>().ok())
    };
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let mut listening = variable("LISTEN_FDS").unwrap_or(0);
    if variable("LISTEN_PID").is_some_and(|pid| pid as i32 != own) {
        listening = 0;
    }
    let wanted = arguments.number("preserve-fds")?.unwrap_or(0);
    let wanted = u32::try_from(wanted).map_err(|_| Error::Invalid(format!("--preserve-fds: bad number {wanted}")))?;
    let count = wanted.saturating_add(listening);
    for number in 3..3u32.saturating_add(count) {
        // SAFETY: only looked at; the kernel says whether it is one.
        let descriptor = unsafe { rustix::fd::BorrowedFd::borrow_raw(number as i32) };
        rustix::io::fcntl_getfd(descriptor)
            .context(|| format!("unable to stat preserved-fd {} (of {count})", number - 3))?;
    }
    if let Some(process) = process.filter(|_| listening > 0) {
        process.env.push(format!("LISTEN_FDS={listening}"));
        process.env.push(String::from("LISTEN_PID=1"));
    }
    Ok(count)
}

/// The words that users know from runc.
fn explain(error: Error) -> Error {
    match error {
        Error::Command(text) => Error::Command(format!("unable to start container process: {text}")),
        other => other,
    }
}

fn record(spec: &Spec, id: &str, bundle: &str, cgroup: &Cgroup, created: &Created) -> Result<Record> {
    let root = spec.root.as_ref().map_or("", |root| &*root.path);
    let pid = created.child.pid;
    let stamp = strata_sys::time::rfc3339(strata_sys::time::now());
    Ok(Record {
        oci_version: spec.oci_version.clone(),
        id: id.into(),
        pid,
        pid_start: process::start_time(pid).context(|| format!("read /proc/{pid}/stat"))?,
        bundle: bundle.into(),
        rootfs: if root.starts_with('/') {
            root.into()
        } else {
            format!("{bundle}/{root}")
        },
        created: String::from_utf8_lossy(&stamp).into_owned(),
        cgroup: cgroup.path().into(),
        unit: String::new(),
        annotations: spec.annotations.clone(),
    })
}

/// Open at both ends, so that opening never blocks and the end of another command closes nothing.
fn make_gate(directory: &OwnedFd) -> Result<OwnedFd> {
    let what = || "make the gate";
    rustix::fs::mknodat(directory, GATE, FileType::Fifo, Mode::from_raw_mode(0o600), 0).context(what)?;
    rustix::fs::openat(directory, GATE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).context(what)
}

/// Makes the cgroup. Without privileges there may be no place for one, and devices need no rules then: those of a user
/// namespace are the host's own or none.
fn make_cgroup(layout: &Layout, path: &str, spec: &mut Spec) -> Result<Cgroup> {
    match Cgroup::create(layout, path) {
        Err(Error::System {
            errno: Errno::ACCESS | Errno::PERM | Errno::ROFS,
            ..
        }) if !rustix::process::geteuid().is_root() => {
            if let Some(resources) = spec.linux.as_mut().and_then(|linux| linux.resources.as_mut()) {
                resources.devices.clear();
            }
            Ok(Cgroup::none())
        }
        other => other,
    }
}

/// Where the container's cgroup is to be, and the scope that systemd has made for it.
fn reserve_cgroup(global: &Global, spec: &Spec, id: &str, layout: &Layout) -> Result<(String, Option<Scope>)> {
    if global.systemd {
        let scope = systemd::start(spec, id, layout)?;
        return Ok((scope.path.clone(), Some(scope)));
    }
    let path = match spec.linux.as_ref().map_or("", |linux| &*linux.cgroups_path) {
        "" => format!("/{id}"),
        path => path.into(),
    };
    check_unused(layout, &path)?;
    Ok((path, None))
}

fn absolute(path: &str) -> Result<String> {
    let here = rustix::process::getcwd(alloc::vec::Vec::new()).context(|| "getcwd")?;
    let here = here.to_string_lossy();
    Ok(match path {
        "." => here.into_owned(),
        path if path.starts_with('/') => path.into(),
        path => format!("{here}/{path}"),
    })
}

pub(super) fn write_pid(path: &str, pid: i32) -> Result<()> {
    let (directory, name) = match path.rsplit_once('/') {
        Some(("", name)) => (String::from("/"), name),
        Some((directory, name)) => (directory.into(), name),
        None => (String::from("."), path),
    };
    let directory = file::open_directory(&*directory).context(|| format!("write {path}"))?;
    file::replace(&directory, name, pid.to_string().as_bytes(), 0o644).context(|| format!("write {path}"))
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
    open_gate(&container)?;
    let outcome = run_poststart(global, &container, &container.config()?);
    if outcome.is_err()
        && let Ok(init) = container.init()
    {
        let _ = process::signal(&init, libc::SIGKILL);
    }
    outcome.map(|()| 0)
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
fn run_poststop(global: &Global, spec: &Spec, id: &str, bundle: &str) {
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

/// Removes what is left of a container whose init has ended.
pub(super) fn destroy(global: &Global, container: &Container) -> Result<()> {
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
    let outcome = begin(global, &made);
    if let Err(error) = outcome {
        let _ = process::signal(&made.created.child.pidfd, libc::SIGKILL);
        let _ = process::reap(made.created.child.pid);
        destroy(global, &made.container)?;
        return Err(explain(error));
    }
    if detached {
        return Ok(0);
    }
    let master = made.created.terminal.take();
    let code = console::supervise(&made.created.child, master)?;
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
