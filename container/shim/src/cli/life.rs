//! The commands of a container's life.

use super::Global;
use super::console;
use super::flags::{Arguments, Flag};
use super::store::{self, Container, GATE, Record, Status};
use alloc::{format, string::String, string::ToString};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use strata_runtime::cgroup::{Cgroup, Layout};
use strata_runtime::seccomp::Filter;
use strata_runtime::spec::{NamespaceKind, Resources, Spec};
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

pub(super) const UPDATE_FLAGS: &[Flag] = &[
    Flag::value(
        "resources",
        "r",
        "JSON file with linux.resources; - is the standard input",
    ),
    Flag::value("blkio-weight", "", "10 to 1000"),
    Flag::value("cpu-period", "", "microseconds"),
    Flag::value("cpu-quota", "", "microseconds"),
    Flag::value("cpu-burst", "", "microseconds"),
    Flag::value("cpu-share", "", "2 to 262144"),
    Flag::value("cpuset-cpus", "", "list of CPUs"),
    Flag::value("cpuset-mems", "", "list of memory nodes"),
    Flag::value("memory", "", "bytes"),
    Flag::value("memory-reservation", "", "bytes"),
    Flag::value("memory-swap", "", "bytes of memory and swap; -1 unlimited"),
    Flag::value("pids-limit", "", "processes"),
];

pub(super) fn create(global: &Global, arguments: &Arguments) -> Result<i32> {
    make(global, arguments, true).map(|_| 0)
}

/// A container that has just been made, and what the same command may go on with.
struct Made {
    container: Container,
    created: Created,
    spec: Spec,
    cgroup: Cgroup,
}

fn make(global: &Global, arguments: &Arguments, detached: bool) -> Result<Made> {
    let id = arguments.id()?;
    let bundle = absolute(arguments.value("bundle").unwrap_or("."))?;
    let (spec, text) = store::load_config(&format!("{bundle}/config.json"))?;
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
    let (path, directory) = store::make(global, id)?;
    let layout = Layout::detect()?;
    let cgroup_path = cgroup_path(global, &spec, id);
    let outcome = Cgroup::create(&layout, &cgroup_path).and_then(|cgroup| {
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
            preserve: arguments.number("preserve-fds")?.unwrap_or(0) as u32,
            choices: Choices {
                no_pivot: arguments.has("no-pivot"),
                no_new_keyring: arguments.has("no-new-keyring"),
            },
        })?;
        let record = record(&spec, id, &bundle, &cgroup, &created)?;
        Ok((
            Container {
                directory,
                path: path.clone(),
                record,
            },
            created,
            cgroup,
        ))
    });
    let finish = |(container, mut created, cgroup): (Container, Created, Cgroup)| -> Result<Made> {
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
            cgroup,
        })
    };
    match outcome.and_then(finish) {
        Ok(made) => Ok(Made { spec, ..made }),
        Err(error) => {
            if let Ok(cgroup) = Cgroup::open(&layout, &cgroup_path) {
                let _ = cgroup.remove();
            }
            let _ = store::forget(&path);
            Err(explain(error))
        }
    }
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
        annotations: spec.annotations.clone(),
    })
}

/// Open at both ends, so that opening never blocks and the end of another command closes nothing.
fn make_gate(directory: &OwnedFd) -> Result<OwnedFd> {
    let what = || "make the gate";
    rustix::fs::mknodat(directory, GATE, FileType::Fifo, Mode::from_raw_mode(0o600), 0).context(what)?;
    rustix::fs::openat(directory, GATE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).context(what)
}

fn cgroup_path(global: &Global, spec: &Spec, id: &str) -> String {
    let path = spec.linux.as_ref().map_or("", |linux| &*linux.cgroups_path);
    let mut parts = path.split(':');
    match (global.systemd, parts.next(), parts.next(), parts.next()) {
        (true, Some(slice), Some(prefix), Some(name)) => {
            let slice = if slice.is_empty() { "system.slice" } else { slice };
            format!("/{slice}/{prefix}-{name}.scope")
        }
        _ if path.is_empty() => format!("/{id}"),
        _ => path.into(),
    }
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
        Status::Created => {}
        Status::Stopped => return Err(Error::State("cannot start a container that has stopped".into())),
        _ => return Err(Error::State("cannot start an already running container".into())),
    }
    open_gate(&container)?;
    let spec = container.config()?;
    if let Some(hooks) = &spec.hooks {
        let record = &container.record;
        let state = hooks::state_json(&spec, &record.id, "running", record.pid, &record.bundle);
        hooks::run("poststart", &hooks.poststart, &state)?;
    }
    Ok(0)
}

fn open_gate(container: &Container) -> Result<()> {
    let what = || "open the container's gate";
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let gate = rustix::fs::openat(&container.directory, GATE, flags, Mode::empty()).context(what)?;
    // Whoever removes it is the one that starts: two commands cannot both.
    rustix::fs::unlinkat(&container.directory, GATE, AtFlags::empty()).context(what)?;
    file::write_all(&gate, b"0").context(what)
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
    destroy(&container)?;
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
fn destroy(container: &Container) -> Result<()> {
    let cgroup = container.cgroup()?;
    // Without a pid namespace of its own a container's processes outlive its init.
    cgroup.signal_all(libc::SIGKILL)?;
    cgroup.remove()?;
    let spec = container.config();
    if let Ok(spec) = &spec
        && let Some(linux) = &spec.linux
        && !linux.namespaces.iter().any(|entry| entry.kind == NamespaceKind::Mount)
    {
        strata_runtime::leave_root(&container.record.rootfs);
    }
    store::forget(&container.path)?;
    if let Ok(spec) = spec
        && let Some(hooks) = &spec.hooks
    {
        let record = &container.record;
        let state = hooks::state_json(&spec, &record.id, "stopped", 0, &record.bundle);
        hooks::run("poststop", &hooks.poststop, &state)?;
    }
    Ok(())
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<i32> {
    let detached = arguments.has("detach");
    if !detached {
        process::become_subreaper().context(|| "become subreaper")?;
    }
    let mut made = make(global, arguments, detached)?;
    let outcome = begin(&made);
    if let Err(error) = outcome {
        let _ = process::signal(&made.created.child.pidfd, libc::SIGKILL);
        let _ = process::reap(made.created.child.pid);
        destroy(&made.container)?;
        return Err(explain(error));
    }
    if detached {
        return Ok(0);
    }
    let master = made.created.terminal.take();
    let code = console::supervise(&made.created.child, master)?;
    if !arguments.has("keep") {
        destroy(&made.container)?;
    }
    Ok(code)
}

fn begin(made: &Made) -> Result<()> {
    open_gate(&made.container)?;
    made.created.await_program()?;
    debug_assert!(!made.cgroup.path().is_empty());
    if let Some(hooks) = &made.spec.hooks {
        let record = &made.container.record;
        let state = hooks::state_json(&made.spec, &record.id, "running", record.pid, &record.bundle);
        hooks::run("poststart", &hooks.poststart, &state)?;
    }
    Ok(())
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

pub(super) fn update(global: &Global, arguments: &Arguments) -> Result<i32> {
    let container = Container::load(global, arguments.id()?)?;
    let mut resources = match arguments.value("resources") {
        None => Resources::default(),
        Some(path) => read_resources(path)?,
    };
    let unsigned =
        |name: &str| -> Result<Option<u64>> { Ok(arguments.number(name)?.map(|number| number.max(0) as u64)) };
    let cpu = resources.cpu.get_or_insert_default();
    cpu.shares = unsigned("cpu-share")?.or(cpu.shares);
    cpu.period = unsigned("cpu-period")?.or(cpu.period);
    cpu.burst = unsigned("cpu-burst")?.or(cpu.burst);
    cpu.quota = arguments.number("cpu-quota")?.or(cpu.quota);
    if let Some(cpus) = arguments.value("cpuset-cpus") {
        cpu.cpus = cpus.into();
    }
    if let Some(mems) = arguments.value("cpuset-mems") {
        cpu.mems = mems.into();
    }
    let memory = resources.memory.get_or_insert_default();
    memory.limit = arguments.number("memory")?.or(memory.limit);
    memory.reservation = arguments.number("memory-reservation")?.or(memory.reservation);
    memory.swap = arguments.number("memory-swap")?.or(memory.swap);
    if let Some(limit) = arguments.number("pids-limit")? {
        resources.pids.get_or_insert_default().limit = Some(limit);
    }
    if let Some(weight) = arguments.number("blkio-weight")? {
        resources.block_io.get_or_insert_default().weight = Some(weight as u16);
    }
    container.cgroup()?.apply(&resources)?;
    Ok(0)
}

fn read_resources(path: &str) -> Result<Resources> {
    const LIMIT: usize = 1 << 20;
    let text = if path == "-" {
        file::read_all(strata_sys::stream::input(), LIMIT)
    } else {
        file::read_at(CWD, path, LIMIT)
    };
    let text = text.context(|| format!("read {path}"))?;
    serde_json::from_slice(&text).map_err(|error| Error::Invalid(format!("{path}: {error}")))
}
