//! What the command line remembers of a container between commands.

use super::Global;
use alloc::{collections::BTreeMap, format, string::String, string::ToString, vec::Vec};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, RawDir};
use serde::{Deserialize, Serialize};
use strata_runtime::cgroup::{Cgroup, Layout};
use strata_runtime::spec::Spec;
use strata_runtime::{Context, Error, Result};
use strata_sys::{Errno, file, process};

/// Largest configuration that is read.
const CONFIG_LIMIT: usize = 16 << 20;

/// What makes a container exist.
const STATE: &str = "state.json";

/// The gate of a created container; removed by `start`.
pub(super) const GATE: &str = "exec.fifo";

/// Where the root file system of a container that is being restored is mounted meanwhile.
pub(super) const CRIU_ROOT: &str = "criu-root";

/// What [`STATE`] holds.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Record {
    pub(super) oci_version: String,
    pub(super) id: String,
    pub(super) pid: i32,
    pub(super) pid_start: u64,
    pub(super) bundle: String,
    pub(super) rootfs: String,
    pub(super) created: String,
    pub(super) cgroup: String,
    /// systemd's name of it, if it is systemd's.
    pub(super) unit: String,
    /// What its standard streams were when it was made: a checkpoint has to tell.
    pub(super) descriptors: Vec<String>,
    pub(super) annotations: BTreeMap<String, String>,
}

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub(super) fn name(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

/// A remembered container.
pub(super) struct Container {
    pub(super) directory: OwnedFd,
    pub(super) path: String,
    pub(super) record: Record,
}

/// Letters, digits and `_+-.`, but not `.` or `..` alone: it becomes a file name.
pub(crate) fn check_id(id: &str) -> Result<()> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
    if id.is_empty() || id.len() > 255 || id == "." || id == ".." || !id.bytes().all(fits) {
        return Err(Error::Invalid(format!("invalid container ID format: {id:?}")));
    }
    Ok(())
}

/// Makes a container's directory: its path and descriptor. Errors: the name is taken.
pub(super) fn make(global: &Global, id: &str) -> Result<(String, OwnedFd)> {
    check_id(id)?;
    let path = format!("{}/{id}", global.root);
    match rustix::fs::mkdir(&*path, Mode::from_raw_mode(0o711)) {
        Err(Errno::NOENT) => {
            file::make_directories(&global.root, 0o711).context(|| format!("make {}", global.root))?;
            rustix::fs::mkdir(&*path, Mode::from_raw_mode(0o711)).context(|| format!("make {path}"))?;
        }
        Err(Errno::EXIST) => return Err(Error::Exists("container with given ID already exists".into())),
        other => other.context(|| format!("make {path}"))?,
    }
    let directory = file::open_directory(&*path).context(|| format!("open {path}"))?;
    Ok((path, directory))
}

/// Removes a container's directory.
pub(super) fn forget(path: &str) -> Result<()> {
    let what = || format!("remove {path}");
    let directory = match file::open_directory(path) {
        Err(Errno::NOENT) => return Ok(()),
        other => other.context(what)?,
    };
    super::notify::withdraw(&directory).context(what)?;
    // The state is last: with it the container still exists, and its removal can be repeated.
    for (name, flags) in [
        ("config.json", AtFlags::empty()),
        (GATE, AtFlags::empty()),
        (CRIU_ROOT, AtFlags::REMOVEDIR),
        (STATE, AtFlags::empty()),
    ] {
        match rustix::fs::unlinkat(&directory, name, flags) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(Error::System { what: what(), errno }),
        }
    }
    rustix::fs::rmdir(path).context(what)
}

/// Reads and checks the configuration in a bundle: it and its text.
pub(crate) fn load_config(path: &str) -> Result<(Spec, Vec<u8>)> {
    let text = match file::read(path, CONFIG_LIMIT) {
        Err(Errno::NOENT) => {
            return Err(Error::NotFound(format!("JSON specification file {path} not found")));
        }
        other => other.context(|| format!("read {path}"))?,
    };
    let spec: Spec = serde_json::from_slice(&text).map_err(|error| Error::Invalid(format!("{path}: {error}")))?;
    if !spec.oci_version.starts_with("1.") {
        return Err(Error::Invalid(format!(
            "{path}: unsupported ociVersion {:?}",
            spec.oci_version
        )));
    }
    Ok((spec, text))
}

/// Writes everything down.
pub(super) fn save(directory: &OwnedFd, record: &Record, config: &[u8]) -> Result<()> {
    let text = serde_json::to_vec(record).map_err(|error| Error::State(error.to_string()))?;
    write_new(directory, "config.json", config).context(|| "write the container's configuration")?;
    // Last, since its presence makes the container exist.
    write_new(directory, STATE, &text).context(|| "write the container's state")
}

impl Container {
    pub(super) fn load(global: &Global, id: &str) -> Result<Self> {
        check_id(id)?;
        let path = format!("{}/{id}", global.root);
        let missing = || Error::NotFound(format!("container {id:?} does not exist"));
        let directory = match file::open_directory(&*path) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Err(missing()),
            other => other.context(|| format!("open {path}"))?,
        };
        let text = match file::read_at(&directory, STATE, CONFIG_LIMIT) {
            Err(Errno::NOENT) => return Err(missing()),
            other => other.context(|| format!("read {path}/state.json"))?,
        };
        let record = serde_json::from_slice(&text)
            .map_err(|error| Error::State(format!("{path}/state.json is damaged: {error}")))?;
        Ok(Container {
            directory,
            path,
            record,
        })
    }

    /// Keeps other commands from removing it as long as the result is open. None: another has removed it.
    pub(super) fn claim(&self) -> Result<Option<OwnedFd>> {
        let what = || format!("lock {}/{STATE}", self.path);
        let state = match rustix::fs::openat(&self.directory, STATE, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            other => other.context(what)?,
        };
        while let Err(errno) = rustix::fs::flock(&state, FlockOperation::LockExclusive) {
            if errno != Errno::INTR {
                return Err(Error::System { what: what(), errno });
            }
        }
        let links = rustix::fs::fstat(&state).context(what)?.st_nlink;
        Ok((links > 0).then_some(state))
    }

    /// The configuration it was created with.
    pub(super) fn config(&self) -> Result<Spec> {
        Ok(load_config(&format!("{}/config.json", self.path))?.0)
    }

    pub(super) fn cgroup(&self) -> Result<Cgroup> {
        if self.record.cgroup.is_empty() {
            return Ok(Cgroup::none());
        }
        Cgroup::open(&Layout::detect()?, &self.record.cgroup)
    }

    /// Whether the init still runs, without a look at the freezer.
    pub(super) fn is_alive(&self) -> bool {
        match process::stat(self.record.pid) {
            Ok((state, start)) => start == self.record.pid_start && !matches!(state, b'Z' | b'X'),
            Err(_) => false,
        }
    }

    pub(super) fn status(&self) -> Result<Status> {
        if !self.is_alive() {
            return Ok(Status::Stopped);
        }
        if rustix::fs::statat(&self.directory, GATE, AtFlags::empty()).is_ok() {
            return Ok(Status::Created);
        }
        Ok(if self.cgroup()?.is_frozen() {
            Status::Paused
        } else {
            Status::Running
        })
    }

    /// A pidfd of the init. Errors: it has ended.
    pub(super) fn init(&self) -> Result<OwnedFd> {
        let ended = || Error::State("container not running".into());
        let pidfd = process::open(self.record.pid).map_err(|_| ended())?;
        // The number may have been given to another process before it was opened.
        if self.is_alive() { Ok(pidfd) } else { Err(ended()) }
    }
}

/// A small file that does not exist yet; the directory is new, so nothing needs to be replaced as a whole.
fn write_new(directory: &OwnedFd, name: &str, content: &[u8]) -> strata_sys::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o600))?;
    file::write_all(&file, content)
}

/// Names of all containers.
pub(super) fn names(global: &Global) -> Result<Vec<String>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = match rustix::fs::openat(CWD, &*global.root, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(Vec::new()),
        other => other.context(|| format!("open {}", global.root))?,
    };
    let mut buffer = Vec::with_capacity(16 << 10);
    let mut entries = RawDir::new(directory.as_fd(), buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry.context(|| format!("read {}", global.root))?;
        if let Ok(name) = entry.file_name().to_str()
            && entry.file_type() == FileType::Directory
            && check_id(name).is_ok()
        {
            names.push(name.into());
        }
    }
    names.sort();
    Ok(names)
}
