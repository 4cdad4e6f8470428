//! What a container may be asked to be: what cannot be is refused before anything is made, in the words by
//! which clients know it.

use crate::config::{Config, HealthConfig, HostConfig, Throttle, WeightDevice};
use crate::error::{Answer, ApiError};
use crate::{launch, logopts};
use std::path::Path;

/// Less than this cannot hold a process and its page tables.
const LEAST_MEMORY: i64 = 6 << 20;
/// Shortest time between two health checks, in nanoseconds.
const LEAST_DURATION: i64 = 1_000_000;
/// Microseconds that a share of processor time may be counted over.
const PERIODS: std::ops::RangeInclusive<i64> = 1_000..=1_000_000;
/// The OCI runtime's names.
const RUNTIMES: [&str; 2] = ["strata", ""];

type Told = Answer<()>;

/// Refuses limits that cannot be.
pub(crate) fn limits(host: &HostConfig) -> Told {
    memory(host)?;
    processors(host)?;
    block_io(host).map(drop)
}

fn refuse(sentence: impl Into<String>) -> Told {
    Err(ApiError::invalid(sentence))
}

/// Refuses what cannot be; what the user should know.
pub(crate) fn check(config: &Config, host: &HostConfig) -> Answer<Vec<String>> {
    process(config)?;
    if let Some(health) = &config.healthcheck {
        self::health(health)?;
    }
    restart(host)?;
    memory(host)?;
    processors(host)?;
    let mut warnings = block_io(host)?;
    modes(host)?;
    logopts::check(&host.log_config)?;
    device_rules(&host.device_cgroup_rules)?;
    warnings.extend(network(config, host)?);
    Ok(warnings)
}

fn process(config: &Config) -> Told {
    if let Some(bad) = config.env.iter().find(|line| line.is_empty() || line.starts_with('=')) {
        return refuse(format!("invalid environment variable: {bad}"));
    }
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        return refuse(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            config.working_dir
        ));
    }
    if !config.stop_signal.is_empty() && strata_engine::signal_number(&config.stop_signal).is_none() {
        return refuse(format!("invalid signal: {}", config.stop_signal));
    }
    Ok(())
}

fn health(check: &HealthConfig) -> Told {
    for (name, value) in [
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
    ] {
        if value != 0 && value < LEAST_DURATION {
            return refuse(format!("{name} in Healthcheck cannot be less than 1ms"));
        }
    }
    match check.retries {
        ..0 => refuse("Retries in Healthcheck cannot be negative"),
        _ => Ok(()),
    }
}

fn restart(host: &HostConfig) -> Told {
    let policy = &host.restart_policy;
    if host.auto_remove && !matches!(policy.name.as_str(), "" | "no") {
        return refuse("can't create 'AutoRemove' container with restart policy");
    }
    match policy.name.as_str() {
        "on-failure" => Ok(()),
        "" | "no" | "always" | "unless-stopped" if policy.maximum_retry_count == 0 => Ok(()),
        "" | "no" | "always" | "unless-stopped" => {
            refuse("invalid restart policy: maximum retry count can only be used with 'on-failure'")
        }
        other => refuse(format!(
            "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        )),
    }
}

fn memory(host: &HostConfig) -> Told {
    let (limit, swap, reservation) = (host.memory, host.memory_swap, host.memory_reservation);
    if limit != 0 && limit < LEAST_MEMORY {
        return refuse("Minimum memory limit allowed is 6MB");
    }
    if limit > 0 && swap > 0 && swap < limit {
        return refuse("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if limit == 0 && swap > 0 {
        return refuse("You should always set the Memory limit when using Memoryswap limit, see usage");
    }
    if let Some(value) = host.memory_swappiness.filter(|value| !(-1..=100).contains(value)) {
        return refuse(format!(
            "Invalid value: {value}, valid memory swappiness range is 0-100"
        ));
    }
    if reservation != 0 && reservation < LEAST_MEMORY {
        return refuse("Minimum memory reservation allowed is 6MB");
    }
    if limit > 0 && reservation > limit {
        return refuse("Minimum memory limit can not be less than memory reservation limit, see usage");
    }
    if host.shm_size < 0 {
        return refuse("SHM size can not be less than 0");
    }
    match host.oom_score_adj {
        -1000..=1000 => Ok(()),
        other => refuse(format!(
            "Invalid value {other}, range for oom score adj is [-1000, 1000]"
        )),
    }
}

fn processors(host: &HostConfig) -> Told {
    if host.nano_cpus > 0 && host.cpu_period > 0 {
        return refuse("Conflicting options: Nano CPUs and CPU Period cannot both be set");
    }
    if host.nano_cpus > 0 && host.cpu_quota > 0 {
        return refuse("Conflicting options: Nano CPUs and CPU Quota cannot both be set");
    }
    let cpus = std::thread::available_parallelism().map_or(1, |n| n.get() as i64);
    if host.nano_cpus < 0 || host.nano_cpus > cpus * 1_000_000_000 {
        return refuse(format!(
            "range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        ));
    }
    if host.cpu_period != 0 && !PERIODS.contains(&host.cpu_period) {
        return refuse("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)");
    }
    if host.cpu_quota > 0 && host.cpu_quota < *PERIODS.start() {
        return refuse("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    if host.cpu_shares < 0 {
        return refuse(format!(
            "invalid CPU shares ({}): value must be a positive integer",
            host.cpu_shares
        ));
    }
    if host.cpu_realtime_period != 0 || host.cpu_realtime_runtime != 0 {
        return refuse("kernel does not support CPU real-time scheduler");
    }
    for (what, wanted, file) in [
        ("CPUs", &host.cpuset_cpus, "/sys/devices/system/cpu/online"),
        ("memory nodes", &host.cpuset_mems, "/sys/devices/system/node/online"),
    ] {
        set_is_there(what, wanted, file)?;
    }
    Ok(())
}

/// Whether processors or memory nodes that are asked for exist.
fn set_is_there(what: &str, wanted: &str, file: &str) -> Told {
    if wanted.is_empty() {
        return Ok(());
    }
    let kind = if what == "CPUs" { "cpus" } else { "mems" };
    let Some(ranges) = numbers(wanted) else {
        return refuse(format!("Invalid value {wanted} for cpuset {kind}"));
    };
    // A machine without memory nodes has the first.
    let there = std::fs::read_to_string(file).unwrap_or_else(|_| "0".into());
    let known = numbers(there.trim()).unwrap_or_default();
    let within = |range: &(u32, u32)| {
        let mut numbers = range.0..=range.1;
        numbers.all(|number| known.iter().any(|known| (known.0..=known.1).contains(&number)))
    };
    match ranges.iter().all(within) {
        true => Ok(()),
        false => refuse(format!(
            "Requested {what} are not available - requested {wanted}, available: {}",
            there.trim()
        )),
    }
}

/// `0-3,5`
fn numbers(text: &str) -> Option<Vec<(u32, u32)>> {
    let range = |part: &str| -> Option<(u32, u32)> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        // More than any kernel is built for.
        (first <= last && last < 1 << 16).then_some((first, last))
    };
    text.split(',').map(range).collect()
}

fn block_io(host: &HostConfig) -> Answer<Vec<String>> {
    let weights = || host.blkio_weight_device.iter().map(|one| one.weight);
    let in_range = |weight: u16| weight == 0 || (10..=1000).contains(&weight);
    if !in_range(host.blkio_weight) || !weights().all(in_range) {
        return Err(ApiError::invalid("Range of blkio weight is from 10 to 1000"));
    }
    let mut warnings = Vec::new();
    if !has_weights() {
        if host.blkio_weight > 0 {
            let sentence =
                "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.";
            warnings.push(sentence.to_owned());
        }
        if !host.blkio_weight_device.is_empty() {
            let sentence = "Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded.";
            warnings.push(sentence.to_owned());
        }
    }
    Ok(warnings)
}

/// Whether disks know weights: a matter of their scheduler.
pub(crate) fn has_weights() -> bool {
    let v1 = ["blkio.weight", "blkio.bfq.weight"];
    v1.iter()
        .any(|name| Path::new("/sys/fs/cgroup/blkio").join(name).exists())
        || Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// A device by its numbers.
pub(crate) fn numbers_of(path: &str) -> Answer<(i64, i64)> {
    let failed = |why: &str| ApiError::invalid(format!("stat {path}: {why}"));
    let stat = rustix::fs::stat(path).map_err(|errno| match errno {
        rustix::io::Errno::NOENT => failed("no such file or directory"),
        other => failed(&other.to_string()),
    })?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::BlockDevice {
        return Err(ApiError::invalid(format!("{path} is not a block device")));
    }
    let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    Ok((i64::from(major), i64::from(minor)))
}

impl Throttle {
    /// What the runtime takes.
    pub fn resolved(all: &[Self]) -> Answer<Vec<strata_runtime::spec::Throttle>> {
        let one = |given: &Self| {
            let (major, minor) = numbers_of(&given.path)?;
            Ok(strata_runtime::spec::Throttle {
                major,
                minor,
                rate: given.rate,
            })
        };
        all.iter().map(one).collect()
    }
}

impl WeightDevice {
    /// What the runtime takes.
    pub fn resolved(all: &[Self]) -> Answer<Vec<strata_runtime::spec::WeightDevice>> {
        let one = |given: &Self| {
            let (major, minor) = numbers_of(&given.path)?;
            Ok(strata_runtime::spec::WeightDevice {
                major,
                minor,
                weight: Some(given.weight),
                leaf_weight: None,
            })
        };
        all.iter().map(one).collect()
    }
}

fn modes(host: &HostConfig) -> Told {
    let of_container = |mode: &str| mode.strip_prefix("container:").is_some_and(|name| !name.is_empty());
    let ipc = matches!(host.ipc_mode.as_str(), "" | "none" | "private" | "shareable" | "host");
    if !ipc && !of_container(&host.ipc_mode) {
        return refuse(format!("invalid IPC mode: {}", host.ipc_mode));
    }
    if !matches!(host.pid_mode.as_str(), "" | "host") && !of_container(&host.pid_mode) {
        return refuse(format!("invalid PID mode: {}", host.pid_mode));
    }
    if !matches!(host.uts_mode.as_str(), "" | "host") {
        return refuse(format!("invalid UTS mode: {}", host.uts_mode));
    }
    if !matches!(host.userns_mode.as_str(), "" | "host") {
        return refuse(format!("invalid user namespace mode: {}", host.userns_mode));
    }
    if !matches!(host.cgroupns_mode.as_str(), "" | "host" | "private") {
        return refuse(format!("invalid cgroup namespace mode: {}", host.cgroupns_mode));
    }
    if !matches!(host.isolation.as_str(), "" | "default") {
        return refuse(format!("invalid isolation '{}' on linux", host.isolation));
    }
    if !RUNTIMES.contains(&host.runtime.as_str()) {
        return refuse(format!("unknown or invalid runtime name: {}", host.runtime));
    }
    if host.annotations.contains_key("") {
        return refuse("invalid Annotations: the empty string is not permitted as an annotation key");
    }
    if !host.storage_opt.is_empty() {
        return refuse("--storage-opt is supported only for overlay over xfs with 'pquota' mount option");
    }
    if !host.links.is_empty() {
        return refuse(
            "links are not supported: put the containers on a network of their own, where they find each other by name",
        );
    }
    Ok(())
}

fn device_rules(rules: &[String]) -> Told {
    match rules.iter().find(|rule| device_rule(rule).is_none()) {
        Some(rule) => refuse(format!("invalid device cgroup rule format: '{rule}'")),
        None => Ok(()),
    }
}

/// `c 1:3 rwm`; no number stands for any.
pub(crate) fn device_rule(text: &str) -> Option<strata_runtime::spec::DeviceRule> {
    let parts: Vec<&str> = text.split(' ').collect();
    let [kind @ ("a" | "b" | "c"), numbers, access] = parts[..] else {
        return None;
    };
    let (major, minor) = numbers.split_once(':')?;
    let number = |text: &str| match text {
        "*" => Some(None),
        text => text.parse::<i64>().ok().filter(|n| *n >= 0).map(Some),
    };
    let known = (1..=3).contains(&access.len()) && access.chars().all(|c| "rwm".contains(c));
    known.then_some(strata_runtime::spec::DeviceRule {
        allow: true,
        kind: kind.to_owned(),
        major: number(major)?,
        minor: number(minor)?,
        access: access.to_owned(),
    })
}

fn network(config: &Config, host: &HostConfig) -> Answer<Vec<String>> {
    let refuse = |sentence: &str| Err(ApiError::invalid(sentence));
    let mode = host.network_mode.as_str();
    if mode.starts_with("container:") {
        if !config.hostname.is_empty() {
            return refuse("conflicting options: hostname and the network mode");
        }
        if !host.dns.is_empty() {
            return refuse("conflicting options: dns and the network mode");
        }
        if !host.extra_hosts.is_empty() {
            return refuse("conflicting options: custom host-to-IP mapping and the network mode");
        }
        if !host.port_bindings.is_empty() || host.publish_all_ports {
            return refuse("conflicting options: port publishing and the container type network mode");
        }
    }
    if host.uts_mode == "host" && !config.hostname.is_empty() {
        return refuse("conflicting options: hostname and the UTS mode");
    }
    if let Some(bad) = host.dns.iter().find(|text| text.parse::<std::net::IpAddr>().is_err()) {
        return refuse(&format!("bad parameter: invalid DNS server address: {bad}"));
    }
    for entry in &host.extra_hosts {
        let address = entry.split_once([':', '=']).filter(|(name, _)| !name.is_empty());
        let Some((_, address)) = address else {
            return refuse(&format!("bad format for add-host: {entry:?}"));
        };
        let bare = address.trim_matches(['[', ']']);
        if bare != "host-gateway" && bare.parse::<std::net::IpAddr>().is_err() {
            return refuse(&format!("invalid IP address in add-host: {address:?}"));
        }
    }
    launch::wanted_ports(config, host, std::net::Ipv4Addr::UNSPECIFIED)?;
    let mut warnings = Vec::new();
    if mode == "host" && !host.port_bindings.is_empty() {
        warnings.push("Published ports are discarded when using host network mode".to_owned());
    }
    Ok(warnings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(change: impl FnOnce(&mut Config, &mut HostConfig)) -> Option<String> {
        let (mut config, mut host) = (Config::default(), HostConfig::default());
        host.log_config.kind = "local".into();
        change(&mut config, &mut host);
        check(&config, &host).err().map(|error| error.message)
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert_eq!(told(|_, _| {}), None);
        type Change = fn(&mut Config, &mut HostConfig);
        let refused: [(Change, &str); 12] = [
            (|_, host| host.uts_mode = "x".into(), "invalid UTS mode: x"),
            (
                |_, host| host.userns_mode = "remap".into(),
                "invalid user namespace mode: remap",
            ),
            (
                |_, host| host.cgroupns_mode = "x".into(),
                "invalid cgroup namespace mode: x",
            ),
            (
                |_, host| host.pid_mode = "container:".into(),
                "invalid PID mode: container:",
            ),
            (
                |_, host| host.runtime = "kata".into(),
                "unknown or invalid runtime name: kata",
            ),
            (
                |_, host| host.device_cgroup_rules = vec!["c 1:3 x".into()],
                "invalid device cgroup rule format: 'c 1:3 x'",
            ),
            (
                |_, host| host.blkio_weight = 5,
                "Range of blkio weight is from 10 to 1000",
            ),
            (
                |_, host| host.dns = vec!["here".into()],
                "bad parameter: invalid DNS server address: here",
            ),
            (
                |_, host| host.cpuset_cpus = "x".into(),
                "Invalid value x for cpuset cpus",
            ),
            (
                |config, _| config.working_dir = "a".into(),
                "the working directory 'a' is invalid, it needs to be an absolute path",
            ),
            (|config, _| config.stop_signal = "NO".into(), "invalid signal: NO"),
            (
                |config, host| {
                    config.hostname = "h".into();
                    host.uts_mode = "host".into();
                },
                "conflicting options: hostname and the UTS mode",
            ),
        ];
        for (change, sentence) in refused {
            assert_eq!(told(change).as_deref(), Some(sentence));
        }
        let absent = told(|_, host| host.cpuset_cpus = "60000".into()).expect("refused");
        assert!(absent.starts_with("Requested CPUs are not available - requested 60000, available: "));
    }

    #[test]
    fn device_rules_are_read() {
        let rule = device_rule("c 10:* rw").expect("valid");
        assert_eq!((rule.major, rule.minor, rule.access.as_str()), (Some(10), None, "rw"));
        for bad in ["", "x 1:1 r", "c 1 r", "c 1:1 rwmx", "c -1:1 r", "c  1:1 r"] {
            assert!(device_rule(bad).is_none(), "{bad:?}");
        }
    }
}
