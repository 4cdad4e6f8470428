//! The commands about networks and volumes, and their flags.

use crate::parse;
use clap::{Args, Subcommand};

/// `ls` of networks and volumes
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct ListArgs {
    /// Only what meets this, such as driver=bridge
    #[arg(short, long, value_parser = parse::filter)]
    pub filter: Vec<String>,
    /// A Go template for each
    #[arg(long, default_value = "")]
    pub format: String,
    /// Cut nothing short
    #[arg(long)]
    pub no_trunc: bool,
    /// Names or identities alone
    #[arg(short, long)]
    pub quiet: bool,
}

/// `prune` of networks and volumes
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct PruneArgs {
    /// Those with a name, too
    #[arg(short, long)]
    pub all: bool,
    /// Only what meets this
    #[arg(long, value_parser = parse::filter)]
    pub filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
}

/// `inspect` of networks and volumes
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct InspectThings {
    /// A Go template, or json
    #[arg(short, long, default_value = "")]
    pub format: String,
    #[arg(required = true)]
    pub names: Vec<String>,
}

/// `rm` of networks and volumes
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct RemoveThings {
    /// None of that name is no error
    #[arg(short, long)]
    pub force: bool,
    #[arg(required = true)]
    pub names: Vec<String>,
}

/// `network`
#[derive(Subcommand, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub enum NetworkCommand {
    /// Which networks there are.
    #[command(visible_alias = "list")]
    Ls(ListArgs),
    /// Make a network.
    Create(NetworkCreateArgs),
    /// All that is known of networks, as JSON.
    Inspect(InspectThings),
    /// Remove networks.
    #[command(visible_alias = "remove")]
    Rm(RemoveThings),
    /// Remove networks without containers.
    Prune(PruneArgs),
    /// Let a container join a network.
    Connect(NetworkConnectArgs),
    /// Take a container out of a network.
    Disconnect {
        /// Whatever state the container is in
        #[arg(short, long)]
        force: bool,
        network: String,
        container: String,
    },
}

/// `network create`
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct NetworkCreateArgs {
    /// An address of the subnet that no container gets, NAME=ADDRESS
    #[arg(long)]
    pub aux_address: Vec<String>,
    /// For docker's sake: any container may join
    #[arg(long)]
    pub attachable: bool,
    /// Who keeps the network
    #[arg(short, long, default_value = "bridge")]
    pub driver: String,
    /// The machine's own address in it
    #[arg(long)]
    pub gateway: Option<String>,
    /// Nothing leads out of it
    #[arg(long)]
    pub internal: bool,
    /// Only addresses of this range are given out
    #[arg(long)]
    pub ip_range: Option<String>,
    /// IPv6 (refused)
    #[arg(long)]
    pub ipv6: bool,
    /// A label, KEY=VALUE
    #[arg(long)]
    pub label: Vec<String>,
    /// A setting for the driver, KEY=VALUE
    #[arg(short, long = "opt")]
    pub opt: Vec<String>,
    /// Its addresses, as CIDR
    #[arg(long)]
    pub subnet: Option<String>,
    pub network: String,
}

/// `network connect`
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct NetworkConnectArgs {
    /// One more name in the network
    #[arg(long)]
    pub alias: Vec<String>,
    /// Its address in the network
    #[arg(long)]
    pub ip: Option<String>,
    pub network: String,
    pub container: String,
}

/// `volume`
#[derive(Subcommand, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub enum VolumeCommand {
    /// Which volumes there are.
    #[command(visible_alias = "list")]
    Ls(ListArgs),
    /// Make a volume.
    Create {
        /// Who keeps the volume
        #[arg(short, long, default_value = "local")]
        driver: String,
        /// A label, KEY=VALUE
        #[arg(long)]
        label: Vec<String>,
        /// A setting for the driver, KEY=VALUE
        #[arg(short, long = "opt")]
        opt: Vec<String>,
        /// A name; one is made up otherwise
        volume: Option<String>,
    },
    /// All that is known of volumes, as JSON.
    Inspect(InspectThings),
    /// Remove volumes.
    #[command(visible_alias = "remove")]
    Rm(RemoveThings),
    /// Remove volumes that no container uses.
    Prune(PruneArgs),
}
