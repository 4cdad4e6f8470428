//! The way into a node: namespaces and mounts of its own, then pid 1, then Strata.

use crate::{
    cli::REGISTRY_HOSTS,
    embedded,
    failure::{During, Failure, Outcome},
};
use rustix::{
    fs::{FlockOperation, XattrFlags, fgetxattr, flock, fsetxattr},
    mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change},
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe},
};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::ErrorKind,
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::{MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

/// How a node is entered.
#[derive(Serialize, Deserialize)]
pub struct Entry {
    /// Its host name.
    pub hostname: String,
    /// Folder for what the node has of its own.
    pub folder: PathBuf,
    /// The command line of its Strata.
    pub command: Vec<String>,
    /// The join token, kept out of the command line.
    pub token: Option<String>,
}

/// Paths every node has of its own (upstream's suite knows the first two by name).
const OWN: [(&str, &str); 2] = [("kubelet", "/var/lib/kubelet"), ("pod-logs", "/var/log/pods")];

/// Marks folders of the machine that were made for nodes.
const MADE: &str = "user.strata";

/// Enters the node whose network namespace is standard input, and stays as long as it lives.
/// Runs before any thread exists.
pub fn enter(spec: &Path) -> Outcome<ExitCode> {
    let text = fs::read(spec).during(format!("reading {}", spec.display()))?;
    let entry: Entry = serde_json::from_slice(&text).during(format!("reading {}", spec.display()))?;
    let kill = rustix::process::Signal::KILL.as_raw();
    strata_sys::process::set_parent_death_signal(kill)
        .map_err(|e| Failure(format!("tying the node to its supervisor: {e}")))?;
    move_into_link_name_space(std::io::stdin().as_fd(), Some(LinkNameSpaceType::Network))
        .during("entering the node's network")?;
    let own = UnshareFlags::NEWNS
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWPID
        | UnshareFlags::NEWCGROUP;
    // SAFETY: FILES is not among the flags, and this process has one thread.
    unsafe { unshare_unsafe(own) }.during("making the node's namespaces")?;
    rustix::system::sethostname(entry.hostname.as_bytes()).during("naming the node")?;
    // Held as long as the node lives.
    let _places = mounts(&entry).during("making the node's mounts")?;
    let init = embedded::memory_file()?;
    let mut command = Command::new(init);
    command.arg("node-init").args(&entry.command);
    if let Some(token) = &entry.token {
        command.env("STRATA_TOKEN", token);
    }
    let status = command.status().during("starting the node's init")?;
    Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)))
}

fn mounts(entry: &Entry) -> std::io::Result<Vec<File>> {
    // First nothing of the node's may reach the machine; then everything may spread within it.
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let mut places = Vec::new();
    for (name, path) in OWN {
        let own = entry.folder.join(name);
        fs::create_dir_all(&own)?;
        places.push(place(Path::new(path))?);
        mount_bind(&own, path)?;
    }
    own_tmp(entry)?;
    mount(
        "tmpfs",
        "/run",
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV,
        c"mode=0755",
    )?;
    // /sys shows the links of the network namespace it was mounted in.
    remount_sys()?;
    mount_change("/", MountPropagationFlags::SHARED | MountPropagationFlags::REC)?;
    Ok(places)
}

/// A /tmp of the node's own; what the node runs from and lies in the machine's stays where it was.
fn own_tmp(entry: &Entry) -> std::io::Result<()> {
    let hosts = std::env::var_os(REGISTRY_HOSTS).map(PathBuf::from);
    let program = entry.command.first().map(PathBuf::from);
    let needed = [Some(entry.folder.clone()), program, hosts];
    let mut kept = Vec::new();
    for path in needed.into_iter().flatten().filter(|path| path.starts_with("/tmp")) {
        kept.push((File::open(&path)?, path));
    }
    let own = entry.folder.join("tmp");
    fs::create_dir_all(&own)?;
    fs::set_permissions(&own, fs::Permissions::from_mode(0o1777))?;
    mount_bind(&own, "/tmp")?;
    for (file, path) in kept {
        match file.metadata()?.is_dir() {
            true => fs::create_dir_all(&path)?,
            false => {
                fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
                File::options().create(true).append(true).open(&path)?;
            }
        }
        mount_bind(format!("/proc/self/fd/{}", file.as_raw_fd()), &path)?;
    }
    Ok(())
}

/// The machine's folder that a node mounts its own on, locked against removal and marked if made here.
fn place(path: &Path) -> std::io::Result<File> {
    loop {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let made = match fs::create_dir(path) {
            Ok(()) => true,
            Err(e) if e.kind() == ErrorKind::AlreadyExists => false,
            Err(e) => return Err(e),
        };
        let folder = match File::open(path) {
            // Another cluster's end was quicker.
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            other => other?,
        };
        if made {
            // Where folders cannot be marked, this one stays.
            let _ = fsetxattr(&folder, MADE, b"", XattrFlags::empty());
        }
        flock(&folder, FlockOperation::LockShared)?;
        if folder.metadata()?.nlink() > 0 {
            return Ok(folder);
        }
    }
}

/// Removes the folders on the machine that were made for nodes, when no node needs them any more.
pub fn remove_places() {
    for (_, path) in OWN {
        let Ok(folder) = File::open(path) else { continue };
        let ours = fgetxattr(&folder, MADE, &mut [0; 1][..]).is_ok();
        if ours && flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok() {
            // One that is not empty is somebody else's by now.
            let _ = fs::remove_dir(path);
        }
    }
}

/// A sysfs of the node's own, with the machine's cgroup hierarchies in it.
fn remount_sys() -> std::io::Result<()> {
    let keep = Path::new("/run/cgroup");
    fs::create_dir_all(keep)?;
    rustix::mount::mount_bind_recursive("/sys/fs/cgroup", keep)?;
    mount(
        "sysfs",
        "/sys",
        "sysfs",
        MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
        None,
    )?;
    rustix::mount::mount_move(keep, "/sys/fs/cgroup")?;
    fs::remove_dir(keep)
}
