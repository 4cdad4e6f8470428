//! `exec`.

use super::flags::{Arguments, Flag};
use super::store::{Container, Status};
use super::{Global, console, make};
use alloc::{format, string::String};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::CWD;
use strata_runtime::seccomp::Filter;
use strata_runtime::spec::{Capabilities, Process, Spec, User};
use strata_runtime::{Context, Created, Error, Execution, Result, Streams, hooks};
use strata_sys::{file, process};

pub(super) const FLAGS: &[Flag] = &[
    Flag::value("process", "p", "JSON file with the whole process"),
    Flag::value("console-socket", "", "Unix socket that receives the terminal's master"),
    Flag::value("cwd", "", "working directory"),
    Flag::value("env", "e", "NAME=value"),
    Flag::switch("tty", "t", "give it a terminal"),
    Flag::value("user", "u", "UID[:GID]"),
    Flag::value("additional-gids", "g", "further group"),
    Flag::switch("detach", "d", "do not wait for the end"),
    Flag::value("pid-file", "", "file to write the process id to"),
    Flag::value("process-label", "", "SELinux label"),
    Flag::value("apparmor", "", "AppArmor profile"),
    Flag::switch("no-new-privs", "", "forbid gaining privileges"),
    Flag::value("cap", "c", "further capability"),
    Flag::value("preserve-fds", "", "how many further descriptors it inherits"),
    Flag::value("cgroup", "", "[CONTROLLERS:]PATH below the container's cgroup to enter"),
    Flag::switch("ignore-paused", "", "also in a paused container"),
];

pub(super) fn exec(global: &Global, arguments: &Arguments) -> Result<i32> {
    let container = Container::load(global, arguments.id()?)?;
    match container.status()? {
        Status::Stopped => return Err(Error::State("cannot exec in a stopped container".into())),
        Status::Paused if !arguments.has("ignore-paused") => {
            let why = "cannot exec in a paused container (use --ignore-paused to override)";
            return Err(Error::State(why.into()));
        }
        _ => {}
    }
    let spec = container.config()?;
    let mut process = describe(&spec, arguments)?;
    let detached = arguments.has("detach");
    let console = make::console(arguments, process.terminal, detached)?;
    let preserve = make::preserved(global, arguments, Some(&mut process))?;
    make::warn_of_capabilities(global, &process);
    if !detached {
        process::become_subreaper().context(|| "become subreaper")?;
    }
    let init = container.init()?;
    let record = &container.record;
    let mut cgroup = container.cgroup()?;
    for place in arguments.values("cgroup") {
        let (controllers, path) = place.split_once(':').unwrap_or(("", place));
        cgroup = cgroup.entered_below(controllers, path)?;
    }
    let created = strata_runtime::execute(Execution {
        init: init.as_fd(),
        spec: &spec,
        filter: Filter::of(&spec)?.as_ref(),
        process: &process,
        cgroup: &cgroup,
        streams: if process.terminal {
            Streams::Terminal
        } else {
            Streams::Inherit
        },
        preserve,
        state: &hooks::state_json(&spec, &record.id, "running", record.pid, &record.bundle),
        no_new_keyring: false,
    });
    let mut created = created.map_err(make::explain)?;
    if let Err(error) = tell(arguments, console.as_ref(), &mut created) {
        let _ = process::signal(&created.child.pidfd, libc::SIGKILL);
        let _ = process::reap(created.child.pid);
        return Err(error);
    }
    if detached {
        return Ok(0);
    }
    let master = created.terminal.take();
    console::supervise(&created.child, master, None)
}

/// Says which process it is, and hands its terminal over, to whoever wants to know.
fn tell(arguments: &Arguments, console: Option<&OwnedFd>, created: &mut Created) -> Result<()> {
    if let Some(path) = arguments.value("pid-file").filter(|path| !path.is_empty()) {
        make::write_pid(path, created.child.pid)?;
    }
    match (console, created.terminal.take_if(|_| console.is_some())) {
        (Some(socket), Some(master)) => console::send(socket, &master),
        _ => Ok(()),
    }
}

/// The container's own process with the flags' changes, or the one of a file.
fn describe(spec: &Spec, arguments: &Arguments) -> Result<Process> {
    if let Some(path) = arguments.value("process") {
        let text = file::read_at(CWD, path, 1 << 20).context(|| format!("read {path}"))?;
        return serde_json::from_slice(&text).map_err(|error| Error::Invalid(format!("{path}: {error}")));
    }
    let mut process = spec.process.clone().unwrap_or_default();
    process.args = arguments.rest[1..].to_vec();
    if process.args.is_empty() {
        return Err(Error::Invalid("process args cannot be empty".into()));
    }
    process.terminal = arguments.has("tty");
    process.console_size = None;
    if let Some(cwd) = arguments.value("cwd") {
        process.cwd = cwd.into();
    }
    process.env.extend(arguments.values("env").map(String::from));
    if let Some(user) = arguments.value("user") {
        process.user = User {
            username: user.into(),
            umask: process.user.umask,
            ..User::default()
        };
    }
    for group in arguments.values("additional-gids") {
        let group = group
            .parse()
            .map_err(|_| Error::Invalid(format!("bad group {group:?}")))?;
        process.user.additional_gids.push(group);
    }
    // Who names one here means this machine's.
    if let Some(profile) = arguments.value("apparmor").filter(|profile| !profile.is_empty()) {
        if !strata_runtime::has_apparmor() {
            return Err(Error::Invalid("apparmor is disabled or not supported".into()));
        }
        process.apparmor_profile = profile.into();
    }
    if arguments.value("process-label").is_some_and(|label| !label.is_empty()) {
        return Err(Error::Invalid("selinux is disabled or not supported".into()));
    }
    if arguments.has("no-new-privs") {
        process.no_new_privileges = true;
    }
    for capability in arguments.values("cap") {
        let Capabilities {
            bounding,
            effective,
            permitted,
            ..
        } = process.capabilities.get_or_insert_default();
        for set in [bounding, effective, permitted] {
            set.push(capability.into());
        }
    }
    Ok(process)
}
