//! TaintNodesByCondition.

use super::{Operation, Request};
use crate::json;
use serde_json::{Value, json};
use strata_meta::Status;

const NOT_READY: &str = "node.kubernetes.io/not-ready";

/// A new node takes no pods until its conditions have been seen.
pub(super) fn taint_new(request: &Request<'_>, node: &mut Value, _old: Option<&Value>) -> Result<(), Status> {
    if !request.is("", "nodes") || request.operation != Operation::Create {
        return Ok(());
    }
    let tainted = json::list(node, "spec.taints")
        .iter()
        .any(|t| json::text(t, "key") == NOT_READY && json::text(t, "effect") == "NoSchedule");
    if !tainted {
        let taints = json::object_mut(node, "spec")
            .entry("taints")
            .or_insert_with(|| json!([]));
        if let Some(taints) = taints.as_array_mut() {
            taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
        }
    }
    Ok(())
}
