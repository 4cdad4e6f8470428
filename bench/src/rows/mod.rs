//! The rows of the budget, a file each.

mod api;
mod bed;
mod containerd;
pub mod containers;
pub mod crowd;
pub mod engine;
mod idle;
mod many;
mod pod;
mod pull;
mod ready;
mod watch;

use crate::{Options, failure::Outcome, figures::short, table::Table};
use clap::ValueEnum;
use std::fs;

/// A group of rows that are measured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Name {
    /// Start of a server on an empty data directory.
    Ready,
    /// Containers by the OCI command line.
    Runtime,
    /// Sandboxes and containers inside the engine.
    Engine,
    /// A thousand containers at once.
    Crowd,
    /// Images from a registry.
    Pull,
    /// POST of a pod to Running.
    Pod,
    /// Memory and CPU of an idle server with ten pods.
    Idle,
    /// Requests to the API.
    Api,
    /// Very many objects.
    Many,
    /// Events to many watchers.
    Watch,
}

/// Measures what the options name, one after another. A group that fails is told in the table and the rest goes on.
pub async fn run(options: &Options) -> Outcome<Table> {
    fs::create_dir_all(&options.work)?;
    let mut table = Table {
        heading: heading(),
        ..Table::default()
    };
    for name in &options.rows {
        eprintln!("measuring: {name:?}");
        let measured = match name {
            Name::Ready => ready::measure(options).await,
            Name::Runtime => containers::measure(options).await,
            Name::Engine => engine::measure(options).await,
            Name::Crowd => crowd::measure(options).await,
            Name::Pull => pull::measure(options).await,
            Name::Pod => pod::measure(options).await,
            Name::Idle => idle::measure(options).await,
            Name::Api => api::measure(options).await,
            Name::Many => many::measure(options).await,
            Name::Watch => watch::measure(options).await,
        };
        match measured {
            Ok(rows) => {
                for row in &rows {
                    eprintln!("  {}: {} / {} (bar {})", row.what, row.strata, row.peer, row.bar);
                }
                table.rows.extend(rows);
            }
            Err(failure) => table.skipped.push(format!("{name:?}: {failure}")),
        }
    }
    Ok(table)
}

fn heading() -> String {
    let line = |path: &str, name: &str| {
        let text = fs::read_to_string(path).unwrap_or_else(|e| e.to_string());
        let found = text
            .lines()
            .find_map(|l| Some(l.strip_prefix(name)?.trim_start_matches([' ', '\t', ':']).to_owned()));
        found.unwrap_or_else(|| "?".to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory: f64 = line("/proc/meminfo", "MemTotal")
        .trim_end_matches(" kB")
        .trim()
        .parse()
        .unwrap_or(0.0);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_else(|e| e.to_string());
    format!(
        "{cores} cores of {}, {:.0} GiB, Linux {}; load average before the run {}. Ratios are of medians measured in \
         this run; this machine's noise is shown as min–max.",
        line("/proc/cpuinfo", "model name"),
        memory / f64::from(1 << 20),
        rustix::system::uname().release().to_string_lossy(),
        load.split(' ').next().unwrap_or("?"),
    )
}

/// Ours to the peer's.
fn ratio(ours: f64, peer: f64) -> String {
    if peer > 0.0 {
        format!("{}x", short(ours / peer))
    } else {
        "–".to_owned()
    }
}
