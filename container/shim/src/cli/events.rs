//! `events`: what a container uses, and when it runs out of memory, as lines of JSON.

use super::flags::{Arguments, Flag};
use super::store::{Container, Status};
use super::{Global, print};
use alloc::{format, string::String, string::ToString, vec::Vec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Map, Value, json};
use strata_runtime::cgroup::Cgroup;
use strata_runtime::{Error, Result};
use strata_sys::{Errno, file};

pub(super) const FLAGS: &[Flag] = &[
    Flag::value(
        "interval",
        "",
        "time between two figures, such as 500ms or 5s (default 5s)",
    ),
    Flag::switch("stats", "", "print the figures once and end"),
];

/// Longest file of a cgroup that is read.
const FILE_LIMIT: usize = 1 << 20;

pub(super) fn events(global: &Global, arguments: &Arguments) -> Result<i32> {
    let interval = duration(arguments.value("interval").unwrap_or("5s"))?;
    let container = Container::load(global, arguments.id()?)?;
    if container.status()? == Status::Stopped {
        return Err(Error::State(format!(
            "container with id {} is not running",
            container.record.id
        )));
    }
    let cgroup = container.cgroup()?;
    if arguments.has("stats") {
        return tell(&container, "stats", Some(figures(&cgroup))).map(|()| 0);
    }
    let init = container.init()?;
    let watch = cgroup.watch_memory()?;
    let mut kills = cgroup.oom_kills();
    tell(&container, "stats", Some(figures(&cgroup)))?;
    loop {
        let mut waits: Vec<PollFd<'_>> = Vec::with_capacity(2);
        waits.push(PollFd::new(&init, PollFlags::IN));
        if let Some(watch) = &watch {
            let flags = if watch.priority { PollFlags::PRI } else { PollFlags::IN };
            waits.push(PollFd::new(&watch.descriptor, flags));
        }
        match poll(&mut waits, Some(&interval)) {
            Err(Errno::INTR) => continue,
            Err(errno) => {
                return Err(Error::System {
                    what: "wait for the container".into(),
                    errno,
                });
            }
            Ok(0) => tell(&container, "stats", Some(figures(&cgroup)))?,
            Ok(_) => {}
        }
        let ready: Vec<bool> = waits.iter().map(|wait| !wait.revents().is_empty()).collect();
        drop(waits);
        if let Some(watch) = &watch
            && ready.get(1) == Some(&true)
        {
            // Reading is what makes it quiet again.
            let mut buffer = [0; 256];
            let _ = if watch.priority {
                rustix::io::pread(&watch.descriptor, &mut buffer, 0)
            } else {
                rustix::io::read(&watch.descriptor, &mut buffer)
            };
        }
        let now = cgroup.oom_kills();
        if now > kills {
            kills = now;
            tell(&container, "oom", None)?;
        }
        if ready[0] {
            return Ok(0);
        }
    }
}

fn tell(container: &Container, kind: &str, data: Option<Value>) -> Result<()> {
    let mut event = json!({"type": kind, "id": container.record.id});
    if let Some(data) = data {
        event["data"] = data;
    }
    print(&format!("{event}\n"))
}

/// A time in Go's form: numbers with `ms`, `s`, `m` or `h`.
fn duration(text: &str) -> Result<Timespec> {
    let bad = || Error::Invalid(format!("bad duration {text:?}"));
    let (mut rest, mut total) = (text, 0u64);
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(bad)?;
        let number: u64 = rest[..end].parse().map_err(|_| bad())?;
        rest = &rest[end..];
        let (unit, milliseconds) = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)]
            .into_iter()
            .find(|(unit, _)| rest.starts_with(unit))
            .ok_or_else(bad)?;
        rest = &rest[unit.len()..];
        total = number
            .checked_mul(milliseconds)
            .and_then(|time| total.checked_add(time))
            .ok_or_else(bad)?;
    }
    if total == 0 {
        return Err(Error::Invalid("duration interval must be greater than 0".into()));
    }
    Ok(Timespec {
        tv_sec: (total / 1000) as i64,
        tv_nsec: (total % 1000 * 1_000_000) as i64,
    })
}

/// The files of one cgroup; what the machine lacks is 0, as its readers expect.
pub(crate) struct Files<'a>(pub(crate) &'a Cgroup);

impl Files<'_> {
    pub(crate) fn text(&self, controller: &str, name: &str) -> String {
        let directory = self.0.directory(controller);
        let found = directory.and_then(|directory| file::read_text(&*format!("{directory}/{name}"), FILE_LIMIT).ok());
        let Some(text) = found else { return String::new() };
        text
    }

    /// `max` is as large as can be.
    pub(crate) fn number(&self, controller: &str, name: &str) -> u64 {
        match self.text(controller, name).trim() {
            "max" => u64::MAX,
            text => text.parse().unwrap_or(0),
        }
    }

    pub(crate) fn keyed(&self, controller: &str, name: &str) -> Map<String, Value> {
        let text = self.text(controller, name);
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        pairs
            .filter_map(|(key, value)| Some((key.to_string(), Value::from(value.trim().parse::<u64>().ok()?))))
            .collect()
    }
}

pub(crate) fn of(map: &Map<String, Value>, key: &str) -> u64 {
    map.get(key).and_then(Value::as_u64).unwrap_or(0)
}

fn figures(cgroup: &Cgroup) -> Value {
    let files = Files(cgroup);
    let (cpu, memory, io) = if cgroup.layout().is_unified() {
        (cpu_v2(&files), memory_v2(&files), io_v2(&files))
    } else {
        (cpu_v1(&files), memory_v1(&files), io_v1(&files))
    };
    let limit = match files.number("pids", "pids.max") {
        u64::MAX => 0,
        limit => limit,
    };
    json!({
        "cpu": cpu,
        "memory": memory,
        "pids": {"current": files.number("pids", "pids.current"), "limit": limit},
        "blkio": io,
        "hugetlb": {},
        "intel_rdt": {},
        "network_interfaces": null,
    })
}

fn cpu_v1(files: &Files<'_>) -> Value {
    let list: Vec<u64> = files
        .text("cpuacct", "cpuacct.usage_percpu")
        .split_ascii_whitespace()
        .filter_map(|text| text.parse().ok())
        .collect();
    let throttling = files.keyed("cpu", "cpu.stat");
    json!({
        "usage": {
            "total": files.number("cpuacct", "cpuacct.usage"),
            "percpu": list,
            "kernel": files.number("cpuacct", "cpuacct.usage_sys"),
            "user": files.number("cpuacct", "cpuacct.usage_user"),
        },
        "throttling": {
            "periods": of(&throttling, "nr_periods"),
            "throttledPeriods": of(&throttling, "nr_throttled"),
            "throttledTime": of(&throttling, "throttled_time"),
        },
    })
}

fn cpu_v2(files: &Files<'_>) -> Value {
    let stat = files.keyed("cpu", "cpu.stat");
    let nanoseconds = |key: &str| of(&stat, key).saturating_mul(1000);
    json!({
        "usage": {
            "total": nanoseconds("usage_usec"),
            "kernel": nanoseconds("system_usec"),
            "user": nanoseconds("user_usec"),
        },
        "throttling": {
            "periods": of(&stat, "nr_periods"),
            "throttledPeriods": of(&stat, "nr_throttled"),
            "throttledTime": nanoseconds("throttled_usec"),
        },
    })
}

fn memory_v1(files: &Files<'_>) -> Value {
    let entry = |prefix: &str| {
        let number = |name: &str| files.number("memory", &format!("{prefix}.{name}"));
        json!({
            "limit": number("limit_in_bytes"),
            "usage": number("usage_in_bytes"),
            "max": number("max_usage_in_bytes"),
            "failcnt": number("failcnt"),
        })
    };
    let raw = files.keyed("memory", "memory.stat");
    json!({
        "cache": of(&raw, "cache"),
        "usage": entry("memory"),
        "swap": entry("memory.memsw"),
        "kernel": entry("memory.kmem"),
        "kernelTCP": entry("memory.kmem.tcp"),
        "raw": raw,
    })
}

fn memory_v2(files: &Files<'_>) -> Value {
    let number = |name: &str| files.number("memory", name);
    let raw = files.keyed("memory", "memory.stat");
    let failures = of(&files.keyed("memory", "memory.events"), "max");
    // As v1 counts: swap is memory and swap.
    let (usage, limit) = (number("memory.current"), number("memory.max"));
    let swap_limit = number("memory.swap.max");
    json!({
        "cache": of(&raw, "file"),
        "usage": {"limit": limit, "usage": usage, "max": number("memory.peak"), "failcnt": failures},
        "swap": {
            "limit": limit.saturating_add(swap_limit),
            "usage": usage.saturating_add(number("memory.swap.current")),
            "failcnt": 0,
        },
        "kernel": {"failcnt": 0},
        "kernelTCP": {"failcnt": 0},
        "raw": raw,
    })
}

/// Lines such as `8:0 Read 4096`.
fn io_v1(files: &Files<'_>) -> Value {
    let list = |name: &str| -> Value {
        let text = files.text("blkio", name);
        let entries = text.lines().filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let (major, minor) = fields.next()?.split_once(':')?;
            let (op, value) = (fields.next()?, fields.next()?);
            entry(major, minor, op, value)
        });
        entries.collect()
    };
    json!({
        "ioServiceBytesRecursive": list("blkio.throttle.io_service_bytes_recursive"),
        "ioServicedRecursive": list("blkio.throttle.io_serviced_recursive"),
    })
}

/// Lines such as `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0`.
fn io_v2(files: &Files<'_>) -> Value {
    let text = files.text("io", "io.stat");
    let list = |names: [(&str, &str); 2]| -> Value {
        let mut entries = Vec::new();
        for line in text.lines() {
            let mut fields = line.split_ascii_whitespace();
            let Some((major, minor)) = fields.next().and_then(|device| device.split_once(':')) else {
                continue;
            };
            for field in fields {
                let found = names
                    .iter()
                    .find_map(|(key, op)| Some((op, field.strip_prefix(key)?.strip_prefix('=')?)));
                entries.extend(found.and_then(|(op, value)| entry(major, minor, op, value)));
            }
        }
        Value::Array(entries)
    };
    json!({
        "ioServiceBytesRecursive": list([("rbytes", "Read"), ("wbytes", "Write")]),
        "ioServicedRecursive": list([("rios", "Read"), ("wios", "Write")]),
    })
}

fn entry(major: &str, minor: &str, op: &str, value: &str) -> Option<Value> {
    let number = |text: &str| text.parse::<u64>().ok();
    Some(json!({"major": number(major)?, "minor": number(minor)?, "op": op, "value": number(value)?}))
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        let of = |text| duration(text).map(|time| time.tv_sec * 1000 + time.tv_nsec / 1_000_000);
        assert_eq!(of("500ms").unwrap(), 500);
        assert_eq!(of("1m30s").unwrap(), 90_000);
        for bad in ["", "5", "s", "0s", "1x", "99999999999999999999s", "999999999999999999h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
