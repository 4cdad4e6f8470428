//! The daemon is killed under a hundred running containers; the next one has them all.

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use strata_engine::{ContainerId, ContainerState, Mount, SandboxState};
use support::{Bench, DEADLINE, process_exists, words};

const FOLDER: &str = "STRATA_ENGINE_TEST_FOLDER";
const CGROUP: &str = "STRATA_ENGINE_TEST_CGROUP";
const PODS: usize = 20;
const EACH: usize = 5;
const COUNT: usize = PODS * EACH;
/// Those that end while there is no daemon.
const ENDING: usize = 10;

/// Makes the containers, says so, and is busy with them until it is killed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the test below"]
async fn a_daemon_with_many_containers() {
    let variable = |name: &str| std::env::var(name).expect("run by another test");
    let folder = PathBuf::from(variable(FOLDER));
    let bench = Bench::at(&folder, variable(CGROUP)).await;
    let image = bench.image();
    let pods = (0..PODS).map(|pod| {
        let (bench, image, folder) = (&bench, image.clone(), &folder);
        async move {
            let sandbox = bench
                .sandbox_with(|config| config.cgroup_parent = format!("{}/pods/{pod}", bench.cgroup))
                .await;
            let mut ids = Vec::new();
            for number in pod * EACH..(pod + 1) * EACH {
                let script = format!(
                    "exec 3<>/data/{number}; while read line <&3; do echo heard $line; [ $line != end ] || exit 5; done"
                );
                let mut config = bench.shell_of(image.clone(), &script);
                config.log_path = format!("{number}/0.log");
                config.mounts = vec![Mount {
                    host_path: folder.join("data"),
                    container_path: "/data".into(),
                    ..Mount::default()
                }];
                ids.push(bench.start(&sandbox, config).await);
            }
            ids
        }
    });
    let ids: Vec<ContainerId> = futures::future::join_all(pods).await.into_iter().flatten().collect();
    println!("\nall run");
    loop {
        let work = ids
            .iter()
            .map(|id| bench.engine().exec_sync(id, words("echo busy"), DEADLINE));
        futures::future::join_all(work).await;
    }
}

/// Runs that daemon until all containers run, and kills it.
fn run_and_kill(folder: &Path, cgroup: &str) {
    let own = std::env::current_exe().expect("own path");
    let mut daemon = Command::new(own)
        .args(["--exact", "a_daemon_with_many_containers", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .env(CGROUP, cgroup)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the test program");
    let said = BufReader::new(daemon.stdout.take().expect("output"));
    let ready = said.lines().map_while(Result::ok).any(|line| line == "all run");
    daemon.kill().expect("kill");
    daemon.wait().expect("its end");
    assert!(ready, "the daemon ended by itself");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_containers_outlive_a_killed_daemon() {
    let mut bench = Bench::new().await;
    bench.engine = None;
    let data = bench.folder.path().join("data");
    std::fs::create_dir(&data).expect("folder");
    for number in 0..COUNT {
        support::pipe(&data.join(number.to_string()));
    }
    let (folder, cgroup) = (bench.folder.path().to_owned(), bench.cgroup.clone());
    tokio::task::spawn_blocking(move || run_and_kill(&folder, &cgroup))
        .await
        .expect("a daemon that is killed");
    for number in 0..COUNT {
        support::tell(&data.join(number.to_string()), "outage").await;
    }
    for number in 0..ENDING {
        support::tell(&data.join(number.to_string()), "end").await;
    }

    bench.open().await;
    let engine = bench.engine().clone();
    assert!(
        engine
            .list_sandboxes()
            .iter()
            .all(|sandbox| sandbox.state == SandboxState::Ready)
    );
    let all: BTreeMap<usize, _> = engine
        .list_containers()
        .into_iter()
        .map(|status| {
            let folder = status.log_path.parent().and_then(Path::file_name).expect("folder");
            (folder.to_str().expect("text").parse().expect("number"), status)
        })
        .collect();
    assert_eq!(all.len(), COUNT);
    for (number, status) in &all {
        support::logged(&status.log_path, &["heard outage"]).await;
        if *number < ENDING {
            support::logged(&status.log_path, &["heard end"]).await;
            let until = async {
                while engine.container(&status.id).expect("status").state == ContainerState::Running {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(DEADLINE, until).await.expect("its end is known");
            assert_eq!(engine.container(&status.id).expect("status").exit_code, Some(5));
            continue;
        }
        assert_eq!(status.state, ContainerState::Running, "{number}");
        assert!(process_exists(status.pid.expect("pid")), "{number}");
        support::tell(&data.join(number.to_string()), "again").await;
        support::logged(&status.log_path, &["heard again"]).await;
    }
    let running: Vec<_> = all.range(ENDING..).map(|(_, status)| status.id.clone()).collect();
    let work = running
        .iter()
        .map(|id| engine.exec_sync(id, words("echo here"), DEADLINE));
    for result in futures::future::join_all(work).await {
        assert_eq!(result.expect("exec").stdout, b"here\n");
    }
    let gone = engine.list_sandboxes().into_iter().map(|sandbox| {
        let engine = &engine;
        async move { engine.remove_sandbox(&sandbox.id).await.expect("remove") }
    });
    futures::future::join_all(gone).await;
    assert!(engine.list_containers().is_empty());
    for part in ["engine/sandboxes", "engine/containers", "run"] {
        let left = support::names(&bench.folder.path().join(part));
        assert!(left.is_empty(), "{part}: {left:?}");
    }
    for status in all.values() {
        assert!(!status.pid.is_some_and(process_exists));
    }
}
