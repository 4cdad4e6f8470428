//! The commands about networks and volumes, and their flags.

use clap::{Args, Subcommand};

/// `ls` of networks and volumes
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct ListArgs {
    /// Provide filter values (e.g. "driver=bridge")
    #[arg(short, long)]
    pub filter: Vec<String>,
    /// Format output using a custom template
    #[arg(long, default_value = "")]
    pub format: String,
    /// Do not truncate the output
    #[arg(long)]
    pub no_trunc: bool,
    /// Only display names or IDs
    #[arg(short, long)]
    pub quiet: bool,
}

/// `prune` of networks and volumes
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct PruneArgs {
    /// Remove all unused ones, not just anonymous ones
    #[arg(short, long)]
    pub all: bool,
    /// Provide filter values
    #[arg(long)]
    pub filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    pub force: bool,
}

/// `inspect` of networks and volumes
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct InspectThings {
    /// Format output using a custom template: json, or TEMPLATE
    #[arg(short, long, default_value = "")]
    pub format: String,
    #[arg(required = true)]
    pub names: Vec<String>,
}

/// `rm` of networks and volumes
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct RemoveThings {
    /// Do not error if it does not exist
    #[arg(short, long)]
    pub force: bool,
    #[arg(required = true)]
    pub names: Vec<String>,
}

/// `network`
#[derive(Subcommand, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub enum NetworkCommand {
    /// List networks.
    #[command(visible_alias = "list")]
    Ls(ListArgs),
    /// Create a network.
    Create(NetworkCreateArgs),
    /// Display detailed information on one or more networks.
    Inspect(InspectThings),
    /// Remove one or more networks.
    #[command(visible_alias = "remove")]
    Rm(RemoveThings),
    /// Remove all unused networks.
    Prune(PruneArgs),
    /// Connect a container to a network.
    Connect(NetworkConnectArgs),
    /// Disconnect a container from a network.
    Disconnect {
        /// Force the container to disconnect from a network
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
    /// Enable manual container attachment
    #[arg(long)]
    pub attachable: bool,
    /// Driver to manage the network
    #[arg(short, long, default_value = "bridge")]
    pub driver: String,
    /// IPv4 gateway for the subnet
    #[arg(long)]
    pub gateway: Option<String>,
    /// Restrict external access to the network
    #[arg(long)]
    pub internal: bool,
    /// Allocate container ip from a sub-range
    #[arg(long)]
    pub ip_range: Option<String>,
    /// Enable IPv6 networking
    #[arg(long)]
    pub ipv6: bool,
    /// Set metadata on a network
    #[arg(long)]
    pub label: Vec<String>,
    /// Set driver specific options
    #[arg(short, long = "opt")]
    pub opt: Vec<String>,
    /// Subnet in CIDR format that represents a network segment
    #[arg(long)]
    pub subnet: Option<String>,
    pub network: String,
}

/// `network connect`
#[derive(Args, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct NetworkConnectArgs {
    /// Add network-scoped alias for the container
    #[arg(long)]
    pub alias: Vec<String>,
    /// IPv4 address (e.g., "172.30.100.104")
    #[arg(long)]
    pub ip: Option<String>,
    pub network: String,
    pub container: String,
}

/// `volume`
#[derive(Subcommand, Debug)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub enum VolumeCommand {
    /// List volumes.
    #[command(visible_alias = "list")]
    Ls(ListArgs),
    /// Create a volume.
    Create {
        /// Specify volume driver name
        #[arg(short, long, default_value = "local")]
        driver: String,
        /// Set metadata for a volume
        #[arg(long)]
        label: Vec<String>,
        /// Set driver specific options
        #[arg(short, long = "opt")]
        opt: Vec<String>,
        /// A name; one is made up otherwise
        volume: Option<String>,
    },
    /// Display detailed information on one or more volumes.
    Inspect(InspectThings),
    /// Remove one or more volumes.
    #[command(visible_alias = "remove")]
    Rm(RemoveThings),
    /// Remove unused local volumes.
    Prune(PruneArgs),
}
