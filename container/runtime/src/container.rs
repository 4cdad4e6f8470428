//! Making a container's first process and further ones, from outside.

use crate::cgroup::Cgroup;
use crate::channel::{Channel, Word};
use crate::error::{Context, Error, Result};
use crate::init::{self, Further, Init, Streams, Target};
use crate::namespaces::{Plan, flag};
use crate::root::Entering;
use crate::seccomp::Filter;
use crate::sources;
use crate::spec::{Linux, NamespaceKind, Process, Resources, Rootfs, Spec};
use crate::{hooks, label, net_devices, program};
use alloc::{format, string::String};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use strata_sys::process::{self, Child, Fork, ForkOptions};
use strata_sys::{Errno, file};

/// A container to make.
#[derive(Debug)]
pub struct Creation<'a> {
    /// Name, told to hooks.
    pub id: &'a str,
    /// Configuration.
    pub spec: &'a Spec,
    /// Root file system; `None` takes `spec.root`.
    pub rootfs: Option<&'a Rootfs>,
    /// Where relative paths start.
    pub bundle: &'a str,
    /// Its cgroup, made already.
    pub cgroup: &'a Cgroup,
    /// Standard streams.
    pub streams: Streams,
    /// The program begins once a byte can be read here.
    pub gate: OwnedFd,
    /// Its system call filter, from [`Filter::of`].
    pub filter: Option<&'a Filter>,
    /// Use this pid namespace where the configuration asks for a new one.
    pub shared_pid: Option<BorrowedFd<'a>>,
    /// How many descriptors from 3 on the program inherits.
    pub preserve: u32,
    /// Settings that only the command line has.
    pub choices: Choices,
}

/// What few callers choose otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub struct Choices {
    /// Do not pivot; ignored without a mount namespace of its own.
    pub no_pivot: bool,
    /// Keep the caller's session keyring.
    pub no_new_keyring: bool,
}

/// A process that has been made.
#[derive(Debug)]
pub struct Created {
    /// Its id and pidfd.
    pub child: Child,
    /// Master of its terminal.
    pub terminal: Option<OwnedFd>,
    /// To a process that is being set up.
    channel: Option<Channel>,
}

impl Created {
    /// A process that others have made and that runs already.
    pub fn begun(child: Child, terminal: Option<OwnedFd>) -> Self {
        Created {
            child,
            terminal,
            channel: None,
        }
    }

    /// Waits until the program has begun, after the gate was opened. Errors: why it could not.
    pub fn await_program(&self) -> Result<()> {
        let Some(channel) = &self.channel else { return Ok(()) };
        match channel.hear()? {
            None => Ok(()),
            Some((Word::Failed(error), _)) => Err(error),
            Some(_) => Err(Error::State("the container's init said something unexpected".into())),
        }
    }
}

/// Makes a container's namespaces, root and first process, which then waits at the gate.
///
/// The calling process must have one thread. Errors leave no process behind; the cgroup is the caller's.
pub fn create(creation: Creation<'_>) -> Result<Created> {
    let spec = creation.spec;
    let target_process = check(spec)?;
    let linux = spec.linux.as_ref();
    let default_root;
    let rootfs = match creation.rootfs {
        Some(rootfs) => rootfs,
        None => {
            default_root = Rootfs::Path(root_path(spec, creation.bundle)?);
            &default_root
        }
    };
    let plan = Plan::new(linux, creation.shared_pid)?;
    check_namespaces(spec, &plan)?;
    let entering = entering(linux, &plan, creation.choices)?;
    let entry = creation.cgroup.entry()?;
    let resources = linux.and_then(|linux| linux.resources.as_ref());
    if let Some(resources) = resources {
        creation.cgroup.restrict_devices(resources)?;
        creation.cgroup.apply(&before_entering(resources))?;
    }
    let mapped = sources::open_mapped(spec, creation.bundle, &plan)?;
    let listener = creation.filter.map_or(Ok(None), Filter::connect)?;
    let (ours, theirs) = Channel::pair()?;
    let init = Init {
        id: creation.id,
        spec,
        rootfs,
        bundle: creation.bundle,
        cgroup: creation.cgroup,
        entry: &entry,
        plan: &plan,
        gate: creation.gate.as_fd(),
        entering,
        mapped: &mapped,
        target: Target {
            process: target_process,
            linux,
            filter: creation.filter,
            listener: listener.as_ref(),
            keyring: !creation.choices.no_new_keyring,
            streams: &creation.streams,
            preserve: creation.preserve,
            profile: label::profile(target_process),
        },
    };
    // Without a namespace of its own what the container mounts is to be taken away again.
    let before = (entering == Entering::Chroot).then(|| top_mount(rootfs.target()));
    let child = fork_init(&init, &ours, &theirs)?;
    drop(theirs);
    let outcome = guard(child, ours, |created, channel| {
        set_up(created, channel, &creation, &plan, target_process)
    });
    if outcome.is_err() && before.is_some_and(|before| before != top_mount(rootfs.target())) {
        leave_root(rootfs.target());
    }
    outcome
}

/// Does from outside what the init cannot do itself, until it waits at the gate.
fn set_up(
    created: &mut Created,
    channel: &Channel,
    creation: &Creation<'_>,
    plan: &Plan,
    process: &Process,
) -> Result<()> {
    if plan.makes(NamespaceKind::User) {
        plan.map_ids(created.child.pid)?;
        channel.say(&Word::Go, &[])?;
    }
    let linux = creation.spec.linux.as_ref();
    if let Some(resources) = linux.and_then(|linux| linux.resources.as_ref()) {
        creation.cgroup.apply(resources)?;
    }
    adjust_oom_score(created.child.pid, process)?;
    await_ready(created, channel, creation)
}

/// Errors: something is asked for that needs a namespace of the container's own.
fn check_namespaces(spec: &Spec, plan: &Plan) -> Result<()> {
    if !spec.hostname.is_empty() && !plan.has(NamespaceKind::Uts) {
        return Err(Error::Invalid(
            "unable to set hostname without a private UTS namespace".into(),
        ));
    }
    match &spec.linux {
        Some(linux) => net_devices::check(&linux.net_devices, plan.has(NamespaceKind::Network)),
        None => Ok(()),
    }
}

/// How the new root is entered. Errors: what cannot be done to the caller's own mounts.
fn entering(linux: Option<&Linux>, plan: &Plan, choices: Choices) -> Result<Entering> {
    if plan.has(NamespaceKind::Mount) {
        return Ok(if choices.no_pivot {
            Entering::Move
        } else {
            Entering::Pivot
        });
    }
    let protects = |linux: &Linux| !linux.masked_paths.is_empty() || !linux.readonly_paths.is_empty();
    if linux.is_some_and(protects) {
        return Err(Error::Invalid(
            "unable to restrict sys entries without a private MNT namespace".into(),
        ));
    }
    if plan.has(NamespaceKind::User) {
        return Err(Error::Invalid(
            "a container with a user namespace needs a mount namespace of its own".into(),
        ));
    }
    Ok(Entering::Chroot)
}

/// Takes away the mounts of a container without a mount namespace of its own.
pub fn leave_root(target: &str) {
    let _ = rustix::mount::unmount(target, rustix::mount::UnmountFlags::DETACH);
}

/// The topmost mount at a directory.
fn top_mount(path: &str) -> Option<u64> {
    use rustix::fs::{AtFlags, CWD, StatxFlags};
    let status = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID).ok()?;
    Some(status.stx_mnt_id)
}

/// A process of the container's init: forked directly, or by a process in between.
fn fork_init(init: &Init<'_>, ours: &Channel, theirs: &Channel) -> Result<Child> {
    let plan = init.plan;
    let birth_place = init.entry.birth_place();
    if !plan.needs_intermediate() {
        // SAFETY: runtime processes have one thread.
        return match unsafe { plan.fork(birth_place) }? {
            Some(child) => Ok(child),
            None => init::run(theirs, || init.become_program(theirs)),
        };
    }
    // SAFETY: runtime processes have one thread.
    let between = match unsafe { process::fork(ForkOptions::default()) }.context(|| "clone3")? {
        Fork::Parent(child) => child,
        Fork::Child => init::run(theirs, || {
            // SAFETY: as above.
            match unsafe { plan.fork_sibling(birth_place) }? {
                None => init.become_program(theirs),
                Some(child) => {
                    theirs.say(&Word::Process(child.pid), &[child.pidfd.as_fd()])?;
                    process::exit(0)
                }
            }
        }),
    };
    await_process(ours, &between)
}

/// Runs `f`; when it fails, so does the process.
fn guard(child: Child, channel: Channel, f: impl FnOnce(&mut Created, &Channel) -> Result<()>) -> Result<Created> {
    let mut created = Created::begun(child, None);
    match f(&mut created, &channel) {
        Ok(()) => {
            created.channel = Some(channel);
            Ok(created)
        }
        Err(error) => {
            let _ = process::signal(&created.child.pidfd, libc::SIGKILL);
            let _ = process::reap(created.child.pid);
            Err(error)
        }
    }
}

fn await_ready(created: &mut Created, channel: &Channel, creation: &Creation<'_>) -> Result<()> {
    loop {
        match channel.hear()? {
            Some((Word::Ready, _)) => return Ok(()),
            Some((Word::Terminal, mut descriptors)) if descriptors.len() == 1 => created.terminal = descriptors.pop(),
            Some((Word::Links, mut descriptors)) if descriptors.len() == 1 => {
                let devices = creation.spec.linux.iter().flat_map(|linux| &linux.net_devices);
                net_devices::move_all(devices, &descriptors.remove(0))?;
                channel.say(&Word::Go, &[])?;
            }
            Some((Word::Hooks, _)) => {
                run_runtime_hooks(creation, created.child.pid)?;
                channel.say(&Word::Go, &[])?;
            }
            Some((Word::Failed(error), _)) => return Err(error),
            Some(_) => return Err(Error::State("the container's init said something unexpected".into())),
            None => {
                return Err(Error::State(
                    "the container's init ended while it was being set up".into(),
                ));
            }
        }
    }
}

fn run_runtime_hooks(creation: &Creation<'_>, pid: i32) -> Result<()> {
    let Some(hooks) = &creation.spec.hooks else {
        return Ok(());
    };
    let state = hooks::state_json(creation.spec, creation.id, "creating", pid, creation.bundle);
    hooks::run("prestart", &hooks.prestart, &state)?;
    hooks::run("createRuntime", &hooks.create_runtime, &state)
}

/// A further process for a container.
#[derive(Debug)]
pub struct Execution<'a> {
    /// A pidfd of the container's init.
    pub init: BorrowedFd<'a>,
    /// The container's configuration: which namespaces it has.
    pub spec: &'a Spec,
    /// Its system call filter.
    pub filter: Option<&'a Filter>,
    /// What to run.
    pub process: &'a Process,
    /// The container's cgroup.
    pub cgroup: &'a Cgroup,
    /// Standard streams.
    pub streams: Streams,
    /// How many descriptors from 3 on the program inherits.
    pub preserve: u32,
    /// The container's state as JSON, for who decides about notified system calls; may be empty without.
    pub state: &'a str,
    /// Keep the caller's session keyring.
    pub no_new_keyring: bool,
}

/// Runs a further process in a container. Returns once the program has begun.
///
/// The calling process must have one thread. Errors leave no process behind.
pub fn execute(execution: Execution<'_>) -> Result<Created> {
    let linux = execution.spec.linux.as_ref();
    check_process(execution.process, linux)?;
    let entry = execution.cgroup.entry()?;
    let listener = execution.filter.map_or(Ok(None), Filter::connect)?;
    let (namespaces, root) = to_join(linux, execution.init)?;
    let (ours, theirs) = Channel::pair()?;
    let further = Further {
        init: execution.init,
        namespaces,
        root,
        entry: &entry,
        version: &execution.spec.oci_version,
        state: if execution.state.is_empty() {
            "null"
        } else {
            execution.state
        },
        target: Target {
            process: execution.process,
            linux,
            filter: execution.filter,
            listener: listener.as_ref(),
            keyring: !execution.no_new_keyring,
            streams: &execution.streams,
            preserve: execution.preserve,
            profile: label::profile(execution.process),
        },
    };
    let child = fork_further(&further, &ours, &theirs)?;
    drop(theirs);
    guard(child, ours, |created, channel| {
        if listener.is_some() {
            // Inside it cannot know which process it is outside.
            channel.say(&Word::Process(created.child.pid), &[])?;
        }
        adjust_oom_score(created.child.pid, execution.process)?;
        loop {
            match channel.hear()? {
                None => return Ok(()),
                Some((Word::Terminal, mut descriptors)) if descriptors.len() == 1 => {
                    created.terminal = descriptors.pop();
                }
                Some((Word::Failed(error), _)) => return Err(error),
                Some(_) => return Err(Error::State("the process said something unexpected".into())),
            }
        }
    })
}

/// Which of the init's namespaces a further process joins, and its root directory where these do not lead there.
fn to_join(linux: Option<&Linux>, init: BorrowedFd<'_>) -> Result<(u64, Option<OwnedFd>)> {
    let lists = |kind| linux.is_some_and(|linux| linux.namespaces.iter().any(|entry| entry.kind == kind));
    let pid = || process::of_pidfd(init).context(|| "find the container's init");
    let (mut namespaces, mut root) = (0, None);
    if linux.is_none() || lists(NamespaceKind::Mount) {
        namespaces |= flag(NamespaceKind::Mount);
    } else {
        let path = format!("/proc/{}/root", pid()?);
        root = Some(file::open_directory(&*path).context(|| "open the container's root")?);
    }
    for kind in [
        NamespaceKind::Pid,
        NamespaceKind::Network,
        NamespaceKind::Ipc,
        NamespaceKind::Uts,
        NamespaceKind::Cgroup,
    ] {
        // Without privileges only those of the own user namespace can be joined; the others are shared anyway.
        if rustix::process::geteuid().is_root() || lists(kind) {
            namespaces |= flag(kind);
        }
    }
    // A restored container has clocks of its own, whatever its configuration says.
    if lists(NamespaceKind::Time) || has_own_clocks(pid()?) {
        namespaces |= flag(NamespaceKind::Time);
    }
    // The own user namespace cannot be joined again.
    if lists(NamespaceKind::User) {
        namespaces |= flag(NamespaceKind::User);
    }
    Ok((namespaces, root))
}

/// Whether a process is in another time namespace than this one. Who may not look has none to join.
fn has_own_clocks(pid: i32) -> bool {
    use rustix::fs::{AtFlags, CWD};
    let inode = |path: &str| rustix::fs::statat(CWD, path, AtFlags::empty()).map(|stat| stat.st_ino);
    match (inode("/proc/self/ns/time"), inode(&format!("/proc/{pid}/ns/time"))) {
        (Ok(own), Ok(other)) => own != other,
        _ => false,
    }
}

/// A further process. The one that joins the namespaces is never seen in them: what it still has of the host is out of
/// reach even of who may look into every process of the container.
fn fork_further(further: &Further<'_>, ours: &Channel, theirs: &Channel) -> Result<Child> {
    let options = ForkOptions {
        flags: 0,
        cgroup: further.entry.birth_place(),
    };
    // SAFETY: runtime processes have one thread.
    let between = match unsafe { process::fork(options) }.context(|| "clone3")? {
        Fork::Parent(child) => child,
        Fork::Child => init::run(theirs, || {
            further.join(theirs)?;
            let options = ForkOptions {
                flags: libc::CLONE_PARENT as u64,
                cgroup: None,
            };
            // SAFETY: as above.
            match unsafe { process::fork(options) }.context(|| "clone3")? {
                Fork::Child => further.become_program(theirs),
                Fork::Parent(child) => {
                    theirs.say(&Word::Process(child.pid), &[child.pidfd.as_fd()])?;
                    process::exit(0)
                }
            }
        }),
    };
    await_process(ours, &between)
}

/// The process that the one in between has made, which ends.
fn await_process(ours: &Channel, between: &Child) -> Result<Child> {
    let word = ours.hear();
    process::reap(between.pid).context(|| "wait for a process")?;
    match word? {
        Some((Word::Process(pid), mut descriptors)) if descriptors.len() == 1 => Ok(Child {
            pid,
            pidfd: descriptors.remove(0),
        }),
        Some((Word::Failed(error), _)) => Err(error),
        _ => Err(Error::State("the container's process could not be made".into())),
    }
}

fn check(spec: &Spec) -> Result<&Process> {
    let process = spec
        .process
        .as_ref()
        .ok_or_else(|| Error::Invalid("process property must not be empty".into()))?;
    let linux = spec.linux.as_ref();
    check_process(process, linux)?;
    if linux.is_some_and(|linux| linux.intel_rdt.is_some()) {
        return Err(Error::Invalid("linux.intelRdt is not supported".into()));
    }
    Ok(process)
}

fn check_process(process: &Process, linux: Option<&Linux>) -> Result<()> {
    if process.args.is_empty() {
        return Err(Error::Invalid("args must not be empty".into()));
    }
    if !process.cwd.starts_with('/') {
        return Err(Error::Invalid("Cwd must be an absolute path".into()));
    }
    program::check_environment(&process.env)?;
    label::check(process, linux)
}

fn root_path(spec: &Spec, bundle: &str) -> Result<String> {
    let root = spec.root.as_ref().filter(|root| !root.path.is_empty());
    let root = root.ok_or_else(|| Error::Invalid("root path must not be empty".into()))?;
    Ok(if root.path.starts_with('/') {
        root.path.clone()
    } else {
        format!("{bundle}/{}", root.path)
    })
}

/// The limits that must hold before a process enters; the others are set while it sets itself up.
fn before_entering(resources: &Resources) -> Resources {
    let cpuset = resources.cpu.as_ref().map(|cpu| crate::spec::Cpu {
        cpus: cpu.cpus.clone(),
        mems: cpu.mems.clone(),
        ..crate::spec::Cpu::default()
    });
    Resources {
        cpu: cpuset,
        ..Resources::default()
    }
}

fn adjust_oom_score(pid: i32, process: &Process) -> Result<()> {
    let Some(adjustment) = process.oom_score_adj else {
        return Ok(());
    };
    match file::write(
        &*format!("/proc/{pid}/oom_score_adj"),
        format!("{adjustment}").as_bytes(),
    ) {
        Ok(()) => Ok(()),
        // Lowering takes CAP_SYS_RESOURCE, which a nested node may lack: the container is as likely to be
        // chosen as its parent then.
        Err(Errno::ACCESS | Errno::PERM) if adjustment < 1000 => Ok(()),
        // It has ended already; whoever waits for it will say why.
        Err(Errno::SRCH | Errno::NOENT) => Ok(()),
        Err(errno) => Err(Error::System {
            what: format!("set oom_score_adj to {adjustment}"),
            errno,
        }),
    }
}
