//! The load generator: a process of its own with some connections, one request at a time on each.

use crate::{
    Options,
    failure::{Outcome, fail},
    figures::Samples,
    http2::{Http2, Target},
    objects,
};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use http::Method;
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokio::process::Command;

/// Requests before the measurement, until caches and connections are warm.
const WARM_UP: Duration = Duration::from_millis(500);
/// Bytes of a created object as it is sent.
pub const OBJECT: usize = 1300;
/// Objects that are read.
pub const OBJECTS_READ: usize = 2000;
/// Namespace of the objects that are read.
pub const READ: &str = "bench-read";
/// Namespace of the objects that are created.
pub const WRITTEN: &str = "bench-write";

/// What the requests are.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Operation {
    /// POST of a config map.
    Create,
    /// GET of a config map.
    Get,
    /// LIST of 500 config maps.
    List,
    /// Server-side apply of a deployment, an annotation of which changes.
    Apply,
    /// POST of a custom resource whose schema has CEL rules.
    Custom,
}

/// What is loaded and how.
#[derive(Args, Clone, Debug)]
pub struct LoadArgs {
    /// Port of the server on the loopback.
    #[arg(long)]
    pub port: u16,
    /// Folder with ca.crt, admin.crt and admin.key.
    #[arg(long)]
    pub identity: PathBuf,
    /// What the requests are.
    #[arg(long, value_enum)]
    pub operation: Operation,
    /// Connections, each with one request at a time.
    #[arg(long)]
    pub connections: usize,
    /// How long.
    #[arg(long)]
    pub seconds: u64,
    /// Makes the names of created objects unlike those of other runs.
    #[arg(long, default_value = "x")]
    pub prefix: String,
}

/// What came out.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Figures {
    /// Requests a second.
    pub rate: f64,
    /// Milliseconds.
    pub p50: f64,
    /// Milliseconds.
    pub p99: f64,
}

/// Runs the load in a process of its own.
pub async fn measure(
    target: &Target,
    options: &Options,
    operation: Operation,
    connections: usize,
    prefix: &str,
) -> Outcome<Figures> {
    let folder = tempfile::Builder::new().prefix("load-").tempdir_in(&options.work)?;
    target.write_to(folder.path())?;
    let name = operation.to_possible_value().map(|v| v.get_name().to_owned());
    let output = Command::new(std::env::current_exe()?)
        .args(["load", "--port", &target.port.to_string(), "--identity"])
        .arg(folder.path())
        .args(["--operation", name.as_deref().unwrap_or_default(), "--prefix", prefix])
        .args(["--connections", &connections.to_string()])
        .args(["--seconds", &options.load_seconds.to_string()])
        .kill_on_drop(true)
        .output()
        .await?;
    if !output.status.success() {
        return fail(format!("the load: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Makes the namespaces, and the objects that are read.
pub async fn prepare(target: &Target) -> Outcome {
    let mut api = Http2::connect(target).await?;
    for name in [READ, WRITTEN] {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        api.create("/api/v1/namespaces", &namespace).await?;
    }
    objects::define(&mut api).await?;
    let made = (0..8).map(|part| {
        let mut api = api.clone();
        async move {
            for number in (part..OBJECTS_READ).step_by(8) {
                let object = serde_json::from_slice(&config_map(&read_name(number)))?;
                api.create(&path(READ), &object).await?;
            }
            Ok(())
        }
    });
    futures::future::try_join_all(made).await.map(drop)
}

/// The part of the load's own process.
pub async fn run(args: &LoadArgs) -> Outcome {
    let target = Target::from_folder(Path::new(&args.identity), args.port)?;
    let connect = (0..args.connections).map(|_| Http2::connect(&target));
    let connections = futures::future::try_join_all(connect).await?;
    let start = Instant::now() + WARM_UP;
    let end = start + Duration::from_secs(args.seconds);
    let tasks: Vec<_> = connections
        .into_iter()
        .enumerate()
        .map(|(number, api)| tokio::spawn(worker(api, args.clone(), number, start, end)))
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        match task.await {
            Ok(part) => times.extend(part?),
            Err(error) => return fail(error.to_string()),
        }
    }
    let samples = Samples::new(times);
    let figures = Figures {
        rate: samples.len() as f64 / args.seconds as f64,
        p50: samples.median(),
        p99: samples.quantile(0.99),
    };
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}

async fn worker(mut api: Http2, args: LoadArgs, number: usize, start: Instant, end: Instant) -> Outcome<Vec<Duration>> {
    let mut times = Vec::new();
    for count in 0_usize.. {
        let (method, path, body) = match args.operation {
            Operation::Create => {
                let name = format!("{}-{number}-{count}", args.prefix);
                (Method::POST, path(WRITTEN), config_map(&name))
            }
            Operation::Get => {
                let name = read_name((number * 61 + count * 7) % OBJECTS_READ);
                (Method::GET, format!("{}/{name}", path(READ)), Bytes::new())
            }
            Operation::List => (Method::GET, format!("{}?limit=500", path(READ)), Bytes::new()),
            Operation::Apply => {
                let (path, body) = objects::applied(WRITTEN, &format!("{}-{number}", args.prefix), count);
                (Method::PATCH, path, body)
            }
            Operation::Custom => {
                let name = format!("{}-{number}-{count}", args.prefix);
                (
                    Method::POST,
                    objects::custom_path(WRITTEN),
                    objects::custom(&name, count),
                )
            }
        };
        let began = Instant::now();
        let answer = api.open(method, &path, body).await?;
        let status = answer.status();
        // Counted, not kept: what a client does with the answer is not what is measured.
        let mut body = answer.into_body();
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            bytes += frame?.data_ref().map_or(0, Bytes::len);
        }
        let now = Instant::now();
        let least = match args.operation {
            Operation::List => 500 * OBJECT,
            Operation::Create | Operation::Get => OBJECT,
            Operation::Apply | Operation::Custom => 1,
        };
        if !status.is_success() || bytes < least {
            return fail(format!("{path}: {status}, {bytes} bytes"));
        }
        if began >= start && now <= end {
            times.push(now - began);
        }
        if now >= end {
            break;
        }
    }
    Ok(times)
}

fn path(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps")
}

fn read_name(number: usize) -> String {
    format!("object-{number:05}")
}

/// A config map of [`OBJECT`] bytes.
fn config_map(name: &str) -> Bytes {
    let text = |filling: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"filling": filling}})
            .to_string()
    };
    let missing = OBJECT.saturating_sub(text("").len());
    text(&"x".repeat(missing)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn created_objects_have_the_size_that_the_table_says() {
        assert_eq!(config_map("a").len(), OBJECT);
        assert_eq!(config_map("a-longer-name").len(), OBJECT);
    }
}
