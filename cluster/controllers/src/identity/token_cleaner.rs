//! Tokens that upstream's controller of old put in secrets are marked, and later removed, when nobody has used them
//! for a year (KEP-2799).

use crate::{
    Error,
    context::{Context, SHARED_INFORMERS},
    error::During,
    tracked::value,
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use strata_client::{
    Client, DeleteOptions, ListParams, Patch, WorkQueue,
    resources::{CONFIG_MAPS, PODS, SECRETS, SERVICE_ACCOUNTS},
};
use strata_meta::{Object, Time};

const TYPE: &str = "kubernetes.io/service-account-token";
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
const TRACKED: &str = "kube-apiserver-legacy-service-account-token-tracking";
/// How often all are looked at, and how long a token may lie unused, and then marked (upstream's).
const INTERVAL: Duration = Duration::from_secs(24 * 3600);
const UNUSED_SECONDS: i64 = 365 * 24 * 3600;

/// What is done about a secret.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Keep,
    Mark,
    Remove,
}

pub(super) fn start(context: &Arc<Context>) {
    let queue: WorkQueue<String> = context.queue("legacy_service_account_token_cleaner");
    queue.add("tokens".to_owned());
    let reader = context.client(SHARED_INFORMERS);
    let writer = context.client("legacy-service-account-token-cleaner");
    let cleaning = context.clone();
    context.run(&queue, 1, async {}, move |_| {
        let (reader, writer, now) = (reader.clone(), writer.clone(), cleaning.now());
        async move {
            clean(&reader, &writer, now).await?;
            Ok::<_, Error>(Some(INTERVAL))
        }
    });
}

async fn clean(reader: &Client, writer: &Client, now: Time) -> Result<(), Error> {
    let tracked = match writer.get(CONFIG_MAPS, "kube-system", TRACKED).await {
        Ok(map) => value(&map)?["data"]["since"].as_str().and_then(day),
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(error).during(|| format!("reading {TRACKED}")),
    };
    let Some(tracked) = tracked else {
        return Err(Error::Incomplete(
            "nobody says since when uses of tokens are noted".into(),
        ));
    };
    // From the end of that day.
    if now.seconds_since(tracked.plus_seconds(24 * 3600)) < UNUSED_SECONDS {
        return Ok(());
    }
    let params = ListParams::fields(format!("type={TYPE}"));
    let secrets = reader.list(SECRETS, None, params).await;
    for secret in secrets.during(|| "listing tokens".into())?.items {
        let namespace = secret.namespace();
        if judge(&value(&secret)?, now) == Verdict::Keep || !is_generated(reader, &secret).await? {
            continue;
        }
        let pods = reader.list(PODS, Some(namespace), ListParams::default()).await;
        let pods = pods.during(|| format!("listing pods of {namespace}"))?;
        let mut used = BTreeSet::new();
        for pod in &pods.items {
            named_secrets(&value(pod)?["spec"], &mut used);
        }
        if !used.contains(secret.name()) {
            settle(writer, &secret, judge(&value(&secret)?, now), now).await?;
        }
    }
    Ok(())
}

async fn settle(writer: &Client, secret: &Object, verdict: Verdict, now: Time) -> Result<(), Error> {
    let (namespace, name) = (secret.namespace(), secret.name());
    let outcome = match verdict {
        Verdict::Keep => return Ok(()),
        Verdict::Mark => {
            let patch = json!({"metadata": {"uid": secret.uid.as_str(), "labels": {INVALID_SINCE: date(now)}}});
            let marked = writer.patch(SECRETS, namespace, name, None, Patch::Merge(patch)).await;
            marked.map(drop)
        }
        Verdict::Remove => {
            let options = DeleteOptions {
                resource_version: Some(secret.revision.to_string()),
                ..DeleteOptions::default()
            };
            writer.delete(SECRETS, namespace, name, options).await
        }
    };
    match outcome {
        Err(error) if !error.is_not_found() && !error.is_conflict() => {
            Err(error).during(|| format!("settling the unused token {namespace}/{name}"))
        }
        _ => Ok(()),
    }
}

/// Whether its account names the secret, as it does those that were made for it.
async fn is_generated(reader: &Client, secret: &Object) -> Result<bool, Error> {
    let annotations = value(secret)?["metadata"]["annotations"].take();
    let text = |name: &str| annotations[name].as_str().unwrap_or("").to_owned();
    let name = text("kubernetes.io/service-account.name");
    if name.is_empty() {
        return Ok(false);
    }
    let account = match reader.get(SERVICE_ACCOUNTS, secret.namespace(), &name).await {
        Ok(account) => account,
        Err(error) if error.is_not_found() => return Ok(false),
        Err(error) => return Err(error).during(|| format!("reading the account {name}")),
    };
    let uid = text("kubernetes.io/service-account.uid");
    let secrets = value(&account)?["secrets"].take();
    let mut named = secrets.as_array().into_iter().flatten();
    let is_its = uid.is_empty() || uid == account.uid.as_str();
    Ok(is_its && named.any(|reference| reference["name"] == secret.name()))
}

/// What the secret's own age and labels say; `2026-01-31` days compare as texts.
fn judge(secret: &Value, now: Time) -> Verdict {
    let metadata = &secret["metadata"];
    let label = |name: &str| metadata["labels"][name].as_str();
    let limit = now.plus_seconds(-UNUSED_SECONDS);
    let created = metadata["creationTimestamp"].as_str().and_then(Time::parse);
    let is_young = created.is_none_or(|created| created >= limit);
    let last = date(limit);
    let is_used = label(LAST_USED).is_some_and(|used| day(used).is_none() || used >= last.as_str());
    if is_young || is_used || !metadata["deletionTimestamp"].is_null() {
        return Verdict::Keep;
    }
    match label(INVALID_SINCE).filter(|since| day(since).is_some()) {
        None => Verdict::Mark,
        Some(since) if since < last.as_str() => Verdict::Remove,
        Some(_) => Verdict::Keep,
    }
}

fn date(time: Time) -> String {
    let mut text = time.to_string();
    text.truncate(10);
    text
}

fn day(text: &str) -> Option<Time> {
    Time::parse(&format!("{text}T00:00:00Z"))
}

/// The secrets that a pod names, wherever it does: pull secrets, environment, volumes.
fn named_secrets(spec: &Value, found: &mut BTreeSet<String>) {
    let mut add = |name: &Value| found.extend(name.as_str().map(str::to_owned));
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    for reference in list(&spec["imagePullSecrets"]) {
        add(&reference["name"]);
    }
    for containers in ["containers", "initContainers", "ephemeralContainers"] {
        for container in list(&spec[containers]) {
            for from in list(&container["envFrom"]) {
                add(&from["secretRef"]["name"]);
            }
            for variable in list(&container["env"]) {
                add(&variable["valueFrom"]["secretKeyRef"]["name"]);
            }
        }
    }
    for volume in list(&spec["volumes"]) {
        add(&volume["secret"]["secretName"]);
        add(&volume["azureFile"]["secretName"]);
        add(&volume["csi"]["nodePublishSecretRef"]["name"]);
        for source in list(&volume["projected"]["sources"]) {
            add(&source["secret"]["name"]);
        }
        for driver in ["cephfs", "cinder", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos"] {
            add(&volume[driver]["secretRef"]["name"]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unused_tokens_are_marked_after_a_year_and_removed_after_another() {
        let now = Time::parse("2026-06-15T12:00:00Z").unwrap();
        let case = |created: &str, used: Option<&str>, invalid: Option<&str>| {
            let mut labels = json!({});
            for (label, value) in [(LAST_USED, used), (INVALID_SINCE, invalid)] {
                if let Some(value) = value {
                    labels[label] = json!(value);
                }
            }
            judge(
                &json!({"metadata": {"creationTimestamp": created, "labels": labels}}),
                now,
            )
        };
        let (old, young) = ("2024-01-01T00:00:00Z", "2025-06-15T12:00:00Z");
        assert_eq!(case(young, None, None), Verdict::Keep);
        assert_eq!(case(old, None, None), Verdict::Mark);
        assert_eq!(case(old, Some("2025-06-14"), None), Verdict::Mark);
        assert_eq!(case(old, Some("2025-06-15"), None), Verdict::Keep);
        assert_eq!(case(old, Some("nonsense"), None), Verdict::Keep);
        assert_eq!(case(old, None, Some("nonsense")), Verdict::Mark);
        assert_eq!(case(old, None, Some("2025-06-15")), Verdict::Keep);
        assert_eq!(case(old, None, Some("2025-06-14")), Verdict::Remove);
        assert_eq!(case(old, Some("2026-01-01"), Some("2025-06-14")), Verdict::Keep);
    }

    #[test]
    fn every_way_of_naming_a_secret_keeps_it() {
        let spec = json!({"imagePullSecrets": [{"name": "a"}],
            "initContainers": [{"envFrom": [{"secretRef": {"name": "b"}}]}],
            "containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "c", "key": "k"}}}]}],
            "volumes": [{"secret": {"secretName": "d"}}, {"projected": {"sources": [{"secret": {"name": "e"}}]}},
                {"csi": {"nodePublishSecretRef": {"name": "f"}}}, {"rbd": {"secretRef": {"name": "g"}}}]});
        let mut found = BTreeSet::new();
        named_secrets(&spec, &mut found);
        assert_eq!(
            found.into_iter().collect::<Vec<_>>(),
            ["a", "b", "c", "d", "e", "f", "g"]
        );
    }
}
