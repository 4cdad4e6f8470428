//! Events to many watchers: what one costs, and how late the last gets it.

use super::ratio;
use crate::{
    Options,
    failure::Outcome,
    figures::short,
    http2::Target,
    load,
    process::{self, CpuTime},
    server::{self, Server},
    table::Row,
    upstream::{self, Upstream},
    watchers::{self, Seen, Watchers},
};
use std::time::Duration;

/// Watchers and events of each row.
const COST: (usize, usize) = (1000, 100);
const CROWD: (usize, usize) = (5000, 50);
/// Five writes a second.
const EACH: Duration = Duration::from_millis(200);

struct Measured {
    seen: Seen,
    /// Microseconds of the server's processes for each event and watcher.
    cost: f64,
    /// Megabytes of the server's processes afterwards.
    memory: f64,
}

async fn crowd(target: &Target, pids: &[u32], options: &Options, size: (usize, usize)) -> Outcome<Measured> {
    let watchers = Watchers::open(target, options, size.0, size.1).await?;
    let before = CpuTime::of(pids);
    watchers::write(target, size.1, EACH).await?;
    let memory = process::memory(pids);
    let seen = watchers.seen().await?;
    let spent = CpuTime::of(pids).since(before);
    Ok(Measured {
        seen,
        cost: spent.as_secs_f64() * 1e6 / seen.delivered.max(1) as f64,
        memory: memory.pss as f64 / 1e6,
    })
}

pub async fn measure(options: &Options) -> Outcome<Vec<Row>> {
    let (server, _) = Server::ready(options).await?;
    let target = server.target()?;
    load::prepare(&target).await?;
    let ours = process::family(server.pid());
    let mut measured = Vec::new();
    for size in [COST, CROWD] {
        measured.push(crowd(&target, &ours, options, size).await?);
    }
    drop(server);
    let mut peer = None;
    if Upstream::is_there(options) {
        let upstream = Upstream::ready(options).await?;
        load::prepare(&upstream.target()).await?;
        peer = Some(crowd(&upstream.target(), &upstream.pids(), options, COST).await?);
    }
    let (cost, crowd) = (&measured[0], &measured[1]);
    let theirs = peer.as_ref().map_or(0.0, |p| p.cost);
    let how = format!(
        "One config map of 1.2 KB every {} ms, watchers over HTTP/2 connections of 100 streams, JSON, in a process of \
         their own; CPU of the server's processes (peer: kube-apiserver and etcd) from the first write to the last \
         delivery. `strata {} --port N --data-dir EMPTY`; peer: {}.",
        EACH.as_millis(),
        server::FLAGS,
        upstream::FLAGS,
    );
    Ok(vec![
        Row {
            what: format!("CPU for each event and watcher, {} watchers", COST.0),
            strata: format!("{} µs, p99 {} ms", short(cost.cost), short(cost.seen.p99)),
            peer: peer.as_ref().map_or("–".into(), |p| {
                format!(
                    "kube-apiserver + etcd {} µs, p99 {} ms",
                    short(p.cost),
                    short(p.seen.p99)
                )
            }),
            ratio: ratio(cost.cost, theirs),
            bar: "0.2x".into(),
            met: peer.as_ref().map(|p| cost.cost <= 0.2 * p.cost),
            how: how.clone(),
        },
        Row {
            what: format!("{} watchers, 5 writes a second: write to arrival", CROWD.0),
            strata: format!(
                "p50 {}, p99 {} ms, {} MB",
                short(crowd.seen.p50),
                short(crowd.seen.p99),
                short(crowd.memory)
            ),
            peer: "–".into(),
            ratio: "–".into(),
            bar: "p99 100 ms".into(),
            met: Some(crowd.seen.p99 <= 100.0),
            how,
        },
    ])
}
