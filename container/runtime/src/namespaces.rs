//! Which namespaces a container makes and joins, and in what order.

use crate::error::{Context, Error, Result};
use crate::rootless;
use crate::spec::{IdMapping, Linux, NamespaceKind};
use alloc::{format, string::String, vec::Vec};
use core::fmt::Write;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use strata_sys::process::{self, Child, Fork, ForkOptions};
use strata_sys::{Errno, file, namespace};

/// The `CLONE_NEW…` flag of a kind.
pub fn flag(kind: NamespaceKind) -> u64 {
    (match kind {
        NamespaceKind::Pid => libc::CLONE_NEWPID,
        NamespaceKind::Network => libc::CLONE_NEWNET,
        NamespaceKind::Mount => libc::CLONE_NEWNS,
        NamespaceKind::Ipc => libc::CLONE_NEWIPC,
        NamespaceKind::Uts => libc::CLONE_NEWUTS,
        NamespaceKind::User => libc::CLONE_NEWUSER,
        NamespaceKind::Cgroup => libc::CLONE_NEWCGROUP,
        NamespaceKind::Time => namespace::TIME,
    }) as u64
}

/// Decided before the process is made.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Flags of new namespaces.
    new: u64,
    /// Existing ones to join.
    join: Vec<(NamespaceKind, OwnedFd)>,
    /// Contents of /proc/self/timens_offsets.
    time_offsets: String,
    uid_map: String,
    gid_map: String,
}

impl Plan {
    pub(crate) fn new(linux: Option<&Linux>, shared_pid: Option<BorrowedFd<'_>>) -> Result<Self> {
        let mut plan = Plan::default();
        let Some(linux) = linux else { return Ok(plan) };
        let mut seen = 0;
        for entry in &linux.namespaces {
            let bit = flag(entry.kind);
            if seen & bit != 0 {
                return Err(Error::Invalid(format!(
                    "malformed spec file: duplicated ns {:?}",
                    entry.kind
                )));
            }
            seen |= bit;
            if !entry.path.is_empty() {
                let opened = namespace::open(&entry.path).context(|| format!("open namespace {}", entry.path))?;
                plan.join.push((entry.kind, opened));
            } else if let (NamespaceKind::Pid, Some(shared)) = (entry.kind, shared_pid) {
                let shared = rustix::io::fcntl_dupfd_cloexec(shared, 0).context(|| "duplicate a descriptor")?;
                plan.join.push((entry.kind, shared));
            } else {
                plan.new |= bit;
            }
        }
        if plan.makes(NamespaceKind::User) && linux.uid_mappings.is_empty() {
            return Err(Error::Invalid(
                "a user namespace needs uidMappings and gidMappings".into(),
            ));
        }
        (plan.uid_map, plan.gid_map) = (id_map(&linux.uid_mappings), id_map(&linux.gid_mappings));
        for (clock, offset) in &linux.time_offsets {
            let _ = writeln!(plan.time_offsets, "{clock} {} {}", offset.secs, offset.nanosecs);
        }
        Ok(plan)
    }

    /// Whether one of this kind is made.
    pub(crate) fn makes(&self, kind: NamespaceKind) -> bool {
        self.new & flag(kind) != 0
    }

    /// Whether the container has one apart from the caller's, made or joined.
    pub(crate) fn has(&self, kind: NamespaceKind) -> bool {
        self.makes(kind) || self.join.iter().any(|(joined, _)| *joined == kind)
    }

    /// The one to join.
    pub(crate) fn joined(&self, kind: NamespaceKind) -> Option<&OwnedFd> {
        self.join
            .iter()
            .find(|(joined, _)| *joined == kind)
            .map(|(_, descriptor)| descriptor)
    }

    /// Whether a process in between has to join namespaces before others are made: one that belongs to
    /// the host cannot be joined from inside a new user namespace, and what is made after joining a
    /// user namespace belongs to that.
    pub(crate) fn needs_intermediate(&self) -> bool {
        self.joined(NamespaceKind::User).is_some() || self.makes(NamespaceKind::User) && !self.join.is_empty()
    }

    /// Makes the process. In the child returns `None`.
    ///
    /// # Safety
    /// As [`process::fork`].
    pub(crate) unsafe fn fork(&self, birth_place: Option<BorrowedFd<'_>>) -> Result<Option<Child>> {
        // pid and time namespaces hold for children only: joined here, and left again.
        let guard = ForChildren::enter(self)?;
        let flags = self.new & !flag(NamespaceKind::Cgroup) & !flag(NamespaceKind::Time);
        // SAFETY: the caller's promise.
        let forked = unsafe {
            process::fork(ForkOptions {
                flags,
                cgroup: birth_place,
            })
        };
        match forked.context(|| "clone3")? {
            Fork::Child => {
                core::mem::forget(guard);
                Ok(None)
            }
            Fork::Parent(child) => Ok(Some(child)),
        }
    }

    /// In an intermediate process: joins everything there is to join, so that the fork that follows only
    /// makes new ones. It becomes a sibling (CLONE_PARENT).
    ///
    /// # Safety
    /// As [`process::fork`].
    pub(crate) unsafe fn fork_sibling(&self, birth_place: Option<BorrowedFd<'_>>) -> Result<Option<Child>> {
        for kind in [NamespaceKind::User, NamespaceKind::Pid, NamespaceKind::Time] {
            if let Some(descriptor) = self.joined(kind) {
                namespace::join(descriptor, flag(kind)).context(|| format!("join the {kind:?} namespace"))?;
            }
        }
        self.join_plain()?;
        if self.makes(NamespaceKind::Time) {
            self.make_time()?;
        }
        let flags = self.new & !flag(NamespaceKind::Cgroup) & !flag(NamespaceKind::Time) | libc::CLONE_PARENT as u64;
        // SAFETY: the caller's promise.
        match unsafe {
            process::fork(ForkOptions {
                flags,
                cgroup: birth_place,
            })
        }
        .context(|| "clone3")?
        {
            Fork::Child => Ok(None),
            Fork::Parent(child) => Ok(Some(child)),
        }
    }

    /// In the child: joins what is left, and makes the cgroup namespace, which has to come after the cgroup.
    pub(crate) fn enter_rest(&self) -> Result<()> {
        if !self.needs_intermediate() {
            self.join_plain()?;
        }
        if self.makes(NamespaceKind::Cgroup) {
            namespace::unshare(flag(NamespaceKind::Cgroup)).context(|| "make a cgroup namespace")?;
        }
        Ok(())
    }

    fn join_plain(&self) -> Result<()> {
        use NamespaceKind::{Pid, Time, User};
        for (kind, descriptor) in &self.join {
            if !matches!(kind, User | Pid | Time) {
                namespace::join(descriptor, flag(*kind)).context(|| format!("join the {kind:?} namespace"))?;
            }
        }
        Ok(())
    }

    fn make_time(&self) -> Result<()> {
        namespace::unshare(flag(NamespaceKind::Time)).context(|| "make a time namespace")?;
        if self.time_offsets.is_empty() {
            return Ok(());
        }
        file::write("/proc/self/timens_offsets", self.time_offsets.as_bytes()).context(|| "set the time offsets")
    }

    /// Maps the ids of a new user namespace, from outside.
    pub(crate) fn map_ids(&self, pid: i32) -> Result<()> {
        if rustix::process::geteuid().is_root() {
            for (name, map) in [("uid_map", &self.uid_map), ("gid_map", &self.gid_map)] {
                file::write(&*format!("/proc/{pid}/{name}"), map.as_bytes()).context(|| format!("write {name}"))?;
            }
            return Ok(());
        }
        rootless::map(pid, "newuidmap", "uid_map", &self.uid_map)?;
        rootless::map(pid, "newgidmap", "gid_map", &self.gid_map)
    }
}

/// The lines of a uid_map or gid_map.
pub fn id_map(mappings: &[IdMapping]) -> String {
    let mut map = String::new();
    for mapping in mappings {
        let _ = writeln!(map, "{} {} {}", mapping.container_id, mapping.host_id, mapping.size);
    }
    map
}

/// Puts children into other pid and time namespaces until dropped.
struct ForChildren {
    own_pid: Option<OwnedFd>,
    own_time: Option<OwnedFd>,
}

impl ForChildren {
    fn enter(plan: &Plan) -> Result<Self> {
        let mut guard = ForChildren {
            own_pid: None,
            own_time: None,
        };
        if plan.needs_intermediate() {
            return Ok(guard);
        }
        if let Some(pid) = plan.joined(NamespaceKind::Pid) {
            guard.own_pid = Some(namespace::open_own("pid").context(|| "open the own pid namespace")?);
            namespace::join(pid, flag(NamespaceKind::Pid)).context(|| "join the pid namespace")?;
        }
        let time = plan.joined(NamespaceKind::Time);
        if time.is_some() || plan.makes(NamespaceKind::Time) {
            guard.own_time = Some(namespace::open_own("time").context(|| "open the own time namespace")?);
            match time {
                Some(time) => namespace::join(time, flag(NamespaceKind::Time)).context(|| "join the time namespace")?,
                None => plan.make_time()?,
            }
        }
        Ok(guard)
    }
}

impl Drop for ForChildren {
    fn drop(&mut self) {
        if let Some(own) = &self.own_pid {
            restore(own.as_fd(), NamespaceKind::Pid);
        }
        if let Some(own) = &self.own_time {
            restore(own.as_fd(), NamespaceKind::Time);
        }
    }
}

fn restore(own: BorrowedFd<'_>, kind: NamespaceKind) {
    let result: core::result::Result<(), Errno> = namespace::join(own, flag(kind));
    result.expect("a process can return to a namespace it came from");
}
