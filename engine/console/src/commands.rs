//! The commands, and the flags of those that have few. `options.rs` has those of `run` and `create`.

use crate::limits::{Leaving, Limits, Process};
use crate::options::CreateOptions;
use crate::parse;
use crate::thing_commands::{NetworkCommand, VolumeCommand};
use clap::{Args, Subcommand};

/// What can be done with containers.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Make a container of an image and start it.
    #[command(disable_help_flag = true)]
    Run(Box<RunArgs>),
    /// Make a container of an image; `start` starts it.
    #[command(disable_help_flag = true)]
    Create(Box<CreateArgs>),
    /// Start containers that do not run.
    Start(StartArgs),
    /// Join a running container's streams.
    Attach(AttachArgs),
    /// Run a further command inside a container that runs.
    Exec(ExecArgs),
    /// End containers: a signal, then by force after a while.
    Stop(StopArgs),
    /// End containers and start them again.
    Restart(StopArgs),
    /// Send running containers a signal.
    Kill(KillArgs),
    /// Freeze containers.
    Pause(Containers),
    /// Let frozen containers go on.
    Unpause(Containers),
    /// Wait until containers have ended; their exit codes.
    Wait(Containers),
    /// Remove containers that have ended.
    Rm(RemoveArgs),
    /// Give a container another name.
    Rename(RenameArgs),
    /// Change limits and restart policies of containers.
    Update(UpdateArgs),
    /// Which containers there are.
    Ps(PsArgs),
    /// Where a container's ports are published.
    Port(PortArgs),
    /// The processes in a container.
    Top(TopArgs),
    /// What a container changed in its image's files.
    Diff(OneContainer),
    /// Copy files out of a container or into it.
    Cp(CopyArgs),
    /// A container's files as a tar.
    Export(ExportArgs),
    /// Make an image of a container as it is now.
    Commit(CommitArgs),
    /// All that is known of containers, images, networks and volumes, as JSON.
    Inspect(InspectArgs),
    /// What a container has written.
    Logs(LogsArgs),
    /// What containers use, again and again.
    Stats(StatsArgs),
    /// What happens in the engine, as it happens.
    Events(EventsArgs),
    /// Facts about the engine and this machine.
    Info(FormatArgs),
    /// Versions of this program and of the engine.
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
    #[command(flatten)]
    pub leaving: Leaving,
    /// Do not wait for it; print its identity
    #[arg(short, long)]
    pub detach: bool,
    /// Pass signals on to its process
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
    /// Show its output until it ends, and pass signals on
    #[arg(short, long)]
    pub attach: bool,
    /// Feed its standard input
    #[arg(short, long)]
    pub interactive: bool,
    #[command(flatten)]
    pub leaving: Leaving,
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// `attach`
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct AttachArgs {
    /// Leave its standard input alone
    #[arg(long)]
    pub no_stdin: bool,
    /// Pass signals on to its process
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true")]
    pub sig_proxy: bool,
    #[command(flatten)]
    pub leaving: Leaving,
    pub container: String,
}

/// `exec`
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct ExecArgs {
    #[command(flatten)]
    pub process: Process,
    #[command(flatten)]
    pub leaving: Leaving,
    /// Do not wait for the command
    #[arg(short, long)]
    pub detach: bool,
    /// The container, the command and its arguments
    #[arg(required = true, num_args = 2.., trailing_var_arg = true, value_name = "CONTAINER COMMAND [ARG...]")]
    pub line: Vec<String>,
}

/// `stop` and `restart`
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct StopArgs {
    /// Which signal, by name or number
    #[arg(short, long, default_value = "")]
    pub signal: String,
    /// Seconds until it is ended by force
    #[arg(short, long, alias = "time", allow_negative_numbers = true)]
    pub timeout: Option<i64>,
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// `kill`
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct KillArgs {
    /// Which signal, by name or number
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
    /// Also one that runs: it is killed
    #[arg(short, long)]
    pub force: bool,
    /// With its volumes that have no name
    #[arg(short, long)]
    pub volumes: bool,
    /// A link of docker's old kind; there are none
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
    #[command(flatten)]
    pub limits: Limits,
    /// When it is started again: no, always, unless-stopped, on-failure[:TIMES]
    #[arg(long)]
    pub restart: Option<String>,
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// `ps`
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct PsArgs {
    /// Those that do not run, too
    #[arg(short, long)]
    pub all: bool,
    /// Only what meets this, KEY=VALUE
    #[arg(short, long, value_parser = parse::filter)]
    pub filter: Vec<String>,
    /// A Go template for each row, after `table` with headers, or json
    #[arg(long, default_value = "")]
    pub format: String,
    /// The newest so many, in any state
    #[arg(short = 'n', long, allow_negative_numbers = true, default_value_t = -1)]
    pub last: i64,
    /// The newest one, in any state
    #[arg(short, long)]
    pub latest: bool,
    /// Cut nothing short
    #[arg(long)]
    pub no_trunc: bool,
    /// Identities alone
    #[arg(short, long)]
    pub quiet: bool,
    /// With the size of what each wrote
    #[arg(short, long)]
    pub size: bool,
}

/// `port`
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct PortArgs {
    pub container: String,
    /// The container's port, with /udp or /tcp
    pub port: Option<String>,
}

/// `top`
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct TopArgs {
    /// The container, and options of ps(1)
    #[arg(required = true, trailing_var_arg = true, value_name = "CONTAINER [ps OPTIONS]")]
    pub line: Vec<String>,
}

/// `cp`
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct CopyArgs {
    /// Keep owners
    #[arg(short, long)]
    pub archive: bool,
    /// What a link points to instead of the link
    #[arg(short = 'L', long)]
    pub follow_link: bool,
    /// Say nothing about how far it is
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
    /// A file to write to
    #[arg(short, long, default_value = "")]
    pub output: String,
    pub container: String,
}

/// `commit`
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct CommitArgs {
    /// Who made it
    #[arg(short, long, default_value = "")]
    pub author: String,
    /// A Dockerfile instruction for its configuration
    #[arg(short, long)]
    pub change: Vec<String>,
    /// A sentence for its history
    #[arg(short, long, default_value = "")]
    pub message: String,
    /// Freeze the container meanwhile
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
    /// A Go template, or json
    #[arg(short, long, default_value = "")]
    pub format: String,
    /// With the sizes of a container's files
    #[arg(short, long)]
    pub size: bool,
    /// Which kind is meant
    #[arg(long = "type", default_value = "")]
    pub kind: String,
    #[arg(required = true, value_name = "NAME|ID")]
    pub names: Vec<String>,
}

/// `logs`
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct LogsArgs {
    /// With the labels that were asked to be logged
    #[arg(long)]
    pub details: bool,
    /// Go on with what is written from now on
    #[arg(short, long)]
    pub follow: bool,
    /// From a moment (RFC 3339) or a while ago (10m) on
    #[arg(long, default_value = "")]
    pub since: String,
    /// The last so many lines
    #[arg(short = 'n', long, default_value = "all", allow_hyphen_values = true)]
    pub tail: String,
    /// Each line with its time
    #[arg(short, long)]
    pub timestamps: bool,
    /// Up to a moment or a while ago
    #[arg(long, default_value = "")]
    pub until: String,
    pub container: String,
}

/// `stats`
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct StatsArgs {
    /// Those that do not run, too
    #[arg(short, long)]
    pub all: bool,
    /// A Go template for each
    #[arg(long, default_value = "")]
    pub format: String,
    /// Once only
    #[arg(long)]
    pub no_stream: bool,
    /// Cut nothing short
    #[arg(long)]
    pub no_trunc: bool,
    #[arg(value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// `events`
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct EventsArgs {
    /// Only what meets this, KEY=VALUE
    #[arg(short, long, value_parser = parse::filter)]
    pub filter: Vec<String>,
    /// A Go template for each
    #[arg(long, default_value = "")]
    pub format: String,
    /// With what happened since a moment
    #[arg(long, default_value = "")]
    pub since: String,
    /// End at a moment
    #[arg(long, default_value = "")]
    pub until: String,
}

/// Commands with a format alone.
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct FormatArgs {
    /// A Go template, or json
    #[arg(short, long, default_value = "")]
    pub format: String,
}

/// `system`
#[derive(Subcommand, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub enum SystemCommand {
    /// What lies on the disk.
    Df(FormatArgs),
    /// What happens in the engine, as it happens.
    Events(EventsArgs),
    /// Facts about the engine and this machine.
    Info(FormatArgs),
    /// Remove what nothing uses.
    Prune {
        /// Images with a name, too
        #[arg(short, long)]
        all: bool,
        /// Do not ask
        #[arg(short, long)]
        force: bool,
        /// Volumes without a name, too
        #[arg(long)]
        volumes: bool,
        /// Only what meets this, such as label=KEY=VALUE
        #[arg(long, value_parser = parse::filter)]
        filter: Vec<String>,
    },
}
