//! Who may ask for devices as their administrator, and who may say what claims got
//! (k8s.io/kubernetes/pkg/registry/resource/utils.go; upstream asks this where it validates).

use super::{Operation, Request};
use crate::json;
use futures::{FutureExt, future::BoxFuture};
use serde_json::Value;
use std::collections::BTreeSet;
use strata_auth::Attributes;
use strata_meta::{Status, StatusCause, names};

const GROUP: &str = "resource.k8s.io";
/// The label of a namespace whose claims may have administrators' access.
const ADMIN_LABEL: &str = "resource.kubernetes.io/admin-access";
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";

pub(super) fn validate<'a>(
    request: &'a Request<'a>,
    new: Option<&'a Value>,
    old: Option<&'a Value>,
) -> BoxFuture<'a, Result<(), Status>> {
    async move {
        let Some(new) = new.filter(|_| request.row.resource.group == GROUP) else {
            return Ok(());
        };
        let plural = request.row.resource.resource.as_str();
        let causes = match (plural, request.operation, request.subresource) {
            ("resourceclaims", Operation::Create, "") => {
                admin_access(request, json::list(new, "spec.devices.requests"))
            }
            ("resourceclaimtemplates", Operation::Create, "") => {
                admin_access(request, json::list(new, "spec.spec.devices.requests"))
            }
            ("resourceclaims", Operation::Update, "status") => {
                let old = old.unwrap_or(&Value::Null);
                let mut causes = granted_access(request, new, old);
                causes.extend(binding(request, new, old).await);
                causes.extend(device_status(request, new, old).await);
                causes
            }
            _ => return Ok(()),
        };
        if causes.is_empty() {
            return Ok(());
        }
        let name = json::text(new, "metadata.name");
        Err(Status::invalid(&request.row.group_kind(), name, causes))
    }
    .boxed()
}

/// The first request for such access, where the namespace does not have it.
fn admin_access(request: &Request<'_>, requests: &[Value]) -> Vec<StatusCause> {
    let asks = |r: &Value| json::get(r, "exactly.adminAccess") == Some(&Value::Bool(true));
    let first = requests.iter().position(asks);
    refused(request, first, "spec.devices.requests")
}

fn granted_access(request: &Request<'_>, new: &Value, old: &Value) -> Vec<StatusCause> {
    const RESULTS: &str = "status.allocation.devices.results";
    let has = |r: &Value| r.get("adminAccess") == Some(&Value::Bool(true));
    if json::list(old, RESULTS).iter().any(has) {
        return Vec::new();
    }
    refused(request, json::list(new, RESULTS).iter().position(has), RESULTS)
}

fn refused(request: &Request<'_>, first: Option<usize>, list: &str) -> Vec<StatusCause> {
    let Some(at) = first else { return Vec::new() };
    let namespace = request.core.resource("", "namespaces").get("", request.namespace);
    if namespace.is_some_and(|namespace| namespace.label(ADMIN_LABEL) == Some("true")) {
        return Vec::new();
    }
    let why = format!("admin access to devices requires the `{ADMIN_LABEL}: true` label on the containing namespace");
    vec![StatusCause::forbidden(&format!("{list}[{at}].adminAccess"), &why)]
}

/// What an allocation is and who uses it is for those who bind claims.
async fn binding(request: &Request<'_>, new: &Value, old: &Value) -> Option<StatusCause> {
    let same = |path: &str| json::equal(json::get(new, path), json::get(old, path));
    if same("status.allocation") && same("status.reservedFor") {
        return None;
    }
    let attributes = Attributes {
        verb: request.verb,
        subresource: "binding",
        ..about_claims(request)
    };
    let refused = request.core.require(&attributes).await.err()?;
    let why = format!(
        "changing status.allocation or status.reservedFor requires resource=\"resourceclaims/binding\", verb=\"{}\" permission: {}",
        request.verb, refused.message
    );
    Some(StatusCause::forbidden("status.allocation", &why))
}

/// What is said of a driver's devices is for that driver, on the claim's node or anywhere.
async fn device_status(request: &Request<'_>, new: &Value, old: &Value) -> Vec<StatusCause> {
    let mut causes = Vec::new();
    if json::get(new, "status.allocation").is_none() {
        return causes;
    }
    let anywhere = format!("arbitrary-node:{}", request.verb);
    let mut verbs = vec![anywhere];
    if is_on_node_of(request, new) {
        verbs.insert(0, format!("associated-node:{}", request.verb));
    }
    for driver in changed_drivers(new, old) {
        let mut first = None;
        for verb in &verbs {
            let attributes = Attributes {
                verb,
                subresource: "driver",
                namespace: request.namespace,
                name: driver,
                ..about_claims(request)
            };
            match request.core.require(&attributes).await {
                Ok(()) => {
                    first = None;
                    break;
                }
                Err(status) => first = first.or(Some(status)),
            }
        }
        if let Some(status) = first {
            let why = format!(
                "changing status.devices requires resource=\"resourceclaims/driver\", verb=\"[{}]\" permission: {}",
                verbs.join(" "),
                status.message
            );
            causes.push(StatusCause::forbidden("status.devices", &why));
        }
    }
    causes
}

fn about_claims<'a>(request: &'a Request<'a>) -> Attributes<'a> {
    Attributes {
        group: GROUP,
        version: &request.row.gvk.version,
        resource: "resourceclaims",
        ..Attributes::of(request.user)
    }
}

/// Drivers of whose devices something else is said than before.
fn changed_drivers<'v>(new: &'v Value, old: &'v Value) -> BTreeSet<&'v str> {
    let of = |claim: &'v Value| json::list(claim, "status.devices");
    let key = |device: &'v Value| ["driver", "pool", "device", "shareID"].map(|name| json::text(device, name));
    let twin = |device: &'v Value, among: &'v [Value]| among.iter().find(|other| key(other) == key(device));
    let changed = of(new)
        .iter()
        .filter(|device| twin(device, of(old)).is_none_or(|was| !json::equal(Some(was), Some(device))));
    let removed = of(old).iter().filter(|device| twin(device, of(new)).is_none());
    changed
        .chain(removed)
        .map(|device| json::text(device, "driver"))
        .collect()
}

/// Whether the caller is a service account on the node that the claim is allocated for.
fn is_on_node_of(request: &Request<'_>, claim: &Value) -> bool {
    let [term] = json::list(claim, "status.allocation.nodeSelector.nodeSelectorTerms") else {
        return false;
    };
    let ([], [field]) = (json::list(term, "matchExpressions"), json::list(term, "matchFields")) else {
        return false;
    };
    let ("metadata.name", "In") = (json::text(field, "key"), json::text(field, "operator")) else {
        return false;
    };
    let [node] = json::list(field, "values") else {
        return false;
    };
    let user = request.user;
    let stated = user.extra.get(NODE_NAME).map_or(&[][..], Vec::as_slice);
    let ([stated], true) = (stated, user.name.starts_with("system:serviceaccount:")) else {
        return false;
    };
    names::dns1123_subdomain(stated).is_empty() && node == stated.as_str()
}
