//! What containers and the machine use at this moment: /metrics/resource, under the kubelet's names.
//!
//! Nothing is read before somebody asks. Processor time only ever grows: who wants a rate reads twice.

use crate::{context::Context, server::pod_name, summary};
use std::{
    collections::BTreeMap,
    fmt::Write,
    fs, io,
    time::{SystemTime, UNIX_EPOCH},
};
use strata_engine::{ContainerStatus, Stats};

/// The kernel counts in hundredths of a second (USER_HZ, part of its interface).
const NANOS_PER_TICK: u64 = 10_000_000;

/// What a whole machine uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Processor time since it started.
    pub cpu_nanos: u64,
    /// Bytes in use less inactive file pages.
    pub working_set: u64,
}

/// The machine's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Bytes in all.
    pub total: u64,
    /// Bytes in use less inactive file pages.
    pub working_set: u64,
}

/// The machine's memory. Errors: `/proc` cannot be read.
pub fn memory() -> io::Result<Memory> {
    let text = fs::read_to_string("/proc/meminfo")?;
    Ok(Memory {
        total: bytes(&text, "MemTotal"),
        working_set: working_set(&text),
    })
}

/// What the machine uses. Errors: `/proc` cannot be read.
pub fn machine() -> io::Result<Machine> {
    let (stat, memory) = (fs::read_to_string("/proc/stat")?, fs::read_to_string("/proc/meminfo")?);
    Ok(Machine {
        cpu_nanos: busy_ticks(&stat).saturating_mul(NANOS_PER_TICK),
        working_set: working_set(&memory),
    })
}

/// proc(5): user nice system idle iowait irq softirq steal; guests are counted in user.
fn busy_ticks(stat: &str) -> u64 {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or("");
    let ticks = line.split_ascii_whitespace().map(|n| n.parse::<u64>().unwrap_or(0));
    let busy = ticks.take(8).enumerate().filter(|(at, _)| !matches!(at, 3 | 4));
    busy.map(|(_, n)| n).sum()
}

fn working_set(meminfo: &str) -> u64 {
    let bytes = |name: &str| bytes(meminfo, name);
    (bytes("MemTotal").saturating_sub(bytes("MemFree"))).saturating_sub(bytes("Inactive(file)"))
}

/// A line of /proc/meminfo; 0 if there is none.
fn bytes(meminfo: &str, name: &str) -> u64 {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok());
    kib.unwrap_or(0_u64) * 1024
}

/// One container at one moment.
pub struct Sample {
    /// What it is.
    pub container: ContainerStatus,
    /// What it uses.
    pub stats: Stats,
    /// Milliseconds since 1970.
    pub at: u128,
}

/// What every running container uses.
pub async fn samples(context: &Context) -> Vec<Sample> {
    let mut samples = Vec::new();
    for container in summary::running(context) {
        // One that ends meanwhile simply has no figures.
        if let Ok(stats) = context.options.engine.usage(&container.id).await {
            let at = millis();
            samples.push(Sample { container, stats, at });
        }
    }
    samples
}

/// The text of /metrics/resource.
pub async fn exposition(context: &Context) -> String {
    let samples = samples(context).await;
    let machine = machine();
    if let Err(error) = &machine {
        tracing::warn!(%error, "what the machine uses cannot be read");
    }
    write(&samples, machine.ok(), millis())
}

fn millis() -> u128 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis())
}

/// Nanoseconds as Prometheus has them.
pub fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

/// Labels, a value, and the moment if it has one of its own.
type Line = (String, f64, Option<u128>);

/// What a pod's containers use together: nanoseconds, bytes, and when that was read.
type Totals = (u64, u64, u128);

/// Where a family's lines come from.
enum Source {
    Container(fn(&Sample) -> Option<(f64, bool)>),
    Pod(fn(&Totals) -> f64),
    Machine(fn(&Machine) -> f64),
    Failed,
}

/// Name, type, help and lines of a family (KEP-1206, the kubelet's resource metrics).
const FAMILIES: [(&str, &str, &str, Source); 8] = [
    (
        "container_cpu_usage_seconds_total",
        "counter",
        "Seconds of processor time the container has used.",
        Source::Container(|s| Some((seconds(s.stats.cpu_usage_nanos), true))),
    ),
    (
        "container_memory_working_set_bytes",
        "gauge",
        "Memory of the container that cannot be given back, in bytes.",
        Source::Container(|s| Some((s.stats.memory_working_set as f64, true))),
    ),
    (
        "container_start_time_seconds",
        "gauge",
        "When the container started, in seconds since 1970.",
        Source::Container(|s| {
            let since = s.container.started_at?.duration_since(UNIX_EPOCH).ok()?;
            Some((since.as_secs_f64(), false))
        }),
    ),
    (
        "node_cpu_usage_seconds_total",
        "counter",
        "Seconds of processor time the node has used.",
        Source::Machine(|m| seconds(m.cpu_nanos)),
    ),
    (
        "node_memory_working_set_bytes",
        "gauge",
        "Memory of the node that cannot be given back, in bytes.",
        Source::Machine(|m| m.working_set as f64),
    ),
    (
        "pod_cpu_usage_seconds_total",
        "counter",
        "Seconds of processor time the pod has used.",
        Source::Pod(|p| seconds(p.0)),
    ),
    (
        "pod_memory_working_set_bytes",
        "gauge",
        "Memory of the pod that cannot be given back, in bytes.",
        Source::Pod(|p| p.1 as f64),
    ),
    (
        "resource_scrape_error",
        "gauge",
        "Whether containers could not be measured.",
        Source::Failed,
    ),
];

fn write(samples: &[Sample], machine: Option<Machine>, now: u128) -> String {
    let mut pods: BTreeMap<(&str, &str), Totals> = BTreeMap::new();
    for sample in samples {
        let pod = pods.entry(pod_name(&sample.container)).or_default();
        pod.0 += sample.stats.cpu_usage_nanos;
        pod.1 += sample.stats.memory_working_set;
        pod.2 = pod.2.max(sample.at);
    }
    let of_container = |sample: &Sample, value: (f64, bool)| {
        let (namespace, pod) = pod_name(&sample.container);
        let name = &sample.container.name;
        let labels = format!("{{container=\"{name}\",namespace=\"{namespace}\",pod=\"{pod}\"}}");
        (labels, value.0, value.1.then_some(sample.at))
    };
    let of_pod = |(namespace, pod): &(&str, &str), totals: &Totals, value: f64| {
        let labels = format!("{{namespace=\"{namespace}\",pod=\"{pod}\"}}");
        (labels, value, Some(totals.2))
    };
    let mut out = String::new();
    for (name, kind, help, source) in &FAMILIES {
        let lines: Vec<Line> = match source {
            Source::Container(value) => samples
                .iter()
                .filter_map(|s| value(s).map(|v| of_container(s, v)))
                .collect(),
            Source::Pod(value) => pods.iter().map(|(pod, t)| of_pod(pod, t, value(t))).collect(),
            Source::Machine(value) => machine.iter().map(|m| (String::new(), value(m), Some(now))).collect(),
            Source::Failed => vec![(String::new(), f64::from(u8::from(machine.is_none())), None)],
        };
        if lines.is_empty() {
            continue;
        }
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value, at) in lines {
            let at = at.map(|at| format!(" {at}")).unwrap_or_default();
            let _ = writeln!(out, "{name}{labels} {value}{at}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_idle_is_not_used() {
        let stat = "cpu  10 1 5 1000 50 2 3 4 7 0\ncpu0 1 1 1 1\n";
        assert_eq!(busy_ticks(stat), 25);
        let memory = "MemTotal: 1000 kB\nMemFree: 300 kB\nInactive(file): 200 kB\nInactive: 900 kB\n";
        assert_eq!(working_set(memory), 500 * 1024);
    }

    #[test]
    fn a_machine_that_cannot_be_read_is_told() {
        let text = write(&[], None, 5);
        assert!(text.ends_with("resource_scrape_error 1\n"), "{text}");
        assert!(!text.contains("node_cpu"), "{text}");
        let used = Machine {
            cpu_nanos: 1_500_000_000,
            working_set: 7,
        };
        let text = write(&[], Some(used), 5);
        assert!(text.contains("\nnode_cpu_usage_seconds_total 1.5 5\n"), "{text}");
    }
}
