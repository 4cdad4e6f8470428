//! Damage, failed syncs, a full disk, and formats.

use super::{crashes::options, disk::SimulatedDisk};
use crate::{
    Error, Expect, LogOptions, LogStore, Range, Store,
    log::{
        check::check_disk,
        disk::Disk,
        recover::{self, Identity, Upgrade},
        segment::{SEGMENT, SNAPSHOT, Segment, number_of},
    },
    snapshot::frame::{FILE_HEADER, FORMAT},
};
use bytes::Bytes;
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

fn key(number: u64) -> Bytes {
    Bytes::from(format!("k{number}"))
}

fn open(disk: &SimulatedDisk, options: LogOptions) -> Result<LogStore, Error> {
    LogStore::open_on(Arc::new(disk.clone()), options)
}

async fn fill(store: &LogStore, count: u64) {
    for number in 0..count {
        let value = Bytes::from(vec![b'v'; 50 + number as usize]);
        store.put(key(number), value, Expect::Any, None).await.expect("put");
    }
}

#[tokio::test]
async fn damage_before_the_last_batch_is_refused_with_file_and_offset() {
    let disk = SimulatedDisk::new(1);
    let big = LogOptions {
        segment_bytes: 64 << 10,
        snapshot_after: u64::MAX,
        ..options()
    };
    fill(&open(&disk, big.clone()).expect("new store"), 100).await;
    let log = "log-0000000000000000";
    let identity = recover::identify(&disk).expect("readable").expect("a store");
    let mut frames = Vec::new();
    let segment = Segment::open(&disk, log, identity.store).expect("segment");
    let end = segment.scan(&mut |_, offset, _| {
        frames.push(offset);
        Ok(())
    });
    assert_eq!(end.expect("sound").sequence, 100);
    let last = *frames.last().expect("frames");
    for offset in (FILE_HEADER as u64..last).step_by(7) {
        disk.damage(log, offset as usize);
        let begins = *frames.iter().rfind(|frame| **frame <= offset).expect("in a frame");
        let next = frames
            .iter()
            .copied()
            .find(|frame| *frame > offset)
            .expect("not the last");
        match recover::load(&disk, identity.store, std::time::Duration::ZERO) {
            Err(Error::Damaged { file, offset: told, .. }) => {
                assert_eq!((file.as_str(), told), (log, begins), "damaged at {offset}");
                let report = check_disk(&disk).expect("readable");
                assert_eq!(report.problems.len(), 1, "{report:?}");
                assert_eq!(
                    (report.problems[0].file.as_str(), report.problems[0].offset),
                    (log, begins)
                );
            }
            // Padding between frames carries nothing.
            Ok(_) => assert!(next - offset < 8),
            Err(other) => panic!("{other}"),
        }
        disk.damage(log, offset as usize);
    }
    disk.damage(log, last as usize + 30);
    let loaded = recover::load(&disk, identity.store, std::time::Duration::ZERO).expect("a torn tail");
    assert!(loaded.end.torn && loaded.end.offset == last);
    let report = check_disk(&disk).expect("readable");
    assert_eq!((report.torn, report.problems.len()), (Some((log.to_owned(), last)), 0));
    disk.damage(log, 20);
    assert!(matches!(open(&disk, big), Err(Error::Damaged { offset: 0, .. })));
}

#[tokio::test]
async fn a_damaged_snapshot_is_refused() {
    let disk = SimulatedDisk::new(1);
    let store = open(&disk, options()).expect("new store");
    fill(&store, 300).await;
    let written = || {
        let files = disk.list().expect("list");
        files
            .into_iter()
            .map(|(name, _)| name)
            .find(|name| number_of(name, SNAPSHOT).is_some())
    };
    // The keeper writes it beside the writer.
    for round in 0.. {
        if written().is_some() {
            break;
        }
        assert!(round < 100_000, "the log is cut by a snapshot at last");
        store
            .put(key(0), Bytes::from(vec![b'v'; 100]), Expect::Any, None)
            .await
            .expect("put");
    }
    drop(store);
    let snapshot = written().expect("still there");
    for offset in (0..disk.content(&snapshot).len() - 8).step_by(211) {
        disk.damage(&snapshot, offset);
        let refused = open(&disk, options());
        assert!(
            matches!(refused, Err(Error::Damaged { file, .. }) if file == snapshot),
            "byte {offset}"
        );
        disk.damage(&snapshot, offset);
    }
    let report = check_disk(&disk).expect("readable");
    assert_eq!((report.problems.len(), report.keys, report.format), (0, 300, FORMAT));
}

#[tokio::test]
async fn a_missing_segment_is_refused() {
    let uncut = LogOptions {
        snapshot_after: u64::MAX,
        ..options()
    };
    for gone in [0, 1] {
        let disk = SimulatedDisk::new(1);
        fill(&open(&disk, uncut.clone()).expect("new store"), 300).await;
        let files = disk.list().expect("list");
        let segments: Vec<_> = files
            .iter()
            .filter(|(name, _)| number_of(name, SEGMENT).is_some())
            .collect();
        assert!(segments.len() > 2);
        disk.remove(&segments[gone].0).expect("remove");
        assert!(
            matches!(open(&disk, uncut.clone()), Err(Error::Damaged { .. })),
            "segment {gone}"
        );
        assert_eq!(check_disk(&disk).expect("readable").problems.len(), 1);
    }
}

#[tokio::test]
async fn a_failed_sync_ends_the_store_and_is_never_tried_again() {
    let disk = SimulatedDisk::new(1);
    let failures = Arc::new(AtomicU32::new(0));
    let counted = failures.clone();
    let options = LogOptions {
        fatal: Arc::new(move |error| {
            assert!(error.to_string().contains("fdatasync of log-"), "{error}");
            counted.fetch_add(1, Ordering::SeqCst);
        }),
        segment_bytes: 1 << 20,
        snapshot_after: u64::MAX,
        ..options()
    };
    let store = open(&disk, options).expect("new store");
    fill(&store, 3).await;
    let mut watch = store
        .watch(Bytes::new(), Bytes::new(), store.status().revision)
        .await
        .expect("watch");
    let before = disk.syncs();
    disk.fail_syncs_of(SEGMENT);
    let put = store.put(key(9), key(9), Expect::Any, None).await;
    assert!(matches!(put, Err(Error::Closed)), "{put:?}");
    assert!(matches!(
        store.put(key(9), key(9), Expect::Any, None).await,
        Err(Error::Closed)
    ));
    assert!(matches!(store.get(b"k1", None).await, Err(Error::Closed)));
    assert!(matches!(watch.next().await, Some(Err(Error::Closed))));
    drop(store);
    assert_eq!(failures.load(Ordering::SeqCst), 1);
    assert!(
        disk.syncs() <= before + 2,
        "the failed one, and the keeper's if it was preparing"
    );
}

#[tokio::test]
async fn a_full_disk_refuses_writes_lets_removals_through_and_recovers() {
    let disk = SimulatedDisk::new(1);
    let options = options();
    let store = open(&disk, options.clone()).expect("new store");
    fill(&store, 10).await;
    disk.set_capacity(disk.used());
    let mut number = 10;
    let why = loop {
        let put = store
            .put(key(number % 20), Bytes::from(vec![b'w'; 3000]), Expect::Any, None)
            .await;
        match put {
            Ok(_) => number += 1,
            Err(Error::Full { why }) => break why,
            Err(other) => panic!("{other}"),
        }
        assert!(number < 1000, "the disk must fill up");
    };
    assert!(why.contains("free space"), "{why}");
    assert!(store.status().full);
    let before = store.range(Range::default()).await.expect("reads go on").items;
    for item in &before {
        store
            .delete(&item.key, Expect::Any)
            .await
            .expect("removals go on")
            .expect("present");
    }
    assert_eq!(store.status().keys, 0);
    let put = store.put(key(1), key(1), Expect::Any, None).await;
    assert!(matches!(put, Err(Error::Full { .. })) || put.is_ok(), "{put:?}");
    disk.set_capacity(u64::MAX);
    store
        .put(key(2), key(2), Expect::Any, None)
        .await
        .expect("space is back");
    assert!(!store.status().full);
    let held = store.range(Range::default()).await.expect("range").items;
    drop(store);
    let again = open(&disk, options).expect("reopen");
    assert_eq!(again.range(Range::default()).await.expect("range").items, held);
}

#[tokio::test]
async fn a_newer_format_is_refused_and_an_older_one_upgraded_once() {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let disk = SimulatedDisk::new(1);
    fill(&open(&disk, options()).expect("new store"), 3).await;
    let identity = recover::identify(&disk).expect("readable").expect("a store");
    assert_eq!(identity.format, FORMAT);
    let step: Upgrade = |_| {
        RUNS.fetch_add(1, Ordering::SeqCst);
        Ok(())
    };
    let upgrades = vec![step; FORMAT as usize];
    let opened = recover::open(Arc::new(disk.clone()), &options(), &upgrades).expect("upgraded");
    assert_eq!((RUNS.load(Ordering::SeqCst), opened.state.live_keys()), (1, 3));
    drop(opened);
    let newer = open(&disk, options()).map(drop);
    assert!(matches!(newer, Err(Error::NewerFormat { found, supported: FORMAT }) if found == FORMAT + 1));
    assert!(matches!(check_disk(&disk), Err(Error::NewerFormat { .. })));
    recover::write_identity(
        &disk,
        Identity {
            format: FORMAT,
            ..identity
        },
    )
    .expect("write");
    assert_eq!(open(&disk, options()).expect("this format").status().keys, 3);
}

#[tokio::test]
async fn data_without_its_format_file_is_refused_and_not_overwritten() {
    let disk = SimulatedDisk::new(1);
    fill(&open(&disk, options()).expect("new store"), 3).await;
    disk.remove("format").expect("remove");
    let before = disk.list().expect("list");
    assert!(matches!(open(&disk, options()), Err(Error::Damaged { file, .. }) if file == "format"));
    assert_eq!(disk.list().expect("list"), before);
}
