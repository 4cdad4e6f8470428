//! Service account tokens in secrets: when they are used, and since when that is watched (KEP-2799).

use crate::{
    core::Core,
    json,
    verbs::{Change, Creation, Part, apply_change, create_object},
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use strata_auth::{GROUP_MASTERS, UsedSecret, UserInfo};
use strata_meta::{GroupResource, Status, Time};

/// The day on which a secret's token was last used.
pub(crate) const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
/// The day since which it is not believed any more.
pub(crate) const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
const NAMESPACE: &str = "kube-system";
const NAME: &str = "kube-apiserver-legacy-service-account-token-tracking";
/// How often the record is looked for (as often as upstream makes it anew).
const INTERVAL: Duration = Duration::from_secs(1800);

fn server() -> UserInfo {
    UserInfo::new("system:apiserver", &[GROUP_MASTERS])
}

fn today() -> String {
    let mut text = Time::now().to_string();
    text.truncate(10);
    text
}

/// Keeps the record of since when uses are noted, until the server stops.
pub(crate) async fn keep(core: Arc<Core>) {
    let mut interval = tokio::time::interval(INTERVAL);
    loop {
        interval.tick().await;
        if let Err(status) = record(&core).await {
            tracing::warn!(%status, "since when uses of tokens are noted cannot be written yet");
        }
    }
}

async fn record(core: &Arc<Core>) -> Result<(), Status> {
    let (user, row) = (server(), core.registry.get("", "v1", "configmaps"));
    let row = row.ok_or_else(Status::path_not_found)?;
    let Some(found) = core.resource("", "configmaps").get(NAMESPACE, NAME) else {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": NAME, "namespace": NAMESPACE}, "data": {"since": today()}});
        let creation = Creation::own(core, &user, &row, NAMESPACE);
        return create_object(&creation, map, &mut Vec::new()).await.map(drop);
    };
    let value = found.to_value().map_err(Status::internal)?;
    if Time::parse(&format!("{}T00:00:00Z", json::text(&value, "data.since"))).is_some() {
        return Ok(());
    }
    change(core, "configmaps", NAMESPACE, NAME, |mut map| {
        map["data"]["since"] = json!(today());
        Ok(map)
    })
    .await
}

/// Notes on the secret that its token is used today; a failure is logged, for whoever uses it is believed all the same.
pub(crate) async fn mark(core: &Arc<Core>, used: &UsedSecret) {
    let marked = change(core, "secrets", &used.namespace, &used.name, |mut secret| {
        if json::text(&secret, "metadata.uid") != used.uid.as_str() {
            return Err(Status::conflict(
                &GroupResource::new("", "secrets"),
                &used.name,
                "it is another",
            ));
        }
        secret["metadata"]["labels"][LAST_USED] = json!(today());
        Ok(secret)
    });
    if let Err(status) = marked.await {
        tracing::warn!(%status, namespace = used.namespace, secret = used.name, "the use of a token cannot be noted");
    }
}

async fn change(
    core: &Arc<Core>,
    plural: &str,
    namespace: &str,
    name: &str,
    edit: impl Fn(Value) -> Result<Value, Status> + Send + Sync,
) -> Result<(), Status> {
    let row = core.registry.get("", "v1", plural).ok_or_else(Status::path_not_found)?;
    let user = server();
    let change = Change::own(core, &user, &row, (namespace, name), Part::Main);
    let mut unheard = Vec::new();
    apply_change(&change, &mut unheard, |old, _| edit(old.clone()))
        .await
        .map(drop)
}
