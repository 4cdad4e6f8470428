//! Asking a node's agent what has been used: the kubelet's /metrics/resource.

use super::rate::{Point, Sample};
use crate::{core::Core, subresource::dial_agent};
use http::{Request, header::HOST};
use http_body_util::{BodyExt, Limited};
use std::{collections::BTreeMap, time::Duration};
use strata_http::{Body, Connection};
use strata_meta::GroupResource;
use tokio::time::Instant;

/// How long an agent may take (metrics-server's `--kubelet-request-timeout`).
const TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of an answer: some 600 for a container.
const ANSWER: usize = 4 << 20;

/// A sample of a node. Errors: why there is none.
pub(super) async fn scrape(core: &Core, node: &str) -> Result<Sample, String> {
    let asked = tokio::time::timeout(TIMEOUT, ask(core, node));
    let text = asked.await.map_err(|_| "no answer in time".to_owned())??;
    Ok(read(&text))
}

async fn ask(core: &Core, node: &str) -> Result<String, String> {
    let io = dial_agent(core, &GroupResource::new("", "nodes"), node)
        .await
        .map_err(|status| status.message)?;
    let mut connection = Connection::http1(io).await.map_err(|e| e.to_string())?;
    let request = Request::get("/metrics/resource").header(HOST, node);
    let request = request.body(Body::empty()).map_err(|e| e.to_string())?;
    let response = connection.send(request).await.map_err(|e| e.to_string())?;
    if !response.status().is_success() {
        return Err(format!("the agent answered {}", response.status()));
    }
    let body = Limited::new(response.into_body(), ANSWER).collect().await;
    let bytes = body.map_err(|e| e.to_string())?.to_bytes();
    String::from_utf8(bytes.into()).map_err(|e| e.to_string())
}

/// Reads Prometheus' text format as far as metrics-server does.
fn read(text: &str) -> Sample {
    let mut sample = Sample {
        taken: Instant::now(),
        node: None,
        pods: BTreeMap::new(),
    };
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, labels, value, at)) = series(line) else {
            continue;
        };
        let point = match name {
            "node_cpu_usage_seconds_total" | "node_memory_working_set_bytes" => {
                sample.node.get_or_insert_with(Point::default)
            }
            _ => {
                let [Some(namespace), Some(pod), Some(container)] =
                    ["namespace", "pod", "container"].map(|wanted| label(labels, wanted))
                else {
                    continue;
                };
                let containers = sample.pods.entry((namespace.to_owned(), pod.to_owned())).or_default();
                containers.entry(container.to_owned()).or_default()
            }
        };
        match name {
            "node_cpu_usage_seconds_total" | "container_cpu_usage_seconds_total" => {
                point.cpu_seconds = value;
                point.at_millis = at.unwrap_or(0);
            }
            "node_memory_working_set_bytes" | "container_memory_working_set_bytes" => point.memory = value as u64,
            "container_start_time_seconds" => point.started_millis = (value * 1000.0) as i64,
            _ => {}
        }
    }
    sample
}

/// Name, labels, value and moment of a line.
fn series(line: &str) -> Option<(&str, &str, f64, Option<i64>)> {
    let (name, labels, rest) = match line.split_once('{') {
        Some((name, rest)) => {
            let (labels, rest) = rest.split_once('}')?;
            (name, labels, rest)
        }
        None => {
            let (name, rest) = line.split_once(' ')?;
            (name, "", rest)
        }
    };
    let mut words = rest.split_ascii_whitespace();
    let value = words.next()?.parse().ok()?;
    Some((name, labels, value, words.next().and_then(|at| at.parse().ok())))
}

/// The value of a label; names of Kubernetes need no escapes.
fn label<'l>(labels: &'l str, wanted: &str) -> Option<&'l str> {
    let each = labels.split(',').filter_map(|pair| pair.trim().split_once('='));
    let found = each.filter(|(name, _)| *name == wanted).map(|(_, value)| value).next();
    found.map(|value| value.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubelets_answer_is_read() {
        let text = r#"# HELP container_cpu_usage_seconds_total x
container_cpu_usage_seconds_total{container="c",namespace="n",pod="p"} 4.5 1395066363000
container_memory_working_set_bytes{container="c",namespace="n",pod="p"} 1.048576e+06 1395066363000
container_start_time_seconds{container="c",namespace="n",pod="p"} 1.395066362588e+09
node_cpu_usage_seconds_total 10 1395066363000
node_memory_working_set_bytes 5 1395066363000
pod_cpu_usage_seconds_total{namespace="n",pod="p"} 4.5 1395066363000
scrape_error 0
"#;
        let sample = read(text);
        let expected = Point {
            at_millis: 1_395_066_363_000,
            started_millis: 1_395_066_362_588,
            cpu_seconds: 4.5,
            memory: 1 << 20,
        };
        assert_eq!(sample.pods[&("n".into(), "p".into())]["c"], expected);
        assert_eq!(sample.node.map(|n| (n.cpu_seconds, n.memory)), Some((10.0, 5)));
        assert_eq!(sample.pods.len(), 1);
    }
}
