//! The informer against a server that can cut its watches and forget its history.

#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use futures::{StreamExt, future::BoxFuture, stream, stream::BoxStream};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use strata_client::{Client, Error, Informer, ListRequest, ObjectList, Scope, Transport, WatchRequest, resources::*};
use strata_meta::{Object, ObjectKey, Revision, Status, WatchEvent};
use strata_task::CancellationToken;
use tokio::sync::{mpsc, watch};

/// Objects, their history, and how many times the watches were cut.
#[derive(Default)]
struct State {
    objects: BTreeMap<String, Arc<Object>>,
    history: Vec<WatchEvent>,
    revision: u64,
    compacted: u64,
    cuts: u64,
    lists: usize,
}

struct Server {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

impl Server {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            changed: watch::Sender::new(0),
        })
    }

    fn put(&self, name: &str, value: &str, uid: &str) {
        let mut state = self.state.lock().unwrap();
        state.revision += 1;
        let body = json!({"metadata": {"name": name, "namespace": "n", "uid": uid}, "data": {"v": value}});
        let object = Arc::new(Object::from_value(CONFIG_MAPS.gvk(), Revision(state.revision), &body).unwrap());
        let event = match state.objects.insert(name.to_owned(), object.clone()) {
            Some(_) => WatchEvent::Modified(object),
            None => WatchEvent::Added(object),
        };
        state.history.push(event);
        drop(state);
        self.changed.send_modify(|n| *n += 1);
    }

    fn delete(&self, name: &str) {
        let mut state = self.state.lock().unwrap();
        state.revision += 1;
        let mut gone = Object::clone(&state.objects.remove(name).unwrap());
        gone.revision = Revision(state.revision);
        state.history.push(WatchEvent::Deleted(Arc::new(gone)));
        drop(state);
        self.changed.send_modify(|n| *n += 1);
    }

    /// Ends every watch; with `forget` they cannot resume.
    fn cut(&self, forget: bool, change: impl FnOnce(&Server)) {
        change(self);
        let mut state = self.state.lock().unwrap();
        state.cuts += 1;
        if forget {
            state.compacted = state.revision;
            state.history.clear();
        }
        drop(state);
        self.changed.send_modify(|n| *n += 1);
    }

    fn lists(&self) -> usize {
        self.state.lock().unwrap().lists
    }
}

struct ServerTransport(Arc<Server>);

impl Transport for ServerTransport {
    fn send(&self, _: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Bytes>, Error>> {
        Box::pin(async { Err(Error::Transport("only lists and watches here".into())) })
    }

    fn list(&self, request: ListRequest) -> BoxFuture<'_, Result<ObjectList, Error>> {
        Box::pin(async move {
            let mut state = self.0.state.lock().unwrap();
            state.lists += 1;
            // Pages of two, to see that tokens are followed.
            let start: usize = request.params.continue_token.parse().unwrap_or(0);
            let items: Vec<_> = state.objects.values().skip(start).take(2).cloned().collect();
            let more = start + 2 < state.objects.len();
            Ok(ObjectList {
                items,
                revision: Revision(state.revision),
                continue_token: if more { (start + 2).to_string() } else { String::new() },
            })
        })
    }

    fn watch(
        &self,
        request: WatchRequest,
    ) -> BoxFuture<'_, Result<BoxStream<'static, Result<WatchEvent, Error>>, Error>> {
        let server = self.0.clone();
        Box::pin(async move {
            let cuts = {
                let state = server.state.lock().unwrap();
                if request.from.0 < state.compacted {
                    return Err(Status::expired("too old resource version").into());
                }
                state.cuts
            };
            let changed = server.changed.subscribe();
            let next = move |(server, from, mut changed): (Arc<Server>, u64, watch::Receiver<u64>)| async move {
                loop {
                    let found = {
                        let state = server.state.lock().unwrap();
                        if state.cuts != cuts {
                            return None;
                        }
                        state.history.iter().find(|e| e.revision().0 > from).cloned()
                    };
                    match found {
                        Some(event) => {
                            let from = event.revision().0;
                            return Some((Ok(event), (server, from, changed)));
                        }
                        None => changed.changed().await.ok()?,
                    }
                }
            };
            Ok(stream::unfold((server, request.from.0, changed), next).boxed())
        })
    }
}

/// What a handler was told, as `+a=1`, `~a=2`, `-a`.
fn follow(server: &Arc<Server>) -> (Informer<Value>, mpsc::UnboundedReceiver<String>, CancellationToken) {
    let cancel = CancellationToken::new();
    let client = Client::new(Arc::new(ServerTransport(server.clone())));
    let informer = Informer::<Value>::start(&client, CONFIG_MAPS, Scope::default(), cancel.clone());
    let told = listen(&informer);
    (informer, told, cancel)
}

fn listen(informer: &Informer<Value>) -> mpsc::UnboundedReceiver<String> {
    let (sender, told) = mpsc::unbounded_channel();
    informer.on_change(move |change| {
        let name = &change.key.name;
        let value = |v: &Arc<Value>| v["data"]["v"].as_str().unwrap().to_owned();
        let line = match (&change.old, &change.new) {
            (None, Some(new)) => format!("+{name}={}", value(new)),
            (Some(_), Some(new)) => format!("~{name}={}", value(new)),
            (_, None) => format!("-{name}"),
        };
        sender.send(line).unwrap();
    });
    told
}

async fn expect(told: &mut mpsc::UnboundedReceiver<String>, lines: &[&str]) {
    for line in lines {
        let got = tokio::time::timeout(Duration::from_secs(30), told.recv())
            .await
            .expect("in time");
        assert_eq!(got.as_deref(), Some(*line));
    }
    assert!(told.is_empty(), "more was told than {lines:?}");
}

#[tokio::test(start_paused = true)]
async fn changes_are_told_in_order_across_a_cut_connection() {
    let server = Server::new();
    server.put("a", "1", "ua");
    let (informer, mut told, _cancel) = follow(&server);
    informer.synced().await;
    expect(&mut told, &["+a=1"]).await;
    server.put("a", "2", "ua");
    expect(&mut told, &["~a=2"]).await;
    server.cut(false, |s| {
        s.put("b", "1", "ub");
        s.delete("a");
    });
    expect(&mut told, &["+b=1", "-a"]).await;
    assert_eq!(server.lists(), 1, "a cut watch resumes without a list");
    assert!(informer.get(&ObjectKey::new("n", "a")).is_none());
    assert_eq!(informer.list().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_expired_revision_is_followed_by_a_list_that_tells_only_differences() {
    let server = Server::new();
    for name in ["a", "b", "c"] {
        server.put(name, "1", &format!("u{name}"));
    }
    let (informer, mut told, _cancel) = follow(&server);
    informer.synced().await;
    expect(&mut told, &["+a=1", "+b=1", "+c=1"]).await;
    server.cut(true, |s| {
        s.put("a", "2", "ua");
        s.delete("b");
        s.delete("c");
        s.put("c", "9", "another life");
    });
    expect(&mut told, &["~a=2", "-c", "+c=9", "-b"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_late_handler_is_told_what_is_present() {
    let server = Server::new();
    server.put("a", "1", "ua");
    let (informer, _told, _cancel) = follow(&server);
    informer.synced().await;
    let mut late = listen(&informer);
    expect(&mut late, &["+a=1"]).await;
    server.put("a", "2", "ua");
    expect(&mut late, &["~a=2"]).await;
}

#[tokio::test(start_paused = true)]
async fn the_work_ends_with_the_last_clone() {
    let server = Server::new();
    let (informer, told, _cancel) = follow(&server);
    informer.synced().await;
    drop(told);
    drop(informer);
    // The task that watches holds the receiver of `changed`.
    tokio::time::timeout(Duration::from_secs(5), server.changed.closed())
        .await
        .expect("the watch was dropped");
}
