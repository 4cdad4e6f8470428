//! Pages, revisions, resuming, initial events.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use bytes::Bytes;
use futures::StreamExt;
use http::Request;
use serde_json::{Value, json};
use strata_auth::UserInfo;
use strata_client::{ListParams, WatchRequest, resources::CONFIG_MAPS};
use strata_meta::{Revision, WatchEvent};
use support::TestServer;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn get(server: &TestServer, path: &str) -> (u16, Value) {
    let request = Request::builder().uri(path).body(Bytes::new()).unwrap();
    let response = server
        .transport(UserInfo::new("admin", &["system:masters"]))
        .send(request)
        .await
        .unwrap();
    let code = response.status().as_u16();
    (code, serde_json::from_slice(response.body()).unwrap())
}

/// The frames of a watch that ends by itself.
async fn frames(server: &TestServer, query: &str) -> Vec<Value> {
    let request = Request::builder()
        .uri(format!("{MAPS}?watch=true&timeoutSeconds=1&{query}"))
        .body(Bytes::new())
        .unwrap();
    let response = server
        .transport(UserInfo::new("admin", &["system:masters"]))
        .send(request)
        .await
        .unwrap();
    let text = String::from_utf8(response.body().to_vec()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn make(server: &TestServer, names: std::ops::Range<usize>) {
    let client = server.client();
    for i in names {
        let map = json!({"metadata": {"name": format!("m{i:03}"), "labels": {"odd": (i % 2).to_string()}}, "data": {"i": i.to_string()}});
        client.create(CONFIG_MAPS, "default", &map).await.unwrap();
    }
}

fn names(list: &Value) -> Vec<String> {
    list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| i["metadata"]["name"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn pages_show_one_revision_whatever_happens_meanwhile() {
    let server = TestServer::start().await;
    make(&server, 0..25).await;
    let (_, first) = get(&server, &format!("{MAPS}?limit=10")).await;
    assert_eq!(
        (names(&first).len(), &first["metadata"]["remainingItemCount"]),
        (10, &json!(15))
    );
    let client = server.client();
    client
        .delete(CONFIG_MAPS, "default", "m012", Default::default())
        .await
        .unwrap();
    make(&server, 30..40).await;
    let (mut all, mut page) = (names(&first), first.clone());
    while let Some(token) = page["metadata"]["continue"].as_str() {
        page = get(&server, &format!("{MAPS}?limit=10&continue={token}")).await.1;
        assert_eq!(
            page["metadata"]["resourceVersion"],
            first["metadata"]["resourceVersion"]
        );
        all.extend(names(&page));
    }
    let expected: Vec<String> = (0..25).map(|i| format!("m{i:03}")).collect();
    assert_eq!(all, expected);
    let (_, odd) = get(&server, &format!("{MAPS}?labelSelector=odd%3D1&limit=3")).await;
    assert_eq!(
        (names(&odd), odd["metadata"].get("remainingItemCount")),
        (vec!["m001".into(), "m003".into(), "m005".into()], None)
    );
    let revision = first["metadata"]["resourceVersion"].as_str().unwrap();
    let (_, exact) = get(
        &server,
        &format!("{MAPS}?resourceVersion={revision}&resourceVersionMatch=Exact"),
    )
    .await;
    assert_eq!(names(&exact), expected);
    let (code, bad) = get(&server, &format!("{MAPS}?limit=1&continue=nonsense")).await;
    assert_eq!((code, &bad["reason"]), (400, &json!("BadRequest")));
    server.stop().await;
}

#[tokio::test]
async fn a_watch_resumes_without_gaps_and_filters_see_objects_come_and_go() {
    let store = std::sync::Arc::new(strata_store::MemoryStore::new());
    let server = TestServer::over(store.clone()).await;
    make(&server, 0..3).await;
    let (_, list) = get(&server, MAPS).await;
    let revision = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let client = server.client();
    let relabel = |value: &str| strata_client::Patch::Merge(json!({"metadata": {"labels": {"odd": value}}}));
    client
        .patch(CONFIG_MAPS, "default", "m000", None, relabel("1"))
        .await
        .unwrap();
    client
        .patch(CONFIG_MAPS, "default", "m001", None, relabel("2"))
        .await
        .unwrap();
    client
        .delete(CONFIG_MAPS, "default", "m002", Default::default())
        .await
        .unwrap();
    let seen = |frames: Vec<Value>| -> Vec<String> {
        frames
            .iter()
            .map(|f| {
                format!(
                    "{} {}",
                    f["type"].as_str().unwrap(),
                    f["object"]["metadata"]["name"].as_str().unwrap_or("")
                )
            })
            .collect()
    };
    let all = seen(frames(&server, &format!("resourceVersion={revision}")).await);
    assert_eq!(all, ["MODIFIED m000", "MODIFIED m001", "DELETED m002"]);
    let odd = seen(frames(&server, &format!("resourceVersion={revision}&labelSelector=odd%3D1")).await);
    assert_eq!(odd, ["ADDED m000", "DELETED m001"]);
    let none = seen(
        frames(
            &server,
            &format!("resourceVersion={revision}&fieldSelector=metadata.name%3Dx"),
        )
        .await,
    );
    assert!(none.is_empty(), "{none:?}");
    server.stop().await;
    let server = TestServer::over(store).await;
    let old = frames(&server, "resourceVersion=1").await;
    assert_eq!(
        (old.len(), &old[0]["type"], &old[0]["object"]["code"]),
        (1, &json!("ERROR"), &json!(410)),
        "{old:?}"
    );
    assert!(
        old[0]["object"]["message"]
            .as_str()
            .unwrap()
            .starts_with("too old resource version: 1 (")
    );
    server.stop().await;
}

#[tokio::test]
async fn initial_events_end_with_a_marked_bookmark() {
    let server = TestServer::start().await;
    make(&server, 0..3).await;
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let frames = frames(&server, query).await;
    let kinds: Vec<&str> = frames.iter().map(|f| f["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["ADDED", "ADDED", "ADDED", "BOOKMARK"]);
    assert_eq!(
        frames[3]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    let (code, future) = get(&server, &format!("{MAPS}?resourceVersion=999999")).await;
    assert_eq!(
        (code, &future["details"]["causes"][0]["reason"]),
        (504, &json!("ResourceVersionTooLarge"))
    );
    server.stop().await;
}

#[tokio::test]
async fn clients_in_the_process_share_objects() {
    let server = TestServer::start().await;
    make(&server, 0..2).await;
    let client = server.client();
    let one = client
        .list(CONFIG_MAPS, Some("default"), ListParams::default())
        .await
        .unwrap();
    let two = client.list(CONFIG_MAPS, None, ListParams::default()).await.unwrap();
    assert!(std::sync::Arc::ptr_eq(&one.items[0], &two.items[0]));
    let request = WatchRequest {
        resource: CONFIG_MAPS,
        namespace: None,
        label_selector: String::new(),
        field_selector: String::new(),
        from: one.revision,
        bookmarks: false,
    };
    let transport = server.transport(UserInfo::new("admin", &["system:masters"]));
    let mut watch = transport.watch(request).await.unwrap();
    make(&server, 2..3).await;
    match watch.next().await.unwrap().unwrap() {
        WatchEvent::Added(object) => assert!(object.name() == "m002" && object.revision > Revision(one.revision.0)),
        other => panic!("{other:?}"),
    }
    server.stop().await;
}
