//! The load generator: a process of its own with some connections, one request at a time on each.

use crate::{
    Options,
    failure::{Outcome, fail},
    figures::Samples,
    http2::{Encoding, Http2, Target},
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
use strata_meta::GroupVersionKind;
use tokio::process::Command;

/// Requests before the measurement, until caches and connections are warm.
const WARM_UP: Duration = Duration::from_millis(500);
/// Bytes of a created object as it is sent.
pub const OBJECT: usize = 1300;
/// What an object has at least in any encoding.
const LEAST: usize = 1200;
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
    /// Server-side apply of a deployment, a label of which changes. (An annotation's change is a new generation, which
    /// a controller answers with a write; the peer runs none.)
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
    /// The encoding of bodies and answers.
    #[arg(long, value_enum, default_value = "json")]
    pub encoding: Encoding,
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

/// What one figure's load is.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// What the requests are.
    pub operation: Operation,
    /// The encoding of bodies and answers.
    pub encoding: Encoding,
    /// Connections, each with one request at a time.
    pub connections: usize,
}

/// Runs the load in a process of its own.
pub async fn measure(target: &Target, options: &Options, load: Load, prefix: &str) -> Outcome<Figures> {
    let folder = tempfile::Builder::new().prefix("load-").tempdir_in(&options.work)?;
    target.write_to(folder.path())?;
    fn name(value: impl ValueEnum) -> String {
        value
            .to_possible_value()
            .map_or_else(String::new, |v| v.get_name().to_owned())
    }
    let output = Command::new(std::env::current_exe()?)
        .args(["load", "--port", &target.port.to_string(), "--identity"])
        .arg(folder.path())
        .args(["--operation", &name(load.operation), "--encoding", &name(load.encoding)])
        .args(["--connections", &load.connections.to_string(), "--prefix", prefix])
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
        api.create("/api/v1/namespaces", namespace.to_string()).await?;
    }
    objects::define(&mut api).await?;
    let made = (0..8).map(|part| {
        let mut api = api.clone();
        async move {
            for number in (part..OBJECTS_READ).step_by(8) {
                let body = config_map(&read_name(number), Encoding::Json);
                api.create(&path(READ), body).await?;
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

/// The `count`th request of a worker.
fn request(args: &LoadArgs, number: usize, count: usize) -> (Method, String, Bytes) {
    let fresh = || format!("{}-{number}-{count}", args.prefix);
    match args.operation {
        Operation::Create => (Method::POST, path(WRITTEN), config_map(&fresh(), args.encoding)),
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
            let object = objects::custom(&fresh(), count);
            (Method::POST, objects::custom_path(WRITTEN), object)
        }
    }
}

async fn worker(api: Http2, args: LoadArgs, number: usize, start: Instant, end: Instant) -> Outcome<Vec<Duration>> {
    let mut api = api.speaking(args.encoding);
    let mut times = Vec::new();
    for count in 0_usize.. {
        let (method, path, body) = request(&args, number, count);
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
            Operation::List => 500 * LEAST,
            Operation::Create | Operation::Get => LEAST,
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

/// A config map of [`OBJECT`] bytes of JSON, or the same object in another encoding.
pub fn config_map(name: &str, encoding: Encoding) -> Bytes {
    let object = |filling: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"filling": filling}});
    let missing = OBJECT.saturating_sub(object("").to_string().len());
    let object = object(&"x".repeat(missing));
    match encoding {
        Encoding::Json => object.to_string().into(),
        Encoding::Protobuf => {
            let kind = GroupVersionKind::new("", "v1", "ConfigMap");
            let encoded = strata_schema::protobuf::encode_from_json(&kind, &object);
            encoded.expect("a config map has a protobuf form").into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn created_objects_have_the_size_that_the_table_says() {
        assert_eq!(config_map("a", Encoding::Json).len(), OBJECT);
        assert_eq!(config_map("a-longer-name", Encoding::Json).len(), OBJECT);
    }
}
