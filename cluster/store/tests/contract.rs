//! What every store must do, run against each of them.

use bytes::Bytes;
use futures::future::join_all;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use strata_meta::Revision;
use strata_store::{Clock, Error, Event, EventKind, Expect, KeyValue, Limits, MemoryStore, Range, Store, WatchStream};

/// A store, a clock that the test moves, and whatever must outlive the store.
struct Bench {
    store: Arc<dyn Store>,
    now: Arc<AtomicU64>,
    _keep: Option<tempfile::TempDir>,
}

fn bench(kind: &str, limits: Limits) -> Bench {
    let now = Arc::new(AtomicU64::new(0));
    let clock: Clock = {
        let now = now.clone();
        Arc::new(move || Duration::from_millis(now.load(Ordering::SeqCst)))
    };
    match kind {
        "memory" => Bench {
            store: Arc::new(MemoryStore::with(limits, clock).expect("memory store")),
            now,
            _keep: None,
        },
        "log" => {
            let directory = tempfile::tempdir().expect("temporary directory");
            let options = strata_store::LogOptions {
                limits,
                clock,
                segment_bytes: 256 << 10,
                snapshot_after: 256 << 10,
                fatal: Arc::new(|error| panic!("the disk of a test failed: {error}")),
                ..Default::default()
            };
            let store = strata_store::LogStore::open(directory.path(), options).expect("log store");
            Bench {
                store: Arc::new(store),
                now,
                _keep: Some(directory),
            }
        }
        _ => unreachable!("only two kinds"),
    }
}

macro_rules! contract {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::within_a_minute(super::$name("memory")).await })*
        }
        mod log {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::within_a_minute(super::$name("log")).await })*
        }
    };
}

contract!(
    a_write_is_read_back_with_its_revisions,
    expectations_decide_and_a_conflict_tells_the_current_state,
    a_key_recreated_begins_a_new_life,
    a_range_is_in_order_and_pages_at_one_revision,
    the_past_is_readable_until_compacted,
    a_watch_tells_everything_once_and_in_order,
    a_watch_of_an_interval_tells_only_that,
    a_slow_watcher_is_cut_off,
    keys_of_an_expired_lease_vanish,
    a_renewed_lease_lives_on_and_a_revoked_one_takes_its_keys,
    a_lease_with_many_keys_is_revoked_whole,
    concurrent_writers_get_consecutive_revisions,
    concurrent_compare_and_set_loses_no_update,
    limits_are_errors_and_change_nothing,
    a_snapshot_is_of_one_revision_while_writers_go_on,
    status_counts,
);

async fn within_a_minute(test: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(60), test)
        .await
        .expect("the test hangs");
}

fn key(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

async fn put(store: &Arc<dyn Store>, name: &str, value: &str) -> Revision {
    store.put(key(name), key(value), Expect::Any, None).await.expect("put")
}

async fn value(store: &Arc<dyn Store>, name: &str) -> Option<Bytes> {
    store
        .get(name.as_bytes(), None)
        .await
        .expect("get")
        .map(|item| item.value)
}

async fn events(watch: &mut WatchStream, count: usize) -> Vec<Event> {
    let mut all = Vec::new();
    while all.len() < count {
        let batch = watch.next().await.expect("open").expect("batch");
        assert!(
            batch
                .events
                .iter()
                .all(|event| event.item.mod_revision <= batch.revision)
        );
        all.extend(batch.events);
    }
    assert_eq!(all.len(), count);
    all
}

async fn a_write_is_read_back_with_its_revisions(kind: &str) {
    let bench = bench(kind, Limits::default());
    let store = bench.store.clone();
    let empty = store.status().revision;
    assert_eq!(value(&store, "a").await, None);
    let first = put(&store, "a", "1").await;
    assert_eq!(first, Revision(empty.0 + 1));
    let second = put(&store, "a", "2").await;
    assert_eq!(second, Revision(first.0 + 1));
    let item = store.get(b"a", None).await.expect("get").expect("present");
    let expected = KeyValue {
        key: key("a"),
        value: key("2"),
        create_revision: first,
        mod_revision: second,
        lease: None,
    };
    assert_eq!(item, expected);
    let large = Bytes::from(vec![7; 3 << 20]);
    store
        .put(key("large"), large.clone(), Expect::Any, None)
        .await
        .expect("large value");
    assert_eq!(value(&store, "large").await, Some(large));
}

async fn expectations_decide_and_a_conflict_tells_the_current_state(kind: &str) {
    let bench = bench(kind, Limits::default());
    let store = bench.store.clone();
    let created = store
        .put(key("a"), key("1"), Expect::Absent, None)
        .await
        .expect("absent");
    for wrong in [Expect::Absent, Expect::Revision(Revision(created.0 + 5))] {
        let Err(Error::Conflict { current }) = store.put(key("a"), key("x"), wrong, None).await else {
            panic!("{wrong:?} must conflict");
        };
        assert_eq!(current.expect("present").value, key("1"));
        assert!(matches!(store.delete(b"a", wrong).await, Err(Error::Conflict { .. })));
    }
    let Err(Error::Conflict { current: None }) = store.put(key("b"), key("x"), Expect::Revision(created), None).await
    else {
        panic!("an update of nothing must conflict");
    };
    assert_eq!(store.status().revision, created, "refused writes take no revision");
    let updated = store
        .put(key("a"), key("2"), Expect::Revision(created), None)
        .await
        .expect("matching");
    let (deleted, last) = store
        .delete(b"a", Expect::Revision(updated))
        .await
        .expect("matching")
        .expect("present");
    assert_eq!((deleted, last.value), (Revision(updated.0 + 1), key("2")));
    assert_eq!(store.delete(b"a", Expect::Any).await.expect("absent"), None);
}

async fn a_key_recreated_begins_a_new_life(kind: &str) {
    let bench = bench(kind, Limits::default());
    let store = bench.store.clone();
    put(&store, "a", "1").await;
    store.delete(b"a", Expect::Any).await.expect("delete");
    let again = put(&store, "a", "2").await;
    let item = store.get(b"a", None).await.expect("get").expect("present");
    assert_eq!(item.create_revision, again);
}

async fn a_range_is_in_order_and_pages_at_one_revision(kind: &str) {
    let bench = bench(kind, Limits::default());
    let store = bench.store.clone();
    for at in (0..10).rev() {
        put(&store, &format!("p/{at}"), "v").await;
    }
    put(&store, "q/0", "v").await;
    let all = store.range(Range::prefix(b"p/")).await.expect("range");
    let keys: Vec<_> = all.items.iter().map(|item| item.key.clone()).collect();
    assert_eq!(keys, (0..10).map(|at| key(&format!("p/{at}"))).collect::<Vec<_>>());
    assert!(!all.more && all.remaining == 0);
    let limit = |start: &str, at| Range {
        start: key(start),
        limit: 4,
        at,
        ..Range::prefix(b"p/")
    };
    let first = store.range(limit("p/", None)).await.expect("page");
    assert_eq!((first.items.len(), first.more, first.remaining), (4, true, 6));
    put(&store, "p/45", "new").await;
    store.delete(b"p/5", Expect::Any).await.expect("delete");
    let second = store.range(limit("p/4", Some(first.revision))).await.expect("page");
    let keys: Vec<_> = second.items.iter().map(|item| item.key.clone()).collect();
    assert_eq!(keys, [key("p/4"), key("p/5"), key("p/6"), key("p/7")]);
    let everything = store.range(Range::default()).await.expect("range");
    assert_eq!(everything.items.len(), 11);
    let inverted = Range {
        start: key("z"),
        end: key("a"),
        ..Range::default()
    };
    assert!(store.range(inverted).await.expect("empty").items.is_empty());
}

async fn the_past_is_readable_until_compacted(kind: &str) {
    let bench = bench(kind, Limits::default());
    let store = bench.store.clone();
    let first = put(&store, "a", "1").await;
    let second = put(&store, "a", "2").await;
    store.delete(b"a", Expect::Any).await.expect("delete");
    let at = async |revision| {
        store
            .get(b"a", Some(revision))
            .await
            .map(|item| item.map(|item| item.value))
    };
    assert_eq!(at(first).await.expect("past"), Some(key("1")));
    assert_eq!(at(second).await.expect("past"), Some(key("2")));
    assert_eq!(at(Revision(second.0 + 1)).await.expect("now"), None);
    assert!(matches!(at(Revision(99)).await, Err(Error::FutureRevision { .. })));
    assert!(matches!(
        store.compact(Revision(99)).await,
        Err(Error::FutureRevision { .. })
    ));
    store.compact(second).await.expect("compact");
    assert_eq!(at(second).await.expect("kept"), Some(key("2")));
    assert!(matches!(at(first).await, Err(Error::Compacted { compacted }) if compacted == second));
    assert!(matches!(store.compact(second).await, Err(Error::Compacted { .. })));
    let watch = store.watch(Bytes::new(), Bytes::new(), first).await;
    assert!(matches!(watch, Err(Error::Compacted { .. })));
    let mut watch = store.watch(Bytes::new(), Bytes::new(), second).await.expect("kept");
    let last = events(&mut watch, 1).await;
    assert_eq!(last[0].kind, EventKind::Delete);
    assert_eq!(last[0].previous.as_ref().expect("kept").value, key("2"));
    let history = store.status().history_bytes;
    store.compact(store.status().revision).await.expect("compact");
    assert!(store.status().history_bytes < history && store.status().history_bytes == 0);
}

async fn a_watch_tells_everything_once_and_in_order(kind: &str) {
    let bench = bench(kind, Limits::default());
    let store = bench.store.clone();
    let start = store.status().revision;
    let writers = (0..8).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            for at in 0..200 {
                let name = format!("{}", (writer * 31 + at * 7) % 50);
                if at % 5 == 4 {
                    store.delete(name.as_bytes(), Expect::Any).await.expect("delete");
                } else {
                    put(&store, &name, &format!("{writer}/{at}")).await;
                }
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut early = store.watch(Bytes::new(), Bytes::new(), start).await.expect("watch");
    for writer in join_all(writers).await {
        writer.expect("writer");
    }
    let end = store.status().revision;
    let count = (end.0 - start.0) as usize;
    let mut late = store.watch(Bytes::new(), Bytes::new(), start).await.expect("watch");
    let mut resumed = store
        .watch(Bytes::new(), Bytes::new(), Revision(start.0 + 100))
        .await
        .expect("watch");
    let all = events(&mut early, count).await;
    assert_eq!(all, events(&mut late, count).await);
    assert_eq!(all[100..], events(&mut resumed, count - 100).await);
    let mut state = BTreeMap::new();
    for (at, event) in all.into_iter().enumerate() {
        assert_eq!(
            event.item.mod_revision.0,
            start.0 + 1 + at as u64,
            "no gap and no repeat"
        );
        assert_eq!(event.previous, state.get(&event.item.key).cloned());
        match event.kind {
            EventKind::Put => state.insert(event.item.key.clone(), event.item),
            EventKind::Delete => state.remove(&event.item.key),
        };
    }
    let now = store.range(Range::default()).await.expect("range").items;
    assert_eq!(state.into_values().collect::<Vec<_>>(), now);
}

async fn a_watch_of_an_interval_tells_only_that(kind: &str) {
    let bench = bench(kind, Limits::default());
    let store = bench.store.clone();
    let start = store.status().revision;
    let mut watch = store.watch(key("b"), key("c"), start).await.expect("watch");
    for name in ["a", "b", "bb", "c", "b"] {
        put(&store, name, "v").await;
    }
    let seen: Vec<_> = events(&mut watch, 3)
        .await
        .into_iter()
        .map(|event| event.item.key)
        .collect();
    assert_eq!(seen, [key("b"), key("bb"), key("b")]);
    let future = Revision(store.status().revision.0 + 1);
    let refused = store.watch(key("b"), key("c"), future).await;
    assert!(matches!(refused, Err(Error::FutureRevision { .. })));
}

async fn a_slow_watcher_is_cut_off(kind: &str) {
    let limits = Limits {
        max_history: 20_000,
        ..Limits::default()
    };
    let bench = bench(kind, limits);
    let store = bench.store.clone();
    let mut watch = store
        .watch(Bytes::new(), Bytes::new(), store.status().revision)
        .await
        .expect("watch");
    for at in 0..500 {
        put(&store, "a", &format!("{at:0100}")).await;
    }
    assert!(store.status().history_bytes <= 20_000);
    assert!(matches!(watch.next().await, Some(Err(Error::SlowWatcher { .. }))));
    assert!(watch.next().await.is_none());
}

async fn keys_of_an_expired_lease_vanish(kind: &str) {
    let bench = bench(kind, Limits::default());
    let store = &bench.store;
    let lease = store.lease_grant(Duration::from_secs(10)).await.expect("grant");
    let revision = store
        .put(key("a"), key("1"), Expect::Any, Some(lease))
        .await
        .expect("put");
    assert_eq!(
        store.get(b"a", None).await.expect("get").expect("present").lease,
        Some(lease)
    );
    store
        .put(key("freed"), key("1"), Expect::Any, Some(lease))
        .await
        .expect("put");
    put(store, "freed", "2").await;
    bench.now.store(9_999, Ordering::SeqCst);
    put(store, "poke", "1").await;
    assert_eq!(value(store, "a").await, Some(key("1")));
    let mut watch = store.watch(key("a"), key("b"), revision).await.expect("watch");
    bench.now.store(10_000, Ordering::SeqCst);
    put(store, "poke", "2").await;
    assert_eq!(events(&mut watch, 1).await[0].kind, EventKind::Delete);
    assert_eq!(
        value(store, "freed").await,
        Some(key("2")),
        "a put without the lease takes the key off it"
    );
    assert!(matches!(store.lease_renew(lease).await, Err(Error::LeaseNotFound(_))));
    let late = store.put(key("a"), key("1"), Expect::Any, Some(lease)).await;
    assert!(matches!(late, Err(Error::LeaseNotFound(_))));
}

async fn a_renewed_lease_lives_on_and_a_revoked_one_takes_its_keys(kind: &str) {
    let bench = bench(kind, Limits::default());
    let store = &bench.store;
    let lease = store.lease_grant(Duration::from_secs(10)).await.expect("grant");
    store
        .put(key("a"), key("1"), Expect::Any, Some(lease))
        .await
        .expect("put");
    bench.now.store(9_000, Ordering::SeqCst);
    store.lease_renew(lease).await.expect("renew");
    bench.now.store(18_000, Ordering::SeqCst);
    put(store, "poke", "1").await;
    assert_eq!(value(store, "a").await, Some(key("1")));
    store.lease_revoke(lease).await.expect("revoke");
    assert_eq!(value(store, "a").await, None);
    assert_eq!(store.status().leases, 0);
    assert!(matches!(store.lease_revoke(lease).await, Err(Error::LeaseNotFound(_))));
}

async fn a_lease_with_many_keys_is_revoked_whole(kind: &str) {
    let bench = bench(kind, Limits::default());
    let store = bench.store.clone();
    let lease = store.lease_grant(Duration::from_secs(10)).await.expect("grant");
    let puts = (0..1000).map(|at| store.put(key(&format!("{at}")), key("v"), Expect::Any, Some(lease)));
    assert!(join_all(puts).await.iter().all(Result::is_ok));
    store.lease_revoke(lease).await.expect("revoke");
    assert_eq!(store.status().keys, 0);
}

async fn concurrent_writers_get_consecutive_revisions(kind: &str) {
    let bench = bench(kind, Limits::default());
    let store = bench.store.clone();
    let start = store.status().revision.0;
    let puts = (0..500).map(|at| store.put(key(&format!("{at}")), key("v"), Expect::Any, None));
    let mut revisions: Vec<_> = join_all(puts)
        .await
        .into_iter()
        .map(|put| put.expect("put").0)
        .collect();
    revisions.sort_unstable();
    assert_eq!(revisions, (start + 1..=start + 500).collect::<Vec<_>>());
    assert!(store.status().batches < 400, "waiting writers share batches");
}

async fn concurrent_compare_and_set_loses_no_update(kind: &str) {
    let bench = bench(kind, Limits::default());
    let store = bench.store.clone();
    put(&store, "n", "0").await;
    let tasks = (0..4).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut done = 0;
            while done < 50 {
                let item = store.get(b"n", None).await.expect("get").expect("present");
                let number: u64 = std::str::from_utf8(&item.value).expect("text").parse().expect("number");
                let next = key(&(number + 1).to_string());
                match store
                    .put(key("n"), next, Expect::Revision(item.mod_revision), None)
                    .await
                {
                    Ok(_) => done += 1,
                    Err(Error::Conflict { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
            }
        })
    });
    for task in join_all(tasks.collect::<Vec<_>>()).await {
        task.expect("task");
    }
    assert_eq!(value(&store, "n").await, Some(key("200")));
}

async fn limits_are_errors_and_change_nothing(kind: &str) {
    let limits = Limits {
        max_key: 10,
        max_value: 100,
        max_live: 300,
        max_leases: 1,
        max_queue: 1024,
        ..Limits::default()
    };
    let bench = bench(kind, limits);
    let store = bench.store.clone();
    let start = store.status().revision;
    let bytes = |count| Bytes::from(vec![b'x'; count]);
    let long_key = store.put(bytes(11), bytes(1), Expect::Any, None).await;
    assert!(matches!(
        long_key,
        Err(Error::TooLarge {
            size: 11,
            limit: 10,
            ..
        })
    ));
    let long_value = store.put(bytes(1), bytes(101), Expect::Any, None).await;
    assert!(matches!(long_value, Err(Error::TooLarge { .. })));
    store.lease_grant(Duration::from_secs(1)).await.expect("first lease");
    assert!(matches!(
        store.lease_grant(Duration::from_secs(1)).await,
        Err(Error::TooLarge { .. })
    ));
    assert_eq!(store.status().revision, start);
    for name in ["a", "b"] {
        store.put(key(name), bytes(100), Expect::Any, None).await.expect("fits");
    }
    let full = store.put(key("c"), bytes(100), Expect::Any, None).await;
    assert!(matches!(full, Err(Error::Full { .. })));
    store
        .put(key("a"), bytes(90), Expect::Any, None)
        .await
        .expect("a smaller value fits");
    store.delete(b"b", Expect::Any).await.expect("a delete fits");
    store
        .put(key("c"), bytes(100), Expect::Any, None)
        .await
        .expect("fits again");
}

async fn a_snapshot_is_of_one_revision_while_writers_go_on(kind: &str) {
    let bench = bench(kind, Limits::default());
    let store = bench.store.clone();
    let lease = store.lease_grant(Duration::from_secs(60)).await.expect("grant");
    for at in 0..2000 {
        let lease = (at % 3 == 0).then_some(lease);
        store
            .put(key(&format!("{at:04}")), key("0"), Expect::Any, lease)
            .await
            .expect("put");
    }
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            for at in 0..500 {
                put(&store, &format!("{:04}", at * 3), "1").await;
                store
                    .delete(format!("{:04}", at * 3 + 1).as_bytes(), Expect::Any)
                    .await
                    .expect("delete");
            }
        }
    });
    let directory = tempfile::tempdir().expect("temporary directory");
    let file = directory.path().join("backup");
    let out = std::fs::File::create(&file).expect("create");
    let revision = store.snapshot(Box::new(out)).await.expect("snapshot");
    writer.await.expect("writer");
    let at_revision = Range {
        at: Some(revision),
        ..Range::default()
    };
    let expected = store.range(at_revision).await.expect("range").items;
    let restored = directory.path().join("restored");
    let mut input = std::fs::File::open(&file).expect("open");
    let raised = strata_store::restore(&mut input, &restored).expect("restore");
    assert!(raised > store.status().revision, "clients never see a revision go back");
    let copy = strata_store::LogStore::open(&restored, strata_store::LogOptions::default()).expect("open");
    assert_eq!(copy.range(Range::default()).await.expect("range").items, expected);
    assert_eq!(copy.status().leases, 1);
    let next = copy
        .put(key("next"), key("v"), Expect::Any, Some(lease))
        .await
        .expect("the lease lives on");
    assert!(next > raised);
}

async fn status_counts(kind: &str) {
    let bench = bench(kind, Limits::default());
    let store = bench.store.clone();
    put(&store, "a", "123").await;
    put(&store, "a", "1").await;
    put(&store, "b", "1").await;
    let _watch = store
        .watch(Bytes::new(), Bytes::new(), store.status().revision)
        .await
        .expect("watch");
    let status = store.status();
    assert_eq!(
        (status.keys, status.live_bytes, status.watchers, status.writes),
        (2, 4, 1, 3)
    );
    assert!(!status.full);
}
