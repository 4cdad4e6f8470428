//! What a container is asked to be, and what it is.

use crate::{ContainerId, SandboxId};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf, time::SystemTime};
use strata_image::Image;

/// What to make a container from.
#[derive(Clone, Debug)]
pub struct ContainerConfig {
    /// Name within the pod.
    pub name: String,
    /// How many containers of that name the pod had before.
    pub attempt: u32,
    /// Its root file system and defaults.
    pub image: Image,
    /// Name of the image as the user wrote it; given back in lists.
    pub image_name: String,
    /// Replaces the image's entrypoint (and drops its arguments).
    pub command: Option<Vec<String>>,
    /// Replaces the image's arguments.
    pub args: Option<Vec<String>>,
    /// Replaces the image's working directory.
    pub working_dir: Option<String>,
    /// Added to the image's environment; the last value of a name wins.
    pub env: Vec<(String, String)>,
    /// In the order they are mounted.
    pub mounts: Vec<Mount>,
    /// Images whose files it sees, read-only; mounted after the others.
    pub image_volumes: Vec<ImageVolume>,
    /// Devices by their names in the Container Device Interface, `vendor/class=name`.
    pub cdi_devices: Vec<String>,
    /// Host devices to make available.
    pub devices: Vec<Device>,
    /// What it may do.
    pub security: Security,
    /// What it may use.
    pub resources: Resources,
    /// Whether it gets a terminal.
    pub tty: bool,
    /// Whether its standard input stays open for attach.
    pub stdin: bool,
    /// Whether its standard input closes with the first attach session that ends.
    pub stdin_once: bool,
    /// Log file, relative to the sandbox's log folder; empty discards the output.
    pub log_path: String,
    /// When its log is rotated; the engine's own rule if absent.
    pub log_rotation: Option<LogRotation>,
    /// Replaces the image's stop signal.
    pub stop_signal: Option<String>,
    /// Which processes it sees.
    pub pid: PidNamespace,
    /// Whatever the caller wants to find again after a restart; given back by [`crate::Engine::container_memo`].
    pub memo: String,
    /// Free-form labels, given back in lists.
    pub labels: BTreeMap<String, String>,
    /// Free-form annotations, given back in lists.
    pub annotations: BTreeMap<String, String>,
    /// Folder that keeps the writable layer (`upper`, `work`) beyond the container's life; one that
    /// goes with the container by default.
    pub writable: Option<PathBuf>,
    /// Changes the specification last.
    pub finish: Option<crate::Finish>,
}

impl ContainerConfig {
    /// A container of that image with every default.
    pub fn new(name: impl Into<String>, image: Image) -> Self {
        Self {
            name: name.into(),
            attempt: 0,
            image_name: image.repo_tags.first().cloned().unwrap_or_else(|| image.id.to_string()),
            image,
            command: None,
            args: None,
            working_dir: None,
            env: Vec::new(),
            mounts: Vec::new(),
            image_volumes: Vec::new(),
            cdi_devices: Vec::new(),
            devices: Vec::new(),
            security: Security::default(),
            resources: Resources::default(),
            tty: false,
            stdin: false,
            stdin_once: false,
            log_path: String::new(),
            log_rotation: None,
            stop_signal: None,
            pid: PidNamespace::default(),
            memo: String::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            writable: None,
            finish: None,
        }
    }
}

/// When a log is rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRotation {
    /// Bytes at which the file is rotated; 0 never.
    pub max_bytes: u64,
    /// Files kept in all, the present one included.
    pub max_files: u32,
}

/// Which processes a container sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PidNamespace {
    /// What the sandbox says: the host's, those of the whole pod, or its own.
    #[default]
    Sandbox,
    /// Its own, whatever the sandbox says.
    Own,
    /// Those of another running container of the sandbox.
    Of(ContainerId),
}

/// A file or folder of the host inside the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where it is on the host; must exist.
    pub host_path: PathBuf,
    /// Where it appears, absolute.
    pub container_path: PathBuf,
    /// Whether it is read-only.
    pub read_only: bool,
    /// Whether mounts below it are read-only too.
    pub recursive_read_only: bool,
    /// Whether mounts made later pass through.
    pub propagation: Propagation,
    /// Whether its files' owners are those of the sandbox's user namespace.
    pub mapped: bool,
}

/// The files of an image inside a container.
#[derive(Clone, Debug)]
pub struct ImageVolume {
    /// The image.
    pub image: Image,
    /// A folder in it, instead of all of it; empty is all.
    pub sub_path: String,
    /// Where it appears, absolute.
    pub container_path: PathBuf,
}

/// Whether mounts made after the container's start pass through a mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// Not at all.
    #[default]
    Private,
    /// From the host into the container.
    HostToContainer,
    /// Both ways.
    Bidirectional,
}

/// A device of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Node on the host.
    pub host_path: PathBuf,
    /// Where it appears.
    pub container_path: PathBuf,
    /// Some of `r`, `w`, `m`.
    pub permissions: String,
}

/// What a container may do. The default: the image's user, the usual capabilities, the default
/// seccomp profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Security {
    /// All capabilities, all devices, no seccomp, nothing masked.
    pub privileged: bool,
    /// Replaces the image's user.
    pub run_as_user: Option<i64>,
    /// Replaces the primary group.
    pub run_as_group: Option<i64>,
    /// Replaces the image's user by name.
    pub run_as_user_name: Option<String>,
    /// More groups.
    pub supplemental_groups: Vec<i64>,
    /// Whether the groups that the image's /etc/group gives the user are dropped
    /// (supplementalGroupsPolicy Strict).
    pub strict_supplemental_groups: bool,
    /// One more group, owner of the pod's volumes.
    pub fs_group: Option<i64>,
    /// Capabilities beyond the usual ones; `ALL` is all. With or without `CAP_`.
    pub add_capabilities: Vec<String>,
    /// Capabilities taken away; `ALL` is all. With or without `CAP_`.
    pub drop_capabilities: Vec<String>,
    /// Whether the root file system is read-only.
    pub read_only_root_filesystem: bool,
    /// Whether an exec may gain privileges; false sets no_new_privs.
    pub allow_privilege_escalation: bool,
    /// Which system calls are allowed.
    pub seccomp: Seccomp,
    /// The AppArmor profile to confine by; it must have been loaded.
    pub apparmor_profile: Option<String>,
    /// Whether /proc is given without masks.
    pub proc_mount_unmasked: bool,
    /// Replaces the list of masked paths.
    pub masked_paths: Option<Vec<String>>,
    /// Replaces the list of read-only paths.
    pub readonly_paths: Option<Vec<String>>,
    /// Capabilities that programs keep although they run as another user than root; added to the others.
    pub add_ambient_capabilities: Vec<String>,
    /// Refuse to start as uid 0.
    pub run_as_non_root: bool,
}

impl Default for Security {
    fn default() -> Self {
        Self {
            privileged: false,
            run_as_user: None,
            run_as_group: None,
            run_as_user_name: None,
            supplemental_groups: Vec::new(),
            strict_supplemental_groups: false,
            fs_group: None,
            add_capabilities: Vec::new(),
            drop_capabilities: Vec::new(),
            read_only_root_filesystem: false,
            allow_privilege_escalation: true,
            seccomp: Seccomp::RuntimeDefault,
            apparmor_profile: None,
            proc_mount_unmasked: false,
            masked_paths: None,
            readonly_paths: None,
            add_ambient_capabilities: Vec::new(),
            run_as_non_root: false,
        }
    }
}

/// Which system calls are allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Seccomp {
    /// The built-in profile.
    #[default]
    RuntimeDefault,
    /// All.
    Unconfined,
    /// Those of a profile file on this machine, in the OCI or docker JSON form.
    Localhost(PathBuf),
}

/// What a cgroup may use; `None` is no limit and no preference.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Relative share of processor time; 1024 is one.
    pub cpu_shares: Option<u64>,
    /// Microseconds of processor time per period; negative is no limit.
    pub cpu_quota: Option<i64>,
    /// Microseconds.
    pub cpu_period: Option<u64>,
    /// Processors, as `0-1,3`.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes, as `0`.
    pub cpuset_mems: Option<String>,
    /// Bytes.
    pub memory_limit: Option<i64>,
    /// Bytes kept from reclaim (memory.min or the soft limit).
    pub memory_reservation: Option<i64>,
    /// Bytes of memory and swap together.
    pub memory_swap: Option<i64>,
    /// Processes and threads.
    pub pids_limit: Option<i64>,
    /// Preference of the out-of-memory killer, -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// Bytes of huge pages by page size (`2MB`).
    pub hugepages: BTreeMap<String, u64>,
    /// Files of cgroup v2 with what is written to them.
    pub unified: BTreeMap<String, String>,
}

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    /// Made, not started.
    Created,
    /// Its process runs.
    Running,
    /// Its process ended.
    Exited,
    /// Its shim is gone and took the answer with it.
    Unknown,
}

/// A container in a list.
#[derive(Clone, Debug)]
pub struct ContainerStatus {
    /// Identity.
    pub id: ContainerId,
    /// Its sandbox.
    pub sandbox_id: SandboxId,
    /// Name within the pod.
    pub name: String,
    /// How many containers of that name the pod had before.
    pub attempt: u32,
    /// Where it is in its life.
    pub state: ContainerState,
    /// When it was made.
    pub created_at: SystemTime,
    /// When its process was started.
    pub started_at: Option<SystemTime>,
    /// When its process ended.
    pub finished_at: Option<SystemTime>,
    /// Exit code; 128 + the signal if one ended it.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// `Completed`, `Error`, `OOMKilled` or `ContainerCannotRun`; empty before the end.
    pub reason: String,
    /// A sentence with the cause, if there is one.
    pub message: String,
    /// Name of the image as the user wrote it.
    pub image: String,
    /// Identity of the image: `repository@digest`, or its id if it came from no registry.
    pub image_id: String,
    /// Pid on the host while it runs.
    pub pid: Option<i32>,
    /// As given.
    pub labels: BTreeMap<String, String>,
    /// As given.
    pub annotations: BTreeMap<String, String>,
    /// Absolute; empty if the output is discarded.
    pub log_path: PathBuf,
}

/// What a container uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Processor time since its start.
    pub cpu_usage_nanos: u64,
    /// Bytes: usage less inactive file pages.
    pub memory_working_set: u64,
    /// Bytes of anonymous memory.
    pub memory_rss: u64,
    /// Bytes in all, page cache included.
    pub memory_usage: u64,
    /// Page faults.
    pub page_faults: u64,
    /// Page faults that read from a disk.
    pub major_page_faults: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Bytes written to its root file system.
    pub rootfs_used: u64,
    /// Inodes of its root file system's upper layer.
    pub rootfs_inodes: u64,
    /// Bytes of its log files.
    pub logs_used: u64,
}
