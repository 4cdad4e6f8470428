//! The objects that a binding gives a policy as parameters.

use super::{Binding, Policy};
use crate::{admission::Request, json, registry::Row};
use serde_json::Value;
use std::sync::Arc;
use strata_meta::{LabelSelector, Object};

/// Each of the objects; one null when the policy takes none. Errors: a sentence as upstream has it.
pub(super) async fn collect(request: &Request<'_>, policy: &Policy, binding: &Binding) -> Result<Vec<Value>, String> {
    let Some((api_version, kind)) = &policy.param_kind else {
        return Ok(vec![Value::Null]);
    };
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let rows = request.core.registry.rows();
    let row = rows
        .iter()
        .find(|r| r.gvk.group == group && r.gvk.version == version && &r.gvk.kind == kind && r.cache.is_some());
    let Some(row) = row else {
        return Err(format!(
            "failed to find resource referenced by paramKind: '{group}/{version}, Kind={kind}'"
        ));
    };
    let Some(reference) = &binding.params else {
        return Ok(vec![Value::Null]);
    };
    let found = find(request, row, reference)?;
    if found.is_empty() && json::text(reference, "parameterNotFoundAction") == "Deny" {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".into());
    }
    let mut params = Vec::with_capacity(found.len());
    for object in row.present(request.core, found).await.map_err(|s| s.message)? {
        let mut value = object.to_value().map_err(|e| e.to_string())?;
        json::set(&mut value, "apiVersion", row.gvk.api_version());
        json::set(&mut value, "kind", row.gvk.kind.as_str());
        params.push(value);
    }
    Ok(params)
}

fn find(request: &Request<'_>, row: &Row, reference: &Value) -> Result<Vec<Arc<Object>>, String> {
    let Some(cache) = &row.cache else {
        return Ok(Vec::new());
    };
    let stated = json::text(reference, "namespace");
    let namespace = match (row.namespaced, stated, request.rule_namespace()) {
        (false, "", _) => "",
        (false, ..) => return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".into()),
        (true, "", "") => {
            let why = "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources";
            return Err(why.into());
        }
        (true, "", own) => own,
        (true, stated, _) => stated,
    };
    let name = json::text(reference, "name");
    match json::get(reference, "selector") {
        Some(_) if !name.is_empty() => Err("paramRef.name and paramRef.selector are mutually exclusive".into()),
        None if !name.is_empty() => Ok(cache.get(namespace, name).into_iter().collect()),
        None => Err("one of name or selector must be provided".into()),
        Some(selector) => {
            let selector: LabelSelector = serde_json::from_value(selector.clone()).map_err(|e| e.to_string())?;
            let selector = selector.to_selector().map_err(|e| e.to_string())?;
            let within = row.namespaced.then_some(namespace);
            let all = cache.objects(within).filter(|o| selector.matches_object(o));
            Ok(all.collect())
        }
    }
}
