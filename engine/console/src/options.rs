//! The flags of `run` and `create`.

use crate::limits::{Limits, Process};
use crate::parse;
use clap::{ArgAction, Args};
use serde_json::Value;

/// What a container is asked to be. Names, short forms and defaults are docker's.
#[derive(Args, Debug, Default)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct CreateOptions {
    #[command(flatten)]
    pub process: Process,
    #[command(flatten)]
    pub limits: Limits,
    /// Print this help
    #[arg(long, action = ArgAction::Help)]
    pub help: Option<bool>,
    /// A line for /etc/hosts, NAME:ADDRESS
    #[arg(long, value_parser = parse::extra_host)]
    pub add_host: Vec<String>,
    /// A note for the OCI runtime, KEY=VALUE
    #[arg(long)]
    pub annotation: Vec<String>,
    /// Which streams are joined: stdin, stdout, stderr
    #[arg(short, long, value_parser = parse::stream_name)]
    pub attach: Vec<String>,
    /// Share of a disk's time, DEVICE:WEIGHT
    #[arg(long, value_parser = parse::weight_device)]
    pub blkio_weight_device: Vec<Value>,
    /// A capability beyond the usual ones
    #[arg(long)]
    pub cap_add: Vec<String>,
    /// A capability to go without
    #[arg(long)]
    pub cap_drop: Vec<String>,
    /// The cgroup that its own is made in
    #[arg(long, default_value = "")]
    pub cgroup_parent: String,
    /// Whose view of cgroups it has: host or private
    #[arg(long, default_value = "")]
    pub cgroupns: String,
    /// A file for its identity
    #[arg(long)]
    pub cidfile: Option<String>,
    /// A device of this machine, HOST[:CONTAINER[:rwm]], or a CDI name
    #[arg(long)]
    pub device: Vec<String>,
    /// More devices it may use, such as c 1:3 rwm
    #[arg(long, value_parser = parse::device_rule)]
    pub device_cgroup_rule: Vec<String>,
    /// Bytes a second read from a device at most, DEVICE:RATE
    #[arg(long, value_parser = parse::throttle_bytes)]
    pub device_read_bps: Vec<Value>,
    /// Reads a second of a device at most, DEVICE:RATE
    #[arg(long, value_parser = parse::throttle_count)]
    pub device_read_iops: Vec<Value>,
    /// Bytes a second written to a device at most, DEVICE:RATE
    #[arg(long, value_parser = parse::throttle_bytes)]
    pub device_write_bps: Vec<Value>,
    /// Writes a second to a device at most, DEVICE:RATE
    #[arg(long, value_parser = parse::throttle_count)]
    pub device_write_iops: Vec<Value>,
    /// A name server
    #[arg(long, value_parser = parse::address)]
    pub dns: Vec<String>,
    /// A line of options for resolv.conf
    #[arg(long, visible_alias = "dns-opt")]
    pub dns_option: Vec<String>,
    /// A domain to search names in
    #[arg(long)]
    pub dns_search: Vec<String>,
    /// Its NIS domain
    #[arg(long, default_value = "")]
    pub domainname: String,
    /// Replaces the image's entrypoint
    #[arg(long)]
    pub entrypoint: Option<String>,
    /// Ports that it serves, not published by that
    #[arg(long)]
    pub expose: Vec<String>,
    /// Graphics processors (refused: use --device with a CDI name)
    #[arg(long)]
    pub gpus: Option<String>,
    /// One more group
    #[arg(long)]
    pub group_add: Vec<String>,
    /// What is run to see whether it is well
    #[arg(long)]
    pub health_cmd: Option<String>,
    /// How long between two checks
    #[arg(long, allow_hyphen_values = true, value_parser = parse::duration)]
    pub health_interval: Option<i64>,
    /// Failures in a row that make it unhealthy
    #[arg(long, allow_negative_numbers = true)]
    pub health_retries: Option<i64>,
    /// How long between two checks while it starts
    #[arg(long, allow_hyphen_values = true, value_parser = parse::duration)]
    pub health_start_interval: Option<i64>,
    /// How long failures do not count after its start
    #[arg(long, allow_hyphen_values = true, value_parser = parse::duration)]
    pub health_start_period: Option<i64>,
    /// How long one check may take
    #[arg(long, allow_hyphen_values = true, value_parser = parse::duration)]
    pub health_timeout: Option<i64>,
    /// Its host name
    #[arg(short = 'h', long, default_value = "")]
    pub hostname: String,
    /// A small first process of ours that passes signals on and reaps
    #[arg(long)]
    pub init: bool,
    /// Its address in the network
    #[arg(long)]
    pub ip: Option<String>,
    /// Whose IPC: private, shareable, host, none, container:NAME
    #[arg(long, default_value = "")]
    pub ipc: String,
    /// A label, KEY=VALUE
    #[arg(short, long)]
    pub label: Vec<String>,
    /// A file with a label a line
    #[arg(long)]
    pub label_file: Vec<String>,
    /// A link of docker's old kind (refused: use a network)
    #[arg(long)]
    pub link: Vec<String>,
    /// How its output is kept
    #[arg(long, default_value = "")]
    pub log_driver: String,
    /// A setting of that, KEY=VALUE
    #[arg(long)]
    pub log_opt: Vec<String>,
    /// Its hardware address
    #[arg(long, default_value = "")]
    pub mac_address: String,
    /// How readily its memory is swapped, 0 to 100
    #[arg(long)]
    pub memory_swappiness: Option<i64>,
    /// A mount as type=…,source=…,target=…
    #[arg(long, value_parser = parse::mount)]
    pub mount: Vec<Value>,
    /// Its name
    #[arg(long, default_value = "")]
    pub name: String,
    /// Which network it joins
    #[arg(long, visible_alias = "net")]
    pub network: Vec<String>,
    /// One more name in the network
    #[arg(long, visible_alias = "net-alias")]
    pub network_alias: Vec<String>,
    /// No checks of its health
    #[arg(long)]
    pub no_healthcheck: bool,
    /// Wait for memory instead of being killed
    #[arg(long)]
    pub oom_kill_disable: bool,
    /// How soon it is killed when memory is short, -1000 to 1000
    #[arg(long, allow_negative_numbers = true, default_value_t = 0)]
    pub oom_score_adj: i32,
    /// Whose processes it sees: its own, host, container:NAME
    #[arg(long, default_value = "")]
    pub pid: String,
    /// Which image of an index, such as linux/arm64
    #[arg(long, default_value = "")]
    pub platform: String,
    /// Publish a port, [ADDRESS:][PORT:]PORT[/udp]
    #[arg(short, long)]
    pub publish: Vec<String>,
    /// Publish every port that it serves at a free one
    #[arg(short = 'P', long)]
    pub publish_all: bool,
    /// When the image is fetched: always, missing, never
    #[arg(long, default_value = "missing")]
    pub pull: String,
    /// Say nothing while the image is fetched
    #[arg(short, long)]
    pub quiet: bool,
    /// Its root cannot be written
    #[arg(long)]
    pub read_only: bool,
    /// When it is started again: no, always, unless-stopped, on-failure[:TIMES]
    #[arg(long, default_value = "no")]
    pub restart: String,
    /// Remove it when it ends, with its volumes that have no name
    #[arg(long)]
    pub rm: bool,
    /// Which OCI runtime; ours alone
    #[arg(long, default_value = "")]
    pub runtime: String,
    /// A restriction, such as seccomp=FILE or no-new-privileges
    #[arg(long)]
    pub security_opt: Vec<String>,
    /// Bytes of /dev/shm
    #[arg(long, value_parser = parse::bytes)]
    pub shm_size: Option<i64>,
    /// The signal that `stop` sends
    #[arg(long, default_value = "")]
    pub stop_signal: String,
    /// Seconds that `stop` waits
    #[arg(long, allow_negative_numbers = true)]
    pub stop_timeout: Option<i64>,
    /// A setting of its file system (refused), KEY=VALUE
    #[arg(long)]
    pub storage_opt: Vec<String>,
    /// A kernel parameter of its namespaces, NAME=VALUE
    #[arg(long)]
    pub sysctl: Vec<String>,
    /// A folder in memory
    #[arg(long)]
    pub tmpfs: Vec<String>,
    /// A limit, NAME=SOFT[:HARD]
    #[arg(long, value_parser = parse::ulimit)]
    pub ulimit: Vec<Value>,
    /// Whose users
    #[arg(long, default_value = "")]
    pub userns: String,
    /// Whose host name
    #[arg(long, default_value = "")]
    pub uts: String,
    /// A folder or volume, SOURCE:TARGET[:ro]
    #[arg(short, long)]
    pub volume: Vec<String>,
    /// Who keeps its volumes
    #[arg(long, default_value = "")]
    pub volume_driver: String,
    /// The volumes of another container
    #[arg(long)]
    pub volumes_from: Vec<String>,
    /// The image, and the command with its arguments. Nothing after the image is a flag of ours.
    #[arg(required = true, trailing_var_arg = true, value_name = "IMAGE [COMMAND] [ARG...]")]
    pub line: Vec<String>,
}

impl CreateOptions {
    /// The image.
    pub(crate) fn image(&self) -> &str {
        self.line.first().map_or("", String::as_str)
    }

    /// The command and its arguments.
    pub(crate) fn command(&self) -> &[String] {
        self.line.get(1..).unwrap_or_default()
    }
}
