//! Certificate requests are forgotten some time after they were settled, or when nobody settles them.

use crate::{Error, context::Context, error::During, tracked::decode};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use std::{sync::Arc, time::Duration};
use strata_client::{DeleteOptions, WorkQueue, resources::CERTIFICATE_SIGNING_REQUESTS};
use strata_meta::{ObjectKey, ObjectMeta, Time};

/// How often all requests are looked at, and the two ages (upstream's).
const INTERVAL: Duration = Duration::from_secs(3600);
const SETTLED_SECONDS: i64 = 3600;
const PENDING_SECONDS: i64 = 24 * 3600;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Request {
    metadata: ObjectMeta,
    status: RequestStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RequestStatus {
    certificate: Option<String>,
    conditions: Vec<Condition>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Condition {
    r#type: String,
    last_update_time: Option<Time>,
}

pub(super) fn start(context: &Arc<Context>) {
    let requests = context.objects(CERTIFICATE_SIGNING_REQUESTS);
    let queue: WorkQueue<ObjectKey> = context.queue("certificate_cleaner");
    let changed = queue.clone();
    requests.on_change(move |change| changed.add(change.key.clone()));
    let ready = {
        let requests = requests.clone();
        async move { requests.synced().await }
    };
    let client = context.client("certificate-controller");
    let cleaning = context.clone();
    context.run(&queue, 1, ready, move |key| {
        let (client, requests, now) = (client.clone(), requests.clone(), cleaning.now());
        async move {
            let Some(object) = requests.get(&key) else {
                return Ok(None);
            };
            if !is_due(&decode(&object)?, now) {
                return Ok::<_, Error>(Some(INTERVAL));
            }
            let options = DeleteOptions::only(&object.uid);
            match client
                .delete(CERTIFICATE_SIGNING_REQUESTS, "", &key.name, options)
                .await
            {
                Err(error) if !error.is_not_found() => Err(error).during(|| format!("removing {key}")),
                _ => Ok(None),
            }
        }
    });
}

fn is_due(request: &Request, now: Time) -> bool {
    let older = |since: Option<Time>, seconds| since.is_some_and(|t| now.seconds_since(t) > seconds);
    let issued = request.status.certificate.as_deref().filter(|c| !c.is_empty());
    let conditions = &request.status.conditions;
    if conditions.is_empty() {
        return older(request.metadata.creation_timestamp, PENDING_SECONDS);
    }
    conditions.iter().any(|c| match c.r#type.as_str() {
        "Approved" if issued.is_some() => {
            older(c.last_update_time, SETTLED_SECONDS) || issued.is_some_and(|i| has_ended(i, now))
        }
        "Approved" => older(c.last_update_time, PENDING_SECONDS),
        "Denied" | "Failed" => older(c.last_update_time, SETTLED_SECONDS),
        _ => false,
    })
}

fn has_ended(certificate: &str, now: Time) -> bool {
    let pem = STANDARD
        .decode(certificate)
        .ok()
        .and_then(|pem| String::from_utf8(pem).ok());
    let leaf = pem.and_then(|pem| strata_auth::Leaf::from_pem(pem, String::new()).ok());
    leaf.is_some_and(|leaf| {
        let end = leaf.not_after.duration_since(std::time::UNIX_EPOCH);
        end.is_ok_and(|end| i64::try_from(end.as_secs()).is_ok_and(|end| end < now.as_second()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_kept_for_an_hour_once_settled_and_a_day_before() {
        let now = Time::parse("2026-01-02T12:00:00Z").unwrap();
        let case = |created: &str, condition: Option<(&str, &str)>, certificate: &str| {
            let conditions: Vec<_> = condition
                .into_iter()
                .map(|(kind, at)| serde_json::json!({"type": kind, "lastUpdateTime": at}))
                .collect();
            let request = serde_json::json!({"metadata": {"creationTimestamp": created},
                "status": {"certificate": certificate, "conditions": conditions}});
            is_due(&serde_json::from_value(request).unwrap(), now)
        };
        let (today, yesterday) = ("2026-01-02T11:30:00Z", "2026-01-01T11:00:00Z");
        assert!(!case(today, None, ""));
        assert!(case(yesterday, None, ""));
        assert!(!case(yesterday, Some(("Approved", today)), "AA=="));
        assert!(case(yesterday, Some(("Approved", "2026-01-02T10:30:00Z")), "AA=="));
        assert!(!case(yesterday, Some(("Approved", "2026-01-02T10:30:00Z")), ""));
        assert!(case(yesterday, Some(("Denied", "2026-01-02T10:30:00Z")), ""));
    }
}
