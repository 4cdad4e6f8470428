//! What an operator does: ends a server with clients on it, backs its store up under writes, changes its log level.

use std::{
    io::{BufRead, BufReader},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};
use strata_e2e::{Server, binary, eventually};

#[test]
fn a_server_told_to_end_says_so_first_and_ends_the_watches_of_its_clients() {
    let mut server = Server::start(&["--no-node", "--shutdown-delay-duration", "2s"]);
    let k = server.kubectl();
    let mut watch = k.spawn("get configmaps --all-namespaces --watch -o name");
    let mut lines = BufReader::new(watch.stdout.take().expect("piped")).lines();
    assert!(lines.next().is_some_and(|line| line.is_ok()), "the watch begins");
    server.terminate();
    eventually("readyz says that the server leaves", || {
        let run = k.run("get --raw /readyz");
        match run.stderr.contains("shutdown failed") || run.stdout.contains("shutdown failed") {
            true => Ok(()),
            false => Err(format!("{run:?}")),
        }
    });
    // Until the delay is over everything is answered, and what lives is alive.
    assert_eq!(k.ok("get --raw /livez"), "ok");
    k.ok("create configmap late");
    assert_eq!(server.stop(), 0, "a clean end");
    for line in lines {
        line.expect("the watch ends with its connection");
    }
    watch.wait().expect("kubectl ends");
}

#[test]
fn a_backup_under_writes_has_every_write_acknowledged_before_it() {
    let mut server = Server::start(&["--no-node"]);
    let k = server.kubectl();
    let (acknowledged, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let writer = {
        let (k, acknowledged, stop) = (k.clone(), acknowledged.clone(), stop.clone());
        std::thread::spawn(move || {
            for n in 0.. {
                k.ok(&format!("create configmap n{n}"));
                acknowledged.store(n + 1, Ordering::Release);
                if stop.load(Ordering::Acquire) {
                    return;
                }
            }
        })
    };
    let at_least = |count: usize| {
        eventually("writes go on", || match acknowledged.load(Ordering::Acquire) {
            n if n >= count => Ok(n),
            n => Err(n.to_string()),
        })
    };
    let before = at_least(5);
    let store = |words: &[&str]| {
        let run = Command::new(binary())
            .arg("store")
            .args(words)
            .arg("--data-dir")
            .arg(server.data_dir())
            .output()
            .expect("the binary runs");
        assert!(
            run.status.success(),
            "{words:?}: {}",
            String::from_utf8_lossy(&run.stderr)
        );
    };
    let file = server.data_dir().join("backup");
    let file = file.to_str().expect("a plain path");
    store(&["backup", file]);
    let after = acknowledged.load(Ordering::Acquire);
    at_least(after + 2);
    stop.store(true, Ordering::Release);
    writer.join().expect("every write is acknowledged");
    let written = acknowledged.load(Ordering::Acquire);
    assert_eq!(server.stop(), 0);
    std::fs::remove_dir_all(server.data_dir().join("db")).expect("the store is removed");
    let run = Command::new(binary())
        .args(["store", "restore", file, "--data-dir"])
        .arg(server.data_dir())
        .output()
        .expect("the binary runs");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    server.launch();
    let names = k.ok("get configmaps -o jsonpath={.items[*].metadata.name}");
    let mut numbers: Vec<usize> = names
        .split_whitespace()
        .filter_map(|name| name.strip_prefix('n')?.parse().ok())
        .collect();
    numbers.sort_unstable();
    let there = numbers.len();
    assert_eq!(numbers, (0..there).collect::<Vec<_>>(), "the state of one moment");
    assert!((before..=written).contains(&there), "{before} <= {there} <= {written}");
    assert!(there <= after + 1, "nothing from after the backup: {there}, {after}");
}
