//! OCI resource limits as files of v1 and v2.

use super::{Cgroup, MemoryWatch, device_limits as devices};
use crate::error::{Context, Error, Result};
use crate::spec::{BlockIo, Cpu, Memory, Resources, Throttle};
use alloc::{format, string::String, string::ToString};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::AsRawFd;
use rustix::fs::{Mode, OFlags};
use strata_sys::{Errno, file};

/// What to do when the kernel lacks a knob or will not take a value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// It is an error.
    Required,
    /// Go on: not all kernels have it, and it does not protect anybody.
    Wished,
}

pub(super) fn apply(cgroup: &Cgroup, resources: &Resources) -> Result<()> {
    let unified = cgroup.layout().is_unified();
    if let Some(memory) = &resources.memory {
        if unified {
            memory_v2(cgroup, memory)?
        } else {
            memory_v1(cgroup, memory)?
        }
    }
    if let Some(cpu) = &resources.cpu {
        cpuset(cgroup, cpu)?;
        if unified {
            cpu_v2(cgroup, cpu)?
        } else {
            cpu_v1(cgroup, cpu)?
        }
    }
    if let Some(limit) = resources.pids.as_ref().and_then(|pids| pids.limit) {
        let text = if limit > 0 { limit.to_string() } else { "max".into() };
        set(cgroup, "pids", "pids.max", &text, Need::Required)?;
    }
    if let Some(block_io) = &resources.block_io {
        if unified {
            io_v2(cgroup, block_io)?
        } else {
            io_v1(cgroup, block_io)?
        }
    }
    devices::apply(cgroup, resources)?;
    if unified {
        for (knob, value) in &resources.unified {
            if knob.contains('/') {
                return Err(Error::Invalid(format!("bad cgroup file name {knob:?}")));
            }
            set(cgroup, "unified", knob, value, Need::Required)?;
        }
    } else if !resources.unified.is_empty() {
        return Err(Error::Invalid("linux.resources.unified needs cgroup v2".into()));
    }
    Ok(())
}

pub(super) fn set(cgroup: &Cgroup, controller: &str, knob: &str, value: &str, need: Need) -> Result<()> {
    let Some(directory) = cgroup.directory(controller) else {
        return match need {
            Need::Required => Err(Error::Invalid(format!("this machine has no {controller} cgroup"))),
            Need::Wished => Ok(()),
        };
    };
    let path = format!("{directory}/{knob}");
    match file::write(&*path, value.as_bytes()) {
        Ok(()) => Ok(()),
        Err(_) if need == Need::Wished => Ok(()),
        Err(errno) => Err(Error::System {
            what: format!("cannot set {knob} to {value}"),
            errno,
        }),
    }
}

fn unlimited(value: i64) -> String {
    if value < 0 { "max".into() } else { value.to_string() }
}

fn memory_v1(cgroup: &Cgroup, memory: &Memory) -> Result<()> {
    let (limit, swap) = (memory.limit, memory.swap);
    let set_limit = |value: i64| {
        set(
            cgroup,
            "memory",
            "memory.limit_in_bytes",
            &value.to_string(),
            Need::Required,
        )
    };
    // Swap accounting may be off; a limit on memory alone is then all there is.
    let set_swap = |value: i64| {
        set(
            cgroup,
            "memory",
            "memory.memsw.limit_in_bytes",
            &value.to_string(),
            Need::Wished,
        )
    };
    match (limit, swap) {
        // memsw may never be below limit: which goes first depends on the direction of the change.
        (Some(limit), Some(swap)) => {
            if set_limit(limit).is_err() {
                set_swap(swap)?;
                set_limit(limit)?;
            }
            set_swap(swap)?;
        }
        (Some(limit), None) => {
            if let Err(error) = set_limit(limit) {
                if limit > 0 {
                    set_swap(-1)?;
                    set_limit(limit)?;
                } else {
                    return Err(error);
                }
            }
        }
        (None, Some(swap)) => set_swap(swap)?,
        (None, None) => {}
    }
    if let Some(reservation) = memory.reservation {
        set(
            cgroup,
            "memory",
            "memory.soft_limit_in_bytes",
            &reservation.to_string(),
            Need::Required,
        )?;
    }
    if let Some(swappiness) = memory.swappiness {
        set(
            cgroup,
            "memory",
            "memory.swappiness",
            &swappiness.to_string(),
            Need::Wished,
        )?;
    }
    if let Some(disable) = memory.disable_oom_killer {
        set(
            cgroup,
            "memory",
            "memory.oom_control",
            if disable { "1" } else { "0" },
            Need::Wished,
        )?;
    }
    Ok(())
}

fn memory_v2(cgroup: &Cgroup, memory: &Memory) -> Result<()> {
    if memory.check_before_update == Some(true) {
        check_usage(cgroup, memory)?;
    }
    let swap = swap_v2(memory)?;
    if let Some(swap) = swap {
        set(cgroup, "memory", "memory.swap.max", &unlimited(swap), Need::Wished)?;
    }
    if let Some(limit) = memory.limit.filter(|&limit| limit != 0) {
        set(cgroup, "memory", "memory.max", &unlimited(limit), Need::Required)?;
    }
    if let Some(reservation) = memory.reservation.filter(|&value| value != 0) {
        set(cgroup, "memory", "memory.low", &unlimited(reservation), Need::Required)?;
    }
    Ok(())
}

/// The specification's swap is memory plus swap, v2's is swap alone; -1 is unlimited, `None` leaves it.
fn swap_v2(memory: &Memory) -> Result<Option<i64>> {
    let bad = |why: &str| Err(Error::Invalid(why.into()));
    match (memory.limit.unwrap_or(0), memory.swap.unwrap_or(0)) {
        // Without a limit on memory there is none on swap, as on v1.
        (-1, 0) => Ok(Some(-1)),
        (_, 0) => Ok(None),
        (_, swap) if swap < 0 => Ok(Some(-1)),
        (0, _) => bad("unable to set swap limit without memory limit"),
        (limit, _) if limit < 0 => bad("unable to set swap limit with unlimited memory"),
        (limit, swap) if swap < limit => bad("memory+swap limit should be >= memory limit"),
        (limit, swap) => Ok(Some(swap - limit)),
    }
}

/// The kernel would kill until a limit below what is in use is met; whoever asks for this wants an error.
fn check_usage(cgroup: &Cgroup, memory: &Memory) -> Result<()> {
    let (Some(directory), Some(limit)) = (cgroup.directory("memory"), memory.limit.filter(|&limit| limit > 0)) else {
        return Ok(());
    };
    let usage = super::read(&format!("{directory}/memory.current"))?;
    let usage: i64 = usage.trim().parse().unwrap_or(0);
    if usage > limit {
        return Err(Error::Invalid(format!(
            "rejecting memory limit {limit} below the {usage} bytes in use (checkBeforeUpdate)"
        )));
    }
    Ok(())
}

fn cpuset(cgroup: &Cgroup, cpu: &Cpu) -> Result<()> {
    if !cpu.cpus.is_empty() {
        set(cgroup, "cpuset", "cpuset.cpus", &cpu.cpus, Need::Required)?;
    }
    if !cpu.mems.is_empty() {
        set(cgroup, "cpuset", "cpuset.mems", &cpu.mems, Need::Required)?;
    }
    Ok(())
}

fn cpu_v1(cgroup: &Cgroup, cpu: &Cpu) -> Result<()> {
    let number = |knob: &str, value: Option<u64>, need| match value {
        Some(value) if value > 0 => set(cgroup, "cpu", knob, &value.to_string(), need),
        _ => Ok(()),
    };
    number("cpu.shares", cpu.shares, Need::Required)?;
    number("cpu.rt_period_us", cpu.realtime_period, Need::Required)?;
    if let Some(runtime) = cpu.realtime_runtime.filter(|&runtime| runtime != 0) {
        set(cgroup, "cpu", "cpu.rt_runtime_us", &runtime.to_string(), Need::Required)?;
    }
    let period = number("cpu.cfs_period_us", cpu.period, Need::Required);
    if let Some(quota) = cpu.quota.filter(|&quota| quota != 0) {
        set(cgroup, "cpu", "cpu.cfs_quota_us", &quota.to_string(), Need::Required)?;
        // A shorter period than the old quota allows is taken only after the new quota.
        if period.is_err() {
            number("cpu.cfs_period_us", cpu.period, Need::Required)?;
        }
    } else {
        period?;
    }
    number("cpu.cfs_burst_us", cpu.burst, Need::Wished)?;
    if let Some(idle) = cpu.idle {
        set(cgroup, "cpu", "cpu.idle", &idle.to_string(), Need::Wished)?;
    }
    Ok(())
}

fn cpu_v2(cgroup: &Cgroup, cpu: &Cpu) -> Result<()> {
    if let Some(shares) = cpu.shares.filter(|&shares| shares != 0) {
        set(cgroup, "cpu", "cpu.weight", &weight(shares).to_string(), Need::Required)?;
    }
    if cpu.quota.is_some() || cpu.period.is_some() {
        let quota = match cpu.quota {
            Some(quota) if quota > 0 => quota.to_string(),
            _ => "max".into(),
        };
        let period = cpu.period.filter(|&period| period > 0).unwrap_or(100_000);
        set(cgroup, "cpu", "cpu.max", &format!("{quota} {period}"), Need::Required)?;
    }
    if let Some(burst) = cpu.burst {
        set(cgroup, "cpu", "cpu.max.burst", &burst.to_string(), Need::Wished)?;
    }
    if let Some(idle) = cpu.idle {
        set(cgroup, "cpu", "cpu.idle", &idle.to_string(), Need::Wished)?;
    }
    Ok(())
}

/// Shares of 2 to 262144 onto weights of 1 to 10000 (KEP-2254).
pub fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142
}

fn io_v1(cgroup: &Cgroup, block_io: &BlockIo) -> Result<()> {
    devices::weights_v1(cgroup, block_io)?;
    for (knob, list) in [
        ("blkio.throttle.read_bps_device", &block_io.throttle_read_bps_device),
        ("blkio.throttle.write_bps_device", &block_io.throttle_write_bps_device),
        ("blkio.throttle.read_iops_device", &block_io.throttle_read_iops_device),
        ("blkio.throttle.write_iops_device", &block_io.throttle_write_iops_device),
    ] {
        for Throttle { major, minor, rate } in list {
            set(
                cgroup,
                "blkio",
                knob,
                &format!("{major}:{minor} {rate}"),
                Need::Required,
            )?;
        }
    }
    Ok(())
}

fn io_v2(cgroup: &Cgroup, block_io: &BlockIo) -> Result<()> {
    if let Some(weight) = block_io.weight.filter(|&weight| weight != 0) {
        let weight = 1 + (u64::from(weight.clamp(10, 1000)) - 10) * 9_999 / 990;
        set(cgroup, "io", "io.weight", &format!("default {weight}"), Need::Wished)?;
    }
    devices::weights_v2(cgroup, block_io)?;
    for (key, list) in [
        ("rbps", &block_io.throttle_read_bps_device),
        ("wbps", &block_io.throttle_write_bps_device),
        ("riops", &block_io.throttle_read_iops_device),
        ("wiops", &block_io.throttle_write_iops_device),
    ] {
        for Throttle { major, minor, rate } in list {
            set(
                cgroup,
                "io",
                "io.max",
                &format!("{major}:{minor} {key}={rate}"),
                Need::Required,
            )?;
        }
    }
    Ok(())
}

pub(super) fn watch_memory(directory: &str, unified: bool) -> Result<Option<MemoryWatch>> {
    let name = if unified { "memory.events" } else { "memory.oom_control" };
    let path = format!("{directory}/{name}");
    let events = match rustix::fs::open(&*path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(events) => events,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => {
            return Err(Error::System {
                what: format!("open {path}"),
                errno,
            });
        }
    };
    if unified {
        return Ok(Some(MemoryWatch {
            descriptor: events,
            priority: true,
        }));
    }
    let descriptor = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).context(|| "make an eventfd")?;
    let line = format!("{} {}", descriptor.as_raw_fd(), events.as_raw_fd());
    match file::write(&*format!("{directory}/cgroup.event_control"), line.as_bytes()) {
        Ok(()) => Ok(Some(MemoryWatch {
            descriptor,
            priority: false,
        })),
        // Without it the kill is still seen when the container ends.
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::{Memory, swap_v2, weight};

    #[test]
    fn swap_is_what_is_left_beyond_the_memory() {
        let of = |limit: i64, swap: i64| {
            swap_v2(&Memory {
                limit: Some(limit),
                swap: Some(swap),
                ..Memory::default()
            })
        };
        assert_eq!(of(100, 150).unwrap(), Some(50));
        assert_eq!(of(100, 100).unwrap(), Some(0));
        assert_eq!(of(100, -1).unwrap(), Some(-1));
        assert_eq!(of(100, 0).unwrap(), None);
        assert_eq!(of(-1, 0).unwrap(), Some(-1));
        for (limit, swap) in [(0, 50), (-1, 50), (100, 99)] {
            assert!(of(limit, swap).is_err(), "{limit} {swap}");
        }
    }

    #[test]
    fn shares_become_weights() {
        assert_eq!(weight(2), 1);
        assert_eq!(weight(1024), 39);
        assert_eq!(weight(262_144), 10_000);
        assert_eq!(weight(u64::MAX), 10_000);
    }
}
