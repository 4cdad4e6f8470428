//! The namespaces that a sandbox's containers share. The shim itself lives in them; only a shared pid
//! namespace needs a process of its own.

use crate::protocol::SandboxSpec;
use alloc::format;
use rustix::fd::OwnedFd;
use strata_runtime::cgroup::{Cgroup, Entry, Layout};
use strata_runtime::spec::NamespaceKind;
use strata_runtime::{Context, Error, Result, namespace_flag, set_sysctl};
use strata_sys::process::{self, Child, Fork, ForkOptions};
use strata_sys::{namespace, signal};

pub(super) struct Sandbox {
    /// First process of the shared pid namespace, and the namespace.
    pub(super) init: Option<(Child, OwnedFd)>,
    /// The user namespace that all the others belong to, if it is not the machine's.
    pub(super) users: Option<OwnedFd>,
    pub(super) has_network: bool,
    pub(super) cgroup: Option<Cgroup>,
}

impl Sandbox {
    pub(super) fn create(spec: &SandboxSpec, layout: &Layout) -> Result<Self> {
        let mut new = 0;
        for (wanted, kind) in [
            (spec.network && spec.network_path.is_none(), NamespaceKind::Network),
            (spec.ipc, NamespaceKind::Ipc),
            (spec.uts, NamespaceKind::Uts),
        ] {
            if wanted {
                new |= namespace_flag(kind);
            }
        }
        if !spec.hostname.is_empty() && !spec.uts {
            return Err(Error::Invalid("a host name needs a UTS namespace of its own".into()));
        }
        let users = if spec.uid_mappings.is_empty() {
            namespace::unshare(new).context(|| "make the sandbox's namespaces")?;
            None
        } else {
            Some(super::users::make(spec, new)?)
        };
        if let Some(path) = &spec.network_path {
            let opened = namespace::open(path).context(|| format!("open {path}"))?;
            namespace::join(opened, namespace_flag(NamespaceKind::Network)).context(|| format!("join {path}"))?;
        } else if spec.network {
            namespace::loopback_up().context(|| "set the loopback link up")?;
        }
        if !spec.hostname.is_empty() {
            rustix::system::sethostname(spec.hostname.as_bytes()).context(|| "sethostname")?;
        }
        for (name, value) in &spec.sysctls {
            set_sysctl(name, value)?;
        }
        let mut sandbox = Sandbox {
            init: None,
            users,
            has_network: spec.network || spec.network_path.is_some(),
            cgroup: None,
        };
        if spec.shared_pid {
            if spec.cgroup.is_empty() {
                return Err(Error::Invalid(
                    "a shared pid namespace needs a cgroup for its init".into(),
                ));
            }
            let cgroup = Cgroup::create(layout, &spec.cgroup)?;
            sandbox.init = Some(start_init(&cgroup, sandbox.users.as_ref())?);
            sandbox.cgroup = Some(cgroup);
        }
        Ok(sandbox)
    }

    /// Ends the init and removes its cgroup.
    pub(super) fn remove(&mut self) -> Result<()> {
        if let Some((child, _)) = self.init.take() {
            let _ = process::signal(&child.pidfd, libc::SIGKILL);
            let _ = process::reap(child.pid);
        }
        match self.cgroup.take() {
            Some(cgroup) => cgroup.remove(),
            None => Ok(()),
        }
    }
}

/// A process that does nothing but reap, as the first of a new pid namespace.
fn start_init(cgroup: &Cgroup, users: Option<&OwnedFd>) -> Result<(Child, OwnedFd)> {
    let entry = cgroup.entry()?;
    if let Some(users) = users {
        let child = super::users::fork_inside(users, namespace_flag(NamespaceKind::Pid), || idle(&entry))?;
        return with_namespace(child);
    }
    let options = ForkOptions {
        flags: namespace_flag(NamespaceKind::Pid),
        cgroup: entry.birth_place(),
    };
    // SAFETY: the shim has one thread.
    match unsafe { process::fork(options) }.context(|| "clone3")? {
        Fork::Parent(child) => with_namespace(child),
        Fork::Child => idle(&entry),
    }
}

fn with_namespace(child: Child) -> Result<(Child, OwnedFd)> {
    let path = format!("/proc/{}/ns/pid", child.pid);
    let opened = namespace::open(&path).context(|| format!("open {path}"))?;
    Ok((child, opened))
}

/// What such a process does.
fn idle(entry: &Entry) -> ! {
    let _ = entry.enter();
    let _ = process::set_name(c"pause");
    // SAFETY: nothing is used any more but this loop.
    let _ = unsafe { process::close_from(0) };
    // Ignored, the children are reaped by the kernel.
    let _ = signal::ignore(libc::SIGCHLD);
    loop {
        let _ = rustix::thread::nanosleep(&rustix::fs::Timespec {
            tv_sec: 86_400 * 365,
            tv_nsec: 0,
        });
    }
}
