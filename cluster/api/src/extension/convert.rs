//! Conversion by webhook (apiextensions.k8s.io ConversionReview).

use super::{Definition, definition::Converter};
use crate::{core::Core, flow, json, metrics::waits};
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};
use strata_meta::{GroupVersionKind, Reason, Status, Uid};

/// Upstream's timeout of a call.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What a conversion needs.
pub(super) struct Converting<'c> {
    pub(super) core: &'c Core,
    pub(super) definition: &'c Definition,
}

/// Has objects of one definition converted. Errors: 500 with upstream's sentence.
pub(super) async fn by_webhook(
    converting: &Converting<'_>,
    objects: Vec<Value>,
    wanted: &GroupVersionKind,
) -> Result<Vec<Value>, Status> {
    let from = objects.first().map_or(String::new(), |o| {
        let (group, version) = json::text(o, "apiVersion").split_once('/').unwrap_or(("", ""));
        format!("{group}/{version}, Kind={}", json::text(o, "kind"))
    });
    let failed = |why: String| {
        let mut status = Status::failure(Reason::Unknown, format_args!("conversion webhook for {from} {why}"));
        status.code = 500;
        status
    };
    let started = Instant::now();
    let metrics = &converting.core.metrics.admission;
    let converted = ask(converting, &objects, wanted).await;
    let failure = match &converted {
        Err(_) => "conversion_webhook_call_failure",
        Ok(converted) if converted.len() != objects.len() => "conversion_webhook_partial_response_failure",
        Ok(_) => "",
    };
    metrics.converted(failure, started.elapsed());
    waits::add(started.elapsed());
    let converted = converted.map_err(|why| failed(format!("failed: {why}")))?;
    if converted.len() != objects.len() {
        let (found, expected) = (converted.len(), objects.len());
        return Err(failed(format!("returned {found} objects, expected {expected}")));
    }
    let mut list = Vec::with_capacity(objects.len());
    for (at, (original, mut answer)) in objects.iter().zip(converted).enumerate() {
        check(original, &answer, wanted)
            .map_err(|why| failed(format!("returned invalid converted object at index {at}: {why}")))?;
        restore_metadata(original, &mut answer)
            .map_err(|why| failed(format!("returned invalid metadata in object at index {at}: {why}")))?;
        list.push(answer);
    }
    Ok(list)
}

async fn ask(converting: &Converting<'_>, objects: &[Value], wanted: &GroupVersionKind) -> Result<Vec<Value>, String> {
    let Converter::Webhook { config, reviews } = &converting.definition.converter else {
        return Err("there is none".into());
    };
    let config = config.as_ref().as_ref().map_err(Clone::clone)?;
    let review = reviews.iter().find(|v| matches!(v.as_str(), "v1" | "v1beta1"));
    let review = review.ok_or("no supported conversion review versions")?;
    let uid = Uid::random();
    let request = json!({
        "kind": "ConversionReview", "apiVersion": format!("apiextensions.k8s.io/{review}"),
        "request": {"uid": uid, "desiredAPIVersion": wanted.api_version(), "objects": objects},
    });
    let body = serde_json::to_vec(&request).map_err(|e| e.to_string())?;
    let core = converting.core;
    let answer = Box::pin(flow::parked(core.webhooks.post(core, config, "", body.into(), TIMEOUT))).await;
    let answer = answer.map_err(|e| e.to_string())?;
    let mut answer: Value = serde_json::from_slice(&answer).map_err(|e| e.to_string())?;
    let (version, kind) = (json::text(&answer, "apiVersion"), json::text(&answer, "kind"));
    if review == "v1" && (version, kind) != ("apiextensions.k8s.io/v1", "ConversionReview") {
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        return Err(format!(
            "expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got {group}/{version}, Kind={kind}"
        ));
    }
    if json::get(&answer, "response").is_none() {
        return Err("no response provided".into());
    }
    let told = json::text(&answer, "response.uid");
    if review == "v1" && told != uid.as_str() {
        return Err(format!("expected response.uid={:?}, got {told:?}", uid.as_str()));
    }
    let status = json::text(&answer, "response.result.status");
    if status != "Success" {
        let message = json::text(&answer, "response.result.message");
        return Err(match message {
            "" => format!("response.result.status was '{status}', not 'Success'"),
            message => message.to_owned(),
        });
    }
    match json::remove(&mut answer, "response.convertedObjects") {
        Some(Value::Array(list)) => Ok(list),
        _ => Ok(Vec::new()),
    }
}

fn check(original: &Value, converted: &Value, wanted: &GroupVersionKind) -> Result<(), String> {
    let found = json::text(converted, "apiVersion");
    if found != wanted.api_version() {
        return Err(format!(
            "invalid groupVersion (expected {}, received {found})",
            wanted.api_version()
        ));
    }
    let found = json::text(converted, "kind");
    if found != wanted.kind {
        return Err(format!("invalid kind (expected {}, received {found})", wanted.kind));
    }
    for (path, what) in [
        ("metadata.name", "name"),
        ("metadata.namespace", "namespace"),
        ("metadata.uid", "UID"),
    ] {
        let (before, after) = (json::text(original, path), json::text(converted, path));
        if before != after {
            return Err(format!("must have the same {what}: {before} != {after}"));
        }
    }
    Ok(())
}

/// Of the metadata only labels and annotations may change.
fn restore_metadata(original: &Value, converted: &mut Value) -> Result<(), String> {
    let answered = match converted.get_mut("metadata").map(Value::take) {
        Some(Value::Object(map)) => map,
        Some(_) => return Err("invalid metadata in converted object".into()),
        None => return Err("missing metadata in converted object".into()),
    };
    let mut metadata = match original.get("metadata") {
        Some(Value::Object(map)) => map.clone(),
        _ => Map::new(),
    };
    for name in ["labels", "annotations"] {
        match answered.get(name) {
            None | Some(Value::Null) => {
                metadata.remove(name);
            }
            Some(Value::Object(map)) => {
                if let Some((key, _)) = map.iter().find(|(_, v)| !v.is_string()) {
                    return Err(format!("metadata.{name}[{key}] must be a string in converted object"));
                }
                metadata.insert(name.to_owned(), Value::Object(map.clone()));
            }
            Some(_) => return Err(format!("invalid metadata.{name} in converted object")),
        }
    }
    converted["metadata"] = Value::Object(metadata);
    Ok(())
}
