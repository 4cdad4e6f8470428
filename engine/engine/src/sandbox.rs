//! What a pod sandbox is asked to be, and what it is.

use crate::Resources;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, net::IpAddr, path::PathBuf, sync::Arc, time::SystemTime};

/// Identity of a sandbox: 32 hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SandboxId(pub(crate) Arc<str>);

/// Identity of a container: 32 hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContainerId(pub(crate) Arc<str>);

macro_rules! id {
    ($name:ident) => {
        impl $name {
            /// The identity as text; safe as a file name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}
id!(SandboxId);
id!(ContainerId);

/// The network a sandbox gets.
#[derive(Clone)]
pub enum Network {
    /// The machine's own.
    Host,
    /// A namespace of its own with a pod address.
    Pod(Arc<strata_net::PodNetwork>),
    /// A namespace of its own with loopback only.
    None,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "Host",
            Self::Pod(_) => "Pod",
            Self::None => "None",
        })
    }
}

/// The ids of this machine that a sandbox's own, from 0 on, are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRange {
    /// First user.
    pub uid: u32,
    /// Users.
    pub uids: u32,
    /// First group.
    pub gid: u32,
    /// Groups.
    pub gids: u32,
}

/// What to make a sandbox from.
#[derive(Clone, Debug)]
pub struct SandboxConfig {
    /// Pod namespace.
    pub namespace: String,
    /// Pod name.
    pub name: String,
    /// Pod uid.
    pub uid: String,
    /// How many sandboxes this pod had before.
    pub attempt: u32,
    /// Host name inside; ignored with the host's network.
    pub hostname: String,
    /// Folder of the containers' logs; made if absent. Empty if they have none.
    pub log_dir: PathBuf,
    /// Which network it gets.
    pub network: Network,
    /// Whether its processes see the host's.
    pub host_pid: bool,
    /// Whether it shares the host's IPC.
    pub host_ipc: bool,
    /// Whether its containers share one pid namespace.
    pub share_process_namespace: bool,
    /// The ids of a user namespace that its other namespaces and its containers belong to.
    pub users: Option<UserRange>,
    /// Kernel parameters of its namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// The pod's cgroup, absolute within every hierarchy; made if absent.
    pub cgroup_parent: String,
    /// Limits of the pod's cgroup; `None` leaves it to the caller.
    pub resources: Option<Resources>,
    /// Whether the pod's cgroup is left alone when the sandbox goes, because somebody else looks after it.
    pub keep_cgroup: bool,
    /// Whether systemd makes the cgroups of its containers; the pod's is a slice then.
    pub systemd: bool,
    /// What /etc/resolv.conf says in its containers; the machine's own if absent.
    pub resolv_conf: Option<String>,
    /// Whatever the caller wants to find again after a restart; given back by [`crate::Engine::sandbox_memo`].
    pub memo: String,
    /// Free-form labels, given back in lists.
    pub labels: BTreeMap<String, String>,
    /// Free-form annotations, given back in lists.
    pub annotations: BTreeMap<String, String>,
}

impl SandboxConfig {
    /// A sandbox in that cgroup with loopback alone and every other default.
    pub fn new(cgroup_parent: impl Into<String>) -> Self {
        Self {
            namespace: String::new(),
            name: String::new(),
            uid: String::new(),
            attempt: 0,
            hostname: String::new(),
            log_dir: PathBuf::new(),
            network: Network::None,
            host_pid: false,
            host_ipc: false,
            share_process_namespace: false,
            users: None,
            sysctls: BTreeMap::new(),
            cgroup_parent: cgroup_parent.into(),
            resources: None,
            keep_cgroup: false,
            systemd: false,
            resolv_conf: None,
            memo: String::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
        }
    }
}

/// A sandbox as it runs.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// Identity.
    pub id: SandboxId,
    /// Pod address; none with the host's network.
    pub ip: Option<IpAddr>,
    /// When it was made.
    pub created_at: SystemTime,
}

/// Whether a sandbox can take containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SandboxState {
    /// Its namespaces exist.
    Ready,
    /// It was stopped, or its shim died.
    NotReady,
}

/// A sandbox in a list.
#[derive(Clone, Debug)]
pub struct SandboxStatus {
    /// Identity.
    pub id: SandboxId,
    /// Pod namespace.
    pub namespace: String,
    /// Pod name.
    pub name: String,
    /// Pod uid.
    pub uid: String,
    /// How many sandboxes this pod had before.
    pub attempt: u32,
    /// Whether it can take containers.
    pub state: SandboxState,
    /// Pod address; none with the host's network.
    pub ip: Option<IpAddr>,
    /// Whether it uses the machine's network.
    pub host_network: bool,
    /// When it was made.
    pub created_at: SystemTime,
    /// Folder of the containers' logs.
    pub log_dir: PathBuf,
    /// Pid of its shim.
    pub pid: i32,
    /// As given.
    pub labels: BTreeMap<String, String>,
    /// As given.
    pub annotations: BTreeMap<String, String>,
}
