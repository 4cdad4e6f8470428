//! Sandboxes and containers inside the engine, and many at once beside containerd.

use super::{
    bed::{self, Bed, said},
    containerd::Containerd,
    ratio,
};
use crate::{
    Options,
    failure::Outcome,
    figures::{Samples, short},
    table::Row,
};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    time::{Duration, Instant},
};
use strata_engine::Network;

const SANDBOXES: usize = 30;
const WARM_UP: usize = 3;
const PARALLEL: usize = 50;
const ROUNDS: usize = 3;
const BAR_MS: f64 = 6.0;
/// Of containerd's time.
const BAR_PARALLEL: f64 = 0.25;

/// Milliseconds.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Times {
    sandbox: Vec<f64>,
    start: Vec<f64>,
    stop: Vec<f64>,
    parallel: Vec<f64>,
    containerd: Vec<f64>,
}

pub async fn measure(options: &Options) -> Outcome<Vec<Row>> {
    Ok(rows(bed::apart(options, "engine").await?))
}

fn rows(times: Times) -> Vec<Row> {
    let Times {
        sandbox,
        start,
        stop,
        parallel,
        containerd,
    } = times;
    let [sandbox, start, stop, parallel, containerd] =
        [sandbox, start, stop, parallel, containerd].map(Samples::from_numbers);
    let text = |s: &Samples| format!("{} ms (min {})", short(s.median()), short(s.min()));
    let worst = sandbox.median().max(start.median()).max(stop.median());
    vec![
        Row {
            what: "pod sandbox run / container create and start / stop, inside the engine".into(),
            strata: format!("{} / {} / {}", text(&sandbox), text(&start), text(&stop)),
            peer: "– (containerd through CRI 79 / 44 / 35 ms, published in the budget)".into(),
            ratio: "–".into(),
            bar: format!("{BAR_MS} ms each"),
            met: Some(worst <= BAR_MS),
            how: format!(
                "Median of {SANDBOXES} pods one after another: `run_sandbox` with an address on a pod network, \
                 `create_container` and `start_container` of busybox with the default seccomp profile, \
                 `stop_container` of a process that ends at SIGTERM."
            ),
        },
        Row {
            what: format!("{PARALLEL} containers in parallel, with their monitors"),
            strata: text(&parallel),
            peer: match containerd.len() {
                0 => "–".into(),
                _ => format!("containerd {}", text(&containerd)),
            },
            ratio: ratio(parallel.median(), containerd.median()),
            bar: format!("{BAR_PARALLEL}x containerd"),
            met: (containerd.len() > 0).then(|| parallel.median() <= BAR_PARALLEL * containerd.median()),
            how: format!(
                "Median of {ROUNDS} rounds in turns: {PARALLEL} busybox containers, each in a sandbox with its own \
                 shim, network namespace with loopback only and seccomp, from the first call until all run. Ours: calls \
                 of the engine. Peer: {PARALLEL} processes `ctr run --detach --seccomp --rootfs ROOTFS ID /bin/sleep \
                 1000` with containerd and runc from Debian, whose own start is part of the figure."
            ),
        },
    ]
}

/// The part of the process inside namespaces of its own.
pub fn inside(options: &Options) -> Outcome {
    bed::inside(options, measure_inside)
}

async fn measure_inside(bed: &Bed) -> Outcome<Times> {
    let mut times = Times::default();
    for number in 0..WARM_UP + SANDBOXES {
        let lived = one_after_another(bed, number).await?;
        if number >= WARM_UP {
            let [sandbox, start, stop] = lived.map(|d| d.as_secs_f64() * 1e3);
            times.sandbox.push(sandbox);
            times.start.push(start);
            times.stop.push(stop);
        }
    }
    let containerd = Containerd::start(&bed.folder).await?;
    for round in 0..ROUNDS {
        times.parallel.push(in_parallel(bed, round).await?);
        if let Some(containerd) = &containerd {
            times.containerd.push(containerd.in_parallel(PARALLEL, round)?);
        }
    }
    Ok(times)
}

async fn one_after_another(bed: &Bed, number: usize) -> Outcome<[Duration; 3]> {
    let (engine, uid) = (&bed.engine, format!("one-{number}"));
    let began = Instant::now();
    let config = bed.sandbox(&uid, Network::Pod(bed.network.clone()));
    let pod = engine.run_sandbox(config).await.map_err(said)?;
    let run = began.elapsed();
    let began = Instant::now();
    let script = "trap 'exit 0' TERM; echo ready; while :; do sleep 1000 & wait; done";
    let id = engine
        .create_container(&pod.id, bed.container(script))
        .await
        .map_err(said)?;
    engine.start_container(&id).await.map_err(said)?;
    let start = began.elapsed();
    // Until the trap is set SIGTERM would be ignored, as by any first process of a pid namespace.
    let log = bed.folder.join("logs").join(&uid).join("main/0.log");
    while !fs::read_to_string(&log).is_ok_and(|text| text.contains("ready")) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let began = Instant::now();
    engine.stop_container(&id, Duration::from_secs(5)).await.map_err(said)?;
    let stop = began.elapsed();
    bed.remove(&pod.id).await?;
    Ok([run, start, stop])
}

async fn in_parallel(bed: &Bed, round: usize) -> Outcome<f64> {
    let names: Vec<String> = (0..PARALLEL).map(|number| format!("all-{round}-{number}")).collect();
    let began = Instant::now();
    let started = names.iter().map(|name| bed.sleeper(name, Network::None));
    let pods = futures::future::try_join_all(started).await?;
    let took = began.elapsed();
    for (pod, _) in pods {
        bed.remove(&pod).await?;
    }
    Ok(took.as_secs_f64() * 1e3)
}
