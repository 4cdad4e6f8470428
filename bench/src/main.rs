//! `strata-bench`: the budget's figures, each measured beside its peer in one run, as one Markdown table.
//!
//! For: the rows of the budget that exist by now. Not for: gating a change; no figure here is a test.
//! A row is a file in `rows`; it starts what it measures, measures, ends it, and gives [`table::Row`]s.
//! Start at [`rows::run`]. Load comes from a process of its own (`strata-bench load`), see [`load`].

mod disk;
mod failure;
mod figures;
mod http2;
mod load;
mod objects;
mod process;
mod rows;
mod server;
mod table;
mod upstream;
mod watchers;

use clap::{Parser, Subcommand};
use failure::Outcome;
use std::{path::PathBuf, process::ExitCode};

/// Measures Strata beside its peers; `bench/run` calls it.
#[derive(Parser, Clone, Debug)]
#[command(name = "strata-bench", max_term_width = 100)]
pub struct Options {
    /// The built strata.
    #[arg(long, global = true, default_value = "target/release/strata")]
    pub strata: PathBuf,
    /// The built strata-runtime.
    #[arg(long, global = true, default_value = "target/release/strata-runtime")]
    pub runtime: PathBuf,
    /// Folder with the peers etcd and kube-apiserver.
    #[arg(long, global = true, default_value = "peers")]
    pub peers: PathBuf,
    /// Folder on the disk that is measured; both sides write below it.
    #[arg(long, global = true, default_value = ".")]
    pub work: PathBuf,
    /// Which rows.
    #[arg(
        long,
        global = true,
        value_delimiter = ',',
        default_value = "ready,runtime,engine,crowd,pull,pod,idle,api,many,watch"
    )]
    pub rows: Vec<rows::Name>,
    /// Runs of each figure that is measured as a whole.
    #[arg(long, global = true, default_value_t = 5)]
    pub runs: usize,
    /// Seconds that each figure of the API is loaded.
    #[arg(long, global = true, default_value_t = 8)]
    pub load_seconds: u64,
    /// Seconds between the last request and the measurement of an idle server.
    #[arg(long, global = true, default_value_t = 60)]
    pub settle_seconds: u64,
    /// Seconds over which idle CPU is measured.
    #[arg(long, global = true, default_value_t = 120)]
    pub idle_seconds: u64,
    /// Another process's part.
    #[command(subcommand)]
    pub part: Option<Part>,
}

/// What runs in a process of its own.
#[derive(Subcommand, Clone, Debug)]
pub enum Part {
    /// Loads a server and prints the figures as JSON.
    Load(load::LoadArgs),
    /// Opens many watches and prints how late events came as JSON.
    Watch(watchers::WatchArgs),
    /// Runs containers by command, inside a mount namespace of its own.
    Containers,
    /// Runs sandboxes in the engine, inside namespaces of its own.
    Engine,
    /// Runs very many sandboxes in the engine, inside namespaces of its own.
    Crowd,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match start(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("strata-bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn start(options: &Options) -> Outcome {
    match options.part {
        Some(Part::Containers) => return rows::containers::inside(options),
        Some(Part::Engine) => return rows::engine::inside(options),
        Some(Part::Crowd) => return rows::crowd::inside(options),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match &options.part {
            Some(Part::Load(args)) => load::run(args).await,
            Some(Part::Watch(args)) => watchers::run(args).await,
            _ => {
                let table = tokio::select! {
                    table = rows::run(options) => table?,
                    // Dropping the measurement ends and removes what it started.
                    _ = tokio::signal::ctrl_c() => return failure::fail("interrupted"),
                };
                print!("{table}");
                Ok(())
            }
        }
    })
}
