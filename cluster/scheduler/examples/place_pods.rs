//! Measures placement through the API in this process: `place_pods [PODS [NODES]]`.
//! Prints pods per second from the first creation to the last binding seen by a client.

#[allow(dead_code)]
#[path = "../tests/support/mod.rs"]
mod support;

use serde_json::json;
use std::{sync::Arc, time::SystemTime};
use support::TestCluster;

const WRITERS: usize = 32;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let pods: usize = arguments.get(1).map_or(Ok(3000), |text| text.parse())?;
    let nodes: usize = arguments.get(2).map_or(Ok(500), |text| text.parse())?;
    let cluster = Arc::new(TestCluster::start().await);
    for at in 0..nodes {
        cluster
            .node(
                &format!("node-{at}"),
                json!({"metadata": {"labels": {"topology.kubernetes.io/zone": format!("z{}", at % 3)}}}),
            )
            .await;
    }
    let start = SystemTime::now();
    let writers = (0..WRITERS).map(|writer| {
        let cluster = cluster.clone();
        tokio::spawn(async move {
            for at in (writer..pods).step_by(WRITERS) {
                cluster.pod(&format!("pod-{at}"), "10m", json!({})).await;
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await?;
    }
    let created = TestCluster::seconds_since(start);
    let all_placed = |cluster: &TestCluster| {
        let placed = cluster.pods.select(|_, pod| pod["spec"]["nodeName"].is_string()).len();
        (placed == pods).then_some(())
    };
    cluster.until("all pods are placed", all_placed).await;
    let seconds = TestCluster::seconds_since(start);
    println!(
        "{pods} pods on {nodes} nodes: created in {created:.2} s, placed in {seconds:.2} s, {:.0} pods/s",
        pods as f64 / seconds
    );
    Ok(())
}
