//! Many watchers at once: a process of its own that opens them, and says how late events came.

use crate::{
    Options,
    failure::{Outcome, fail},
    figures::Samples,
    http2::{Http2, Target},
    load::WRITTEN,
};
use bytes::Bytes;
use clap::Args;
use http::Method;
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{
    path::PathBuf,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::Notify,
};

/// Streams of one connection, as many as servers allow.
const STREAMS: usize = 100;
/// Where an event carries the time it was written.
const STAMP: &str = "\"stamp\":\"";

/// Where and how many.
#[derive(Args, Clone, Debug)]
pub struct WatchArgs {
    /// Port of the server on the loopback.
    #[arg(long)]
    pub port: u16,
    /// Folder with ca.crt, admin.crt and admin.key.
    #[arg(long)]
    pub identity: PathBuf,
    /// Watchers.
    #[arg(long)]
    pub count: usize,
    /// Events that each is to see.
    #[arg(long)]
    pub events: usize,
}

/// What the watchers saw.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Seen {
    /// Events times watchers.
    pub delivered: usize,
    /// Milliseconds from before the write to the event's arrival.
    pub p50: f64,
    /// Milliseconds.
    pub p99: f64,
}

/// Watchers in their process.
pub struct Watchers {
    child: Child,
    _folder: tempfile::TempDir,
}

impl Watchers {
    /// Starts them and waits until all are open.
    pub async fn open(target: &Target, options: &Options, count: usize, events: usize) -> Outcome<Self> {
        let folder = tempfile::Builder::new().prefix("watch-").tempdir_in(&options.work)?;
        target.write_to(folder.path())?;
        let mut child = Command::new(std::env::current_exe()?)
            .args([
                "watch",
                "--port",
                &target.port.to_string(),
                "--count",
                &count.to_string(),
            ])
            .args(["--events", &events.to_string(), "--identity"])
            .arg(folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let Some(out) = child.stderr.as_mut() else {
            return fail("no pipe");
        };
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line).await?;
        if line.trim() != "open" {
            return fail(format!("the watchers: {line}"));
        }
        Ok(Self { child, _folder: folder })
    }

    /// Waits until every one has seen every event.
    pub async fn seen(self) -> Outcome<Seen> {
        let output = self.child.wait_with_output().await?;
        if !output.status.success() {
            return fail(format!(
                "the watchers: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            ));
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

/// Writes so many events, so many a second.
pub async fn write(target: &Target, events: usize, each: Duration) -> Outcome {
    let mut api = Http2::connect(target).await?;
    let mut ticks = tokio::time::interval(each);
    for number in 0..events {
        ticks.tick().await;
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": format!("stamp-{}-{number}", now()), "labels": {"stamped": "yes"}},
            "data": {"stamp": now().to_string(), "filling": "x".repeat(1000)},
        });
        api.create(&format!("/api/v1/namespaces/{WRITTEN}/configmaps"), object.to_string())
            .await?;
    }
    Ok(())
}

/// The part of the watchers' own process.
pub async fn run(args: &WatchArgs) -> Outcome {
    let target = Target::from_folder(&args.identity, args.port)?;
    let mut api = Http2::connect(&target).await?;
    let path = format!("/api/v1/namespaces/{WRITTEN}/configmaps?labelSelector=stamped%3Dyes");
    let list = api.get(&format!("{path}&limit=1")).await?.unwrap_or_default();
    let revision = list["metadata"]["resourceVersion"].as_str().unwrap_or("0").to_owned();
    let path = format!("{path}&watch=true&resourceVersion={revision}");
    let (opened, all_open) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let mut tasks = Vec::new();
    for first in (0..args.count).step_by(STREAMS) {
        let api = Http2::connect(&target).await?;
        for _ in first..args.count.min(first + STREAMS) {
            let (api, path, opened, all_open) = (api.clone(), path.clone(), opened.clone(), all_open.clone());
            let (count, events) = (args.count, args.events);
            tasks.push(tokio::spawn(async move {
                let told = || {
                    if opened.fetch_add(1, Ordering::Relaxed) + 1 == count {
                        all_open.notify_one();
                    }
                };
                watch(api, &path, events, told).await
            }));
        }
    }
    tokio::select! {
        () = all_open.notified() => eprintln!("open"),
        () = tokio::time::sleep(Duration::from_secs(60)) => return fail("not every watch opened within a minute"),
    }
    let mut times = Vec::new();
    for task in tasks {
        match task.await {
            Ok(part) => times.extend(part?),
            Err(error) => return fail(error.to_string()),
        }
    }
    let samples = Samples::new(times);
    let seen = Seen {
        delivered: samples.len(),
        p50: samples.median(),
        p99: samples.quantile(0.99),
    };
    println!("{}", serde_json::to_string(&seen)?);
    Ok(())
}

async fn watch(mut api: Http2, path: &str, events: usize, opened: impl FnOnce()) -> Outcome<Vec<Duration>> {
    let answer = api.open(Method::GET, path, Bytes::new()).await?;
    if !answer.status().is_success() {
        return fail(format!("watch: {}", answer.status()));
    }
    opened();
    let mut body = answer.into_body();
    let (mut line, mut times) = (Vec::new(), Vec::with_capacity(events));
    while let Some(frame) = body.frame().await {
        let frame = frame?;
        let Some(data) = frame.data_ref() else { continue };
        line.extend_from_slice(data);
        while let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            times.extend(late(&String::from_utf8_lossy(&line[..end])));
            line.drain(..=end);
        }
        if times.len() >= events {
            return Ok(times);
        }
    }
    fail(format!("a watch ended after {} events", times.len()))
}

/// How long ago the event of a line was written.
fn late(line: &str) -> Option<Duration> {
    let (_, rest) = line.split_once(STAMP)?;
    let then: u64 = rest.split('"').next()?.parse().ok()?;
    Some(Duration::from_nanos(now().saturating_sub(then)))
}

/// Nanoseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
}
