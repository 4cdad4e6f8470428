//! What callers give to and get from the store.

use crate::{Digest, ImageConfig, Platform};
use serde::{Deserialize, Serialize};
use std::{fmt, path::PathBuf};
use tokio::sync::mpsc;

/// An image whose layers are unpacked on this machine.
#[derive(Clone, Debug)]
pub struct Image {
    /// Digest of the configuration document.
    pub id: Digest,
    /// `registry/repository:tag` names.
    pub repo_tags: Vec<String>,
    /// `registry/repository@digest` names.
    pub repo_digests: Vec<String>,
    /// What the image says about its processes.
    pub config: ImageConfig,
    /// Lower directories for overlayfs, bottom first, absolute.
    pub layers: Vec<PathBuf>,
    /// Bytes of its content as distributed.
    pub size: u64,
    /// Moment the image was built, as written in it.
    pub created: Option<String>,
}

/// Where the store lives and how it talks to registries.
#[derive(Clone, Debug)]
pub struct ImageOptions {
    /// Folder of the store; made if absent. Several processes may share it.
    pub root: PathBuf,
    /// Folder with a `HOST[:PORT]/hosts.toml` for each registry (containerd's certs.d).
    pub hosts_dir: Option<PathBuf>,
    /// Which image of an index is taken.
    pub platform: Platform,
    /// Proxies for registries.
    pub proxy: ProxyOptions,
    /// Layers fetched and unpacked at the same time, over all pulls.
    pub parallel_layers: usize,
    /// Uncompressed bytes that one layer may have.
    pub max_layer_size: u64,
    /// Take `/name` in a layer as `name` instead of refusing it; some builders write such names.
    pub allow_absolute_names: bool,
    /// Keep layers as they were distributed beside their files: pushing and saving need no registry then.
    pub keep_blobs: bool,
    /// A policy file (containers-policy.json(5)) that says which images are let in; without the file all are.
    pub policy: Option<PathBuf>,
    /// Let layers bring device nodes, as docker does; containers reach them only as their cgroup allows.
    pub allow_devices: bool,
}

impl ImageOptions {
    /// A store at `root` with the defaults: this machine's platform, no proxy, three layers at a time.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            hosts_dir: None,
            platform: Platform::host(),
            proxy: ProxyOptions::default(),
            parallel_layers: 3,
            max_layer_size: 64 << 30,
            allow_absolute_names: false,
            keep_blobs: false,
            policy: None,
            allow_devices: false,
        }
    }
}

/// The values of HTTP_PROXY, HTTPS_PROXY and NO_PROXY; empty is none.
#[derive(Clone, Debug, Default)]
pub struct ProxyOptions {
    /// For plain requests.
    pub http: String,
    /// For TLS requests.
    pub https: String,
    /// Comma-separated hosts, domains and networks that are reached directly.
    pub no_proxy: String,
}

impl ProxyOptions {
    /// From the usual variables in upper or lower case; `lookup` reads the environment for the binary.
    pub fn from_variables(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let variable = |name: &str| {
            lookup(name)
                .or_else(|| lookup(&name.to_lowercase()))
                .unwrap_or_default()
        };
        Self {
            http: variable("HTTP_PROXY"),
            https: variable("HTTPS_PROXY"),
            no_proxy: variable("NO_PROXY"),
        }
    }
}

/// How to log in to a registry; at most one way is used.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// User name; with `password`.
    pub username: String,
    /// Password; with `username`.
    pub password: String,
    /// An identity token, exchanged for an access token, or used as a bearer token.
    pub token: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// Receiver of progress; a full queue drops the report, never slows the pull.
pub type ProgressSender = mpsc::Sender<Progress>;

/// A step of a pull or push.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The layer.
    pub layer: Digest,
    /// Where it stands.
    pub state: LayerState,
}

/// Where a layer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LayerState {
    /// Its turn has not come.
    Waiting,
    /// It was here already.
    Present,
    /// So many of its bytes have arrived and are unpacked.
    Fetching {
        /// Compressed bytes so far.
        done: u64,
        /// Compressed bytes in all.
        total: u64,
    },
    /// So many of its bytes were sent.
    Pushing {
        /// Bytes so far.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// The registry took it from another of its repositories.
    Mounted,
    /// It is unpacked and checked, or the registry has it.
    Done,
}

/// An image made from files of this machine, without a registry.
#[derive(Clone, Debug)]
pub struct Builtin {
    /// The files of its root; folders are made as needed.
    pub files: Vec<BuiltinFile>,
    /// What its processes are.
    pub config: ImageConfig,
}

/// One file of a builtin image.
#[derive(Clone, Debug)]
pub struct BuiltinFile {
    /// Path inside the image.
    pub path: String,
    /// Its content.
    pub source: BuiltinSource,
    /// Permission bits.
    pub mode: u32,
}

/// Where a builtin file's content comes from.
#[derive(Clone, Debug)]
pub enum BuiltinSource {
    /// A file of this machine: linked if it is on the same file system, else shared or copied.
    Host(PathBuf),
    /// These bytes.
    Bytes(Vec<u8>),
    /// A symbolic link to this path.
    Symlink(String),
    /// A folder.
    Directory,
}

/// What a removal did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Names taken away.
    pub untagged: Vec<String>,
    /// Images that are gone.
    pub deleted: Vec<String>,
    /// Bytes of disk given back.
    pub freed: u64,
}
