//! A pod, from its POST to the moment at which a watching client sees it Running.

use crate::{
    Options,
    failure::{Outcome, fail},
    figures::{Samples, short},
    http2::{Http2, Target},
    process,
    server::{self, Server},
    table::Row,
};
use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::{
    fs,
    path::Path,
    time::{Duration, Instant, SystemTime},
};
use tokio::{sync::mpsc, time::timeout};

const BAR_MS: f64 = 150.0;
const PODS: usize = 30;
/// Before the first that counts.
const WARM_UP: usize = 2;
const PATIENCE: Duration = Duration::from_secs(30);
/// Events that may wait for us; a watch of one namespace with one pod has a handful.
const QUEUE: usize = 256;
pub const PATH: &str = "/api/v1/namespaces/default/pods";

pub async fn measure(options: &Options) -> Outcome<Vec<Row>> {
    let (server, _) = Server::ready(options).await?;
    let target = server.target()?;
    let mut api = Http2::connect(&target).await?;
    api.create("/api/v1/namespaces/default/services", service().to_string())
        .await?;
    let mut events = watch(&target).await?;
    let (mut running, mut spoke, mut early) = (Vec::new(), Vec::new(), 0);
    for number in 0..WARM_UP + PODS {
        let name = format!("pod-{number}");
        let posted = SystemTime::now();
        let began = Instant::now();
        api.create(PATH, pod(&name).to_string()).await?;
        let seen = next(&mut events, &name, |kind, pod| {
            kind != "DELETED" && pod["status"]["phase"] == "Running"
        })
        .await?;
        let uid = seen.object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        let first_line = first_line(&server.data_dir(), &uid).await?;
        if number >= WARM_UP {
            running.push(seen.at - began);
            spoke.push(first_line.duration_since(posted).unwrap_or(Duration::ZERO));
            let started = process_of(&uid).and_then(process::started);
            early += usize::from(started.is_none_or(|s| s > seen.since_boot));
        }
        let options = json!({"gracePeriodSeconds": 0}).to_string();
        api.send(Method::DELETE, &format!("{PATH}/{name}"), options.into())
            .await?;
        next(&mut events, &name, |kind, _| kind == "DELETED").await?;
    }
    let (running, spoke) = (Samples::new(running), Samples::new(spoke));
    Ok(vec![Row {
        what: "POST of a pod to Running, as a watching client sees it".into(),
        strata: format!(
            "p50 {} ms, p99 {} ms (min {}); first line of its log p50 {} ms",
            short(running.median()),
            short(running.quantile(0.99)),
            short(running.min()),
            short(spoke.median()),
        ),
        peer: "– (k3s about 1 s, published)".into(),
        ratio: "–".into(),
        bar: format!("{BAR_MS} ms"),
        met: Some(running.median() <= BAR_MS && early == 0),
        how: format!(
            "{PODS} pods one after another, image strata.local/hello present, service account token volume, a service \
             that selects the pod, default seccomp; the clock runs from before the POST to the arrival of the watch \
             event. Pods told Running before their process had started (/proc/PID/stat): {early}. `strata {} --port N`.",
            server::FLAGS
        ),
    }])
}

/// A pod of the built-in image.
pub fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "bench"}},
        "spec": {"containers": [{
            "name": "main", "image": "strata.local/hello", "imagePullPolicy": "IfNotPresent",
            "ports": [{"containerPort": 8080}],
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        }]},
    })
}

fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "bench"},
        "spec": {"selector": {"app": "bench"}, "ports": [{"port": 80, "targetPort": 8080}]},
    })
}

/// An event with the moment at which it arrived.
pub struct Seen {
    at: Instant,
    since_boot: Duration,
    kind: String,
    object: Value,
}

/// Watches the pods of the default namespace on a connection of its own, which ends with the receiver.
pub async fn watch(target: &Target) -> Outcome<mpsc::Receiver<Seen>> {
    let mut api = Http2::connect(target).await?;
    let answer = api.open(Method::GET, &format!("{PATH}?watch=1"), Bytes::new()).await?;
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let mut body = answer.into_body();
        let mut rest = Vec::new();
        while let Some(Ok(frame)) = body.frame().await {
            let at = Instant::now();
            let since_boot = since_boot();
            rest.extend_from_slice(frame.data_ref().map_or(&[][..], |d| d));
            while let Some(end) = rest.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                let Ok(mut event) = serde_json::from_slice::<Value>(&line) else {
                    return;
                };
                let kind = event["type"].as_str().unwrap_or_default().to_owned();
                let object = event["object"].take();
                if sender
                    .send(Seen {
                        at,
                        since_boot,
                        kind,
                        object,
                    })
                    .await
                    .is_err()
                {
                    return;
                }
            }
        }
        drop(api);
    });
    Ok(receiver)
}

/// The next event of a pod that satisfies.
pub async fn next(
    events: &mut mpsc::Receiver<Seen>,
    name: &str,
    holds: impl Fn(&str, &Value) -> bool,
) -> Outcome<Seen> {
    let mut last = Value::Null;
    let wanted = async {
        while let Some(seen) = events.recv().await {
            if seen.object["metadata"]["name"] == name {
                if holds(&seen.kind, &seen.object) {
                    return Some(seen);
                }
                last = seen.object["status"].clone();
            }
        }
        None
    };
    match timeout(PATIENCE, wanted).await {
        Ok(Some(seen)) => Ok(seen),
        Ok(None) => fail("the watch has ended"),
        Err(_) => fail(format!("{name} is not there after {PATIENCE:?}; its status: {last}")),
    }
}

fn since_boot() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The process of a pod's container: the one in a pid namespace of its own whose cgroup bears the pod's uid.
fn process_of(uid: &str) -> Option<u32> {
    let own = fs::read_link("/proc/self/ns/pid").ok();
    process::numbers().into_iter().find(|pid| {
        let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_else(|_| String::new());
        let is_ours = cgroups.contains(uid) || cgroups.contains(&uid.replace('-', "_"));
        is_ours && fs::read_link(format!("/proc/{pid}/ns/pid")).ok() != own
    })
}

/// The timestamp of the first line that a pod's container wrote (CRI's log format begins with it).
async fn first_line(data_dir: &Path, uid: &str) -> Outcome<SystemTime> {
    let look = || -> Option<SystemTime> {
        let pods = fs::read_dir(data_dir.join("logs")).ok()?.flatten();
        let pod = pods
            .into_iter()
            .find(|e| e.file_name().to_string_lossy().ends_with(uid))?;
        let text = fs::read_to_string(pod.path().join("main/0.log")).ok()?;
        let stamp: jiff::Timestamp = text.split_whitespace().next()?.parse().ok()?;
        Some(stamp.into())
    };
    let began = Instant::now();
    loop {
        match look() {
            Some(at) => return Ok(at),
            None if began.elapsed() > PATIENCE => return fail("the pod has written nothing"),
            None => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    }
}
