//! The store as real processes on a real disk: killed, locked out, backed up.

use bytes::Bytes;
use futures::future::join_all;
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};
use strata_meta::Revision;
use strata_store::{Error, Expect, LogOptions, LogStore, Range, Store, backup, check, restore};

const DIRECTORY: &str = "STRATA_STORE_TEST_DIRECTORY";
const WRITERS: usize = 8;
const KILLS: usize = 12;

fn options() -> LogOptions {
    LogOptions {
        segment_bytes: 256 << 10,
        snapshot_after: 256 << 10,
        ..LogOptions::default()
    }
}

/// Not a test of its own: what the killed process runs.
#[tokio::test]
async fn child_that_writes_until_it_is_killed() {
    let Ok(directory) = std::env::var(DIRECTORY) else {
        return;
    };
    let store = Arc::new(LogStore::open(Path::new(&directory), options()).expect("open"));
    println!("open");
    let writers = (0..WRITERS).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            let key = Bytes::from(format!("writer-{writer}"));
            let start = store
                .get(&key, None)
                .await
                .expect("get")
                .map_or(0, |item| number(&item.value));
            for next in start + 1.. {
                let mut value = next.to_string().into_bytes();
                value.resize(20 + (next % 900) as usize, b' ');
                let revision = store
                    .put(key.clone(), value.into(), Expect::Any, None)
                    .await
                    .expect("put");
                // One write per line, so that no line is torn by the kill.
                let line = format!("ack {writer} {next} {revision}\n");
                std::io::stdout().write_all(line.as_bytes()).expect("the parent reads");
            }
        })
    });
    join_all(writers.collect::<Vec<_>>()).await;
}

fn number(value: &[u8]) -> u64 {
    std::str::from_utf8(value)
        .expect("text")
        .trim()
        .parse()
        .expect("number")
}

fn spawn(directory: &Path) -> (Child, impl Iterator<Item = String>) {
    let mut child = Command::new(std::env::current_exe().expect("own path"))
        .args(["--exact", "child_that_writes_until_it_is_killed", "--nocapture"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .spawn()
        .expect("spawn");
    let out = BufReader::new(child.stdout.take().expect("piped"));
    let lines = out.lines().map(|line| line.expect("readable"));
    // The harness writes "test NAME ... " before the first line.
    let mut lines = lines.skip_while(|line| !line.ends_with("open"));
    assert!(lines.next().is_some(), "the child opened the store");
    (child, lines)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_writes_survive_kill_9_again_and_again() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut acknowledged = BTreeMap::new();
    let mut highest = 0;
    for round in 0..KILLS {
        let (mut child, mut lines) = spawn(directory.path());
        let mut note = |line: String| {
            let fields: Vec<_> = line.split(' ').collect();
            if let ["ack", writer, next, revision] = fields[..] {
                acknowledged.insert(writer.to_owned(), next.parse::<u64>().expect("number"));
                highest = highest.max(revision.parse().expect("revision"));
            }
        };
        for line in lines.by_ref().take(150 + round * 97) {
            note(line);
        }
        child.kill().expect("kill");
        lines.for_each(note);
        child.wait().expect("wait");
        let report = check(directory.path()).expect("check");
        assert_eq!(report.problems, []);
        let store = LogStore::open(directory.path(), options()).expect("open after kill -9");
        assert!(store.status().revision >= Revision(highest), "revisions never go back");
        assert_eq!(Some(store.status().revision), report.revision);
        for (writer, last) in &acknowledged {
            let item = store
                .get(format!("writer-{writer}").as_bytes(), None)
                .await
                .expect("get")
                .expect("kept");
            let held = number(&item.value);
            assert!(
                held == *last || held == last + 1,
                "writer {writer} was told {last}, the store has {held}"
            );
        }
    }
}

#[tokio::test]
async fn a_directory_held_by_another_server_is_refused_by_its_pid() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let (mut child, _lines) = spawn(directory.path());
    let refused = LogStore::open(directory.path(), options()).map(drop).expect_err("held");
    assert!(
        matches!(&refused, Error::Held { pid: Some(pid), .. } if *pid == child.id()),
        "{refused}"
    );
    assert!(refused.to_string().contains("is held by another server (pid "));
    assert!(matches!(check(directory.path()), Err(Error::Held { .. })));
    child.kill().expect("kill");
    child.wait().expect("wait");
    LogStore::open(directory.path(), options()).expect("free again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_a_closed_store_restores_into_an_empty_directory_only() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().join("a");
    let store = LogStore::open(&path, options()).expect("open");
    for number in 0..3000 {
        let key = Bytes::from(format!("{}", number % 1000));
        store
            .put(key, Bytes::from(vec![b'x'; 300]), Expect::Any, None)
            .await
            .expect("put");
    }
    let held = store.range(Range::default()).await.expect("range");
    drop(store);
    let sizes: u64 = std::fs::read_dir(&path)
        .expect("list")
        .map(|entry| entry.expect("entry").metadata().expect("size").len())
        .sum();
    assert!(sizes < 16 << 20, "the log is cut: {sizes} bytes");
    let mut copy = Vec::new();
    assert_eq!(backup(&path, &mut copy).expect("backup"), held.revision);
    let target = directory.path().join("b");
    for cut in [0, 10, 70, copy.len() / 2, copy.len() - 1] {
        let refused = restore(&mut &copy[..cut], &directory.path().join(format!("cut-{cut}")));
        assert!(matches!(refused, Err(Error::Damaged { .. })), "{refused:?}");
    }
    let revision = restore(&mut &copy[..], &target).expect("restore");
    assert!(revision > held.revision);
    let again = restore(&mut &copy[..], &target);
    assert!(matches!(again, Err(Error::NotEmpty { .. })));
    let store = LogStore::open(&target, options()).expect("open");
    assert_eq!(store.range(Range::default()).await.expect("range").items, held.items);
    assert!(matches!(
        store.watch(Bytes::new(), Bytes::new(), held.revision).await.map(drop),
        Err(Error::Compacted { .. })
    ));
    assert_eq!(check_mode(&target), 0o700);
}

fn check_mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    for entry in std::fs::read_dir(path).expect("list") {
        let mode = entry.expect("entry").metadata().expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    std::fs::metadata(path).expect("metadata").permissions().mode() & 0o777
}
