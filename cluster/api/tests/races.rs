//! Many writers and watchers at once: nothing is lost, nothing is seen out of order.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use futures::{StreamExt, future::join_all};
use serde_json::json;
use std::sync::Arc;
use strata_auth::UserInfo;
use strata_client::{Patch, WatchRequest, resources::*};
use strata_meta::{Revision, WatchEvent};
use support::TestServer;

const WRITERS: usize = 16;
const WRITES: usize = 25;

fn watch_all(from: Revision) -> WatchRequest {
    WatchRequest {
        resource: CONFIG_MAPS,
        namespace: Some("default".into()),
        label_selector: String::new(),
        field_selector: String::new(),
        from,
        bookmarks: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_update_is_lost_and_watchers_see_each_once_in_order() {
    let server = Arc::new(TestServer::start().await);
    let client = server.client();
    let counter = json!({"metadata": {"name": "counter"}, "data": {"n": "0"}});
    let made = client.create(CONFIG_MAPS, "default", &counter).await.unwrap();
    let transport = server.transport(UserInfo::new("admin", &["system:masters"]));
    let mut watches = Vec::new();
    for _ in 0..4 {
        watches.push(transport.watch(watch_all(made.revision)).await.unwrap());
    }
    let writers = (0..WRITERS).map(|writer| {
        let client = client.clone();
        tokio::spawn(async move {
            for _ in 0..WRITES {
                loop {
                    let mut value = client
                        .get(CONFIG_MAPS, "default", "counter")
                        .await
                        .unwrap()
                        .to_value()
                        .unwrap();
                    let n: u64 = value["data"]["n"].as_str().unwrap().parse().unwrap();
                    value["data"]["n"] = json!((n + 1).to_string());
                    match client.update(CONFIG_MAPS, "default", "counter", &value).await {
                        Ok(_) => break,
                        Err(error) => assert!(error.is_conflict(), "{error}"),
                    }
                }
                let label = Patch::Merge(json!({"metadata": {"labels": {format!("w{writer}"): "x"}}}));
                client
                    .patch(CONFIG_MAPS, "default", "counter", None, label)
                    .await
                    .unwrap();
            }
        })
    });
    for done in join_all(writers).await {
        done.unwrap();
    }
    let last = client.get(CONFIG_MAPS, "default", "counter").await.unwrap();
    let value = last.to_value().unwrap();
    assert_eq!(value["data"]["n"], (WRITERS * WRITES).to_string());
    assert_eq!(value["metadata"]["labels"].as_object().unwrap().len(), WRITERS);
    for mut watch in watches {
        let (mut at, mut n) = (made.revision, 0);
        while at < last.revision {
            let WatchEvent::Modified(object) = watch.next().await.unwrap().unwrap() else {
                panic!("only changes")
            };
            assert!(object.revision > at);
            at = object.revision;
            let now: u64 = object.to_value().unwrap()["data"]["n"]
                .as_str()
                .unwrap()
                .parse()
                .unwrap();
            assert!(now == n || now == n + 1, "{now} after {n}");
            n = now;
        }
        assert_eq!(n, (WRITERS * WRITES) as u64);
    }
    server.api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_creates_wins_and_services_share_no_address() {
    let server = TestServer::start().await;
    let client = server.client();
    let map = json!({"metadata": {"name": "one"}});
    let outcomes = join_all((0..20).map(|_| client.create(CONFIG_MAPS, "default", &map))).await;
    assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 1);
    assert!(
        outcomes
            .iter()
            .filter_map(|o| o.as_ref().err())
            .all(strata_client::Error::is_already_exists)
    );
    let services: Vec<_> = (0..40)
        .map(|i| json!({"metadata": {"name": format!("s{i}")}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}}))
        .collect();
    let made = join_all(services.iter().map(|s| client.create(SERVICES, "default", s))).await;
    let (mut addresses, mut ports) = (std::collections::HashSet::new(), std::collections::HashSet::new());
    for service in made {
        let value = service.unwrap().to_value().unwrap();
        addresses.insert(value["spec"]["clusterIP"].as_str().unwrap().to_owned());
        ports.insert(value["spec"]["ports"][0]["nodePort"].as_i64().unwrap());
    }
    assert_eq!((addresses.len(), ports.len()), (40, 40));
    let named = json!({"metadata": {"generateName": "g-"}});
    let made = join_all((0..50).map(|_| client.create(CONFIG_MAPS, "default", &named))).await;
    let names: std::collections::HashSet<String> = made.into_iter().map(|m| m.unwrap().name().to_owned()).collect();
    assert_eq!(names.len(), 50);
    server.stop().await;
}
