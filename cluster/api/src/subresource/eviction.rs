//! pods/eviction: a deletion that disruption budgets may refuse.

use crate::{
    admission::{self, Operation, Request},
    codec::{BodyMedia, FieldValidation, body_media, decode_body, read_body},
    encode::value_response,
    json,
    pipeline::Call,
    registry::Row,
    tracking,
    verbs::{Change, DeleteOptions, Part, WriteOptions, apply_change, delete_object, find},
};
use http::Response;
use serde_json::{Value, json};
use std::sync::Arc;
use strata_http::Body;
use strata_meta::{GroupResource, GroupVersionKind, LabelSelector, Object, Reason, Status, StatusCause, Time};

/// Pods that a budget remembers as evicted and not yet gone; beyond that its controller does not keep up.
const MOST_DISRUPTED: usize = 2000;
/// Changes of a pod during its eviction that are answered by looking again.
const ATTEMPTS: usize = 20;

pub(super) async fn serve(call: &mut Call, row: &Arc<Row>, body: Body) -> Result<Response<Body>, Status> {
    let form = call.form()?;
    WriteOptions::read(call, "CreateOptions")?;
    let media = body_media(&call.headers)?;
    let bytes = read_body(body).await?;
    let gvk = GroupVersionKind::new("policy", stated_version(media, &bytes), "Eviction");
    let eviction = decode_body(&gvk, media, &bytes, FieldValidation::Ignore, &mut call.warnings)?;
    let (namespace, name) = (call.info.namespace.clone(), call.info.name.clone());
    if json::text(&eviction, "metadata.name") != name {
        return Err(Status::bad_request(
            "name in URL does not match name in Eviction object",
        ));
    }
    let options = options(call, &eviction, &name)?;
    let request = Request::new(&call.core, &call.user, row, Operation::Create, (&namespace, &name))
        .on("eviction")
        .dry(options.dry_run);
    let pod = find(row, &namespace, &name);
    admission::admit(&request, eviction, None, &mut call.warnings).await?;
    evict(call, row, &pod?, options).await?;
    let success = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    Ok(value_response(201, &success, form))
}

/// Clients of old still name the version before.
fn stated_version(media: BodyMedia, bytes: &[u8]) -> &'static str {
    let api_version = match media {
        BodyMedia::Protobuf => strata_schema::protobuf::open(bytes).map(|envelope| envelope.api_version),
        _ => strata_schema::identify(bytes).map(|identity| identity.api_version),
    };
    if api_version.is_ok_and(|version| version == "policy/v1beta1") {
        "v1beta1"
    } else {
        "v1"
    }
}

/// How the pod is to be deleted. Errors: 422, and 500 where body and query disagree about what is dry.
fn options(call: &Call, eviction: &Value, name: &str) -> Result<DeleteOptions, Status> {
    let mut wanted = json::get(eviction, "deleteOptions")
        .cloned()
        .unwrap_or_else(|| json!({}));
    if json::flag(&wanted, "ignoreStoreReadErrorWithClusterBreakingPotential") {
        let field = "deleteOptions.ignoreStoreReadErrorWithClusterBreakingPotential";
        let why = "can not be set for pod eviction, try after removing the option";
        let kind = GroupVersionKind::new("policy", "v1", "Eviction").group_kind();
        return Err(Status::invalid(
            &kind,
            name,
            vec![StatusCause::invalid(field, true, why)],
        ));
    }
    let dry_run = WriteOptions::read(call, "CreateOptions")?.dry_run;
    let stated = json::list(&wanted, "dryRun");
    if dry_run && !stated.is_empty() && !stated.iter().all(|word| word == "All") {
        let words: Vec<&str> = stated.iter().filter_map(Value::as_str).collect();
        let all: Vec<&str> = call.query.all("dryRun").collect();
        let (all, words) = (all.join(" "), words.join(" "));
        return Err(bare(format!(
            "Non-matching dry-run options in request and content: [{all}] and [{words}]"
        )));
    }
    if dry_run {
        json::set(&mut wanted, "dryRun", json!(["All"]));
    }
    DeleteOptions::from_value(&wanted)
}

/// A failure without a reason: an error that upstream does not make a status of.
fn bare(why: String) -> Status {
    let mut status = Status::failure(Reason::Unknown, why);
    status.code = 500;
    status
}

async fn evict(call: &mut Call, row: &Arc<Row>, pod: &Arc<Object>, mut options: DeleteOptions) -> Result<(), Status> {
    let mut pod = pod.clone();
    for _ in 0..ATTEMPTS {
        let value = pod.to_value().map_err(Status::internal)?;
        if !budget_free(&value) {
            break;
        }
        let mut guarded = options.clone();
        let waits = json::text(&value, "status.phase") == "Pending";
        if waits && json::get(&value, "metadata.deletionTimestamp").is_none() {
            // It may become ready any moment, and count.
            guarded.resource_version.get_or_insert_with(|| pod.revision.to_string());
        }
        match delete(call, row, &pod, &guarded).await {
            Err(status) if status.is_conflict() && options.resource_version.is_none() => {
                pod = find(row, pod.namespace(), pod.name())?;
            }
            other => return other,
        }
    }
    let value = pod.to_value().map_err(Status::internal)?;
    match take_from_budget(call, &pod, &value, options.dry_run).await? {
        Budget::Spared(name) if options.resource_version.is_none() => {
            options.resource_version = Some(pod.revision.to_string());
            match delete(call, row, &pod, &options).await {
                // It has become ready since, so that the budget counts after all.
                Err(status) if status.is_conflict() => Err(not_yet(&name)),
                other => other,
            }
        }
        Budget::Spared(_) | Budget::Settled => delete(call, row, &pod, &options).await,
    }
}

/// Says in the pod why it goes, and deletes it.
async fn delete(call: &mut Call, row: &Arc<Row>, pod: &Object, options: &DeleteOptions) -> Result<(), Status> {
    let (namespace, name) = (pod.namespace(), pod.name());
    let mut options = options.clone();
    if !options.dry_run {
        let change = Change {
            manager: None,
            ..Change::own(&call.core, &call.user, row, (namespace, name), Part::Internal)
        };
        let wanted = options.clone();
        let marked = apply_change(&change, &mut Vec::new(), |pod, _| marked(pod, &wanted)).await?;
        if options.resource_version.is_some() {
            options.resource_version = Some(marked.revision.to_string());
        }
    }
    delete_object(
        &call.core,
        &call.user,
        row,
        namespace,
        name,
        &options,
        &mut call.warnings,
    )
    .await?;
    Ok(())
}

fn marked(pod: &Value, options: &DeleteOptions) -> Result<Value, Status> {
    let resource = GroupResource::new("", "Pod");
    let name = json::text(pod, "metadata.name");
    let (uid, revision) = (
        json::text(pod, "metadata.uid"),
        json::text(pod, "metadata.resourceVersion"),
    );
    if let Some(wanted) = options
        .uid
        .as_deref()
        .filter(|wanted| !wanted.is_empty() && *wanted != uid)
    {
        let why = format!(
            "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). The object might have been deleted and then recreated"
        );
        return Err(Status::conflict(&resource, name, why));
    }
    let stated = options.resource_version.as_deref();
    if let Some(wanted) = stated.filter(|wanted| !wanted.is_empty() && *wanted != revision) {
        let why = format!(
            "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record ({revision}). The object might have been modified"
        );
        return Err(Status::conflict(&resource, name, why));
    }
    let mut new = pod.clone();
    json::remove(&mut new, "metadata.resourceVersion");
    set_condition(
        &mut new,
        &json!({"type": "DisruptionTarget", "status": "True", "lastProbeTime": null,
        "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting"}),
    );
    Ok(new)
}

/// Sets a condition of a pod; the moment of its transition stays where its status does.
pub(super) fn set_condition(pod: &mut Value, condition: &Value) {
    let mut wanted = condition.clone();
    let list = json::object_mut(pod, "status")
        .entry("conditions")
        .or_insert_with(|| json!([]));
    let Some(list) = list.as_array_mut() else { return };
    let kind = json::text(condition, "type");
    let found = list.iter_mut().find(|present| json::text(present, "type") == kind);
    let since = found
        .as_ref()
        .filter(|present| json::text(present, "status") == json::text(condition, "status"))
        .and_then(|present| present.get("lastTransitionTime").cloned());
    wanted["lastTransitionTime"] = since.unwrap_or_else(|| json!(Time::now()));
    match found {
        Some(present) => *present = wanted,
        None => list.push(wanted),
    }
}

/// Pods that have finished, were never started or are going anyway disturb nobody.
fn budget_free(pod: &Value) -> bool {
    matches!(json::text(pod, "status.phase"), "Succeeded" | "Failed" | "Pending")
        || json::get(pod, "metadata.deletionTimestamp").is_some()
}

/// What a budget has to do with a pod.
enum Budget {
    /// Nothing, or the pod has been taken from it.
    Settled,
    /// The pod does not count in the budget of this name, as it is not ready.
    Spared(String),
}

async fn take_from_budget(call: &Call, pod: &Object, value: &Value, dry_run: bool) -> Result<Budget, Status> {
    let budgets: Vec<Value> = call
        .core
        .resource("policy", "poddisruptionbudgets")
        .objects(Some(pod.namespace()))
        .filter_map(|o| o.to_value().ok())
        .filter(|budget| selects(budget, pod))
        .collect();
    let budget = match budgets.as_slice() {
        [] => return Ok(Budget::Settled),
        [one] => one,
        _ => {
            let why =
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err(bare(why.to_owned()));
        }
    };
    let name = json::text(budget, "metadata.name").to_owned();
    let ready = json::list(value, "status.conditions")
        .iter()
        .any(|c| json::text(c, "type") == "Ready" && json::text(c, "status") == "True");
    if !ready {
        let always = json::text(budget, "spec.unhealthyPodEvictionPolicy") == "AlwaysAllow";
        let count = |path| json::int(budget, path).unwrap_or(0);
        let desired = count("status.desiredHealthy");
        if always || (count("status.currentHealthy") >= desired && desired > 0) {
            return Ok(Budget::Spared(name));
        }
    }
    let row = call
        .core
        .registry
        .get("policy", "v1", "poddisruptionbudgets")
        .ok_or_else(Status::path_not_found)?;
    let change = Change {
        core: &call.core,
        user: &call.user,
        row: &row,
        namespace: pod.namespace(),
        name: &name,
        part: Part::Internal,
        subresource: "status",
        dry_run,
        demands_revision: false,
        manager: Some(tracking::SERVER),
    };
    apply_change(&change, &mut Vec::new(), |budget, _| disrupted(budget, pod.name())).await?;
    Ok(Budget::Settled)
}

fn selects(budget: &Value, pod: &Object) -> bool {
    let selector =
        json::get(budget, "spec.selector").and_then(|s| serde_json::from_value::<LabelSelector>(s.clone()).ok());
    selector
        .and_then(|s| s.to_selector().ok())
        .is_some_and(|s| s.matches_object(pod))
}

fn refused(why: String, seconds: i32) -> Status {
    let mut status = Status::too_many_requests(
        "Cannot evict pod as it would violate the pod's disruption budget.",
        seconds,
    );
    status.reason = Reason::TooManyRequests;
    if let Some(details) = &mut status.details {
        details.causes.push(StatusCause {
            reason: "DisruptionBudget".into(),
            message: why,
            field: String::new(),
        });
    }
    status
}

fn not_yet(budget: &str) -> Status {
    refused(
        format!("The disruption budget {budget} is still being processed by the server."),
        10,
    )
}

/// The budget with one disruption less. Errors: 403 where its numbers cannot be trusted, 429 where it allows none.
fn disrupted(budget: &Value, pod: &str) -> Result<Value, Status> {
    let name = json::text(budget, "metadata.name");
    let count = |path| json::int(budget, path).unwrap_or(0);
    if count("status.observedGeneration") < count("metadata.generation") {
        return Err(not_yet(name));
    }
    let allowed = count("status.disruptionsAllowed");
    let resource = GroupResource::new("policy", "poddisruptionbudget");
    if allowed < 0 {
        return Err(Status::forbidden(
            &resource,
            name,
            "pdb disruptions allowed is negative",
        ));
    }
    if json::members(budget, "status.disruptedPods").count() > MOST_DISRUPTED {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(Status::forbidden(&resource, name, why));
    }
    if allowed == 0 {
        return Err(refused(why_none(budget), 0));
    }
    let mut new = budget.clone();
    json::remove(&mut new, "metadata.resourceVersion");
    json::set(&mut new, "status.disruptionsAllowed", allowed - 1);
    json::object_mut(&mut new, "status.disruptedPods").insert(pod.to_owned(), json!(Time::now()));
    if allowed == 1 {
        let observed = count("status.observedGeneration");
        let condition = json!({"type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods",
            "message": "", "observedGeneration": observed});
        set_condition(&mut new, &condition);
    }
    Ok(new)
}

/// Why a budget allows no disruption. Its numbers mean nothing where its controller has failed.
fn why_none(budget: &Value) -> String {
    let name = json::text(budget, "metadata.name");
    let count = |path| json::int(budget, path).unwrap_or(0);
    let (needed, have) = (count("status.desiredHealthy"), count("status.currentHealthy"));
    let condition = json::list(budget, "status.conditions")
        .iter()
        .find(|c| json::text(c, "type") == "DisruptionAllowed")
        .filter(|c| json::text(c, "status") == "False" && !json::text(c, "message").is_empty());
    let part = |name| condition.map_or("", |c| json::text(c, name));
    let (reason, message) = (part("reason"), part("message"));
    if reason == "SyncFailed" {
        return format!(
            "The disruption budget {name} does not allow evicting pods currently because it failed sync: {message}"
        );
    }
    if have <= needed {
        return format!("The disruption budget {name} needs {needed} healthy pods and has {have} currently");
    }
    let because = match condition {
        Some(_) => format!(" ({reason}): {message}"),
        None => String::new(),
    };
    format!("The disruption budget {name} does not allow evicting pods currently{because}")
}
