//! What the engine remembers on disk.
//!
//! ```text
//! ROOT/format                              version of this layout
//! ROOT/sandboxes/SANDBOX/sandbox.json
//! ROOT/sandboxes/SANDBOX/{hostname,resolv.conf}
//! ROOT/containers/CONTAINER/container.json
//! ROOT/containers/CONTAINER/{upper,work,rootfs}
//! RUN/SANDBOX/                             the shim's socket and state
//! RUN/SANDBOX/shm                          the sandbox's /dev/shm
//! ```
//!
//! Records are replaced atomically but not synced: nothing they describe survives a crash
//! of the machine, and a torn record then only means a folder to remove.

use crate::{ContainerId, ContainerState, Error, SandboxId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;
use strata_shim::ShimRef;

/// Version of the layout above.
const FORMAT: u32 = 1;

/// A sandbox as it was asked for, and how to find it again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SandboxRecord {
    pub id: SandboxId,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub attempt: u32,
    pub hostname: String,
    pub log_dir: PathBuf,
    pub network: NetworkKind,
    pub host_pid: bool,
    pub host_ipc: bool,
    pub cgroup_parent: String,
    pub created_at: SystemTime,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    #[serde(default)]
    pub ip: Option<IpAddr>,
    #[serde(default)]
    pub shim: ShimRef,
    #[serde(default)]
    pub stopped: bool,
    #[serde(default)]
    pub users: Option<crate::UserRange>,
    #[serde(default)]
    pub keep_cgroup: bool,
    #[serde(default)]
    pub systemd: bool,
    #[serde(default)]
    pub resolv_conf: bool,
    #[serde(default)]
    pub memo: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum NetworkKind {
    Host,
    Pod,
    None,
}

impl SandboxRecord {
    pub fn host_network(&self) -> bool {
        self.network == NetworkKind::Host
    }
}

/// A container's unchanging facts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    pub id: ContainerId,
    pub sandbox_id: SandboxId,
    pub name: String,
    pub attempt: u32,
    pub created_at: SystemTime,
    pub image: String,
    pub image_id: String,
    pub stop_signal: i32,
    pub cgroup: String,
    pub log_path: PathBuf,
    pub tty: bool,
    pub stdin: bool,
    #[serde(default)]
    pub memo: String,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// The part of a container that changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Life {
    pub state: ContainerState,
    #[serde(default)]
    pub pid: Option<i32>,
    #[serde(default)]
    pub started_at: Option<SystemTime>,
    #[serde(default)]
    pub finished_at: Option<SystemTime>,
    #[serde(default)]
    pub exit_code: Option<i32>,
    #[serde(default)]
    pub signal: Option<i32>,
    #[serde(default)]
    pub reason: String,
    #[serde(default)]
    pub message: String,
}

/// Both, as written.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ContainerFile {
    pub record: ContainerRecord,
    pub life: Life,
}

/// The engine's folders.
#[derive(Clone, Debug)]
pub(crate) struct Folders {
    pub root: PathBuf,
    pub run: PathBuf,
}

impl Folders {
    /// Opens or makes the layout.
    pub fn open(root: PathBuf, run: PathBuf) -> Result<Self, Error> {
        let folders = Self { root, run };
        make(&folders.sandboxes())?;
        make(&folders.containers())?;
        make(&folders.run)?;
        let format = folders.root.join("format");
        match read::<u32>(&format)? {
            None => replace(&format, &FORMAT)?,
            Some(found) if found > FORMAT => {
                return Err(Error::NewerFormat {
                    path: folders.root,
                    found,
                    known: FORMAT,
                });
            }
            Some(_) => {}
        }
        Ok(folders)
    }

    pub fn sandboxes(&self) -> PathBuf {
        self.root.join("sandboxes")
    }

    pub fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    pub fn sandbox(&self, id: &SandboxId) -> PathBuf {
        self.sandboxes().join(id.as_str())
    }

    pub fn container(&self, id: &ContainerId) -> PathBuf {
        self.containers().join(id.as_str())
    }

    pub fn run(&self, id: &SandboxId) -> PathBuf {
        self.run.join(id.as_str())
    }

    pub fn shm(&self, id: &SandboxId) -> PathBuf {
        self.run(id).join("shm")
    }

    pub fn write_sandbox(&self, record: &SandboxRecord) -> Result<(), Error> {
        replace(&self.sandbox(&record.id).join("sandbox.json"), record)
    }

    pub fn write_container(&self, file: &ContainerFile) -> Result<(), Error> {
        replace(&self.container(&file.record.id).join("container.json"), file)
    }
}

/// Makes a folder for root alone, with its parents.
pub(crate) fn make(path: &Path) -> Result<(), Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(Error::io("create directory", path))
}

/// Replaces a file atomically.
pub(crate) fn replace(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let text = serde_json::to_vec(value).map_err(|error| Error::io("encode", path)(error.into()))?;
    let draft = path.with_extension(format!("draft{}", COUNT.fetch_add(1, Ordering::Relaxed)));
    let written = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut file| file.write_all(&text))
        .and_then(|()| fs::rename(&draft, path));
    written.map_err(Error::io("write", path))
}

/// Reads a file; `None` if there is none.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| Error::io("read", path)(io::Error::new(io::ErrorKind::InvalidData, error))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", path)(error)),
    }
}

/// Removes a folder with all in it; no error if there is none.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// A fresh identity.
pub(crate) fn new_id() -> Result<String, Error> {
    let mut bytes = [0u8; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| Error::io("read random bytes from", "/dev/urandom")(errno.into()))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sandbox_record() -> SandboxRecord {
        SandboxRecord {
            id: "s".into(),
            namespace: "default".into(),
            name: "pod".into(),
            uid: "uid".into(),
            attempt: 0,
            hostname: "host".into(),
            log_dir: "/logs".into(),
            network: NetworkKind::None,
            host_pid: false,
            host_ipc: false,
            cgroup_parent: "/pod".into(),
            created_at: SystemTime::UNIX_EPOCH,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            ip: None,
            shim: ShimRef::default(),
            stopped: false,
            users: None,
            keep_cgroup: false,
            systemd: false,
            resolv_conf: false,
            memo: String::new(),
        }
    }

    #[test]
    fn a_newer_layout_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().expect("folder");
        let open = || Folders::open(dir.path().join("root"), dir.path().join("run"));
        open().expect("new");
        open().expect("again");
        replace(&dir.path().join("root/format"), &99u32).expect("write");
        let error = open().expect_err("newer").to_string();
        assert!(
            error.contains("format version 99") && error.contains("--data-dir"),
            "{error}"
        );
    }

    #[test]
    fn records_survive_writing() {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("sandbox.json");
        replace(&path, &sandbox_record()).expect("write");
        let back: SandboxRecord = read(&path).expect("read").expect("there");
        assert_eq!(back.hostname, "host");
        fs::write(&path, "{").expect("write");
        assert!(read::<SandboxRecord>(&path).is_err());
    }
}
