//! Quotas under many writers at once.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use futures::future::join_all;
use serde_json::{Value, json};
use strata_client::{Client, Resource, resources::*};
use support::TestServer;

const QUOTAS: Resource = Resource::new("", "v1", "resourcequotas", "ResourceQuota", true);

/// A quota whose controller has counted already.
async fn quota(client: &Client, name: &str, spec: Value, used: Value) {
    let quota = json!({"metadata": {"name": name}, "spec": spec});
    let made = client.create(QUOTAS, "default", &quota).await.unwrap();
    let mut counted = made.to_value().unwrap();
    counted["status"] = json!({"hard": spec["hard"], "used": used});
    client.update_status(QUOTAS, "default", name, &counted).await.unwrap();
}

async fn used(client: &Client, name: &str) -> Value {
    let quota = client.get(QUOTAS, "default", name).await.unwrap();
    quota.to_value().unwrap()["status"]["used"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_at_once_never_take_more_than_there_is() {
    let server = TestServer::start().await;
    let client = server.client();
    let (most, writers) = (50, 200);
    let hard = json!({"hard": {"configmaps": most.to_string(), "count/secrets": most.to_string()}});
    quota(&client, "one", hard, json!({"configmaps": "0", "count/secrets": "0"})).await;
    let wide = json!({"hard": {"configmaps": "150"}});
    quota(&client, "two", wide, json!({"configmaps": "0"})).await;
    let make = |n: usize| {
        let client = client.clone();
        tokio::spawn(async move {
            let resource = if n.is_multiple_of(2) { CONFIG_MAPS } else { SECRETS };
            let object = json!({"metadata": {"name": format!("o-{n}")}});
            let made = client.create(resource, "default", &object).await;
            (resource.plural, made.map(drop).map_err(|e| e.to_string()))
        })
    };
    let outcomes = join_all((0..2 * writers).map(make)).await;
    let mut made = (0, 0);
    for outcome in outcomes {
        match outcome.unwrap() {
            ("configmaps", Ok(())) => made.0 += 1,
            (_, Ok(())) => made.1 += 1,
            (_, Err(why)) => assert!(why.contains("exceeded quota: one, requested: "), "{why}"),
        }
    }
    assert_eq!(made, (most, most));
    let full = most.to_string();
    assert_eq!(
        used(&client, "one").await,
        json!({"configmaps": full, "count/secrets": full})
    );
    assert_eq!(used(&client, "two").await, json!({"configmaps": full}));
    // A trial takes nothing, and is refused as the write would be.
    let dry = server
        .feed(
            "create --dry-run=server -f -",
            "{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \"metadata\": {\"name\": \"dry\"}}",
        )
        .await;
    assert!(
        dry.err
            .contains("exceeded quota: one, requested: configmaps=1, used: configmaps=50, limited: configmaps=50"),
        "{dry:?}"
    );
    server.stop().await;
}
