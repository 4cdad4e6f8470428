//! A control plane without controllers or nodes, in memory, on a port of loopback: prints its kubeconfig's path.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

#[path = "../tests/support/mod.rs"]
mod support;

#[tokio::main]
async fn main() {
    let started = std::time::Instant::now();
    let server = support::TestServer::start().await.with_account().await;
    println!("{} after {:?}", server.kubeconfig().display(), started.elapsed());
    tokio::signal::ctrl_c().await.expect("signals can be waited for");
    server.stop().await;
}
