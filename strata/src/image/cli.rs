//! The command line of `strata image`: docker's words and flags.

use crate::cli::{DataDir, Output, REGISTRY_HOSTS};
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Images of this machine.
#[derive(Args)]
pub struct ImageArgs {
    /// Whose images.
    #[command(flatten)]
    pub node: DataDir,
    /// Folder with a HOST[:PORT]/hosts.toml for each registry.
    #[arg(
        long,
        env = REGISTRY_HOSTS,
        default_value = "/etc/strata/certs.d",
        global = true
    )]
    pub registry_hosts: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: ImageCommand,
}

/// What to do with images.
#[derive(Subcommand)]
pub enum ImageCommand {
    /// Fetch an image.
    Pull(PullArgs),
    /// Put an image into its registry.
    Push(PushArgs),
    /// Read images from a docker or OCI archive.
    Load {
        /// The file; standard input if there is none, or -.
        archive: Option<PathBuf>,
        /// The file.
        #[arg(short, long, conflicts_with = "archive")]
        input: Option<PathBuf>,
        /// Print nothing.
        #[arg(short, long)]
        quiet: bool,
    },
    /// Write images to an archive.
    Save {
        /// Names or ids.
        #[arg(required = true)]
        images: Vec<String>,
        /// The file; standard output if there is none.
        #[arg(short, long)]
        output: Option<PathBuf>,
        /// Which readers it is for.
        #[arg(long, default_value = "docker-archive")]
        format: SaveFormat,
    },
    /// Make an image of the tar of a root.
    Import {
        /// The file; standard input for -.
        source: PathBuf,
        /// The image's name.
        name: Option<String>,
        /// A Dockerfile instruction for the configuration.
        #[arg(short, long)]
        change: Vec<String>,
        /// A sentence for the history.
        #[arg(short, long, default_value = "")]
        message: String,
        /// What it is for, such as linux/arm64.
        #[arg(long)]
        platform: Option<String>,
    },
    /// Give an image one more name.
    Tag {
        /// The image.
        source: String,
        /// The name.
        target: String,
    },
    /// List images.
    #[command(alias = "list")]
    Ls(LsArgs),
    /// Say all that is known of images, as JSON.
    Inspect {
        /// Names or ids.
        #[arg(required = true)]
        images: Vec<String>,
        /// A Go template, or json.
        #[arg(short, long, default_value = "")]
        format: String,
    },
    /// Show how an image was made.
    History {
        /// Its name or id.
        image: String,
        /// A table's, a row's Go template, or json.
        #[arg(long, default_value = "")]
        format: String,
        /// Sizes and times for people.
        #[arg(short = 'H', long, default_value_t = true, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
        human: bool,
        /// Cut nothing.
        #[arg(long)]
        no_trunc: bool,
        /// Ids alone.
        #[arg(short, long)]
        quiet: bool,
    },
    /// Remove images.
    #[command(alias = "remove")]
    Rm {
        /// Names or ids.
        #[arg(required = true)]
        images: Vec<String>,
        /// An image with several names, and no error if there is none.
        #[arg(short, long)]
        force: bool,
    },
    /// Remove what no container uses and no name holds.
    Prune {
        /// Images with a name too.
        #[arg(short, long)]
        all: bool,
        /// Do not ask.
        #[arg(short, long)]
        force: bool,
        /// Only what meets these: until=24h, label=KEY[=VALUE], label!=….
        #[arg(long)]
        filter: Vec<String>,
    },
    /// Log in to a registry.
    Login(LoginArgs),
    /// Forget a login.
    Logout {
        /// The registry; docker.io if none is named.
        server: Option<String>,
    },
}

/// What is fetched.
#[derive(Args)]
pub struct PullArgs {
    /// Its name.
    pub image: String,
    /// Every tag of the repository.
    #[arg(short, long)]
    pub all_tags: bool,
    /// Which image of an index, such as linux/arm64.
    #[arg(long)]
    pub platform: Option<String>,
    /// Keep the content for all platforms, to push it on whole.
    #[arg(long)]
    pub all_platforms: bool,
    /// Print the name alone.
    #[arg(short, long)]
    pub quiet: bool,
    /// User name for the registry; what `login` keeps if there is none.
    #[arg(long, env = "STRATA_REGISTRY_USER")]
    pub username: Option<String>,
    /// Password for the registry.
    #[arg(long, env = "STRATA_REGISTRY_PASSWORD", hide_env_values = true)]
    pub password: Option<String>,
}

/// What is put into a registry.
#[derive(Args)]
pub struct PushArgs {
    /// Its name.
    pub image: String,
    /// Every tag that the repository has here.
    #[arg(short, long)]
    pub all_tags: bool,
    /// Print nothing.
    #[arg(short, long)]
    pub quiet: bool,
}

/// Which images are listed, and how.
#[derive(Args)]
pub struct LsArgs {
    /// Only names that fit this pattern.
    pub repository: Option<String>,
    /// For docker's sake: there are no images in between here.
    #[arg(short, long)]
    pub all: bool,
    /// With digests.
    #[arg(long)]
    pub digests: bool,
    /// Only what meets these: dangling=true, label=…, before=…, since=…, reference=….
    #[arg(short, long)]
    pub filter: Vec<String>,
    /// A table's, a row's Go template, or json.
    #[arg(long, default_value = "")]
    pub format: String,
    /// Cut nothing.
    #[arg(long)]
    pub no_trunc: bool,
    /// Ids alone.
    #[arg(short, long)]
    pub quiet: bool,
    /// How to print them.
    #[arg(short, long, default_value = "text", conflicts_with = "format")]
    pub output: Output,
}

/// A login.
#[derive(Args)]
pub struct LoginArgs {
    /// The registry; docker.io if none is named.
    pub server: Option<String>,
    /// User name.
    #[arg(short, long)]
    pub username: Option<String>,
    /// Password; better on standard input.
    #[arg(short, long)]
    pub password: Option<String>,
    /// Read the password from standard input.
    #[arg(long, conflicts_with = "password")]
    pub password_stdin: bool,
}

/// Which readers an archive is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SaveFormat {
    /// Docker, and whatever reads OCI layouts.
    #[default]
    DockerArchive,
    /// An OCI layout alone.
    OciArchive,
}
