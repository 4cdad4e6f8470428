//! The command line. One tree of types from which parser, help and completions derive.

use crate::audit::AuditSettings;
use crate::image::cli::{ImageArgs, LoginArgs};
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use std::{net::IpAddr, path::PathBuf};

/// Names the folder of registry settings, for a server and for the nodes of a cluster alike.
pub const REGISTRY_HOSTS: &str = "STRATA_REGISTRY_HOSTS";

/// The whole cloud-native stack in one binary.
#[derive(Parser)]
#[command(name = "strata", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Which log events are written: error, warn, info, debug, trace, or filters by module.
    #[arg(long, global = true, env = "STRATA_LOG", default_value = "info")]
    pub log: String,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Run a control plane and a node on this machine.
    Server(Box<ServerArgs>),
    /// Run a node on this machine that joins a control plane elsewhere.
    Node(NodeArgs),
    /// Serve the container runtime interface (CRI) to a kubelet, crictl and others.
    Cri(CriArgs),
    /// Manage the tokens with which machines join.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Manage throwaway clusters on this machine, one network namespace a node.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Show what Strata does: cluster, deployment, service, request, timings, clean-up.
    Demo(DemoArgs),
    /// Manage images on this machine.
    Image(Box<ImageArgs>),
    /// Log in to a registry.
    Login(LoginArgs),
    /// Forget the login to a registry.
    Logout {
        /// The registry; docker.io if none is named.
        server: Option<String>,
    },
    /// Containers, as docker has them.
    #[command(flatten)]
    Containers(strata_console::Command),
    /// Run the daemon behind the commands for containers; they start it when it is not there.
    Engine(crate::people::EngineArgs),
    /// Look after a server's store while the server is stopped.
    Store(StoreArgs),
    /// Remove every trace of a stopped server, node or engine from this machine.
    Reset(DataDir),
    /// Say whether this machine is fit to run a node.
    Check {
        /// How to print the answer.
        #[arg(short, long, default_value = "text")]
        output: Output,
    },
    /// Print a completion script.
    Completion {
        /// For which shell.
        shell: Shell,
    },
    /// Serve a small HTTP page; the program of the built-in image strata.local/hello.
    #[command(hide = true)]
    Hello {
        /// The port.
        #[arg(long, default_value_t = 8080)]
        port: u16,
    },
    /// The inside of a cluster's node.
    #[command(hide = true)]
    ClusterNode {
        /// Its description.
        spec: PathBuf,
    },
    /// The process that keeps a cluster's nodes.
    #[command(hide = true)]
    ClusterSupervisor {
        /// The cluster's folder.
        folder: PathBuf,
    },
    /// The OCI runtime command line; takes runc's commands and flags.
    #[command(disable_help_flag = true)]
    Runtime {
        /// Passed on.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
}

/// Shells with completions.
#[derive(Clone, Copy, ValueEnum)]
#[allow(missing_docs)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// Settings of a server.
#[derive(Args, Clone, Debug)]
pub struct ServerArgs {
    /// Where everything is kept.
    #[arg(long, env = "STRATA_DATA_DIR", default_value = "/var/lib/strata")]
    pub data_dir: PathBuf,
    /// Address the API is served on.
    #[arg(long, env = "STRATA_BIND", default_value = "0.0.0.0")]
    pub bind: IpAddr,
    /// Port the API is served on.
    #[arg(long, env = "STRATA_PORT", default_value_t = 6443)]
    pub port: u16,
    /// Write the administrator's kubeconfig here as well (it is always in the data directory).
    #[arg(long, env = "STRATA_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// Run the control plane only.
    #[arg(long, env = "STRATA_NO_NODE")]
    pub no_node: bool,
    /// Serve the API alone, as upstream's kube-apiserver is without its siblings: no controllers, scheduler, add-ons.
    #[arg(long, hide = true, requires = "no_node")]
    pub no_controllers: bool,
    /// A KubeSchedulerConfiguration: profiles of the scheduler, their plugins and the plugins' arguments.
    #[arg(long, conflicts_with = "no_controllers")]
    pub scheduler_config: Option<PathBuf>,
    /// How the API server is guarded and watched.
    #[command(flatten)]
    pub api: ApiSettings,
    /// What is written down about requests.
    #[command(flatten)]
    pub audit: AuditSettings,
    /// Settings of the node.
    #[command(flatten)]
    pub node: NodeSettings,
    /// The flags as they were given or are by default, for /flagz.
    #[arg(skip)]
    pub flags: std::collections::BTreeMap<String, String>,
}

/// Settings of the API server, named as upstream names them.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "API server")]
pub struct ApiSettings {
    /// An AuthenticationConfiguration: OpenID providers whose tokens are believed.
    #[arg(long)]
    pub authentication_config: Option<PathBuf>,
    /// A kubeconfig of the webhook that knows tokens the server does not.
    #[arg(long)]
    pub authentication_token_webhook_config_file: Option<PathBuf>,
    /// A kubeconfig of the webhook that may allow what the server does not.
    #[arg(long)]
    pub authorization_webhook_config_file: Option<PathBuf>,
    /// An AuthorizationConfiguration: who decides what somebody may do, and in which order.
    #[arg(long, conflicts_with = "authorization_webhook_config_file")]
    pub authorization_config: Option<PathBuf>,
    /// An authority, PEM, of front proxies that are believed about who asks.
    #[arg(long)]
    pub requestheader_client_ca_file: Option<PathBuf>,
    /// Common names of front proxies that are believed; any if none is given.
    #[arg(long, value_delimiter = ',')]
    pub requestheader_allowed_names: Vec<String>,
    /// Headers in which a front proxy names the user.
    #[arg(long, value_delimiter = ',', default_value = "X-Remote-User")]
    pub requestheader_username_headers: Vec<String>,
    /// Headers with the user's uid.
    #[arg(long, value_delimiter = ',', default_value = "X-Remote-Uid")]
    pub requestheader_uid_headers: Vec<String>,
    /// Headers with the user's groups.
    #[arg(long, value_delimiter = ',', default_value = "X-Remote-Group")]
    pub requestheader_group_headers: Vec<String>,
    /// What headers begin with that hold more about the user.
    #[arg(long, value_delimiter = ',', default_value = "X-Remote-Extra-")]
    pub requestheader_extra_headers_prefix: Vec<String>,
    /// An EncryptionConfiguration: which resources are encrypted in the store, and with which keys.
    #[arg(long)]
    pub encryption_provider_config: Option<PathBuf>,
    /// Read that file again when it has changed.
    #[arg(long, requires = "encryption_provider_config", num_args = 0..=1, default_missing_value = "true", default_value_t = false)]
    pub encryption_provider_config_automatic_reload: bool,
    /// The longest life of a service account's token; what asks for more gets this. 0s is no limit.
    #[arg(long, default_value = "0s", value_parser = duration)]
    pub service_account_max_token_expiration: std::time::Duration,
    /// Let the tokens of pods that never read theirs anew live a year, and note when they are used too long.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = true, action = clap::ArgAction::Set)]
    pub service_account_extend_token_expiration: bool,
    /// How long a server that was told to stop goes on answering while /readyz says that it stops, such as 20s.
    #[arg(long, default_value = "0s", value_parser = duration)]
    pub shutdown_delay_duration: std::time::Duration,
    /// Of how many HTTP/2 requests one is told to connect anew, to spread clients over servers; at most 0.02.
    #[arg(long, default_value_t = 0.0, value_parser = chance)]
    pub goaway_chance: f64,
}

impl Cli {
    /// Reads the command line.
    pub fn read() -> Self {
        let mut given = std::env::args_os();
        let program = given.next().unwrap_or_else(|| "strata".into());
        let words = strata_console::plain_switches(&Self::command(), given.collect());
        let matches = Self::command().try_get_matches_from(std::iter::once(program).chain(words));
        let matches = matches.unwrap_or_else(|error| unreadable(&error));
        let mut cli = Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        if let (Command::Server(args), Some(("server", given))) = (&mut cli.command, matches.subcommand()) {
            args.flags = flags(given);
        }
        cli
    }
}

/// Tells what is wrong with the command line: of the commands for people in docker's words, with its exit code.
fn unreadable(error: &clap::Error) -> ! {
    let root = Cli::command();
    let given: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let path = strata_console::command_path(&root, &given);
    let of_people = path.first().is_some_and(|first| {
        let containers = strata_console::Command::augment_subcommands(clap::Command::new("people"));
        containers.find_subcommand(first).is_some() || matches!(*first, "image" | "login" | "logout")
    });
    match strata_console::usage_error(&root, &path, error) {
        Some(failure) if of_people => {
            eprintln!("{}", failure.message);
            std::process::exit(failure.code.into());
        }
        _ => error.exit(),
    }
}

/// Every flag of `strata server` with its value; none of them holds a secret.
fn flags(given: &ArgMatches) -> std::collections::BTreeMap<String, String> {
    let command = Cli::command();
    let arguments = command
        .find_subcommand("server")
        .into_iter()
        .flat_map(clap::Command::get_arguments);
    let value = |id: &str| match given.try_get_raw(id) {
        Ok(Some(values)) => values.map(|v| v.to_string_lossy()).collect::<Vec<_>>().join(","),
        _ => String::new(),
    };
    arguments
        .filter_map(|argument| Some((argument.get_long()?.to_owned(), value(argument.get_id().as_str()))))
        .collect()
}

/// As Go reads durations.
pub fn duration(text: &str) -> Result<std::time::Duration, String> {
    let read: strata_meta::GoDuration = text.parse()?;
    read.length().ok_or_else(|| format!("the duration {text} is negative"))
}

fn chance(text: &str) -> Result<f64, String> {
    let chance = text.parse().map_err(|e| format!("{e}"))?;
    match (0.0..=0.02).contains(&chance) {
        true => Ok(chance),
        false => Err("must be between 0 and 0.02".into()),
    }
}

/// Settings of a node, on a server or alone.
#[derive(Args, Clone, Debug)]
pub struct NodeSettings {
    /// The node's name; the host name by default.
    #[arg(long, env = "STRATA_NODE_NAME")]
    pub node_name: Option<String>,
    /// The node's address; that of the default route by default.
    #[arg(long, env = "STRATA_NODE_IP")]
    pub node_ip: Option<IpAddr>,
    /// Folder with a HOST[:PORT]/hosts.toml for each registry.
    #[arg(long, env = REGISTRY_HOSTS, default_value = "/etc/strata/certs.d")]
    pub registry_hosts: PathBuf,
    /// A KubeletConfiguration: eviction, reservations, images, logs, shutdown, managers; unknown fields are refused.
    #[arg(long, env = "STRATA_KUBELET_CONFIG")]
    pub kubelet_config: Option<PathBuf>,
    /// The node's disk is filled by others too: a full one evicts no pod and removes no image.
    #[arg(long, hide = true)]
    pub shared_disk: bool,
    /// Folder with manifests of pods that this node runs by itself (static pods).
    #[arg(long, env = "STRATA_POD_MANIFEST_PATH")]
    pub pod_manifest_path: Option<PathBuf>,
    /// Folder with the sockets of device plugins; /var/lib/kubelet, or the data directory if that is not the default one.
    #[arg(long, env = "STRATA_PLUGINS_DIR")]
    pub plugins_dir: Option<PathBuf>,
    /// Folder for volumes of pods; in the data directory by default.
    #[arg(long, hide = true)]
    pub pods_dir: Option<PathBuf>,
    /// Folder for logs of pods; in the data directory by default.
    #[arg(long, hide = true)]
    pub pod_logs_dir: Option<PathBuf>,
}

/// Settings of a node that joins.
#[derive(Args, Clone, Debug)]
pub struct NodeArgs {
    /// The control plane, such as https://10.0.0.1:6443.
    #[arg(long, env = "STRATA_SERVER")]
    pub server: String,
    /// What `strata token create` printed; needed at the first start only.
    #[arg(long, env = "STRATA_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Where everything is kept.
    #[arg(long, env = "STRATA_DATA_DIR", default_value = "/var/lib/strata")]
    pub data_dir: PathBuf,
    /// Settings of the node.
    #[command(flatten)]
    pub node: NodeSettings,
}

/// Who makes cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CgroupDriver {
    /// This program.
    Cgroupfs,
    /// systemd, if it is the machine's first process.
    Systemd,
}

/// Settings of the container runtime interface.
#[derive(Args, Clone, Debug)]
pub struct CriArgs {
    /// The socket to serve on.
    #[arg(long, env = "STRATA_CRI_LISTEN", default_value = "unix:///run/strata/cri.sock")]
    pub listen: String,
    /// Where everything is kept.
    #[arg(long, env = "STRATA_DATA_DIR", default_value = "/var/lib/strata-cri")]
    pub data_dir: PathBuf,
    /// Address of the server for exec, attach and port-forward.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub streaming_bind: std::net::SocketAddr,
    /// Addresses of pods until a kubelet names others; a range that no other server on this machine uses by default.
    #[arg(long, env = "STRATA_SANDBOX_SUBNET")]
    pub sandbox_subnet: Option<String>,
    /// Who makes the cgroups of containers; a kubelet asks, and does as this does.
    #[arg(long, env = "STRATA_CGROUP_DRIVER", default_value = "cgroupfs")]
    pub cgroup_driver: CgroupDriver,
    /// Give pods the network that is configured for plugins (CNI), in place of this program's own.
    #[arg(long, env = "STRATA_CNI")]
    pub cni: bool,
    /// Folder of network configurations; the first file counts.
    #[arg(long, env = "STRATA_CNI_CONF_DIR", default_value = "/etc/cni/net.d")]
    pub cni_conf_dir: PathBuf,
    /// Folders of network plugins.
    #[arg(
        long,
        env = "STRATA_CNI_BIN_DIR",
        value_delimiter = ',',
        default_value = "/opt/cni/bin,/usr/lib/cni"
    )]
    pub cni_bin_dir: Vec<PathBuf>,
    /// Folder with a HOST[:PORT]/hosts.toml for each registry.
    #[arg(long, env = REGISTRY_HOSTS, default_value = "/etc/strata/certs.d")]
    pub registry_hosts: PathBuf,
}

/// Where a command finds a server on this machine.
#[derive(Args, Clone, Debug)]
pub struct DataDir {
    /// The server's data directory.
    #[arg(long, env = "STRATA_DATA_DIR", default_value = "/var/lib/strata", global = true)]
    pub data_dir: PathBuf,
}

/// Tokens with which machines join.
#[derive(Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it.
    Create {
        /// The server.
        #[command(flatten)]
        server: DataDir,
        /// Hours it is valid.
        #[arg(long, default_value_t = 24)]
        hours: u32,
    },
    /// List the tokens that are valid.
    List {
        /// The server.
        #[command(flatten)]
        server: DataDir,
        /// How to print them.
        #[arg(short, long, default_value = "text")]
        output: Output,
    },
    /// Make a token invalid.
    Delete {
        /// The server.
        #[command(flatten)]
        server: DataDir,
        /// The part before the dot.
        id: String,
    },
}

/// Throwaway clusters on this machine.
#[derive(Subcommand)]
pub enum ClusterCommand {
    /// Make a cluster, wait until its nodes are ready and add it to the kubeconfig.
    Create {
        /// Its name.
        #[arg(default_value = "default")]
        name: String,
        /// How many nodes.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
        nodes: u8,
        /// Kubeconfig to add the context to; $KUBECONFIG or ~/.kube/config by default.
        #[arg(long)]
        kubeconfig: Option<PathBuf>,
        /// Loopback ports of this machine that the nodes reach at their own loopback, such as a registry.
        #[arg(long, value_delimiter = ',', default_value = "5000")]
        forward: Vec<u16>,
        /// Seconds to wait for the nodes.
        #[arg(long, default_value_t = 60)]
        wait: u64,
    },
    /// List the clusters.
    List {
        /// How to print them.
        #[arg(short, long, default_value = "text")]
        output: Output,
    },
    /// Remove a cluster and every trace of it.
    Delete {
        /// Its name.
        #[arg(default_value = "default")]
        name: String,
        /// Kubeconfig to take the context out of.
        #[arg(long)]
        kubeconfig: Option<PathBuf>,
    },
}

/// The demonstration.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// How to print the timings.
    #[arg(short, long, default_value = "text")]
    pub output: Output,
}

/// A stopped server's store.
#[derive(Args)]
pub struct StoreArgs {
    /// The server.
    #[command(flatten)]
    pub server: DataDir,
    /// What to do.
    #[command(subcommand)]
    pub command: StoreCommand,
}

/// What to do with a store.
#[derive(Subcommand)]
pub enum StoreCommand {
    /// Say what is wrong with the files.
    Check,
    /// Write everything into one file.
    Backup {
        /// The file; must not exist.
        file: PathBuf,
    },
    /// Make the store from such a file; the store must be empty.
    Restore {
        /// The file.
        file: PathBuf,
    },
}
