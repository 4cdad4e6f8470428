//! Sandboxes on a pod network, in a network namespace made for the test.

mod support;

use std::process::Command;
use std::time::{Duration, Instant};
use strata_engine::{Network, SandboxState};
use strata_net::{Cidr, PodNetwork, PodNetworkOptions};
use support::{Bench, DEADLINE};

/// Runs the test below in a network namespace of its own, which takes all links and tables along.
#[test]
fn pods_have_addresses_and_reach_each_other() {
    let own = std::env::current_exe().expect("own path");
    let status = Command::new("unshare")
        .arg("--net")
        .arg(own)
        .args(["--exact", "inside_a_network_namespace", "--ignored", "--nocapture"])
        .status()
        .expect("unshare, of util-linux");
    assert!(status.success());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the test above"]
async fn inside_a_network_namespace() {
    let up = Command::new("busybox").args(["ip", "link", "set", "lo", "up"]).status();
    assert!(up.expect("busybox").success());
    let state = tempfile::tempdir().expect("folder");
    let cidr: Cidr = "10.213.7.0/24".parse().expect("range");
    let network = PodNetwork::open(PodNetworkOptions {
        state_dir: state.path().to_owned(),
        cidr,
        cluster_cidr: cidr,
        instance: format!("t{}", std::process::id()),
        mtu: 0,
    })
    .expect("network");
    let mut bench = Bench::with_network(Some(network.clone())).await;
    let own = network.clone();
    let first = bench
        .sandbox_with(move |config| config.network = Network::Pod(own))
        .await;
    let own = network.clone();
    let second = bench
        .sandbox_with(move |config| config.network = Network::Pod(own))
        .await;
    let (one, two) = (first.ip.expect("address"), second.ip.expect("address"));
    assert_ne!(one, two);
    assert_eq!(bench.engine().sandbox(&first.id).expect("status").ip, Some(one));

    let server = bench
        .start(&first, bench.shell("busybox httpd -f -p 8080 -h /etc"))
        .await;
    let mut config = bench.shell("sleep 1000");
    config.log_path = "client/0.log".into();
    let client = bench.start(&second, config).await;
    let fetch = format!(
        "for i in $(busybox seq 100); do busybox wget -qO- http://{one}:8080/group && exit 0; sleep 0.05; done; exit 1"
    );
    let fetch = vec!["sh".to_owned(), "-c".to_owned(), fetch];
    let answer = bench
        .engine()
        .exec_sync(&client, fetch.clone(), DEADLINE)
        .await
        .expect("exec");
    assert!(
        String::from_utf8_lossy(&answer.stdout).contains("more:x:77"),
        "{answer:?}"
    );

    // A restart of the daemon changes neither links nor addresses.
    bench.engine = None;
    bench.open().await;
    let engine = bench.engine();
    assert_eq!(engine.sandbox(&first.id).expect("status").ip, Some(one));
    let answer = engine.exec_sync(&client, fetch, DEADLINE).await.expect("exec");
    assert_eq!(answer.exit_code, 0);
    engine.dial_port(&first.id, 8080).await.expect("dial");

    engine.stop_container(&server, Duration::ZERO).await.expect("stop");
    engine.remove_sandbox(&first.id).await.expect("remove");
    engine.stop_sandbox(&second.id).await.expect("stop");
    assert_eq!(
        engine.sandbox(&second.id).expect("status").state,
        SandboxState::NotReady
    );
    assert!(network.address(first.id.as_str()).is_none() && network.address(second.id.as_str()).is_none());
    // Links are taken down in the background.
    let begin = Instant::now();
    loop {
        let links = Command::new("busybox").args(["ip", "-o", "link"]).output();
        let links = String::from_utf8_lossy(&links.expect("busybox").stdout).into_owned();
        if !links.contains("@if") {
            break;
        }
        assert!(begin.elapsed() < DEADLINE, "{links}");
    }
}
