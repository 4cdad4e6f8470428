//! Where mounts come from, opened before the container's namespaces hide it.

use crate::error::{Context, Error, Result};
use crate::namespaces::{Plan, id_map};
use crate::options::{self, Options};
use crate::spec::{IdMapping, Linux, Mount, NamespaceKind, Spec};
use alloc::{format, string::String, vec::Vec};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::CWD;
use strata_sys::mount::{self, Propagation};
use strata_sys::process::{self, Fork, ForkOptions};
use strata_sys::{file, namespace};

/// Where a mount comes from.
pub(crate) enum Source {
    /// `early` is opened while the mount's peers are still known, or its ids still ours to map.
    Bind {
        path: String,
        early: Option<OwnedFd>,
        options: Options,
    },
    FileSystem(Options),
}

/// The sources whose ids are mapped, and in a user namespace of its own all of them, because its root may not reach
/// them; by their mount's index. To be called in the caller's own namespaces, for
/// only there the file systems are its own; the process that mounts them inherits them.
pub(crate) fn open_mapped(spec: &Spec, bundle: &str, plan: &Plan) -> Result<Vec<Option<OwnedFd>>> {
    let linux = spec.linux.as_ref();
    let mut made = Mappings::default();
    spec.mounts
        .iter()
        .map(|entry| {
            let options = options::parse(&entry.options);
            if entry.uid_mappings.is_empty() && entry.gid_mappings.is_empty() && options.mapped.is_none() {
                // Who has no privileges here gets them only in its own namespaces.
                let here = plan.has(NamespaceKind::User) && rustix::process::geteuid().is_root();
                if !(here && (entry.kind == "bind" || options.bind)) {
                    return Ok(None);
                }
                let path = bind_path(entry, bundle);
                let what = || format!("error mounting {path:?} to rootfs at {:?}", entry.destination);
                return mount::clone_tree(CWD, &path, options.recursive).context(what).map(Some);
            }
            let what = || format!("id-mapped mount at {:?}", entry.destination);
            if entry.kind != "bind" && !options.bind {
                return Err(Error::Invalid(format!("{}: only binds can be mapped", what())));
            }
            let tree = mount::clone_tree(CWD, &bind_path(entry, bundle), options.recursive).context(what)?;
            let users = made.user_namespace(entry, linux, plan)?;
            let users = users.ok_or_else(|| Error::Invalid(format!("{}: no mappings are given", what())))?;
            mount::map_ids(&tree, users, options.mapped == Some(true)).context(what)?;
            Ok(Some(tree))
        })
        .collect()
}

/// Reads the options of all mounts, and opens those that must stay peers of the host's before propagation changes.
pub(crate) fn open(spec: &Spec, bundle: &str, mapped: &[Option<OwnedFd>]) -> Result<Vec<Source>> {
    spec.mounts
        .iter()
        .enumerate()
        .map(|(index, entry)| {
            let options = options::parse(&entry.options);
            if entry.kind != "bind" && !options.bind {
                return Ok(Source::FileSystem(options));
            }
            let path = bind_path(entry, bundle);
            let what = || format!("error mounting {path:?} to rootfs at {:?}", entry.destination);
            let early = match (mapped.get(index), options.propagation) {
                (Some(Some(tree)), _) => Some(rustix::io::fcntl_dupfd_cloexec(tree, 0).context(what)?),
                (_, Some((Propagation::Shared, _))) => {
                    Some(mount::clone_tree(CWD, &path, options.recursive).context(what)?)
                }
                _ => None,
            };
            Ok(Source::Bind { path, early, options })
        })
        .collect()
}

fn bind_path(entry: &Mount, bundle: &str) -> String {
    if entry.source.starts_with('/') {
        entry.source.clone()
    } else {
        format!("{bundle}/{}", entry.source)
    }
}

/// User namespaces that were made to map ids, one for each mapping of users and groups.
#[derive(Default)]
struct Mappings(Vec<([String; 2], OwnedFd)>);

impl Mappings {
    /// One with the mount's own mappings, or else the container's.
    fn user_namespace<'a>(
        &'a mut self,
        entry: &Mount,
        linux: Option<&Linux>,
        plan: &'a Plan,
    ) -> Result<Option<BorrowedFd<'a>>> {
        if !entry.uid_mappings.is_empty() && !entry.gid_mappings.is_empty() {
            return self.make(&entry.uid_mappings, &entry.gid_mappings).map(Some);
        }
        if !entry.uid_mappings.is_empty() || !entry.gid_mappings.is_empty() {
            return Err(Error::Invalid(
                "an id-mapped mount needs both uidMappings and gidMappings".into(),
            ));
        }
        if let Some(joined) = plan.joined(NamespaceKind::User) {
            return Ok(Some(joined.as_fd()));
        }
        match linux {
            Some(linux) if plan.makes(NamespaceKind::User) => {
                self.make(&linux.uid_mappings, &linux.gid_mappings).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn make(&mut self, uids: &[IdMapping], gids: &[IdMapping]) -> Result<BorrowedFd<'_>> {
        let maps = [id_map(uids), id_map(gids)];
        let at = match self.0.iter().position(|(known, _)| *known == maps) {
            Some(at) => at,
            None => {
                let made = make_user_namespace(&maps)?;
                self.0.push((maps, made));
                self.0.len() - 1
            }
        };
        Ok(self.0[at].1.as_fd())
    }
}

/// A user namespace that nobody lives in: it stays as long as its descriptor.
fn make_user_namespace([uids, gids]: &[String; 2]) -> Result<OwnedFd> {
    let what = || "make a user namespace for an id-mapped mount";
    let (wait, go) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).context(what)?;
    let options = ForkOptions {
        flags: libc::CLONE_NEWUSER as u64,
        cgroup: None,
    };
    // SAFETY: runtime processes have one thread.
    let child = match unsafe { process::fork(options) }.context(what)? {
        Fork::Parent(child) => child,
        Fork::Child => {
            drop(go);
            let _ = rustix::io::read(&wait, &mut [0; 1]);
            process::exit(0)
        }
    };
    drop(wait);
    let made = (|| {
        for (name, map) in [("uid_map", uids), ("gid_map", gids)] {
            file::write(&*format!("/proc/{}/{name}", child.pid), map.as_bytes()).context(what)?;
        }
        namespace::open(&format!("/proc/{}/ns/user", child.pid)).context(what)
    })();
    drop(go);
    process::reap(child.pid).context(what)?;
    made
}
