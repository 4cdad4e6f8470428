//! Making a container: its place (directory, cgroup, console) and what is left of that when it fails.

use super::flags::{Arguments, Flag};
use super::store::{self, Container, GATE, Record};
use super::systemd::{self, Scope};
use super::{Global, console, life, notify};
use alloc::{format, string::String, string::ToString, vec::Vec};
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags};
use strata_runtime::cgroup::{Cgroup, Layout};
use strata_runtime::seccomp::Filter;
use strata_runtime::spec::{Process, Spec};
use strata_runtime::{Choices, Context, Created, Creation, Error, Result, Streams};
use strata_sys::{Errno, capability, file, process};

pub(super) const BUNDLE: Flag = Flag::value("bundle", "b", "directory with config.json (default .)");
pub(super) const CONSOLE_SOCKET: Flag =
    Flag::value("console-socket", "", "Unix socket that receives the terminal's master");
pub(super) const PID_FILE: Flag = Flag::value("pid-file", "", "file to write the process id to");

/// A container that has just been made, and what the same command may go on with.
pub(super) struct Made {
    pub(super) container: Container,
    pub(super) created: Created,
    pub(super) spec: Spec,
}

/// Makes a container whose init waits at the gate.
pub(super) fn make(global: &Global, arguments: &Arguments, detached: bool) -> Result<Made> {
    Site::reserve(global, arguments, detached)?.fill(arguments, |site, cgroup| {
        let preserve = preserved(global, arguments, site.spec.process.as_mut())?;
        if let Some(process) = &site.spec.process {
            warn_of_capabilities(global, process);
        }
        notify::offer(global, site)?;
        let filter = Filter::of(&site.spec)?;
        strata_runtime::create(Creation {
            id: site.id,
            spec: &site.spec,
            rootfs: None,
            bundle: &site.bundle,
            cgroup,
            streams: if site.terminal {
                Streams::Terminal
            } else {
                Streams::Inherit
            },
            gate: make_gate(&site.directory)?,
            filter: filter.as_ref(),
            shared_pid: None,
            preserve,
            choices: Choices {
                no_pivot: arguments.has("no-pivot"),
                no_new_keyring: arguments.has("no-new-keyring"),
            },
        })
    })
}

/// What a container is made in: its name is taken, and nobody lives in it yet.
pub(super) struct Site<'a> {
    global: &'a Global,
    pub(super) id: &'a str,
    pub(super) bundle: String,
    pub(super) spec: Spec,
    text: Vec<u8>,
    /// Whether its process has a terminal, and who is to get that.
    pub(super) terminal: bool,
    console: Option<OwnedFd>,
    layout: Layout,
    /// The container's directory.
    pub(super) path: String,
    pub(super) directory: OwnedFd,
    cgroup: String,
    scope: Option<Scope>,
}

impl<'a> Site<'a> {
    /// Reads the configuration and takes the name and the cgroup. Errors leave nothing behind.
    pub(super) fn reserve(global: &'a Global, arguments: &'a Arguments, detached: bool) -> Result<Self> {
        let id = arguments.id()?;
        let bundle = absolute(arguments.value("bundle").filter(|path| !path.is_empty()).unwrap_or("."))?;
        let (spec, text) = store::load_config(&format!("{bundle}/config.json"))?;
        let terminal = spec.process.as_ref().is_some_and(|process| process.terminal);
        let console = console(arguments, terminal, detached)?;
        let layout = Layout::detect()?;
        let (path, directory) = store::make(global, id)?;
        let (cgroup, scope) = match reserve_cgroup(global, &spec, id, &layout) {
            Ok(reserved) => reserved,
            Err(error) => {
                store::forget(&path)?;
                return Err(error);
            }
        };
        Ok(Site {
            global,
            id,
            bundle,
            spec,
            text,
            terminal,
            console,
            layout,
            path,
            directory,
            cgroup,
            scope,
        })
    }

    /// Has `begin` make the container's first process, and remembers it. Errors leave nothing behind.
    pub(super) fn fill(
        mut self,
        arguments: &Arguments,
        begin: impl FnOnce(&mut Self, &Cgroup) -> Result<Created>,
    ) -> Result<Made> {
        let made = make_cgroup(&self.layout, &self.cgroup, &mut self.spec)
            .and_then(|cgroup| begin(&mut self, &cgroup).map(|created| (cgroup, created)));
        let kept = made.and_then(
            |(cgroup, mut created)| match self.keep(arguments, &cgroup, &mut created) {
                Ok(record) => Ok((record, created)),
                Err(error) => {
                    let _ = process::signal(&created.child.pidfd, libc::SIGKILL);
                    let _ = process::reap(created.child.pid);
                    Err(error)
                }
            },
        );
        match kept {
            Ok((record, created)) => Ok(Made {
                container: Container {
                    directory: self.directory,
                    path: self.path,
                    record,
                },
                created,
                spec: self.spec,
            }),
            Err(error) => {
                self.abandon();
                Err(explain(error))
            }
        }
    }

    fn keep(&self, arguments: &Arguments, cgroup: &Cgroup, created: &mut Created) -> Result<Record> {
        let mut record = record(&self.spec, self.id, &self.bundle, cgroup, created)?;
        record.unit = self.scope.as_ref().map_or_else(String::new, |scope| scope.unit.clone());
        if !self.terminal {
            record.descriptors = descriptors();
        }
        store::save(&self.directory, &record, &self.text)?;
        if let Some(socket) = &self.console
            && let Some(master) = created.terminal.take()
        {
            console::send(socket, &master)?;
        }
        if let Some(path) = arguments.value("pid-file").filter(|path| !path.is_empty()) {
            write_pid(path, created.child.pid)?;
        }
        Ok(record)
    }

    fn abandon(self) {
        if let Some(scope) = &self.scope {
            let _ = systemd::stop(&scope.unit);
        }
        if let Ok(cgroup) = Cgroup::open(&self.layout, &self.cgroup) {
            let _ = cgroup.remove();
        }
        let _ = store::forget(&self.path);
        life::run_poststop(self.global, &self.spec, self.id, &self.bundle);
    }
}

/// Who is to get the terminal. Errors: a terminal nobody would have, or somebody without one.
pub(super) fn console(arguments: &Arguments, terminal: bool, detached: bool) -> Result<Option<OwnedFd>> {
    let refuse = |why: &str| Err(Error::Invalid(why.into()));
    match arguments.value("console-socket").filter(|path| !path.is_empty()) {
        Some(path) if terminal && detached => console::connect(path).map(Some),
        Some(_) => refuse("cannot use console socket if runc will not detach or allocate tty"),
        None if terminal && detached => {
            refuse("cannot allocate tty if runc will detach without setting console socket")
        }
        None => Ok(None),
    }
}

/// Tells of capabilities that nobody knows: the process goes without.
pub(super) fn warn_of_capabilities(global: &Global, process: &Process) {
    let Some(sets) = &process.capabilities else { return };
    let lists = [
        &sets.bounding,
        &sets.effective,
        &sets.inheritable,
        &sets.permitted,
        &sets.ambient,
    ];
    let mut unknown: Vec<&str> = lists.into_iter().flatten().map(String::as_str).collect();
    unknown.retain(|name| capability::parse(name).is_none());
    unknown.sort_unstable();
    unknown.dedup();
    if !unknown.is_empty() {
        let text = format!("ignoring unknown or unavailable capabilities: [{}]", unknown.join(" "));
        global.log.write("warning", &text);
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
    let number = |name: &str| global.variable(name).and_then(|value| value.parse::<u32>().ok());
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let mut listening = number("LISTEN_FDS").unwrap_or(0);
    if number("LISTEN_PID").is_some_and(|pid| pid as i32 != own) {
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
pub(super) fn explain(error: Error) -> Error {
    match error {
        Error::Command(text) => Error::Command(format!("unable to start container process: {text}")),
        other => other,
    }
}

fn record(spec: &Spec, id: &str, bundle: &str, cgroup: &Cgroup, created: &Created) -> Result<Record> {
    let pid = created.child.pid;
    let stamp = strata_sys::time::rfc3339(strata_sys::time::now());
    Ok(Record {
        oci_version: spec.oci_version.clone(),
        id: id.into(),
        pid,
        pid_start: process::start_time(pid).context(|| format!("read /proc/{pid}/stat"))?,
        bundle: bundle.into(),
        rootfs: rootfs(spec, bundle),
        created: String::from_utf8_lossy(&stamp).into_owned(),
        cgroup: cgroup.path().into(),
        unit: String::new(),
        descriptors: Vec::new(),
        annotations: spec.annotations.clone(),
    })
}

/// The root file system, as an absolute path.
pub(super) fn rootfs(spec: &Spec, bundle: &str) -> String {
    let root = spec.root.as_ref().map_or("", |root| &*root.path);
    if root.starts_with('/') {
        root.into()
    } else {
        format!("{bundle}/{root}")
    }
}

/// What the standard streams are, which the container has inherited.
fn descriptors() -> Vec<String> {
    let links = (0..3).map(|number| rustix::fs::readlink(format!("/proc/self/fd/{number}"), Vec::new()));
    let names = links.map(|link| link.ok().and_then(|link| link.into_string().ok()));
    names.map(|name| name.unwrap_or_else(|| "/dev/null".into())).collect()
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

/// The path from the root directory on.
pub(super) fn absolute(path: &str) -> Result<String> {
    let here = rustix::process::getcwd(Vec::new()).context(|| "getcwd")?;
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
