//! Conversion by webhook (apiextensions.k8s.io ConversionReview).

use super::{Definition, definition::Converter};
use crate::{
    core::Core,
    flow, json,
    metrics::waits,
    validate::{Field, formats},
    yaml,
};
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
    let failed = |why: String| told(format!("conversion webhook for {from} {why}"));
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
    for (original, mut answer) in objects.iter().zip(converted) {
        // Upstream says this much and no more of what is no object at all.
        let nothing = |why: &str| told(why.to_owned());
        match &answer {
            Value::Object(_) => {}
            Value::Null => return Err(nothing("unexpected end of JSON input")),
            other => {
                let found = go_type(other, true);
                let why = format!("json: cannot unmarshal {found} into Go value of type map[string]interface {{}}");
                return Err(nothing(&why));
            }
        }
        check(original, &answer, wanted).map_err(|why| failed(format!("returned invalid object{why}")))?;
        restore_metadata(original, &mut answer).map_err(|why| failed(format!("returned invalid metadata: {why}")))?;
        list.push(answer);
    }
    Ok(list)
}

/// 500, with a sentence and nothing else.
fn told(why: String) -> Status {
    let mut status = Status::failure(Reason::Unknown, why);
    status.code = 500;
    status
}

/// What Go calls the type of a value, or JSON its kind.
fn go_type(value: &Value, json: bool) -> &'static str {
    match (value, json) {
        (Value::Null, true) => "null",
        (Value::Null, false) => "<nil>",
        (Value::Bool(_), _) => "bool",
        (Value::Number(_), true) => "number",
        (Value::Number(number), false) if number.is_f64() => "float64",
        (Value::Number(_), false) => "int64",
        (Value::String(_), _) => "string",
        (Value::Array(_), true) => "array",
        (Value::Array(_), false) => "[]interface {}",
        (Value::Object(_), true) => "object",
        (Value::Object(_), false) => "map[string]interface {}",
    }
}

/// An answer as JSON. Errors: a sentence.
fn read_review(bytes: &[u8]) -> Result<Value, String> {
    if let Ok(review @ Value::Object(_)) = serde_json::from_slice(bytes) {
        return Ok(review);
    }
    // YAML would do.
    let document = yaml::read(bytes).map_err(|error| format!("yaml: {error}"))?;
    match strata_schema::identify(document.value.to_string().as_bytes()) {
        Ok(_) => Ok(document.value),
        Err(why) => Err(why.to_string()),
    }
}

/// Whether an answer is a review of the version that was asked in. Errors: a sentence.
fn check_kind(answer: &Value, review: &str) -> Result<(), String> {
    let (version, kind) = (json::text(answer, "apiVersion"), json::text(answer, "kind"));
    if kind != "ConversionReview" && !kind.is_empty() {
        return Err(format!(
            "no kind {kind:?} is registered for version {version:?} in scheme \"pkg/runtime/scheme.go:111\""
        ));
    }
    match version.strip_prefix("apiextensions.k8s.io/") {
        Some(found @ ("v1" | "v1beta1")) if found != review => Err(format!(
            "converting ({found}.ConversionReview) to ({review}.ConversionReview): unknown conversion"
        )),
        _ => Ok(()),
    }
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
    let answer = Box::pin(flow::parked(core.webhooks.post(
        core,
        config,
        "timeout=30s",
        body.into(),
        TIMEOUT,
    )))
    .await;
    // It is the client's own limit that was met, and Go's client says so.
    let answer = answer.map_err(|e| {
        let why = e.to_string();
        match why.strip_suffix(": context deadline exceeded") {
            Some(begun) => {
                format!("{begun}: net/http: request canceled (Client.Timeout exceeded while awaiting headers)")
            }
            None => why,
        }
    })?;
    let mut answer = read_review(&answer)?;
    check_kind(&answer, review)?;
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
            " at index 0: invalid groupVersion (expected {}, received {found})",
            wanted.api_version()
        ));
    }
    let found = json::text(converted, "kind");
    if found != wanted.kind {
        return Err(format!(
            " at index 0: invalid kind (expected {}, received {found})",
            wanted.kind
        ));
    }
    for (path, what) in [
        ("metadata.name", "name"),
        ("metadata.namespace", "namespace"),
        ("metadata.uid", "UID"),
    ] {
        let (before, after) = (json::text(original, path), json::text(converted, path));
        if before != after {
            return Err(format!(": must have the same {what}: {before} != {after}"));
        }
    }
    Ok(())
}

/// Of the metadata only labels and annotations may change.
fn restore_metadata(original: &Value, converted: &mut Value) -> Result<(), String> {
    let answered = match converted.get_mut("metadata").map(Value::take) {
        Some(Value::Object(map)) => map,
        Some(other) => {
            let found = go_type(&other, false);
            return Err(format!("invalid metadata of type {found} in converted object"));
        }
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
                if let Some((key, other)) = map.iter().find(|(_, v)| !v.is_string()) {
                    let found = go_type(other, false);
                    return Err(format!(
                        "metadata.{name}[{key}] must be a string, but is {found} in converted object"
                    ));
                }
                if metadata.get(name) != answered.get(name) {
                    check_texts(name, map)?;
                }
                metadata.insert(name.to_owned(), Value::Object(map.clone()));
            }
            Some(other) => {
                let found = go_type(other, false);
                return Err(format!("invalid metadata.{name} of type {found} in converted object"));
            }
        }
    }
    converted["metadata"] = Value::Object(metadata);
    Ok(())
}

/// Changed labels and annotations are as they may be.
fn check_texts(name: &str, map: &Map<String, Value>) -> Result<(), String> {
    let mut causes = Vec::new();
    let texts = Value::Object(map.clone());
    let texts = Field::root(&texts);
    // Upstream names the annotations so.
    match name {
        "labels" => formats::labels(&texts.named("metadata.labels"), &mut causes),
        _ => formats::annotations(&texts.named("metadata.annotation"), &mut causes),
    }
    let sentences: Vec<String> = causes.iter().map(|c| format!("{}: {}", c.field, c.message)).collect();
    match sentences.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        many => Err(format!("[{}]", many.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(original: &Value, mut answer: Value) -> Result<Value, String> {
        let wanted = GroupVersionKind::new("example.com", "v2", "Gear");
        check(original, &answer, &wanted)?;
        restore_metadata(original, &mut answer)?;
        Ok(answer)
    }

    #[test]
    fn of_an_answer_only_labels_annotations_and_content_are_believed() {
        let original = json!({"apiVersion": "example.com/v1", "kind": "Gear",
            "metadata": {"name": "a", "uid": "u", "generation": 3, "labels": {"x": "y"}}});
        let answer = |metadata: Value| json!({"apiVersion": "example.com/v2", "kind": "Gear", "metadata": metadata});
        let told = answer(json!({"name": "a", "uid": "u", "generation": 9, "annotations": {"c": "d"}}));
        let kept = json!({"name": "a", "uid": "u", "generation": 3, "annotations": {"c": "d"}});
        assert_eq!(checked(&original, told).expect("converted")["metadata"], kept);
        for (metadata, why) in [
            (json!({"name": "b", "uid": "u"}), ": must have the same name: a != b"),
            (json!({"name": "a", "uid": "v"}), ": must have the same UID: u != v"),
            (
                json!({"name": "a", "uid": "u", "labels": {"a": 1}}),
                "metadata.labels[a] must be a string, but is int64 in converted object",
            ),
            (
                json!({"name": "a", "uid": "u", "labels": "x"}),
                "invalid metadata.labels of type string in converted object",
            ),
        ] {
            assert_eq!(checked(&original, answer(metadata)).expect_err(why), why);
        }
        let bad = answer(json!({"name": "a", "uid": "u", "labels": {"a b": "x"}}));
        let why = checked(&original, bad).expect_err("no label");
        assert!(why.starts_with("metadata.labels: Invalid value: \"a b\": "), "{why}");
        let other = json!({"apiVersion": "example.com/v9", "kind": "Gear", "metadata": {"name": "a"}});
        let why = " at index 0: invalid groupVersion (expected example.com/v2, received example.com/v9)";
        assert_eq!(checked(&original, other).expect_err(why), why);
    }

    #[test]
    fn what_is_no_review_is_told_as_upstreams_decoder_tells_it() {
        let why = read_review(b"<html>").expect_err("no review");
        assert!(
            why.starts_with("couldn't get version/kind; json parse error: json: cannot unmarshal string"),
            "{why}"
        );
        let pod = json!({"apiVersion": "v1", "kind": "Pod"});
        let why = check_kind(&pod, "v1").expect_err("no review");
        assert!(
            why.starts_with("no kind \"Pod\" is registered for version \"v1\""),
            "{why}"
        );
        let old = json!({"apiVersion": "apiextensions.k8s.io/v1beta1", "kind": "ConversionReview"});
        let why = "converting (v1beta1.ConversionReview) to (v1.ConversionReview): unknown conversion";
        assert_eq!(check_kind(&old, "v1").expect_err(why), why);
    }
}
