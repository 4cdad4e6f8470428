//! A thousand containers at once in the engine, and what a shim of each costs.

use super::bed::{self, Bed, said};
use crate::{Options, failure::Outcome, figures::short, process, table::Row};
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};
use strata_engine::{Engine, Network, SandboxId};

const CROWD: usize = 1000;
/// Started or removed at once.
const AT_ONCE: usize = 16;
/// How long the kernel may take with the last links after everything is removed: it does that in its own time.
const PATIENCE: Duration = Duration::from_secs(20);
const BAR_LIST_MS: f64 = 50.0;
/// What conmon takes.
const BAR_SHIM_MB: f64 = 0.34;

#[derive(Debug, Default, Deserialize, Serialize)]
struct Figures {
    /// Seconds.
    start: f64,
    /// Milliseconds.
    list: f64,
    /// Milliseconds for a client of the records on disk: another process's first look.
    running: usize,
    /// Seconds until nothing is left.
    remove: f64,
    /// Megabytes for each.
    shim: f64,
    /// Links, mounts and shims beyond those before.
    left: usize,
}

pub async fn measure(options: &Options) -> Outcome<Vec<Row>> {
    let figures: Figures = bed::apart(options, "crowd").await?;
    let whole = figures.running == CROWD && figures.left == 0;
    Ok(vec![
        Row {
            what: format!("{CROWD} containers: started / listed / removed"),
            strata: format!(
                "{} s / {} ms / {} s; {} running, {} things left",
                short(figures.start),
                short(figures.list),
                short(figures.remove),
                figures.running,
                figures.left
            ),
            peer: "–".into(),
            ratio: "–".into(),
            bar: format!("listed in {BAR_LIST_MS} ms, nothing left"),
            met: Some(whole && figures.list <= BAR_LIST_MS),
            how: format!(
                "Each container of busybox in a sandbox with its own shim, address on a pod network and the default seccomp \
                 profile; {AT_ONCE} started or removed at once by calls of the engine; removal lasts \
                 until no link, mount or shim is left that was not there before."
            ),
        },
        Row {
            what: "memory of the shim of an idle container".into(),
            strata: format!("{} MB", short(figures.shim)),
            peer: "– (conmon 0.34 MB, containerd-shim 2.4 MB, published in the budget)".into(),
            ratio: "–".into(),
            bar: format!("{BAR_SHIM_MB} MB"),
            met: Some(figures.shim <= BAR_SHIM_MB),
            how: format!("Pss of smaps_rollup, mean over the shims of those {CROWD} containers."),
        },
    ])
}

/// The part of the process inside namespaces of its own.
pub fn inside(options: &Options) -> Outcome {
    bed::inside(options, measure_inside)
}

async fn measure_inside(bed: &Bed) -> Outcome<Figures> {
    let before = things()?;
    let began = Instant::now();
    let starting = (0..CROWD).map(|number| async move {
        let name = format!("crowd-{number}");
        Outcome::Ok(bed.sleeper(&name, Network::Pod(bed.network.clone())).await?.0)
    });
    let pods: Vec<SandboxId> = stream::iter(starting).buffer_unordered(AT_ONCE).try_collect().await?;
    let start = began.elapsed().as_secs_f64();
    let began = Instant::now();
    let running = running(&bed.engine);
    let list = began.elapsed().as_secs_f64() * 1e3;
    let shims: Vec<u32> = bed
        .engine
        .list_sandboxes()
        .iter()
        .map(|s| s.pid.unsigned_abs())
        .collect();
    let shim = process::memory(&shims).pss as f64 / 1e6 / shims.len().max(1) as f64;
    let began = Instant::now();
    let removing = pods.iter().map(|pod| bed.engine.remove_sandbox(pod));
    let removed: Result<Vec<()>, _> = stream::iter(removing).buffer_unordered(AT_ONCE).try_collect().await;
    removed.map_err(said)?;
    let left = loop {
        let alive = shims.iter().filter(|pid| Path::new(&format!("/proc/{pid}")).exists());
        let left = things()?.saturating_sub(before) + alive.count();
        if left == 0 || began.elapsed() > PATIENCE {
            break left;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    let remove = began.elapsed().as_secs_f64();
    Ok(Figures {
        start,
        list,
        running,
        remove,
        shim,
        left,
    })
}

fn running(engine: &Engine) -> usize {
    let is_running = |status: &strata_engine::ContainerStatus| status.state == strata_engine::ContainerState::Running;
    engine
        .list_containers()
        .iter()
        .filter(|status| is_running(status))
        .count()
}

/// Links and mounts of these namespaces.
fn things() -> Outcome<usize> {
    let lines = |path: &str| -> Outcome<usize> { Ok(fs::read_to_string(path)?.lines().count()) };
    Ok(lines("/proc/self/net/dev")? + lines("/proc/self/mountinfo")?)
}
