//! Very many objects: what holding them costs, and one list of them all.

use super::ratio;
use crate::{
    Options,
    failure::{Outcome, fail},
    figures::{Samples, short},
    http2::{Encoding, Http2, Target},
    load,
    process::{self, CpuTime},
    server::{self, Server},
    table::Row,
    upstream::{self, Upstream},
};
use http::Method;
use http_body_util::BodyExt;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Objects that are held.
const OBJECTS: usize = 64_000;
/// Writers that make them.
const WRITERS: usize = 64;
/// Lists of them all.
const ROUNDS: usize = 5;
/// Memory that writing needed and holding does not is given back within half a minute.
const SETTLED: Duration = Duration::from_secs(60);
/// Namespace they are in.
const NAMESPACE: &str = "bench-many";
/// What holding them may cost, the whole server included.
const BAR_MEGABYTES: f64 = 250.0;

/// One side's figures.
struct Held {
    /// Megabytes of its processes with the objects in them, before the first list.
    megabytes: f64,
    /// Milliseconds until a client has the whole answer.
    answer: Samples,
    /// Milliseconds of CPU of its processes for it.
    cpu: Samples,
    /// Bytes of the answer.
    bytes: usize,
}

async fn held(target: &Target, pids: &[u32], options: &Options) -> Outcome<Held> {
    let mut api = Http2::connect(target).await?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    api.create("/api/v1/namespaces", namespace.to_string()).await?;
    let path = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
    let made = (0..WRITERS).map(|writer| {
        let (mut api, path) = (api.clone(), path.clone());
        async move {
            for number in (writer..OBJECTS).step_by(WRITERS) {
                let body = load::config_map(&format!("object-{number:05}"), Encoding::Json);
                api.create(&path, body).await?;
            }
            Outcome::Ok(())
        }
    });
    futures::future::try_join_all(made).await?;
    sleep(Duration::from_secs(options.settle_seconds).max(SETTLED)).await;
    let megabytes = process::memory(pids).pss as f64 / 1e6;
    let (mut answer, mut cpu, mut bytes) = (Vec::new(), Vec::new(), 0);
    for _ in 0..ROUNDS {
        let (before, began) = (CpuTime::of(pids), Instant::now());
        let response = api.open(Method::GET, &path, bytes::Bytes::new()).await?;
        if !response.status().is_success() {
            return fail(format!("{path}: {}", response.status()));
        }
        let mut body = response.into_body();
        bytes = 0;
        while let Some(frame) = body.frame().await {
            bytes += frame?.data_ref().map_or(0, bytes::Bytes::len);
        }
        answer.push(began.elapsed());
        cpu.push(CpuTime::of(pids).since(before));
        if bytes < OBJECTS * load::OBJECT {
            return fail(format!("{path}: {bytes} bytes are not {OBJECTS} objects"));
        }
    }
    Ok(Held {
        megabytes,
        answer: Samples::new(answer),
        cpu: Samples::new(cpu),
        bytes,
    })
}

pub async fn measure(options: &Options) -> Outcome<Vec<Row>> {
    let ours = {
        let (server, _) = Server::ready(options).await?;
        held(&server.target()?, &process::family(server.pid()), options).await?
    };
    let peer = match Upstream::is_there(options) {
        true => {
            let upstream = Upstream::ready(options).await?;
            Some(held(&upstream.target(), &upstream.pids(), options).await?)
        }
        false => None,
    };
    let how = format!(
        "{OBJECTS} config maps of 1.3 KB in one namespace, made over one connection by {WRITERS} writers, then {} s of \
         rest: PSS of the server's processes (ours with its node). Then {ROUNDS} LISTs of them all without a limit, \
         JSON, one after another over one connection ({:.0} MB each): CPU of the same processes and time to the last \
         byte, medians. `strata {} --port N --data-dir EMPTY`; peer (not at the same time): {}.",
        options.settle_seconds,
        ours.bytes as f64 / 1e6,
        server::FLAGS,
        upstream::FLAGS,
    );
    let row = |what: &str, unit: &str, of: fn(&Held) -> f64, bar: String, met: fn(f64, f64) -> bool| {
        let (our, their) = (of(&ours), peer.as_ref().map(of));
        Row {
            what: what.into(),
            strata: format!("{} {unit}", short(our)),
            peer: their.map_or("–".into(), |v| format!("kube-apiserver + etcd {} {unit}", short(v))),
            ratio: ratio(our, their.unwrap_or(0.0)),
            bar,
            met: their.map(|their| met(our, their)),
            how: how.clone(),
        }
    };
    Ok(vec![
        row(
            "memory holding 64k objects of 1.3 KB",
            "MB",
            |h| h.megabytes,
            format!("{BAR_MEGABYTES} MB"),
            |our, _| our <= BAR_MEGABYTES,
        ),
        row(
            "LIST of 64k objects: CPU of the server",
            "ms",
            |h| h.cpu.median(),
            "0.2x".into(),
            |our, their| our <= 0.2 * their,
        ),
        row(
            "same: one client's whole answer",
            "ms",
            |h| h.answer.median(),
            "0.4x".into(),
            |our, their| our <= 0.4 * their,
        ),
    ])
}
