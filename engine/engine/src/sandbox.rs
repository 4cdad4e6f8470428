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
    /// Folder of the containers' logs; made if absent.
    pub log_dir: PathBuf,
    /// Which network it gets.
    pub network: Network,
    /// Whether its processes see the host's.
    pub host_pid: bool,
    /// Whether it shares the host's IPC.
    pub host_ipc: bool,
    /// Whether its containers share one pid namespace.
    pub share_process_namespace: bool,
    /// Kernel parameters of its namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// The pod's cgroup, absolute within every hierarchy; made if absent.
    pub cgroup_parent: String,
    /// Limits of the pod's cgroup; `None` leaves it to the caller.
    pub resources: Option<Resources>,
    /// Free-form labels, given back in lists.
    pub labels: BTreeMap<String, String>,
    /// Free-form annotations, given back in lists.
    pub annotations: BTreeMap<String, String>,
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
