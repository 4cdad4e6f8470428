//! What is remembered of a container, in memory and on disk.

use crate::call::lenient;
use crate::config::{Config, EndpointConfig, HostConfig};
use crate::error::{Answer, ApiError};
use crate::health::Health;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use strata_engine::{Resizer, SessionParts};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

/// Everything about a container that outlives the daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub id: String,
    /// Without the slash that the API puts before it.
    pub name: String,
    pub created: String,
    /// As the user wrote it.
    pub image: String,
    /// `sha256:…`.
    pub image_id: String,
    /// The container's half of the configuration, as given, over the image's.
    pub config: Value,
    pub host: Value,
    /// Networks by name.
    pub networks: BTreeMap<String, Endpoint>,
    pub mounts: Vec<MountPoint>,
    pub state: State,
    #[serde(default)]
    pub restart_count: u32,
    /// Somebody stopped it: an exit is not answered by a restart.
    #[serde(default)]
    pub stopped_by_hand: bool,
    /// What runs it in the engine.
    #[serde(default)]
    pub run: Option<Run>,
    /// Published ports while it runs.
    #[serde(default)]
    pub ports: Vec<Published>,
}

/// A sandbox and the one container in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub sandbox: String,
    pub container: String,
}

/// A port of this machine that leads to one of the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Published {
    pub host_ip: Ipv4Addr,
    pub host_port: u16,
    /// Last of the ports one of which is wanted; 0 if only the first will do.
    #[serde(default, skip_serializing)]
    pub last_host_port: u16,
    pub port: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
}

/// A container's place in a network: as asked for, and while it runs as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Endpoint {
    pub config: EndpointConfig,
    #[serde(default)]
    pub network_id: String,
    #[serde(default)]
    pub endpoint_id: String,
    #[serde(default)]
    pub ip: Option<Ipv4Addr>,
    #[serde(default)]
    pub gateway: Option<Ipv4Addr>,
    #[serde(default)]
    pub prefix: u8,
    #[serde(default)]
    pub mac: String,
    /// The link's name inside.
    #[serde(default)]
    pub link: String,
}

/// A mount of the user, resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct MountPoint {
    /// `bind`, `volume` or `tmpfs`.
    pub kind: String,
    /// The volume's.
    pub name: String,
    pub source: PathBuf,
    pub destination: String,
    pub mode: String,
    pub read_write: bool,
    pub propagation: String,
    pub driver: String,
    /// Options of a tmpfs.
    pub options: Vec<String>,
    /// An empty volume gets what the image has there.
    pub copy: bool,
    /// A bind's missing source is made.
    pub make_source: bool,
    /// An anonymous volume goes with the container.
    pub anonymous: bool,
    /// Comes from `--tmpfs`, which `Mounts` does not show.
    pub hidden: bool,
    /// What becomes of mounts below a bind's source.
    pub below: Below,
}

/// What becomes of mounts below the source of a bind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Below {
    /// They appear, and are read-only if it is, where the kernel can do that.
    #[default]
    Usual,
    /// They do not appear.
    Hidden,
    /// They appear, and stay writable.
    Writable,
    /// They appear and are read-only, or nothing starts.
    ReadOnly,
}

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    #[default]
    Created,
    Running,
    Paused,
    Restarting,
    Removing,
    Exited,
    Dead,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }

    /// Whether there is a process.
    pub fn is_alive(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

/// The part of a record that changes as it runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    pub status: Status,
    pub pid: i32,
    pub exit_code: i32,
    pub error: String,
    pub started_at: Option<String>,
    pub finished_at: Option<String>,
    pub oom_killed: bool,
    pub health: Option<Health>,
}

/// What waiters wait for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Phase {
    pub status: Status,
    /// How often it has ended.
    pub exits: u64,
    pub exit_code: i32,
    pub removed: bool,
}

/// Somebody who attached before the start.
pub(crate) struct Waiting {
    pub options: strata_engine::AttachOptions,
    pub grant: oneshot::Sender<SessionParts>,
}

/// A container's turn, held.
pub(crate) struct Turn {
    _turn: tokio::sync::OwnedMutexGuard<()>,
}

/// A container that is known.
pub(crate) struct Container {
    pub id: String,
    pub folder: PathBuf,
    record: Mutex<Record>,
    pub phase: watch::Sender<Phase>,
    /// Held by whatever starts, ends or removes it.
    pub turn: Arc<tokio::sync::Mutex<()>>,
    pub waiting: Mutex<Vec<Waiting>>,
    pub resizer: Mutex<Option<Resizer>>,
    /// Ends a restart that is waited for, and the health checks.
    pub running: Mutex<CancellationToken>,
}

impl Container {
    pub fn new(record: Record, folder: PathBuf) -> Arc<Self> {
        let phase = Phase {
            status: record.state.status,
            exit_code: record.state.exit_code,
            ..Phase::default()
        };
        Arc::new(Self {
            id: record.id.clone(),
            folder,
            record: Mutex::new(record),
            phase: watch::Sender::new(phase),
            turn: Arc::default(),
            waiting: Mutex::new(Vec::new()),
            resizer: Mutex::new(None),
            running: Mutex::new(CancellationToken::new()),
        })
    }

    pub fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy as of now.
    pub fn record(&self) -> Record {
        self.lock().clone()
    }

    pub fn status(&self) -> Status {
        self.lock().state.status
    }

    /// Changes the record, writes it down and tells those who wait.
    pub fn change<T>(&self, change: impl FnOnce(&mut Record) -> T) -> Answer<T> {
        let (result, status, code) = {
            let mut record = self.lock();
            let result = change(&mut record);
            replace(&self.folder.join("container.json"), &*record)?;
            (result, record.state.status, record.state.exit_code)
        };
        self.phase.send_if_modified(|phase| {
            let changed = phase.status != status || phase.exit_code != code;
            (phase.status, phase.exit_code) = (status, code);
            changed
        });
        Ok(result)
    }

    /// A fresh token for one run; the one before is cancelled.
    pub fn fresh_run(&self) -> CancellationToken {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.cancel();
        *running = CancellationToken::new();
        running.clone()
    }

    pub fn end_run(&self) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).cancel();
    }

    /// The turn, held by whoever gets it beyond this borrow.
    pub async fn lock_turn(self: Arc<Self>) -> Turn {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        Turn { _turn: turn }
    }

    /// Waits for a start that is under way, of which its first output may tell before it is complete.
    pub async fn settle(&self) {
        if !self.status().is_alive() {
            drop(self.turn.lock().await);
        }
    }

    /// Where its output is written.
    pub fn log_path(&self) -> PathBuf {
        self.folder.join(LOG_NAME)
    }
}

/// The log's file in a container's folder.
pub(crate) const LOG_NAME: &str = "output.log";

impl Record {
    pub fn typed_config(&self) -> Answer<Config> {
        lenient(&self.config)
    }

    pub fn typed_host(&self) -> Answer<HostConfig> {
        lenient(&self.host)
    }

    pub fn labels(&self) -> BTreeMap<String, String> {
        let labels = self.config["Labels"].as_object();
        let pairs = labels.into_iter().flatten();
        pairs
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect()
    }

    /// The program and its arguments.
    pub fn command(&self) -> Vec<String> {
        let words = |value: &Value| match value {
            Value::String(word) => vec![word.clone()],
            Value::Array(list) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        };
        let mut all = words(&self.config["Entrypoint"]);
        all.extend(words(&self.config["Cmd"]));
        all
    }

    pub fn network_mode(&self) -> &str {
        self.host["NetworkMode"].as_str().unwrap_or("bridge")
    }

    /// The first twelve digits, by which people call it.
    pub fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }
}

/// Makes a folder for root alone, with its parents.
pub(crate) fn make_folder(path: &Path) -> Answer<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(ApiError::io("mkdir", path))
}

/// Replaces a file atomically.
pub(crate) fn replace(path: &Path, value: &impl Serialize) -> Answer<()> {
    let text = serde_json::to_vec(value).map_err(|error| ApiError::internal(error.to_string()))?;
    let draft = path.with_extension("draft");
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut file| {
            file.write_all(&text)?;
            file.sync_data()
        })
        .and_then(|()| std::fs::rename(&draft, path));
    written.map_err(ApiError::io("write", path))
}

/// Reads such a file.
pub(crate) fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Answer<Option<T>> {
    match std::fs::read(path) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| ApiError::internal(format!("read {}: {error}", path.display()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ApiError::io("read", path)(error)),
    }
}

/// Removes a folder with all in it; no error if there is none.
pub(crate) fn remove_folder(path: &Path) -> Answer<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(ApiError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// A fresh identity of 64 digits.
pub(crate) fn new_id() -> Answer<String> {
    let mut bytes = [0u8; 32];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| ApiError::internal(format!("random bytes: {errno}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// This moment as the API writes it.
pub(crate) fn now() -> String {
    jiff::Timestamp::now().to_string()
}

/// A moment as the API writes it.
pub(crate) fn moment(time: std::time::SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(|_| now(), |time| time.to_string())
}

/// What the API writes for a moment that has not come.
pub(crate) const NEVER: &str = "0001-01-01T00:00:00Z";
