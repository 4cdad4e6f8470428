//! What a MutatingAdmissionPolicy may apply: nothing that stands or falls as one value.
//!
//! Whoever sets one member of such a value would remove the others without knowing.

use super::kind::Kind;
use super::node::{Form, Identity, Node};
use super::validate::problems;
use serde_json::Value;
use std::fmt::Write as _;

/// Whether a policy may apply a configuration to objects of a kind. Errors: upstream's sentence.
pub fn check_mutation(kind: &dyn Kind, config: &Value) -> Result<(), String> {
    let version = kind.gvk().api_version();
    let node = kind.node(&version).ok_or_else(|| format!("no type for {version}"))?;
    if let Some(why) = problems(node, config) {
        return Err(format!("failed to convert patch object to typed object: {why}"));
    }
    let mut found = Vec::new();
    visit(node, config, &mut String::new(), &mut found);
    match found.as_slice() {
        [] => Ok(()),
        found => Err(format!(
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {}",
            found.join(", ")
        )),
    }
}

fn visit(node: &dyn Node, value: &Value, path: &mut String, found: &mut Vec<String>) {
    let length = path.len();
    match value {
        Value::Object(members) => {
            let whole = match node.form() {
                Form::Object { .. } => node.atomic(),
                Form::Opaque => true,
                _ => false,
            };
            if whole {
                found.push(path.clone());
            }
            for (name, value) in members {
                if let Some(place) = node.member(name) {
                    path.push('.');
                    path.push_str(name);
                    visit(place, value, path, found);
                    path.truncate(length);
                }
            }
        }
        Value::Array(items) => {
            let (item, whole) = match node.form() {
                Form::List { item, identity } => (Some(item), matches!(identity, Identity::None) || node.atomic()),
                Form::Any | Form::Opaque => (None, true),
                _ => return,
            };
            if whole {
                found.push(path.clone());
            }
            for (at, value) in items.iter().enumerate().filter(|_| item.is_some()) {
                let _ = write!(path, "[{at}]");
                if let Some(item) = item {
                    visit(item, value, path, found);
                }
                path.truncate(length);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::check_mutation;
    use crate::apply::BuiltinKind;
    use serde_json::json;
    use strata_meta::GroupVersionKind;

    #[test]
    fn what_stands_as_one_value_is_not_mutated() {
        let kind = BuiltinKind::new(&GroupVersionKind::new("apps", "v1", "Deployment")).expect("known");
        let check = |spec| {
            check_mutation(
                &kind,
                &json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": spec}),
            )
        };
        let container = |member| json!({"template": {"spec": {"containers": [member]}}});
        assert_eq!(check(json!({"replicas": 3})), Ok(()));
        assert_eq!(check(container(json!({"name": "a", "image": "b"}))), Ok(()));
        let refused = |paths: &str| {
            Err(format!(
                "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {paths}"
            ))
        };
        assert_eq!(
            check(container(json!({"name": "a", "args": ["b"], "command": ["c"]}))),
            refused(".spec.template.spec.containers[0].args, .spec.template.spec.containers[0].command")
        );
        assert_eq!(
            check(json!({"selector": {"matchLabels": {"a": "b"}}})),
            refused(".spec.selector")
        );
        assert_eq!(
            check(json!({"template": {"spec": {"nodeSelector": {"a": "b"}}}})),
            refused(".spec.template.spec.nodeSelector")
        );
        assert!(check(json!({"nosuch": 1})).is_err_and(|why| why.contains("field not declared in schema")));
    }
}
