//! The parts of the OCI runtime specification's `config.json` that Linux containers use.
//!
//! Unknown members are ignored, as the specification demands; absent ones take their defaults.

mod linux;

pub use linux::*;

use alloc::{collections::BTreeMap, string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// A whole `config.json`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Spec {
    /// Version of the specification, such as `1.2.0`.
    pub oci_version: String,
    /// What to run.
    pub process: Option<Process>,
    /// Where the root file system is; ignored when the caller describes the root itself.
    pub root: Option<Root>,
    /// UTS host name.
    pub hostname: String,
    /// UTS domain name.
    pub domainname: String,
    /// Mounts in order.
    pub mounts: Vec<Mount>,
    /// Programs run at points of the life cycle.
    pub hooks: Option<Hooks>,
    /// Free-form labels, shown by `state`.
    pub annotations: BTreeMap<String, String>,
    /// Everything particular to Linux.
    pub linux: Option<Linux>,
}

/// The container's process.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Process {
    /// Give the process a pseudo terminal.
    pub terminal: bool,
    /// Initial size of the terminal.
    pub console_size: Option<ConsoleSize>,
    /// Who it runs as.
    pub user: User,
    /// Command and arguments.
    pub args: Vec<String>,
    /// Environment as `NAME=value`.
    pub env: Vec<String>,
    /// Absolute working directory inside the container.
    pub cwd: String,
    /// Capability sets; `None` keeps none.
    pub capabilities: Option<Capabilities>,
    /// Resource limits.
    pub rlimits: Vec<Rlimit>,
    /// Forbid gaining privileges by exec.
    pub no_new_privileges: bool,
    /// AppArmor profile; ignored on kernels without it.
    pub apparmor_profile: String,
    /// SELinux label; ignored on kernels without it, refused on others.
    pub selinux_label: String,
    /// Adjustment of the out-of-memory score.
    pub oom_score_adj: Option<i32>,
    /// I/O priority.
    pub io_priority: Option<IoPriority>,
    /// Scheduler settings.
    pub scheduler: Option<Scheduler>,
    /// CPUs of a further process before and after it enters the container's cgroup.
    #[serde(rename = "execCPUAffinity")]
    pub exec_cpu_affinity: Option<CpuAffinity>,
}

/// CPUs that a further process may run on, as lists such as `0-2,7`; empty leaves them.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct CpuAffinity {
    /// Until it has entered the container's cgroup.
    pub initial: String,
    /// From then on.
    #[serde(rename = "final")]
    pub last: String,
}

/// Size of a terminal in characters.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct ConsoleSize {
    /// Rows.
    pub height: u16,
    /// Columns.
    pub width: u16,
}

/// Who a process runs as.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct User {
    /// User id; overridden by `username`.
    pub uid: u32,
    /// Group id; overridden by `username`.
    pub gid: u32,
    /// File mode mask.
    pub umask: Option<u32>,
    /// Supplementary groups, added to those that `username` leads to.
    pub additional_gids: Vec<u32>,
    /// When not empty: `user[:group]`, each a name or a number, looked up in the container's own
    /// `/etc/passwd` and `/etc/group`. A user without an entry has group 0; without `:group` the
    /// supplementary groups of the user's name in `/etc/group` are added too.
    pub username: String,
    /// With `username`: add the user's groups in `/etc/group` even when `:group` is given
    /// (Kubernetes' supplementalGroupsPolicy Merge).
    pub merge_groups: bool,
    /// With `username`: leave the user's groups in `/etc/group` out even without `:group`
    /// (Kubernetes' supplementalGroupsPolicy Strict).
    pub strict_groups: bool,
}

/// Names of capabilities (`CAP_…`) per set.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Capabilities {
    /// Upper limit.
    pub bounding: Vec<String>,
    /// In force.
    pub effective: Vec<String>,
    /// Kept over exec of a file with inheritable capabilities.
    pub inheritable: Vec<String>,
    /// May be made effective.
    pub permitted: Vec<String>,
    /// Kept over exec by a user other than root.
    pub ambient: Vec<String>,
}

/// One resource limit.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Rlimit {
    /// `RLIMIT_…`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Ceiling.
    pub hard: u64,
    /// Value in force.
    pub soft: u64,
}

/// I/O priority class and level.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct IoPriority {
    /// `IOPRIO_CLASS_RT`, `IOPRIO_CLASS_BE` or `IOPRIO_CLASS_IDLE`.
    pub class: String,
    /// Level inside the class.
    pub priority: i32,
}

/// Scheduler policy of the process.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Scheduler {
    /// `SCHED_…`.
    pub policy: String,
    /// Nice value.
    pub nice: i32,
    /// Real-time priority.
    pub priority: i32,
    /// `SCHED_FLAG_…`.
    pub flags: Vec<String>,
    /// Deadline scheduling: runtime in nanoseconds.
    pub runtime: u64,
    /// Deadline scheduling: deadline in nanoseconds.
    pub deadline: u64,
    /// Deadline scheduling: period in nanoseconds.
    pub period: u64,
}

/// The root file system.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Root {
    /// Absolute, or relative to the bundle.
    pub path: String,
    /// Mount it read-only.
    pub readonly: bool,
}

/// One mount.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Mount {
    /// Absolute path inside the container.
    pub destination: String,
    /// File system type; `bind` or empty with a `bind` option for binds.
    #[serde(rename = "type")]
    pub kind: String,
    /// Device, or the path to bind (relative to the bundle).
    pub source: String,
    /// Mount flags and data.
    pub options: Vec<String>,
    /// User mapping of an id-mapped mount.
    pub uid_mappings: Vec<IdMapping>,
    /// Group mapping of an id-mapped mount.
    pub gid_mappings: Vec<IdMapping>,
}

/// Programs run at points of the life cycle.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Hooks {
    /// Runtime namespace, during create. Deprecated upstream, still in use.
    pub prestart: Vec<Hook>,
    /// Runtime namespace, during create.
    pub create_runtime: Vec<Hook>,
    /// Container namespace, during create.
    pub create_container: Vec<Hook>,
    /// Container namespace, during start.
    pub start_container: Vec<Hook>,
    /// Runtime namespace, after start.
    pub poststart: Vec<Hook>,
    /// Runtime namespace, after delete.
    pub poststop: Vec<Hook>,
}

/// One program to run; it gets the container's state on its standard input.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Hook {
    /// Absolute path.
    pub path: String,
    /// argv, including argv[0].
    pub args: Vec<String>,
    /// Environment.
    pub env: Vec<String>,
    /// Seconds until it is killed.
    pub timeout: Option<u32>,
}

/// Where the container's root file system comes from.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rootfs {
    /// A directory, used as it is.
    Path(String),
    /// An overlay, mounted in the container's own mount namespace alone.
    Overlay(Overlay),
}

impl Rootfs {
    /// The directory that the container's mount namespace covers with it.
    pub fn target(&self) -> &str {
        match self {
            Rootfs::Path(path) => path,
            Rootfs::Overlay(overlay) => &overlay.target,
        }
    }
}

/// An overlay file system.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Overlay {
    /// Read-only layers, bottom first; any number.
    pub lower: Vec<String>,
    /// Writable layer; `None` makes a read-only view.
    pub upper: Option<String>,
    /// Work directory on the same file system as `upper`.
    pub work: Option<String>,
    /// An existing directory that the container's mount namespace covers with the overlay.
    pub target: String,
    /// Skip syncing the upper layer: right for containers whose writable layer does not outlive a
    /// crash of the machine.
    pub volatile: bool,
}
