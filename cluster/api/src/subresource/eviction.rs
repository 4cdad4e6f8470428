//! pods/eviction: a deletion that disruption budgets may refuse.

use crate::{
    admission::{self, Operation, Request},
    codec::{FieldValidation, body_media, decode_body, read_body},
    encode::value_response,
    json,
    pipeline::Call,
    registry::Row,
    verbs::{Change, DeleteOptions, Part, WriteOptions, apply_change, delete_object, find},
};
use http::Response;
use serde_json::{Value, json};
use std::sync::Arc;
use strata_http::Body;
use strata_meta::{GroupVersionKind, LabelSelector, Object, Reason, Status, StatusCause, Time};

pub(super) async fn serve(call: &mut Call, row: &Arc<Row>, body: Body) -> Result<Response<Body>, Status> {
    let form = call.form()?;
    let gvk = GroupVersionKind::new("policy", "v1", "Eviction");
    let media = body_media(&call.headers)?;
    let bytes = read_body(body).await?;
    let eviction = decode_body(&gvk, media, &bytes, FieldValidation::Ignore, &mut call.warnings)?;
    let (namespace, name) = (call.info.namespace.clone(), call.info.name.clone());
    let stated = json::text(&eviction, "metadata.name");
    if !stated.is_empty() && stated != name {
        return Err(Status::bad_request(
            "name in URL does not match name in Eviction object",
        ));
    }
    let mut options = DeleteOptions::from_value(json::get(&eviction, "deleteOptions").unwrap_or(&json!({})))?;
    options.dry_run |= WriteOptions::read(call, "CreateOptions")?.dry_run;
    let pod = find(row, &namespace, &name)?;
    let value = pod.to_value().map_err(Status::internal)?;
    admission::nodes::eviction(&call.user, &value)?;
    let request = Request::new(&call.core, &call.user, row, Operation::Create, (&namespace, &name))
        .on("eviction")
        .dry(options.dry_run);
    admission::admit(&request, eviction, None, &mut call.warnings).await?;
    if !budget_free(&value) {
        take_from_budget(call, &pod, &value, options.dry_run).await?;
    }
    delete_object(
        &call.core,
        &call.user,
        row,
        &namespace,
        &name,
        &options,
        &mut call.warnings,
    )
    .await?;
    let success = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    Ok(value_response(201, &success, form))
}

/// Pods that have finished, were never started or are going anyway disturb nobody.
fn budget_free(pod: &Value) -> bool {
    matches!(json::text(pod, "status.phase"), "Succeeded" | "Failed" | "Pending")
        || json::get(pod, "metadata.deletionTimestamp").is_some()
}

async fn take_from_budget(call: &Call, pod: &Object, value: &Value, dry_run: bool) -> Result<(), Status> {
    let budgets: Vec<Value> = call
        .core
        .resource("policy", "poddisruptionbudgets")
        .objects(Some(pod.namespace()))
        .filter_map(|o| o.to_value().ok())
        .filter(|budget| selects(budget, pod))
        .collect();
    let budget = match budgets.as_slice() {
        [] => return Ok(()),
        [one] => one,
        _ => {
            return Err(Status::internal(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            ));
        }
    };
    let name = json::text(budget, "metadata.name").to_owned();
    let ready = json::list(value, "status.conditions")
        .iter()
        .any(|c| json::text(c, "type") == "Ready" && json::text(c, "status") == "True");
    if !ready {
        let always = json::text(budget, "spec.unhealthyPodEvictionPolicy") == "AlwaysAllow";
        let healthy = json::int(budget, "status.currentHealthy").unwrap_or(0)
            >= json::int(budget, "status.desiredHealthy").unwrap_or(0);
        if always || (healthy && json::int(budget, "status.desiredHealthy").unwrap_or(0) > 0) {
            return Ok(());
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
        manager: None,
    };
    apply_change(&change, &mut Vec::new(), |budget, _| disrupted(budget, pod.name())).await?;
    Ok(())
}

fn selects(budget: &Value, pod: &Object) -> bool {
    let selector =
        json::get(budget, "spec.selector").and_then(|s| serde_json::from_value::<LabelSelector>(s.clone()).ok());
    selector
        .and_then(|s| s.to_selector().ok())
        .is_some_and(|s| s.matches_object(pod))
}

fn disrupted(budget: &Value, pod: &str) -> Result<Value, Status> {
    let name = json::text(budget, "metadata.name");
    let refuse = |why: String, seconds: i32| {
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
        Err(status)
    };
    if json::int(budget, "status.observedGeneration").unwrap_or(0)
        < json::int(budget, "metadata.generation").unwrap_or(0)
    {
        return refuse(
            format!("The disruption budget {name} is still being processed by the server."),
            10,
        );
    }
    let allowed = json::int(budget, "status.disruptionsAllowed").unwrap_or(0);
    if allowed <= 0 {
        let (needed, have) = (
            json::int(budget, "status.desiredHealthy").unwrap_or(0),
            json::int(budget, "status.currentHealthy").unwrap_or(0),
        );
        return refuse(
            format!("The disruption budget {name} needs {needed} healthy pods and has {have} currently"),
            0,
        );
    }
    let mut new = budget.clone();
    json::remove(&mut new, "metadata.resourceVersion");
    json::set(&mut new, "status.disruptionsAllowed", allowed - 1);
    json::object_mut(&mut new, "status.disruptedPods").insert(pod.to_owned(), json!(Time::now()));
    Ok(new)
}
