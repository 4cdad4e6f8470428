//! The process, as client libraries of Prometheus show theirs.

use crate::health::version;
use std::fs;
use strata_metrics::{Kind, Page};

/// Linux has had this many clock ticks in a second, as `/proc` counts them, on every architecture for decades.
const TICKS: f64 = 100.0;
const PAGE_BYTES: f64 = 4096.0;

pub(super) fn show(page: &mut Page) {
    let mut gauge = |name: &str, help: &str, value: f64| page.section(name, Kind::Gauge, help).sample(&[], value);
    if let Some(fields) = stat() {
        let number = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok());
        // Numbered from the third of proc_pid_stat(5): what is before may hold spaces.
        if let (Some(threads), Some(start), Some(virtual_bytes), Some(pages)) =
            (number(17), number(19), number(20), number(21))
        {
            gauge("go_threads", "Threads of the process.", threads);
            gauge("process_virtual_memory_bytes", "Bytes of address space.", virtual_bytes);
            gauge(
                "process_resident_memory_bytes",
                "Bytes of memory.",
                resident().unwrap_or(pages * PAGE_BYTES),
            );
            if let Some(booted) = booted() {
                let help = "When the process started, in seconds since 1970.";
                gauge("process_start_time_seconds", help, booted + start / TICKS);
            }
        }
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        #[expect(clippy::cast_precision_loss, reason = "the text knows floats only")]
        gauge("process_open_fds", "Open files.", open.count() as f64);
    }
    if let Some(most) = limit("Max open files") {
        gauge("process_max_fds", "Files that may be open.", most);
    }
    if let Some(most) = limit("Max address space") {
        gauge(
            "process_virtual_memory_max_bytes",
            "Bytes of address space that may be.",
            most,
        );
    }
    #[expect(clippy::cast_precision_loss, reason = "the text knows floats only")]
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        let tasks = runtime.metrics().num_alive_tasks();
        gauge("go_goroutines", "Tasks that are going on.", tasks as f64);
    }
    if let Some(fields) = stat()
        && let (Some(user), Some(system)) = (
            fields.get(11).and_then(|f| f.parse::<f64>().ok()),
            fields.get(12).and_then(|f| f.parse::<f64>().ok()),
        )
    {
        let help = "Seconds of processor time.";
        page.section("process_cpu_seconds_total", Kind::Counter, help)
            .sample(&[], (user + system) / TICKS);
    }
    network(page);
    build(page);
}

/// Bytes that went through the interfaces of the process's network namespace.
fn network(page: &mut Page) {
    let Ok(text) = fs::read_to_string("/proc/self/net/dev") else {
        return;
    };
    let (mut received, mut sent) = (0.0, 0.0);
    for line in text.lines() {
        let Some((_, numbers)) = line.split_once(':') else {
            continue;
        };
        let numbers: Vec<f64> = numbers.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        received += numbers.first().copied().unwrap_or(0.0);
        sent += numbers.get(8).copied().unwrap_or(0.0);
    }
    for (name, help, value) in [
        ("process_network_receive_bytes_total", "Bytes received.", received),
        ("process_network_transmit_bytes_total", "Bytes sent.", sent),
    ] {
        page.section(name, Kind::Counter, help).sample(&[], value);
    }
}

fn build(page: &mut Page) {
    let version = version();
    let members = [
        ("build_date", "buildDate"),
        ("compiler", "compiler"),
        ("git_commit", "gitCommit"),
        ("git_tree_state", "gitTreeState"),
        ("git_version", "gitVersion"),
        ("go_version", "goVersion"),
        ("major", "major"),
        ("minor", "minor"),
        ("platform", "platform"),
    ];
    let labels = members.map(|(label, member)| (label, version[member].as_str().unwrap_or_default()));
    page.section("kubernetes_build_info", Kind::Gauge, "What is running.")
        .sample(&labels, 1.0);
}

/// The fields of `/proc/self/stat` from the state on.
fn stat() -> Option<Vec<String>> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

fn resident() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: f64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kilobytes * 1024.0)
}

fn booted() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

fn limit(name: &str) -> Option<f64> {
    let text = fs::read_to_string("/proc/self/limits").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(f64::INFINITY),
        number => number.parse().ok(),
    }
}
