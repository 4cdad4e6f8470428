//! Flags that several commands have: how much a container may use, and how a process in it is run.

use crate::parse;
use clap::Args;
use serde_json::{Value, json};

/// How much a container may use; what is not named stays as it is.
#[derive(Args, Debug, Default)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct Limits {
    /// Share of disk time, 10 to 1000
    #[arg(long)]
    pub blkio_weight: Option<u16>,
    /// Microseconds that the quota is for
    #[arg(long)]
    pub cpu_period: Option<i64>,
    /// Microseconds of processor time in each period
    #[arg(long, allow_negative_numbers = true)]
    pub cpu_quota: Option<i64>,
    /// Share of processor time beside others; 1024 is one
    #[arg(short, long)]
    pub cpu_shares: Option<i64>,
    /// How many processors' time at most, such as 1.5
    #[arg(long, value_parser = parse::cpus)]
    pub cpus: Option<i64>,
    /// Which processors, such as 0-3 or 0,1
    #[arg(long)]
    pub cpuset_cpus: Option<String>,
    /// Which memory nodes, such as 0-3 or 0,1
    #[arg(long)]
    pub cpuset_mems: Option<String>,
    /// Bytes of memory at most, with b, k, m or g
    #[arg(short, long, value_parser = parse::bytes)]
    pub memory: Option<i64>,
    /// Bytes that are left to it while memory is short
    #[arg(long, value_parser = parse::bytes)]
    pub memory_reservation: Option<i64>,
    /// Bytes of memory and swap together; -1 is no limit
    #[arg(long, allow_hyphen_values = true, value_parser = parse::bytes_or_none)]
    pub memory_swap: Option<i64>,
    /// Processes and threads at most; -1 is no limit
    #[arg(long, allow_negative_numbers = true)]
    pub pids_limit: Option<i64>,
}

impl Limits {
    /// The members of a request that set them.
    pub(crate) fn members(&self) -> Vec<(&'static str, Value)> {
        let number = |key, value: Option<i64>| value.map(|value| (key, json!(value)));
        let text = |key, value: &Option<String>| value.as_ref().map(|value| (key, json!(value)));
        [
            number("BlkioWeight", self.blkio_weight.map(i64::from)),
            number("CpuPeriod", self.cpu_period),
            number("CpuQuota", self.cpu_quota),
            number("CpuShares", self.cpu_shares),
            number("NanoCpus", self.cpus),
            text("CpusetCpus", &self.cpuset_cpus),
            text("CpusetMems", &self.cpuset_mems),
            number("Memory", self.memory),
            number("MemoryReservation", self.memory_reservation),
            number("MemorySwap", self.memory_swap),
            number("PidsLimit", self.pids_limit),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// How a session ends while the process goes on.
#[derive(Args, Debug, Default)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct Leaving {
    /// Keys that leave it running (ctrl-p,ctrl-q unless told)
    #[arg(long, default_value = "")]
    pub detach_keys: String,
}

/// How a process is run.
#[derive(Args, Debug, Default)]
#[allow(missing_docs, reason = "flags are documented for the user")]
pub struct Process {
    /// A variable, NAME=VALUE; NAME alone passes this program's on
    #[arg(short, long, value_parser = parse::named)]
    pub env: Vec<String>,
    /// A file with a variable a line
    #[arg(long)]
    pub env_file: Vec<String>,
    /// Keep its standard input open
    #[arg(short, long)]
    pub interactive: bool,
    /// Every capability and device, nothing masked
    #[arg(long)]
    pub privileged: bool,
    /// A terminal
    #[arg(short, long)]
    pub tty: bool,
    /// User by name or number, and group after a colon
    #[arg(short, long, default_value = "")]
    pub user: String,
    /// Directory to begin in
    #[arg(short, long, default_value = "")]
    pub workdir: String,
}
