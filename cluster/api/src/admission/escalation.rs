//! Nobody grants what they do not hold (k8s.io/kubernetes/pkg/registry/rbac policybased).

use super::{Operation, Request};
use crate::json;
use futures::{FutureExt, future::BoxFuture};
use serde_json::Value;
use std::collections::BTreeSet;
use strata_auth::{Attributes, PolicyRule};
use strata_meta::Status;

const GROUP: &str = "rbac.authorization.k8s.io";

pub(super) fn validate<'a>(
    request: &'a Request<'a>,
    new: Option<&'a Value>,
    old: Option<&'a Value>,
) -> BoxFuture<'a, Result<(), Status>> {
    async move {
        match new {
            Some(new) if is_concerned(request) => granted(request, new, old).await,
            _ => Ok(()),
        }
    }
    .boxed()
}

fn is_concerned(request: &Request<'_>) -> bool {
    request.row.resource.group == GROUP
        && request.operation != Operation::Delete
        && !request.user.is_in(strata_auth::GROUP_MASTERS)
}

async fn granted(request: &Request<'_>, new: &Value, old: Option<&Value>) -> Result<(), Status> {
    match request.row.resource.resource.as_str() {
        "roles" | "clusterroles" => {
            if old.is_some_and(|old| json::same(new, old, "rules") && json::same(new, old, "aggregationRule"))
                || may(
                    request,
                    "escalate",
                    request.row.resource.resource.as_str(),
                    request.name,
                )
                .await
            {
                return Ok(());
            }
            let rules = rules_of(new)?;
            if json::get(new, "aggregationRule").is_some() && !request.core.rbac.covers(request.user, "", &everything())
            {
                return Err(request.forbidden("must have cluster-admin privileges to use the aggregationRule"));
            }
            covered(request, &rules)
        }
        "rolebindings" | "clusterrolebindings" => {
            if old.is_some_and(|old| json::same(new, old, "subjects") && json::same(new, old, "roleRef")) {
                return Ok(());
            }
            let (kind, name) = (json::text(new, "roleRef.kind"), json::text(new, "roleRef.name"));
            let plural = if kind == "ClusterRole" { "clusterroles" } else { "roles" };
            if may(request, "bind", plural, name).await {
                return Ok(());
            }
            let namespace = if kind == "ClusterRole" { "" } else { request.namespace };
            match request.core.rbac.role(namespace, name) {
                Some(rules) => covered(request, &rules),
                None => {
                    let resource = strata_meta::GroupResource::new(GROUP, plural);
                    Err(Status::not_found(&resource, name))
                }
            }
        }
        _ => Ok(()),
    }
}

fn everything() -> [PolicyRule; 2] {
    let any = || vec!["*".to_owned()];
    let resources = PolicyRule {
        verbs: any(),
        api_groups: any(),
        resources: any(),
        ..PolicyRule::default()
    };
    let paths = PolicyRule {
        verbs: any(),
        non_resource_urls: any(),
        ..PolicyRule::default()
    };
    [resources, paths]
}

fn rules_of(role: &Value) -> Result<Vec<PolicyRule>, Status> {
    match json::get(role, "rules") {
        None => Ok(Vec::new()),
        Some(rules) => serde_json::from_value(rules.clone()).map_err(Status::bad_request),
    }
}

async fn may(request: &Request<'_>, verb: &str, resource: &str, name: &str) -> bool {
    let attributes = Attributes {
        verb,
        group: GROUP,
        version: "v1",
        resource,
        namespace: request.namespace,
        name,
        ..Attributes::of(request.user)
    };
    let decision = request.core.authorizer.decide(request.core, &attributes).await;
    decision.is_allowed()
}

fn covered(request: &Request<'_>, rules: &[PolicyRule]) -> Result<(), Status> {
    let missing = request.core.rbac.missing(request.user, request.namespace, rules);
    if missing.is_empty() {
        return Ok(());
    }
    let user = request.user;
    let groups: Vec<String> = user.groups.iter().map(|g| format!("{g:?}")).collect();
    let lines: BTreeSet<String> = strata_auth::compact(missing).iter().map(shown).collect();
    let lines: Vec<String> = lines.into_iter().collect();
    let absent = match request.core.rbac.absent_roles(user, request.namespace) {
        none if none.is_empty() => none,
        absent => format!("; resolution errors: [{absent}]"),
    };
    Err(request.forbidden(format_args!(
        "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}{absent}",
        user.name,
        groups.join(" "),
        lines.join("\n")
    )))
}

/// A rule as upstream's sentence shows it.
fn shown(rule: &PolicyRule) -> String {
    let part = |name: &str, list: &[String]| {
        let texts: Vec<String> = list.iter().map(|t| format!("{t:?}")).collect();
        (!list.is_empty()).then(|| format!("{name}:[{}]", texts.join(" ")))
    };
    let parts = [
        part("APIGroups", &rule.api_groups),
        part("Resources", &rule.resources),
        part("NonResourceURLs", &rule.non_resource_urls),
        part("ResourceNames", &rule.resource_names),
        part("Verbs", &rule.verbs),
    ];
    format!("{{{}}}", parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
}
