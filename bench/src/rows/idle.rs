//! What an idle server with ten running pods costs, after clients have read discovery and OpenAPI.

use super::{pod, ratio};
use crate::{
    Options,
    failure::{Outcome, fail},
    figures::short,
    http2::{Http2, Target},
    process::{self, CpuTime},
    server::{self, Server},
    table::Row,
    upstream::{self, Upstream},
};
use serde_json::Value;
use std::{path::Path, time::Duration};
use tokio::time::sleep;

const PODS: usize = 10;
const BAR_MEGABYTES: f64 = 100.0;
const BAR_PERCENT: f64 = 0.5;
const BAR_SHIM_MEGABYTES: f64 = 0.5;

/// Measured at one server.
struct Idle {
    /// Megabytes of everything that counts.
    megabytes: f64,
    /// Of it, a line of text.
    parts: String,
    /// Share of one core.
    percent: f64,
    /// Megabytes of each shim.
    shim: f64,
}

pub async fn measure(options: &Options) -> Outcome<Vec<Row>> {
    let ours = strata(options).await?;
    let peer = if Upstream::is_there(options) {
        Some(upstream(options).await?)
    } else {
        None
    };
    let how = format!(
        "{PODS} pods of strata.local/hello Running, then every document of discovery and OpenAPI fetched, then {} s \
         of rest. Ours: control plane, node and DNS: RSS of the server (its file is shared with the pods' own \
         processes, so PSS would flatter it), PSS of helper and shims, memfd and tmpfs in full. Peer: PSS of \
         kube-apiserver and etcd alone, without pods, controllers, scheduler or node. CPU: user and system time of \
         the same processes over {} s, share of one core. `strata {} --port N`; {}.",
        options.settle_seconds,
        options.idle_seconds,
        server::FLAGS,
        upstream::FLAGS
    );
    let row = |what: &str, strata: String, other: String, ratio: String, bar: String, met: bool| Row {
        what: what.into(),
        strata,
        peer: other,
        ratio,
        bar,
        met: Some(met),
        how: how.clone(),
    };
    let (memory, cpu) = match &peer {
        Some(p) => (
            format!("kube-apiserver + etcd {} MB ({})", short(p.megabytes), p.parts),
            format!("kube-apiserver + etcd {}%", short(p.percent)),
        ),
        None => ("–".into(), "–".into()),
    };
    Ok(vec![
        row(
            "idle memory, control plane + node + DNS",
            format!("{} MB ({})", short(ours.megabytes), ours.parts),
            memory,
            ratio(ours.megabytes, peer.as_ref().map_or(0.0, |p| p.megabytes)),
            format!("{BAR_MEGABYTES} MB"),
            ours.megabytes <= BAR_MEGABYTES,
        ),
        row(
            "idle CPU",
            format!("{}%", short(ours.percent)),
            cpu,
            ratio(ours.percent, peer.as_ref().map_or(0.0, |p| p.percent)),
            format!("{BAR_PERCENT}%"),
            ours.percent <= BAR_PERCENT,
        ),
        row(
            "PSS per idle pod beyond its own processes",
            format!("{} MB", short(ours.shim)),
            "– (containerd-shim 2.4 MB, published)".into(),
            "–".into(),
            format!("{BAR_SHIM_MEGABYTES} MB"),
            ours.shim <= BAR_SHIM_MEGABYTES,
        ),
    ])
}

async fn strata(options: &Options) -> Outcome<Idle> {
    let (server, _) = Server::ready(options).await?;
    let target = server.target()?;
    let mut api = Http2::connect(&target).await?;
    let mut events = pod::watch(&target).await?;
    for number in 0..PODS {
        let name = format!("idle-{number}");
        api.create(pod::PATH, pod::pod(&name).to_string()).await?;
        pod::next(&mut events, &name, |_, pod| pod["status"]["phase"] == "Running").await?;
    }
    drop((api, events));
    read_everything(&target).await?;
    sleep(Duration::from_secs(options.settle_seconds)).await;
    let family = process::family(server.pid());
    let (percent, family) = (percent(&family, options).await, process::family(server.pid()));
    let others: Vec<u32> = family.iter().copied().filter(|p| *p != server.pid()).collect();
    if others.len() < PODS {
        return fail(format!(
            "{} processes beside the server's are too few for {PODS} pods",
            others.len()
        ));
    }
    let (own, helpers) = (process::memory(&[server.pid()]), process::memory(&others));
    let memfd = process::memory(&family).memfd;
    let tmpfs = process::tmpfs_below(&server.data_dir()) + process::folder_in_memory(Path::new("/run/strata"));
    // One of them is the helper; counting it among the shims errs on the safe side.
    let shim = megabytes(helpers.pss) / PODS as f64;
    Ok(Idle {
        megabytes: megabytes(own.rss + helpers.pss + memfd + tmpfs),
        parts: format!(
            "server {} [PSS {}], {} helper and shims {}, memfd {}, tmpfs {}",
            short(megabytes(own.rss)),
            short(megabytes(own.pss)),
            others.len(),
            short(megabytes(helpers.pss)),
            short(megabytes(memfd)),
            short(megabytes(tmpfs)),
        ),
        percent,
        shim,
    })
}

async fn upstream(options: &Options) -> Outcome<Idle> {
    let upstream = Upstream::ready(options).await?;
    read_everything(&upstream.target()).await?;
    sleep(Duration::from_secs(options.settle_seconds)).await;
    let percent = percent(&upstream.pids(), options).await;
    let [api, etcd] = upstream.pids().map(|pid| megabytes(process::memory(&[pid]).pss));
    Ok(Idle {
        megabytes: api + etcd,
        parts: format!("{} + {}", short(api), short(etcd)),
        percent,
        shim: 0.0,
    })
}

async fn percent(pids: &[u32], options: &Options) -> f64 {
    let (before, began) = (CpuTime::of(pids), std::time::Instant::now());
    sleep(Duration::from_secs(options.idle_seconds)).await;
    let used = CpuTime::of(pids).since(before);
    100.0 * used.as_secs_f64() / began.elapsed().as_secs_f64()
}

/// Reads what kubectl and dashboards read: discovery of every group and version, OpenAPI v2 and v3.
async fn read_everything(target: &Target) -> Outcome {
    let mut api = Http2::connect(target).await?;
    let mut paths = vec![
        "/api".to_owned(),
        "/api/v1".to_owned(),
        "/apis".to_owned(),
        "/openapi/v2".to_owned(),
    ];
    if let Some(groups) = api.get("/apis").await? {
        let groups = groups["groups"].as_array().cloned().unwrap_or_else(Vec::new);
        let versions = groups
            .iter()
            .flat_map(|g| g["versions"].as_array().into_iter().flatten());
        paths.extend(versions.filter_map(|v| Some(format!("/apis/{}", v["groupVersion"].as_str()?))));
    }
    if let Some(index) = api.get("/openapi/v3").await? {
        let documents = index["paths"].as_object().into_iter().flat_map(|p| p.values());
        let url = |d: &Value| d["serverRelativeURL"].as_str().map(str::to_owned);
        paths.extend(documents.filter_map(url));
    }
    for path in paths {
        // What one side does not serve, such as OpenAPI v2, costs it nothing.
        api.send(http::Method::GET, &path, bytes::Bytes::new()).await?;
    }
    Ok(())
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
