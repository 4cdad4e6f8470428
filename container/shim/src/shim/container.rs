//! One container of the shim.

use super::streams::Streams;
use crate::cli::systemd;
use crate::protocol::{ContainerSpec, ContainerState, ExecSpec, ExitStatus, Status};
use alloc::{collections::BTreeMap, string::String, vec::Vec};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use strata_runtime::cgroup::{Cgroup, Layout, MemoryWatch};
use strata_runtime::seccomp::Filter;
use strata_runtime::spec::{Process, Resources, Spec};
use strata_runtime::{Choices, Context, Created, Creation, Error, Execution, Result, hooks};
use strata_sys::{file, process, time};

/// Ended further processes that are remembered.
const ENDED_LIMIT: usize = 64;

pub(super) struct Container {
    pub(super) number: u64,
    pub(super) state: ContainerState,
    pub(super) cgroup: Cgroup,
    pub(super) streams: Streams,
    pub(super) memory: Option<MemoryWatch>,
    spec: Spec,
    filter: Option<Filter>,
    id: String,
    bundle: String,
    created: Created,
    gate: Option<OwnedFd>,
    execs: BTreeMap<String, Exec>,
    oom_kills: u64,
    /// systemd's name of its cgroup, if that is systemd's.
    unit: String,
}

struct Exec {
    pid: i32,
    pidfd: OwnedFd,
    exit: Option<ExitStatus>,
}

impl Container {
    pub(super) fn create(
        number: u64,
        mut spec: ContainerSpec,
        layout: &Layout,
        shared_pid: Option<BorrowedFd<'_>>,
    ) -> Result<Self> {
        if !spec.systemd {
            return Self::create_with(number, spec, layout, shared_pid, Choices::default());
        }
        // Held until the container's init lives in it.
        let scope = systemd::start(&spec.spec, &spec.id, layout)?;
        spec.spec.linux.get_or_insert_default().cgroups_path = scope.path.clone();
        match Self::create_with(number, spec, layout, shared_pid, Choices::default()) {
            Ok(container) => Ok(Container {
                unit: scope.unit.clone(),
                ..container
            }),
            Err(error) => {
                // The error that is told is the first.
                let _ = systemd::stop(&scope.unit);
                Err(error)
            }
        }
    }

    pub(super) fn create_with(
        number: u64,
        spec: ContainerSpec,
        layout: &Layout,
        shared_pid: Option<BorrowedFd<'_>>,
        choices: Choices,
    ) -> Result<Self> {
        let path = spec.spec.linux.as_ref().map_or("", |linux| &*linux.cgroups_path);
        if path.is_empty() {
            return Err(Error::Invalid("linux.cgroupsPath is missing".into()));
        }
        let cgroup = Cgroup::create(layout, path)?;
        let made = Self::make(number, spec, &cgroup, shared_pid, choices);
        if made.is_err() {
            let _ = cgroup.remove();
        }
        made
    }

    fn make(
        number: u64,
        spec: ContainerSpec,
        cgroup: &Cgroup,
        shared_pid: Option<BorrowedFd<'_>>,
        choices: Choices,
    ) -> Result<Self> {
        let terminal = spec.spec.process.as_ref().is_some_and(|process| process.terminal);
        let (mut streams, ends) = if terminal {
            (
                Streams::for_terminal(spec.log, spec.stdin_once)?,
                strata_runtime::Streams::Terminal,
            )
        } else {
            let (streams, ends) = Streams::pipes(spec.log, spec.stdin, spec.stdin_once)?;
            (streams, strata_runtime::Streams::Given(ends))
        };
        let filter = Filter::of(&spec.spec)?;
        let (gate, gate_write) = pipe_with(PipeFlags::CLOEXEC).context(|| "make a pipe")?;
        let mut created = strata_runtime::create(Creation {
            id: &spec.id,
            spec: &spec.spec,
            rootfs: spec.rootfs.as_ref(),
            bundle: &spec.bundle,
            cgroup,
            streams: ends,
            gate,
            filter: filter.as_ref(),
            shared_pid,
            preserve: 0,
            choices,
        })?;
        if let Some(master) = created.terminal.take() {
            streams.set_terminal(master, spec.stdin)?;
        }
        let pid = created.child.pid;
        let state = ContainerState {
            pid,
            pid_start: process::start_time(pid).context(|| "read the init's start time")?,
            created_at: time::now(),
            cgroup: cgroup.path().into(),
            terminal,
            ..ContainerState::default()
        };
        let mut container = Container {
            number,
            state,
            cgroup: cgroup.clone(),
            streams,
            memory: cgroup.watch_memory()?,
            spec: spec.spec,
            filter,
            id: spec.id,
            bundle: spec.bundle,
            created,
            gate: Some(gate_write),
            execs: BTreeMap::new(),
            oom_kills: 0,
            unit: String::new(),
        };
        // Done with: the kernel has them, and a shim should be small.
        container.spec.mounts = Vec::new();
        if let Some(linux) = &mut container.spec.linux {
            linux.seccomp = None;
        }
        Ok(container)
    }

    /// Opens the gate and waits until the program has begun; when.
    pub(super) fn start(&mut self) -> Result<u64> {
        let gate = match (self.state.status, self.gate.take()) {
            (Status::Created, Some(gate)) => gate,
            (Status::Stopped, _) => return Err(Error::State("the container has ended already".into())),
            _ => return Err(Error::State("the container is running already".into())),
        };
        file::write_all(&gate, b"0").context(|| "start the container")?;
        self.created.await_program()?;
        self.state.status = Status::Running;
        self.state.started_at = time::now();
        if self.spec.hooks.is_some()
            && let Err(error) = hooks::run_poststart(&self.spec, &self.oci_state("running"))
        {
            self.kill()?;
            return Err(error);
        }
        Ok(self.state.started_at)
    }

    fn oci_state(&self, status: &str) -> String {
        hooks::state_json(&self.spec, &self.id, status, self.state.pid, &self.bundle)
    }

    pub(super) fn is_running(&self) -> bool {
        self.state.status != Status::Stopped
    }

    pub(super) fn end(&mut self, exit: ExitStatus) {
        self.state.status = Status::Stopped;
        self.state.exit = Some(exit);
        self.state.pid = 0;
        self.state.paused = false;
        self.gate = None;
        self.memory = None;
    }

    /// Notes the end of one of the further processes: its name.
    pub(super) fn end_exec(&mut self, pid: i32, exit: ExitStatus) -> Option<String> {
        let (name, exec) = self
            .execs
            .iter_mut()
            .find(|(_, exec)| exec.pid == pid && exec.exit.is_none())?;
        exec.exit = Some(exit);
        let name = name.clone();
        let ended = self.execs.iter().filter(|(_, exec)| exec.exit.is_some());
        if ended.clone().count() > ENDED_LIMIT
            && let Some(oldest) = ended.min_by_key(|(_, exec)| exec.exit.map_or(0, |exit| exit.finished_at))
        {
            let oldest = oldest.0.clone();
            self.execs.remove(&oldest);
        }
        Some(name)
    }

    /// How a further process ended: `None` inside while it runs. Errors: there is none of that name.
    pub(super) fn exec_exit(&mut self, name: &str) -> Result<Option<ExitStatus>> {
        let exec = self
            .execs
            .get(name)
            .ok_or_else(|| Error::NotFound(alloc::format!("no process {name:?}")))?;
        let exit = exec.exit;
        if exit.is_some() {
            self.execs.remove(name);
        }
        Ok(exit)
    }

    /// Runs a further process: its pid and its terminal's master.
    pub(super) fn exec(&mut self, spec: ExecSpec, given: Vec<OwnedFd>) -> Result<(i32, Option<OwnedFd>)> {
        if self.state.status != Status::Running {
            return Err(Error::State("the container is not running".into()));
        }
        if self.execs.contains_key(&spec.id) {
            return Err(Error::Exists(alloc::format!(
                "the container has a process {:?} already",
                spec.id
            )));
        }
        let process = self.complete(&spec);
        let streams = if process.terminal {
            strata_runtime::Streams::Terminal
        } else {
            strata_runtime::Streams::Given(exec_streams(&spec, given)?)
        };
        let mut created = strata_runtime::execute(Execution {
            init: self.created.child.pidfd.as_fd(),
            spec: &self.spec,
            filter: self.filter.as_ref(),
            process: &process,
            cgroup: &self.cgroup,
            streams,
            preserve: 0,
            state: &self.oci_state("running"),
            no_new_keyring: false,
        })?;
        let (pid, terminal) = (created.child.pid, created.terminal.take());
        self.execs.insert(
            spec.id,
            Exec {
                pid,
                pidfd: created.child.pidfd,
                exit: None,
            },
        );
        Ok((pid, terminal))
    }

    /// The process as it was asked for; a caller that wants it to be like the container's own says how it differs.
    fn complete(&self, spec: &ExecSpec) -> Process {
        let asked = spec.process.clone();
        let Some(own) = self.spec.process.as_ref().filter(|_| spec.inherit) else {
            return asked;
        };
        let mut process = Process {
            terminal: asked.terminal,
            console_size: asked.console_size,
            args: asked.args,
            ..own.clone()
        };
        process.env.extend(asked.env);
        if !asked.user.username.is_empty() {
            process.user = asked.user;
        }
        if asked.capabilities.is_some() {
            // With all of them it is not confined either, as in docker.
            process.apparmor_profile = asked.apparmor_profile;
            process.capabilities = asked.capabilities;
        }
        if !asked.cwd.is_empty() {
            process.cwd = asked.cwd;
        }
        process
    }

    /// Changes its limits.
    pub(super) fn update(&self, resources: &Resources) -> Result<()> {
        if !self.unit.is_empty() {
            systemd::update(&self.unit, resources, self.cgroup.layout())?;
        }
        self.cgroup.apply(resources)
    }

    pub(super) fn signal(&self, exec: Option<&str>, number: i32, all: bool) -> Result<()> {
        if all {
            return self.cgroup.signal_all(number);
        }
        let pidfd = match exec {
            None => &self.created.child.pidfd,
            Some(name) => {
                let exec = self.execs.get(name);
                &exec
                    .ok_or_else(|| Error::NotFound(alloc::format!("no process {name:?}")))?
                    .pidfd
            }
        };
        match process::signal(pidfd, number) {
            Ok(()) | Err(strata_sys::Errno::SRCH) => Ok(()),
            Err(errno) => Err(Error::System {
                what: "signal the container".into(),
                errno,
            }),
        }
    }

    pub(super) fn freeze(&mut self, frozen: bool) -> Result<()> {
        if !self.is_running() {
            return Err(Error::State("the container is not running".into()));
        }
        self.cgroup.freeze(frozen)?;
        self.state.paused = frozen;
        Ok(())
    }

    /// Kills it, frozen or not.
    pub(super) fn kill(&mut self) -> Result<()> {
        if self.state.paused {
            self.freeze(false)?;
        }
        self.signal(None, libc::SIGKILL, false)
    }

    pub(super) fn pidfd(&self) -> BorrowedFd<'_> {
        self.created.child.pidfd.as_fd()
    }

    /// Removes what is left of an ended container.
    pub(super) fn remove(&self) -> Result<()> {
        self.cgroup.signal_all(libc::SIGKILL)?;
        self.cgroup.remove()?;
        if !self.unit.is_empty() {
            systemd::stop(&self.unit)?;
        }
        if let Some(list) = &self.spec.hooks {
            // runtime.md#lifecycle, step 13: a failure changes nothing.
            let _ = hooks::run_all("poststop", &list.poststop, &self.oci_state("stopped"));
        }
        Ok(())
    }

    /// Takes note of the memory watch; whether something was killed since.
    pub(super) fn read_memory_watch(&mut self) -> bool {
        let Some(watch) = &self.memory else { return false };
        let mut buffer = [0; 256];
        // Reading is what makes it quiet again.
        let _ = if watch.priority {
            rustix::io::pread(&watch.descriptor, &mut buffer, 0)
        } else {
            rustix::io::read(&watch.descriptor, &mut buffer)
        };
        let kills = self.cgroup.oom_kills();
        let more = kills > self.oom_kills;
        self.oom_kills = kills;
        more
    }
}

/// The standard streams of a further process: given descriptors, /dev/null for the others.
fn exec_streams(spec: &ExecSpec, given: Vec<OwnedFd>) -> Result<[OwnedFd; 3]> {
    let mut given = given.into_iter();
    let mut next = |wanted: bool| -> Result<OwnedFd> {
        if wanted {
            return given
                .next()
                .ok_or_else(|| Error::Invalid("a standard stream's descriptor is missing".into()));
        }
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        rustix::fs::open("/dev/null", flags, Mode::empty()).context(|| "open /dev/null")
    };
    Ok([next(spec.stdin)?, next(spec.stdout)?, next(spec.stderr)?])
}
