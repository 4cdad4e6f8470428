//! pods/binding: the scheduler's decision.

use crate::{
    admission::{self, Operation, Request},
    codec::{FieldValidation, body_media, decode_body, read_body},
    encode::value_response,
    json,
    pipeline::Call,
    registry::Row,
    verbs::{Change, Part, WriteOptions, apply_change},
};
use http::Response;
use serde_json::{Value, json};
use std::sync::Arc;
use strata_http::Body;
use strata_meta::{GroupVersionKind, Status, StatusCause, Time};

pub(super) async fn serve(call: &mut Call, row: &Arc<Row>, body: Body) -> Result<Response<Body>, Status> {
    let gvk = GroupVersionKind::new("", "v1", "Binding");
    let media = body_media(&call.headers)?;
    let bytes = read_body(body).await?;
    let binding = decode_body(&gvk, media, &bytes, FieldValidation::Ignore, &mut call.warnings)?;
    let name = call.info.name.clone();
    let stated = json::text(&binding, "metadata.name");
    if !stated.is_empty() && stated != name {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    let options = WriteOptions::read(call, "CreateOptions")?;
    let namespace = call.info.namespace.clone();
    let request = Request::new(&call.core, &call.user, row, Operation::Create, (&namespace, &name))
        .on("binding")
        .dry(options.dry_run);
    let binding = admission::admit(&request, binding, None, &mut call.warnings).await?;
    bind(call, &name, &binding).await
}

/// Puts a pod on a node. Errors: 409 when it is bound already.
pub(crate) async fn bind(call: &mut Call, name: &str, binding: &Value) -> Result<Response<Body>, Status> {
    let form = call.form()?;
    let options = WriteOptions::read(call, "CreateOptions")?;
    let node = json::text(binding, "target.name").to_owned();
    let kind = json::text(binding, "target.kind");
    let mut causes = Vec::new();
    if !matches!(kind, "" | "Node") {
        causes.push(StatusCause::not_supported("target.kind", kind, &["Node", "<empty>"]));
    }
    if node.is_empty() {
        causes.push(StatusCause::required("target.name", ""));
    }
    let binding_kind = GroupVersionKind::new("", "v1", "Binding").group_kind();
    if !causes.is_empty() {
        return Err(Status::invalid(&binding_kind, name, causes));
    }
    let row = call
        .core
        .registry
        .get("", "v1", "pods")
        .ok_or_else(Status::path_not_found)?;
    let namespace = call.info.namespace.clone();
    let uid = json::text(binding, "metadata.uid").to_owned();
    let change = Change {
        core: &call.core,
        user: &call.user,
        row: &row,
        namespace: &namespace,
        name,
        part: Part::Internal,
        subresource: "binding",
        dry_run: options.dry_run,
        demands_revision: false,
        manager: None,
    };
    apply_change(&change, &mut Vec::new(), |pod, _| {
        let refuse = |why: String| Err(Status::conflict(&row.resource, name, why));
        if !uid.is_empty() && json::text(pod, "metadata.uid") != uid {
            let have = json::text(pod, "metadata.uid");
            return refuse(format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {have}"
            ));
        }
        if json::get(pod, "metadata.deletionTimestamp").is_some() {
            return refuse(format!("pod {name} is being deleted, cannot be assigned to a host"));
        }
        let bound = json::text(pod, "spec.nodeName");
        if !bound.is_empty() {
            return refuse(format!("pod {name} is already assigned to node {bound:?}"));
        }
        if !json::list(pod, "spec.schedulingGates").is_empty() {
            return refuse(format!("pod {name} has non-empty .spec.schedulingGates"));
        }
        Ok(bound_pod(pod, &node, binding))
    })
    .await?;
    Ok(value_response(
        201,
        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}),
        form,
    ))
}

fn bound_pod(pod: &Value, node: &str, binding: &Value) -> Value {
    let mut new = pod.clone();
    json::remove(&mut new, "metadata.resourceVersion");
    json::set(&mut new, "spec.nodeName", node);
    for (key, value) in json::members(binding, "metadata.annotations") {
        json::object_mut(&mut new, "metadata.annotations").insert(key.clone(), value.clone());
    }
    for (key, value) in json::members(binding, "metadata.labels") {
        json::object_mut(&mut new, "metadata.labels")
            .entry(key.clone())
            .or_insert_with(|| value.clone());
    }
    let condition = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": Time::now(),
        "observedGeneration": json::int(pod, "metadata.generation")});
    let conditions = json::object_mut(&mut new, "status")
        .entry("conditions")
        .or_insert_with(|| json!([]));
    if let Some(list) = conditions.as_array_mut() {
        list.retain(|c| json::text(c, "type") != "PodScheduled");
        list.push(condition);
    }
    new
}
