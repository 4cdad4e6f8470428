//! Compares server-side apply and the account of managers with what the upstream Go libraries make
//! of the same writes (see `tests/golden/`).

use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::HashMap;
use std::process::Command;
use std::sync::Arc;
use strata_meta::{GroupVersion, GroupVersionKind, Time};
use strata_schema::apply::{self, ApplyError, BuiltinKind, CustomKind, Filter, Kind, Write};
use strata_schema::decode_value;
use strata_schema::structural::Structural;

#[derive(serde::Deserialize)]
struct Case {
    name: String,
    kind: String,
    /// Of a kind that is this case's own.
    #[serde(default)]
    schema: Option<Value>,
    steps: Vec<Step>,
}

#[derive(serde::Deserialize)]
struct Step {
    operation: String,
    manager: String,
    #[serde(default)]
    force: bool,
    #[serde(default)]
    subresource: String,
    object: Value,
    #[serde(default)]
    result: Value,
    #[serde(default)]
    error: String,
    #[serde(default)]
    causes: Vec<String>,
}

#[derive(serde::Deserialize)]
struct Custom {
    kind: String,
    schema: Value,
}

fn folder() -> String {
    format!("{}/../../tests/golden", env!("CARGO_MANIFEST_DIR"))
}

fn answers<T: DeserializeOwned>(name: &str) -> Vec<T> {
    let path = format!("{}/golden/{name}", folder());
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// `apps/v1 Deployment`.
fn parse_kind(text: &str) -> GroupVersionKind {
    let (version, kind) = text.split_once(' ').expect("version and kind");
    GroupVersion::parse(version).expect("valid").kind(kind)
}

/// The kinds that cases are about.
#[derive(Default)]
struct Kinds(HashMap<String, Arc<dyn Kind>>);

impl Kinds {
    fn get(&mut self, text: &str, own: Option<&Value>) -> Arc<dyn Kind> {
        let made = || -> Arc<dyn Kind> {
            let gvk = parse_kind(text);
            if let Some(schema) = own {
                let schema = Arc::new(Structural::parse(schema));
                return Arc::new(CustomKind::new(&gvk, &schema, Vec::new()));
            }
            let custom = answers::<Custom>("custom.json")
                .into_iter()
                .find(|custom| custom.kind == text);
            match custom {
                Some(custom) => {
                    let schema = Arc::new(Structural::parse(&custom.schema));
                    Arc::new(CustomKind::new(&gvk, &schema, Vec::new()))
                }
                None => Arc::new(BuiltinKind::new(&gvk).expect("known")),
            }
        };
        self.0.entry(text.to_owned()).or_insert_with(made).clone()
    }
}

/// Managed fields in the order of the answers, and one time for all entries that have any.
fn without_times(mut object: Value) -> Value {
    let entries = object
        .pointer_mut("/metadata/managedFields")
        .and_then(Value::as_array_mut);
    if let Some(entries) = entries {
        entries.sort_by_key(|entry| {
            let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
            [
                text("manager"),
                text("operation"),
                text("apiVersion"),
                text("subresource"),
            ]
            .join("/")
        });
    }
    object
}

/// The body of an update as the server has it decoded.
fn decoded(kind: &dyn Kind, live: Option<&Value>, object: &Value) -> Value {
    let gvk = kind.gvk();
    let mut new = match kind.changes() {
        true => object.clone(),
        false => decode_value(gvk, object.clone()).expect("valid").value,
    };
    new["apiVersion"] = gvk.api_version().into();
    new["kind"] = gvk.kind.clone().into();
    // A client that reads before it writes sends the entries back.
    let entries = live
        .map(|live| live["metadata"]["managedFields"].clone())
        .unwrap_or_default();
    if new["metadata"].get("managedFields").is_none() && !entries.is_null() {
        new["metadata"]["managedFields"] = entries;
    }
    new
}

/// What a step makes of the object, or the error and its causes.
fn carry_out(write: &Write<'_>, live: Option<&Value>, step: &Step) -> Result<Value, (String, Vec<String>)> {
    let outcome = match step.operation.as_str() {
        "apply" => {
            let mut config = step.object.clone();
            config["apiVersion"] = write.kind.gvk().api_version().into();
            config["kind"] = write.kind.gvk().kind.clone().into();
            apply::apply(write, live, &config, step.force)
        }
        "set" => Ok(decoded(write.kind, None, &step.object)),
        _ => {
            let new = decoded(write.kind, live, &step.object);
            apply::update(write, live, new).map_err(|(why, _)| ApplyError::Invalid(why))
        }
    };
    outcome.map_err(|error| match error {
        ApplyError::Conflict { message, causes } => {
            let mut causes: Vec<String> = causes
                .iter()
                .map(|cause| format!("{}: {}", cause.field, cause.message))
                .collect();
            causes.sort();
            (ordered(&message, causes.len()), causes)
        }
        other => (other.to_string(), Vec::new()),
    })
}

/// As the answers do for custom resources.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Lines after the first in the order of the answers.
fn ordered(message: &str, causes: usize) -> String {
    let mut lines: Vec<&str> = message.split('\n').collect();
    if causes > 1 {
        lines[1..].sort_unstable();
    }
    lines.join("\n")
}

/// Every difference from the answers.
fn differences(cases: &[Case]) -> Vec<String> {
    let mut kinds = Kinds::default();
    cases
        .iter()
        .filter_map(|case| difference(case, &*kinds.get(&case.kind, case.schema.as_ref())))
        .collect()
}

/// The first difference from the answers of a case.
fn difference(case: &Case, kind: &dyn Kind) -> Option<String> {
    let (main, status) = (Filter::without(&[&["status"]]), Filter::without(&[&["spec"]]));
    let mut live: Option<Value> = None;
    for (at, step) in case.steps.iter().enumerate() {
        let write = Write {
            kind,
            manager: &step.manager,
            subresource: &step.subresource,
            filter: if step.subresource == "status" { &status } else { &main },
            now: Time::from_second(0),
        };
        let ours = carry_out(&write, live.as_ref(), step);
        let differs = |ours: &dyn std::fmt::Display| {
            let before = live.as_ref().map(Value::to_string).unwrap_or_default();
            Some(format!(
                "{} [{at}] {} by {:?} of {}\n  to   {before}\n  go   {}{}\n  ours {ours}",
                case.name, step.operation, step.manager, step.object, step.error, step.result
            ))
        };
        match ours {
            Ok(mut object) if step.error.is_empty() => {
                object["metadata"]["uid"] = "u".into();
                if kind.changes() {
                    drop_nulls(&mut object);
                }
                if without_times(object.clone()) != step.result {
                    return differs(&without_times(object));
                }
                live = Some(object);
            }
            Ok(object) => return differs(&object),
            Err((error, causes)) if error != step.error || causes != step.causes => {
                return differs(&format!("{error} {causes:?} instead of {:?}", step.causes));
            }
            Err(_) => {}
        }
    }
    None
}

fn report(differences: Vec<String>) {
    let shown: Vec<&str> = differences.iter().take(9).map(String::as_str).collect();
    assert!(
        differences.is_empty(),
        "{} differences, among them:\n{}",
        differences.len(),
        shown.join("\n")
    );
}

#[test]
fn configurations_apply_as_the_go_library_applies_them() {
    report(differences(&answers::<Case>("apply.json")));
}

#[test]
fn random_sequences_of_writes_end_as_with_the_go_library() {
    report(differences(&answers::<Case>("apply-random.json")));
}

/// With Go, sequences that nobody has seen before; their seed is in the name of what differs.
#[test]
fn new_random_sequences_end_as_with_the_go_library() {
    let has_go = Command::new("go")
        .arg("version")
        .output()
        .is_ok_and(|out| out.status.success());
    if !has_go {
        return;
    }
    let seed = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970");
    let seed = std::env::var("GOLDEN_SEED").unwrap_or_else(|_| seed.as_secs().to_string());
    let count = std::env::var("GOLDEN_COUNT").unwrap_or_else(|_| "300".to_owned());
    let run = Command::new("go")
        .args(["run", ".", "random", &seed, &count])
        .env("GOPROXY", "off")
        .current_dir(folder())
        .output()
        .expect("go runs");
    // Without the modules at hand there is nothing to compare with.
    if !run.status.success() {
        eprintln!("go run: {}", String::from_utf8_lossy(&run.stderr));
        return;
    }
    let cases: Vec<Case> = serde_json::from_slice(&run.stdout).expect("answers");
    report(differences(&cases));
}
