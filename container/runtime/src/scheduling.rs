//! Limits and preferences of a process that the kernel's scheduler and allocator look at.

use crate::error::{Context, Error, Result};
use crate::spec::{Linux, MemoryPolicy, Personality, Process};
use alloc::{format, vec::Vec};
use strata_sys::process;

/// Most CPUs or memory nodes in a list.
const LIST_LIMIT: usize = 8192;

/// Sets everything but the CPUs, which depend on the cgroup.
pub(crate) fn apply(process: &Process, linux: Option<&Linux>) -> Result<()> {
    for limit in &process.rlimits {
        let number = resource(&limit.kind)?;
        process::set_limit(number, limit.soft, limit.hard).context(|| format!("set {}", limit.kind))?;
    }
    if let Some(priority) = &process.io_priority {
        let class = match &*priority.class {
            "IOPRIO_CLASS_RT" => 1,
            "IOPRIO_CLASS_BE" => 2,
            "IOPRIO_CLASS_IDLE" => 3,
            other => return Err(Error::Invalid(format!("unknown I/O priority class {other:?}"))),
        };
        process::set_io_priority(class, priority.priority).context(|| "set the I/O priority")?;
    }
    if let Some(scheduler) = &process.scheduler {
        let attributes = scheduler_attributes(scheduler)?;
        process::set_scheduler(attributes).context(|| "set the scheduler")?;
    }
    if let Some(personality) = linux.and_then(|linux| linux.personality.as_ref()) {
        process::set_personality(domain(personality)?).context(|| "set the personality")?;
    }
    if let Some(policy) = linux.and_then(|linux| linux.memory_policy.as_ref()) {
        set_memory_policy(policy)?;
    }
    Ok(())
}

/// Lets the process run on these CPUs alone.
pub(crate) fn set_cpus(list: &str) -> Result<()> {
    if list.is_empty() {
        return Ok(());
    }
    process::set_affinity(&bits(list)?).context(|| format!("set the CPU affinity to {list}"))
}

/// personality(2).
fn domain(personality: &Personality) -> Result<u32> {
    if !personality.flags.is_empty() {
        return Err(Error::Invalid("personality flags are not supported".into()));
    }
    match &*personality.domain {
        "LINUX" => Ok(0),
        "LINUX32" => Ok(8),
        other => Err(Error::Invalid(format!("unknown personality domain {other:?}"))),
    }
}

/// set_mempolicy(2).
fn set_memory_policy(policy: &MemoryPolicy) -> Result<()> {
    const MODES: [&str; 7] = [
        "MPOL_DEFAULT",
        "MPOL_PREFERRED",
        "MPOL_BIND",
        "MPOL_INTERLEAVE",
        "MPOL_LOCAL",
        "MPOL_PREFERRED_MANY",
        "MPOL_WEIGHTED_INTERLEAVE",
    ];
    let mode = MODES.iter().position(|known| *known == policy.mode);
    let mut mode = mode.ok_or_else(|| Error::Invalid(format!("unknown memory policy {:?}", policy.mode)))? as u32;
    for flag in &policy.flags {
        mode |= match &**flag {
            "MPOL_F_STATIC_NODES" => 1 << 15,
            "MPOL_F_RELATIVE_NODES" => 1 << 14,
            "MPOL_F_NUMA_BALANCING" => 1 << 13,
            other => return Err(Error::Invalid(format!("unknown memory policy flag {other:?}"))),
        };
    }
    let nodes = bits(&policy.nodes)?;
    process::set_memory_policy(mode, &nodes).context(|| format!("set the memory policy {}", policy.mode))
}

/// A list such as `0-2,7` as one bit each.
fn bits(list: &str) -> Result<Vec<u64>> {
    let bad = || Error::Invalid(format!("bad list of CPUs or memory nodes {list:?}"));
    let mut bits: Vec<u64> = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (
            first.trim().parse().map_err(|_| bad())?,
            last.trim().parse().map_err(|_| bad())?,
        );
        if first > last || last >= LIST_LIMIT {
            return Err(bad());
        }
        for number in first..=last {
            if bits.len() <= number / 64 {
                bits.resize(number / 64 + 1, 0);
            }
            bits[number / 64] |= 1 << (number % 64);
        }
    }
    Ok(bits)
}

/// getrlimit(2): numbers of the limits.
fn resource(name: &str) -> Result<u32> {
    const NAMES: [&str; 16] = [
        "CPU",
        "FSIZE",
        "DATA",
        "STACK",
        "CORE",
        "RSS",
        "NPROC",
        "NOFILE",
        "MEMLOCK",
        "AS",
        "LOCKS",
        "SIGPENDING",
        "MSGQUEUE",
        "NICE",
        "RTPRIO",
        "RTTIME",
    ];
    name.strip_prefix("RLIMIT_")
        .and_then(|name| NAMES.iter().position(|known| *known == name))
        .map(|number| number as u32)
        .ok_or_else(|| Error::Invalid(format!("unknown resource limit {name:?}")))
}

fn scheduler_attributes(scheduler: &crate::spec::Scheduler) -> Result<process::SchedulerAttributes> {
    let policies: [(&str, u32); 6] = [
        ("SCHED_OTHER", 0),
        ("SCHED_FIFO", 1),
        ("SCHED_RR", 2),
        ("SCHED_BATCH", 3),
        ("SCHED_IDLE", 5),
        ("SCHED_DEADLINE", 6),
    ];
    let policy = policies
        .iter()
        .find(|row| row.0 == scheduler.policy)
        .ok_or_else(|| Error::Invalid(format!("unknown scheduler policy {:?}", scheduler.policy)))?
        .1;
    let mut flags = 0;
    for flag in &scheduler.flags {
        flags |= match &**flag {
            "SCHED_FLAG_RESET_ON_FORK" => 1,
            "SCHED_FLAG_RECLAIM" => 2,
            "SCHED_FLAG_DL_OVERRUN" => 4,
            "SCHED_FLAG_KEEP_POLICY" => 8,
            "SCHED_FLAG_KEEP_PARAMS" => 16,
            other => return Err(Error::Invalid(format!("unknown scheduler flag {other:?}"))),
        };
    }
    Ok(process::SchedulerAttributes {
        size: 0,
        policy,
        flags,
        nice: scheduler.nice,
        priority: scheduler.priority as u32,
        runtime: scheduler.runtime,
        deadline: scheduler.deadline,
        period: scheduler.period,
    })
}

#[cfg(test)]
mod tests {
    use super::bits;

    #[test]
    fn lists_of_numbers_are_read_and_bounded() {
        assert_eq!(bits("0-2,7").unwrap(), [0b1000_0111]);
        assert_eq!(bits(" 64 , 1").unwrap(), [2, 1]);
        assert_eq!(bits("").unwrap(), [0u64; 0]);
        for bad in ["2-1", "a", "1-", "-", "99999999999", "8192"] {
            assert!(bits(bad).is_err(), "{bad}");
        }
    }
}
