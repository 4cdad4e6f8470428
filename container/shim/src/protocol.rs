//! What the engine says to a shim and to the helper, and what they answer.
//!
//! One message is one datagram of a `SOCK_SEQPACKET` Unix socket holding JSON, with descriptors
//! attached by `SCM_RIGHTS`; a message longer than a datagram travels in a sealed memfd that comes
//! first among the descriptors. A connection carries one request at a time, answered in order.
//! [`Request::Wait`] is answered when the process has ended and [`Request::Subscribe`] turns the
//! connection into a stream of [`Event`]s, so a client opens a connection of its own for either.

use alloc::{boxed::Box, collections::BTreeMap, string::String, vec::Vec};
use serde::{Deserialize, Serialize};

use strata_runtime::spec::{ConsoleSize, IdMapping, NamespaceKind, Process, Resources, Rootfs, Spec};

/// Version of this protocol. A shim outlives the engine that started it, so a newer engine must go
/// on speaking to older shims: members are only ever added, each with a default.
pub const PROTOCOL_VERSION: u32 = 1;

/// Largest JSON text of one message; more is refused on both sides.
pub const MESSAGE_LIMIT: usize = 4 << 20;

/// Most descriptors attached to one message.
pub const DESCRIPTOR_LIMIT: usize = 8;

/// A question to a shim.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Answered by [`Reply::Hello`].
    Hello {
        /// The client's protocol version.
        version: u32,
    },
    /// Make the sandbox's namespaces. Answered by [`Reply::Sandbox`] with the network namespace
    /// attached when one was made.
    CreateSandbox(SandboxSpec),
    /// Answered by [`Reply::Done`] with the namespace attached.
    Namespace(NamespaceKind),
    /// Set a container up until just before its program. Answered by [`Reply::Created`].
    Create(Box<ContainerSpec>),
    /// Let a created container's program begin. Answered by [`Reply::Started`].
    Start {
        /// Container.
        container: String,
    },
    /// Send a signal. Answered by [`Reply::Done`], also when the process has ended already.
    Kill {
        /// Container.
        container: String,
        /// One process of `exec`, instead of the container's init.
        exec: Option<String>,
        /// Number of the signal.
        signal: i32,
        /// Every process of the container's cgroup.
        all: bool,
    },
    /// Forget an ended container and remove its cgroup. Answered by [`Reply::Done`].
    Delete {
        /// Container.
        container: String,
        /// Kill it first when it runs.
        force: bool,
    },
    /// Run a further process in a container. The descriptors for its standard streams come
    /// attached, in order, for those of `stdin`, `stdout`, `stderr` that are set. Answered by
    /// [`Reply::Started`], with a terminal's master attached when the process has a terminal
    /// (attach no streams then); sizes are set on that master.
    Exec(Box<ExecSpec>),
    /// Set the size of a container's terminal. Answered by [`Reply::Done`].
    Resize {
        /// Container.
        container: String,
        /// New size.
        size: ConsoleSize,
    },
    /// Follow a container's streams. Answered by [`Reply::Done`] with one pipe end attached for each
    /// of those asked for, in the order stdin (to write to), stdout, stderr (to read from). With a
    /// terminal all output is stdout. Output is written to the log as well; a client that does
    /// not read holds the container's output up, as a terminal would.
    Attach {
        /// Container.
        container: String,
        /// Feed its standard input.
        stdin: bool,
        /// Read its standard output.
        stdout: bool,
        /// Read its standard error.
        stderr: bool,
    },
    /// Answered by [`Reply::State`].
    State,
    /// Answered by [`Reply::Exited`] once the process has ended.
    Wait {
        /// Container.
        container: String,
        /// One process of `exec`, instead of the container's init.
        exec: Option<String>,
    },
    /// Freeze a container. Answered by [`Reply::Done`].
    Pause {
        /// Container.
        container: String,
    },
    /// Thaw a container. Answered by [`Reply::Done`].
    Resume {
        /// Container.
        container: String,
    },
    /// Change a container's limits. Answered by [`Reply::Done`].
    Update {
        /// Container.
        container: String,
        /// New limits; absent members stay as they are.
        resources: Box<Resources>,
    },
    /// Close a container's log file and open its path again. Answered by [`Reply::Done`].
    ReopenLogs {
        /// Container.
        container: String,
    },
    /// Answered by [`Reply::Done`], then by [`Reply::Event`] again and again. Events that happen while
    /// a slow subscriber's queue is full are lost to it: its connection is closed.
    Subscribe,
    /// Kill what runs, remove the cgroups of all containers and end the shim. Answered by [`Reply::Done`]
    /// when all is gone.
    Shutdown,
}

/// An answer of a shim.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The request was carried out.
    Done,
    /// The request failed.
    Error(Failure),
    /// To [`Request::Hello`].
    Hello {
        /// The shim's protocol version.
        version: u32,
        /// The shim's process id.
        pid: i32,
        /// The sandbox.
        sandbox: String,
    },
    /// To [`Request::CreateSandbox`].
    Sandbox {
        /// A process in the sandbox's namespaces (the shim itself); `/proc/PID/ns/net` is the
        /// network namespace.
        pid: i32,
    },
    /// To [`Request::Create`].
    Created {
        /// The init process as seen by the shim.
        pid: i32,
    },
    /// To [`Request::Start`] and [`Request::Exec`].
    Started {
        /// The process as seen by the shim.
        pid: i32,
        /// Nanoseconds since 1970.
        at: u64,
    },
    /// To [`Request::State`].
    State(Box<SandboxState>),
    /// To [`Request::Wait`].
    Exited(ExitStatus),
    /// To [`Request::Subscribe`].
    Event(Event),
}

/// Why a request failed.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Failure {
    /// For programs.
    pub kind: FailureKind,
    /// For people: what failed and why.
    pub message: String,
}

/// Kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// No such container or process.
    NotFound,
    /// The name is taken.
    Exists,
    /// Not possible in the present state.
    State,
    /// The request makes no sense.
    Invalid,
    /// The container's command cannot be run: not found, not executable, no such user or directory.
    Command,
    /// The kernel or the file system refused.
    System,
}

/// The namespaces that containers of a sandbox share.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct SandboxSpec {
    /// A network namespace of its own (loopback is up when the request returns).
    pub network: bool,
    /// An existing network namespace to use instead.
    pub network_path: Option<String>,
    /// An IPC namespace of its own.
    pub ipc: bool,
    /// A UTS namespace of its own.
    pub uts: bool,
    /// One pid namespace for all containers, with an init of ours; a container then needs a
    /// `pid` namespace without path in its specification to be put there.
    pub shared_pid: bool,
    /// Users of a user namespace that the others of this sandbox, and its containers, belong to; none is the machine's.
    pub uid_mappings: Vec<IdMapping>,
    /// Groups of that user namespace.
    pub gid_mappings: Vec<IdMapping>,
    /// Host name; needs `uts`.
    pub hostname: String,
    /// Kernel parameters of these namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// cgroup of the shared pid namespace's init, as in `linux.cgroupsPath`.
    pub cgroup: String,
}

/// A container to make. Its network, IPC and UTS namespaces are the sandbox's unless the
/// specification names others; `linux.cgroupsPath` is its leaf cgroup.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct ContainerSpec {
    /// Unique in the sandbox.
    pub id: String,
    /// What to run; `process.terminal` decides about a terminal.
    pub spec: Spec,
    /// Root file system; `None` takes `spec.root`.
    pub rootfs: Option<Rootfs>,
    /// Directory that relative paths of `spec` start at and that hooks are told.
    pub bundle: String,
    /// Where output goes besides attached clients; `None` discards it.
    pub log: Option<LogSpec>,
    /// Keep a standard input that clients may attach to; otherwise it is `/dev/null`.
    pub stdin: bool,
    /// Close standard input when the first client that attached to it goes.
    pub stdin_once: bool,
    /// A `pid` namespace without path is a new one even if the sandbox has a shared one.
    pub own_pid: bool,
    /// `linux.cgroupsPath` is `slice:prefix:name`, for a scope that systemd makes.
    pub systemd: bool,
}

/// A log in CRI format (`TIME stdout|stderr F|P text`).
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct LogSpec {
    /// Absolute path of the file; made when missing, mode 0640.
    pub path: String,
    /// Rotate when the file grows beyond this; 0 never.
    pub max_bytes: u64,
    /// Files kept in all, the present one included (`PATH`, `PATH.1`, `PATH.2` …).
    pub max_files: u32,
}

/// A further process in a container.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct ExecSpec {
    /// Container.
    pub container: String,
    /// Unique in the container; used by `kill` and `wait`.
    pub id: String,
    /// What to run, complete: nothing is taken over from the container's own process except the
    /// members of `inherit`.
    pub process: Process,
    /// Take user and capabilities (when there are none), environment (`process.env` is added),
    /// working directory (when empty), limits and no_new_privileges from the container's process.
    pub inherit: bool,
    /// A descriptor for standard input is attached.
    pub stdin: bool,
    /// A descriptor for standard output is attached.
    pub stdout: bool,
    /// A descriptor for standard error is attached.
    pub stderr: bool,
}

/// Everything a shim knows.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct SandboxState {
    /// Protocol version of the shim that wrote this.
    pub version: u32,
    /// Name of the sandbox.
    pub sandbox: String,
    /// The shim's process id.
    pub shim_pid: i32,
    /// The shim's start time in clock ticks since boot: with the pid, its identity.
    pub shim_start: u64,
    /// Whether the namespaces were made.
    pub ready: bool,
    /// Containers by name.
    pub containers: BTreeMap<String, ContainerState>,
}

/// What is known of one container.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct ContainerState {
    /// Where it is in its life.
    pub status: Status,
    /// Init process as seen by the shim; 0 when it has ended.
    pub pid: i32,
    /// The init's start time in clock ticks since boot.
    pub pid_start: u64,
    /// Nanoseconds since 1970.
    pub created_at: u64,
    /// Nanoseconds since 1970; 0 when not started.
    pub started_at: u64,
    /// How it ended.
    pub exit: Option<ExitStatus>,
    /// Path of its cgroup, as in `linux.cgroupsPath`.
    pub cgroup: String,
    /// Frozen.
    pub paused: bool,
    /// Has a terminal.
    pub terminal: bool,
}

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Set up, program not begun.
    #[default]
    Created,
    /// Program runs.
    Running,
    /// Program has ended.
    Stopped,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct ExitStatus {
    /// Exit code; 128 plus the signal when one ended it.
    pub code: i32,
    /// The signal that ended it, or 0.
    pub signal: i32,
    /// The kernel killed something of the container for want of memory.
    pub oom_killed: bool,
    /// Nanoseconds since 1970.
    pub finished_at: u64,
}

/// Something that happened.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A container's init has ended.
    Exited {
        /// Container.
        container: String,
        /// How.
        status: ExitStatus,
    },
    /// A further process has ended.
    ExecExited {
        /// Container.
        container: String,
        /// Process.
        exec: String,
        /// How.
        status: ExitStatus,
    },
    /// The kernel killed a process of the container for want of memory.
    OutOfMemory {
        /// Container.
        container: String,
    },
}

/// A shim for the helper to start.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct LaunchSpec {
    /// Name of the sandbox.
    pub sandbox_id: String,
    /// Directory of the shim's socket (`shim.sock`, 0600), identity (`shim.json`) and state
    /// (`state.json`); made with mode 0700 when missing.
    pub state_dir: String,
    /// cgroup for the shim itself, absolute in each hierarchy; made when missing. Empty leaves it
    /// where the helper is.
    pub cgroup: String,
}

/// The helper's answer.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Launched {
    /// It listens.
    Shim(ShimRef),
    /// It could not be started.
    Failed(String),
}

/// A running shim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct ShimRef {
    /// Name of the sandbox.
    pub sandbox_id: String,
    /// Process id.
    pub pid: i32,
    /// Start time in clock ticks since boot.
    pub start_time: u64,
    /// Its socket.
    pub socket: String,
    /// Protocol version it speaks.
    pub version: u32,
}
