//! The commands, and the flags of those that have few. `options.rs` has those of `run` and `create`.

use crate::options::CreateOptions;
use crate::thing_commands::{NetworkCommand, VolumeCommand};
use clap::{Args, Subcommand};

/// What can be done with containers.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Create and run a new container from an image.
    #[command(disable_help_flag = true)]
    Run(Box<RunArgs>),
    /// Create a new container.
    #[command(disable_help_flag = true)]
    Create(Box<CreateArgs>),
    /// Start one or more stopped containers.
    Start(StartArgs),
    /// Attach local standard input, output, and error streams to a running container.
    Attach(AttachArgs),
    /// Execute a command in a running container.
    Exec(ExecArgs),
    /// Stop one or more running containers.
    Stop(StopArgs),
    /// Restart one or more containers.
    Restart(StopArgs),
    /// Kill one or more running containers.
    Kill(KillArgs),
    /// Pause all processes within one or more containers.
    Pause(Containers),
    /// Unpause all processes within one or more containers.
    Unpause(Containers),
    /// Block until one or more containers stop, then print their exit codes.
    Wait(Containers),
    /// Remove one or more containers.
    Rm(RemoveArgs),
    /// Rename a container.
    Rename(RenameArgs),
    /// Update configuration of one or more containers.
    Update(UpdateArgs),
    /// List containers.
    Ps(PsArgs),
    /// List port mappings or a specific mapping for the container.
    Port(PortArgs),
    /// Display the running processes of a container.
    Top(TopArgs),
    /// Inspect changes to files or directories on a container's filesystem.
    Diff(OneContainer),
    /// Copy files/folders between a container and the local filesystem.
    Cp(CopyArgs),
    /// Export a container's filesystem as a tar archive.
    Export(ExportArgs),
    /// Create a new image from a container's changes.
    Commit(CommitArgs),
    /// Return low-level information on containers, images, networks and volumes.
    Inspect(InspectArgs),
    /// Fetch the logs of a container.
    Logs(LogsArgs),
    /// Display a live stream of container(s) resource usage statistics.
    Stats(StatsArgs),
    /// Get real time events from the engine.
    Events(EventsArgs),
    /// Display system-wide information.
    Info(FormatArgs),
    /// Show the version of the program and of the engine.
    Version(FormatArgs),
    /// Look after the engine.
    #[command(subcommand)]
    System(SystemCommand),
    /// Manage networks.
    #[command(subcommand)]
    Network(NetworkCommand),
    /// Manage volumes.
    #[command(subcommand)]
    Volume(VolumeCommand),
}

/// `run`
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct RunArgs {
    #[command(flatten)]
    pub create: CreateOptions,
    /// Run container in background and print container ID
    #[arg(short, long)]
    pub detach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, default_value = "")]
    pub detach_keys: String,
    /// Proxy received signals to the process
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true")]
    pub sig_proxy: bool,
}

/// `create`
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct CreateArgs {
    #[command(flatten)]
    pub create: CreateOptions,
}

/// `start`
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct StartArgs {
    /// Attach STDOUT/STDERR and forward signals
    #[arg(short, long)]
    pub attach: bool,
    /// Attach container's STDIN
    #[arg(short, long)]
    pub interactive: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, default_value = "")]
    pub detach_keys: String,
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// `attach`
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct AttachArgs {
    /// Do not attach STDIN
    #[arg(long)]
    pub no_stdin: bool,
    /// Proxy all received signals to the process
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true")]
    pub sig_proxy: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, default_value = "")]
    pub detach_keys: String,
    pub container: String,
}

/// `exec`
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct ExecArgs {
    /// Detached mode: run command in the background
    #[arg(short, long)]
    pub detach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, default_value = "")]
    pub detach_keys: String,
    /// Set environment variables
    #[arg(short, long)]
    pub env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long)]
    pub env_file: Vec<String>,
    /// Keep STDIN open even if not attached
    #[arg(short, long)]
    pub interactive: bool,
    /// Give extended privileges to the command
    #[arg(long)]
    pub privileged: bool,
    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    pub tty: bool,
    /// Username or UID (format: "<name|uid>[:<group|gid>]")
    #[arg(short, long, default_value = "")]
    pub user: String,
    /// Working directory inside the container
    #[arg(short, long, default_value = "")]
    pub workdir: String,
    pub container: String,
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

/// `stop` and `restart`
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct StopArgs {
    /// Signal to send to the container
    #[arg(short, long, default_value = "")]
    pub signal: String,
    /// Seconds to wait before killing the container
    #[arg(short, long, visible_alias = "timeout", allow_negative_numbers = true)]
    pub time: Option<i64>,
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// `kill`
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct KillArgs {
    /// Signal to send to the container
    #[arg(short, long, default_value = "")]
    pub signal: String,
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// Commands that take containers alone.
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct Containers {
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// Commands that take one container alone.
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct OneContainer {
    pub container: String,
}

/// `rm`
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct RemoveArgs {
    /// Force the removal of a running container (uses SIGKILL)
    #[arg(short, long)]
    pub force: bool,
    /// Remove anonymous volumes associated with the container
    #[arg(short, long)]
    pub volumes: bool,
    /// Remove the specified link
    #[arg(short, long)]
    pub link: bool,
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// `rename`
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct RenameArgs {
    pub container: String,
    pub new_name: String,
}

/// `update`
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct UpdateArgs {
    /// Block IO (relative weight), between 10 and 1000, or 0 to disable
    #[arg(long)]
    pub blkio_weight: Option<u16>,
    /// Limit CPU CFS (Completely Fair Scheduler) period
    #[arg(long)]
    pub cpu_period: Option<i64>,
    /// Limit CPU CFS (Completely Fair Scheduler) quota
    #[arg(long)]
    pub cpu_quota: Option<i64>,
    /// CPU shares (relative weight)
    #[arg(short, long)]
    pub cpu_shares: Option<i64>,
    /// Number of CPUs
    #[arg(long)]
    pub cpus: Option<String>,
    /// CPUs in which to allow execution (0-3, 0,1)
    #[arg(long)]
    pub cpuset_cpus: Option<String>,
    /// MEMs in which to allow execution (0-3, 0,1)
    #[arg(long)]
    pub cpuset_mems: Option<String>,
    /// Memory limit
    #[arg(short, long)]
    pub memory: Option<String>,
    /// Memory soft limit
    #[arg(long)]
    pub memory_reservation: Option<String>,
    /// Swap limit equal to memory plus swap: -1 to enable unlimited swap
    #[arg(long, allow_hyphen_values = true)]
    pub memory_swap: Option<String>,
    /// Tune container pids limit (set -1 for unlimited)
    #[arg(long, allow_negative_numbers = true)]
    pub pids_limit: Option<i64>,
    /// Restart policy to apply when a container exits
    #[arg(long)]
    pub restart: Option<String>,
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// `ps`
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct PsArgs {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    pub all: bool,
    /// Filter output based on conditions provided
    #[arg(short, long)]
    pub filter: Vec<String>,
    /// Format output using a custom template: table, table TEMPLATE, json, or TEMPLATE
    #[arg(long, default_value = "")]
    pub format: String,
    /// Show n last created containers (includes all states)
    #[arg(short = 'n', long, allow_negative_numbers = true, default_value_t = -1)]
    pub last: i64,
    /// Show the latest created container (includes all states)
    #[arg(short, long)]
    pub latest: bool,
    /// Don't truncate output
    #[arg(long)]
    pub no_trunc: bool,
    /// Only display container IDs
    #[arg(short, long)]
    pub quiet: bool,
    /// Display total file sizes
    #[arg(short, long)]
    pub size: bool,
}

/// `port`
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct PortArgs {
    pub container: String,
    /// PRIVATE_PORT[/PROTO]
    pub port: Option<String>,
}

/// `top`
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct TopArgs {
    pub container: String,
    /// Options of ps(1)
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub options: Vec<String>,
}

/// `cp`
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct CopyArgs {
    /// Archive mode (copy all uid/gid information)
    #[arg(short, long)]
    pub archive: bool,
    /// Always follow symbol link in SRC_PATH
    #[arg(short = 'L', long)]
    pub follow_link: bool,
    /// Suppress progress output during copy
    #[arg(short, long)]
    pub quiet: bool,
    /// CONTAINER:SRC_PATH, SRC_PATH, or - for an archive on standard input
    #[arg(allow_hyphen_values = true)]
    pub source: String,
    /// DEST_PATH, CONTAINER:DEST_PATH, or - for an archive on standard output
    #[arg(allow_hyphen_values = true)]
    pub target: String,
}

/// `export`
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct ExportArgs {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, default_value = "")]
    pub output: String,
    pub container: String,
}

/// `commit`
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct CommitArgs {
    /// Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")
    #[arg(short, long, default_value = "")]
    pub author: String,
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long)]
    pub change: Vec<String>,
    /// Commit message
    #[arg(short, long, default_value = "")]
    pub message: String,
    /// Pause container during commit
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true")]
    pub pause: bool,
    pub container: String,
    /// [REPOSITORY[:TAG]]
    pub image: Option<String>,
}

/// `inspect`
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct InspectArgs {
    /// Format output using a custom template: json, or TEMPLATE
    #[arg(short, long, default_value = "")]
    pub format: String,
    /// Display total file sizes if the type is container
    #[arg(short, long)]
    pub size: bool,
    /// Only inspect objects of the given type
    #[arg(long = "type", default_value = "")]
    pub kind: String,
    #[arg(required = true)]
    pub names: Vec<String>,
}

/// `logs`
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct LogsArgs {
    /// Show extra details provided to logs
    #[arg(long)]
    pub details: bool,
    /// Follow log output
    #[arg(short, long)]
    pub follow: bool,
    /// Show logs since timestamp (such as 2013-01-02T13:23:37Z) or relative (such as 42m for 42 minutes)
    #[arg(long, default_value = "")]
    pub since: String,
    /// Number of lines to show from the end of the logs
    #[arg(short = 'n', long, default_value = "all", allow_hyphen_values = true)]
    pub tail: String,
    /// Show timestamps
    #[arg(short, long)]
    pub timestamps: bool,
    /// Show logs before a timestamp or relative
    #[arg(long, default_value = "")]
    pub until: String,
    pub container: String,
}

/// `stats`
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct StatsArgs {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    pub all: bool,
    /// Format output using a custom template
    #[arg(long, default_value = "")]
    pub format: String,
    /// Disable streaming stats and only pull the first result
    #[arg(long)]
    pub no_stream: bool,
    /// Do not truncate output
    #[arg(long)]
    pub no_trunc: bool,
    #[arg(value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// `events`
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct EventsArgs {
    /// Filter output based on conditions provided
    #[arg(short, long)]
    pub filter: Vec<String>,
    /// Format output using a custom template
    #[arg(long, default_value = "")]
    pub format: String,
    /// Show all events created since timestamp
    #[arg(long, default_value = "")]
    pub since: String,
    /// Stream events until this timestamp
    #[arg(long, default_value = "")]
    pub until: String,
}

/// Commands with a format alone.
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct FormatArgs {
    /// Format output using a custom template: json, or TEMPLATE
    #[arg(short, long, default_value = "")]
    pub format: String,
}

/// `system`
#[derive(Subcommand, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub enum SystemCommand {
    /// Show disk usage.
    Df(FormatArgs),
    /// Get real time events from the engine.
    Events(EventsArgs),
    /// Display system-wide information.
    Info(FormatArgs),
    /// Remove unused data.
    Prune {
        /// Remove all unused images not just dangling ones
        #[arg(short, long)]
        all: bool,
        /// Do not prompt for confirmation
        #[arg(short, long)]
        force: bool,
        /// Prune anonymous volumes
        #[arg(long)]
        volumes: bool,
        /// Provide filter values (e.g. "label=<key>=<value>")
        #[arg(long)]
        filter: Vec<String>,
    },
}
