//! The specification's `linux` object.

use alloc::{collections::BTreeMap, string::String, vec::Vec};
use serde::{Deserialize, Serialize};

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
    /// SELinux mount label; ignored on kernels without it, refused on others.
    pub mount_label: String,
    /// Offsets of a new time namespace by clock (`monotonic`, `boottime`).
    pub time_offsets: BTreeMap<String, TimeOffset>,
    /// Execution domain.
    pub personality: Option<Personality>,
    /// NUMA policy of the program's memory.
    pub memory_policy: Option<MemoryPolicy>,
    /// Cache and bandwidth allocation; refused, as no supported machine has been seen with it.
    pub intel_rdt: Option<IntelRdt>,
    /// Links of the host to move into the container's network namespace, by their present name.
    pub net_devices: BTreeMap<String, NetDevice>,
}

/// NUMA policy, as set_mempolicy(2).
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct MemoryPolicy {
    /// `MPOL_…`.
    pub mode: String,
    /// Memory nodes as a list.
    pub nodes: String,
    /// `MPOL_F_…`.
    pub flags: Vec<String>,
}

/// Cache and bandwidth allocation.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct IntelRdt {
    /// Class of service.
    #[serde(rename = "closID")]
    pub clos_id: String,
}

/// A link of the host to be moved.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct NetDevice {
    /// Its name inside; empty keeps it, and the kernel puts a number for `%d`.
    pub name: String,
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
    /// None is known.
    pub flags: Vec<String>,
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
    /// Marks of network packets; v1 alone.
    pub network: Option<Network>,
    /// Remote memory access by device.
    pub rdma: BTreeMap<String, Rdma>,
    /// Raw cgroup v2 files.
    pub unified: BTreeMap<String, String>,
}

/// Marks of network packets.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Network {
    /// Class id of packets.
    #[serde(rename = "classID")]
    pub class_id: Option<u32>,
    /// Priority by interface.
    pub priorities: Vec<InterfacePriority>,
}

/// Priority of packets on one interface.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct InterfacePriority {
    /// Of the interface.
    pub name: String,
    /// The higher, the sooner.
    pub priority: u32,
}

/// Limits of one device for remote memory access.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Rdma {
    /// Handles.
    pub hca_handles: Option<u32>,
    /// Objects.
    pub hca_objects: Option<u32>,
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
    /// Refuse a limit below what is in use, which would kill.
    pub check_before_update: Option<bool>,
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
    /// Weight against the cgroups below, 10 to 1000.
    pub leaf_weight: Option<u16>,
    /// Weights by device.
    pub weight_device: Vec<WeightDevice>,
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

/// Weights on one device.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WeightDevice {
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// 10 to 1000.
    pub weight: Option<u16>,
    /// 10 to 1000.
    pub leaf_weight: Option<u16>,
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
