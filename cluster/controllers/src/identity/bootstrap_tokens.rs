//! Tokens with which machines join: removed when they end, and those for signing sign `kube-public/cluster-info`, so
//! that a machine with a token knows that it reads the right one.

use crate::{
    Error,
    context::Context,
    error::During,
    tracked::{undecoded, value},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use strata_auth::{BOOTSTRAP_SECRET_TYPE, BootstrapToken};
use strata_client::{
    Client, DeleteOptions, Informer, Scope, WorkQueue,
    resources::{CONFIG_MAPS, SECRETS},
};
use strata_meta::{Object, ObjectKey, Time};

const CLUSTER_INFO: &str = "cluster-info";
/// What the keys of signatures begin with; the token's id follows.
const SIGNATURE: &str = "jws-kubeconfig-";

pub(super) fn start(context: &Arc<Context>) {
    let follow = |resource, namespace: &str, fields: String| {
        let scope = Scope {
            namespace: Some(namespace.to_owned()),
            field_selector: fields,
            ..Scope::default()
        };
        let client = context.client(crate::context::SHARED_INFORMERS);
        Informer::start_with(&client, resource, scope, context.cancel.clone(), undecoded)
    };
    let tokens = follow(SECRETS, "kube-system", format!("type={BOOTSTRAP_SECRET_TYPE}"));
    let info = follow(CONFIG_MAPS, "kube-public", format!("metadata.name={CLUSTER_INFO}"));
    clean(context, &tokens);
    sign(context, &tokens, &info);
}

fn text(secret: &Value, key: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(secret["data"][key].as_str()?).ok()?).ok()
}

/// Seconds until a token ends, 0 when it has; `None`: never. What cannot be read as a time has ended.
fn remaining(secret: &Value, now: Time) -> Option<u64> {
    let end = text(secret, "expiration").filter(|e| !e.is_empty())?;
    let seconds = Time::parse(&end).map_or(0, |end| end.seconds_since(now));
    Some(u64::try_from(seconds).unwrap_or(0))
}

fn clean(context: &Arc<Context>, tokens: &Informer<Arc<Object>>) {
    let queue: WorkQueue<ObjectKey> = context.queue("token_cleaner");
    let changed = queue.clone();
    tokens.on_change(move |change| changed.add(change.key.clone()));
    let client = context.client("token-cleaner");
    let (tokens, ready) = (tokens.clone(), synced(tokens));
    let cleaning = context.clone();
    context.run(&queue, 1, ready, move |key| {
        let (client, tokens, now) = (client.clone(), tokens.clone(), cleaning.now());
        async move {
            let Some(secret) = tokens.get(&key).filter(|s| !s.deleting) else {
                return Ok(None);
            };
            match remaining(&value(&secret)?, now) {
                None => Ok(None),
                Some(0) => {
                    let options = DeleteOptions::only(&secret.uid);
                    match client.delete(SECRETS, &key.namespace, &key.name, options).await {
                        Err(error) if !error.is_not_found() => Err(error).during(|| format!("removing {key}")),
                        _ => Ok(None),
                    }
                }
                Some(seconds) => Ok(Some(Duration::from_secs(seconds))),
            }
        }
    });
}

fn synced(informer: &Informer<Arc<Object>>) -> impl Future<Output = ()> + use<> {
    let informer = informer.clone();
    async move { informer.synced().await }
}

fn sign(context: &Arc<Context>, tokens: &Informer<Arc<Object>>, info: &Informer<Arc<Object>>) {
    let queue: WorkQueue<ObjectKey> = context.queue("bootstrap_signer_queue");
    let key = ObjectKey::new("kube-public", CLUSTER_INFO);
    for informer in [tokens, info] {
        let (changed, key) = (queue.clone(), key.clone());
        informer.on_change(move |_| changed.add(key.clone()));
    }
    let client = context.client("bootstrap-signer");
    let (tokens, info) = (tokens.clone(), info.clone());
    let both = (synced(&tokens), synced(&info));
    let ready = async move {
        both.0.await;
        both.1.await;
    };
    let signing = context.clone();
    context.run(&queue, 1, ready, move |key| {
        let (client, tokens, info, now) = (client.clone(), tokens.clone(), info.clone(), signing.now());
        async move { sign_info(&client, &tokens, &info, &key, now).await }
    });
}

async fn sign_info(
    client: &Client,
    tokens: &Informer<Arc<Object>>,
    info: &Informer<Arc<Object>>,
    key: &ObjectKey,
    now: Time,
) -> Result<Option<Duration>, Error> {
    let Some(object) = info.get(key) else {
        return Ok(None);
    };
    let mut whole = value(&object)?;
    let Some(content) = whole["data"]["kubeconfig"].as_str().map(str::to_owned) else {
        return Ok(None);
    };
    let mut signatures: BTreeMap<String, String> = BTreeMap::new();
    for (_, secret) in tokens.list() {
        let secret = value(&secret)?;
        let usable =
            text(&secret, "usage-bootstrap-signing").as_deref() == Some("true") && remaining(&secret, now) != Some(0);
        let whole = (text(&secret, "token-id"), text(&secret, "token-secret"));
        if let (true, (Some(id), Some(half))) = (usable, whole)
            && let Some(token) = BootstrapToken::parse(&format!("{id}.{half}"))
        {
            signatures.insert(format!("{SIGNATURE}{id}"), token.sign_detached(&content));
        }
    }
    let Some(data) = whole["data"].as_object_mut() else {
        return Ok(None);
    };
    let before = data.clone();
    data.retain(|name, _| !name.starts_with(SIGNATURE));
    data.extend(signatures.into_iter().map(|(name, signature)| (name, json!(signature))));
    if *data == before {
        return Ok(None);
    }
    match client.update(CONFIG_MAPS, &key.namespace, &key.name, &whole).await {
        Err(error) if error.is_not_found() => Ok(None),
        other => other.map(|_| None).during(|| format!("signing {key}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_whose_end_cannot_be_read_has_ended() {
        let secret = |end: &str| json!({"data": {"expiration": STANDARD.encode(end)}});
        let now = Time::parse("2026-01-01T00:00:00Z").unwrap();
        for (secret, expected) in [
            (json!({}), None),
            (secret("2026-01-01T00:01:00Z"), Some(60)),
            (secret("2025-01-01T00:00:00Z"), Some(0)),
            (secret("tomorrow"), Some(0)),
        ] {
            assert_eq!(remaining(&secret, now), expected, "{secret}");
        }
    }
}
