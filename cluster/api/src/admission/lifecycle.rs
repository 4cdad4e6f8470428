//! NamespaceLifecycle: nothing is made in a namespace that is not there or is going; some stay for good.

use super::{Operation, Request};
use crate::json;
use serde_json::Value;
use strata_meta::{GroupResource, Status, StatusCause};

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// Also asked about removals, which have no new state. Errors: 403 and 404.
pub(super) fn check(request: &Request<'_>, new: Option<&Value>, _old: Option<&Value>) -> Result<(), Status> {
    let is_namespace = request.row.resource.group.is_empty() && request.row.resource.resource == "namespaces";
    if is_namespace {
        if request.operation == Operation::Delete && IMMORTAL.contains(&request.name) {
            return Err(request.forbidden("this namespace may not be deleted"));
        }
        return Ok(());
    }
    let defined = request.row.schema.custom();
    if request.operation == Operation::Create && defined.is_some_and(|custom| custom.definition.terminating) {
        return Err(request.forbidden("create not allowed while custom resource definition is terminating"));
    }
    if !request.row.namespaced || request.operation != Operation::Create {
        return Ok(());
    }
    // Access reviews are questions, not objects.
    if request.row.resource.group == "authorization.k8s.io" {
        return Ok(());
    }
    let namespaces = request.core.resource("", "namespaces");
    let Some(namespace) = namespaces.get("", request.namespace) else {
        return Err(Status::not_found(
            &GroupResource::new("", "namespaces"),
            request.namespace,
        ));
    };
    let going = namespace.deleting
        || namespace
            .to_value()
            .is_ok_and(|v| json::text(&v, "status.phase") == "Terminating");
    if !going {
        return Ok(());
    }
    let why = format!(
        "unable to create new content in namespace {} because it is being terminated",
        request.namespace
    );
    let mut status = request.forbidden_object(new, &why);
    if let Some(details) = &mut status.details {
        details.causes.push(StatusCause {
            reason: "NamespaceTerminating".into(),
            message: format!("namespace {} is being terminated", request.namespace),
            field: "metadata.namespace".into(),
        });
    }
    Err(status)
}
