//! What a container has of the host: mounts and namespaces that CRIU is to leave alone and find again by a name.

use super::wire::Message;
use alloc::{format, string::String, vec::Vec};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, OFlags};
use strata_runtime::cgroup::Cgroup;
use strata_runtime::spec::{Mount, Namespace, NamespaceKind, Spec};
use strata_runtime::{Context, Error, Result};
use strata_sys::{file, namespace};

/// Fields of CRIU's options.
const EXTERNAL_MOUNT: u32 = 23;
const INHERITED: u32 = 27;
const EXTERNAL: u32 = 37;
const JOINED: u32 = 39;

/// By which masked files are found again.
const NULL: &str = "/dev/null";

/// A mount of the host's: where it is in the container, and what it is.
struct Outside {
    name: String,
    source: String,
}

/// All of them, named by their place under `root`, the container's root directory.
fn mounts(spec: &Spec, bundle: &str, cgroup: &Cgroup, root: BorrowedFd<'_>) -> Vec<Outside> {
    let mut outside = Vec::new();
    for mount in &spec.mounts {
        if is_bind(mount) {
            outside.push(Outside {
                name: place(root, &mount.destination),
                source: source(mount, bundle),
            });
        } else if is_cgroup(mount) {
            outside.extend(cgroup_mounts(mount, cgroup));
        }
    }
    let devices = spec
        .linux
        .iter()
        .flat_map(|linux| &linux.devices)
        .map(|device| device.path.clone());
    let devices = strata_runtime::STANDARD_DEVICES
        .iter()
        .map(|name| format!("/dev/{name}"))
        .chain(devices);
    outside.extend(devices.map(|path| Outside {
        name: path.clone(),
        source: path,
    }));
    outside
}

pub(super) fn is_bind(mount: &Mount) -> bool {
    mount.kind == "bind" || mount.options.iter().any(|option| option == "bind" || option == "rbind")
}

pub(super) fn is_cgroup(mount: &Mount) -> bool {
    matches!(&*mount.kind, "cgroup" | "cgroup2")
}

pub(super) fn source(mount: &Mount, bundle: &str) -> String {
    if mount.source.starts_with('/') {
        mount.source.clone()
    } else {
        format!("{bundle}/{}", mount.source)
    }
}

/// The container's own directory of each hierarchy is bound, whichever namespace of cgroups it has.
fn cgroup_mounts(mount: &Mount, cgroup: &Cgroup) -> Vec<Outside> {
    let base = mount.destination.trim_end_matches('/');
    let hierarchies = cgroup.layout().hierarchies().iter();
    hierarchies
        .map(|hierarchy| Outside {
            name: if hierarchy.unified {
                base.into()
            } else {
                format!("{base}/{}", hierarchy.label())
            },
            source: hierarchy.directory(cgroup.path()),
        })
        .collect()
}

/// Where a path of the configuration leads inside the root, whatever links it goes through.
fn place(root: BorrowedFd<'_>, path: &str) -> String {
    let name = |descriptor: &OwnedFd| -> Option<String> {
        let link = rustix::fs::readlink(format!("/proc/self/fd/{}", descriptor.as_raw_fd()), Vec::new()).ok()?;
        link.into_string().ok()
    };
    let found = file::open_in_root(root, path, OFlags::PATH | OFlags::CLOEXEC).ok();
    let found = found.as_ref().and_then(name);
    let top = rustix::io::fcntl_dupfd_cloexec(root, 0).ok().as_ref().and_then(name);
    let inside = match (&found, top.as_deref()) {
        (Some(found), Some("/")) => Some(&**found),
        (Some(found), Some(top)) => found.strip_prefix(top),
        _ => None,
    };
    match inside.filter(|inside| inside.starts_with('/')) {
        Some(inside) => inside.into(),
        None => format!("/{}", path.trim_matches('/')),
    }
}

/// Names what is the host's of a container that is to be dumped; `pid` is its init's.
pub(super) fn name(mut options: Message, spec: &Spec, bundle: &str, cgroup: &Cgroup, pid: i32) -> Result<Message> {
    let root = file::open_directory(&*format!("/proc/{pid}/root")).context(|| "open the container's root")?;
    for outside in mounts(spec, bundle, cgroup, root.as_fd()) {
        options = pair(options, &outside.name, &outside.name);
    }
    for path in spec.linux.iter().flat_map(|linux| &linux.masked_paths) {
        // Directories are covered by a file system of the container's own.
        let Ok(target) = file::open_in_root(root.as_fd(), path, OFlags::PATH | OFlags::CLOEXEC) else {
            continue;
        };
        let stat = rustix::fs::fstat(&target).context(|| format!("look at {path}"))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            options = pair(options, path, NULL);
        }
    }
    Ok(options)
}

/// Says what stands behind the names, for a container that is to be restored under `root`.
pub(super) fn find(mut options: Message, spec: &Spec, bundle: &str, cgroup: &Cgroup, root: BorrowedFd<'_>) -> Message {
    for outside in mounts(spec, bundle, cgroup, root) {
        options = pair(options, &outside.name, &outside.source);
    }
    if spec.linux.as_ref().is_some_and(|linux| !linux.masked_paths.is_empty()) {
        options = pair(options, NULL, NULL);
    }
    options
}

fn pair(options: Message, name: &str, value: &str) -> Message {
    options.message(EXTERNAL_MOUNT, &Message::default().text(1, name).text(2, value))
}

/// Namespaces that were joined, which CRIU calls by the kind and finds by what is handed to it.
fn joined(spec: &Spec) -> impl Iterator<Item = &Namespace> {
    let all = spec.linux.iter().flat_map(|linux| &linux.namespaces);
    all.filter(|entry| !entry.path.is_empty())
}

/// What CRIU calls a kind that it leaves to others, and by which name.
fn handed(kind: NamespaceKind) -> Option<(&'static str, &'static str)> {
    match kind {
        NamespaceKind::Network => Some(("net", "extRootNetNS")),
        NamespaceKind::Pid => Some(("pid", "extRootPidNS")),
        _ => None,
    }
}

/// Names the joined namespaces of a container that is to be dumped.
pub(super) fn name_namespaces(mut options: Message, spec: &Spec) -> Result<Message> {
    for entry in joined(spec) {
        let Some((kind, name)) = handed(entry.kind) else {
            continue;
        };
        let stat = rustix::fs::statat(CWD, &*entry.path, AtFlags::empty())
            .context(|| format!("look at the namespace {}", entry.path))?;
        options = options.text(EXTERNAL, &format!("{kind}[{}]:{name}", stat.st_ino));
    }
    Ok(options)
}

/// Says which namespaces a container that is to be restored joins; those to hand over, from number `first` on.
pub(super) fn find_namespaces(mut options: Message, spec: &Spec, first: i32) -> Result<(Message, Vec<OwnedFd>)> {
    let mut passed = Vec::new();
    for entry in joined(spec) {
        let kind = match (entry.kind, handed(entry.kind)) {
            (_, Some((_, name))) => {
                let what = || format!("Requested namespace {} does not exist", entry.path);
                options = inherit(options, name, first + passed.len() as i32);
                passed.push(namespace::open(&entry.path).context(what)?);
                continue;
            }
            (NamespaceKind::Mount, _) => "mnt",
            (NamespaceKind::Ipc, _) => "ipc",
            (NamespaceKind::Uts, _) => "uts",
            (NamespaceKind::User, _) => "user",
            (NamespaceKind::Time, _) => "time",
            (other, _) => {
                return Err(Error::Invalid(format!(
                    "a joined {other:?} namespace cannot be restored"
                )));
            }
        };
        options = options.message(JOINED, &Message::default().text(1, kind).text(2, &entry.path));
    }
    Ok((options, passed))
}

/// A descriptor of CRIU's that stands for what was called `name`.
pub(super) fn inherit(options: Message, name: &str, number: i32) -> Message {
    options.message(INHERITED, &Message::default().text(1, name).signed(2, number))
}
