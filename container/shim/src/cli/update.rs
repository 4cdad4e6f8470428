//! `update`.

use super::flags::{Arguments, Flag};
use super::store::{Container, Status};
use super::{Global, systemd};
use alloc::format;
use rustix::fs::CWD;
use strata_runtime::spec::Resources;
use strata_runtime::{Context, Error, Result};
use strata_sys::file;

pub(super) const FLAGS: &[Flag] = &[
    Flag::value(
        "resources",
        "r",
        "JSON file with linux.resources; - is the standard input",
    ),
    Flag::value("blkio-weight", "", "10 to 1000"),
    Flag::value("cpu-period", "", "microseconds"),
    Flag::value("cpu-quota", "", "microseconds"),
    Flag::value("cpu-burst", "", "microseconds"),
    Flag::value("cpu-share", "", "2 to 262144"),
    Flag::value("cpu-rt-period", "", "microseconds"),
    Flag::value("cpu-rt-runtime", "", "microseconds"),
    Flag::value("cpu-idle", "", "1 runs it only when nothing else wants to"),
    Flag::value("cpuset-cpus", "", "list of CPUs"),
    Flag::value("cpuset-mems", "", "list of memory nodes"),
    Flag::value("memory", "", "bytes, or a number with k, m, g or t"),
    Flag::value("memory-reservation", "", "the same"),
    Flag::value("memory-swap", "", "the same, of memory and swap; -1 unlimited"),
    Flag::value("kernel-memory", "", "accepted, no effect"),
    Flag::value("kernel-memory-tcp", "", "accepted, no effect"),
    Flag::value("pids-limit", "", "processes"),
    Flag::value("l3-cache-schema", "", "not supported"),
    Flag::value("mem-bw-schema", "", "not supported"),
];

pub(super) fn update(global: &Global, arguments: &Arguments) -> Result<i32> {
    let container = Container::load(global, arguments.id()?)?;
    if container.status()? == Status::Stopped {
        return Err(Error::State("container not running".into()));
    }
    for refused in ["l3-cache-schema", "mem-bw-schema"] {
        if arguments.value(refused).is_some() {
            return Err(Error::Invalid(format!("--{refused}: Intel RDT is not supported")));
        }
    }
    let mut resources = match arguments.value("resources") {
        None => Resources::default(),
        Some(path) => read_resources(path)?,
    };
    change(&mut resources, arguments)?;
    let cgroup = container.cgroup()?;
    if !container.record.unit.is_empty() {
        systemd::update(&container.record.unit, &resources, cgroup.layout())?;
    }
    cgroup.apply(&resources)?;
    Ok(0)
}

fn change(resources: &mut Resources, arguments: &Arguments) -> Result<()> {
    let unsigned = |name: &str| -> Result<Option<u64>> {
        let number = arguments.number(name)?;
        let check =
            |number| u64::try_from(number).map_err(|_| Error::Invalid(format!("--{name}: {number} is negative")));
        number.map(check).transpose()
    };
    let bytes = |name: &str| arguments.value(name).map(|text| parse_bytes(name, text)).transpose();
    let cpu = resources.cpu.get_or_insert_default();
    cpu.shares = unsigned("cpu-share")?.or(cpu.shares);
    cpu.period = unsigned("cpu-period")?.or(cpu.period);
    cpu.burst = unsigned("cpu-burst")?.or(cpu.burst);
    cpu.realtime_period = unsigned("cpu-rt-period")?.or(cpu.realtime_period);
    cpu.realtime_runtime = arguments.number("cpu-rt-runtime")?.or(cpu.realtime_runtime);
    cpu.idle = arguments.number("cpu-idle")?.or(cpu.idle);
    cpu.quota = arguments.number("cpu-quota")?.or(cpu.quota);
    if let Some(cpus) = arguments.value("cpuset-cpus") {
        cpu.cpus = cpus.into();
    }
    if let Some(mems) = arguments.value("cpuset-mems") {
        cpu.mems = mems.into();
    }
    let memory = resources.memory.get_or_insert_default();
    memory.limit = bytes("memory")?.or(memory.limit);
    memory.reservation = bytes("memory-reservation")?.or(memory.reservation);
    memory.swap = bytes("memory-swap")?.or(memory.swap);
    if let Some(limit) = arguments.number("pids-limit")? {
        resources.pids.get_or_insert_default().limit = Some(limit);
    }
    if let Some(weight) = unsigned("blkio-weight")? {
        let weight =
            u16::try_from(weight).map_err(|_| Error::Invalid(format!("--blkio-weight: bad weight {weight}")))?;
        resources.block_io.get_or_insert_default().weight = Some(weight);
    }
    Ok(())
}

/// A number of bytes: `1024`, `64k`, `64m`, `1g`, `1GiB`; -1 is unlimited.
fn parse_bytes(name: &str, text: &str) -> Result<i64> {
    let bad = || Error::Invalid(format!("invalid value for {name}: {text:?}"));
    if let Ok(number) = text.parse::<i64>() {
        return if number >= -1 { Ok(number) } else { Err(bad()) };
    }
    let end = text.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(bad)?;
    let (number, unit) = text.split_at(end);
    let number: i64 = number.parse().map_err(|_| bad())?;
    let unit = unit.trim().to_ascii_lowercase();
    let unit = unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(&unit);
    let shift = match unit {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return Err(bad()),
    };
    number.checked_mul(1 << shift).ok_or_else(bad)
}

fn read_resources(path: &str) -> Result<Resources> {
    const LIMIT: usize = 1 << 20;
    let text = if path == "-" {
        file::read_all(strata_sys::stream::input(), LIMIT)
    } else {
        file::read_at(CWD, path, LIMIT)
    };
    let text = text.context(|| format!("read {path}"))?;
    serde_json::from_slice(&text).map_err(|error| Error::Invalid(format!("{path}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::parse_bytes;

    #[test]
    fn bytes_have_units() {
        let table = [
            ("0", 0),
            ("-1", -1),
            ("10k", 10_240),
            ("64M", 64 << 20),
            ("1GiB", 1 << 30),
            ("3b", 3),
        ];
        for (text, bytes) in table {
            assert_eq!(parse_bytes("memory", text).unwrap(), bytes, "{text}");
        }
        for text in ["", "k", "-2", "1x", "1 2", "9999999999p"] {
            assert!(parse_bytes("memory", text).is_err(), "{text}");
        }
    }
}
