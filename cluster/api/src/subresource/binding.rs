//! pods/binding: the scheduler's decision.

use super::eviction::set_condition;
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
use strata_meta::{GroupResource, GroupVersionKind, Reason, Status, StatusCause};

pub(super) async fn serve(call: &mut Call, row: &Arc<Row>, body: Body) -> Result<Response<Body>, Status> {
    let gvk = GroupVersionKind::new("", "v1", "Binding");
    let media = body_media(&call.headers)?;
    let bytes = read_body(body).await?;
    let binding = decode_body(&gvk, media, &bytes, FieldValidation::Ignore, &mut call.warnings)?;
    let name = call.info.name.clone();
    let stated = json::text(&binding, "metadata.name");
    if stated != name {
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
    if !causes.is_empty() {
        // Upstream makes no status of what is wrong with a binding.
        let lines: Vec<String> = causes.iter().map(|c| format!("{}: {}", c.field, c.message)).collect();
        let why = match lines.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let mut status = Status::failure(Reason::Unknown, why);
        status.code = 500;
        return Err(status);
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
    let stated = json::text(binding, "metadata.resourceVersion").to_owned();
    apply_change(&change, &mut Vec::new(), |pod, _| {
        let resource = GroupResource::new("", "pods/binding");
        let refuse = |why: String| Err(Status::conflict(&resource, name, why));
        let (have, revision) = (json::text(pod, "metadata.uid"), json::text(pod, "metadata.resourceVersion"));
        for (what, wanted, have) in [("UID", &uid, have), ("ResourceVersion", &stated, revision)] {
            if !wanted.is_empty() && wanted != have {
                let why = format!(
                    "StorageError: invalid object, Code: 4, Key: /registry/pods/{namespace}/{name}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {have}"
                );
                return Err(Status::conflict(&row.resource, name, why));
            }
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
    json::remove(&mut new, "status.nominatedNodeName");
    // Labels too: of the topology of the node (KEP-4742).
    for member in ["metadata.annotations", "metadata.labels"] {
        for (key, value) in json::members(binding, member) {
            json::object_mut(&mut new, member).insert(key.clone(), value.clone());
        }
    }
    let scheduled = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null});
    set_condition(&mut new, &scheduled);
    new
}
