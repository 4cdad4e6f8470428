//! The demonstration: a cluster, a deployment, a service, a request, timings, clean-up.

use crate::{
    cli::{DemoArgs, Output},
    cluster::{self, Wanted},
    failure::{During, Failure, Outcome, fail},
};
use serde_json::{Value, json};
use std::{
    net::IpAddr,
    time::{Duration, Instant},
};
use strata_client::{Client, Informer, Resource, Scope, resources};
use strata_task::CancellationToken;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const NAME: &str = "hello";
const REPLICAS: u64 = 3;
const PORT: u16 = 8080;
/// How long one step may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between requests to a service that does not answer yet.
const TRY_AGAIN: Duration = Duration::from_millis(5);

/// Runs the demonstration and removes everything, whatever happened.
pub async fn run(args: DemoArgs) -> Outcome {
    let name = format!("demo-{}", std::process::id());
    let shown = show(&name).await;
    let began = Instant::now();
    let removed = cluster::delete(&name).await;
    let mut phases = shown?;
    removed?;
    phases.push(("clean up", began.elapsed()));
    match args.output {
        Output::Json => {
            let ms = |(what, took): &(&str, Duration)| ((*what).to_owned(), json!(took.as_secs_f64() * 1e3));
            println!("{}", Value::Object(phases.iter().map(ms).collect()));
        }
        Output::Text => {
            for (what, took) in phases {
                println!("{what:<36} {:>8.1} ms", took.as_secs_f64() * 1e3);
            }
        }
    }
    Ok(())
}

async fn show(name: &str) -> Outcome<Vec<(&'static str, Duration)>> {
    let mut phases = Vec::new();
    let mut began = Instant::now();
    let mut phase = |what: &'static str| {
        phases.push((what, began.elapsed()));
        began = Instant::now();
    };
    let wanted = Wanted {
        name: name.to_owned(),
        nodes: 1,
        forward: Vec::new(),
        wait: PATIENCE,
    };
    let spec = cluster::create(&wanted).await?;
    phase("cluster ready");
    let client = cluster::client(&spec)?;
    client
        .create(resources::DEPLOYMENTS, "default", &deployment())
        .await
        .during("creating the deployment")?;
    client
        .create(resources::SERVICES, "default", &service())
        .await
        .during("creating the service")?;
    phase("deployment and service created");
    let ready = |d: &Value| d.pointer("/status/readyReplicas").and_then(Value::as_u64) == Some(REPLICAS);
    wait_for(&client, resources::DEPLOYMENTS, ready).await?;
    phase("three pods running and ready");
    let node_port = |s: &Value| s.pointer("/spec/ports/0/nodePort").and_then(Value::as_u64);
    let service = wait_for(&client, resources::SERVICES, |s| node_port(s).is_some()).await?;
    let port = node_port(&service)
        .and_then(|p| u16::try_from(p).ok())
        .ok_or_else(|| Failure("the service has no port".into()))?;
    let answer = tokio::time::timeout(PATIENCE, until_answered(spec.nodes[0].ip, port)).await;
    let answer = answer.map_err(|_| Failure("the service did not answer".into()))?;
    phase("first answer through the service");
    eprintln!("{}", answer.trim());
    for _ in 0..100 {
        request(spec.nodes[0].ip, port).await.during("asking the service")?;
    }
    phase("100 more requests, one after another");
    Ok(phases)
}

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": NAME},
        "spec": {
            "replicas": REPLICAS,
            "selector": {"matchLabels": {"app": NAME}},
            "template": {
                "metadata": {"labels": {"app": NAME}},
                "spec": {"containers": [{
                    "name": NAME, "image": "strata.local/hello", "imagePullPolicy": "IfNotPresent",
                    "ports": [{"containerPort": PORT}],
                    "readinessProbe": {"httpGet": {"path": "/", "port": PORT}},
                }]},
            },
        },
    })
}

fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME},
        "spec": {"type": "LoadBalancer", "selector": {"app": NAME}, "ports": [{"port": PORT, "targetPort": PORT}]},
    })
}

async fn wait_for(client: &Client, resource: Resource, holds: impl Fn(&Value) -> bool) -> Outcome<Value> {
    let cancel = CancellationToken::new();
    let _stop = cancel.clone().drop_guard();
    let scope = Scope {
        namespace: Some("default".into()),
        field_selector: format!("metadata.name={NAME}"),
        ..Scope::default()
    };
    let informer: Informer<Value> = Informer::start(client, resource, scope, cancel);
    let (changed, mut changes) = tokio::sync::watch::channel(());
    informer.on_change(move |_| changed.send_replace(()));
    let found = async {
        loop {
            changes.borrow_and_update();
            if let Some((_, object)) = informer.list().into_iter().find(|(_, object)| holds(object)) {
                return (*object).clone();
            }
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    match tokio::time::timeout(PATIENCE, found).await {
        Ok(object) => Ok(object),
        Err(_) => fail(format!("the {} did not get ready within {PATIENCE:?}", resource.kind)),
    }
}

async fn until_answered(ip: IpAddr, port: u16) -> String {
    loop {
        match request(ip, port).await {
            Ok(answer) => return answer,
            Err(_) => tokio::time::sleep(TRY_AGAIN).await,
        }
    }
}

/// One HTTP request; the body of the answer.
async fn request(ip: IpAddr, port: u16) -> std::io::Result<String> {
    let mut stream = tokio::net::TcpStream::connect((ip, port)).await?;
    stream.set_nodelay(true)?;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: hello\r\nConnection: close\r\n\r\n")
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
        _ => Err(std::io::Error::other("not an answer")),
    }
}
