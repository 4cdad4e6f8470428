//! What a new process does before it becomes the container's program.

use crate::cgroup::{Cgroup, Entry};
use crate::channel::{Channel, Word};
use crate::error::{Context, Error, Result};
use crate::namespaces::Plan;
use crate::root::{self, Entering, NewRoot};
use crate::seccomp::{Filter, Listener};
use crate::spec::{Linux, NamespaceKind, Process, Rootfs, Spec};
use crate::user::{self, Identity};
use crate::{devices, hooks, label, program, rootless, scheduling, sources};
use alloc::{ffi::CString, format, string::String, vec::Vec};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode};
use strata_sys::{Errno, capability, file, mount, namespace, process, signal, terminal};

/// Standard streams of a new process.
#[derive(Debug)]
pub enum Streams {
    /// Those of the caller.
    Inherit,
    /// These: input, output, error.
    Given([OwnedFd; 3]),
    /// A pseudo terminal, whose master the caller gets.
    Terminal,
}

/// What the process is to become.
pub(crate) struct Target<'a> {
    pub(crate) process: &'a Process,
    pub(crate) linux: Option<&'a Linux>,
    pub(crate) filter: Option<&'a Filter>,
    /// Who decides about notified calls.
    pub(crate) listener: Option<&'a Listener>,
    /// Take a session keyring of its own.
    pub(crate) keyring: bool,
    pub(crate) streams: &'a Streams,
    /// Descriptors from 3 on that stay open.
    pub(crate) preserve: u32,
    /// AppArmor's, or empty.
    pub(crate) profile: &'a str,
}

/// A container's first process.
pub(crate) struct Init<'a> {
    pub(crate) id: &'a str,
    pub(crate) spec: &'a Spec,
    pub(crate) rootfs: &'a Rootfs,
    pub(crate) bundle: &'a str,
    pub(crate) cgroup: &'a Cgroup,
    pub(crate) entry: &'a Entry,
    pub(crate) plan: &'a Plan,
    pub(crate) gate: BorrowedFd<'a>,
    pub(crate) entering: Entering,
    /// Sources of mounts whose ids are mapped, by index.
    pub(crate) mapped: &'a [Option<OwnedFd>],
    pub(crate) target: Target<'a>,
}

/// A further process of a container.
pub(crate) struct Further<'a> {
    /// A pidfd of the container's init, and which of its namespaces to join.
    pub(crate) init: BorrowedFd<'a>,
    pub(crate) namespaces: u64,
    /// Its root directory, when the mount namespace alone does not lead there.
    pub(crate) root: Option<OwnedFd>,
    pub(crate) entry: &'a Entry,
    /// The container's state, and of which version of the specification: for who decides about notified calls.
    pub(crate) version: &'a str,
    pub(crate) state: &'a str,
    pub(crate) target: Target<'a>,
}

/// Runs `setup` in a new child, which ends here in any case.
pub(crate) fn run(channel: &Channel, setup: impl FnOnce() -> Result<core::convert::Infallible>) -> ! {
    let Err(error) = setup();
    if channel.say(&Word::Failed(error.clone()), &[]).is_err() {
        // Nobody listens any more: the command that made us has ended, and errors go where the
        // container's own would.
        let _ = file::write_all(strata_sys::stream::error(), format!("{error}\n").as_bytes());
    }
    process::exit(if matches!(error, Error::Command(_)) { 127 } else { 1 })
}

/// Gives up what the runtime process had of its own.
fn begin() -> Result<()> {
    signal::reset_all();
    signal::set_blocked(0).context(|| "reset the signal mask")?;
    rustix::process::umask(Mode::empty());
    Ok(())
}

/// Until exec, nobody in the container may look into this process, which still has the host's files open.
fn hide() -> Result<()> {
    process::set_dumpable(false).context(|| "prctl")
}

impl Init<'_> {
    pub(crate) fn become_program(&self, channel: &Channel) -> Result<core::convert::Infallible> {
        begin()?;
        let by_user = self.plan.makes(NamespaceKind::User) && !rustix::process::geteuid().is_root();
        if !by_user {
            hide()?;
        }
        let notice = self.target.listener.map(|listener| -> Result<String> {
            let pid = outer_pid()?;
            let state = hooks::state_json(self.spec, self.id, "creating", pid, self.bundle);
            Ok(listener.message(&self.spec.oci_version, pid, &state))
        });
        let notice = notice.transpose()?;
        if self.plan.makes(NamespaceKind::User) {
            // Before, the user who makes it could not map its ids.
            channel.await_go()?;
            hide()?;
        }
        if self.plan.has(NamespaceKind::User) {
            rootless::set_identity(0, 0, &[]).context(|| "become root of the user namespace")?;
        }
        self.entry.enter()?;
        self.plan.enter_rest()?;
        rustix::process::setsid()
            .map(drop)
            .or_else(|errno| if errno == Errno::PERM { Ok(()) } else { Err(errno) })
            .context(|| "setsid")?;
        self.target.join_keyring()?;
        if self
            .spec
            .linux
            .as_ref()
            .is_some_and(|linux| !linux.net_devices.is_empty())
        {
            let network = namespace::open_own("net").context(|| "open the network namespace")?;
            channel.say(&Word::Links, &[network.as_fd()])?;
            channel.await_go()?;
        }
        self.configure_namespaces()?;
        self.enter_root(channel)?;
        let prepared = self.target.prepare(channel, true, notice)?;
        // A container may wait here for long: whatever else the parent had open must not wait with it.
        let channel_number = channel.as_fd().as_raw_fd();
        let listener = self.target.listener.map(|listener| listener.socket.as_raw_fd());
        let mut keep = [
            self.gate.as_raw_fd(),
            channel_number,
            listener.unwrap_or(channel_number),
        ]
        .map(|fd| fd as u32);
        // SAFETY: from here on only the gate, the channel and the listener are used, until exec or exit.
        unsafe { process::close_except(3 + self.target.preserve, &mut keep) }.context(|| "close descriptors")?;
        channel.say(&Word::Ready, &[])?;
        self.await_gate()?;
        let hooks = self.spec.hooks.as_ref().map_or(&[][..], |hooks| &hooks.start_container);
        if !hooks.is_empty() {
            hooks::run("startContainer", hooks, &self.state("created"))?;
        }
        self.target.execute(&prepared)
    }

    /// Makes the root file system and enters it.
    fn enter_root(&self, channel: &Channel) -> Result<()> {
        let linux = self.spec.linux.as_ref();
        let sources = sources::open(self.spec, self.bundle, self.mapped)?;
        let root = NewRoot::assemble(self.spec, self.rootfs, sources, self.cgroup, self.entering)?;
        if root.owns_devices() {
            devices::make(root.directory(), linux.map_or(&[], |linux| &linux.devices))?;
        }
        // A read-only root without the directory fails at chdir, with the right message.
        let _ = file::make_in_root(root.directory(), &self.target.process.cwd, file::Missing::Directory);
        let null = mount::clone_tree(CWD, "/dev/null", false)
            .and_then(|null| mount::set_propagation(&null, mount::Propagation::Private, false).map(|()| null))
            .ok();
        self.run_hooks(channel)?;
        let readonly = self.spec.root.as_ref().is_some_and(|root| root.readonly);
        root.enter(readonly, self.entering)?;
        if let Some(linux) = linux {
            root::protect(linux, null)?;
        }
        Ok(())
    }

    fn configure_namespaces(&self) -> Result<()> {
        let spec = self.spec;
        if !spec.hostname.is_empty() {
            rustix::system::sethostname(spec.hostname.as_bytes()).context(|| "sethostname")?;
        }
        if !spec.domainname.is_empty() {
            rustix::system::setdomainname(spec.domainname.as_bytes()).context(|| "setdomainname")?;
        }
        if self.plan.makes(NamespaceKind::Network) {
            namespace::loopback_up().context(|| "set the loopback link up")?;
        }
        let sysctls = spec.linux.iter().flat_map(|linux| &linux.sysctl);
        for (name, value) in sysctls {
            set_sysctl(name, value)?;
        }
        Ok(())
    }

    fn state(&self, status: &str) -> String {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        hooks::state_json(self.spec, self.id, status, pid, self.bundle)
    }

    fn run_hooks(&self, channel: &Channel) -> Result<()> {
        let Some(hooks) = &self.spec.hooks else { return Ok(()) };
        if !hooks.prestart.is_empty() || !hooks.create_runtime.is_empty() {
            channel.say(&Word::Hooks, &[])?;
            channel.await_go()?;
        }
        if hooks.create_container.is_empty() {
            return Ok(());
        }
        hooks::run("createContainer", &hooks.create_container, &self.state("creating"))
    }

    /// Waits for one byte. The end of the gate means that the container was given up.
    fn await_gate(&self) -> Result<()> {
        let mut byte = [0; 1];
        loop {
            match rustix::io::read(self.gate, &mut byte) {
                Ok(1) => return Ok(()),
                Ok(_) => process::exit(137),
                Err(Errno::INTR) => {}
                Err(errno) => {
                    return Err(Error::System {
                        what: "wait for start".into(),
                        errno,
                    });
                }
            }
        }
    }
}

impl Further<'_> {
    /// In a process of its own: enters everything of the container, and keeps nothing but what the program needs.
    pub(crate) fn join(&self, channel: &Channel) -> Result<()> {
        begin()?;
        hide()?;
        let affinity = self.target.process.exec_cpu_affinity.as_ref();
        if let Some(affinity) = affinity {
            match scheduling::set_cpus(&affinity.initial) {
                // Born inside the cgroup, whose CPUs may be others.
                Err(Error::System { .. }) if self.entry.birth_place().is_some() => {}
                result => result?,
            }
        }
        self.entry.enter()?;
        if let Some(affinity) = affinity {
            scheduling::set_cpus(&affinity.last)?;
        }
        let mut keep = Vec::with_capacity(8);
        keep.push(channel.as_fd().as_raw_fd());
        keep.push(self.init.as_raw_fd());
        keep.extend(self.root.as_ref().map(AsRawFd::as_raw_fd));
        keep.extend(self.target.listener.map(|listener| listener.socket.as_raw_fd()));
        if let Streams::Given(streams) = self.target.streams {
            keep.extend(streams.iter().map(AsRawFd::as_raw_fd));
        }
        let mut keep: Vec<u32> = keep.into_iter().map(|number| number as u32).collect();
        // SAFETY: from here on nothing else is used, until exec or exit.
        unsafe { process::close_except(3 + self.target.preserve, &mut keep) }.context(|| "close descriptors")?;
        namespace::join(self.init, self.namespaces).context(|| "join the container's namespaces")?;
        if let Some(root) = &self.root {
            mount::change_root(root).context(|| "enter the container's root")?;
        }
        Ok(())
    }

    /// In the process that it has made.
    pub(crate) fn become_program(&self, channel: &Channel) -> Result<core::convert::Infallible> {
        hide()?;
        let notice = match self.target.listener {
            Some(listener) => Some(listener.message(self.version, channel.await_pid()?, self.state)),
            None => None,
        };
        if self.namespaces & libc::CLONE_NEWUSER as u64 != 0 {
            rootless::set_identity(0, 0, &[]).context(|| "become root of the user namespace")?;
        }
        rustix::process::setsid().context(|| "setsid")?;
        self.target.join_keyring()?;
        let prepared = self.target.prepare(channel, false, notice)?;
        self.target.execute(&prepared)
    }
}

/// Ready for exec.
struct Prepared {
    program: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    /// Effective, permitted and inheritable capabilities that the program gets.
    last: [capability::Set; 3],
    /// What to tell who decides about notified calls.
    notice: Option<String>,
}

/// The own process id as the host's /proc tells it; to be called before the container's is entered.
fn outer_pid() -> Result<i32> {
    let link = rustix::fs::readlink("/proc/self", Vec::new()).context(|| "read /proc/self")?;
    let pid = link.to_str().ok().and_then(|text| text.parse().ok());
    pid.ok_or_else(|| Error::State("/proc/self is no process id".into()))
}

impl Target<'_> {
    /// Everything after the root is entered, up to exec.
    fn prepare(&self, channel: &Channel, console: bool, notice: Option<String>) -> Result<Prepared> {
        let process = self.process;
        self.connect_streams(channel, console)?;
        devices::reopen_null();
        scheduling::apply(process, self.linux)?;
        let identity = user::resolve(&process.user)?;
        own_streams(&identity);
        label::confine(self.profile)?;
        // Some can only be entered as root, others (on a file server) only as the user.
        let entered = enter_directory(&process.cwd);
        let last = self.drop_privileges(&identity)?;
        if entered.is_err() {
            enter_directory(&process.cwd)?;
        }
        rustix::process::umask(Mode::from_raw_mode(process.user.umask.unwrap_or(0o022)));
        let environment = program::environment(&process.env, &identity.home);
        let name = process.args.first().map_or("", String::as_str);
        let program = program::find(name, &environment)?;
        Ok(Prepared {
            program,
            arguments: program::c_strings(&process.args)?,
            environment: program::c_strings(&environment)?,
            last,
            notice,
        })
    }

    fn join_keyring(&self) -> Result<()> {
        if self.keyring {
            process::new_session_keyring(c"strata").context(|| "make a session keyring")?;
        }
        Ok(())
    }

    /// Installs the filter; who decides about notified calls gets its descriptor at once.
    fn install(&self, filter: &Filter, notice: Option<&str>) -> Result<()> {
        let listener = filter.install()?;
        match (self.listener, notice, listener) {
            (Some(connection), Some(notice), Some(listener)) => connection
                .send(notice, &listener)
                .context(|| "hand the seccomp listener over"),
            _ => Ok(()),
        }
    }

    fn execute(&self, prepared: &Prepared) -> Result<core::convert::Infallible> {
        process::close_on_exec_from(3 + self.preserve).context(|| "close descriptors")?;
        let [effective, permitted, inheritable] = prepared.last;
        if self.process.no_new_privileges {
            process::control(libc::PR_SET_NO_NEW_PRIVS, 1).context(|| "set no_new_privs")?;
            self.filter
                .map_or(Ok(()), |filter| self.install(filter, prepared.notice.as_deref()))?;
        } else if let Some(filter) = self.filter {
            // Without no_new_privs a filter needs CAP_SYS_ADMIN. From here on the filter decides about our own
            // calls too, so nothing is left to do but to give the capability up.
            let raised = effective | INSTALLER;
            capability::set(raised, permitted | INSTALLER, inheritable).context(|| "set capabilities")?;
            self.install(filter, prepared.notice.as_deref())?;
            capability::set(effective, permitted, inheritable).context(|| "set capabilities")?;
        }
        let errno = process::execute(&prepared.program, &prepared.arguments, &prepared.environment);
        let name = self.process.args.first().map_or("", String::as_str);
        Err(Error::Command(format!("exec {name}: {}", strata_sys::describe(errno))))
    }

    fn connect_streams(&self, channel: &Channel, console: bool) -> Result<()> {
        let what = || "connect the standard streams";
        match self.streams {
            Streams::Inherit => {}
            Streams::Given([input, output, error]) => connect(input, output, error).context(what)?,
            Streams::Terminal => {
                let (master, slave) = terminal::open().context(|| "open a terminal")?;
                if let Some(size) = self.process.console_size {
                    terminal::resize(&master, size.height, size.width).context(|| "set the terminal's size")?;
                }
                if console {
                    devices::make_console(&master, &slave)?;
                }
                channel.say(&Word::Terminal, &[master.as_fd()])?;
                drop(master);
                connect(&slave, &slave, &slave).context(what)?;
                terminal::take_control(&slave).context(|| "take control of the terminal")?;
            }
        }
        Ok(())
    }

    /// Becomes the user, with the capabilities wanted and the one that installs the filter: those to end with.
    fn drop_privileges(&self, identity: &Identity) -> Result<[capability::Set; 3]> {
        let process = self.process;
        // What this process lacks it cannot give away: a container in a restricted environment gets what there is.
        let available = capability::get().context(|| "capget")?.1;
        let set = |names: &[String]| {
            names
                .iter()
                .filter_map(|name| capability::parse(name))
                .fold(0, |a, b| a | b)
                & available
        };
        let empty = crate::spec::Capabilities::default();
        let wanted = process.capabilities.as_ref().unwrap_or(&empty);
        capability::limit_bounding(set(&wanted.bounding)).context(|| "drop capabilities from the bounding set")?;
        process::control(libc::PR_SET_KEEPCAPS, 1).context(|| "prctl")?;
        rootless::set_identity(identity.uid, identity.gid, &identity.groups)
            .context(|| format!("become user {} and group {}", identity.uid, identity.gid))?;
        process::control(libc::PR_SET_KEEPCAPS, 0).context(|| "prctl")?;
        let (permitted, inheritable) = (set(&wanted.permitted), set(&wanted.inheritable));
        let effective = set(&wanted.effective) & permitted;
        let kept = if process.no_new_privileges || self.filter.is_none() {
            0
        } else {
            INSTALLER & available
        };
        capability::set(effective, permitted | kept, inheritable).context(|| "set capabilities")?;
        capability::set_ambient(set(&wanted.ambient) & permitted & inheritable)
            .context(|| "set ambient capabilities")?;
        // Changing the user made the process dumpable or not according to a setting; it must not be.
        process::set_dumpable(false).context(|| "prctl")?;
        Ok([effective, permitted, inheritable])
    }
}

/// CAP_SYS_ADMIN, which installs a filter without no_new_privs.
const INSTALLER: capability::Set = 1 << 21;

fn connect(input: impl AsFd, output: impl AsFd, error: impl AsFd) -> strata_sys::Result<()> {
    rustix::stdio::dup2_stdin(input)?;
    rustix::stdio::dup2_stdout(output)?;
    rustix::stdio::dup2_stderr(error)
}

/// Lets the user open /dev/stdin and the like: pipes and terminals belong to whoever made them.
fn own_streams(identity: &Identity) {
    if identity.uid == 0 {
        return;
    }
    for number in 0..3 {
        let owner = rustix::fs::Uid::from_raw(identity.uid);
        // SAFETY: the standard streams stay open.
        let stream = unsafe { BorrowedFd::borrow_raw(number) };
        let Ok(stat) = rustix::fs::fstat(stream) else { continue };
        // Only what is the container's own: never a device that others use.
        let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
        let own_terminal = kind == rustix::fs::FileType::CharacterDevice && rustix::fs::major(stat.st_rdev) == 136;
        if kind == rustix::fs::FileType::Fifo || own_terminal {
            let _ = rustix::fs::fchown(stream, Some(owner), None);
        }
    }
}

fn enter_directory(directory: &str) -> Result<()> {
    let directory = if directory.is_empty() { "/" } else { directory };
    let failed = |why: &str| Error::Command(format!("chdir to cwd ({directory:?}) set in config.json failed: {why}"));
    rustix::process::chdir(directory).map_err(|errno| failed(strata_sys::describe(errno)))?;
    // A path through /proc may have led to a descriptor of the host's: the kernel then calls where we are unreachable.
    let here = rustix::process::getcwd(Vec::new()).map_err(|errno| failed(strata_sys::describe(errno)))?;
    if !here.to_bytes().starts_with(b"/") {
        rustix::process::chdir("/").map_err(|errno| failed(strata_sys::describe(errno)))?;
        return Err(failed("it is outside of the container's root"));
    }
    Ok(())
}

/// Writes a kernel parameter; dots separate, and slashes may stand for dots inside a component.
pub fn set_sysctl(name: &str, value: &str) -> Result<()> {
    let path = if name.contains('/') {
        name.into()
    } else {
        name.replace('.', "/")
    };
    if path
        .split('/')
        .any(|part| part.is_empty() || part == "." || part == "..")
    {
        return Err(Error::Invalid(format!("bad sysctl {name:?}")));
    }
    file::write(&*format!("/proc/sys/{path}"), value.as_bytes()).context(|| format!("set sysctl {name} to {value}"))
}
