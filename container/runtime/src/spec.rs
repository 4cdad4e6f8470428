//! The parts of the OCI runtime specification's `config.json` that Linux containers use.
//!
//! Unknown members are ignored, as the specification demands; absent ones take their defaults.

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
    /// SELinux label; ignored on kernels without it.
    pub selinux_label: String,
    /// Adjustment of the out-of-memory score.
    pub oom_score_adj: Option<i32>,
    /// I/O priority.
    pub io_priority: Option<IoPriority>,
    /// Scheduler settings.
    pub scheduler: Option<Scheduler>,
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

/// Everything particular to Linux.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Linux {
    /// User mapping of a new user namespace.
    pub uid_mappings: Vec<IdMapping>,
    /// Group mapping of a new user namespace.
    pub gid_mappings: Vec<IdMapping>,
    /// Kernel parameters, such as `net.ipv4.ip_forward`.
    pub sysctl: BTreeMap<String, String>,
    /// Limits.
    pub resources: Option<Resources>,
    /// Path in each hierarchy, absolute or relative to the runtime's own.
    pub cgroups_path: String,
    /// Namespaces: created without a path, joined with one, shared with the runtime when absent.
    pub namespaces: Vec<Namespace>,
    /// Device nodes beyond the standard ones.
    pub devices: Vec<Device>,
    /// System call filter.
    pub seccomp: Option<Seccomp>,
    /// Propagation of the root mount.
    pub rootfs_propagation: String,
    /// Paths covered with an empty file or directory.
    pub masked_paths: Vec<String>,
    /// Paths made read-only.
    pub readonly_paths: Vec<String>,
    /// SELinux mount label; ignored on kernels without it.
    pub mount_label: String,
    /// Offsets of a new time namespace by clock (`monotonic`, `boottime`).
    pub time_offsets: BTreeMap<String, TimeOffset>,
    /// Execution domain.
    pub personality: Option<Personality>,
}

/// Offset of one clock.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct TimeOffset {
    /// Seconds.
    pub secs: i64,
    /// Nanoseconds.
    pub nanosecs: u32,
}

/// Execution domain.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Personality {
    /// `LINUX` or `LINUX32`.
    pub domain: String,
}

/// A range of ids.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct IdMapping {
    /// First id inside.
    #[serde(rename = "containerID")]
    pub container_id: u32,
    /// First id outside.
    #[serde(rename = "hostID")]
    pub host_id: u32,
    /// Length.
    pub size: u32,
}

/// One namespace.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Namespace {
    /// Which.
    #[serde(rename = "type")]
    pub kind: NamespaceKind,
    /// Join this one instead of making a new one.
    #[serde(default)]
    pub path: String,
}

/// The kinds of namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NamespaceKind {
    /// Process ids.
    Pid,
    /// Network.
    Network,
    /// Mounts.
    Mount,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host name.
    Uts,
    /// Users.
    User,
    /// Control groups.
    Cgroup,
    /// Clocks.
    Time,
}

/// A device node.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Device {
    /// Path inside the container.
    pub path: String,
    /// `c`, `b`, `u` or `p`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// Permission bits.
    pub file_mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
}

/// Limits and control group settings.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Resources {
    /// Device access rules in order.
    pub devices: Vec<DeviceRule>,
    /// Memory.
    pub memory: Option<Memory>,
    /// CPU.
    pub cpu: Option<Cpu>,
    /// Number of processes.
    pub pids: Option<Pids>,
    /// Block I/O.
    #[serde(rename = "blockIO")]
    pub block_io: Option<BlockIo>,
    /// Huge pages by page size.
    pub hugepage_limits: Vec<HugepageLimit>,
    /// Raw cgroup v2 files.
    pub unified: BTreeMap<String, String>,
}

/// One device access rule.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct DeviceRule {
    /// Allow or deny.
    pub allow: bool,
    /// `a`, `c` or `b`; empty is `a`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Absent or -1: any.
    pub major: Option<i64>,
    /// Absent or -1: any.
    pub minor: Option<i64>,
    /// Some of `rwm`.
    pub access: String,
}

/// Memory limits in bytes; -1 is unlimited.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Memory {
    /// Hard limit.
    pub limit: Option<i64>,
    /// Soft limit.
    pub reservation: Option<i64>,
    /// Memory plus swap.
    pub swap: Option<i64>,
    /// Swappiness, 0 to 100.
    pub swappiness: Option<u64>,
    /// Do not kill when the limit is reached.
    #[serde(rename = "disableOOMKiller")]
    pub disable_oom_killer: Option<bool>,
}

/// CPU limits.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Cpu {
    /// Relative weight, 2 to 262144.
    pub shares: Option<u64>,
    /// Microseconds per period.
    pub quota: Option<i64>,
    /// Extra microseconds that may be saved up.
    pub burst: Option<u64>,
    /// Microseconds.
    pub period: Option<u64>,
    /// Real-time microseconds per period.
    pub realtime_runtime: Option<i64>,
    /// Real-time period in microseconds.
    pub realtime_period: Option<u64>,
    /// CPUs as a list, such as `0-2,7`.
    pub cpus: String,
    /// Memory nodes as a list.
    pub mems: String,
    /// SCHED_IDLE for the group.
    pub idle: Option<i64>,
}

/// Limit on the number of processes; 0 or less is unlimited.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Pids {
    /// The limit.
    pub limit: Option<i64>,
}

/// Block I/O settings.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct BlockIo {
    /// Weight, 10 to 1000.
    pub weight: Option<u16>,
    /// Bytes read per second by device.
    pub throttle_read_bps_device: Vec<Throttle>,
    /// Bytes written per second by device.
    pub throttle_write_bps_device: Vec<Throttle>,
    /// Reads per second by device.
    #[serde(rename = "throttleReadIOPSDevice")]
    pub throttle_read_iops_device: Vec<Throttle>,
    /// Writes per second by device.
    #[serde(rename = "throttleWriteIOPSDevice")]
    pub throttle_write_iops_device: Vec<Throttle>,
}

/// A rate limit on one device.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Throttle {
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// Limit.
    pub rate: u64,
}

/// Limit on huge pages of one size.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HugepageLimit {
    /// Such as `2MB`.
    pub page_size: String,
    /// Bytes.
    pub limit: u64,
}

/// A system call filter.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Seccomp {
    /// `SCMP_ACT_…` for calls that no rule names.
    pub default_action: String,
    /// errno of the default action.
    pub default_errno_ret: Option<u32>,
    /// `SCMP_ARCH_…`; empty is the native one.
    pub architectures: Vec<String>,
    /// `SECCOMP_FILTER_FLAG_…`.
    pub flags: Vec<String>,
    /// Unix socket that receives a listener for SCMP_ACT_NOTIFY.
    pub listener_path: String,
    /// Text sent along with the listener.
    pub listener_metadata: String,
    /// Rules in order; the first that matches decides.
    pub syscalls: Vec<SeccompRule>,
}

/// What to do with some system calls.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SeccompRule {
    /// Names; those unknown on this architecture are skipped.
    pub names: Vec<String>,
    /// `SCMP_ACT_…`.
    pub action: String,
    /// errno for SCMP_ACT_ERRNO and SCMP_ACT_TRACE.
    pub errno_ret: Option<u32>,
    /// All must hold.
    pub args: Vec<SeccompArg>,
}

/// A condition on one argument.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SeccompArg {
    /// 0 to 5.
    pub index: u32,
    /// Compared with, or the mask of SCMP_CMP_MASKED_EQ.
    pub value: u64,
    /// Value under the mask of SCMP_CMP_MASKED_EQ.
    pub value_two: u64,
    /// `SCMP_CMP_…`.
    pub op: String,
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
